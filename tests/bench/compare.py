"""Compare archiver with JPEG XL, WebP, JPEG 2000 and PNG: real bytes and time on the same samples.

    python tests/bench/compare.py FOLDER [--cores 2] [--model NAME] [--tile 256]

FOLDER holds one subfolder per set of images (as ../shared/images/dev).  Every 8-bit grey or RGB
image and every 16-bit plane is coded once by every codec, all cores busy: the other codecs code one
image per core, archiver one batch of tiles per core.  JPEG tiles are not among them.  Bytes of
archiver are payloads only in the codec tables, and all bytes on disk (index, model) in the last
table, from ``archiver pack``.  Times are wall seconds of one run on one machine: read them as
ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
from rich.console import Console
from rich.table import Table

from archiver import sources
from archiver.codec import classic, tiles
from archiver.codec.ids import Encoded
from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained

Encoder = Callable[[np.ndarray], bytes]
Decoder = Callable[[bytes], np.ndarray]


def _jpegxl(effort: int) -> Encoder:
    return lambda a: imagecodecs.jpegxl_encode(a, lossless=True, effort=effort, numthreads=1)


OTHERS: dict[str, tuple[Encoder, Decoder]] = {
    "JPEG XL effort 7": (_jpegxl(7), imagecodecs.jpegxl_decode),
    "JPEG XL effort 9": (_jpegxl(9), imagecodecs.jpegxl_decode),
    "WebP lossless": (
        lambda a: imagecodecs.webp_encode(_rgb(a), lossless=True, level=100, method=6),
        imagecodecs.webp_decode,
    ),
    "JPEG 2000": (
        lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k"),
        imagecodecs.jpeg2k_decode,
    ),
    "PNG level 9": (lambda a: imagecodecs.png_encode(a, level=9), imagecodecs.png_decode),
}
DEEP_OTHERS = {
    **{name: pair for name, pair in OTHERS.items() if not name.startswith("WebP")},
    "JPEG-LS": (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
}


def _rgb(image: np.ndarray) -> np.ndarray:
    """Return three channels: WebP has no grey."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)


