"""Small files of the rows of SUPPORTED.md: what writes them, by format and variant.

Those of DICOM, of volumes and arrays are in ``supported_volumes``.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import tifffile
from PIL import Image as Pillow
from pydicom.encaps import generate_frames
from variants import picture, pillow

Row = tuple[str, str]  # format and variant
Writer = Callable[[Path], None]  # of one file and more into a folder
EXAMPLES: dict[Row, Writer] = {}
RGB, GREY = picture(), picture("u1", 1)[..., 0]
DEEP, FLOATS = picture("u2", 1)[..., 0], picture("f4", 1)[..., 0]
VOLUME = np.stack([DEEP + k for k in range(4)])
COMPRESSION, PHOTOMETRIC, BITS = 259, 262, 258  # tags of TIFF


def example(format: str, variant: str) -> Callable[[Writer], Writer]:
    """Register what writes the files of a row."""

    def register(write: Writer) -> Writer:
        EXAMPLES[format, variant] = write
        return write

    return register


def tiffs(variant: str, **options: dict[str, object]) -> None:
    """Register TIFF files of a row, by what tifffile is asked for."""

    @example("TIFF", variant)
    def write(folder: Path) -> None:
        for name, option in options.items():
            given = {"metadata": None, "data": RGB} | option
            tifffile.imwrite(folder / f"{name}.tif", given.pop("data"), **given)


def libtiffs(variant: str, **modes: str) -> None:
    """Register TIFF files of a row that libtiff writes: a mode of Pillow by compression."""

    @example("TIFF", variant)
    def write(folder: Path) -> None:
        for compression, mode in modes.items():
            pillow(mode).save(folder / f"{compression}.tif", compression=compression)


def patched(variant: str, tag: int, value: object, **option: object) -> None:
    """Register a TIFF file of a row that claims something else in a tag."""

    @example("TIFF", variant)
    def write(folder: Path) -> None:
        given = {"metadata": None, "data": RGB} | option
        tifffile.imwrite(folder / "a.tif", given.pop("data"), **given)
        with tifffile.TiffFile(folder / "a.tif", mode="r+b") as file:
            file.pages[0].tags[tag].overwrite(value)


# --- PNG -----------------------------------------------------------------------------------------


@example("PNG", "grey, palette, RGB, alpha; 1 to 16 bits")
def _png(folder: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        pillow(mode).save(folder / f"{mode.replace(';', '')}.png")


@example("PNG", "interlaced")
def _interlaced(folder: Path) -> None:
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    steps = [GREY[y::dy, x::dx] for y, x, dy, dx in (*starts, (1, 0, 2, 1))]
    rows = b"".join(b"\0" + row.tobytes() for step in steps for row in step)
    header = struct.pack(">IIBBBBB", GREY.shape[1], GREY.shape[0], 8, 0, 0, 0, 1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@example("PNG", "animated")
def _animated(folder: Path) -> None:
    pillow("RGB").save(folder / "a.png", save_all=True, append_images=[pillow("RGB").rotate(9)])


@example("PNG", "damaged image data")
def _damaged(folder: Path) -> None:
    pillow("RGB").save(folder / "a.png")
    data = bytearray((folder / "a.png").read_bytes())
    data[data.find(b"IDAT") + 40] ^= 1
    (folder / "a.png").write_bytes(data)


# --- TIFF ----------------------------------------------------------------------------------------

tiffs(
    "plain strips or tiles, either byte order, BigTIFF",
    strips={"rowsperstrip": 9},
    tiles={"tile": (32, 48)},
    big_endian={"byteorder": ">", "data": DEEP},
    bigtiff={"bigtiff": True},
)
tiffs("channels in planes, pages, sub-IFDs (pyramids)",
    planes={"data": RGB.transpose(2, 0, 1), "planarconfig": "separate", "photometric": "rgb"},
    pages={"data": VOLUME, "photometric": "minisblack"},
)  # fmt: skip
tiffs(
    "stack under one IFD (ImageJ, MetaMorph, tifffile)",
    imagej={"data": VOLUME, "imagej": True, "metadata": {"axes": "ZYX"}},
)
tiffs(
    "1 to 16, 32 or 64 bits, integers, with sign or without",
    **{kind: {"data": picture(kind, 1)[..., 0]} for kind in ("u1", "i1", "u2", "i4", "u8")},
    bits={"data": GREY > 99},
)
tiffs(
    "floats of 16, 32, 64 bits; complex numbers",
    **{kind: {"data": picture(kind, 1)[..., 0]} for kind in ("f2", "f4", "f8", "c8")},
)
patched("floats of 24 bits", BITS, 24, data=FLOATS)
patched("old-style JPEG (compression 6)", COMPRESSION, 6)
patched("subsampled YCbCr that is not JPEG", PHOTOMETRIC, 6, photometric="rgb")
libtiffs("fax: CCITT RLE, group 3, group 4", tiff_ccitt="1", group3="1", group4="1")
libtiffs("JPEG of four channels", jpeg="CMYK")
for _name, _codec in (
    ("LZW, as libtiff or imagecodecs writes it", "lzw"),
    ("PackBits", "packbits"),
):

    @example("TIFF", _name)
    def _both(folder: Path, codec: str = _codec) -> None:
        tifffile.imwrite(folder / "a.tif", RGB, compression=codec, metadata=None)
        libtiff = {"lzw": "tiff_lzw"}.get(codec, codec)
        pillow("RGB").save(folder / "b.tif", compression=libtiff)


tiffs(
    "deflate, predictors 1 to 3",
    **{f"p{n}": {"compression": "zlib", "predictor": n, "data": DEEP} for n in (1, 2)},
    p3={"compression": "zlib", "predictor": 3, "data": FLOATS},
)
tiffs("Zstandard", a={"compression": "zstd"})
tiffs("LZMA", a={"compression": "lzma"})
tiffs(
    "LERC, alone or inside deflate or Zstandard",
    alone={"compression": "lerc", "data": DEEP},
    deflate={"compression": "lerc", "compressionargs": {"compression": "deflate"}, "data": DEEP},
    zstd={"compression": "lerc", "compressionargs": {"compression": "zstd"}, "data": DEEP},
)
tiffs(
    "JPEG of 8 bits: grey, RGB, YCbCr",
    grey={"compression": "jpeg", "data": GREY},
    colour={"compression": "jpeg", "tile": (64, 64)},
)
_REVERSIBLE, _LOSSY = {"reversible": True, "level": 0}, {"reversible": False, "level": 40}
tiffs(
    "reversible JPEG 2000, also Aperio's",
    a={"compression": "jpeg2000", "compressionargs": _REVERSIBLE},
    aperio={"compression": 33005, "compressionargs": _REVERSIBLE, "tile": (64, 64)},
)
tiffs(
    "irreversible JPEG 2000, also Aperio's",
    a={"compression": "jpeg2000", "compressionargs": _LOSSY},
)
tiffs(
    "PNG, WebP, JPEG XL inside",
    **{name: {"compression": name} for name in ("png", "webp", "jpegxl")},
)
tiffs("JPEG XR and all other compressions", a={"compression": "jpegxr"})


@example("TIFF", "bits of a byte in reversed order")
def _reversed(folder: Path) -> None:
    tags = [(65000, "H", 1, 2, True)]  # tifffile does not write FillOrder
    tifffile.imwrite(folder / "a.tif", GREY, extratags=tags, metadata=None)
    data = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(data.replace(struct.pack("<H", 65000), struct.pack("<H", 266)))


tiffs(
    "thousands of tiny pages or strips",
    a={"data": np.zeros((3000, 1), np.uint8), "rowsperstrip": 1, "compression": "lzw"},
)

# --- JPEG and JPEG 2000 --------------------------------------------------------------------------


def _jpeg(mode: str = "RGB", **how: object) -> bytes:
    file = io.BytesIO()
    pillow(mode).save(file, "JPEG", **how)
    return file.getvalue()


def bundled(name: str) -> bytes:
    """Return the first frame of a DICOM file that comes inside pydicom."""
    dataset = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / name)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def one_file(row: Row, name: str, content: Callable[[], bytes]) -> None:
    """Register a row of one file."""

    @example(*row)
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content())


@example("JPEG", "baseline, one scan: grey, 4:4:4, 4:2:2, 4:2:0")
def _baseline(folder: Path) -> None:
    (folder / "grey.jpg").write_bytes(_jpeg("L"))
    for subsampling in range(3):
        (folder / f"{subsampling}.jpg").write_bytes(_jpeg(subsampling=subsampling))


one_file(("JPEG", "progressive, or of several scans"), "a.jpg", lambda: _jpeg(progressive=True))
one_file(("JPEG", "lossless (process 14)"), "a.jpg", lambda: bundled("SC_rgb_jpeg_gdcm.dcm"))


@example("JPEG", "over 16 Mpixel")
def _large(folder: Path) -> None:
    Pillow.new("L", (4100, 4100), 9).save(folder / "a.jpg")


@example("JPEG", "CMYK; 12 bits; arithmetic coding")
def _odd_jpeg(folder: Path) -> None:
    (folder / "cmyk.jpg").write_bytes(_jpeg("CMYK"))
    (folder / "12.jpg").write_bytes(imagecodecs.jpeg8_encode(DEEP >> 4, bitspersample=12))


one_file(
    ("JPEG_2000", "`.jp2`, `.j2k`: reversible, up to 16 bits a sample"),
    "a.jp2",
    lambda: bytes(imagecodecs.jpeg2k_encode(RGB, level=0, reversible=True)),
)
one_file(
    ("JPEG_2000", "irreversible"),
    "a.jp2",
    lambda: bytes(imagecodecs.jpeg2k_encode(RGB, level=40, reversible=False)),
)


@example("JPEG_LS", "grey, or colour sample by sample")
def _jpeg_ls(folder: Path) -> None:
    (folder / "grey.jls").write_bytes(imagecodecs.jpegls_encode(DEEP))
    (folder / "colour.jls").write_bytes(imagecodecs.jpegls_encode(RGB))


one_file(
    ("JPEG_LS", "colour line by line or in several scans"),
    "a.jls",
    lambda: bundled("SC_rgb_jls_lossy_line.dcm"),
)


# --- BMP, PNM and what is in no format ------------------------------------------------------------


@example("BITMAP", "BMP of 1, 2, 4, 8, 24, 32 bits, not compressed")
def _bmp(folder: Path) -> None:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        pillow(mode).save(folder / f"{mode}.bmp")


@example("BITMAP", "BMP of 16 bits, or run-length coded")
def _other_bmp(folder: Path) -> None:
    pillow("L").save(folder / "rle.bmp")
    data = bytearray((folder / "rle.bmp").read_bytes())
    (folder / "16.bmp").write_bytes(bytes([*data[:28], 16, *data[29:]]))
    (folder / "rle.bmp").write_bytes(bytes([*data[:30], 1, *data[31:]]))


@example("BITMAP", "PNM in binary: P4, P5, P6; 1, 8, 16 bits")
def _pnm(folder: Path) -> None:
    for mode, suffix in (("1", "pbm"), ("L", "pgm"), ("RGB", "ppm"), ("I;16", "pgm")):
        pillow(mode).save(folder / f"{mode.replace(';', '')}.{suffix}")


@example("OPAQUE", "WebP, JPEG XL, HEIC, CZI, HDF5, text, tables, archives")
def _opaque(folder: Path) -> None:
    pillow("RGB").save(folder / "a.webp", lossless=True)
    (folder / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(RGB, lossless=True))
    (folder / "a.csv").write_text("slide,stain\n1,H&E\n", encoding="utf-8")
