"""Oriented tiles: every orientation comes back, the smallest is kept, damage is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from archiver.codec import tiles
from archiver.codec.ids import TileCodec
from archiver.codec.inference.engine import Engine
from archiver.codec.transforms.orientation import IDENTITY, ORDERS, SIDES, Orientation
from archiver.errors import ArchiverError, IntegrityError

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"
GOLDEN = sorted(path.stem for path in VECTORS.glob("turned-*.tile"))
ALL = [Orientation(number) for number in range(SIDES * len(ORDERS))]


@pytest.fixture(scope="module")
def engine(high_depth_model: bytes) -> Engine:
    return Engine.open(high_depth_model, device="cpu", threads=1)


def picture(channels: int = 3, dtype: str = "u1") -> np.ndarray:
    """Not alike in any two directions or channels."""
    rng = np.random.default_rng(7)
    row, column = np.mgrid[0:9, 0:14]
    ramp = np.stack([row * 9 + column, column**2, row * column], -1)[..., :channels]
    return (ramp + rng.integers(0, 3, ramp.shape)).astype(dtype)


@pytest.mark.parametrize("orientation", ALL, ids=lambda orientation: str(orientation.number))
def test_every_orientation_is_another_one_and_comes_back(orientation: Orientation) -> None:
    tile = picture()
    oriented = orientation.oriented(tile)
    assert oriented.shape == orientation.shape(tile.shape)
    assert sum(np.array_equal(oriented, other.oriented(tile)) for other in ALL) == 1
    np.testing.assert_array_equal(orientation.back(oriented), tile)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(3, "u1"), (1, "u1"), (1, "u2"), (3, "u2"), (3, "i2")]
)
def test_the_smallest_orientation_is_kept(engine: Engine, channels: int, dtype: str) -> None:
    """Of all that a tile is asked to be coded in; channels are reordered only in 8-bit RGB."""
    tile = picture(channels, dtype)
    sizes = {
        orientation: len(tiles.encode([tile], engine, [(orientation,)])[0].payload)
        for orientation in (ALL if (channels, dtype) == (3, "u1") else ALL[:SIDES])
    }
    [best] = tiles.encode([tile], engine, [ALL])
    assert len(best.payload) == min(sizes.values())
    [back] = tiles.decode([(best.codec, best.payload)], [tile.shape], [tile.dtype], engine)
    np.testing.assert_array_equal(back, tile)


@pytest.mark.parametrize("orientation", [1, 4, 7, 11, 30, 47])
def test_an_orientation_costs_a_byte(engine: Engine, orientation: int) -> None:
    """A tile in an orientation is what it would be if it had come so, and one byte."""
    tile, how = picture(), Orientation(orientation)
    [coded] = tiles.encode([tile], engine, [(how,)])
    [plain] = tiles.encode([how.oriented(tile)], engine)
    assert (coded.codec, plain.codec) == (TileCodec.LEARNED_ORIENTED, TileCodec.LEARNED)
    assert coded.payload == bytes([orientation]) + plain.payload


def test_without_a_model_nothing_is_oriented() -> None:
    tile = picture()
    assert tiles.encode([tile], None, [ALL]) == tiles.encode([tile], None)


def test_equal_channels_have_no_order(engine: Engine) -> None:
    """Grey in RGB is coded once, from any side; an order in it is refused."""
    grey = np.repeat(picture(1), 3, 2)
    assert Orientation(47).on(grey[..., :1]) == Orientation(7)
    [inner] = engine.encode([Orientation(7).oriented(grey[..., :1])])
    for number, is_sound in ((7, True), (47, False)):
        payload = bytes([TileCodec.LEARNED_ORIENTED, number]) + inner
        pairs, shapes = [(TileCodec.REPEATED, payload)], [grey.shape]
        if is_sound:
            np.testing.assert_array_equal(
                tiles.decode(pairs, shapes, [grey.dtype], engine)[0], grey
            )
        else:
            with pytest.raises(IntegrityError, match="oriented tile of 1 channels"):
                tiles.decode(pairs, shapes, [grey.dtype], engine)


@pytest.mark.parametrize(
    ("payload", "channels"), [(b"", 3), (b"\x00", 3), (b"\x30", 3), (b"\x08", 1), (b"\xff", 1)]
)
def test_an_impossible_orientation_is_refused(payload: bytes, channels: int) -> None:
    with pytest.raises(IntegrityError, match="oriented tile"):
        Orientation.split(payload, (9, 14, channels), np.dtype(np.uint8))


def test_damage_is_an_error_or_other_samples(engine: Engine) -> None:
    """No byte of a payload, changed or cut, crashes."""
    tile = picture()
    [coded] = tiles.encode([tile], engine, [(Orientation(12),)])
    for at in range(0, len(coded.payload), 3):
        for data in (coded.payload[:at], coded.payload[:at] + b"\x05" + coded.payload[at + 1 :]):
            try:
                [back] = tiles.decode([(coded.codec, data)], [tile.shape], [tile.dtype], engine)
            except ArchiverError:
                continue
            assert back.shape == tile.shape


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vectors_decode(engine: Engine, name: str) -> None:
    """Payloads written when oriented tiles were new decode to the same samples."""
    stem = VECTORS / name
    digest, dtype, *sides = stem.with_suffix(".sha256").read_text().split()
    pair = (TileCodec.LEARNED_ORIENTED, stem.with_suffix(".tile").read_bytes())
    [samples] = tiles.decode([pair], [tuple(map(int, sides))], [np.dtype(dtype)], engine)
    assert hashlib.sha256(samples.tobytes()).hexdigest() == digest


def test_identity_is_identity() -> None:
    tile = picture()
    np.testing.assert_array_equal(IDENTITY.oriented(tile), tile)