def read_set(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the 8-bit images (H, W) or (H, W, 3) of a folder, and its 16-bit planes (H, W)."""
    bytes_, deep = {}, {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for image in sources.parse(path).images:
            if image.jpeg_tile or image.channels not in (1, 3):
                continue
            if image.dtype == np.uint8 and image.bit_depth == 8:
                samples = np.ascontiguousarray(image.read().squeeze())
                bytes_[samples.tobytes()] = samples
            elif image.dtype.kind in "iu" and image.dtype.itemsize == 2 and image.channels == 1:
                samples = np.ascontiguousarray(classic.to_unsigned(image.read().squeeze()))
                deep[samples.tobytes()] = samples
    return list(bytes_.values()), list(deep.values())


def cut(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Cut an image into tiles as the archive does."""
    raster = image if image.ndim == 3 else image[..., None]
    rows, columns = (math.ceil(n / math.ceil(n / side)) for n in raster.shape[:2])
    return [
        np.ascontiguousarray(raster[r : r + rows, c : c + columns])
        for r in range(0, raster.shape[0], rows)
        for c in range(0, raster.shape[1], columns)
    ]


# --- archiver's codec, one process per core -----------------------------------------------------

_engine: Engine | None = None


def _open(model: str) -> None:
    global _engine
    _engine = Engine.open(pretrained.load(model), device="cpu", threads=1)


def _encode(part: list[np.ndarray]) -> list[Encoded]:
    return tiles.encode(part, _engine)


def _decode(job: tuple[list[Encoded], list[np.ndarray]]) -> int:
    encoded, expected = job
    pairs = [(int(e.codec), e.payload) for e in encoded]
    decoded = tiles.decode(pairs, [t.shape for t in expected], [t.dtype for t in expected], _engine)
    if not all(np.array_equal(a, b) for a, b in zip(decoded, expected, strict=True)):
        raise SystemExit("archiver: a tile did not decode to itself")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_archiver(
    images: list[np.ndarray], pool: ProcessPoolExecutor, cores: int, side: int
) -> tuple[int, float, float, dict[str, int], int]:
    """Return bytes, encode and decode seconds, tiles by codec, peak KiB of a worker."""
    cuts = [tile for image in images for tile in cut(image, side)]
    parts = [cuts[i::cores] for i in range(cores)]
    start = time.perf_counter()
    encoded = list(pool.map(_encode, parts))
    middle = time.perf_counter()
    peak = max(pool.map(_decode, zip(encoded, parts, strict=True)))
    end = time.perf_counter()
    codecs: dict[str, int] = {}
    for tile in (tile for part in encoded for tile in part):
        codecs[tile.codec.name] = codecs.get(tile.codec.name, 0) + 1
    n_bytes = sum(len(tile.payload) for part in encoded for tile in part)
    return n_bytes, middle - start, end - middle, codecs, peak


def run_other(
    images: list[np.ndarray], coder: tuple[Encoder, Decoder], cores: int
) -> tuple[int, float, float]:
    """Return bytes, encode and decode seconds of another codec, one image per thread."""
    encode, decode = coder
    with ThreadPoolExecutor(cores) as pool:
        start = time.perf_counter()
        coded = list(pool.map(encode, images))
        middle = time.perf_counter()
        list(pool.map(decode, coded))
        end = time.perf_counter()
    return sum(map(len, coded)), middle - start, end - middle


def pack_on_disk(folder: Path) -> dict[str, object]:
    """Run ``archiver pack --profile fast`` and return its JSON summary."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "archiver", "pack", str(folder)]
        command += [f"{temporary}/bench.archive", "--profile", "fast", "--json", "-q"]
        result = subprocess.run(command, capture_output=True, check=True, text=True)
    summary: dict[str, object] = json.loads(result.stdout)
    return summary


def codec_table(name: str, rows: Iterable[tuple[str, int, float, float]], samples: int) -> Table:
    """Return the table of one set; times also as ratios to JPEG XL effort 9."""
    rows = list(rows)
    reference = next(encode for label, _, encode, _ in rows if label == "JPEG XL effort 9")
    table = Table(title=f"{name}: {samples / 1e6:.1f} M samples")
    for heading in ("codec", "bytes", "bits/sample", "encode s", "/ JXL 9", "decode s"):
        table.add_column(heading, justify="left" if heading == "codec" else "right")
    for label, n_bytes, encode, decode in rows:
        cells = (f"{n_bytes:,}", f"{n_bytes * 8 / samples:.4f}", f"{encode:.2f}")
        table.add_row(label, *cells, f"{encode / reference:.2f}", f"{decode:.2f}")
    return table


def main() -> None:
    """Print one table per set and one of everything on disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--model", default=pretrained.SMALL)
    parser.add_argument("--tile", type=int, default=256)
    options = parser.parse_args()
    console, disk = Console(width=100), Table(title="archiver pack --profile fast, on disk")
    for heading in ("set", "input", "archive", "model", "payload", "seconds"):
        disk.add_column(heading, justify="left" if heading == "set" else "right")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.cores, context, _open, (options.model,)) as pool:
        list(pool.map(len, [()] * options.cores * 4))  # start the workers before the clock
        for folder in sorted(p for p in options.folder.iterdir() if p.is_dir()):
            by_kind = zip(("8 bit", "16 bit"), read_set(folder), (OTHERS, DEEP_OTHERS), strict=True)
            summary = pack_on_disk(folder)
            cells = ("input_bytes", "archive_bytes", "model_bytes", "payload_bytes")
            disk.add_row(folder.name, *(f"{summary[c]:,}" for c in cells), str(summary["seconds"]))
            for kind, images, others in by_kind:
                if not images:
                    continue
                size, encode, decode, codecs, peak = run_archiver(
                    images, pool, options.cores, options.tile
                )
                rows = [(f"archiver {options.model}", size, encode, decode)]
                rows += [(k, *run_other(images, v, options.cores)) for k, v in others.items()]
                n_samples = sum(image.size for image in images)
                console.print(codec_table(f"{folder.name}, {kind}", rows, n_samples))
                console.print(f"tiles by codec {codecs}; peak of a worker {peak / 1024:.0f} MiB\n")
    console.print(disk)


if __name__ == "__main__":
    main()
