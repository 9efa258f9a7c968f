"""The entropy-coded bytes of baseline JPEG (T.81): coefficients of blocks, read and written.

Nothing is assumed of a scan but its tables and its restart interval; whether :func:`write` gives
back what :func:`read` was given is for the caller to see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg import kernels
from archiver.native import arrays

_LONGEST = 16  # bits of a code
_SYMBOLS = 256
_MOST_COMPONENTS = 4
_WORST_BLOCK = 64 * 8  # bytes: every coefficient a code of 16 bits, 15 more, all stuffed
Bytes = NDArray[np.uint8]
Blocks = NDArray[np.int16]  # (n, 64), zigzag order
Ints = NDArray[np.int64]
Lookups = NDArray[np.int16]
Codes = NDArray[np.int32]


def lookup(lengths: bytes, symbols: bytes) -> Lookups:
    """Return, for every 16 bits, 256 times the length of the code they begin with, plus its symbol.

    -1 where no code is.  ``lengths`` says how many codes have 1 to 16 bits; ValueError if those
    are more than there can be.
    """
    table = np.full(1 << _LONGEST, -1, np.int16)
    at, rest = 0, iter(symbols)
    for bits, count in enumerate(lengths, 1):
        span = 1 << (_LONGEST - bits)
        for _ in range(count):
            if at + span > len(table):
                raise ValueError("more Huffman codes than there can be")
            table[at : at + span] = bits << 8 | next(rest, 0)
            at += span
    return table


def codes(lengths: bytes, symbols: bytes) -> Codes:
    """Return, for every symbol, 32 times its code, plus its length; 0 of those that have none."""
    table = np.zeros(_SYMBOLS, np.int32)
    code, rest = 0, iter(symbols)
    for bits, count in enumerate(lengths, 1):
        for _ in range(count):
            table[next(rest, 0)] = code << 5 | bits
            code += 1
        code <<= 1
    return table


def read(
    scan: Bytes, n_mcus: int, restart: int, of_mcu: Ints, dc: Lookups, ac: Lookups
) -> Blocks | None:
    """Return all blocks of a scan in their order; None if it does not decode.

    ``of_mcu`` is the component of each block of an MCU, ``dc`` and ``ac`` (components, 2^16) the
    tables of each component; ``restart`` the MCUs between markers, 0 for no markers.
    """
    blocks = np.zeros((n_mcus * len(of_mcu), 64), np.int16)
    components = _components(of_mcu, len(dc))
    of_scan = kernels.Scan(
        n_mcus=n_mcus,
        restart=restart,
        n_of_mcu=len(of_mcu),
        of_mcu=arrays.address(components, np.uint8, of_mcu.shape),
        dc=arrays.address(dc, np.int16, (len(dc), 1 << _LONGEST)),
        ac=arrays.address(ac, np.int16, (len(dc), 1 << _LONGEST)),
        blocks=arrays.address(blocks, np.int16, blocks.shape, is_out=True),
        bytes=arrays.address(scan, np.uint8, (scan.size,)),
        size=scan.size,
    )
    return blocks if kernels.read_scan(of_scan) else None


def write(blocks: Blocks, n_mcus: int, restart: int, of_mcu: Ints, dc: Codes, ac: Codes) -> Bytes:
    """Return the scan of blocks, padded with ones; ``dc`` and ``ac`` are tables of :func:`codes`.

    Empty if there is no code for what is needed.
    """
    nonzero = int(np.count_nonzero(blocks))
    room = 8 * nonzero + 16 * len(blocks) + 4 * (n_mcus // max(1, restart)) + 64
    out = np.empty(min(room, _WORST_BLOCK * len(blocks) + 64) * 2, np.uint8)
    components = _components(of_mcu, len(dc))
    of_scan = kernels.Scan(
        n_mcus=n_mcus,
        restart=restart,
        n_of_mcu=len(of_mcu),
        of_mcu=arrays.address(components, np.uint8, of_mcu.shape),
        dc=arrays.address(dc, np.int32, (len(dc), _SYMBOLS)),
        ac=arrays.address(ac, np.int32, (len(dc), _SYMBOLS)),
        blocks=arrays.address(blocks, np.int16, (n_mcus * len(of_mcu), 64)),
        bytes=arrays.address(out, np.uint8, out.shape, is_out=True),
        size=out.size,
    )
    return out[: kernels.write_scan(of_scan)]


def _components(of_mcu: Ints, count: int) -> Bytes:
    """Return the component of each block of an MCU; ValueError if it has no tables."""
    if count > _MOST_COMPONENTS or of_mcu.min() < 0 or of_mcu.max() >= count:
        raise ValueError(f"blocks of components {of_mcu}, tables of {count}")
    return of_mcu.astype(np.uint8)
