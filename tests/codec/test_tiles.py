"""Tiles: every kind of sample comes back, the smallest codec wins, damage is an error."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec import classic, residue, tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.inference import wavefront
from archiver.codec.inference.engine import Engine
from archiver.codec.model import frozen, model_file
from archiver.errors import ArchiverError, FormatError, IntegrityError

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"


@pytest.fixture(scope="module")
def engine(tiny_model: bytes) -> Engine:
    return Engine.open(tiny_model, device="cpu", threads=1)


def roundtrip(samples: list[np.ndarray], engine: Engine | None) -> list[Encoded]:
    encoded = tiles.encode(samples, engine)
    pairs = [(int(e.codec), e.payload) for e in encoded]
    decoded = tiles.decode(pairs, [s.shape for s in samples], [s.dtype for s in samples], engine)
    for before, after in zip(samples, decoded, strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(before, after)
    return encoded


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    channels=st.sampled_from([1, 2, 3, 4]),
    dtype=st.sampled_from(["u1", "u2", "i2", "u4", "f4", "f8"]),
    kind=st.sampled_from(["constant", "noise", "gradient", "two-tone", "grey"]),
    seed=st.integers(0, 99),
)
def test_any_tile_comes_back(
    engine: Engine, height: int, width: int, channels: int, dtype: str, kind: str, seed: int
) -> None:
    """Any shape, sample type and content is restored bit for bit, and never grows."""
    rng = np.random.default_rng(seed)
    shape = (height, width, channels)
    pattern = {
        "constant": np.full(shape, seed),
        "noise": rng.integers(0, 256, shape),
        "gradient": np.add.outer(np.arange(height), np.arange(width))[..., None]
        + np.zeros(channels),
        "two-tone": rng.integers(0, 2, shape) * 200,
        "grey": np.repeat(rng.integers(0, 99, (height, width, 1)), channels, 2),
    }[kind]
    samples = pattern.astype(dtype)
    (encoded,) = roundtrip([samples], engine)
    assert len(encoded.payload) <= samples.nbytes


def test_special_floats_come_back(engine: Engine) -> None:
    """NaN payloads, infinities and negative zeros are bits like any other."""
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], "u4")
    samples = np.tile(bits, 16).view("f4").reshape(8, 8, 1)
    pairs = [(int(e.codec), e.payload) for e in tiles.encode([samples], engine)]
    (decoded,) = tiles.decode(pairs, [samples.shape], [samples.dtype], engine)
    assert decoded.tobytes() == samples.tobytes()


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 2)])
def test_negative_zero_is_not_zero(engine: Engine, shape: tuple[int, int, int]) -> None:
    """0.0 and -0.0 compare equal but are different bits: neither constant nor repeated."""
    samples = np.array([0.0, -0.0], "f4").reshape(shape)
    pairs = [(int(e.codec), e.payload) for e in tiles.encode([samples], engine)]
    (decoded,) = tiles.decode(pairs, [samples.shape], [samples.dtype], engine)
    assert decoded.tobytes() == samples.tobytes()


def test_smallest_codec_wins(engine: Engine) -> None:
    """A flat tile is constant, noise is stored; no codec is preferred for its own sake."""
    flat = np.full((64, 64, 3), 9, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    flat_tile, noise_tile = roundtrip([flat, noise], engine)
    assert flat_tile == Encoded(TileCodec.REPEATED, bytes([1, 9]))
    assert noise_tile.codec == TileCodec.STORED


def test_grey_in_rgb_is_coded_once(engine: Engine) -> None:
    """Three equal channels cost one byte more than one channel."""
    grey = np.add.outer(np.arange(40), np.arange(40) * 3).astype(np.uint8)[..., None]
    of_one, of_three = roundtrip([grey, np.repeat(grey, 3, 2)], engine)
    assert of_three.payload == bytes([of_one.codec]) + of_one.payload


def test_wavefront_takes_tiles_of_mixed_shapes(engine: Engine) -> None:
    """Tiles of different heights and widths decode in one wavefront of tensors."""
    rng = np.random.default_rng(2)
    sides = [(5, 9), (9, 5), (1, 1), (8, 1), (1, 8), (7, 7)]
    samples = [rng.integers(0, 9, (h, w, 3)).astype(np.uint8) for h, w in sides]
    payloads = engine.encode(samples)
    decoded = wavefront.Wavefront(engine.net, sides, 3).decode(payloads)
    for before, after in zip(samples, decoded, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("share", "efforts"), [(0.9, {3}), (0.97, {3, 7})])
def test_slow_codecs_run_only_where_a_model_is_in_doubt(
    engine: Engine, share: float, efforts: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a photograph that the model takes ``share`` of the quick coding for."""
    rng, asked = np.random.default_rng(4), []
    photo = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    exact, room = classic.encode_jpegxl, photo.nbytes // 2

    def counted(tile: np.ndarray, *, effort: int) -> bytes:
        asked.append(effort)
        return bytes(room) if effort == classic.EFFORT_QUICK else exact(tile, effort=effort) or b""

    monkeypatch.setattr(classic, "encode_jpegxl", counted)
    monkeypatch.setattr(engine, "encode", lambda tiles: [bytes(round(share * room)) for _ in tiles])
    tiles.encode([photo], engine)
    assert set(asked) == efforts


def test_digit_positions_are_a_permutation_in_group_order() -> None:
    """Every digit has one place; groups ascend; channels and digits come in order inside."""
    positions = wavefront.digit_positions(5, 7, 3)
    assert sorted(positions.ravel()) == list(range(5 * 7 * 6))
    row, column = np.divmod(np.arange(35), 7)
    order = np.argsort(positions[:, 0, 0])
    assert np.all(np.diff((column + 2 * row)[order]) >= 0)
    assert np.all(np.diff(positions.reshape(35, -1), axis=1) > 0)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda p: p.stem)
