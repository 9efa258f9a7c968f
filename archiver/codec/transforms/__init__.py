"""What a tile is turned into before a codec takes it: array to array, without loss.

- ``chain``: the table of all codecs and transforms, and which may be inside of which
- ``delta``: the difference to the slice, volume or band before
- ``repeated``: one of channels that are all equal
- ``from_jpeg``: the JPEG that samples were decoded from, and the remainder
- ``scale_offset``: whole numbers that stand for wider integers or floats
- ``ordered``: ranks and a table, or high and low bits, by the order of values
- ``orientation``: transposed, mirrored, channels reordered
"""
