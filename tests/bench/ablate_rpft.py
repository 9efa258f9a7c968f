"""What each part of the fine-tuning is worth: real bytes and seconds on the same image crops.

    python tests/bench/ablate_rpft.py IMAGE... [--model NAME] [--side 256]

Every image is cropped to ``side`` in its middle.  Bytes are learned payloads plus the adapter;
seconds are what the processor spends on the fine-tuning alone, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from archiver import sources
from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained
from archiver.codec.model.adapter import Ranks
from archiver.codec.model.batches import Shown
from archiver.codec.tuning import rpft
from archiver.codec.tuning.rpft import Settings
from archiver.pipeline import DEFAULT_TILE

DEFAULT = Settings(ranks=Ranks(1, 2))  # as for files of this size
CASES: dict[str, Settings | None] = {
    "T = 0": None,
    "T = 10": replace(DEFAULT, passes=10),
    "T = 25": replace(DEFAULT, passes=25),
    "T = 50": replace(DEFAULT, passes=50),
    "T = 100": replace(DEFAULT, passes=100),
    "T = 25, all patches at every pass": replace(DEFAULT, passes=25, progressive=False),
    "T = 25, from 40 % of the patches on": replace(DEFAULT, passes=25, first_share=0.4),
    "T = 25, from 55 % of the patches on": replace(DEFAULT, passes=25, first_share=0.55),
    "T = 50, all patches at every pass": replace(DEFAULT, passes=50, progressive=False),
    "T = 25, rising order": replace(DEFAULT, passes=25, order="rising"),
    "T = 25, random order": replace(DEFAULT, passes=25, order="random"),
    "T = 25, no depth-wise increments": replace(DEFAULT, passes=25, kernels=False),
}


def crop(path: Path, side: int) -> np.ndarray:
    """Return the middle of an image, (H, W, C)."""
    samples = sources.parse(path).images[0].read()
    top, left = ((n - side) // 2 if n > side else 0 for n in samples.shape[:2])
    return np.ascontiguousarray(samples[top : top + side, left : left + side])


def run(image: np.ndarray, engine: Engine, settings: Settings | None) -> tuple[int, int, float]:
    """Return bytes of payloads, of the adapter, and seconds of fine-tuning."""
    shown = Shown.of(image)
    tiles = [part.samples for part in shown.cut(DEFAULT_TILE)]
    if settings is None:
        return sum(map(len, engine.encode(tiles))), 0, 0.0
    start = time.process_time()
    adapter = rpft.adapt(engine.net, list(shown.cut(rpft.PATCH)), settings).to_bytes()
    seconds = time.process_time() - start
    return sum(map(len, engine.adapted(adapter).encode(tiles))), len(adapter), seconds


def main() -> None:
    """Print one table over all images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default=pretrained.SMALL)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--case", action="append", help="only this one, beside T = 0; repeatable")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    engine = Engine.open(pretrained.load(asked.model), device="cpu")
    crops = [crop(path, asked.side) for path in asked.images]
    table = Table("case", "payload", "adapters", "total", "change", "seconds")
    base = 0
    for name in ["T = 0", *(asked.case or list(CASES)[1:])]:
        settings = CASES[name]
        parts = [run(image, engine, settings) for image in crops]
        payload, adapter, seconds = (sum(column) for column in zip(*parts, strict=True))
        total = payload + adapter
        base = base or total
        change = f"{100 * (total / base - 1):+.2f} %"
        table.add_row(name, f"{payload}", f"{adapter}", f"{total}", change, f"{seconds:.0f}")
        Console(stderr=True).print(name, total, change, f"{seconds:.0f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
