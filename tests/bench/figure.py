"""Draw size against price of all coders, one panel for each kind of data, from a table of results.

    python tests/bench/figure.py [--csv results.csv] [--out size_and_price.png]

Reads what ``prices.py`` writes.  The same table gives the same file.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

HERE = Path(__file__).parent
TITLES = {
    "slide": "slide of JPEG tiles",
    "patches": "patches cut from a slide",
    "volumes": "volumes (MR)",
    "photographs": "photographs",
    "CT slices": "single CT slices",
}
STYLES = {  # marker and colour
    "archiver fast": ("o", "#d95f02"),
    "archiver balanced": ("D", "#d95f02"),
    "JPEG XL 7": ("v", "#1b6ca8"),
    "JPEG XL 9": ("^", "#1b6ca8"),
    "JPEG XL of JPEG": ("<", "#1b6ca8"),
    "WebP": ("P", "#666666"),
    "JPEG 2000": ("s", "#666666"),
    "JPEG-LS": ("X", "#666666"),
    "PNG 9": ("h", "#666666"),
    "tar, zstd 19": ("1", "#333333"),
}
NAMES = {"JPEG XL of JPEG": "JPEG XL, JPEGs transcoded"}
OURS = "archiver"
SECONDS = 3600 / 1e9  # of a core hour for each gigapixel, for one pixel
SIZE, DPI = (9.6, 5.4), 120  # inches, dots for each


@dataclass(frozen=True)
class Result:
    """Size and prices of a coder on one kind of data."""

    kind: str
    coder: str
    share: float  # of the files as they are, in percent
    pack: float  # core-hours for each gigapixel
    restore: float


def results(path: Path) -> Iterator[Result]:
    """Yield the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            per_pixel = [float(row[key]) / int(row["pixels"]) for key in ("encode_s", "decode_s")]
            share = 100 * int(row["bytes"]) / int(row["input_bytes"])
            yield Result(row["kind"], row["coder"], share, *(s / SECONDS for s in per_pixel))


def draw(found: list[Result]) -> Figure:
    """Return the figure: a panel for each kind, a legend in the last place."""
    figure = Figure(figsize=SIZE, layout="constrained")
    *panels, last = figure.subplots(2, 3, sharex=True).flat
    for panel, (kind, title) in zip(panels, TITLES.items(), strict=True):
        _panel(panel, title, [result for result in found if result.kind == kind])
    for panel in panels[-2:] + panels[2:3]:
        panel.set_xlabel("packing, core-hours a gigapixel")
        panel.tick_params(labelbottom=True)
    for panel in panels[::3]:
        panel.set_ylabel("size, % of the files")
    _legend(last)
    return figure


def _panel(panel: Axes, title: str, found: list[Result]) -> None:
    ours = sorted((r for r in found if r.coder.startswith(OURS)), key=lambda r: r.pack)
    panel.plot([r.pack for r in ours], [r.share for r in ours], color="#d95f02", lw=1, zorder=2)
    for result in found:
        if result.coder in STYLES:
            marker, colour = STYLES[result.coder]
            size = 8 if result.coder.startswith(OURS) else 7
            panel.plot(result.pack, result.share, marker, color=colour, ms=size, zorder=3)
    panel.axhline(100, color="#999999", lw=0.8, ls=":")
    panel.set_xscale("log")
    panel.set_ylim(0, max([105, *(1.08 * r.share for r in found if r.coder in STYLES)]))
    panel.set_title(title, fontsize=10, loc="left")
    panel.grid(color="#e6e6e6", lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _legend(panel: Axes) -> None:
    panel.set_axis_off()
    handles = [
        Line2D([], [], marker=marker, color=colour, ls="", label=NAMES.get(name, name))
        for name, (marker, colour) in STYLES.items()
    ]
    panel.legend(
        handles=handles, loc="center", frameon=False, fontsize=9, title="lower left is best"
    )


def main() -> None:
    """Draw the figure of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=HERE / "results.csv")
    parser.add_argument("--out", type=Path, default=HERE / "size_and_price.png")
    asked = parser.parse_args()
    draw(list(results(asked.csv))).savefig(asked.out, dpi=DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
