"""Compare what could code tiles where time is short: bytes, and MB of samples a second.

    python tests/bench/quick.py FOLDER... [--tile 512]

Every image of the FOLDERs (as ../shared/images/dev/natural) is taken as RGB of 8 bits, cut into
tiles, coded, decoded and compared.  Times are those of the processor, on one core.  The last row is
`archiver pack --profile quick` of the same samples, four times, as uncompressed TIFF, all included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zstandard
from PIL import Image
from rich.console import Console
from rich.table import Table

import archiver
from archiver.codec import jpeg_ls, quick
from archiver.codec.transforms.chain import Chain
from archiver.image import Samples
from archiver.jobs.spec import PackSettings

EFFORTS = (1, 2, 3, 4, 5, 7)
_HALF = np.uint8(128)


@dataclass(frozen=True)
class Candidate:
    """A way to code a tile, and back."""

    name: str
    encode: Callable[[Samples], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Samples]


def candidates() -> Iterator[Candidate]:
    """Yield what is compared."""
    for effort in EFFORTS:
        options = {"lossless": True, "effort": effort, "numthreads": 1}
        encode = partial(imagecodecs.jpegxl_encode, **options)
        yield Candidate(f"JPEG XL, effort {effort}", encode, _jpegxl)
    yield Candidate("JPEG-LS of G, R - G, B - G", _fixed, lambda data, _: _unfixed(data))
    yield Candidate("JPEG-LS, differences chosen", jpeg_ls.encode, _chosen)
    for method in (0, 1):
        webp = partial(imagecodecs.webp_encode, lossless=True, method=method)
        yield Candidate(
            f"WebP, method {method}", webp, lambda data, _: imagecodecs.webp_decode(data)
        )
    yield Candidate("QOI", imagecodecs.qoi_encode, lambda data, _: imagecodecs.qoi_decode(data))
    htj2k = partial(imagecodecs.htj2k_encode, reversible=True)
    yield Candidate("HTJ2K", htj2k, lambda data, _: imagecodecs.htj2k_decode(data))
    yield Candidate("zstd 1 of rows less the one above", _rows, _unrows)
    yield Candidate("zstd 3", lambda tile: zstandard.compress(tile.tobytes(), 3), _unzstd)
    yield Candidate("what `quick` takes", _quick, _unquick)


def _jpegxl(data: bytes, shape: tuple[int, ...]) -> Samples:
    return imagecodecs.jpegxl_decode(data, numthreads=1)


def _chosen(data: bytes, shape: tuple[int, ...]) -> Samples:
    return jpeg_ls.decode(data, (shape[0], shape[1], shape[2]), np.dtype(np.uint8))


def _quick(tile: Samples) -> bytes:
    coded = quick.encode(tile)
    return bytes([coded.codec]) + coded.payload


def _unquick(data: bytes, shape: tuple[int, ...]) -> Samples:
    sizes = shape[0], shape[1], shape[2]
    return Chain.of(data[0], data[1:], sizes, np.dtype(np.uint8)).decoded()


def _fixed(tile: Samples) -> bytes:
    red, green, blue = np.moveaxis(tile, -1, 0)
    planes = (np.ascontiguousarray(green), red - green + _HALF, blue - green + _HALF)
    streams = [bytes(imagecodecs.jpegls_encode(plane)) for plane in planes]
    return b"".join(len(stream).to_bytes(4, "little") + stream for stream in streams)


def _unfixed(data: bytes) -> Samples:
    planes = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        planes.append(imagecodecs.jpegls_decode(data[4:end]))
        data = data[end:]
    green, red, blue = planes
    return np.stack([red + green + _HALF, green, blue + green + _HALF], -1)


def _rows(tile: Samples) -> bytes:
    red, green, blue = np.moveaxis(tile, -1, 0)
    planes = np.stack([green, red - green, blue - green])
    return zstandard.compress(np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes(), 1)


def _unrows(data: bytes, shape: tuple[int, ...]) -> Samples:
    rows = _unzstd(data, (3, *shape[:2]))
    green, red, blue = np.cumsum(rows, axis=1, dtype=np.uint8)
    return np.stack([red + green, green, blue + green], -1)


def _unzstd(data: bytes, shape: tuple[int, ...]) -> Samples:
    return np.frombuffer(zstandard.decompress(data), np.uint8).reshape(shape)


def images(folders: Sequence[Path]) -> list[Samples]:
    """Return all images, as RGB."""
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def tiles(image: Samples, side: int) -> Iterator[Samples]:
    """Yield the parts that an image is cut into."""
    for row in range(0, image.shape[0], side):
        for column in range(0, image.shape[1], side):
            yield np.ascontiguousarray(image[row : row + side, column : column + side])


def measured(candidate: Candidate, parts: Sequence[Samples]) -> tuple[int, float, float]:
    """Return bytes, and seconds to encode and to decode; every tile is compared."""
    size, seconds = 0, [0.0, 0.0]
    for part in parts:
        started = time.process_time()
        data = candidate.encode(part)
        between = time.process_time()
        back = candidate.decode(data, part.shape)
        seconds[0] += between - started
        seconds[1] += time.process_time() - between
        if not np.array_equal(back, part):
            raise ValueError(f"{candidate.name}: decoded to other samples")
        size += len(data)
    return size, seconds[0], seconds[1]


def packed(of_images: Sequence[Samples]) -> tuple[float, float]:
    """Return the share of bytes and the MB/s of `archiver pack --profile quick`, on its second run.

    Each image is there four times, mirrored, so that what a run takes once counts for less.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        for number, image in enumerate(of_images):
            for name, mirrored in enumerate(
                (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
            ):
                path = source / f"{number:04}-{name}.tif"
                tifffile.imwrite(path, np.ascontiguousarray(mirrored), photometric="rgb")
        share = rate = 0.0
        for run in range(2):
            started = time.process_time()
            archive = Path(folder) / str(run)
            summary = archiver.pack(source, archive, PackSettings(profile="quick", workers=0))
            share = summary.payload_bytes / summary.input_bytes
            rate = summary.input_bytes / (time.process_time() - started) / 1e6
    return share, rate


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--tile", type=int, default=512)
    asked = parser.parse_args(arguments)
    of_images = images(asked.folders)
    parts = [part for image in of_images for part in tiles(image, asked.tile)]
    total = sum(part.nbytes for part in parts)
    table = Table(title=f"{len(of_images)} images, {total} bytes of samples, tile {asked.tile}")
    for header in ("coder", "bytes", "%", "MB/s to encode", "to decode", "both"):
        table.add_column(header, justify="left" if header == "coder" else "right")
    for candidate in candidates():
        size, encoding, decoding = measured(candidate, parts)
        rates = [f"{total / s / 1e6:.1f}" for s in (encoding, decoding, encoding + decoding)]
        table.add_row(candidate.name, str(size), f"{100 * size / total:.2f}", *rates)
    share, rate = packed(of_images)
    table.add_row("`archiver pack`", "", f"{100 * share:.2f}", "", "", f"{rate:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
