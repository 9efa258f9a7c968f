"""Own the checkpoint: everything a run needs to go on, in one file that is replaced as a whole."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archiver.codec import mgcf, weights
from archiver.errors import ArchiverError, UsageError

FILE = "checkpoint.pt"
VERSION = 1
ZIP = b"PK"  # first bytes of what torch.save writes


@dataclass
class Leg:
    """One stretch of training with a schedule of its own: so long, then decayed so far."""

    steps: int | None  # how long it lasts: this many steps,
    seconds: float | None  # or this much time, whichever ends first
    peak: float
    decay: float  # share of the leg, at its end, that the rates take to fall to zero
    done_steps: int = 0
    done_seconds: float = 0.0

    @property
    def progress(self) -> float:
        """How much of the leg is done, 0..1."""
        by_steps = self.done_steps / self.steps if self.steps else 0.0
        by_time = self.done_seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def is_same(self, other: Leg) -> bool:
        """Whether ``other`` asks for the same stretch of training."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[key] == theirs[key] for key in ("steps", "seconds", "peak", "decay"))


@dataclass
class Checkpoint:
    """The state of a run after ``step`` steps."""

    architecture: mgcf.Architecture
    parameters: dict[str, Tensor]
    average: dict[str, Tensor]
    step: int = 0
    averaged_steps: int = 0
    optimiser: list[dict[str, Any]] | None = None  # None: start with fresh moments
    leg: Leg | None = None
    history: list[dict[str, Any]] = field(default_factory=list)  # data and steps of every leg

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in ``folder``: after a crash it is the old one or the new one."""
        state = asdict(self) | {"version": VERSION}
        temporary = folder / f".{FILE}.wip"
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(folder / FILE)


def load(path: Path) -> Checkpoint:
    """Return a checkpoint, of a run folder or a file; a ``.model`` file gives its weights.

    UsageError if the file cannot be read or is neither.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    if file.suffix == ".model":
        return _from_model(data)
    if not data.startswith(ZIP):
        raise UsageError(f"{file}: not a checkpoint of `archiver train`: no ZIP file")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if state.pop("version") != VERSION:
            raise UsageError(f"{file}: a checkpoint of another version; use the release it is from")
        state["architecture"] = mgcf.Architecture(**state["architecture"])
        state["leg"] = Leg(**state["leg"]) if state["leg"] else None
        return Checkpoint(**state)
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: not a checkpoint of `archiver train`: {error}") from error


def _from_model(data: bytes) -> Checkpoint:
    """Start from a model file: its weights are on the grid, where training puts them anyway."""
    file = weights.ModelFile.from_bytes(data)
    parameters = dict(weights.build(file).named_parameters())
    copies = {name: value.detach().clone() for name, value in parameters.items()}
    steps = file.card.get("steps", 0)
    if not isinstance(steps, int):
        raise ArchiverError("the model's card does not say its steps")
    average = {name: value.clone() for name, value in copies.items()}
    return Checkpoint(file.architecture, copies, average, step=steps, averaged_steps=steps)
