"""Coded coefficients: every JPEG comes back, the bytes are pinned, damage is an error."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jpegs import jpeg_files, saved, scene

from archiver.codec.jpeg import blocks, context_mixing, payload, t81
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.jpeg.baseline import Parts
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.jpeg.tile import Form
from archiver.errors import IntegrityError, MachineError
from archiver.native import arrays, library

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"
FILES = jpeg_files()


def tile_of(data: bytes) -> np.ndarray:
    """Return a JPEG as a tile."""
    return jpeg_tile.as_tile(bytes([1, 0, 0]) + data)


@pytest.mark.parametrize("name", FILES)
def test_a_jpeg_comes_back_from_its_coefficients(name: str) -> None:
    tile = tile_of(FILES[name])
    coded = jpeg_tile.encode_coefficients(tile)
    assert coded[0] == Form.COEFFICIENTS
    assert len(coded) < tile.size
    assert jpeg_tile.decode(coded) == tile.tobytes()


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_are_those_of_the_first_release(name: str) -> None:
    """Golden payloads decode, and are written again."""
    state = ContextState.fresh()
    for number in range(int(name[-1]) if name.startswith("primed") else 0):
        jpeg_tile.encode_coefficients(tile_of(FILES[f"primed-{number}"]), state)
    golden = (VECTORS / f"jpeg-{name}.tile").read_bytes()
    back = jpeg_tile.decode(golden, state.copy())
    assert hashlib.sha256(back).hexdigest() == (VECTORS / f"jpeg-{name}.sha256").read_text().strip()
    how = state if name.startswith("primed") else None
    coded = payload.encode(back[3:], ContextState.fresh() if how is None else how)
    assert coded is not None
    head = payload.head_of(golden[4:])
    assert golden[4 + len(head) :] == coded[1]


def test_tables_are_those_of_the_text() -> None:
    """The core computes trust and share, in floats: the golden bytes say that it does it right."""
    trust = np.array([(645 * n + 2) // (10 * n + 6) for n in range(32)])
    share = np.array([5 * 65536 // (5 * n + 9) for n in range(128)])
    digest = hashlib.sha256()
    for table in (context_mixing.SQUASH, context_mixing.STRETCH, trust, share, blocks.EDGE):
        digest.update(table.astype("<i4").tobytes())
    text = (Path(__file__).parents[2] / "manifests" / "FORMAT.md").read_text()
    assert digest.hexdigest() in text
    assert hashlib.sha256(t81.dictionary()).hexdigest() in text


def test_what_was_learned_makes_the_next_one_smaller() -> None:
    state = ContextState.fresh()
    first, second = (tile_of(FILES[f"primed-{n}"]) for n in range(2))
    jpeg_tile.encode_coefficients(first, state)
    primed = jpeg_tile.encode_coefficients(second, state.copy())
    assert len(primed) < len(jpeg_tile.encode_coefficients(second))
    assert jpeg_tile.decode(primed, state) == second.tobytes()


def test_primed_tiles_need_a_memory() -> None:
    primed = jpeg_tile.encode_coefficients(tile_of(FILES["grey"]), ContextState.fresh())
    with pytest.raises(IntegrityError, match="unknown form"):
        jpeg_tile.decode(primed)


def without_padding() -> bytes:
    """Return a JPEG whose last bits are padded with zeros."""
    for data in FILES.values():
        end = len(data) - len(Parts.of(data).after) - 1
        padded = next(n for n in range(8) if not data[end] >> n & 1)
        if padded > 1:
            return data[:end] + bytes([data[end] >> padded << padded]) + data[end + 1 :]
    raise AssertionError("all of them end with a byte")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8 no JPEG",
        saved(scene(3, (40, 40)), 75, progressive=True),
        FILES["full"][:-40],
        FILES["full"][:300],
        FILES["full"].replace(b"\xff\xdb", b"\xff\xdd"),
        FILES["full"].replace(b"\xff\xda", b"\xff\xd0\xff\xda"),
        FILES["restarts"].replace(b"\xff\xd0", b"\xff\xd1"),
        without_padding(),
    ],
    ids=range(9),
)
def test_other_jpegs_are_left_to_other_codecs(data: bytes) -> None:
    tile = tile_of(data)
    assert jpeg_tile.encode_coefficients(tile) == b""
    coded = jpeg_tile.encode(tile)
    assert coded[0] in (Form.AS_IS, Form.JPEG_XL)
    assert jpeg_tile.decode(coded) == tile.tobytes()


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(["quarter", "tail", "cmyk"]), data=st.data())
def test_damaged_payloads_are_refused_or_give_another_jpeg(name: str, data: st.DataObject) -> None:
    whole = bytearray((VECTORS / f"jpeg-{name}.tile").read_bytes())
    at = data.draw(st.integers(1, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.sampled_from([len(whole), at]))
    with contextlib.suppress(IntegrityError):
        jpeg_tile.decode(bytes(whole[:end]))


def test_a_payload_that_declares_gigabytes_allocates_none() -> None:
    """Sides are bounded before anything is allocated for them."""
    head, stream = payload.encode(FILES["grey"], ContextState.fresh()) or (b"", b"")
    before, after = payload._segments(head)
    at = before.index(b"\xff\xc0") + 5
    huge = before[:at] + b"\xff\xff\xff\xff" + before[at + 4 :]
    frame = payload._compressor().compress(huge + after)
    bomb = payload._HEAD.pack(len(frame), len(huge), len(after)) + frame + stream
    with pytest.raises(IntegrityError, match="frame of another kind"):
        payload.decode(bomb, ContextState.fresh())
    for sizes in ((1 << 31, 1, 1), (len(frame), 1 << 25, 2), (len(frame), 3, 4)):
        with pytest.raises(IntegrityError):
            payload.decode(payload._HEAD.pack(*sizes) + frame + stream, ContextState.fresh())


def test_a_coefficient_without_a_code_is_refused() -> None:
    """A stream of another JPEG may hold what the tables in the head cannot say."""
    rng = np.random.default_rng(0)
    noise = saved(rng.integers(0, 256, (24, 24, 3), np.uint8), 100, subsampling=0, optimize=True)
    flat = saved(np.full((24, 24, 3), 9, np.uint8), 100, subsampling=0, optimize=True)
    coded, other = (
        payload.encode(noise, ContextState.fresh()),
        payload.encode(flat, ContextState.fresh()),
    )
    assert coded is not None
    assert other is not None
    with pytest.raises(IntegrityError, match="no Huffman code"):
        payload.decode(other[0] + coded[1], ContextState.fresh())


def test_a_stream_that_has_ended_is_not_read_for_ever() -> None:
    """Zeros follow a stream; thousands of them were never left away."""
    small, large = saved(scene(1, (64, 64)), 90), saved(np.zeros((2048, 2048, 1), np.uint8), 90)
    coded, other = (
        payload.encode(small, ContextState.fresh()),
        payload.encode(large, ContextState.fresh()),
    )
    assert coded is not None
    assert other is not None
    with pytest.raises(IntegrityError, match="coefficients that no JPEG has"):
        payload.decode(other[0] + coded[1], ContextState.fresh())


def test_without_the_core_there_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "core", lambda: None)
    monkeypatch.delenv(library.ENVIRONMENT, raising=False)
    with pytest.raises(MachineError, match=r"reinstall archiver .* ziglang"):
        library.required()
    monkeypatch.setenv(library.ENVIRONMENT, library.OFF)
    with pytest.raises(MachineError, match="ARCHIVER_NATIVE=off: unset it"):
        library.required()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 64), np.int32),
        np.zeros((2, 64), np.int16),
        np.zeros((3, 2, 64), np.int16).transpose(1, 0, 2),
        np.broadcast_to(np.int16(0), (2, 3, 64)),
    ],
    ids=["type", "shape", "order", "read-only"],
)
def test_the_core_is_given_no_other_array_than_it_expects(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="expected int16"):
        arrays.address(array, np.int16, (2, 3, 64), is_out=True)


def test_many_empty_tables_take_no_time() -> None:
    """A segment of thousands of tables is read once, not once for each."""
    tables = b"\xff\xc4\xff\xf0" + (bytes(17) * 4000)[:65518]
    data = FILES["grey"][:2] + tables * 20 + FILES["grey"][2:]
    start = time.monotonic()
    assert Parts.of(data).to_bytes() == data
    assert time.monotonic() - start < 5
