"""The plan of an XZ stream (LZMA2): its headers, and all that its coder says but literals.

symbols.py   LZMA, bit by bit: read from one range coder, written by another
plan.py      the stream, chunk by chunk: made into a plan, and back
"""
