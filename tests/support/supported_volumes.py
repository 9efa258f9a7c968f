"""Small files of the rows of SUPPORTED.md: DICOM, volumes and arrays, added to the others."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import metaimageio
import nibabel
import nrrd
import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate
from supported_files import DEEP, EXAMPLES, FLOATS, GREY, RGB, VOLUME, bundled, example
from trees import dicom_dataset
from variants import picture

__all__ = ["EXAMPLES", "HEADERS"]

HEADERS = (".hdr", ".nhdr", ".mhd")  # files that describe another one, and are kept
AFFINE = np.eye(4)

# --- DICOM ---------------------------------------------------------------------------------------

Encode = Callable[[np.ndarray], bytes]


def dicom(path: Path, frames: np.ndarray, syntax: str, encode: Encode | None = None,
          **header: object) -> None:  # fmt: skip
    """Write frames (F, H, W) or (F, H, W, C), each encoded, if it is said how."""
    dataset = dicom_dataset(frames, syntax)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    data = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = encapsulate([encode(f) for f in frames]) if encode else data
    dataset["PixelData"].VR = "OW" if frames.dtype.itemsize > 1 and not encode else "OB"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def compressed(variant: str, syntax: str, frames: np.ndarray, encode: Encode) -> None:
    """Register a row of DICOM with encoded frames."""

    @example("DICOM", variant)
    def write(folder: Path) -> None:
        dicom(folder / "a.dcm", frames, syntax, encode)


@example("DICOM", "native: 8 to 64 bits, floats, planes, either byte order")
def _native(folder: Path) -> None:
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        dicom(folder / f"{syntax}.dcm", VOLUME, syntax)
    planes = RGB[None].transpose(0, 3, 1, 2).reshape(RGB[None].shape)
    dicom(folder / "planes.dcm", planes, uid.ExplicitVRLittleEndian, PlanarConfiguration=1)


@example("DICOM", "native: 1 bit")
def _one_bit(folder: Path) -> None:
    bits = np.packbits(GREY > 99, bitorder="little")
    how = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    rows, columns = GREY.shape
    packed = np.resize(bits, (1, 1, bits.size + bits.size % 2))
    how |= {"Rows": rows, "Columns": columns}
    dicom(folder / "a.dcm", packed, uid.ExplicitVRLittleEndian, **how)


@example("DICOM", "native: YBR_FULL_422")
def _halved(folder: Path) -> None:
    y, chroma = GREY.reshape(-1, 2), GREY.reshape(-1, 2) // 2
    pixels = np.hstack([y, chroma]).reshape(1, GREY.shape[0], 2 * GREY.shape[1])
    how = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "Columns": GREY.shape[1]}
    kind = {"PhotometricInterpretation": "YBR_FULL_422"}
    dicom(folder / "a.dcm", pixels, uid.ExplicitVRLittleEndian, **how, **kind)


@example("DICOM", "native: bytes in words, big endian")
def _swapped(folder: Path) -> None:
    dataset = dicom_dataset(GREY[None], uid.ExplicitVRBigEndian)
    dataset.PixelData = GREY.reshape(-1, 2)[:, ::-1].tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(folder / "a.dcm", dataset, enforce_file_format=True)


@example("DICOM", "RLE")
def _rle(folder: Path) -> None:
    dicom(folder / "a.dcm", VOLUME, uid.ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(folder / "a.dcm")
    dataset.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.save_as(folder / "a.dcm")


@example("DICOM", "lossless JPEG (.57, .70), JPEG-LS (.80, .81)")
def _lossless(folder: Path) -> None:
    lossless = bundled("SC_rgb_jpeg_gdcm.dcm")
    samples = imagecodecs.ljpeg_decode(lossless)[None]
    dicom(folder / "jpeg.dcm", samples, uid.JPEGLosslessSV1, lambda _: lossless)
    dicom(folder / "ls.dcm", VOLUME, uid.JPEGLSLossless, lambda f: imagecodecs.jpegls_encode(f))


compressed(
    "reversible JPEG 2000 (.90, .91)",
    *(uid.JPEG2000Lossless, VOLUME),
    lambda f: bytes(imagecodecs.jpeg2k_encode(f, level=0, reversible=True, codecformat="j2k")),
)
compressed(
    "irreversible JPEG 2000",
    *(uid.JPEG2000, RGB[None]),
    lambda f: bytes(imagecodecs.jpeg2k_encode(f, level=40, reversible=False, codecformat="j2k")),
)
compressed(
    "HTJ2K as OpenJPH writes it (.201 to .203)",
    *(uid.HTJ2KLossless, VOLUME),
    lambda f: bytes(imagecodecs.htj2k_encode(f)),
)
compressed(
    "baseline JPEG of 8 bits (.50)",
    *(uid.JPEGBaseline8Bit, GREY[None]),
    lambda f: bytes(imagecodecs.jpeg8_encode(f)),
)
compressed(
    "JPEG of 12 bits, MPEG, JPEG XL",
    *(uid.JPEGExtended12Bit, VOLUME),
    lambda f: bytes(imagecodecs.jpeg8_encode(f >> 4, bitspersample=12)),
)


@example("DICOM", "without pixels: reports, plans, directories")
def _report(folder: Path) -> None:
    dataset = dicom_dataset(GREY[None], uid.ExplicitVRLittleEndian)
    pydicom.dcmwrite(folder / "a.dcm", dataset, enforce_file_format=True)


@example("DICOM_DEFLATED", "deflated elements")
def _deflated(folder: Path) -> None:
    dicom(folder / "a.dcm", VOLUME, uid.DeflatedExplicitVRLittleEndian)


# --- volumes and arrays --------------------------------------------------------------------------


@example("NIFTI", "`.nii`, versions 1 and 2, any integers and floats, RGB")
def _nifti(folder: Path) -> None:
    for number, kind in enumerate((nibabel.Nifti1Image, nibabel.Nifti2Image)):
        for voxels in (VOLUME, VOLUME.astype("f4"), VOLUME.astype("u1")):
            image = kind(voxels, AFFINE, dtype=voxels.dtype)
            image.to_filename(folder / f"{number}-{voxels.dtype}.nii")


@example("NIFTI", "`.img` beside its `.hdr` (NIfTI, Analyze 7.5)")
def _pair(folder: Path) -> None:
    nibabel.Nifti1Pair(VOLUME, AFFINE).to_filename(folder / "a.img")
    nibabel.AnalyzeImage(VOLUME.astype("i2"), AFFINE).to_filename(folder / "b.img")


@example("NUMPY", "`.npy` of two and more dimensions")
def _npy(folder: Path) -> None:
    for number, array in enumerate((GREY, RGB, VOLUME, np.asfortranarray(FLOATS))):
        np.save(folder / f"{number}.npy", array)


@example("NUMPY", "one dimension, records, objects, complex numbers")
def _other_npy(folder: Path) -> None:
    np.save(folder / "a.npy", GREY.ravel())
    np.save(folder / "b.npy", picture("c8", 1)[..., 0])


@example("GZIP", "NIfTI, NRRD, MetaImage, MGH, NumPy, DICOM inside")
def _gzip(folder: Path) -> None:
    nibabel.Nifti1Image(VOLUME, AFFINE).to_filename(folder / "a.nii.gz")
    nibabel.MGHImage(VOLUME.astype("i2"), AFFINE).to_filename(folder / "a.mgz")
    for name, format in (("a.npy", "NUMPY"), ("a.dcm", "DICOM")):
        np.save(folder / name, DEEP) if format == "NUMPY" else dicom(
            folder / name, VOLUME, uid.ExplicitVRLittleEndian
        )
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()


@example("GZIP", "anything else inside")
def _other_gzip(folder: Path) -> None:
    (folder / "a.csv.gz").write_bytes(gzip.compress(b"slide,stain\n1,H&E\n" * 50))


@example("NRRD", "raw or gzip, alone or beside its header")
def _nrrd(folder: Path) -> None:
    nrrd.write(str(folder / "a.nrrd"), VOLUME, header={"encoding": "raw"})
    nrrd.write(str(folder / "b.nrrd"), VOLUME, header={"encoding": "gzip"})
    nrrd.write(str(folder / "c.nhdr"), VOLUME, header={"encoding": "raw"})


@example("NRRD", "bzip2, text, hexadecimal")
def _other_nrrd(folder: Path) -> None:
    nrrd.write(str(folder / "a.nrrd"), VOLUME, header={"encoding": "bzip2"})
    nrrd.write(str(folder / "b.nrrd"), VOLUME, header={"encoding": "ASCII"})


@example("METAIMAGE", "`.mha`, and `.mhd` beside its data, raw or zlib")
def _metaimage(folder: Path) -> None:
    metaimageio.write(folder / "a.mha", VOLUME, CompressedData=False)
    metaimageio.write(folder / "b.mha", VOLUME, CompressedData=True)
    metaimageio.write(folder / "c.mhd", VOLUME, CompressedData=False)


@example("METAIMAGE", "text")
def _text(folder: Path) -> None:
    metaimageio.write(folder / "a.mha", VOLUME, CompressedData=False)
    data = (folder / "a.mha").read_bytes().replace(b"BinaryData = True", b"BinaryData = False")
    (folder / "a.mha").write_bytes(data)


@example("MGH", "`.mgh` of FreeSurfer; `.mgz` is GZIP")
def _mgh(folder: Path) -> None:
    nibabel.MGHImage(VOLUME.astype("i2"), AFFINE).to_filename(folder / "a.mgh")


@example("OPAQUE", "headers whose voxels are in a file beside them")
def _headers(folder: Path) -> None:
    nibabel.Nifti1Pair(VOLUME, AFFINE).to_filename(folder / "a.img")
    (folder / "a.img").unlink()
    nrrd.write(str(folder / "b.nhdr"), VOLUME, header={"encoding": "raw"})
    (folder / "b.raw").unlink()
    metaimageio.write(folder / "c.mhd", VOLUME)
    (folder / "c.raw").unlink(missing_ok=True)
    (folder / "c.zraw").unlink(missing_ok=True)
