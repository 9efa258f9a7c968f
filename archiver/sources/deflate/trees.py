"""The Huffman codes of deflate blocks as zlib builds them (trees.c), and the bits that say so.

zlib, zlib-ng and what descends from them build the same codes from the same counts, ties included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

Lengths = NDArray[np.uint8]  # of codes, in bits; 0: no code
N_LITERALS, N_DISTANCES, N_LENGTHS = 286, 30, 19  # sizes of the three alphabets
END = 256  # the symbol that ends a block
MAX_BITS, MAX_LENGTH_BITS = 15, 7
MAX_HEADER_BITS = 14 + 3 * N_LENGTHS + (MAX_LENGTH_BITS + 7) * (N_LITERALS + N_DISTANCES)
ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)


@compiled
def _is_smaller(count: NDArray[Any], depth: NDArray[Any], n: int, m: int) -> Any:
    return count[n] < count[m] or (count[n] == count[m] and depth[n] <= depth[m])


@compiled
def _sift(heap: NDArray[Any], size: int, k: int, count: NDArray[Any], depth: NDArray[Any]) -> None:
    """Move the node at ``k`` down until no child is smaller."""
    node, child = heap[k], 2 * k
    while child <= size:
        if child < size and _is_smaller(count, depth, heap[child + 1], heap[child]):
            child += 1
        if _is_smaller(count, depth, node, heap[child]):
            break
        heap[k] = heap[child]
        k, child = child, 2 * child
    heap[k] = node


@compiled
def code_lengths(counts: NDArray[np.int64], limit: int) -> Any:
    """Return the lengths (n,) uint8 of the codes for symbols that occur ``counts`` (n,) times."""
    n = counts.size
    count = np.zeros(2 * n + 1, np.int64)
    count[:n] = counts
    depth, dad = np.zeros(2 * n + 1, np.int64), np.zeros(2 * n + 1, np.int64)
    heap = np.zeros(2 * n + 2, np.int64)
    size, last = 0, -1
    for symbol in range(n):
        if counts[symbol]:
            size, last = size + 1, symbol
            heap[size] = symbol
    while size < 2:  # two codes at least
        node = 0
        if last < 2:
            last += 1
            node = last
        size += 1
        heap[size] = node
        count[node] = 1
    for k in range(size // 2, 0, -1):
        _sift(heap, size, k, count, depth)
    first, node = 2 * n + 1, n  # nodes from ``first`` on are sorted
    while True:
        least = heap[1]
        heap[1] = heap[size]
        size -= 1
        _sift(heap, size, 1, count, depth)
        second = heap[1]
        heap[first - 1], heap[first - 2] = least, second
        first -= 2
        count[node] = count[least] + count[second]
        depth[node] = max(depth[least], depth[second]) + 1
        dad[least] = dad[second] = node
        heap[1] = node
        node += 1
        _sift(heap, size, 1, count, depth)
        if size < 2:
            break
    first -= 1
    heap[first] = heap[1]
    return _limited(heap, first, dad, n, last, limit)


@compiled
def _limited(
    heap: NDArray[Any], first: int, dad: NDArray[Any], n: int, last: int, limit: int
) -> Any:
    """Return the lengths of the leaves, none over ``limit``: zlib's gen_bitlen."""
    length = np.zeros(2 * n + 1, np.int64)
    n_of = np.zeros(limit + 2, np.int64)
    end, over = 2 * n + 1, 0
    for h in range(first + 1, end):
        node = heap[h]
        bits = length[dad[node]] + 1
        if bits > limit:
            bits = limit
            over += 1
        length[node] = bits
        if node <= last:
            n_of[bits] += 1
    over_full = over > 0
    while over > 0:
        bits = limit - 1
        while n_of[bits] == 0:
            bits -= 1
        n_of[bits] -= 1
        n_of[bits + 1] += 2
        n_of[limit] -= 1
        over -= 2
    if over_full:
        _shorten(heap, length, n_of, end, last, limit)
    return length[:n].astype(np.uint8)


