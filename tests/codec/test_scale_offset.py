"""Wide samples that hold few numbers: found, exact by their bits, or left alone."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec import tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import IntegrityError

SHAPE = (19, 23, 1)


def numbers(low: int, high: int, seed: int = 0) -> np.ndarray:
    """Return whole numbers, smooth enough that a codec gains."""
    row, column, _ = np.mgrid[0:19, 0:23, 0:1]
    wave = np.sin(row / 5) * np.cos(column / 7) + np.random.default_rng(seed).normal(0, 0.02, SHAPE)
    return np.rint(low + (high - low) * (wave + 1.2) / 2.4).astype(np.int64)


def roundtrip(tile: np.ndarray) -> Encoded:
    """Encode and decode without a model; the bits must be the same."""
    [coded] = tiles.encode([tile], None)
    [back] = tiles.decode([(coded.codec, coded.payload)], [tile.shape], [tile.dtype], None)
    assert back.dtype == tile.dtype
    assert back.tobytes() == tile.tobytes()
    return coded


WHOLE = {
    "CT numbers as float32": numbers(-1024, 3000).astype("f4"),
    "CT numbers as float64": numbers(-1024, 3000).astype("f8"),
    "whole float16": numbers(-900, 900).astype("f2"),
    "labels in int32": numbers(0, 90).astype("i4"),
    "int64": numbers(-30000, 30000).astype("i8"),
    "far from zero": numbers(0, 60000).astype("i8") + (1 << 60),
    "uint64 beyond int64's half": numbers(0, 200).astype("u8") + (1 << 61),
    "uint32 at its end": (numbers(0, 200) + (2**32 - 900)).astype("u4"),
    "8 bits / 255 in float32": numbers(0, 255).astype("u1") / np.float32(255),
    "8 bits / 255 in float64": numbers(0, 255) / 255,
    "16 bits / 65535": (numbers(0, 65535) / 65535).astype("f4"),
    "tenths in float32": (numbers(-400, 9000) / 10).astype("f4"),
    "hundredths": numbers(-400, 9000) / 100,
    "halves": (numbers(-400, 9000) / 2).astype("f4"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_found(name: str) -> None:
    """Much smaller than zstd alone makes them."""
    assert roundtrip(WHOLE[name]).codec == TileCodec.SCALE_OFFSET


@pytest.mark.parametrize(
    "value", [np.nan, -9999.0, np.inf, -np.inf, -0.0, np.float32(-3.4028235e38)]
)
def test_one_pattern_may_mean_no_value(value: float) -> None:
    """NaN, nodata: whatever fills the background."""
    tile = numbers(0, 5000).astype("f4")
    tile[3:9, 4:15] = value
    assert roundtrip(tile).codec == TileCodec.SCALE_OFFSET


def test_several_odd_patterns_are_left_alone() -> None:
    """NaNs with different payloads, two kinds of nodata: bit for bit all the same."""
    tile = numbers(0, 5000).astype("f4")
    tile[3, 4], tile[5, 6] = np.nan, np.inf
    assert roundtrip(tile).codec != TileCodec.SCALE_OFFSET
    bits = tile.view("u4")
    bits[3, 4], bits[5, 6] = 0x7FC00001, 0x7FC00002
    assert roundtrip(bits.view("f4")).codec != TileCodec.SCALE_OFFSET


def test_fractions_are_left_alone() -> None:
    """No divisor makes these whole."""
    assert roundtrip(np.sqrt(numbers(1, 9000)).astype("f4")).codec != TileCodec.SCALE_OFFSET
    assert ScaleOffset.find(numbers(0, 255).astype("u2")) is None


def test_equal_channels_and_colour() -> None:
    """Grey kept as RGB floats, and colour that is not grey."""
    grey = np.repeat(numbers(0, 255) / 255, 3, 2)
    coded = roundtrip(grey)
    assert (coded.codec, coded.payload[0]) == (TileCodec.REPEATED, TileCodec.SCALE_OFFSET)
    assert roundtrip(grey * np.array([1, 0.0, 1])).codec == TileCodec.SCALE_OFFSET


@settings(max_examples=80, deadline=None)
@given(
    bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    dtype=st.sampled_from(["f2", "f4", "f8", "u4", "i4", "u8", "i8"]),
    seed=st.integers(0, 99),
)
def test_any_bits_come_back(bits: list[int], dtype: str, seed: int) -> None:
    """Whatever the samples are, and never larger than they."""
    size = np.dtype(dtype).itemsize
    few = np.array([pattern % 2 ** (8 * size) for pattern in bits], f"u{size}")
    tile = np.random.default_rng(seed).choice(few, (7, 9, 1)).view(dtype)
    assert len(roundtrip(tile).payload) <= tile.nbytes


def header(**changed: int) -> bytes:
    """Return the first bytes of a payload."""
    fields = {"n": 2, "divisor": 1, "lowest": 0, "fill": 0xFFFFFFFF, "pattern": 0, "codec": 0}
    return struct.pack("<BHqIQB", *(fields | changed).values())


@pytest.mark.parametrize(
    ("payload", "dtype"),
    [
        (b"", "f4"),
        (header()[:-1], "f4"),
        (header(n=0), "f4"),
        (header(n=4), "f4"),
        (header(divisor=0), "f4"),
        (header(divisor=2), "i4"),
        (header(lowest=-(1 << 63)), "i8"),
        (header(fill=65536), "f4"),
        (header(pattern=1 << 32), "f4"),
        (header(codec=5), "f4"),
        (header(codec=7), "f4"),
        (header(codec=8), "f4"),
        (header(codec=9) + header(), "f4"),
        (header(), "u2"),
    ],
)
def test_payloads_that_cannot_be_are_refused(payload: bytes, dtype: str) -> None:
    """Damage is an error, never samples."""
    data = payload + bytes(12)
    with pytest.raises(IntegrityError):
        tiles.decode([(TileCodec.SCALE_OFFSET, data)], [(2, 3, 1)], [np.dtype(dtype)], None)


def test_numbers_beyond_their_type_wrap_and_do_not_crash() -> None:
    """What the CRC of the samples finds out."""
    wide = ScaleOffset(2, 1, 1 << 40).back(np.zeros((2, 2, 1), "u2"), np.dtype("i4"))
    assert wide.dtype == np.int32
    assert np.isinf(
        ScaleOffset(2, 1, 1 << 40).back(np.zeros((1, 1, 1), "u2"), np.dtype("f2"))
    ).all()
