"""Tiles rebuilt from JPEGs: found in the samples, they give them back with the remainder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from jpegs import coefficients, scene, through_jpeg
from PIL import Image

from archiver.codec import learned, tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.inference.engine import Engine
from archiver.codec.jpeg import t81
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.transforms.chain import Outline
from archiver.codec.transforms.from_jpeg import pixels, stream, traces
from archiver.codec.transforms.from_jpeg.collage import FromJpegs
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Mode
from archiver.codec.transforms.from_jpeg.tile import FromJpeg
from archiver.errors import ArchiverError, IntegrityError

UINT8 = np.dtype(np.uint8)
SAVED = {
    Mode.FULL: {"subsampling": 0},
    Mode.WIDE: {"subsampling": 1},
    Mode.QUARTER: {"subsampling": 2},
    Mode.RGB: {"keep_rgb": True},
}


def roundtrip(tile: np.ndarray, engine: Engine | None = None) -> Encoded:
    """Encode and decode a tile; return its coding."""
    [coded] = tiles.encode([tile], engine)
    [back] = tiles.decode([(coded.codec, coded.payload)], [tile.shape], [tile.dtype], engine)
    np.testing.assert_array_equal(back, tile)
    return coded


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("seed", range(3))
def test_streams_decode_as_libjpeg_decodes_them(mode: Mode, seed: int) -> None:
    """Bytes, coefficients and samples agree with another JPEG decoder, sample by sample."""
    ours = coefficients(mode, seed)
    data = stream.to_bytes(ours)
    again = stream.from_bytes(data, mode, ours.shape)
    for was, now in zip(ours.planes + ours.tables, again.planes + again.tables, strict=True):
        np.testing.assert_array_equal(was, now)
    with Image.open(io.BytesIO(data)) as picture:
        theirs = np.asarray(picture).reshape(*ours.shape, mode.channels)
    np.testing.assert_array_equal(pixels.decode(ours), theirs)


@pytest.mark.parametrize(
    ("mode", "quality"),
    [(mode, 75) for mode in SAVED] + [(Mode.FULL, 40), (Mode.QUARTER, 88), (Mode.RGB, 30)],
)
def test_a_crop_of_a_decoded_jpeg_is_a_jpeg_again(mode: Mode, quality: int) -> None:
    """Wherever it was cut; most samples are exact, and no codec of samples comes near its size."""
    tile = through_jpeg(scene(), quality, **SAVED[mode])[19:, 5:].copy()
    jpeg, _ = FromJpegs.find(tile) or (None, None)
    assert isinstance(jpeg, FromJpeg)
    assert (jpeg.mode, jpeg.row % 8, jpeg.column % 8) == (mode, 5, 3)
    rows, columns = (s // 8 * 8 for s in jpeg.samples.shape[:2])
    assert min(rows, columns) >= 144
    coded = roundtrip(tile)
    assert coded.codec == TileCodec.FROM_JPEG
    plain = len(imagecodecs.jpegxl_encode(tile, lossless=True, effort=7))
    assert len(coded.payload) < 0.7 * plain


@pytest.mark.parametrize("repeats", [1, 3])
def test_grey(repeats: int) -> None:
    """One channel, also three times."""
    tile = np.repeat(through_jpeg(scene(1), 70)[3:, 2:], repeats, 2)
    coded = roundtrip(tile)
    codec = coded.codec if repeats == 1 else coded.payload[0]
    assert codec == TileCodec.FROM_JPEG


def test_clipped_samples_are_seen_through() -> None:
    """White around tissue, where the decoder cut off what was beyond the range."""
    bright = (scene().astype(np.int64) * 2 - 120).clip(0, 255).astype(np.uint8)
    tile = through_jpeg(bright, 75, subsampling=0)
    assert ((tile == 255) | (tile == 0)).mean() > 0.05
    assert roundtrip(tile).codec == TileCodec.FROM_JPEG


def test_the_rest_is_no_image_to_adapt_to(tiny_model: bytes) -> None:
    """A model may code what the JPEG leaves, but is not fine-tuned to it."""
    engine = Engine.open(tiny_model, device="cpu")
    tile = through_jpeg(scene(), 75)[11:, 2:].copy()
    coded = roundtrip(tile, engine)
    assert coded.codec == TileCodec.FROM_JPEG
    assert learned.parts(tile, coded, engine) == []
    assert len(learned.parts(tile, tiles.stored(tile), engine)) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: scene(),
        lambda: through_jpeg(scene(), 75)[:63],
        lambda: np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8),
        lambda: np.full((99, 99, 3), 7, np.uint8),
        lambda: through_jpeg(scene(), 99, subsampling=0),
        lambda: np.asarray(Image.fromarray(through_jpeg(scene(), 75)).resize((150, 140))),
    ],
    ids=["no JPEG", "too small", "noise", "constant", "almost lossless", "scaled"],
)
def test_what_has_no_jpeg_in_it_is_coded_as_ever(make: Callable[[], np.ndarray]) -> None:
    assert roundtrip(np.ascontiguousarray(make())).codec != TileCodec.FROM_JPEG


def test_damaged_payloads_are_refused_or_give_other_samples() -> None:
    """Never another error, whatever byte changed or is missing."""
    tile = through_jpeg(scene(sides=(96, 104)), 60)[3:, 5:].copy()
    whole, rng = roundtrip(tile).payload, np.random.default_rng(4)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole) if rng.random() < 0.5 else 60)] = rng.integers(256)
        end = rng.integers(1, len(whole) + 1) if rng.random() < 0.3 else len(whole)
        with contextlib.suppress(ArchiverError):
            tiles.decode([(TileCodec.FROM_JPEG, bytes(damaged[:end]))], [tile.shape], [UINT8], None)


def test_a_jpeg_larger_than_its_tile_is_refused() -> None:
    tile = through_jpeg(scene(sides=(96, 104)), 60)
    payload = roundtrip(tile).payload
    for shape in ((90, 104, 3), (96, 80, 3), (96, 104, 1)):
        with pytest.raises(IntegrityError, match="rebuilt from a JPEG"):
            tiles.decode([(TileCodec.FROM_JPEG, payload)], [shape], [UINT8], None)
    with pytest.raises(IntegrityError, match="rebuilt from a JPEG"):
        tiles.decode([(TileCodec.FROM_JPEG, payload)], [tile.shape], [np.dtype("<u2")], None)


@pytest.mark.parametrize("mode", Mode)
def test_tiles_of_old_decode_to_the_same_samples(mode: Mode) -> None:
    stem = Path(__file__).parents[1] / "vectors" / "codec-v1" / f"born-{mode.name.lower()}"
    digest, *shape = stem.with_suffix(".sha256").read_text().split()
    pair = (TileCodec.FROM_JPEG, stem.with_suffix(".tile").read_bytes())
    [tile] = tiles.decode([pair], [tuple(map(int, shape))], [UINT8], None)
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def test_markers_that_explode_are_refused_unread() -> None:
    """Comments of zeros take three bytes each under JPEG XL, and gigabytes outside."""
    inside = coefficients(Mode.FULL)
    data = stream.to_bytes(inside)
    comments = (b"\xff\xfe\xff\xff" + bytes(65533)) * 1000
    bomb = bytes(imagecodecs.jpegxl_encode_jpeg(data[:2] + comments + data[2:]))
    payload = bytes([1, 0, 0, 0]) + bomb
    whole = FromJpeg(Mode.FULL, 0, 0, bytes(3), payload, pixels.decode(inside)).to_bytes(1) + bytes(
        3
    )
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="no plain JPEG"):
        tiles.decode([(TileCodec.FROM_JPEG, whole)], [(256, 256, 3)], [UINT8], None)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "change", [lambda d: d + b"more", lambda d: d[:-2], lambda d: d[:-2] + b"\0" + d[-2:]]
)
def test_a_jpeg_ends_where_its_scan_ends(change: Callable[[bytes], bytes]) -> None:
    inside = coefficients(Mode.QUARTER)
    with pytest.raises(IntegrityError, match="rebuilt from a JPEG"):
        stream.from_bytes(change(stream.to_bytes(inside)), inside.mode, inside.shape)


def test_tables_may_look_like_markers() -> None:
    """Where a header's parts are is known, not searched for."""
    inside = coefficients(Mode.RGB)
    inside.tables[0].reshape(-1)[t81.ZIGZAG[10:14]] = [0xFF, 0xC0, 0xFF, 0xDA]
    again = stream.from_bytes(stream.to_bytes(inside), inside.mode, inside.shape)
    np.testing.assert_array_equal(again.tables[0], inside.tables[0])


