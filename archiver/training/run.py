"""A training run: what it starts from, which leg comes next, and its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from archiver.codec.model import architecture, devices, mgcf
from archiver.errors import UsageError
from archiver.training import checkpoint, data, log, train

MEMORY = 4 << 30  # bytes of images held at once, over all domains
MIN_DIM, MAX_DIM = 8, 512
DEFAULT_MINUTES = 60.0


@dataclass(frozen=True)
class Options:
    """The options of ``archiver train``; without steps and minutes, an hour."""

    minutes: float | None = None
    steps: int | None = None
    decay: float = 0.6
    peak: float = 1.0
    start: Path | None = None
    dim: int | None = None  # None: that of the weights to start from, or 64
    blocks: int | None = None  # None: likewise, or 3
    crop: int = 64
    batch: int = 16
    grey: float = 0.2
    high_depth: float = 0.15
    jpeg: float = 0.1
    resize: float = 0.05
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    compiled: bool | None = None

    def leg(self) -> checkpoint.Leg:
        """Return the stretch of training that was asked for."""
        minutes = self.minutes
        if minutes is None and self.steps is None:
            minutes = DEFAULT_MINUTES
        seconds = None if minutes is None else 60 * minutes
        return checkpoint.Leg(self.steps, seconds, self.peak, self.decay)

    def settings(self) -> train.Settings:
        """Return how to train on this machine."""
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        train.check_device(device)
        compiled = devices.can_compile(device) if self.compiled is None else self.compiled
        return train.Settings(self.grey, self.high_depth, device, self.threads, compiled)


@dataclass(frozen=True)
class Started:
    """The beginning of a run, for people to read."""

    domains: Sequence[data.Domain]
    architecture: architecture.Architecture
    weights: int
    step: int
    resumed: bool  # in the middle of a leg that was interrupted
    settings: train.Settings


def run(
    folders: Sequence[tuple[Path, float]],
    folder: Path,
    options: Options,
    on_start: Callable[[Started], None],
    on_row: Callable[[train.Row], None],
) -> checkpoint.Checkpoint:
    """Train in ``folder`` until the leg is done, going on from what is there."""
    settings = options.settings()
    folder.mkdir(parents=True, exist_ok=True)
    start = _start(folder, options)
    leg, resumed = _next_leg(start, options.leg())
    rows = log.Log(folder, from_step=start.step)
    domains = [
        data.load_domain(
            path, weight, side=options.crop, seed=options.seed, limit=MEMORY // len(folders)
        )
        for path, weight in folders
    ]
    crops = data.Crops(
        domains,
        side=options.crop,
        batch=options.batch,
        seed=options.seed,
        jpeg=options.jpeg,
        resized=options.resize,
    )
    n_weights = sum(value.numel() for value in start.parameters.values())
    on_start(Started(domains, start.architecture, n_weights, start.step, resumed, settings))

    def logged(row: train.Row) -> None:
        rows.add(row)
        on_row(row)

    return train.train(start, leg, crops, settings, folder, logged)


def _start(folder: Path, options: Options) -> checkpoint.Checkpoint:
    """Return the run's own checkpoint, or the one to start from, or a new network."""
    if (folder / checkpoint.FILE).exists():
        return _of_that_size(checkpoint.load(folder), options, folder)
    if options.start is not None:
        start = _of_that_size(checkpoint.load(options.start), options, options.start)
        start.optimiser, start.leg = None, None
        return start
    sizes = architecture.Architecture(dim=options.dim or 64, blocks=options.blocks or 3)
    if sizes.dim % 8 or not MIN_DIM <= sizes.dim <= MAX_DIM:
        raise UsageError(
            f"--dim {options.dim}: expected a multiple of 8 from {MIN_DIM} to {MAX_DIM}"
        )
    torch.manual_seed(options.seed)
    parameters = {n: p.detach() for n, p in mgcf.MGCF(sizes).named_parameters()}
    average = {name: value.clone() for name, value in parameters.items()}
    return checkpoint.Checkpoint(sizes, parameters, average)


def _of_that_size(
    start: checkpoint.Checkpoint, options: Options, path: Path
) -> checkpoint.Checkpoint:
    """Refuse options that ask for another network than the one that is there."""
    there = start.architecture
    for name, asked, actual in (
        ("dim", options.dim, there.dim),
        ("blocks", options.blocks, there.blocks),
    ):
        if asked not in (None, actual):
            raise UsageError(
                f"--{name} {asked}: the network in {path} has {actual}; leave the option out to "
                "go on with it, or choose another --out or --start"
            )
    return start


def _next_leg(start: checkpoint.Checkpoint, asked: checkpoint.Leg) -> tuple[checkpoint.Leg, bool]:
    """Return the leg that was interrupted if it is the one asked for, else the one asked for."""
    last = start.leg
    if last is not None and last.is_same(asked) and last.progress < 1.0:
        return last, True
    return asked, False
