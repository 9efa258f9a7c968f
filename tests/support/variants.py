"""Every kind of PNG and TIFF that Pillow and tifffile write, as small files of one picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

SHAPE = HEIGHT, WIDTH = 70, 90
Writer = Callable[[Path], object]

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
LIBTIFF_MODES = (
    "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "I;16B",
)  # fmt: skip
LIBTIFF_CODECS = (
    None, "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "lzma", "zstd", "webp",
    "jpeg", "tiff_ccitt", "group3", "group4", "tiff_raw_16",
)  # fmt: skip
DTYPES = ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16")
TIFFFILE_CODECS = (
    "none", "packbits", "lzw", "zlib", "deflate", "lzma", "zstd", "lerc", "jpeg", "jpeg2000",
    "jpegxl", "jpegxr", "webp", "png",
)  # fmt: skip


def write_all(folder: Path) -> list[Path]:
    """Write every variant below ``folder``; those that the writer refuses are left out."""
    written = []
    for name, write in itertools.chain(_png(), _libtiff(), _tifffile()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(path)
        except Exception:  # a writer's own way to say that it does not have this variant
            path.unlink(missing_ok=True)
        else:
            written.append(path)
    return written


def picture(dtype: str = "u1", channels: int = 3, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return samples (height, width, channels) with structure and noise, of the whole range."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(5).integers(0, 7, (*shape, channels))
    levels = (np.stack([x + (k + 1) * y for k in range(channels)], -1) + noise) % 256
    kind, size = np.dtype(dtype).kind, np.dtype(dtype).itemsize
    if kind == "b":
        return levels > 127
    if kind in "fc":
        return (levels / 7 - 9).astype(dtype)
    return ((levels - (128 if kind == "i" else 0)) * (1 if size == 1 else 173)).astype(dtype)


def pillow(mode: str) -> Pillow.Image:
    """Return the picture in a mode of Pillow."""
    rgb = Pillow.fromarray(picture())
    if mode == "P":
        return rgb.quantize(200)
    if mode in ("I;16", "I;16B"):
        grey = Pillow.fromarray(picture("u2", 1)[..., 0])
        return grey if mode == "I;16" else grey.convert("I").convert(mode)
    if mode == "I":
        return Pillow.fromarray(picture("i4", 1)[..., 0])
    return rgb.convert(mode)


def _png() -> Iterator[tuple[str, Writer]]:
    text = PngInfo()
    text.add_text("Comment", "stained")
    text.add_itxt("Notes", "gefärbt", "de", zip=True)
    options: dict[str, dict[str, object]] = {
        "default": {}, "optimised": {"optimize": True}, "dpi": {"dpi": (300, 300)},
        "text": {"pnginfo": text}, "icc": {"icc_profile": b"profile" * 40},
        **{f"level{n}": {"compress_level": n} for n in range(10)},
        **{f"type{n}": {"compress_type": n} for n in range(1, 5)},
    }  # fmt: skip
    for mode, (name, option) in itertools.product(PNG_MODES, options.items()):
        yield f"png/{_plain(mode)}-{name}.png", _save(mode, "PNG", **option)
    for mode, bits in itertools.product(("P",), (1, 2, 4, 8)):
        yield f"png/{mode}-{bits}bit.png", _save(mode, "PNG", bits=bits)
    for mode, clear in (("L", 7), ("P", 3), ("RGB", (1, 2, 3)), ("P", bytes(range(200)))):
        yield f"png/{mode}-clear-{type(clear).__name__}.png", _save(mode, "PNG", transparency=clear)
    yield "png/animated.png", _save("RGB", "PNG", save_all=True, append_images=[pillow("RGB")])


def _libtiff() -> Iterator[tuple[str, Writer]]:
    for mode, codec in itertools.product(LIBTIFF_MODES, LIBTIFF_CODECS):
        yield f"libtiff/{_plain(mode)}-{codec}.tif", _save(mode, "TIFF", compression=codec)
    for codec in (None, "tiff_lzw", "tiff_adobe_deflate"):
        big = {"compression": codec, "big_tiff": True}
        yield f"libtiff/big-{codec}.tif", _save("RGB", "TIFF", **big)
        several = {"compression": codec, "save_all": True, "append_images": [pillow("L")]}
        yield f"libtiff/pages-{codec}.tif", _save("RGB", "TIFF", **several)
        for predictor in (1, 2, 3):
            mode = "F" if predictor == 3 else "RGB"
            tagged = {"compression": codec, "tiffinfo": {317: predictor}}
            yield f"libtiff/predictor{predictor}-{codec}.tif", _save(mode, "TIFF", **tagged)
        narrow = {"compression": codec, "strip_size": 4096}
        yield f"libtiff/strips-{codec}.tif", _save("RGB", "TIFF", **narrow)


def _tifffile() -> Iterator[tuple[str, Writer]]:
    for dtype, codec in itertools.product(DTYPES, TIFFFILE_CODECS):
        for predictor in (False, True):
            name = f"tifffile/{_plain(dtype)}-{codec}{'-predictor' if predictor else ''}.tif"
            yield name, _imwrite(picture(dtype, 1)[..., 0], codec, predictor=predictor)
    layouts: dict[str, dict[str, object]] = {
        "strips": {"rowsperstrip": 9}, "tiles": {"tile": (32, 48)}, "bigtiff": {"bigtiff": True},
        "big-endian": {"byteorder": ">"}, "description": {"description": "µm, stained".encode()},
        "resolution": {"resolution": (4.0, 4.0), "resolutionunit": "CENTIMETER"},
        "tiles-big-endian": {"tile": (16, 16), "byteorder": ">", "bigtiff": True},
    }  # fmt: skip
    several = ("u1", 1), ("u1", 2), ("u1", 3), ("u1", 4), ("u1", 7), ("u2", 1), ("u2", 3), ("f4", 1)
    codecs = ("none", "lzw", "zlib", "packbits", "zstd")
    for (dtype, n), (layout, option), codec in itertools.product(several, layouts.items(), codecs):
        samples = picture(dtype, n)
        for planar in (False, True) if n > 1 else (False,):
            given = option | {
                "photometric": "rgb" if n in (3, 4) else "minisblack",
                "planarconfig": ("separate" if planar else "contig") if n > 1 else None,
            }
            name = f"tifffile/{dtype}x{n}-{layout}-{codec}{'-planar' if planar else ''}.tif"
            ordered = samples.transpose(2, 0, 1) if planar else samples.squeeze()
            yield name, _imwrite(ordered, codec, **given)
    yield from _stacks()


def _stacks() -> Iterator[tuple[str, Writer]]:
    stack = np.stack([picture("u2", 1)[..., 0] + k for k in range(6)])
    yield "tifffile/ome.ome.tif", _imwrite(stack, "zlib", metadata={"axes": "ZYX"})
    yield "tifffile/imagej.tif", _imwrite(stack, "none", imagej=True, metadata={"axes": "ZYX"})
    yield "tifffile/pages.tif", _imwrite(stack, "lzw")
    yield "tifffile/volume.tif", _imwrite(stack, "none", volumetric=True, tile=(2, 32, 32))
    yield (
        "tifffile/palette.tif",
        _imwrite(
            picture("u1", 1)[..., 0],
            "zlib",
            colormap=np.arange(768, dtype="u2").reshape(3, 256) * 7,
        ),
    )
    yield (
        "tifffile/white-is-zero.tif",
        _imwrite(picture("u1", 1)[..., 0], "none", photometric="miniswhite"),
    )
    yield "tifffile/pyramid.tif", _pyramid


def _pyramid(path: Path) -> None:
    whole = picture(shape=(128, 160))
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(whole, subifds=2, tile=(64, 64), compression="zlib", photometric="rgb")
        for step in (2, 4):
            part = np.ascontiguousarray(whole[::step, ::step])
            tif.write(part, subfiletype=1, tile=(32, 32), compression="zlib", photometric="rgb")


def _save(mode: str, kind: str, **options: object) -> Writer:
    return lambda path: pillow(mode).save(path, kind, **options)


def _imwrite(samples: np.ndarray, codec: str, **options: object) -> Writer:
    given = {"metadata": None, "compression": None if codec == "none" else codec} | options
    return lambda path: tifffile.imwrite(path, samples, **given)


def _plain(name: str) -> str:
    return "bool" if name == "?" else name.replace(";", "")
