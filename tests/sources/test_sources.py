"""The front door: recognition, errors, JPEG, hostile residues, and a zoo of real files."""

from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from archiver.errors import ArchiverError, IntegrityError, SourceError, UsageError
from archiver.image import Image
from archiver.sources import (
    NO_FORMAT,
    Fidelity,
    Format,
    ParsedFile,
    decode_samples,
    jpeg,
    parse,
    rebuild,
)

ZOO = Path(__file__).parents[3] / "shared" / "images" / "zoo"


def photo(height: int = 40, width: int = 50) -> Pillow.Image:
    """Make a smooth colour image."""
    rng = np.random.default_rng(2)
    values = np.cumsum(rng.integers(-4, 5, (height, width, 3)), axis=1) + 128
    return Pillow.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParsedFile]:
    """One parsed file of every format; images are held in memory."""
    folder = tmp_path_factory.mktemp("formats")
    photo().save(folder / "a.png")
    photo().save(folder / "a.jpg", quality=90)
    photo().save(folder / "a.bmp")
    photo().save(folder / "lzw.tif", compression="tiff_lzw")
    tifffile.imwrite(folder / "a.tif", np.asarray(photo()), tile=(16, 16), compression="zlib")
    return {path.name: parse(path) for path in sorted(folder.iterdir())}


def test_opaque_is_untouched(tmp_path: Path) -> None:
    """Other content is opaque and says so, but for empty files; SHA-256 is of the file."""
    for data in (b"", b"\x89PN", b"hello", bytes(3 << 20)):
        path = tmp_path / "a"
        path.write_bytes(data)
        parsed = parse(path)
        note = NO_FORMAT if data else ""
        assert (parsed.format, parsed.note, parsed.residue) == (Format.OPAQUE, note, b"")
        assert parsed.sha256 == parsed.rebuilt_sha256 == hashlib.sha256(data).digest()
        assert parsed.size == len(data)
    assert b"".join(rebuild(Format.OPAQUE, b"abc", ())) == b"abc"


def test_unreadable_file(tmp_path: Path) -> None:
    """Only an operating system's refusal raises, and it names the file."""
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(SourceError, match=str(path)):
            parse(path)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg(tmp_path: Path, mode: str, how: dict[str, bool]) -> None:
    """A JPEG is the one tile of its image, and comes back byte for byte."""
    path = tmp_path / "a.jpg"
    photo().convert(mode).save(path, quality=90, **how)
    parsed = parse(path)
    assert (parsed.format, len(parsed.images)) == (Format.JPEG, 1)
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    with Pillow.open(path) as picture:
        samples = np.asarray(picture)
    np.testing.assert_array_equal(parsed.images[0].read().reshape(samples.shape), samples)


def test_jpeg_without_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG too large for a tile is transcoded, and its samples can be decoded."""
    monkeypatch.setattr(jpeg, "MAX_TILE_PIXELS", 100)
    path = tmp_path / "a.jpg"
    photo().save(path, quality=90, progressive=True)
    data = path.read_bytes()
    parsed = parse(path)
    assert (parsed.format, parsed.images) == (Format.JPEG, ())
    assert len(parsed.residue) < len(data)
    assert b"".join(rebuild(parsed.format, parsed.residue, ())) == data
    with Pillow.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(decode_samples(Format.JPEG, data)[0], np.asarray(picture))
    with pytest.raises(UsageError):
        decode_samples(Format.OPAQUE, data)


def test_a_jpeg_of_a_thousand_scans_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path, progressive=True)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[last:-2] * 1000 + data[-2:])
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda *_, **__: pytest.fail("decoded"))
    assert parse(path).images == ()


def test_jpeg_that_libjxl_refuses(tmp_path: Path) -> None:
    """A damaged JPEG stays opaque, and the note says so."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(100))
    assert parse(path).note == "JPEG: libjxl cannot transcode it"


def test_jpegs_too_large_for_libjxl_are_refused_before_it_allocates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path)
    monkeypatch.setattr(jpeg, "MAX_TILE_PIXELS", 1)
    residue = parse(path).residue
    monkeypatch.setattr(jpeg, "MAX_PIXELS", 1)
    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", lambda *_: pytest.fail("encoded"))
    monkeypatch.setattr(imagecodecs, "jpegxl_decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    assert parse(path).format is Format.OPAQUE
    with pytest.raises(IntegrityError, match="pixels"):
        b"".join(rebuild(Format.JPEG, residue, ()))


def test_a_second_frame_header_hides_no_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    photo().save(path)
    data = path.read_bytes()
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    huge = frame[:5] + b"\xff\xdc\xff\xdc" + frame[9:]
    path.write_bytes(data[:at] + huge + data[at:])
    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", lambda *_: pytest.fail("encoded"))
    assert "Mpixel" in parse(path).note


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "lzw.tif", "a.tif"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_hostile_residue(parsed: dict[str, ParsedFile], name: str, data: st.DataObject) -> None:
    """A residue with flipped, cut or inserted bytes gives other bytes or an ArchiverError."""
    victim = parsed[name]
    residue = bytearray(victim.residue)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(residue), 400) - 1))
        residue[at] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 9]))
    try:
        for _ in rebuild(victim.format, bytes(residue[: len(residue) - cut]), victim.images):
            pass
    except ArchiverError:
        pass


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "lzw.tif", "a.tif"])
def test_residue_with_wrong_images(parsed: dict[str, ParsedFile], name: str) -> None:
    """A residue refuses images that are not its own, other versions, and bytes behind its end."""
    victim = parsed[name]
    wrong = Image.from_array(np.zeros((3, 3, 3), np.uint8))
    cases = [(victim.residue, [wrong]), (b"", victim.images), (b"\2", victim.images)]
    cases.append((victim.residue, [wrong, wrong]))
    if victim.images:
        cases.append((victim.residue + b"?", list(victim.images)))
        cases.append((victim.residue, []))
    for residue, images in cases:
        with pytest.raises(IntegrityError):
            list(rebuild(victim.format, residue, images))


@pytest.mark.slow
@pytest.mark.beside("images/zoo")
@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_zoo(fidelity: Fidelity) -> None:
    """Odd and damaged files parse quickly without an error, and rebuild as promised."""
    folders = {Fidelity.BYTES: "*/*", Fidelity.SAMPLES: "[dtg]*/*"}
    for path in sorted(ZOO.glob(folders[fidelity])):
        begin = time.monotonic()
        parsed = parse(path, fidelity=fidelity)
        assert time.monotonic() - begin < 10, path
        pieces = rebuild(parsed.format, parsed.residue or path.read_bytes(), parsed.images)
        assert hashlib.sha256(b"".join(pieces)).digest() == parsed.rebuilt_sha256, path
        if fidelity is Fidelity.BYTES:
            assert parsed.rebuilt_sha256 == parsed.sha256, path


@pytest.mark.beside("images/zoo")
def test_zoo_is_rebuilt_from_samples() -> None:
    """At least nine of ten undamaged PNG files of PngSuite are images, not opaque bytes."""
    files = sorted((ZOO / "pngsuite").glob("[!x]*.png"))
    formats = [parse(path).format for path in files]
    assert formats.count(Format.PNG) >= 0.9 * len(files)
