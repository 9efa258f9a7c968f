"""Plans of runs: packets of PackBits of any encoder come back, from the plan alone."""

from __future__ import annotations

import base64
import contextlib
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_read_residues import packets

from archiver.errors import IntegrityError
from archiver.sources import Format, parse
from archiver.sources.segmented import runs

Encoder = Callable[[np.ndarray], bytes]


def rows_of(seed: int, height: int, width: int) -> np.ndarray:
    """Return bytes with runs of all lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1, 1, 1, 2, 2, 3, 5, 130, 300], height * width)
    values = np.repeat(rng.integers(0, 9, height * width), lengths)
    return values[: height * width].reshape(height, width).astype(np.uint8)


def by_chance(seed: int) -> Encoder:
    """Return an encoder that decides anything at random."""

    def encode(rows: np.ndarray) -> bytes:
        rng, flat, at, out = np.random.default_rng(seed), rows.tobytes(), 0, b""
        while at < len(flat):
            run = len(flat[at:]) - len(flat[at:].lstrip(flat[at : at + 1]))
            if run > 1 and rng.random() < 0.7:
                n = int(rng.integers(2, min(run, 128) + 1))
                out += bytes([257 - n, flat[at]])
            else:
                n = int(rng.integers(1, min(128, len(flat) - at) + 1))
                out += bytes([n - 1]) + flat[at : at + n]
            at += n
        return out

    return encode


def of_rule(rule: runs.Rule) -> Encoder:
    """Return the encoder that a rule describes."""
    return lambda rows: runs.replay(rows, runs._pack(rule, [runs.Plane(0, b"")]))


ENCODERS: dict[str, Encoder] = {
    "imagecodecs, by row": lambda rows: bytes(imagecodecs.packbits_encode(rows, axis=-1)),
    "imagecodecs": lambda rows: bytes(imagecodecs.packbits_encode(rows.tobytes())),
    "runs of 2": of_rule(runs.Rule(2, 2, 0)),
    "runs of 3": of_rule(runs.Rule(3, 3, 0)),
}


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 30), width=st.integers(1, 300))
def test_known_encoders_cost_little(name: str, seed: int, height: int, width: int) -> None:
    """A plan gives the packets, which decode to the rows, and says almost nothing."""
    rows = rows_of(seed, height, width)
    stored = ENCODERS[name](rows)
    assert bytes(imagecodecs.packbits_decode(stored)) == rows.tobytes()
    planned = runs.find_strip(rows, stored + b"more")
    if planned is None:
        assert len(stored) < 150  # too little for any plan
        return
    plan, used = planned
    assert used == len(stored)
    assert runs.replay(rows, plan) == stored
    assert len(plan) <= 40 + len(stored) // 20


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(1, 200))
def test_any_decisions_come_back_or_are_not_worth_a_plan(seed: int, width: int) -> None:
    rows = rows_of(seed, 9, width)
    stored = by_chance(seed)(rows)
    planned = runs.find_strip(rows, stored)
    if planned is not None:
        assert runs.replay(rows, planned[0]) == stored
        assert len(planned[0]) <= len(stored) / 3


def test_what_is_no_stream_of_the_rows_is_refused() -> None:
    rows = rows_of(1, 8, 40)
    stored = ENCODERS["runs of 2"](rows)
    assert runs.find_strip(rows, stored[:-1]) is None
    assert runs.find_strip(rows[:, :-1], stored) is None
    assert runs.find_strip(rows, b"\x80" + stored) is None


def test_damaged_plans_are_refused_or_give_other_bytes() -> None:
    """Never another error, whatever byte changed or is missing."""
    rows = rows_of(2, 12, 50)
    plane = runs.Plane(0, b"head", np.array([0, 3, 9]), np.array([0, 5, 254], np.uint8))
    rng = np.random.default_rng(3)
    for whole in (runs._pack(runs.Rule(2, 3, n), [plane]) for n in (0, 50)):
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] = rng.integers(256)
            end = rng.integers(len(whole) // 2, len(whole) + 1)
            with contextlib.suppress(IntegrityError):
                runs.replay(rows, bytes(damaged[:end]))


@pytest.mark.parametrize(
    "change",
    [
        {"starts": 1}, {"ends": 17}, {"place": 1},
        {"numbers": [3, 3]}, {"numbers": [0, 500]}, {"firsts": [128, 0]}, {"firsts": [127, 127]},
    ],
)  # fmt: skip
def test_impossible_plans_are_refused(change: dict[str, object]) -> None:
    """By the reader of the text, too, and never by another error."""
    fields: dict[str, object] = {"starts": 2, "ends": 3, "place": 0, "numbers": [0, 2]}
    fields |= {"firsts": [0, 0]} | change
    rule = runs.Rule(fields["starts"], fields["ends"], 0)
    numbers, firsts = np.array(fields["numbers"]), np.array(fields["firsts"], np.uint8)
    plan = runs._pack(rule, [runs.Plane(fields["place"], b"", numbers, firsts)])
    rows = rows_of(4, 4, 40)
    with pytest.raises(IntegrityError):
        runs.replay(rows, plan)
    with pytest.raises(AssertionError):
        packets(rows.tobytes(), plan)


@pytest.mark.parametrize("kind", ["zeros", "noise", "copies of one byte", "runs of 2"])
def test_large_frames_take_little_time_and_memory(kind: str) -> None:
    """16 MB of what makes many packets, or few."""
    n = 1 << 24
    if kind == "zeros":
        rows, stored = np.zeros((4096, 4096), np.uint8), b"\x81\0" * (n // 128)
    elif kind == "noise":
        rows = np.random.default_rng(1).integers(0, 256, (4096, 4096)).astype(np.uint8)
        stored = bytes(imagecodecs.packbits_encode(rows, axis=-1))
    elif kind == "copies of one byte":
        rows, stored = np.zeros((4096, 4096), np.uint8), b"\0\0" * n
    else:
        rows = np.arange(n // 2).repeat(2).astype(np.uint8).reshape(4096, 4096)
        stored = bytes(imagecodecs.packbits_encode(rows, axis=-1))
    tracemalloc.start()
    began = time.monotonic()
    planned = runs.find_strip(rows, stored)
    assert (planned is None) == (kind == "copies of one byte")
    if planned is not None:
        assert runs.replay(rows, planned[0]) == stored
    assert time.monotonic() - began < 10
    assert tracemalloc.get_traced_memory()[1] < 300 << 20
    tracemalloc.stop()


def test_many_tiny_strips_are_soon_given_up(tmp_path: Path) -> None:
    """Strips of which no plan is small: the file is kept, as fast as it is read."""
    strips = [b"\0\7\0\7"] * 8000
    rows = np.full((8000, 2), 7, np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        iter(strips),
        shape=rows.shape,
        dtype="u1",
        photometric="minisblack",
        rowsperstrip=1,
        compression="packbits",
        metadata=None,
    )
    began = time.monotonic()
    assert parse(path).format is Format.OPAQUE
    assert time.monotonic() - began < 5


def test_a_plan_of_old_gives_the_same_bytes_for_ever() -> None:
    """Written by the first release; what it gives must not change."""
    rows = rows_of(5, 6, 60).repeat(2, 1)
    assert zlib.crc32(runs.replay(rows, base64.b85decode(OLD))) == ANSWER
    assert zlib.crc32(packets(rows.tobytes(), base64.b85decode(OLD))) == ANSWER


@pytest.mark.parametrize("name", ENCODERS)
def test_a_reader_of_the_text_alone_agrees(name: str) -> None:
    rows = rows_of(8, 60, 90)
    planned = runs.find_strip(rows, ENCODERS[name](rows))
    assert planned is not None
    assert packets(rows.tobytes(), planned[0]) == ENCODERS[name](rows)


OLD = "0RjU&000020R#X5000000BB`lWC8#H0000000aO40003100000000000RR910ssI200"
ANSWER = 0x591C77E1
