"""How fast tiles are coded, beside JPEG XL, in one run: nanoseconds of processor time a pixel.

usage: python tests/bench/speed.py FOLDER [--models A,B] [--against REV] [--rounds N]

Every image of FOLDER (8 bits) is cut into tiles as an archive has them, JPEG XL gets it whole;
coders take turns, and the median of all rounds counts.  ``--against`` runs the coder of another
revision of this checkout in the same turns.  The second table has whole profiles: `pack` with its
verification, in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
EFFORTS = (3, 7, 9)
PROFILES = ("quick", "fast")
Tiles = list[np.ndarray]
Timed = Callable[[], tuple[float, float, int]]  # seconds to encode, to decode, bytes

# What another revision runs: its own engine, whatever it is made of.
SERVER = """
import sys, time, pickle
import numpy as np
from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained
name, path = sys.argv[1:]
tiles = pickle.load(open(path, "rb"))
engine = Engine.open(pretrained.load(name), device="cpu", threads=1)
for line in sys.stdin:
    t0 = time.process_time(); payloads = engine.encode(tiles)
    t1 = time.process_time(); engine.decode(payloads, [t.shape for t in tiles])
    t2 = time.process_time()
    print(t1 - t0, t2 - t1, sum(map(len, payloads)), flush=True)
"""


def images_of(folder: Path) -> Tiles:
    """Return all 8-bit images below a folder."""
    from archiver.training.data import SUFFIXES, read_image

    images: Tiles = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            images.append(read_image(path))
        except ValueError as error:
            print(f"{path.name}: left out, {error}", file=sys.stderr)
    return images


def model(name: str, tiles: Tiles) -> Timed:
    """Return what codes all tiles with one model, on one thread."""
    from archiver.codec.inference.engine import Engine
    from archiver.codec.model import pretrained

    engine = Engine.open(pretrained.load(name), device="cpu", threads=1)

    def timed() -> tuple[float, float, int]:
        began = time.process_time()
        payloads = engine.encode(tiles)
        middle = time.process_time()
        engine.decode(payloads, [tile.shape for tile in tiles])
        return middle - began, time.process_time() - middle, sum(map(len, payloads))

    return timed


def jpegxl(effort: int, images: Tiles) -> Timed:
    """Return what codes whole images with JPEG XL on one thread."""
    import imagecodecs

    def timed() -> tuple[float, float, int]:
        began = time.process_time()
        coded = [
            imagecodecs.jpegxl_encode(image.squeeze(), lossless=True, effort=effort, numthreads=1)
            for image in images
        ]
        middle = time.process_time()
        for data in coded:
            imagecodecs.jpegxl_decode(data, numthreads=1)
        return middle - began, time.process_time() - middle, sum(map(len, coded))

    return timed


def other(revision: str, name: str, tiles: Tiles, folder: Path) -> Timed:
    """Return what codes the tiles with another revision's engine, in a process of its own."""
    import pickle

    tree = folder / "tree"
    if not tree.exists():
        command = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), revision]
        subprocess.run(command, check=True, capture_output=True)
        builder = tree / "archiver" / "native" / "build.py"
        if builder.exists():
            subprocess.run([sys.executable, str(builder)], check=True, capture_output=True)
    data = folder / "tiles"
    data.write_bytes(pickle.dumps(tiles))
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, name, str(data)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        cwd=tree,
    )  # fmt: skip

    def timed() -> tuple[float, float, int]:
        print("go", file=server.stdin, flush=True)
        answer = server.stdout.readline() if server.stdout else ""
        encode, decode, size = answer.split()
        return float(encode), float(decode), int(size)

    return timed


def profile(name: str, folder: Path) -> Timed:
    """Return what packs the files with a profile, and unpacks them, in a process of its own."""

    def timed() -> tuple[float, float, int]:
        with tempfile.TemporaryDirectory() as there:
            archive, out = f"{there}/x.archive", f"{there}/out"
            run = [sys.executable, "-m", "archiver"]
            pack = [*run, "pack", str(folder), archive, "--profile", name, "--workers", "0"]
            seconds = [_processor_seconds([*pack, "--json"])]
            seconds.append(_processor_seconds([*run, "unpack", archive, out, "--workers", "0"]))
            shards = sum(p.stat().st_size for p in (Path(archive) / "shards").iterdir())
        return seconds[0], seconds[1], shards

    return timed


def _processor_seconds(command: Sequence[str]) -> float:
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = os.times()
    return after.children_user + after.children_system - before[2] - before[3]


def in_turns(coders: dict[str, Timed], rounds: int) -> dict[str, tuple[float, float, int]]:
    """Return the medians of each coder, who take turns."""
    times: dict[str, list[tuple[float, float, int]]] = {name: [] for name in coders}
    for _ in range(rounds):
        for name, timed in coders.items():
            times[name].append(timed())
    return {
        name: (
            statistics.median(t[0] for t in all_of),
            statistics.median(t[1] for t in all_of),
            all_of[0][2],
        )
        for name, all_of in times.items()
    }


def show(title: str, rows: dict[str, tuple[float, float, int]], pixels: int, base: int) -> None:
    """Print a table: nanoseconds a pixel, and bytes as a share of JPEG XL 9's."""
    print(f"\n{title}, {pixels / 1e6:.2f} M pixels\n")
    print("| coder | encode, ns/pixel | Mpx/s | decode, ns/pixel | bytes | of JPEG XL 9 |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (encode, decode, size) in rows.items():
        share = f"{size / base:.4f}" if base else ""
        print(
            f"| {name} | {encode / pixels * 1e9:.0f} | {pixels / encode / 1e6:.2f}"
            f" | {decode / pixels * 1e9:.0f} | {size} | {share} |"
        )


def main() -> None:
    """Run both tables."""
    from archiver.codec.model import pretrained
    from archiver.native import library
    from archiver.training import measure

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default=",".join(pretrained.names()))
    parser.add_argument("--against", help="another revision, run in turns with this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-profiles", action="store_true")
    options = parser.parse_args()
    images, names = images_of(options.folder), options.models.split(",")
    tiles = [tile for image in images for tile in measure.cut(image)]
    pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    with tempfile.TemporaryDirectory() as there:
        coders: dict[str, Timed] = {f"JPEG XL {e}": jpegxl(e, images) for e in EFFORTS}
        for name in names:
            coders[name] = model(name, tiles)
            if options.against and name != pretrained.SMALLEST:
                rival = other(options.against, name, tiles, Path(there))
                coders[f"{name} at {options.against}"] = rival
        rows = in_turns(coders, options.rounds)
        if options.against:
            tree = str(Path(there) / "tree")
            subprocess.run(
                ["git", "-C", str(ROOT), "worktree", "remove", "--force", tree], check=False
            )
    best = rows["JPEG XL 9"][2]
    show(f"Tiles of {options.folder.name}, {library.instruction_set()}", rows, pixels, best)
    if not options.no_profiles:
        whole = in_turns({name: profile(name, options.folder) for name in PROFILES}, 1)
        show("Whole profiles, with verification", whole, pixels, best)
    print(json.dumps({name: list(row) for name, row in rows.items()}), file=sys.stderr)


if __name__ == "__main__":
    main()
