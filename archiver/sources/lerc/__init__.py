"""The plan of a LERC blob (Lerc2, versions 3 to 6): its head, and what is not as expected.

What an encoder decides for a block of 8 x 8 samples follows from them by a rule; blocks that do not
follow it state it themselves.

    blob.py        header and mask of a blob
    bits.py        numbers of a few bits, and numbers of a stated type
    blocks.py      blocks: what the rule says of one, and its bytes
    huffman.py     8-bit samples by a Huffman code, which the blob states
    walk.py        all blocks of a blob, compared with the rule, and written
    plan.py        made of a blob, and back
    segment.py     blobs in TIFF, some of them compressed once more
"""