def test_an_exact_jpeg_is_not_constant() -> None:
    """All that is left of it is, but the tile may still be the difference to another."""
    tile = through_jpeg(scene(1, (192, 192)), 50)
    coded = roundtrip(tile)
    assert (coded.codec, coded.payload[-2]) == (TileCodec.FROM_JPEG, TileCodec.CONSTANT)
    assert not Outline.of(coded.codec, coded.payload).is_constant


@pytest.mark.parametrize("dc", [841, 1023])
@pytest.mark.parametrize("is_standard", [True, False])
def test_any_coefficients_come_back(
    monkeypatch: pytest.MonkeyPatch, dc: int, is_standard: bool
) -> None:
    """Also those beyond what samples have; the JPEG of steps that no quality has is kept."""
    steps = t81.steps(t81.LUMA, 17)
    plane = np.zeros((32, 64, 8, 8), np.int64)
    plane[..., 0, 0] = np.resize(np.r_[-1023:1024], (32, 64)).clip(-dc, dc)
    steps[0, 0] += not is_standard
    trace = traces.Trace(
        Coefficients(Mode.GREY, (plane,), (steps, steps)), 0, 0, np.ones((256, 512), np.bool_)
    )
    monkeypatch.setattr(traces, "find", lambda tile: [trace])
    jpeg, _ = FromJpegs.find(np.zeros((256, 512, 1), np.uint8)) or (None, None)
    assert isinstance(jpeg, FromJpeg)
    assert jpeg.payload[0] == (7 if is_standard else jpeg_tile.Form.AS_IS)
    back, *_ = FromJpeg.split(jpeg.to_bytes(TileCodec.STORED) + b"the rest", (256, 512, 1), UINT8)
    np.testing.assert_array_equal(back.samples, jpeg.samples)


