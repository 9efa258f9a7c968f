"""Print the rows of README's table of sizes and prices, from a table of results.

    python tests/bench/readme_table.py [--csv results.csv]

Sizes are percent of the files as they are, prices core-hours a gigapixel to pack and to restore;
the last column is the time in which 32 cores pack 1 TB of such files.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from figure import HERE, Result, results
from rich.console import Console

ROWS = {  # what README calls a kind, and what others it is shown beside
    "slide": ("slides of JPEG tiles (SVS)", ("tar, zstd 19",)),
    "patches": ("patches cut from slides (PNG)", ("tar, zstd 19",)),
    "volumes": ("volumes (MR, NIfTI in gzip)", ("JPEG-LS",)),
    "photographs": ("photographs (PNG)", ("WebP",)),
    "CT slices": ("single CT slices (DICOM)", ("JPEG-LS",)),
}
SHORT = {"tar, zstd 19": "zstd"}
JPEG_XL = ("JPEG XL 9", "JPEG XL of JPEG")
TERABYTE, CORES, DAY = 1e12, 32, 24
MOST_HOURS, FEW = 72, 20  # more hours are told in days, fewer percent with a decimal


def pixels_a_byte(path: Path) -> dict[str, float]:
    """Return the pixels in a byte of the files, by kind."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["kind"]: int(row["pixels"]) / int(row["input_bytes"]) for row in rows}


def price(result: Result) -> str:
    """Return what packing and restoring cost."""
    return " / ".join(f"{value:.2g}" for value in (result.pack, result.restore))


def percent(share: float) -> str:
    """Return a size in percent, small ones with a decimal."""
    return f"{share:.1f}" if share < FEW else f"{share:.0f}"


def durations(results: list[Result], density: float) -> str:
    """Return how long 1 TB takes to pack, from the first result to the last."""
    hours = [result.pack * TERABYTE * density / 1e9 / CORES for result in results]
    told = [f"{h:.0f} h" if h < MOST_HOURS else f"{h / DAY:.0f} days" for h in hours]
    if all(text.endswith("days") for text in told):
        told[0] = told[0].removesuffix(" days")
    return " to ".join(told)


def row(kind: str, found: dict[str, Result], density: float) -> str:
    """Return the row of one kind."""
    name, others = ROWS[kind]
    fast, balanced = found["archiver fast"], found["archiver balanced"]
    jpeg_xl = next(found[name] for name in JPEG_XL if name in found)
    least = min(fast.share, balanced.share, jpeg_xl.share)
    sizes = [percent(result.share) for result in (jpeg_xl, fast, balanced)]
    best = percent(least)
    jxl_size, fast_size, balanced_size = (f"**{t}**" if t == best else t for t in sizes)
    beside = ", ".join(f"{SHORT.get(o, o)} {percent(found[o].share)}" for o in others)
    cells = [name, beside, jxl_size, fast_size, price(fast), balanced_size, price(balanced)]
    return f"| {' | '.join(cells)} | {durations([fast, balanced], density)} |"


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=HERE / "results.csv")
    asked = parser.parse_args()
    found, density = list(results(asked.csv)), pixels_a_byte(asked.csv)
    for kind in ROWS:
        by_coder = {result.coder: result for result in found if result.kind == kind}
        Console(width=200, highlight=False).print(row(kind, by_coder, density[kind]), markup=False)


if __name__ == "__main__":
    main()
