"""A model at work: tiles to streams of digits and back, the same bits on any device.

``engine`` is one model on one device, tested before it touches a sample; ``wavefront`` is the
order of pixels and the coder by tensors; ``cpu`` and ``kernels`` are the coder in compiled loops.
"""
