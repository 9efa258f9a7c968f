"""The bits of a deflate stream (RFC 1951): read into blocks of tokens, and written from them.

A token is a literal, of length 0 here, or a match of 3 to 258 bytes at a distance.  A block is a
row of :data:`COLUMNS`.  Bits of headers are kept one in a byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.deflate import trees

Bytes = NDArray[np.uint8]
Tokens = tuple[NDArray[np.uint16], NDArray[np.uint16]]  # lengths, distances
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]  # of literal/length and distance symbols
Span = tuple[int, int, int]  # of a block: first token, end of tokens, position in what it makes
STORED, FIXED, DYNAMIC = 0, 1, 2
TYPE, LAST, COUNT, HEADER = 0, 1, 2, 3  # columns of a block; COUNT: tokens, or bytes if stored
COLUMNS = 4  # HEADER: bits of the header that are stored, 0 if it is the predicted one
MAX_BLOCK_BITS = 64 + trees.MAX_HEADER_BITS  # of a block, beside its tokens
_LENGTH_BASE = np.array(
    [
        *(3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31),
        *(35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258),
    ],
    np.int64,
)
_LENGTH_EXTRA = np.array([0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0], np.int64)
_DISTANCE_EXTRA = np.array([0, 0, *(i // 2 for i in range(28))], np.int64)
_DISTANCE_BASE = np.concatenate(([0], np.cumsum(1 << _DISTANCE_EXTRA)[:-1])) + 1
FIXED_LITERALS = np.array([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, np.uint8)  # two more
FIXED_DISTANCES = np.full(trees.N_DISTANCES, 5, np.uint8)
_LENGTH_CODE = np.repeat(np.arange(29), np.append(np.diff(_LENGTH_BASE), 1))  # of length - 3


@compiled
def _get(data: Bytes, at: int, n: int) -> Any:
    """Return ``n`` bits at bit ``at``, -1 beyond the end."""
    if at + n > 8 * data.size:
        return -1
    value = 0
    for i in range(n):
        value |= (data[(at + i) >> 3] >> ((at + i) & 7) & 1) << i
    return value


@compiled
def _decoder(lengths: Bytes) -> Any:
    """Return how many codes there are of each length, and their symbols in order of codes."""
    n_of = np.zeros(trees.MAX_BITS + 1, np.int64)
    for bits in lengths:
        n_of[bits] += 1
    n_of[0] = 0
    starts = np.zeros(trees.MAX_BITS + 2, np.int64)
    for bits in range(1, trees.MAX_BITS + 1):
        starts[bits + 1] = starts[bits] + n_of[bits]
    symbols = np.zeros(lengths.size, np.int64)
    for symbol in range(lengths.size):
        if lengths[symbol]:
            symbols[starts[lengths[symbol]]] = symbol
            starts[lengths[symbol]] += 1
    return n_of, symbols


@compiled
def _symbol(data: Bytes, at: int, n_of: NDArray[Any], symbols: NDArray[Any]) -> Any:
    """Return the symbol at bit ``at`` and the bit after it; -1 for none."""
    code = first = index = 0
    for bits in range(1, trees.MAX_BITS + 1):
        if at >= 8 * data.size:
            return -1, at
        code |= int(data[at >> 3]) >> (at & 7) & 1
        at += 1
        if code - first < n_of[bits]:
            return symbols[index + code - first], at
        index += n_of[bits]
        first = (first + n_of[bits]) << 1
        code <<= 1
    return -1, at


@compiled
def read_header(data: Bytes, at: int, literals: Bytes, distances: Bytes) -> Any:
    """Read the two codes of a dynamic block; return the bit after them, -1 if it is damaged."""
    n_literals, n_distances = _get(data, at, 5) + 257, _get(data, at + 5, 5) + 1
    n_lengths = _get(data, at + 10, 4) + 4
    if n_literals < 257 or n_distances < 1 or n_lengths < 4:
        return -1
    if n_literals > trees.N_LITERALS or n_distances > trees.N_DISTANCES:
        return -1
    at += 14
    lengths = np.zeros(trees.N_LENGTHS, np.uint8)
    for i in range(n_lengths):
        bits = _get(data, at, 3)
        if bits < 0:
            return -1
        lengths[trees.ORDER[i]] = bits
        at += 3
    n_of, symbols = _decoder(lengths)
    both = np.zeros(n_literals + n_distances, np.uint8)
    i = 0
    while i < both.size:
        symbol, at = _symbol(data, at, n_of, symbols)
        if symbol < 0 or (symbol == 16 and i == 0):
            return -1
        if symbol < 16:
            both[i], i = symbol, i + 1
            continue
        n_bits, least = ((2, 3), (3, 3), (7, 11))[symbol - 16]
        more = _get(data, at, n_bits)
        if more < 0 or i + least + more > both.size:
            return -1
        both[i : i + least + more] = both[i - 1] if symbol == 16 else 0
        at, i = at + n_bits, i + least + more
    literals[:], distances[:] = 0, 0
    literals[:n_literals], distances[:n_distances] = both[:n_literals], both[n_literals:]
    return at


@compiled
def _read_block(
    data: Bytes,
    at: int,
    codes: tuple[Bytes, Bytes],
    tokens: Tokens,
    first: int,
) -> Any:
    """Read tokens from ``first`` on; return their end and the bit after them, -1 if damaged."""
    literal_n, literal_symbols = _decoder(codes[0])
    distance_n, distance_symbols = _decoder(codes[1])
    lengths, distances = tokens
    n = first
    while True:
        symbol, at = _symbol(data, at, literal_n, literal_symbols)
        if symbol == trees.END:
            return n, at
        if symbol < 0 or n >= lengths.size:
            return -1, at
        if symbol < trees.END:
            lengths[n], distances[n], n = 0, 0, n + 1
            continue
        code = symbol - trees.END - 1
        if code >= _LENGTH_BASE.size:
            return -1, at
        more = _get(data, at, _LENGTH_EXTRA[code])
        at += _LENGTH_EXTRA[code]
        far, at = _symbol(data, at, distance_n, distance_symbols)
        if more < 0 or far < 0 or (code == 27 and more == 31):  # 258 said in the long way
            return -1, at
        further = _get(data, at, _DISTANCE_EXTRA[far])
        if further < 0:
            return -1, at
        at += _DISTANCE_EXTRA[far]
        lengths[n], distances[n] = _LENGTH_BASE[code] + more, _DISTANCE_BASE[far] + further
        n += 1


@compiled
def _count(tokens: Tokens, raw: Bytes, here: Span) -> Any:
    """Return how often each literal/length and distance symbol occurs, and where the block ends."""
    literals = np.zeros(trees.N_LITERALS, np.int64)
    distances = np.zeros(trees.N_DISTANCES, np.int64)
    first, end, at = here
    for i in range(first, end):
        length = tokens[0][i]
        if length == 0:
            literals[raw[at]] += 1
            at += 1
            continue
        literals[trees.END + 1 + _LENGTH_CODE[length - 3]] += 1
        distances[_distance_code(tokens[1][i])] += 1
        at += length
    literals[trees.END] = 1
    return literals, distances, at


@compiled
def _distance_code(distance: int) -> Any:
    code = 0
    while code < trees.N_DISTANCES - 1 and distance >= _DISTANCE_BASE[code + 1]:
        code += 1
    return code


@compiled
def _read_stored(data: Bytes, at: int) -> Any:
    """Return the length of a stored block and where its bytes begin; -1 if it is damaged."""
    pad = -at & 7
    length, check = _get(data, at + pad, 16), _get(data, at + pad + 16, 16)
    if _get(data, at, pad) != 0 or length < 0 or check != length ^ 0xFFFF:
        return -1, at
    return length, at + pad + 32


@compiled
def _keep_header(data: Bytes, span: tuple[int, int], counts: Counts, headers: Bytes) -> Any:
    """Copy the bits of a header that is not the predicted one; return how many, -1: too many."""
    start, n_bits = span
    predicted = np.zeros(trees.MAX_HEADER_BITS, np.uint8)
    same = _predicted_header(counts, predicted) == n_bits
    if n_bits > headers.size:
        return -1
    for i in range(n_bits):
        headers[i] = _get(data, start + i, 1)
        same = same and headers[i] == predicted[i]
    return 0 if same else n_bits


@compiled
def read(data: Bytes, raw: Bytes, tokens: Tokens, blocks: NDArray[np.int64], headers: Bytes) -> Any:
    """Read a whole stream of ``raw``: fill tokens, rows of blocks, and bits of odd headers.

    Return the numbers of tokens and blocks, of bits of headers and of bits of the stream; -1 as
    the first if it is damaged or says something in a way that :func:`write` does not.
    """
    at = n_tokens = n_headers = position = 0
    literals, distances = FIXED_LITERALS.copy(), FIXED_DISTANCES.copy()
    for n_blocks in range(blocks.shape[0]):
        block = blocks[n_blocks]
        block[LAST], block[TYPE] = _get(data, at, 1), _get(data, at + 1, 2)
        start = at = at + 3
        if block[LAST] < 0 or not 0 <= block[TYPE] <= DYNAMIC:
            break
        if block[TYPE] == STORED:
            block[COUNT], at = _read_stored(data, at)
            if block[COUNT] < 0:
                break
            at += 8 * block[COUNT]
            position += block[COUNT]
        else:
            literals[:], distances[:] = FIXED_LITERALS, FIXED_DISTANCES
            if block[TYPE] == DYNAMIC:
                at = read_header(data, at, literals, distances)
            n_bits = at - start
            end = -1
            if at >= 0:
                end, at = _read_block(data, at, (literals, distances), tokens, n_tokens)
            if end < 0:
                break
            block[COUNT] = end - n_tokens
            if position + _covered(block, n_tokens, tokens[0]) > raw.size:
                break
            counts = _count(tokens, raw, (n_tokens, end, position))
            n_tokens, position = end, counts[2]
            if block[TYPE] == DYNAMIC:
                span = (start, n_bits)
                block[HEADER] = _keep_header(data, span, counts[:2], headers[n_headers:])
                if block[HEADER] < 0:
                    break
                n_headers += block[HEADER]
        if block[LAST]:
            pad = -at & 7
            if position != raw.size or _get(data, at, pad) != 0:
                break
            return n_tokens, n_blocks + 1, n_headers, at + pad
    return -1, 0, 0, 0


@compiled
def _predicted_header(counts: Counts, bits: Bytes) -> Any:
    """Write the bits of the header that zlib would make for ``counts``; return how many."""
    return trees.header_of(
        trees.code_lengths(counts[0], trees.MAX_BITS),
        trees.code_lengths(counts[1], trees.MAX_BITS),
        bits,
    )


@compiled
def _covered(block: NDArray[Any], first: int, lengths: NDArray[Any]) -> Any:
    """Return the bytes that a block makes."""
    if block[TYPE] == STORED:
        return block[COUNT]
    covered = 0
    for i in range(first, first + block[COUNT]):
        covered += max(1, lengths[i])
    return covered


@compiled
def _put(out: Bytes, at: int, value: int, n: int) -> Any:
    """Write ``n`` bits at bit ``at`` of zeros; return the bit after them."""
    for i in range(n):
        out[(at + i) >> 3] |= (value >> i & 1) << ((at + i) & 7)
    return at + n


@compiled
def write(
    raw: Bytes,
    tokens: Tokens,
    blocks: NDArray[np.int64],
    headers: Bytes,
    out: Bytes,
) -> Any:
    """Write blocks of tokens into zeros; return the bytes written, -1 if they do not fit."""
    at = first = position = n_headers = 0
    literals, distances = FIXED_LITERALS.copy(), FIXED_DISTANCES.copy()
    predicted = np.zeros(trees.MAX_HEADER_BITS, np.uint8)
    for number in range(blocks.shape[0]):
        block = blocks[number]
        if at + MAX_BLOCK_BITS + 16 * _covered(block, first, tokens[0]) > 8 * out.size:
            return -1
        at = _put(out, _put(out, at, block[LAST], 1), block[TYPE], 2)
        if block[TYPE] == STORED:
            at += -at & 7
            at = _put(out, at, block[COUNT], 16)
            at = _put(out, at, block[COUNT] ^ 0xFFFF, 16)
            out[at >> 3 : (at >> 3) + block[COUNT]] = raw[position : position + block[COUNT]]
            at += 8 * block[COUNT]
            position += block[COUNT]
            continue
        end = first + block[COUNT]
        if block[TYPE] == FIXED:
            literals[:], distances[:] = FIXED_LITERALS, FIXED_DISTANCES
        else:
            bits, n = headers[n_headers:], block[HEADER]
            if n == 0:
                counts = _count(tokens, raw, (first, end, position))
                n, bits = _predicted_header(counts[:2], predicted), predicted
            else:
                n_headers += n
            start = at
            for i in range(n):
                at = _put(out, at, bits[i], 1)
            if read_header(out, start, literals, distances) != at:
                return -1
        at, position = _write_tokens(
            raw, (first, end, position), tokens, (literals, distances), out, at
        )
        if at < 0:
            return -1
        first = end
    return (at + 7) >> 3


@compiled
def _write_tokens(
    raw: Bytes,
    here: Span,
    tokens: Tokens,
    lengths: tuple[Bytes, Bytes],
    out: Bytes,
    at: int,
) -> Any:
    """Write the tokens of a block and its end; return the bit after them, -1 without a code."""
    first, end, position = here
    literals, distances = trees.codes_of(lengths[0]), trees.codes_of(lengths[1])
    for i in range(first, end):
        length = int(tokens[0][i])
        symbol = int(raw[position])
        if length:
            symbol = trees.END + 1 + _LENGTH_CODE[length - 3]
        if lengths[0][symbol] == 0:
            return -1, position
        at = _put(out, at, literals[symbol], lengths[0][symbol])
        position += max(1, length)
        if length == 0:
            continue
        code = symbol - trees.END - 1
        at = _put(out, at, length - _LENGTH_BASE[code], _LENGTH_EXTRA[code])
        distance = int(tokens[1][i])
        far = _distance_code(distance)
        if lengths[1][far] == 0:
            return -1, position
        at = _put(out, at, distances[far], lengths[1][far])
        at = _put(out, at, distance - _DISTANCE_BASE[far], _DISTANCE_EXTRA[far])
    if lengths[0][trees.END] == 0:
        return -1, position
    return _put(out, at, literals[trees.END], lengths[0][trees.END]), position
