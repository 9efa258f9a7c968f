"""Deflate: any stream, rebuilt from what it inflates to and a *plan* (FORMAT.md).

What an encoder decided is predicted, and only the exceptions are kept: no library has to be asked
for the bytes, today or later.

- ``bitstream``: the bits of a stream, read into tokens and written
- ``matches``: which token an encoder takes at a position, probably
- ``plan``: the plan of a stream, and the stream of a plan
- ``settings``: streams of zlib and libdeflate by their parameters; else a plan
"""
