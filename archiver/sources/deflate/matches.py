"""The guess at every token: what an encoder takes is a function of the matches it can find.

At each position the longest match among the latest candidates is looked for, there, one further on
(lazy matching, as zlib) and where it ends (could that one have begun earlier?  zlib-ng).  Lengths,
and little else, are the *context*; a table says for each context whether this encoder took the
match or a literal.  Tokens that differ are exceptions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.deflate.bitstream import COUNT, STORED, TYPE, Tokens

Bytes = NDArray[np.uint8]
# candidates looked at, least bytes of a match, bytes that are enough, longest match whose inside
# is put into the chains, largest distance
Effort = tuple[int, int, int, int, int]
# next position to insert, one whose match is known, that match, whether a match was not taken
State = tuple[int, int, tuple[int, int], bool]
# latest position of a hash, the one before, and the work done so far: comparisons
Chains = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
LITERAL, MATCH, OTHER = 0, 1, 2  # what a token is, beside the match that was found
MAX_MATCH = 258
_HASH_BITS = 16
_FAR = 4096  # a distance at which zlib no longer takes 3 bytes
_MOST_WORK, _WORK_PER_BYTE = 1 << 30, 512  # comparisons: more is given up
_BUCKETS = 14  # of lengths
_AHEAD = 4  # how the next position's match compares
N_CONTEXTS = _BUCKETS * _AHEAD * 2 * 2 * 2


@compiled
def _hash(raw: Bytes, at: int, least: int) -> Any:
    value = np.uint32(raw[at]) | np.uint32(raw[at + 1]) << 8 | np.uint32(raw[at + 2]) << 16
    if least > 3:
        value |= np.uint32(raw[at + 3]) << 24
    return np.uint32(value * np.uint32(2654435761)) >> np.uint32(32 - _HASH_BITS)


@compiled
def _best(raw: Bytes, at: int, chains: Chains, effort: Effort) -> Any:
    """Return length and distance of the longest match at ``at``, the nearest of these; 0, 0: none.

    All positions before ``at`` that are candidates are in the chains.
    """
    depth, least, nice, _, window = effort
    limit = min(MAX_MATCH, raw.size - at)
    if limit < least:
        return 0, 0
    heads, before, work = chains
    candidate = heads[_hash(raw, at, least)]
    length, distance = least - 1, 0
    while candidate >= 0 and at - candidate <= window and depth > 0:
        depth -= 1
        work[0] += 1
        if raw[candidate + length] == raw[at + length]:
            n = 0
            while n < limit and raw[candidate + n] == raw[at + n]:
                n += 1
            work[0] += n >> 3
            if n > length:
                length, distance = n, at - candidate
                if n >= min(nice, limit):
                    break
        candidate = before[candidate]
    return (length, distance) if distance else (0, 0)


@compiled
def _empty(raw: Bytes) -> Any:
    """Return chains without a position."""
    heads, before = np.full(1 << _HASH_BITS, -1, np.int32), np.full(raw.size, -1, np.int32)
    return heads, before, np.zeros(1, np.int64)


@compiled
def _insert(raw: Bytes, start: int, end: int, chains: Chains, least: int) -> Any:
    """Put the positions from ``start`` to ``end`` into the chains; return where to go on."""
    heads, before, _ = chains
    for at in range(start, min(end, raw.size - least + 1)):
        key = _hash(raw, at, least)
        before[at] = heads[key]
        heads[key] = at
    return max(start, end)


@compiled
def _swallows(raw: Bytes, at: int, length: int, chains: Chains, effort: Effort) -> Any:
    """Whether the match where one of ``length`` ends could begin right after ``at``."""
    follower, distance = _best(raw, at + length, chains, effort)
    if follower == 0 or at + 1 < distance:
        return False
    i = at + 1
    while i < at + length and raw[i] == raw[i - distance]:
        i += 1
    return i == at + length


@compiled
def _bucket(length: int) -> Any:
    """Return a class of lengths: zlib's levels change at its powers of two."""
    if length < 9:
        return max(0, length - 2)
    for i, end in enumerate((12, 16, 32, 64, 128, 258)):
        if length < end:
            return 7 + i
    return _BUCKETS - 1


