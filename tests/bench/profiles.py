"""Check that no profile keeps a file in more bytes than a cheaper one does.

    python tests/bench/profiles.py FOLDER... [--count 100] [--passes 2] [--most PIXELS]

Each FOLDER is a tree of images (as ../shared/images/dev).  Parts of images drawn from them, most of
them small, alone and side by side, become files of their own, which are packed one by one under
four settings.  Bytes are those of the shards: payloads, residues, adapters; models and index apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from rich.console import Console
from rich.table import Table

import archiver
from archiver import sources
from archiver.errors import ArchiverError, SourceError
from archiver.jobs.spec import PackSettings

SIDES = (64, 64, 64, 64, 72, 80, 80, 96, 96, 128, 144, 288)
COLLAGE = 4  # one file of so many is put together of two parts
NAMES = ("fast", "fast --model mgcf", "balanced", "max")


def settings(passes: int) -> dict[str, PackSettings]:
    """Return what is compared, the cheapest first."""
    how: dict[str, dict[str, object]] = {
        NAMES[0]: {"profile": "fast"},
        NAMES[1]: {"profile": "fast", "model": "mgcf"},
        NAMES[2]: {"profile": "balanced", "adapt_steps": passes},
        NAMES[3]: {"profile": "max", "adapt_steps": passes},
    }
    return {name: PackSettings(workers=0, **one) for name, one in how.items()}  # type: ignore[arg-type]


def parts(folders: Sequence[Path], rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield named parts of images, drawn from all kinds of files alike."""
    kinds: dict[Path, list[Path]] = {}
    for path in sorted(p for one in folders for p in one.rglob("*") if p.is_file()):
        kinds.setdefault(path.parent, []).append(path)
    groups = list(kinds.values())
    while groups:
        for group in groups:
            path = group.pop(int(rng.integers(len(group))))
            if (samples := _samples(path)) is not None:
                yield f"{path.parent.name}/{path.name}", _part(samples, rng)
        groups = [group for group in groups if group]


def _samples(path: Path) -> np.ndarray | None:
    """Return an image of a file; of a JPEG or WebP, which is but a container here, its samples."""
    if path.suffix in (".jpg", ".jpeg", ".webp"):
        with Image.open(path) as picture:
            return np.asarray(picture)
    try:
        images = sources.parse(path).images
    except (SourceError, OSError):
        return None
    if not images or images[0].jpeg_tile or images[0].channels > 4:
        return None
    return np.ascontiguousarray(images[0].read().squeeze())


def _part(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sides = [min(n, int(rng.choice(SIDES))) for n in samples.shape[:2]]
    top, left = (int(rng.integers(n - s + 1)) for n, s in zip(samples.shape, sides, strict=False))
    return np.ascontiguousarray(samples[top : top + sides[0], left : left + sides[1]])


def files(folders: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield so many named images to be files; one of four holds two parts side by side."""
    rng = np.random.default_rng(seed)
    before: tuple[str, np.ndarray] | None = None
    for number, (name, part) in enumerate(parts(folders, rng)):
        if number == count:
            return
        if number % COLLAGE or before is None or not _are_alike(before[1], part):
            yield name, part
        else:
            height = min(len(before[1]), len(part))
            yield f"{before[0]} | {name}", np.hstack([before[1][:height], part[:height]])
        before = name, part


def _are_alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape[2:] == other.shape[2:]


def _write(path: Path, samples: np.ndarray) -> None:
    if samples.dtype == np.uint8 and samples.shape[2:] in ((), (3,)):
        Image.fromarray(samples).save(path.with_suffix(".png"))
        return
    is_colour = samples.ndim == 3 and samples.shape[2] in (3, 4)
    how = "rgb" if is_colour else "minisblack"
    tifffile.imwrite(path.with_suffix(".tif"), samples, photometric=how, compression="zlib")


def measure(samples: np.ndarray, passes: int) -> dict[str, dict[str, float]]:
    """Return the bytes and processor seconds of one file under each of the settings."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        _write(source / "image", samples)
        for name, one in settings(passes).items():
            target, started = Path(scratch) / name, time.process_time()
            archiver.pack(source, target, one)
            seconds = time.process_time() - started
            n_bytes = sum(file.stat().st_size for file in (target / "shards").iterdir())
            found[name] = {"bytes": n_bytes, "seconds": seconds}
    return found


def violations(sizes: list[float]) -> list[str]:
    """Return which settings took more than the one before."""
    pairs = zip(NAMES, NAMES[1:], sizes, sizes[1:], strict=False)
    return [f"{dear} > {cheap}" for cheap, dear, less, more in pairs if more > less]


def main() -> int:
    """Measure and print the table; 1 if a profile took more than a cheaper one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--most", type=int, default=1 << 20, help="pixels of a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows, console = [], Console(width=170, stderr=True)
    for name, samples in files(args.folders, args.count, args.seed):
        if samples.shape[0] * samples.shape[1] > args.most:
            continue
        try:
            found = measure(samples, args.passes)
        except ArchiverError as error:
            raise SystemExit(f"{name}: {error}") from error
        sizes = [found[one]["bytes"] for one in NAMES]
        faults = violations(sizes)
        rows.append({"name": name, "shape": samples.shape, "faults": faults, **found})
        console.print(name, samples.shape, *map(int, sizes), *faults, soft_wrap=True)
        if args.json:
            args.json.write_text(json.dumps(rows))
    _print(rows)
    return int(any(row["faults"] for row in rows))


def _print(rows: list[dict[str, object]]) -> None:
    table = Table("settings", "bytes", "processor seconds", "larger than the cheaper one")
    for number, name in enumerate(NAMES):
        total = [sum(row[name][key] for row in rows) for key in ("bytes", "seconds")]  # type: ignore[index]
        faults = sum(f"{name} > " in fault + " " for row in rows for fault in row["faults"])  # type: ignore[attr-defined]
        table.add_row(name, f"{total[0]:.0f}", f"{total[1]:.1f}", str(faults if number else ""))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