def beside(*parts: np.ndarray) -> np.ndarray:
    """Return parts of one height side by side."""
    return np.hstack([piece[: min(map(len, parts))] for piece in parts])


def test_jpegs_side_by_side_are_found_each_in_its_region() -> None:
    """Where the grid changes inside a tile, every part of it still is a JPEG."""
    left = through_jpeg(scene(sides=(200, 200)), 85)[3:, 5:]
    right = through_jpeg(scene(sides=(200, 200), seed=2), 70, subsampling=0)[1:, 2:]
    tile = beside(left[:, :181], right[:, :189])
    coded = roundtrip(tile)
    assert coded.codec == TileCodec.FROM_JPEGS
    alone = [roundtrip(np.ascontiguousarray(piece)) for piece in (tile[:, :181], tile[:, 181:])]
    assert len(coded.payload) < sum(len(side.payload) for side in alone)


def test_a_jpeg_beside_what_is_none_is_found() -> None:
    """Half a tile is enough; the other half is coded as ever."""
    jpeg = through_jpeg(scene(sides=(200, 200)), 75)[3:, 5:]
    coded = roundtrip(beside(jpeg, scene(sides=(197, 120), seed=2)))
    assert Outline.of(coded.codec, coded.payload).is_from_jpeg


def test_a_jpeg_with_something_drawn_over_it_is_kept_around_that() -> None:
    """An outline of any shape: units that do not come out are no part of the JPEG."""
    tile = through_jpeg(scene(sides=(200, 200)), 75)[3:, 5:].copy()
    tile[60:130, 70:150] = scene(sides=(70, 80), seed=2)
    coded = roundtrip(tile)
    assert coded.codec == TileCodec.FROM_JPEGS


def test_a_jpeg_that_is_mostly_glass_is_found() -> None:
    """What is smooth says nothing of the grid: the few patches that are not say it."""
    samples = np.full((256, 256, 3), 243, np.uint8)
    samples[90:140, 90:150] = scene(sides=(50, 60))
    tile = through_jpeg(samples, 60)[3:, 5:].copy()
    coded = roundtrip(tile)
    assert Outline.of(coded.codec, coded.payload).is_from_jpeg


def test_one_quality_beside_another_on_one_grid_are_two_jpegs() -> None:
    """The grid does not change, the steps do."""
    parts = [through_jpeg(scene(sides=(192, 192), seed=n), 60 + 25 * n) for n in (0, 1)]
    assert roundtrip(beside(*parts)).codec == TileCodec.FROM_JPEGS


def test_a_tile_of_several_jpegs_of_old_decodes_to_the_same_samples() -> None:
    stem = Path(__file__).parents[1] / "vectors" / "codec-v1" / "born-several"
    digest, *shape = stem.with_suffix(".sha256").read_text().split()
    pair = (TileCodec.FROM_JPEGS, stem.with_suffix(".tile").read_bytes())
    [tile] = tiles.decode([pair], [tuple(map(int, shape))], [UINT8], None)
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def test_damaged_tiles_of_several_jpegs_are_refused_or_give_other_samples() -> None:
    """Never another error, whatever byte changed or is missing; a smaller tile is refused."""
    stem = Path(__file__).parents[1] / "vectors" / "codec-v1" / "born-several"
    whole, rng = stem.with_suffix(".tile").read_bytes(), np.random.default_rng(4)
    shape = tuple(map(int, stem.with_suffix(".sha256").read_text().split()[1:]))
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole) if rng.random() < 0.5 else 40)] = rng.integers(256)
        end = rng.integers(1, len(whole) + 1) if rng.random() < 0.3 else len(whole)
        with contextlib.suppress(ArchiverError):
            tiles.decode([(TileCodec.FROM_JPEGS, bytes(damaged[:end]))], [shape], [UINT8], None)
    for other in ((60, 95, 3), (80, 90, 3), (80, 95, 1)):
        with pytest.raises(IntegrityError, match="JPEG"):
            tiles.decode([(TileCodec.FROM_JPEGS, whole)], [other], [UINT8], None)
