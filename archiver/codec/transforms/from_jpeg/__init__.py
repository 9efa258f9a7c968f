"""Tiles whose samples were decoded from a JPEG: the JPEG is found again and kept instead.

Patches cut from slides, and slides converted to TIFF or Zarr, hold what a JPEG decoder wrote: four
to ten times the bytes of that JPEG, for any codec of samples.  Its quantised coefficients are
estimated; decoded as the JPEG library does, they give most samples exactly, and what they do not
give is coded as a difference.

- ``pixels``: coefficients to samples, in integers, as libjpeg does it
- ``stream``: coefficients to the bytes of a JPEG and back
- ``coded``: coefficients to what is stored of them
- ``grid``, ``fit``, ``traces``: where blocks begin, one guess, the search; for the writer alone
- ``tile``: what a payload holds of all that
- ``collage``: the same of several JPEGs
"""
