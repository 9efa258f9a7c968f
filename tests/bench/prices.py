"""Compare size and price on five kinds of data: bytes and processor seconds, ours and the peers'.

    python tests/bench/prices.py SLIDE.svs PHOTOGRAPHS CT [--kind volumes] [--csv FILE]

SLIDE.svs is a slide of JPEG tiles, of which the patches are cut, too; PHOTOGRAPHS and CT are
folders of image files, every fourth and every tenth of which is taken.  The volumes come inside
nibabel.  `archiver` packs and unpacks the files in one process, which writes, verifies and compares
them; its bytes are those of the shards: samples and all else of the files, without the models and
the index (12 bytes a tile, some 20 KB for an archive).  The others get the samples alone, in
memory, one image after the other.

Seconds are those that the processor spends in this process (``time.process_time``), whatever else
the machine does; divided by the pixels they are the price.  Rows are appended to the CSV file.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import tifffile
import zstandard
from PIL import Image
from rich.console import Console

import archiver
from archiver import sources
from archiver.jobs.spec import PackSettings

HERE, CONSOLE = Path(__file__).parent, Console(stderr=True)
SIDE = 256  # of a patch
PATCH_STEP, PHOTOGRAPH_STEP, CT_STEP = 7, 4, 10  # the first: no whole column of the slide
VOLUMES = ("anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz")
PROFILES = ("fast", "balanced")
Coder = Callable[[np.ndarray], bytes]


@dataclass(frozen=True)
class Row:
    """What one coder made of one kind of data."""

    kind: str
    coder: str
    files: int
    pixels: int
    input_bytes: int
    bytes: int
    encode_s: float
    decode_s: float


def _jpegxl(effort: int) -> Coder:
    return lambda a: imagecodecs.jpegxl_encode(a, lossless=True, effort=effort, numthreads=1)


def _webp(image: np.ndarray) -> bytes:
    return bytes(imagecodecs.webp_encode(image, lossless=True, level=100, method=6))


def _jpeg2000(image: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(image, level=0, reversible=True, codecformat="j2k"))


PEERS: dict[str, tuple[Coder, Callable[[bytes], np.ndarray]]] = {
    "JPEG XL 7": (_jpegxl(7), imagecodecs.jpegxl_decode),
    "JPEG XL 9": (_jpegxl(9), imagecodecs.jpegxl_decode),
    "JPEG 2000": (_jpeg2000, imagecodecs.jpeg2k_decode),
    "PNG 9": (lambda a: imagecodecs.png_encode(a, level=9), imagecodecs.png_decode),
    "WebP": (_webp, imagecodecs.webp_decode),
    "JPEG-LS": (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
}
ALWAYS = ("JPEG XL 7", "JPEG XL 9", "JPEG 2000", "PNG 9")
BESIDE = {"photographs": ("WebP",), "CT slices": ("JPEG-LS",), "volumes": ("JPEG-LS",)}
MAKERS: dict[str, Callable[[argparse.Namespace, Path], None]] = {}


def maker(kind: str) -> Callable[[Callable[[argparse.Namespace, Path], None]], None]:
    """Register what writes the files of one kind into a folder."""
    return lambda make: MAKERS.update({kind: make})


@maker("slide")
def _slide(asked: argparse.Namespace, folder: Path) -> None:
    shutil.copy(asked.slide, folder)


@maker("patches")
def _patches(asked: argparse.Namespace, folder: Path) -> None:
    whole = tifffile.imread(asked.slide, key=0)
    rows, columns = (range(0, n - SIDE + 1, SIDE) for n in whole.shape[:2])
    corners = [(row, column) for row in rows for column in columns]
    for row, column in corners[::PATCH_STEP]:
        patch = whole[row : row + SIDE, column : column + SIDE]
        Image.fromarray(patch).save(folder / f"{row:05}-{column:05}.png")


@maker("volumes")
def _volumes(_: argparse.Namespace, folder: Path) -> None:
    home = Path(nibabel.__file__).parent / "tests" / "data"
    for name in VOLUMES:
        shutil.copy(home / name, folder)


@maker("photographs")
def _photographs(asked: argparse.Namespace, folder: Path) -> None:
    for path in sorted(asked.photographs.iterdir())[::PHOTOGRAPH_STEP]:
        shutil.copy(path, folder)


@maker("CT slices")
def _ct(asked: argparse.Namespace, folder: Path) -> None:
    for path in sorted(asked.ct.iterdir())[::CT_STEP]:
        shutil.copy(path, folder)


def images(folder: Path) -> Iterator[np.ndarray]:
    """Yield the images of all files, (H, W) or (H, W, 3), of unsigned integers."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".svs":
            with tifffile.TiffFile(path) as file:
                yield from (page.asarray() for page in file.pages)
            continue
        for image in sources.parse(path).images:
            samples = np.ascontiguousarray(image.read().squeeze())
            yield samples if samples.dtype.kind == "u" else _unsigned(samples)


def _unsigned(samples: np.ndarray) -> np.ndarray:
    """Return integers as unsigned ones in the same order, which all the coders take."""
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    return unsigned ^ unsigned.dtype.type(1 << 8 * samples.dtype.itemsize - 1)


