"""Tiles by the order of their samples: found, smaller, exact by their bits, damage refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archiver.codec import classic, tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.inference.engine import Engine
from archiver.codec.transforms import order_search, ordinals
from archiver.codec.transforms.chain import Outline
from archiver.codec.transforms.order_forms import Form
from archiver.codec.transforms.ordered import Ordered
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import IntegrityError
from archiver.sources import parse

CASES = Path(__file__).parents[3] / "shared" / "cases"
SIDE = 96


def scan(seed: int = 0) -> np.ndarray:
    """Return whole numbers like those of a scanner: smooth, with noise, some hundred values."""
    row, column, _ = np.mgrid[0:SIDE, 0:SIDE, 0:1]
    wave = 400 * np.sin(row / 25) * np.cos(column / 17) + 6 * row
    noise = np.random.default_rng(seed).normal(0, 4, wave.shape)
    return np.rint(wave + noise + 900).astype(np.int64)


def field(seed: int = 0) -> np.ndarray:
    """Return numbers with true fractions, smooth, with noise."""
    rng = np.random.default_rng(seed)
    return scan(seed) / 3 + rng.normal(0, 1, (SIDE, SIDE, 1))


def roundtrip(tile: np.ndarray, engine: Engine | None = None) -> Encoded:
    """Encode and decode; the bits must be the same."""
    [coded] = tiles.encode([tile], engine)
    [back] = tiles.decode([(coded.codec, coded.payload)], [tile.shape], [tile.dtype], engine)
    assert back.dtype == tile.dtype
    assert back.tobytes() == tile.tobytes()
    return coded


def plain_size(tile: np.ndarray) -> int:
    """Return what a tile takes as it is."""
    return len(tiles._encode_classic(tile, classic.EFFORT_ALONE).payload)


RATIO = (scan(0) - scan(1) / 2) / (scan(0) + scan(1))
SCALED = {
    "HU, slope and intercept, float64": scan() * 0.733333 - 12.5,
    "PET, slope in float32": (scan() * np.float32(0.0372921)).astype("f4"),
    "kelvin in steps of 0.02": scan().astype("f4") * np.float32(0.02),
    "reflectance": (scan() * np.float32(2.75e-5) - np.float32(0.2)).astype("f4"),
    "min-max scaled": ((scan() - scan().min()) / np.ptp(scan())).astype("f4"),
    "z-scores": ((scan() - scan().mean()) / scan().std()).astype("f4"),
    "logarithms": np.log1p(scan()).astype("f4"),
    "labels far apart in int32": (scan() // 40) * 70001 % 2**31,
    "labels in uint64": ((scan() // 40).astype("u8") * 11400714819323198485),
}


@pytest.mark.parametrize("name", SCALED)
def test_scaled_numbers_take_what_they_took_before(name: str) -> None:
    """Whatever function made them: ranks and a table, not far above the whole numbers' size."""
    tile = SCALED[name].astype("i4") if "int32" in name else SCALED[name]
    coded = roundtrip(tile)
    assert (coded.codec, coded.payload[0]) == (TileCodec.ORDERED, Form.RANKS)
    whole = len(roundtrip(scan().astype("u2")).payload)
    assert len(coded.payload) < min(1.35 * whole + 400, 0.75 * plain_size(tile))


FRACTIONS = {
    "float32": field().astype("f4"),
    "float64": field(),
    "float32 kept as float64": field().astype("f4").astype("f8"),
    "negative ones among them": (field() - 300).astype("f4"),
    "a ratio": RATIO.astype("f4"),
    "float16": field().astype("f2"),
    "int32": np.rint(field() * 1000).astype("i4"),
    "int64": np.rint(field() * 1e12).astype("i8"),
    "three channels": np.concatenate([field(0), field(1), field(2)], -1).astype("f4"),
}


@pytest.mark.parametrize("name", FRACTIONS)
def test_true_fractions_gain_from_their_neighbours(name: str) -> None:
    """Floats and wide integers that hold many numbers come smaller than zstd makes them."""
    coded = roundtrip(FRACTIONS[name])
    assert coded.codec == TileCodec.ORDERED
    assert len(coded.payload) < 0.97 * plain_size(FRACTIONS[name])


def test_smooth_floats_are_predicted_to_the_last_bit() -> None:
    """What an interpolation made leaves little but differences."""
    row, column, _ = np.mgrid[0:SIDE, 0:SIDE, 0:1]
    tile = (280 + 20 * np.sin(row / 40) * np.cos(column / 31)).astype("f4")
    coded = roundtrip(tile)
    assert coded.payload[0] == Form.DIFFERENCES
    assert len(coded.payload) < 0.5 * plain_size(tile)


