"""The size that a JPEG XL stream declares is known before libjxl allocates for it."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from archiver import image_headers
from archiver.codec.classic import decode_jpegxl, encode_jpegxl
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.errors import IntegrityError

SIDES = [(1, 1), (8, 16), (256, 256), (264, 264), (512, 300), (120, 144), (3, 4000), (9000, 3)]
RATIOS = [(100, 120), (300, 400), (200, 300), (90, 160), (40, 50), (70, 140), (2000, 2000)]


def flat(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 7, np.uint8)


@pytest.mark.parametrize(("height", "width"), SIDES + RATIOS)
def test_sides_are_those_that_libjxl_wrote(height: int, width: int) -> None:
    image = flat(height, width)
    for container in (False, True):
        stream = imagecodecs.jpegxl_encode(image, lossless=True, effort=1, usecontainer=container)
        assert image_headers.sides(stream) == (height, width)
    transcoded = imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode(image))
    assert image_headers.sides(transcoded) == (height, width)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 5, 6])
def test_sides_are_joined_from_partial_boxes(first: int) -> None:
    stream = imagecodecs.jpegxl_encode(flat(600, 1000), lossless=True, effort=1, usecontainer=False)
    whole = imagecodecs.jpegxl_encode(flat(8, 8), lossless=True, effort=1, usecontainer=True)
    parts = (bytes(4) + stream[:first], b"\x80\0\0\1" + stream[first:])
    boxes = ((8 + len(piece)).to_bytes(4, "big") + b"jxlp" + piece for piece in parts)
    container = whole[:32] + b"".join(boxes)
    assert imagecodecs.jpegxl_decode(container).shape == (600, 1000)
    assert image_headers.sides(container) == (600, 1000)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff", b"\0\0\0\x0cJXL ", bytes(40)])
def test_what_is_no_jpeg_xl_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match="no JPEG XL"):
        image_headers.sides(data)


def test_a_stream_of_another_size_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", lambda *_, **__: pytest.fail("decoded"))
    payload = encode_jpegxl(flat(4000, 3000)[..., None], effort=1)
    assert payload is not None
    with pytest.raises(IntegrityError, match="64 x 64"):
        decode_jpegxl(payload, (64, 64, 1), np.dtype(np.uint8))


def test_a_huge_jpeg_is_nothing_for_libjxl(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0\0\0" + imagecodecs.jpeg8_encode(flat(104, 104))
    transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(data[3:]))
    monkeypatch.setattr(jpeg_tile, "MAX_PIXELS", 104 * 104 - 1)
    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", lambda *_: pytest.fail("encoded"))
    payload = jpeg_tile.encode(jpeg_tile.as_tile(data))
    assert payload[0] == jpeg_tile.Form.COEFFICIENTS
    assert jpeg_tile.decode(payload) == data
    monkeypatch.setattr(imagecodecs, "jpegxl_decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(IntegrityError, match="pixels"):
        jpeg_tile.decode(bytes([jpeg_tile.Form.JPEG_XL]) + data[:3] + transcoded)


def test_jpeg_tiles_too_large_for_libjxl_are_not_given_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every frame header counts: libjxl allocates for the first, other readers for the last."""
    stream = imagecodecs.jpeg8_encode(np.zeros((16, 24, 3), np.uint8))
    assert image_headers.jpeg_pixels(stream) == 16 * 24
    huge = stream[:2] + b"\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03" + bytes(9) + stream[2:]
    assert image_headers.jpeg_pixels(huge) == 0xFFDC**2
    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", lambda *_: pytest.fail("encoded"))
    tile = jpeg_tile.as_tile(bytes(3) + huge)
    assert jpeg_tile.encode(tile) == jpeg_tile.encode_as_is(tile)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 3), (40, 50, 1), (33, 47, 3), (256, 256, 3)])
@pytest.mark.parametrize("effort", [1, 3, 7])
def test_tiles_are_still(dtype: str, shape: tuple[int, int, int], effort: int) -> None:
    """What we write holds one image without extra channels, whatever its type and shape."""
    samples = np.random.default_rng(1).integers(0, 250, shape).astype(dtype)
    stream = encode_jpegxl(samples, effort=effort)
    assert stream is not None
    image_headers.check_still(stream)
    assert image_headers.sides(stream) == shape[:2]


def test_frames_and_extra_channels_are_refused_before_they_are_decoded() -> None:
    """A few bytes can declare a thousand frames or channels: each would take room of its own."""
    frames = bytes(
        imagecodecs.jpegxl_encode(
            np.zeros((30, 64, 64), "u1"), lossless=True, effort=1, photometric="gray"
        )
    )
    with pytest.raises(IntegrityError, match="several frames"):
        decode_jpegxl(frames, (64, 64, 1), np.dtype("u1"))
    alpha = bytes(imagecodecs.jpegxl_encode(np.zeros((64, 64, 4), "u1"), lossless=True, effort=3))
    with pytest.raises(ValueError, match="extra channels"):
        image_headers.check_still(alpha)
