"""The network (MGCF, the Masked Gated ConvFormer), its files, and what an adapter adds to it.

- ``grid``: the arithmetic in which no sum rounds     - ``causal``: which neighbours a pixel sees
- ``mgcf``: the network                               - ``mixture``: its outputs as distributions
- ``frequencies``: distributions as integer tables    - ``high_depth``: more than 8 bits
- ``model_file``, ``model_delta``: weights on disk    - ``adapter``, ``adapter_record``: per file
"""