def test_no_value_does_not_cost_the_others_their_high_bits() -> None:
    """A corner of -3.4e38 beside heights: little more than the heights alone."""
    heights = (field() + 500).astype("f4")
    filled = heights.copy()
    filled[:20, :20] = np.float32(-3.4e38)
    assert len(roundtrip(filled).payload) < len(roundtrip(heights).payload)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_gaps_between_values_cost_nothing(dtype: str, tiny_model: bytes) -> None:
    """16-bit numbers times a factor that is not whole: no larger than before but for the table."""
    tile = np.rint(scan() * 11.13).astype(dtype)
    coded = roundtrip(tile)
    assert coded.codec == TileCodec.ORDERED
    assert len(coded.payload) < len(roundtrip(scan().astype("u2")).payload) + 700
    roundtrip(tile, Engine.open(tiny_model, device="cpu", threads=1))
    assert roundtrip(scan().astype(dtype)).codec == TileCodec.JPEGXL


def test_samples_of_8_bits_are_not_looked_at() -> None:
    """Ordinary images take no time."""
    assert Ordered.find(scan().astype("u1")) is None
    whole = scan().astype("f4")
    assert Ordered.find(whole, ScaleOffset.find(whole)) is None


def test_models_are_given_ranks_and_no_high_bits(tiny_model: bytes) -> None:
    """What they have not learned takes their time and gains nothing."""
    engine = Engine.open(tiny_model, device="cpu", threads=1)
    high = roundtrip(field().astype("f4")[:40, :40], engine)
    assert not Outline.of(high.codec, high.payload).needs_model
    ranks = roundtrip((scan()[:40, :40] // 60).astype("f4") * np.float32(0.37), engine)
    assert ranks.payload[0] == Form.RANKS


def test_every_float16_has_its_place() -> None:
    """All patterns, in order of value: NaNs outside, negative zero just below zero."""
    patterns = np.arange(65536, dtype="u2").reshape(256, 256, 1)
    tile = patterns.view("f2")
    how = Ordinals.of(tile)
    numbers = how.numbers(tile)
    assert np.array_equal(how.samples(numbers).view("u2"), patterns)
    order = np.argsort(numbers.reshape(-1))
    values = tile.reshape(-1)[order].astype("f8")
    real = values[~np.isnan(values)]
    assert np.array_equal(np.sort(numbers.reshape(-1)), np.arange(65536))
    assert (np.diff(real[np.isfinite(real)]) >= 0).all()
    assert int(numbers[128, 0, 0]) + 1 == int(numbers[0, 0, 0])  # -0.0, 0.0
    roundtrip(tile)


@settings(max_examples=120, deadline=None)
@given(
    bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9),
    dtype=st.sampled_from(["f2", "f4", "f8", "u2", "i2", "u4", "i4", "u8", "i8"]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
    zeros=st.sampled_from([0, 0, 3, 13]),
)
@example(bits=[261082], dtype="f4", channels=1, seed=1, zeros=13)  # signalling NaNs
def test_any_bits_come_back_in_every_form(
    bits: list[int], dtype: str, channels: int, seed: int, zeros: int
) -> None:
    """NaN payloads, denormals, extremes: exact in each form, whichever is chosen."""
    size, rng = np.dtype(dtype).itemsize, np.random.default_rng(seed)
    few = np.array([pattern % 2 ** (8 * size) for pattern in bits], f"u{size}")
    near = rng.integers(0, 40, (6, 7, channels)).astype(few.dtype)
    tile = ((rng.choice(few, near.shape) + near) << few.dtype.type(zeros)).view(dtype)
    assert len(roundtrip(tile).payload) <= tile.nbytes
    for guess in order_search.candidates(tile):
        how = Ordered.of(guess)
        np.testing.assert_array_equal(how.forward(tile), guess.numbers)
        payload = how.to_bytes(TileCodec.ZSTD) + classic.encode_zstd(guess.numbers)
        coded = [(TileCodec.ORDERED, payload)]
        [back] = tiles.decode(coded, [tile.shape], [tile.dtype], None)
        assert back.tobytes() == tile.tobytes()


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(1, 64), seed=st.integers(0, 9), channels=st.sampled_from([1, 3]))
def test_differences_are_undone(bits: int, seed: int, channels: int) -> None:
    """Whatever numbers of any width are."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 2**bits, (5, 4, channels), np.uint64)
    rest = ordinals.differences(numbers, bits)
    assert int(rest.max()) < 2**bits
    assert np.array_equal(ordinals.sums(rest, bits), numbers)


def frame(data: bytes) -> bytes:
    """Return a zstd frame."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def table(*steps: int, last: int | None = None, layout: int = 0) -> bytes:
    """Return a table of steps of 4 bytes."""
    data = b"".join(step.to_bytes(4, "little") for step in steps)
    return struct.pack("<HB", len(steps) - 1 if last is None else last, layout) + frame(data)


def ordered(form: int, meaning: bytes, *, zeros: int = 0, codec: int = 0, more: int = 0) -> bytes:
    """Return a payload, but for the numbers."""
    return struct.pack("<BBBI", form, zeros, codec, len(meaning) + more) + meaning


def split(n: int = 1, shift: int = 0, has_fill: int = 0, low: int = 0, fill: int = 0) -> bytes:
    """Return what high bits mean, but for the pieces."""
    return struct.pack("<BBBQQ", n, shift, has_fill, low, fill)


PIECE = struct.pack("<BI", 0, 6) + bytes(6)
IMPOSSIBLE = {
    "nothing": b"",
    "half a header": ordered(0, table(1))[:5],
    "unknown form": ordered(3, table(1)) + bytes(6),
    "all bits zero": ordered(0, table(1), zeros=32) + bytes(6),
    "longer than it is": ordered(0, table(1), more=99) + bytes(6),
    "repeated inside": ordered(0, table(1), codec=5) + bytes(6),
    "itself inside": ordered(0, table(1), codec=13) + bytes(6),
    "no table": ordered(0, b"") + bytes(6),
    "table longer than the tile": ordered(0, table(*range(7))) + bytes(6),
    "table shorter than it says": ordered(0, table(1, 2, last=3)) + bytes(6),
    "table longer than it says": ordered(0, table(1, 2, 3, last=1)) + bytes(6),
    "unknown layout": ordered(0, table(1, layout=2)) + bytes(6),
    "table beyond the type": ordered(0, table(2**32 - 1, 0)) + bytes(6),
    "table beyond what zeros leave": ordered(0, table(2**31), zeros=1) + bytes(6),
    "rank beyond the table": ordered(0, table(1, 1)) + bytes(5) + b"\x02",
    "too few ranks": ordered(0, table(1, 1)) + bytes(5),
    "no numbers' size": ordered(1, split(n=3)) + bytes(18),
    "shift of all bits": ordered(1, split(shift=32) + PIECE * 2) + bytes(6),
    "lowest beyond the type": ordered(1, split(low=2**32)) + bytes(6),
    "hole beyond the type": ordered(1, split(has_fill=1, fill=2**32)) + bytes(6),
    "hole without one": ordered(1, split(fill=2)) + bytes(6),
    "two holes": ordered(1, split(has_fill=2, fill=2)) + bytes(6),
    "hole of differences": ordered(2, split(has_fill=1, fill=2)) + bytes(6),
    "no piece": ordered(1, split(shift=8)) + bytes(6),
    "a piece too many": ordered(1, split(shift=8) + PIECE * 2) + bytes(6),
    "a piece without end": ordered(1, split(shift=8) + PIECE[:-1]) + bytes(6),
    "a learned piece": ordered(1, split(shift=8) + b"\x04" + PIECE[1:]) + bytes(6),
    "bytes for 16 bits": ordered(1, split(shift=9) + PIECE) + bytes(6),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_payloads_that_cannot_be_are_refused(name: str) -> None:
    """Damage is an error, never samples."""
    with pytest.raises(IntegrityError):
        tiles.decode([(TileCodec.ORDERED, IMPOSSIBLE[name])], [(2, 3, 1)], [np.dtype("f4")], None)


def test_a_payload_that_can_be_is_read() -> None:
    """The test above refuses for the reasons that it says; types of 8 bits have no order."""
    good = ordered(1, split(shift=8) + PIECE) + bytes(6)
    [decoded] = tiles.decode([(TileCodec.ORDERED, good)], [(2, 3, 1)], [np.dtype("f4")], None)
    assert (decoded.view("u4") == 0xFFFFFFFF).all()
    ranks = ordered(0, table(1, 1)) + bytes(6)
    tiles.decode([(TileCodec.ORDERED, ranks)], [(2, 3, 1)], [np.dtype("i4")], None)
    with pytest.raises(IntegrityError):
        Ordered.split(ranks, (2, 3, 1), np.dtype("u1"))


def test_a_tile_that_is_too_large_is_refused() -> None:
    """Some samples of 2 bytes make ordinals of 8: only as many as a writer puts into a tile."""
    payload = ordered(0, table(1)) + bytes(6)
    with pytest.raises(IntegrityError, match="impossible"):
        Ordered.split(payload, (1 << 11, 1 << 11, 3), np.dtype("u2"))


def test_a_table_that_inflates_is_refused() -> None:
    """Memory is bounded by the tile, whatever a frame holds."""
    bomb = struct.pack("<HB", 3, 0) + frame(bytes(1 << 26))
    with pytest.raises(IntegrityError, match="expected 16"):
        tiles.decode(
            [(TileCodec.ORDERED, ordered(0, bomb) + bytes(6))],
            [(2, 3, 1)],
            [np.dtype("f4")],
            None,
        )


@pytest.mark.slow
@pytest.mark.beside("cases")
@pytest.mark.parametrize(
    ("name", "most"), [("vestfold.tif", 1_000_000), ("wind_direction.tif", 23_000)]
)
def test_files_of_floats_come_smaller(name: str, most: int) -> None:
    """Heights, which JPEG XL makes 1 019 134 bytes, and directions; zstd made 1 195 400, 55 552."""
    [image] = parse(CASES / name).images
    samples, total = image.read(), 0
    for row in range(0, image.height, 256):
        for column in range(0, image.width, 256):
            tile = np.ascontiguousarray(samples[row : row + 256, column : column + 256])
            total += len(roundtrip(tile).payload)
    assert total < most
