"""The range coder that is fast, and the decoder written from FORMAT.md, read the same streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from archiver.codec import entropy
from archiver.codec.reference import range_coder
from archiver.errors import IntegrityError

MOST = 2**24 - 1  # the largest sum of frequencies
VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"
KINDS = ("even", "wide", "few", "one", "full", "last")

Table = NDArray[np.int64]


def table(kind: str, n: int, rng: np.random.Generator) -> Table:
    """Return frequencies (n, 16) of one kind, each at least 1, sums below 2**24."""
    if kind == "even":
        return np.repeat(rng.integers(1, 2**20, (n, 1)), 16, 1)
    if kind == "wide":
        return np.exp(rng.uniform(0, np.log(2**20 - 1), (n, 16))).astype(np.int64)
    if kind == "few":
        return rng.integers(1, 4, (n, 16))
    rows = np.ones((n, 16), np.int64)
    if kind == "full":
        rows = rng.integers(1, 2**19, (n, 16))
    places = rng.integers(0, 15, n) if kind == "last" else rng.integers(0, 16, n)
    room = MOST - rows.sum(1)
    rows[np.arange(n), places] += rng.integers(0, room) if kind == "one" else room
    return rows


def likely(frequencies: Table, rng: np.random.Generator) -> entropy.Digits:
    """Draw digits as often as their frequencies say."""
    drawn = rng.random((len(frequencies), 1)) * frequencies.sum(1, keepdims=True)
    return (drawn >= frequencies.cumsum(1)).sum(1).astype(np.int32)


def encoded(digits: entropy.Digits, frequencies: Table) -> bytes:
    """Return the stream of the fast coder."""
    return entropy.encode_digits(digits, frequencies.astype(np.float32))


def read(decoder: range_coder.DigitDecoder | entropy.DigitDecoder, rows: Table) -> list[int]:
    """Return digits, -1 in the place of one that does not decode; nothing is read after it."""
    digits: list[int] = []
    for row in rows:
        dtype = np.float32 if isinstance(decoder, entropy.DigitDecoder) else np.int64
        try:
            digits += decoder.decode(row[None].astype(dtype)).tolist()
        except IntegrityError:
            return [*digits, -1]
    return digits


@pytest.mark.parametrize("digits", ["likely", "any", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_decoders_read_what_was_encoded(
    kind: str, digits: str, rng: np.random.Generator
) -> None:
    """Random and extreme frequencies, digits that are likely and that are not."""
    rows = table(kind, 1500, rng)
    written = likely(rows, rng)
    if digits == "any":
        written = rng.integers(0, 16, len(rows)).astype(np.int32)
    elif digits == "last":
        written[:] = 15
    for n in (1, 2, 3, 17, len(rows)):
        payload = encoded(written[:n], rows[:n])
        for module in (range_coder, entropy):
            assert read(module.DigitDecoder(payload), rows[:n]) == written[:n].tolist()


def test_both_decoders_read_carries(rng: np.random.Generator) -> None:
    """Digits on the edge of words of ones, and just beyond: the carry runs through them."""
    ones, zeros = b"\xff" * 8, bytes(8)
    seen = {ones: 0, zeros: 0}
    for _ in range(40):
        rows = np.concatenate([table(kind, 10, rng) for kind in KINDS])
        rng.shuffle(rows)
        start = rng.integers(0, 2**32, dtype=np.uint32).tobytes()
        written = read(range_coder.DigitDecoder(start + b"\xff" * 40), rows)
        n = len(written) - (written[-1] < 0)
        for last in {written[n - 1], 15}:
            digits = [*written[: n - 1], last]
            payload = encoded(np.array(digits, np.int32), rows[:n])
            seen[ones] += ones in payload
            seen[zeros] += zeros in payload
            for module in (range_coder, entropy):
                assert read(module.DigitDecoder(payload), rows[:n]) == digits
    assert min(seen.values()) > 0


def test_both_decoders_read_the_same_of_a_damaged_stream(rng: np.random.Generator) -> None:
    """Streams that are cut, empty or noise: the same digits, or refused at the same digit."""
    refused = 0
    for trial in range(300):
        rows = table(KINDS[trial % 6], 40, rng)
        payload = encoded(likely(rows, rng), rows)
        n = 4 * int(rng.integers(0, len(payload) // 4 + 1))
        streams = [payload[:n], rng.bytes(n), b"\xff" * n, b""]
        for stream in streams:
            digits = read(range_coder.DigitDecoder(stream), rows)
            assert digits == read(entropy.DigitDecoder(stream), rows)
            refused += digits[-1] < 0
    assert refused


def test_words_must_be_whole() -> None:
    """A stream of 6 bytes is refused."""
    with pytest.raises(IntegrityError, match="whole 32-bit words"):
        range_coder.DigitDecoder(bytes(6))


def test_no_digits_are_no_bytes() -> None:
    """The stream of nothing is empty."""
    assert encoded(np.zeros(0, np.int32), np.zeros((0, 16), np.int64)) == b""


def test_edges_are_those_of_the_vector_worked_by_hand() -> None:
    """The first digit of the vector that FORMAT.md works by hand."""
    frequencies = [1, 1, 1, 1259, 8295, 59606, 423366, 2491990]
    frequencies += [2643089, 491367, 71146, 9487, 1749, 1, 1, 1]
    edges = [0, 3, 7, 11, 3418, 25860, 187120, 1332498, 8074345, 15224977, 16554326]
    edges += [16746806, 16772473, 16777206, 16777209, 16777213, 16777216]
    assert range_coder.edges(frequencies) == edges
    payload = (VECTORS / "03-rgb-one-pixel-learned.bin").read_bytes()
    assert range_coder.DigitDecoder(payload).decode(np.array([frequencies])).tolist() == [0]


def test_the_last_digit_always_has_room() -> None:
    """For every sum below 2**24, and all of it before the last digit, its width is at least 1."""
    for start in range(16, 2**24, 2**21):
        sums = np.arange(start, min(start + 2**21, 2**24)).astype(np.float32)
        before = (sums - 1) * (np.float32(range_coder.FREE) / sums)  # binary32, as in the text
        assert int(before.max()) + 15 < range_coder.TOTAL
