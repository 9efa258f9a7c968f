"""Own the coding of JPEG coefficients: smaller than libjxl's transcoding, the same bits anywhere.

- :mod:`~archiver.codec.dct.stream`: the bytes of a JPEG, to coefficients and back
- :mod:`~archiver.codec.dct.huffman`: its entropy-coded bytes
- :mod:`~archiver.codec.dct.mixing`: binary decisions, predicted and range-coded
- :mod:`~archiver.codec.dct.contexts`: what a decision depends on
- :mod:`~archiver.codec.dct.blocks`: the order of decisions
- :mod:`~archiver.codec.dct.planes`: all components of a JPEG
"""
