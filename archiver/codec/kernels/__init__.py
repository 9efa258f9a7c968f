"""Own the loops of the CPU coder, compiled by Numba: many elementwise steps in one pass.

Each does, operation for operation, what the tensor code in :mod:`archiver.codec.mgcf`,
:mod:`archiver.codec.mixture` and :mod:`archiver.codec.tables` does; all sums are of whole steps
within the exact range of float32, so their order is free.  ``fastmath`` stays off: no product may
be rounded together with a sum.  Arrays are float32 and contiguous unless said otherwise.

- :mod:`~archiver.codec.kernels.rounding`: the rounding that all share
- :mod:`~archiver.codec.kernels.layers`: between two matrix products of a tile
- :mod:`~archiver.codec.kernels.wavefront`: the same, one group of pixels at a time
- :mod:`~archiver.codec.kernels.counts`: from the network's outputs to frequencies of digits
"""
