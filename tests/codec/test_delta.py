"""Differences between tiles: exact for any samples, tried where they promise something."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec import tiles
from archiver.codec.ids import TileCodec
from archiver.codec.transforms import chain, delta
from archiver.codec.transforms.delta import Base
from archiver.errors import IntegrityError

TYPES = ["u1", "i1", "u2", "i2"]


def noise(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Return samples that use the whole range of their type."""
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


def wave(dtype: str, scale: float = 1, seed: int = 0) -> np.ndarray:
    """Return a tile (40, 50, 1) with structure of its own, and a little noise."""
    row, column = np.mgrid[0:40, 0:50]
    value = 40 + 25 * np.sin(row * column / 40) + np.random.default_rng(seed).normal(0, 1, (40, 50))
    return (scale * value.round()).astype(dtype)[..., None]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from(TYPES),
    back=st.integers(0, 3),
    weight=st.integers(1, delta.ONE),
    seed=st.integers(0, 999),
)
def test_any_tile_comes_back(
    height: int, width: int, channels: int, dtype: str, back: int, weight: int, seed: int
) -> None:
    """Whatever the base: what is left and the base give the samples, in memory of any order."""
    shape = (height, width, channels)
    tile, other = noise(shape, dtype, seed), noise(shape, dtype, seed + 1)
    base = Base(back, weight)
    left = base.minus(tile[::-1], other)
    assert left.dtype == np.dtype(f"u{tile.dtype.itemsize}")
    assert left.shape == shape
    again = base.plus(left, other, tile.dtype)
    assert again.dtype == tile.dtype
    np.testing.assert_array_equal(again, tile[::-1])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_base_that_helps_is_found(dtype: str) -> None:
    """The same structure with other noise is a base, other structure is not."""
    like, unlike = wave(dtype, seed=1), noise((40, 50, 1), dtype, 5)
    best = delta.best(wave(dtype), {7: unlike, 3: like})
    assert best is not None
    base, left = best
    assert base.back == 3
    np.testing.assert_array_equal(base.plus(left, like, like.dtype), wave(dtype))
    assert delta.best(wave(dtype), {7: unlike}) is None


def test_a_step_that_all_samples_share_is_kept() -> None:
    """Rescaled samples have gaps, which a part of the base would fill."""
    best = delta.best(wave("u2", 37), {1: wave("u2", 37, seed=1)})
    assert best is not None
    assert best[0].weight == delta.ONE


@pytest.mark.parametrize("shape", [(3, 50, 1), (50, 3, 1), (1, 1, 1)])
def test_small_tiles_are_left_alone(shape: tuple[int, ...]) -> None:
    """Nothing to guess by."""
    assert delta.best(noise(shape, "u2", 1), {1: noise(shape, "u2", 1)}) is None


def test_floats_and_wide_integers_are_left_alone() -> None:
    """The format has differences of 8 and 16 bits."""
    for dtype in ("f4", "u4", "i8"):
        tile = wave("u2").astype(dtype)
        assert delta.best(tile, {1: tile}) is None


@pytest.mark.parametrize(
    ("payload", "dtype"),
    [
        (b"", "u2"),
        (struct.pack("<IB", 1, 64), "u2"),
        (struct.pack("<IBB", 1, 0, 0), "u2"),
        (struct.pack("<IBB", 1, 65, 0), "u2"),
        (struct.pack("<IBB", 1, 64, TileCodec.JPEG), "u2"),
        (struct.pack("<IBB", 1, 64, TileCodec.DELTA) + bytes(6), "u2"),
        (struct.pack("<IBB", 1, 64, 0) + bytes(4), "f4"),
        (struct.pack("<IBB", 1, 64, 0) + bytes(4), "u4"),
    ],
)
def test_payloads_that_cannot_be_are_refused(payload: bytes, dtype: str) -> None:
    """Damage is an error, never samples."""
    with pytest.raises(IntegrityError):
        chain.opened(TileCodec.DELTA, payload, (1, 2, 1), np.dtype(dtype))


def test_huge_tiles_are_refused() -> None:
    """A reader would have to hold a whole chain of them."""
    payload = struct.pack("<IBB", 1, 64, 0)
    with pytest.raises(IntegrityError):
        chain.opened(TileCodec.DELTA, payload, (4096, 4096, 1), np.dtype("u2"))


@pytest.mark.parametrize("inside", [5, 7, 8])
def test_equal_channels_hold_none_of_these(inside: int) -> None:
    """Codecs that wrap others wrap each other in one order only."""
    payload = bytes([inside]) + struct.pack("<IBB", 1, 64, 0) + bytes(4)
    with pytest.raises(IntegrityError):
        tiles.decode([(5, payload)], [(2, 2, 3)], [np.dtype("u1")], None)
