"""The coding of JPEG coefficients: smaller than libjxl's transcoding, the same bits anywhere.

- ``baseline``: the bytes of a JPEG, to coefficients and back
- ``huffman``: its entropy-coded bytes
- ``context_mixing``: binary decisions, predicted and range-coded: what they learn
- ``blocks``: the blocks of a component as decisions
- ``planes``: all components of a JPEG
- ``kernels``: the loops, in the native core
"""
