"""The code-blocks of JPEG 2000: coefficients to MQ code (ISO/IEC 15444-1, annexes C and D).

A block is coded plane by plane from its highest one, each in three passes over stripes of four
rows; every decision goes, with its context, to one adaptive binary coder.  All of it is integers:
a block has one code, but for the bytes in which an encoder ends it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.jpeg2000.styles import CAUSAL, RESET, SYMBOLS

Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Registers = NDArray[np.int64]


class Band(IntEnum):
    """Sub-bands by the filters of (columns, rows): what a block's contexts depend on."""

    LL = 0
    HL = 1
    LH = 2
    HH = 3


_STRIPE = 4
_SIGN, _REFINE, _RUN, _UNIFORM, _CONTEXTS = 9, 14, 17, 18, 19
# of the MQ coder: registers, where its last byte is, state and likelier symbol of every context
_A, _C, _CT, _AT = range(4)
_STATES, _LIKELY, _CODER = 4, 4 + _CONTEXTS, 4 + 2 * _CONTEXTS

# Table C.2: probability, next state after the likelier and the other symbol, whether they switch
_QE = np.array(
    [
        *(0x5601, 0x3401, 0x1801, 0x0AC1, 0x0521, 0x0221, 0x5601, 0x5401, 0x4801, 0x3801),
        *(0x3001, 0x2401, 0x1C01, 0x1601, 0x5601, 0x5401, 0x5101, 0x4801, 0x3801, 0x3401),
        *(0x3001, 0x2801, 0x2401, 0x2201, 0x1C01, 0x1801, 0x1601, 0x1401, 0x1201, 0x1101),
        *(0x0AC1, 0x09C1, 0x08A1, 0x0521, 0x0441, 0x02A1, 0x0221, 0x0141, 0x0111, 0x0085),
        *(0x0049, 0x0025, 0x0015, 0x0009, 0x0005, 0x0001, 0x5601),
    ],
    np.int64,
)
_MORE = np.array(
    [
        *(1, 2, 3, 4, 5, 38, 7, 8, 9, 10, 11, 12, 13, 29, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24),
        *(25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45),
        *(45, 46),
    ],
    np.int64,
)
_LESS = np.array(
    [
        *(1, 6, 9, 12, 29, 33, 6, 14, 14, 14, 17, 18, 20, 21, 14, 14, 15, 16, 17, 18, 19, 19, 20),
        *(21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42),
        *(43, 46),
    ],
    np.int64,
)
_SWITCHES = np.isin(np.arange(47), (0, 6, 14))


def _zero_context(near: int, band: int) -> int:
    """Return the context of a coefficient that is not significant yet (table D.1)."""
    h, v, d = near & 3, near // _V & 3, near // _D
    if band == Band.HH:
        least = min(h + v, 2)
        return 8 if d >= 3 else (6 + min(least, 1) if d == 2 else (3 + least if d == 1 else least))
    if band == Band.HL:
        h, v = v, h
    if h == 2:
        return 8
    if h == 1:
        return 7 if v else (6 if d else 5)
    return 2 + v if v else min(d, 2)


# by band and by what is near: h + 4 v + 16 d significant neighbours in a row, a column, diagonally
_H, _V, _D = 1, 4, 16
_ZERO = np.array([[_zero_context(near, band) for near in range(5 * _D)] for band in Band], np.int64)


class Block(NamedTuple):
    """A block (h, w), and what is known of it so far, with one row and column of nothing around."""

    values: Ints
    magnitude: Ints
    band: int
    style: int
    sign: NDArray[np.int8]  # 1 or -1 of what is significant
    near: Bytes  # significant neighbours, as `_ZERO` counts them
    done: Bytes  # (h, w): 1 coded in this plane, 2 refined before


