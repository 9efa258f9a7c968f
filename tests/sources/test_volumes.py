"""NIfTI and NumPy files, gzipped or not: slices are images, the very bytes come back."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from trees import unplanned

from archiver.errors import IntegrityError
from archiver.sources import Fidelity, Format, ParsedFile, parse, rebuild
from archiver.sources.segmented import streams

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def volume(shape: tuple[int, ...], dtype: str = "i2") -> np.ndarray:
    """A smooth field with noise."""
    rng = np.random.default_rng(1)
    grid = sum(np.cos(axis / 5) for axis in np.ogrid[tuple(slice(n) for n in shape)])
    return np.asarray(20 * grid + 60 + rng.normal(0, 2, shape)).astype(dtype)


def check(path: Path, format: Format) -> ParsedFile:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is format, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4"])
@pytest.mark.parametrize("shape", [(20, 31), (20, 31, 5), (20, 31, 5, 3)])
def test_every_slice_of_a_volume_is_an_image(
    tmp_path: Path, kind: type, dtype: str, shape: tuple[int, ...]
) -> None:
    voxels = volume(shape, dtype)
    for name, format in (("a.nii", Format.NIFTI), ("b.nii.gz", Format.GZIP)):
        kind(voxels, AFFINE, dtype=voxels.dtype).to_filename(tmp_path / name)
        images = check(tmp_path / name, format).images
        slices = voxels.reshape(20, 31, -1, order="F")
        assert len(images) == slices.shape[2]
        for i, image in enumerate(images):
            assert np.array_equal(image.read()[..., 0].T, slices[:, :, i])


def test_colour_and_big_endian_volumes(tmp_path: Path) -> None:
    rgb = np.zeros((9, 12, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = volume((9, 12, 4), "u1")
    nibabel.Nifti1Image(rgb, AFFINE).to_filename(tmp_path / "rgb.nii")
    first = check(tmp_path / "rgb.nii", Format.NIFTI).images[0]
    assert np.array_equal(first.read()[..., 1].T, rgb["G"][..., 0])
    voxels = volume((9, 12, 4))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.Nifti1Image(voxels, AFFINE, header).to_filename(tmp_path / "big.nii")
    first = check(tmp_path / "big.nii", Format.NIFTI).images[0]
    assert np.array_equal(first.read()[..., 0].T, voxels[..., 0])


@pytest.mark.parametrize(
    ("shape", "n_images", "image_shape"),
    [
        ((20, 31), 1, (20, 31, 1)),
        ((20, 31, 3), 1, (20, 31, 3)),
        ((6, 20, 31), 6, (20, 31, 1)),
        ((2, 20, 31, 4), 2, (20, 31, 4)),
        ((2, 3, 20, 31), 6, (20, 31, 1)),
    ],
)
@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">u2", "<f2", "<i4", "<f4"])
def test_arrays_are_images(
    tmp_path: Path,
    shape: tuple[int, ...],
    n_images: int,
    image_shape: tuple[int, ...],
    dtype: str,
) -> None:
    array = volume(shape, "u1").astype(dtype)
    np.save(tmp_path / "a.npy", array)
    images = check(tmp_path / "a.npy", Format.NUMPY).images
    assert [image.shape for image in images] == [image_shape] * n_images
    stacked = np.stack([image.read() for image in images]).reshape(shape)
    assert np.array_equal(stacked.astype(dtype), array)


def test_an_array_in_fortran_order_is_read_as_it_lies(tmp_path: Path) -> None:
    array = np.asfortranarray(volume((31, 20, 6), "u2"))
    np.save(tmp_path / "a.npy", array)
    images = check(tmp_path / "a.npy", Format.NUMPY).images
    assert np.array_equal(images[2].read()[..., 0], array[:, :, 2].T)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_gzip_is_written_again_as_it_was(tmp_path: Path, level: int) -> None:
    buffer = io.BytesIO()
    np.save(buffer, volume((64, 64, 9)))
    with gzip.GzipFile(tmp_path / "a.npy.gz", "wb", level, mtime=1_600_000_000) as file:
        file.write(buffer.getvalue())
    check(tmp_path / "a.npy.gz", Format.GZIP)


def test_foreign_gzip_is_kept_or_compressed_again(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, volume((64, 64)))
    path = tmp_path / "a.npy.gz"
    whole = gzip.compress(buffer.getvalue())
    path.write_bytes(whole[:8] + unplanned(whole[8:]))  # ten bytes of header
    assert parse(path).format is Format.OPAQUE
    assert "not found" in parse(path).note
    again = parse(path, fidelity=Fidelity.SAMPLES)
    assert again.format is Format.GZIP
    assert again.fidelity is Fidelity.SAMPLES
    data = b"".join(rebuild(again.format, again.residue, again.images))
    assert gzip.decompress(data) == buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"no image at all" * 100, mtime=0),
        gzip.compress(b"", mtime=0),
        b"\x1f\x8b\x08" + bytes(40),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (9, 9), }",
    ],
)
def test_what_holds_no_image_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert parse(tmp_path / "a").format is Format.OPAQUE


def test_volumes_that_lie_about_their_size_are_kept(tmp_path: Path) -> None:
    nibabel.Nifti1Image(volume((20, 31, 5)), AFFINE).to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    for dims in ((3, 32767, 32767, 32767), (3, -5, 31, 5), (0, 0, 0, 0)):
        data[40:48] = np.array(dims, "<i2").tobytes()
        (tmp_path / "b.nii").write_bytes(data)
        assert parse(tmp_path / "b.nii").format is Format.OPAQUE
    np.save(tmp_path / "a.npy", np.zeros((20, 31), "u1"))
    cut = (tmp_path / "a.npy").read_bytes()[:-1]
    (tmp_path / "b.npy").write_bytes(cut)
    assert parse(tmp_path / "b.npy").format is Format.OPAQUE


def test_a_residue_of_another_format_inside_is_refused(tmp_path: Path) -> None:
    nibabel.Nifti1Image(volume((20, 31, 5)), AFFINE).to_filename(tmp_path / "a.nii.gz")
    parsed = check(tmp_path / "a.nii.gz", Format.GZIP)
    residue = parsed.residue[:1] + bytes([Format.PNG]) + parsed.residue[2:]
    with pytest.raises(IntegrityError, match="inside"):
        list(rebuild(parsed.format, residue, parsed.images))


def test_extensions_are_bytes_not_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(volume((20, 31, 2)), AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"stained by hand"))
    image.to_filename(path)
    monkeypatch.setattr(
        nibabel.nifti1.Nifti1Extensions, "from_fileobj", lambda *_: pytest.fail("parsed")
    )
    assert len(check(path, Format.NIFTI).images) == 2


def test_an_array_header_that_claims_much_is_not_read(tmp_path: Path) -> None:
    path, claimed = tmp_path / "a.npy", 1 << 26
    np.save(path, volume((20, 31)))
    check(path, Format.NUMPY)  # imports
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x02\0" + claimed.to_bytes(4, "little"))
        file.truncate(claimed + 100)
    tracemalloc.start()
    assert parse(path).format is Format.OPAQUE
    assert tracemalloc.get_traced_memory()[1] < claimed // 4
    tracemalloc.stop()


def test_a_gzip_one_byte_too_long_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, volume((40, 50)))
    raw = buffer.getvalue() + b"Z"
    path = tmp_path / "a.npy.gz"
    path.write_bytes(gzip.compress(raw))
    monkeypatch.setattr(streams, "MAX_WHOLE_BYTES", len(raw) - 1)
    monkeypatch.setattr(streams.deflate_settings, "find", lambda *_: None)
    assert parse(path, fidelity=Fidelity.SAMPLES).format is Format.OPAQUE
    monkeypatch.setattr(streams, "MAX_WHOLE_BYTES", len(raw))
    parsed = parse(path, fidelity=Fidelity.SAMPLES)
    rebuilt = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
    assert gzip.decompress(rebuilt) == raw
