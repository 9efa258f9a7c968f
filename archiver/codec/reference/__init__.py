"""The last word on the bitstream: decoders in NumPy, without torch."""
