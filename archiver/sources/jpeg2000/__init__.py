"""JPEG 2000: any reversible codestream, rebuilt from its samples and a *plan*.

What a reversible encoder writes follows from the samples but for its headers, which are kept, and
for how it ends a block, of which the bytes that differ are kept: no library has to be asked.

- ``codestream``: the markers
- ``packets``: which parts of which blocks follow each other
- ``wavelet``: samples to coefficients
- ``blocks``: coefficients to code
- ``throughput``: the same, as high-throughput JPEG 2000 has them
- ``plan``: the plan of a stream, and the stream of a plan
"""
