"""The plan of a Zstandard frame (RFC 8878): the frame without the literals in its blocks.

What an encoder decided stands in its headers, tables and sequences, which are kept.  Literals are
in the bytes that the frame decodes to, where the sequences say, and their code has no liberty.

    bits.py        numbers in streams that are read backwards
    tables.py      tables of the FSE codes: read, and spread
    sequences.py   the lengths that a section of sequences states
    literals.py    the Huffman code of literals: its tree, and the streams that it makes
    plan.py        the frame, block by block: made into a plan, and back
"""
