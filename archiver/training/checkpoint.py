"""The checkpoint: everything a run needs to go on, in one file that is replaced as a whole."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from torch import Tensor

from archiver.archive import durable
from archiver.codec.model import architecture, frozen, model_file
from archiver.errors import FormatError, IntegrityError, UsageError

FILE = "checkpoint.pt"
MAGIC = b"ARCTRAIN1"  # then the CRC-32C of what follows, then what torch.save writes


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

    architecture: architecture.Architecture
    parameters: dict[str, Tensor]
    average: dict[str, Tensor]
    step: int = 0
    averaged_steps: int = 0
    optimiser: list[dict[str, Any]] | None = None  # None: start with fresh moments
    leg: Leg | None = None
    history: list[dict[str, Any]] = field(default_factory=list)  # data and steps of every leg

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in ``folder``: after a crash it is the old one or the new one."""
        stream = io.BytesIO()
        torch.save(asdict(self), stream)
        state = stream.getvalue()
        crc = google_crc32c.value(state).to_bytes(4, "little")
        durable.replace_file(folder / FILE, MAGIC + crc + state, scratch=folder / f".{FILE}.wip")


def load(path: Path) -> Checkpoint:
    """Return a checkpoint, of a run folder or a file; a ``.model`` file gives its weights.

    UsageError if the file cannot be read, is neither, or is damaged.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return _from_model(data) if file.suffix == ".model" else _parse(data)
    except (FormatError, IntegrityError) as error:
        raise UsageError(f"{file}: {error}") from error


def _parse(data: bytes) -> Checkpoint:
    if not data.startswith(MAGIC):
        raise FormatError("not a checkpoint of this release of `archiver train`")
    start = len(MAGIC) + 4
    if google_crc32c.value(data[start:]).to_bytes(4, "little") != data[len(MAGIC) : start]:
        raise IntegrityError("the checkpoint is damaged; restore it, or begin a new run")
    state = torch.load(io.BytesIO(data[start:]), map_location="cpu", weights_only=True)
    state["architecture"] = architecture.Architecture.from_json(state["architecture"])
    state["leg"] = Leg(**state["leg"]) if state["leg"] else None
    return Checkpoint(**state)


def _from_model(data: bytes) -> Checkpoint:
    """Start from a model file: its weights are on the grid, where training puts them anyway."""
    file = model_file.ModelFile.from_bytes(data)
    parameters = dict(frozen.build(file).named_parameters())
    copies = {name: value.detach().clone() for name, value in parameters.items()}
    said = file.card.get("steps")
    steps = said if isinstance(said, int) else 0
    average = {name: value.clone() for name, value in copies.items()}
    return Checkpoint(file.architecture, copies, average, step=steps, averaged_steps=steps)