@compiled
def _look(
    raw: Bytes, at: int, match: tuple[int, int], chains: Chains, effort: Effort, passed: bool
) -> Any:
    """Return the context of the ``match`` at ``at``, and the match one further on.

    ``passed`` says that a match before was not taken.  All positions up to ``at`` are in the
    chains.
    """
    after, swallowed, ahead = (0, 0), False, 0
    if match[0]:
        after = _best(raw, at + 1, chains, effort)
        swallowed = effort[1] > 3 and _swallows(raw, at, match[0], chains, effort)
        if after[0] >= match[0]:
            ahead = min(1 + after[0] - match[0], _AHEAD - 1)
    context = _bucket(match[0]) * _AHEAD + ahead
    return ((context * 2 + (match[1] > _FAR)) * 2 + passed) * 2 + swallowed, after


@compiled
def _arrive(raw: Bytes, at: int, state: State, chains: Chains, effort: Effort) -> Any:
    """Return the match at ``at``, its context, and the match one further on.

    All positions up to ``at`` are in the chains then.
    """
    inserted, known, match, passed = state
    inserted = _insert(raw, inserted, at, chains, effort[1])
    if known != at:
        match = _best(raw, at, chains, effort)
    _insert(raw, inserted, at + 1, chains, effort[1])
    context, after = _look(raw, at, match, chains, effort, passed)
    return match, context, after


@compiled
def _leave(
    at: int, length: int, match: tuple[int, int], after: tuple[int, int], inside: int
) -> Any:
    """Return the state behind a token of ``length`` at ``at``."""
    inserted = at + length if length > inside else at + 1
    return inserted, at + 1 if match[0] else -1, after, match[0] > 0 and length == 0


@compiled
def compare(
    raw: Bytes,
    tokens: Tokens,
    blocks: NDArray[np.int64],
    effort: Effort,
    contexts: NDArray[np.uint16],
    kinds: Bytes,
    most: int,
) -> Any:
    """Fill in the context of every token, and what it is beside the match found there.

    Return how many comparisons that took, -1 if more than ``most``: some bytes match everywhere.
    """
    chains = _empty(raw)
    at = inserted = i = 0
    for number in range(blocks.shape[0]):
        if blocks[number, TYPE] == STORED:
            at += blocks[number, COUNT]
            continue
        state = (inserted, -1, (0, 0), False)
        for _ in range(blocks[number, COUNT]):
            if chains[2][0] > most:
                return -1
            match, contexts[i], after = _arrive(raw, at, state, chains, effort)
            length = int(tokens[0][i])
            kinds[i] = OTHER
            if length == 0:
                kinds[i] = LITERAL
            elif length == match[0] and int(tokens[1][i]) == match[1]:
                kinds[i] = MATCH
            state = _leave(at, length, match, after, effort[3])
            at, i = at + max(1, length), i + 1
        inserted = state[0]
    return int(chains[2][0])


@compiled
def expand(
    raw: Bytes,
    blocks: NDArray[np.int64],
    effort: Effort,
    table: Bytes,
    exceptions: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    tokens: Tokens,
) -> Any:
    """Fill in the tokens that ``table`` and ``exceptions`` make; return where they end.

    ``exceptions``: number of the token, length, distance; -1 is returned if one is impossible.
    """
    chains, most = _empty(raw), _MOST_WORK + _WORK_PER_BYTE * raw.size
    at = inserted = i = k = 0
    for number in range(blocks.shape[0]):
        if blocks[number, TYPE] == STORED:
            at += blocks[number, COUNT]
            continue
        state = (inserted, -1, (0, 0), False)
        for _ in range(blocks[number, COUNT]):
            if at >= raw.size or chains[2][0] > most:
                return -1
            match, context, after = _arrive(raw, at, state, chains, effort)
            length, distance = match if table[context] == MATCH else (0, 0)
            if k < exceptions[0].size and exceptions[0][k] == i:
                length, distance = int(exceptions[1][k]), int(exceptions[2][k])
                k += 1
            if length and not (3 <= length <= MAX_MATCH and 1 <= distance <= 1 << 15):
                return -1
            tokens[0][i], tokens[1][i] = length, distance
            state = _leave(at, length, match, after, effort[3])
            at, i = at + max(1, length), i + 1
        inserted = state[0]
    return at
