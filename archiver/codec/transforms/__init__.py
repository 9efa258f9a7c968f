"""What a tile is turned into before a codec takes it: array to array, without loss.

- ``orientation``: transposed, mirrored, channels reordered
- ``delta``: the difference to the slice, volume or band before
- ``scale_offset``: whole numbers that stand for wider integers or floats
- ``ordered``: ranks and a table, or high and low bits, by the order of values
- ``from_jpeg``: the JPEG that samples were decoded from, and the remainder
"""
