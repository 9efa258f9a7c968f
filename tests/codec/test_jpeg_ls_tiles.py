"""JPEG-LS tiles: exact for all that they take, refused where they are damaged."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from jpegs import scene

from archiver.codec import classic, jpeg_ls, quick, tiles
from archiver.codec.ids import TileCodec
from archiver.errors import ArchiverError, IntegrityError

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"
SHAPES = [(1, 1, 1), (1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 2, 3), (17, 33, 1), (40, 70, 3)]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_come_back(dtype: str, shape: tuple[int, int, int]) -> None:
    """Noise of all values, ramps and flat tiles of every type."""
    rng, type_ = np.random.default_rng(1), np.dtype(dtype)
    limits = np.iinfo(type_)
    noise = rng.integers(limits.min, limits.max + 1, shape).astype(type_)
    ramp = (np.arange(noise.size).reshape(shape) % 100).astype(type_)
    for tile in (noise, ramp, np.full(shape, limits.max, type_)):
        back = jpeg_ls.decode(jpeg_ls.encode(tile), shape, type_)
        np.testing.assert_array_equal(back, tile)
        assert back.dtype == type_


def test_channels_are_taken_from_those_that_they_follow() -> None:
    """Of channels that follow each other, differences are coded."""
    grey = scene(1, (64, 80)).astype(np.int64)
    noise = np.random.default_rng(2).integers(0, 3, (64, 80, 3))
    alike = (np.repeat(grey.reshape(64, 80, 1), 3, 2) // 2 + noise).astype(np.uint8)
    bases = jpeg_ls.encode(alike)[:3]
    assert sum(base != channel for channel, base in enumerate(bases)) == 2
    assert len(jpeg_ls.encode(alike)) < 0.8 * len(classic.encode_zstd(alike, 19))


def test_what_it_does_not_take() -> None:
    """Floats, wide integers, two channels and sides that no frame header holds."""
    for dtype, shape in (("f4", (9, 9, 1)), ("u4", (9, 9, 1)), ("u1", (9, 9, 2))):
        assert not jpeg_ls.takes(np.dtype(dtype), shape)
    assert not jpeg_ls.takes(np.dtype("u1"), (1, 65536, 1))
    assert jpeg_ls.takes(np.dtype("u1"), (1, 65535, 1))


def test_damage_is_refused_or_gives_a_tile_of_that_shape() -> None:
    """Flips and cuts anywhere never crash; the caller's CRCs tell what is wrong."""
    tile = scene(sides=(20, 24))
    payload, rng = jpeg_ls.encode(tile), np.random.default_rng(4)
    for trial in range(400):
        damaged = bytearray(payload)
        if trial % 4 == 0:
            damaged = damaged[: rng.integers(0, len(damaged))]
        else:
            damaged[rng.integers(0, len(damaged))] ^= 1 << rng.integers(0, 8)
        pair = (int(TileCodec.JPEG_LS), bytes(damaged))
        try:
            [back] = tiles.decode([pair], [tile.shape], [tile.dtype], None)
        except ArchiverError:
            continue
        assert back.shape == tile.shape


@pytest.mark.parametrize("bases", [(1, 2, 0), (1, 0, 2), (3, 1, 2), (0, 1, 255)])
def test_circles_and_strange_channels_are_refused(bases: tuple[int, ...]) -> None:
    """No channel can be taken from itself by way of others, or from one that is not there."""
    tile = scene(sides=(20, 24))
    payload = bytes(bases) + jpeg_ls.encode(tile)[3:]
    with pytest.raises(IntegrityError, match="differences"):
        jpeg_ls.decode(payload, tile.shape, tile.dtype)


def test_other_sizes_and_bytes_after_the_end_are_refused() -> None:
    """A stream says its size before anything is allocated for it."""
    tile = scene(sides=(20, 24))
    payload = jpeg_ls.encode(tile)
    for shape, dtype in (((24, 20, 3), "u1"), ((20, 24, 3), "u2"), ((20, 24, 1), "u1")):
        with pytest.raises(IntegrityError):
            jpeg_ls.decode(payload, shape, np.dtype(dtype))
    with pytest.raises(IntegrityError, match="expected"):
        jpeg_ls.decode(payload + b"\0", tile.shape, tile.dtype)
    (length,) = struct.unpack_from("<I", payload, 3)
    huge = payload[:7] + payload[7:].replace(payload[12:16], b"\xff\xff\xff\xff", 1)
    assert length < len(huge)
    with pytest.raises(IntegrityError, match="not of"):
        jpeg_ls.decode(huge, tile.shape, tile.dtype)


def test_drawings_are_left_to_zstd_where_that_is_smaller() -> None:
    """A tile that repeats takes fewer bytes by zstd; a photograph by JPEG-LS; noise is stored."""
    glyphs = np.random.default_rng(6).integers(0, 2, (4, 16, 16)) * 255
    which = np.random.default_rng(7).integers(0, 2, (12, 12))
    rows = [np.hstack([glyphs[n] for n in row]) for row in which]
    text = np.kron(np.vstack(rows), np.ones((2, 2))).astype(np.uint8)[..., None]
    noise = np.random.default_rng(8).integers(0, 256, (50, 60, 3)).astype(np.uint8)
    assert quick.encode(text).codec == TileCodec.ZSTD
    assert quick.encode(scene(sides=(64, 64))).codec == TileCodec.JPEG_LS
    assert quick.encode(noise).codec == TileCodec.STORED
    assert quick.encode(np.full((9, 9, 3), 7, np.uint8)).codec == TileCodec.CONSTANT


@pytest.mark.parametrize("path", sorted(VECTORS.glob("ls-*.tile")), ids=lambda path: path.stem)
def test_vectors_decode(path: Path) -> None:
    """Payloads of the release that brought the codec still decode to the same samples."""
    digest, dtype, *sides = path.with_suffix(".sha256").read_text().split()
    height, width, channels = map(int, sides)
    tile = jpeg_ls.decode(path.read_bytes(), (height, width, channels), np.dtype(dtype))
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def test_there_are_vectors() -> None:
    """The test above runs on something."""
    assert len(list(VECTORS.glob("ls-*.tile"))) == 4
