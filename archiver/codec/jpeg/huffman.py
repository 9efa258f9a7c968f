"""The entropy-coded bytes of baseline JPEG (T.81): coefficients of blocks, read and written.

Nothing is assumed of a scan but its tables and its restart interval; whether :func:`write` gives
back what :func:`read` was given is for the caller to see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

MAX_MAGNITUDE = (1 << 14) - 1  # of a coefficient
_LONGEST = 16  # bits of a code
_WORST_BLOCK = 64 * 8  # bytes: every coefficient a code of 16 bits, 15 more, all stuffed
Bytes = NDArray[np.uint8]
Blocks = NDArray[np.int16]  # (n, 64), zigzag order
Ints = NDArray[np.int64]


def lookup(lengths: bytes, symbols: bytes) -> Ints:
    """Return, for every 16 bits, 256 times the length of the code they begin with, plus its symbol.

    -1 where no code is.  ``lengths`` says how many codes have 1 to 16 bits; ValueError if those
    are more than there can be.
    """
    table = np.full(1 << _LONGEST, -1, np.int64)
    at, rest = 0, iter(symbols)
    for bits, count in enumerate(lengths, 1):
        span = 1 << (_LONGEST - bits)
        for _ in range(count):
            if at + span > len(table):
                raise ValueError("more Huffman codes than there can be")
            table[at : at + span] = bits << 8 | next(rest, 0)
            at += span
    return table


def codes(lengths: bytes, symbols: bytes) -> Ints:
    """Return, for every symbol, 32 times its code, plus its length; 0 of those that have none."""
    table = np.zeros(256, np.int64)
    code, rest = 0, iter(symbols)
    for bits, count in enumerate(lengths, 1):
        for _ in range(count):
            table[next(rest, 0)] = code << 5 | bits
            code += 1
        code <<= 1
    return table


def read(scan: Bytes, n_mcus: int, restart: int, of_mcu: Ints, dc: Ints, ac: Ints) -> Blocks | None:
    """Return all blocks of a scan in their order; None if it does not decode.

    ``of_mcu`` is the component of each block of an MCU, ``dc`` and ``ac`` (components, 2^16) the
    tables of each component; ``restart`` the MCUs between markers, 0 for no markers.
    """
    blocks = np.zeros((n_mcus * len(of_mcu), 64), np.int16)
    return blocks if _read(scan, n_mcus, restart, of_mcu, dc, ac, blocks) else None


def write(blocks: Blocks, n_mcus: int, restart: int, of_mcu: Ints, dc: Ints, ac: Ints) -> Bytes:
    """Return the scan of blocks, padded with ones; ``dc`` and ``ac`` are tables of :func:`codes`.

    Empty if there is no code for what is needed.
    """
    nonzero = int(np.count_nonzero(blocks))
    room = 8 * nonzero + 16 * len(blocks) + 4 * (n_mcus // max(1, restart)) + 64
    out = np.empty(min(room, _WORST_BLOCK * len(blocks) + 64) * 2, np.uint8)
    return out[: _write(blocks, n_mcus, restart, of_mcu, dc, ac, out)]


@compiled
def _fill(scan: Bytes, state: Any) -> None:
    """Have at least 32 bits at hand, zeros beyond the end or a marker."""
    while state[1] < 32:
        byte = 0
        if state[2] < scan.size:
            byte = int(scan[state[2]])
            if byte != 0xFF:
                state[2] += 1
            elif state[2] + 1 < scan.size and scan[state[2] + 1] == 0:
                state[2] += 2
            else:  # a marker
                byte = 0
                state[3] += 1
        else:
            state[3] += 1
        state[0] = ((state[0] << 8) | byte) & 0xFFFFFFFFFF
        state[1] += 8


@compiled
def _take(state: Any, bits: int) -> Any:
    state[1] -= bits
    return (state[0] >> state[1]) & ((1 << bits) - 1)


@compiled
def _symbol(scan: Bytes, state: Any, table: Any) -> Any:
    """Return the next symbol, -1 if there is none."""
    _fill(scan, state)
    entry = table[(state[0] >> (state[1] - 16)) & 0xFFFF]
    if entry < 0:
        return -1
    state[1] -= entry >> 8
    return entry & 255


@compiled
def _value(scan: Bytes, state: Any, size: int) -> Any:
    """Return a number of a category."""
    if size == 0:
        return 0
    _fill(scan, state)
    value = _take(state, size)
    return value if value >> (size - 1) else value - (1 << size) + 1


@compiled
def _block(scan: Bytes, state: Any, dc: Any, ac: Any, last: int, block: Any) -> bool:
    """Read a block of zeros; return whether it could be read."""
    size = _symbol(scan, state, dc)
    if size < 0 or size > 15:
        return False
    value = last + _value(scan, state, size)
    if abs(value) > MAX_MAGNITUDE:
        return False
    block[0] = value
    k = 1
    while k < 64:
        symbol = _symbol(scan, state, ac)
        if symbol < 0:
            return False
        size = symbol & 15
        if size == 0 and symbol != 0xF0:
            return bool(symbol == 0)
        k += symbol >> 4
        if size:
            value = _value(scan, state, size)
            if k > 63 or abs(value) > MAX_MAGNITUDE:
                return False
            block[k] = value
        k += 1
    return True


@compiled
def _read(scan: Bytes, n: int, restart: int, of_mcu: Any, dc: Any, ac: Any, blocks: Any) -> bool:
    state, last = np.zeros(4, np.int64), np.zeros(4, np.int64)  # bits, how many, where, made up
    n_blocks = of_mcu.size
    for mcu in range(n):
        if restart and mcu and mcu % restart == 0:
            at = state[2]
            if at + 1 >= scan.size or scan[at] != 0xFF or scan[at + 1] & 0xF8 != 0xD0:
                return False
            state[:] = 0
            state[2] = at + 2
            last[:] = 0
        for i in range(n_blocks):
            component = of_mcu[i]
            block = blocks[mcu * n_blocks + i]
            if not _block(scan, state, dc[component], ac[component], last[component], block):
                return False
            last[component] = block[0]
        if state[3] * 8 > state[1]:  # of what was taken some was not there
            return False
    return bool(state[2] == scan.size)


@compiled
def _byte(state: Any, out: Bytes, byte: int) -> None:
    out[state[2]] = byte
    state[2] += 1
    if byte == 0xFF:
        out[state[2]] = 0
        state[2] += 1


@compiled
def _put(state: Any, out: Bytes, value: int, bits: int) -> None:
    """Append bits; ``state`` holds those that wait, how many, and where the next byte goes."""
    state[0] = (state[0] << bits) | (value & ((1 << bits) - 1))
    state[1] += bits
    while state[1] >= 8:
        state[1] -= 8
        _byte(state, out, (state[0] >> state[1]) & 0xFF)
    state[0] &= 0xFF


@compiled
def _coded(state: Any, out: Bytes, code: int, value: int, size: int) -> bool:
    """Append the code of a symbol and a number of ``size`` bits; return whether there is one."""
    _put(state, out, code >> 5, code & 31)
    _put(state, out, value if value > 0 else value - 1, size)
    return bool(code & 31 > 0)


@compiled
def _category(value: int) -> Any:
    magnitude, bits = abs(value), 0
    while magnitude:
        magnitude >>= 1
        bits += 1
    return bits


@compiled
def _write_block(state: Any, out: Bytes, block: Any, last: int, dc: Any, ac: Any) -> bool:
    value = int(block[0]) - last
    size = _category(value)
    good = _coded(state, out, dc[size], value, size)
    run = 0
    for k in range(1, 64):
        value = int(block[k])
        if value == 0:
            run += 1
            continue
        while run > 15:
            good &= _coded(state, out, ac[0xF0], 0, 0)
            run -= 16
        size = _category(value)
        good &= _coded(state, out, ac[16 * run + size], value, size)
        run = 0
    if run:
        good &= _coded(state, out, ac[0], 0, 0)
    return good


@compiled
def _write(blocks: Any, n: int, restart: int, of_mcu: Any, dc: Any, ac: Any, out: Bytes) -> Any:
    """Write a scan; return its size, 0 if a symbol has no code."""
    state, last = np.zeros(3, np.int64), np.zeros(4, np.int64)
    n_blocks = of_mcu.size
    for mcu in range(n):
        if restart and mcu and mcu % restart == 0:
            if state[1]:
                _put(state, out, 0x7F, 8 - state[1])
            out[state[2]] = 0xFF
            out[state[2] + 1] = 0xD0 + (mcu // restart - 1) % 8
            state[2] += 2
            last[:] = 0
        for i in range(n_blocks):
            component = of_mcu[i]
            block = blocks[mcu * n_blocks + i]
            if not _write_block(state, out, block, last[component], dc[component], ac[component]):
                return 0
            last[component] = int(block[0])
    if state[1]:
        _put(state, out, 0x7F, 8 - state[1])
    return state[2]
