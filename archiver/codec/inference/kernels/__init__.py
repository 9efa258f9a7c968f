"""The loops of the CPU coder, compiled by Numba: many elementwise steps in one pass.

Each does, operation for operation, what the tensor code in `model.mgcf`, `model.mixture` and
`model.frequencies` does; all sums are of whole steps within the exact range of float32, so their
order is free.  ``fastmath`` stays off: no product may be rounded together with a sum.  Arrays are
float32 and contiguous unless said otherwise.

- ``arrays``: what belongs together, and its types
- ``rounding``: the rounding that all share
- ``layers``: between two matrix products of a tile
- ``wavefront``: the same, one group of pixels at a time
- ``counts``: from the network's outputs to frequencies of digits
"""