def encode(values: Ints, band: Band, style: int, planes: int, passes: int) -> bytes:
    """Return the first ``passes`` of the code of a block (h, w), ended as annex C.2.9 says.

    ``planes`` is how many bits its largest magnitude has.
    """
    out = np.zeros(64 + values.size * (planes + 2) // 2, np.uint8)  # 4 bits a decision: never
    size = _encode(values, int(band), style, planes, passes, out)
    return out[1 : 1 + size].tobytes()


@compiled
def _encode(values: Ints, band: int, style: int, planes: int, passes: int, out: Bytes) -> Any:
    """Write the code of a block from ``out[1]`` on; return its size."""
    height, width = values.shape
    sign = np.zeros((height + 2, width + 2), np.int8)
    near = np.zeros((height + 2, width + 2), np.uint8)
    done = np.zeros((height, width), np.uint8)
    block = Block(values, np.abs(values), band, style, sign, near, done)
    coder = np.zeros(_CODER, np.int64)
    coder[_A], coder[_CT] = 0x8000, 12
    _reset(coder)
    for number in range(2, passes + 2):  # the first plane has its last pass only
        plane, kind = planes - 1 - number // 3, number % 3
        if kind == 0:
            _significance(block, plane, coder, out)
        elif kind == 1:
            _refinement(block, plane, coder, out)
        else:
            _cleanup(block, plane, coder, out)
            if style & SYMBOLS:
                for bit in (1, 0, 1, 0):
                    _code(coder, out, _UNIFORM, bit)
        if style & RESET:
            _reset(coder)
    return _flush(coder, out)


@compiled
def _reset(coder: Registers) -> None:
    """Set state and likelier symbol of every context to the first ones (table D.7)."""
    coder[_STATES:] = 0
    coder[_STATES], coder[_STATES + _RUN], coder[_STATES + _UNIFORM] = 4, 3, 46


@compiled
def _mark(near: Any, row: int, column: int, above: bool) -> None:
    """Let the neighbours know that a coefficient is significant; ``above``: those above, too."""
    near[row, column - 1] += _H
    near[row, column + 1] += _H
    near[row + 1, column] += _V
    near[row + 1, column - 1] += _D
    near[row + 1, column + 1] += _D
    if above:
        near[row - 1, column] += _V
        near[row - 1, column - 1] += _D
        near[row - 1, column + 1] += _D


@compiled
def _code_sign(block: Block, i: int, j: int, coder: Registers, out: Bytes) -> None:
    """Code the sign of a coefficient, which is significant from now on (tables D.2 and D.3)."""
    sign, style = block.sign, block.style
    row, column = i + 1, j + 1
    below = not (style & CAUSAL and i % _STRIPE == _STRIPE - 1)
    h = min(1, max(-1, sign[row, column - 1] + sign[row, column + 1]))
    v = int(sign[row - 1, column])
    if below:
        v += sign[row + 1, column]
    v = min(1, max(-1, v))
    flip = h < 0 or (h == 0 and v < 0)
    if flip:
        h, v = -h, -v
    context = _SIGN + (3 + v if h else v)
    negative = block.values[i, j] < 0
    _code(coder, out, context, int(negative != flip))
    sign[row, column] = -1 if negative else 1
    _mark(block.near, row, column, not (style & CAUSAL and i % _STRIPE == 0))


@compiled
def _significance(block: Block, plane: int, coder: Registers, out: Bytes) -> None:
    """Code those beside a significant coefficient (annex D.3.1)."""
    magnitude, band = block.magnitude, block.band
    sign, near, done = block.sign, block.near, block.done
    height, width = magnitude.shape
    for top in range(0, height, _STRIPE):
        end = min(top + _STRIPE, height)
        for j in range(width):
            for i in range(top, end):
                if sign[i + 1, j + 1]:
                    continue
                around = near[i + 1, j + 1]
                if around == 0:
                    continue
                bit = (magnitude[i, j] >> plane) & 1
                _code(coder, out, _ZERO[band, around], bit)
                if bit:
                    _code_sign(block, i, j, coder, out)
                done[i, j] = done[i, j] | 1


@compiled
def _refinement(block: Block, plane: int, coder: Registers, out: Bytes) -> None:
    """Code the next bit of those that were significant before this plane (annex D.3.3)."""
    magnitude, sign, near, done = block.magnitude, block.sign, block.near, block.done
    height, width = magnitude.shape
    for top in range(0, height, _STRIPE):
        end = min(top + _STRIPE, height)
        for j in range(width):
            for i in range(top, end):
                if not sign[i + 1, j + 1] or done[i, j] & 1:
                    continue
                context = _REFINE + 2
                if not done[i, j] & 2:
                    context = _REFINE + int(near[i + 1, j + 1] > 0)
                _code(coder, out, context, (magnitude[i, j] >> plane) & 1)
                done[i, j] = done[i, j] | 3


@compiled
def _cleanup(block: Block, plane: int, coder: Registers, out: Bytes) -> None:
    """Code all that is left, four zeros at once where nothing is near (annex D.3.4)."""
    magnitude, band = block.magnitude, block.band
    sign, near, done = block.sign, block.near, block.done
    height, width = magnitude.shape
    for top in range(0, height, _STRIPE):
        end = min(top + _STRIPE, height)
        for j in range(width):
            i = top
            if end - top == _STRIPE and _is_quiet(sign, near, done, top, j):
                while i < end and not (magnitude[i, j] >> plane) & 1:
                    i += 1
                _code(coder, out, _RUN, int(i < end))
                if i == end:
                    continue
                _code(coder, out, _UNIFORM, (i - top) >> 1)
                _code(coder, out, _UNIFORM, (i - top) & 1)
                _code_sign(block, i, j, coder, out)
                i += 1
            while i < end:
                if not (sign[i + 1, j + 1] or done[i, j] & 1):
                    bit = (magnitude[i, j] >> plane) & 1
                    _code(coder, out, _ZERO[band, near[i + 1, j + 1]], bit)
                    if bit:
                        _code_sign(block, i, j, coder, out)
                i += 1
    done[:] = done & np.uint8(2)


@compiled
def _is_quiet(sign: Any, near: Any, done: Any, top: int, column: int) -> Any:
    """Whether no coefficient of a column of four is coded yet, nor any of its neighbours."""
    for i in range(top, top + _STRIPE):
        if sign[i + 1, column + 1] or near[i + 1, column + 1] or done[i, column] & 1:
            return False
    return True


# --- the MQ coder (annex C.2) --------------------------------------------------------------------


@compiled
def _code(coder: Registers, out: Bytes, context: int, bit: int) -> None:
    state = coder[_STATES + context]
    qe = _QE[state]
    coder[_A] -= qe
    if bit == coder[_LIKELY + context]:
        if coder[_A] & 0x8000:
            coder[_C] += qe
            return
        if coder[_A] < qe:
            coder[_A] = qe
        else:
            coder[_C] += qe
        coder[_STATES + context] = _MORE[state]
    else:
        if coder[_A] < qe:
            coder[_C] += qe
        else:
            coder[_A] = qe
        if _SWITCHES[state]:
            coder[_LIKELY + context] = 1 - coder[_LIKELY + context]
        coder[_STATES + context] = _LESS[state]
    while True:
        coder[_A] <<= 1
        coder[_C] <<= 1
        coder[_CT] -= 1
        if coder[_CT] == 0:
            _byte_out(coder, out)
        if coder[_A] & 0x8000:
            break


@compiled
def _byte_out(coder: Registers, out: Bytes) -> None:
    at = coder[_AT]
    if at + 2 >= out.size:
        coder[_CT] = 8
        return
    stuffed = out[at] == 0xFF
    if not stuffed and coder[_C] >= 0x8000000:  # a carry
        out[at] += 1
        if out[at] == 0xFF:
            coder[_C] &= 0x7FFFFFF
            stuffed = True
    shift = 20 if stuffed else 19
    coder[_AT] = at + 1
    out[at + 1] = (coder[_C] >> shift) & 0xFF
    coder[_C] &= (1 << shift) - 1
    coder[_CT] = 7 if stuffed else 8


@compiled
def _flush(coder: Registers, out: Bytes) -> Any:
    """End the code; return its size."""
    most = coder[_C] + coder[_A]
    coder[_C] |= 0xFFFF
    if coder[_C] >= most:
        coder[_C] -= 0x8000
    for _ in range(2):
        coder[_C] <<= coder[_CT]
        _byte_out(coder, out)
    return coder[_AT] - int(out[coder[_AT]] == 0xFF)
