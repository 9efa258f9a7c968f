"""The core's loops over JPEGs, C in ``archiver/native/src/jpeg_*.c``, bound by ctypes.

They run without the GIL, and trust what they are given: whoever calls them takes every address
from :func:`address`, which checks the array behind it, and keeps that array meanwhile.
"""

from __future__ import annotations

import ctypes
from functools import cache

from archiver.native import library

_ADDRESS, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_NO_MEMORY = -1


class Scan(ctypes.Structure):
    """JpegScan of jpeg_huffman.c."""

    _fields_ = (
        *((name, _NUMBER) for name in ("n_mcus", "restart", "n_of_mcu")),
        *((name, _ADDRESS) for name in ("of_mcu", "dc", "ac", "blocks", "bytes")),
        ("size", _NUMBER),
    )


class Tables(ctypes.Structure):
    """JpegTables of jpeg_mixing.h."""

    _fields_ = tuple((name, _ADDRESS) for name in ("stretch", "squash", "edges", "in_rows"))


class State(ctypes.Structure):
    """JpegState of jpeg_mixing.h."""

    _fields_ = tuple((name, _ADDRESS) for name in ("slots", "weights", "uses", "blends", "curves"))


class Stream(ctypes.Structure):
    """JpegCoder of jpeg_mixing.h."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("low", "high", "value")),
        ("reads", ctypes.c_int32),
        *((name, _NUMBER) for name in ("at", "size")),
        ("bytes", _ADDRESS),
    )


class Plane(ctypes.Structure):
    """JpegPlane of jpeg_contexts.h."""

    _fields_ = (
        *((name, _NUMBER) for name in ("rows", "columns", "component", "others")),
        *((name, _ADDRESS) for name in ("first", "second", "steps", "blocks")),
    )


def read_scan(scan: Scan) -> bool:
    """Read the blocks of a scan; return whether it is one."""
    return bool(_core().archiver_jpeg_read_scan(ctypes.byref(scan)))


def write_scan(scan: Scan) -> int:
    """Write a scan; return its size, 0 if a symbol has no code."""
    return int(_core().archiver_jpeg_write_scan(ctypes.byref(scan)))


def code_plane(plane: Plane, tables: Tables, state: State, stream: Stream) -> bool:
    """Write the blocks of a component, or read them; return whether they are possible ones."""
    given = (ctypes.byref(of) for of in (plane, tables, state, stream))
    done = _core().archiver_jpeg_code_plane(*given)
    if done == _NO_MEMORY:
        raise MemoryError("no memory to code the coefficients of a JPEG")
    return bool(done)


@cache
def _core() -> ctypes.CDLL:
    core = library.required()
    core.archiver_jpeg_read_scan.argtypes = [ctypes.POINTER(Scan)]
    core.archiver_jpeg_write_scan.argtypes = [ctypes.POINTER(Scan)]
    core.archiver_jpeg_write_scan.restype = _NUMBER
    core.archiver_jpeg_code_plane.argtypes = [
        ctypes.POINTER(kind) for kind in (Plane, Tables, State, Stream)
    ]
    return core