def timed(work: Callable[[], list[bytes]]) -> tuple[list[bytes], float]:
    """Return what ``work`` does, and the processor seconds of this process that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def of_samples(name: str, inputs: Sequence[np.ndarray]) -> tuple[int, float, float]:
    """Return bytes, encode and decode seconds of a peer that codes samples."""
    encode, decode = PEERS[name]
    coded, encode_s = timed(lambda: [encode(image) for image in inputs])
    start = time.process_time()
    decoded = [decode(data) for data in coded]
    decode_s = time.process_time() - start
    if not all(np.array_equal(a.squeeze(), b) for a, b in zip(decoded, inputs, strict=True)):
        raise SystemExit(f"{name}: an image does not decode to itself")
    return sum(map(len, coded)), encode_s, decode_s


def of_files(folder: Path, name: str) -> tuple[int, float, float]:
    """Return bytes, encode and decode seconds of a general compressor of all files, one after
    the other as tar has them."""
    joined = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    if name == "tar, zstd 19":
        encode, decode = zstandard.ZstdCompressor(19).compress, zstandard.decompress
    else:
        encode, decode = lzma.compress, lzma.decompress
    [coded], encode_s = timed(lambda: [encode(joined)])
    _, decode_s = timed(lambda: [decode(coded)])
    return len(coded), encode_s, decode_s


def transcoded(slide: Path) -> tuple[int, float, float]:
    """Return what libjxl makes of a slide: JPEG tiles transcoded, other pages as samples."""
    jpegs, pages = [], []
    with tifffile.TiffFile(slide) as file:
        for page in file.pages:
            if page.jpegtables is None:
                pages.append(page.asarray())
                continue
            for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.filehandle.seek(offset)
                jpegs.append(page.jpegtables[:-2] + file.filehandle.read(length)[2:])
    transcode = imagecodecs.jpegxl_encode_jpeg
    coded, encode_s = timed(lambda: [transcode(jpeg, numthreads=1) for jpeg in jpegs])
    decoded, decode_s = timed(lambda: [imagecodecs.jpegxl_decode_jpeg(c) for c in coded])
    if decoded != jpegs:
        raise SystemExit("libjxl: a JPEG does not come back")
    rest = of_samples("JPEG XL 9", pages)
    return sum(map(len, coded)) + rest[0], encode_s + rest[1], decode_s + rest[2]


def of_archiver(folder: Path, profile: str) -> tuple[int, float, float]:
    """Return bytes of the shards, pack and unpack seconds of `archiver`."""
    with tempfile.TemporaryDirectory() as scratch:
        target, settings = Path(scratch) / "a.archive", PackSettings(profile=profile, workers=0)
        start = time.process_time()
        summary = archiver.pack(folder, target, settings)
        middle = time.process_time()
        archiver.unpack(target, Path(scratch) / "restored", workers=0)
        end = time.process_time()
        for path in folder.iterdir():
            if (Path(scratch) / "restored" / path.name).read_bytes() != path.read_bytes():
                raise SystemExit(f"archiver: {path.name} does not come back")
        n_bytes = sum(shard.stat().st_size for shard in (target / "shards").iterdir())
    CONSOLE.print(profile, dict(summary.tiles), summary.payload_bytes - n_bytes)
    return n_bytes, middle - start, end - middle


def rows(kind: str, folder: Path) -> Iterator[Row]:
    """Yield what every coder makes of the files of a folder."""
    inputs = list(images(folder))
    pixels = sum(image.shape[0] * image.shape[1] for image in inputs)
    paths = list(folder.iterdir())
    n_bytes = sum(path.stat().st_size for path in paths)

    def row(coder: str, result: tuple[int, float, float]) -> Row:
        found = Row(kind, coder, len(paths), pixels, n_bytes, *result)
        CONSOLE.print(found)
        return found

    yield row("as it is", (n_bytes, 0.0, 0.0))
    for profile in PROFILES:
        yield row(f"archiver {profile}", of_archiver(folder, profile))
    if kind == "slide":
        yield row("JPEG XL of JPEG", transcoded(paths[0]))
    else:
        for name in (*ALWAYS, *BESIDE.get(kind, ())):
            yield row(name, of_samples(name, inputs))
    for name in ("tar, zstd 19", "tar, xz 6"):
        yield row(name, of_files(folder, name))


def warm_up() -> None:
    """Compile the loops and load the models, so that no kind pays for that."""
    with tempfile.TemporaryDirectory() as scratch:
        rng, folder = np.random.default_rng(0), Path(scratch) / "source"
        folder.mkdir()
        slope = np.arange(160)[:, None] + np.arange(160) // 2
        colours = (slope[..., None] // 2 + rng.integers(0, 9, (160, 160, 3))).astype(np.uint8)
        Image.fromarray(colours).save(folder / "colours.png")
        Image.fromarray(colours).save(folder / "colours.jpg")
        Image.fromarray(colours[..., 0]).save(folder / "grey.png")
        planes = np.stack([slope * 9 + rng.integers(0, 40, (160, 160)) for _ in range(2)])
        tifffile.imwrite(folder / "deep.tif", planes.astype(np.uint16))
        for profile in PROFILES:
            of_archiver(folder, profile)


def main() -> None:
    """Measure the kinds and write a row for every coder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("slide", "photographs", "ct"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kind", action="append", choices=list(MAKERS), help="only this one")
    parser.add_argument("--csv", type=Path, default=HERE / "results.csv")
    asked = parser.parse_args()
    warm_up()
    is_new = not asked.csv.exists()
    with asked.csv.open("a", newline="") as file:
        out = csv.writer(file)
        if is_new:
            out.writerow(field.name for field in fields(Row))
        for kind in asked.kind or MAKERS:
            with tempfile.TemporaryDirectory() as scratch:
                MAKERS[kind](asked, Path(scratch))
                for row in rows(kind, Path(scratch)):
                    *counts, encode_s, decode_s = astuple(row)
                    out.writerow([*counts, f"{encode_s:.3f}", f"{decode_s:.3f}"])
                    file.flush()


if __name__ == "__main__":
    main()