@compiled
def _shorten(
    heap: NDArray[Any], length: NDArray[Any], n_of: NDArray[Any], end: int, last: int, limit: int
) -> None:
    """Give the rarest leaves the longest codes."""
    h = end
    for bits in range(limit, 0, -1):
        left = n_of[bits]
        while left:
            h -= 1
            if heap[h] <= last:
                length[heap[h]] = bits
                left -= 1


@compiled
def codes_of(lengths: Lengths) -> Any:
    """Return the codes (n,) int64 of given lengths, their first bit lowest."""
    n_of = np.zeros(MAX_BITS + 2, np.int64)
    for bits in lengths:
        n_of[bits] += 1
    n_of[0] = 0
    following = np.zeros(MAX_BITS + 2, np.int64)
    for bits in range(1, MAX_BITS + 1):
        following[bits] = (following[bits - 1] + n_of[bits - 1]) << 1
    out = np.zeros(lengths.size, np.int64)
    for symbol in range(lengths.size):
        code = following[lengths[symbol]]
        following[lengths[symbol]] += 1
        for _ in range(lengths[symbol]):
            out[symbol] = out[symbol] << 1 | (code & 1)
            code >>= 1
    return out


@compiled
def _runs(lengths: Lengths, n: int, symbols: NDArray[Any], extra: NDArray[Any], at: int) -> Any:
    """Append the run-length code of ``lengths[:n]`` at ``at``; return its end."""
    previous, count = -1, 0
    most, least = (138, 3) if lengths[0] == 0 else (7, 4)
    for i in range(n):
        here = int(lengths[i])
        after = int(lengths[i + 1]) if i + 1 < n else -1
        count += 1
        if count < most and here == after:
            continue
        if count < least:
            for _ in range(count):
                symbols[at], at = here, at + 1
        elif here:
            if here != previous:
                symbols[at], at, count = here, at + 1, count - 1
            symbols[at], extra[at], at = 16, count - 3, at + 1
        elif count <= 10:
            symbols[at], extra[at], at = 17, count - 3, at + 1
        else:
            symbols[at], extra[at], at = 18, count - 11, at + 1
        count, previous = 0, here
        if after == 0:
            most, least = 138, 3
        elif here == after:
            most, least = 6, 3
        else:
            most, least = 7, 4
    return at


@compiled
def header_of(literals: Lengths, distances: Lengths, bits: NDArray[np.uint8]) -> Any:
    """Write the header that says two codes into ``bits``, one each; return how many."""
    n_literals, n_distances = literals.size, distances.size
    while n_literals > 257 and literals[n_literals - 1] == 0:
        n_literals -= 1
    while n_distances > 1 and distances[n_distances - 1] == 0:
        n_distances -= 1
    symbols = np.zeros(N_LITERALS + N_DISTANCES, np.int64)
    extra = np.zeros(N_LITERALS + N_DISTANCES, np.int64)
    n = _runs(literals, n_literals, symbols, extra, 0)
    n = _runs(distances, n_distances, symbols, extra, n)
    counts = np.zeros(N_LENGTHS, np.int64)
    for i in range(n):
        counts[symbols[i]] += 1
    lengths = code_lengths(counts, MAX_LENGTH_BITS)
    codes = codes_of(lengths)
    n_lengths = N_LENGTHS
    while n_lengths > 4 and lengths[ORDER[n_lengths - 1]] == 0:
        n_lengths -= 1
    at = _put(bits, 0, n_literals - 257, 5)
    at = _put(bits, at, n_distances - 1, 5)
    at = _put(bits, at, n_lengths - 4, 4)
    for i in range(n_lengths):
        at = _put(bits, at, lengths[ORDER[i]], 3)
    for i in range(n):
        at = _put(bits, at, codes[symbols[i]], lengths[symbols[i]])
        if symbols[i] >= 16:
            at = _put(bits, at, extra[i], (2, 3, 7)[symbols[i] - 16])
    return at


@compiled
def _put(bits: NDArray[np.uint8], at: int, value: int, n: int) -> Any:
    for i in range(n):
        bits[at + i] = value >> i & 1
    return at + n
