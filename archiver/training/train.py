"""The training loop: batches in, gradient steps, rows of the log out, checkpoints between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archiver.codec.model import batches, devices, mgcf
from archiver.codec.model.batches import Batch
from archiver.codec.tuning.optimisers import Average, Optimiser, rate
from archiver.errors import UsageError
from archiver.training.checkpoint import Checkpoint, Leg
from archiver.training.data import COLOUR, GREY, HIGH_DEPTH, Crops, Prefetch

ROW_STEPS = 50  # steps that one row of the log averages
AHEAD = 4  # batches drawn while one is learned from
Loss = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the log: means over the steps since the last."""

    step: int
    seconds: float  # of training in all legs
    colour: float  # bits per sample; nan where no batch of the kind was drawn
    grey: float
    high_depth: float
    rate: float  # factor of the learning rates
    gradient: float  # norm before clipping
    pixels_s: float  # pixels a second


@dataclass(frozen=True)
class Settings:
    """The manner of training; what is learned from, and for how long, say crops and leg."""

    grey_share: float = 0.2  # of batches
    high_depth_share: float = 0.15  # likewise, if there are such images
    device: str = "cpu"
    threads: int | None = None  # None: as many as cores
    compiled: bool = True
    save_every_s: float = 180.0


def train(
    start: Checkpoint,
    leg: Leg,
    crops: Crops,
    settings: Settings,
    folder: Path,
    on_row: Callable[[Row], None],
) -> Checkpoint:
    """Train from ``start`` until ``leg`` is done; leave checkpoints in ``folder``.

    Ctrl-C leaves a checkpoint too.  A run killed at any moment goes on from its last checkpoint as
    if nothing had happened: batches depend on the step alone.
    """
    run = _Run(start, leg, crops, settings)
    saved = time.monotonic()
    try:
        while leg.progress < 1.0:
            row = run.step()
            if row is not None:
                on_row(row)
            # between rows: the log of a run that goes on is the log of one that never stopped
            if row is not None and time.monotonic() - saved >= settings.save_every_s:
                run.checkpoint().save(folder)
                saved = time.monotonic()
    finally:
        finished = run.close()
        finished.save(folder)
    return finished


class _Run:
    """A network in training with all that changes from step to step."""

    def __init__(self, start: Checkpoint, leg: Leg, crops: Crops, settings: Settings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        devices.keep_freed_memory()
        self._start, self._leg, self._crops, self._settings = start, leg, crops, settings
        self._device = torch.device(settings.device)
        self._net = mgcf.MGCF(start.architecture)
        with torch.no_grad():
            for name, parameter in self._net.named_parameters():
                parameter.copy_(start.parameters[name])
        self._net = self._net.to(self._device).train()
        self._optimiser = Optimiser(self._net)
        if start.optimiser is not None:
            self._optimiser.restore(start.optimiser)
        self._average = Average(self._net)
        self._average.restore(start.average, start.averaged_steps)
        self._loss = self._loss_function()
        self._step = start.step
        self._batches = Prefetch(
            crops,
            step=start.step,
            grey_share=settings.grey_share,
            high_depth_share=settings.high_depth_share if start.architecture.deep else 0.0,
            ahead=AHEAD,
            processes=_drawing_processes(self._device),
        )
        self._rows = _Rows(_seconds(start))

    def step(self) -> Row | None:
        """Take one gradient step; returns a row of the log when one is full."""
        began = time.monotonic()
        factor = rate(
            self._leg.done_steps, self._leg.progress, peak=self._leg.peak, decay=self._leg.decay
        )
        batch = self._batches.draw()
        loss = self._loss(batch.to(self._device))
        loss.backward()
        norm = self._optimiser.step(factor)
        self._average.update(self._net)
        self._step += 1
        took = time.monotonic() - began
        self._leg.done_steps += 1
        self._leg.done_seconds += took
        return self._rows.add(self._step, took, batch, loss.item(), factor, norm)

    def close(self) -> Checkpoint:
        """End the run; returns its last state."""
        self._batches.close()
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """Return the present state, on the CPU."""
        parameters = {n: p.detach().cpu().clone() for n, p in self._net.named_parameters()}
        average = {n: p.cpu().clone() for n, p in self._average.parameters.items()}
        return Checkpoint(
            self._start.architecture,
            parameters,
            average,
            step=self._step,
            averaged_steps=self._average.steps,
            optimiser=self._optimiser.state(),
            leg=self._leg,
            history=self._history(),
        )

    def _history(self) -> list[dict[str, Any]]:
        crops = self._crops
        this = {
            "from": self._start.step,
            "steps": self._step - self._start.step,
            "crop": crops.side,
            "batch": crops.batch,
            "data": crops.shares(),
            "peak": self._leg.peak,
            "decay": self._leg.decay,
            "seconds": round(self._rows.seconds - _seconds(self._start)),
        }
        return [*self._start.history, this]

    def _loss_function(self) -> Loss:
        def bits_per_sample(batch: Batch) -> Tensor:
            return batches.bits(self._net, batch).mean()

        return torch.compile(bits_per_sample) if self._settings.compiled else bits_per_sample


class _Rows:
    """Gathers the figures of steps into rows."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._reset()

    def _reset(self) -> None:
        self._losses: dict[str, list[float]] = {COLOUR: [], GREY: [], HIGH_DEPTH: []}
        self._norms: list[float] = []
        self._pixels = self._took = 0.0

    def add(
        self,
        step: int,
        took: float,
        batch: Batch,
        loss: float,
        factor: float,
        norm: float,
    ) -> Row | None:
        self.seconds += took
        self._losses[batch.kind].append(loss)
        self._norms.append(norm)
        self._pixels += batch.n_pixels
        self._took += took
        if step % ROW_STEPS:
            return None
        means = (float(np.mean(v)) if v else float("nan") for v in self._losses.values())
        colour, grey, high_depth = means
        gradient, speed = float(np.median(self._norms)), self._pixels / self._took
        row = Row(step, self.seconds, colour, grey, high_depth, factor, gradient, speed)
        self._reset()
        return row


def _drawing_processes(device: torch.device) -> int:
    """Return how many processes draw batches: beside a CPU that learns, none."""
    return max(1, (os.cpu_count() or 1) - 2) if device.type == "cuda" else 0


def _seconds(checkpoint: Checkpoint) -> float:
    return float(sum(leg["seconds"] for leg in checkpoint.history))


def check_device(device: str) -> None:
    """Raise UsageError if torch cannot train there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter if built without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--device {device}: expected cpu, or a CUDA device that torch finds: {reason}"
        ) from error