def test_golden_vectors_decode(path: Path, engine: Engine) -> None:
    """Payloads written by the first release still decode to the same samples."""
    vector = json.loads(path.read_text())
    payload = path.with_suffix(".bin").read_bytes()
    shape, dtype = tuple(vector["shape"]), np.dtype(vector["dtype"])
    (samples,) = tiles.decode([(vector["codec"], payload)], [shape], [dtype], engine)
    assert hashlib.sha256(samples.tobytes()).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*-learned.json")), ids=lambda p: p.stem)
def test_golden_vectors_encode_to_the_same_bytes(path: Path, engine: Engine) -> None:
    """The learned encoder still writes the bytes that the first release wrote."""
    vector = json.loads(path.read_text())
    payload = path.with_suffix(".bin").read_bytes()
    (samples,) = engine.decode([payload], [tuple(vector["shape"])])
    assert engine.encode([samples]) == [payload]


def test_there_are_golden_vectors() -> None:
    """The two tests above run on something."""
    assert len(list(VECTORS.glob("*-learned.json"))) >= 8


def test_damaged_payloads_end_in_an_error_or_in_other_samples_of_the_right_shape(
    engine: Engine,
) -> None:
    """Flipped, cut and foreign payloads never crash; the caller's CRCs tell what is wrong."""
    rng = np.random.default_rng(3)
    sample = np.add.outer(np.arange(12), np.arange(10)).astype(np.uint8)[..., None]
    payloads = {e.codec: e.payload for e in [*tiles.encode([sample], None)]}
    payloads[TileCodec.LEARNED] = engine.encode([sample])[0]
    payloads[TileCodec.ZSTD] = classic.encode_zstd(sample)
    payloads[TileCodec.JPEGXL] = classic.encode_jpegxl(sample, effort=3) or b""
    for codec, payload in payloads.items():
        for trial in range(60):
            damaged = bytearray(payload)
            if trial % 3 == 0:
                damaged = damaged[: rng.integers(0, len(damaged))]
            elif damaged:
                damaged[rng.integers(0, len(damaged))] ^= 1 << rng.integers(0, 8)
            try:
                (out,) = tiles.decode(
                    [(int(codec), bytes(damaged))], [sample.shape], [sample.dtype], engine
                )
            except ArchiverError:
                continue
            assert out.shape == sample.shape


def test_zstd_bomb_is_refused() -> None:
    """A frame that would inflate far beyond the tile stops at the tile's size."""
    _, bomb = residue.compress(bytes(50_000_000))
    with pytest.raises(IntegrityError, match="expected 100"):
        residue.decompress(1, bomb, 100)


def test_unknown_codec_is_a_format_error() -> None:
    """A codec id of the future asks for a newer release."""
    with pytest.raises(FormatError, match="newer"):
        tiles.decode([(99, b"")], [(1, 1, 1)], [np.dtype("u1")], None)


@pytest.mark.parametrize("plain", [True, False], ids=["version 1", "version 3"])
def test_model_file_round_trips_and_every_damage_is_found(tiny_model: bytes, plain: bool) -> None:
    """Same content, same bytes; a flip or cut anywhere is an error of ours."""
    packed = model_file.ModelFile.from_bytes(tiny_model).to_bytes()
    assert model_file.ModelFile.from_bytes(packed).to_bytes() == packed
    model, rng = tiny_model if plain else packed, np.random.default_rng(4)
    for _ in range(100):
        damaged = bytearray(model)
        damaged[rng.integers(0, len(damaged))] ^= 1 << rng.integers(0, 8)
        with pytest.raises(ArchiverError):
            model_file.ModelFile.from_bytes(bytes(damaged))
        with pytest.raises(ArchiverError):
            model_file.ModelFile.from_bytes(model[: rng.integers(0, len(model))])


def test_model_that_breaks_its_bound_is_refused(tiny_model: bytes) -> None:
    """A file with a valid CRC but weights too large for exact sums does not load."""
    model = model_file.ModelFile.from_bytes(tiny_model)
    name = "blocks.0.expand"
    big = dict(model.tensors)
    big[f"{name}.weight"] = np.full_like(big[f"{name}.weight"], 127)
    big[f"{name}.exponent"] = np.full_like(big[f"{name}.exponent"], 4)
    forged = model_file.ModelFile(model.name, model.architecture, big, model.self_test)
    with pytest.raises(FormatError, match=name):
        frozen.build(model_file.ModelFile.from_bytes(forged.to_bytes()))


def test_crc_is_crc32c_not_zlib(tiny_model: bytes) -> None:
    """The model file's checksum is the Castagnoli polynomial that FORMAT.md names."""
    assert int.from_bytes(tiny_model[-4:], "little") != zlib.crc32(tiny_model[:-4])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint16])
def test_jpegxl_keeps_signed_samples_in_order(dtype: type[np.integer]) -> None:
    """Signed samples come back; smooth ones around zero are no harder than unsigned ones."""
    info = np.iinfo(dtype)
    extremes = np.array([info.min, -1 if info.min else 1, 0, info.max], dtype).reshape(2, 2, 1)
    payload = classic.encode_jpegxl(extremes, effort=3)
    assert payload is not None
    back = classic.decode_jpegxl(payload, (2, 2, 1), extremes.dtype)
    np.testing.assert_array_equal(back, extremes)
    assert back.dtype == extremes.dtype
    row, column = np.mgrid[0:64, 0:64]
    middle = (int(info.min) + int(info.max) + 1) // 2
    smooth = (middle + (row - column) // 2)[..., None].astype(dtype)
    assert len(classic.encode_jpegxl(smooth, effort=3) or b"") < 400
