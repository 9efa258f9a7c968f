"""Own what a worker does to make an archive model: sample, estimate, fine-tune, decide by bytes.

The model is made if it is expected to pay, and kept if it does: what it saves on files that it was
not tuned on, scaled to all files, must be more than the bytes that store it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.pipeline import engines, sampling
from archiver.pipeline.sampling import Sample

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

MAX_STEPS = 400
MIN_STEPS = 20
MIN_SECONDS = 5.0
TIME_SHARE = 5  # of the time that coding takes, one part of so many is for the model
CODING_PER_ENCODING = 2.2  # the time of coding, decoding included, to that of encoding alone
HOPED_GAIN = 0.1
WORSE = 1.03  # than what the models were made for: then a new one is considered
ROUNDINGS = (1, 2, 4)  # of mantissas, tried while they make the whole smaller
ARCHIVE_MODEL = "archive"


@dataclass(frozen=True)
class TuneTask:
    """What to tune on and how long; ``steps`` and ``seconds`` None: as the coding time allows."""

    archive: Path
    files: tuple[tuple[Path, int], ...]  # shortlist, with sizes
    total_bytes: int  # of all files
    base: bytes  # SHA-256
    known: tuple[bytes, ...]  # archive models made from that base
    tile: int
    steps: int | None
    seconds: float | None
    parallel: int  # tasks that will code at the same time
    threads: int  # to train with


@dataclass(frozen=True)
class Tuned:
    """The stored bytes of a model that pays, if there is one, and why; figures in ``facts``."""

    reason: str
    model: bytes | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def least_bytes(base: int) -> int:
    """Return what the difference to a base of so many bytes takes at least."""
    return 1000 + base // 50


def run_task(task: TuneTask, threads: int) -> Tuned:
    """Make the archive model of a job, or say why there is none."""
    sample = sampling.draw(task.files, task.total_bytes, tile=task.tile)
    if not sample.held_out or not sample.learned_from:
        return Tuned("too few 8-bit grey or colour images")
    return _Tuning(task, sample, threads).run()


class _Tuning:
    """One archive model in the making."""

    def __init__(self, task: TuneTask, sample: Sample, threads: int) -> None:
        self._task, self._sample, self._threads = task, sample, threads
        self._base = engines.whole_model(task.archive, task.base)
        self._engines = [
            engines.of_archive(task.archive, model, threads) for model in (task.base, *task.known)
        ]
        self._held = _HeldOut(sample)
        self._facts: dict[str, Any] = {"pixels": round(sample.pixels)}

    def run(self) -> Tuned:
        """Estimate, tune, decide."""
        started = time.monotonic()
        before = [self._held.add(self._engines[0])]
        per_pixel = (time.monotonic() - started) / self._held.pixels
        before += [self._held.add(engine) for engine in self._engines[1:]]
        best = self._held.total
        self._facts |= {"base_bytes": round(before[0]), "known_bytes": round(best)}
        if self._task.known and not self._is_worse(before):
            return self._result("the models of the archive code the new files as well as the old")
        if HOPED_GAIN * best < least_bytes(len(self._base)):
            return self._result("too little data for a model of its own to pay")
        coding_s = self._sample.pixels * per_pixel * CODING_PER_ENCODING / self._task.parallel
        steps, seconds = self._budget(coding_s)
        self._facts["coding_seconds"] = round(coding_s, 1)
        if seconds < MIN_SECONDS and self._task.seconds is None:
            return self._result(f"coding takes about {coding_s:.0f} s, too short to tune in a part")
        model = self._tune(steps, seconds)
        if model is None:
            return self._result(f"{seconds:.0f} s are not enough to tune a model")
        return self._decide(model, best)

    def _result(self, reason: str, model: bytes | None = None) -> Tuned:
        return Tuned(reason, model, self._facts)

    def _is_worse(self, before: Sequence[float]) -> bool:
        """Whether the archive's models gain clearly less here than on what they were made for."""
        from archiver.codec import weights

        best = min(range(1, len(before)), key=lambda number: before[number])
        whole = engines.whole_model(self._task.archive, self._task.known[best - 1])
        card = weights.ModelFile.from_bytes(whole).card
        made_for = float(card.get("bits", 0.0)) / float(card.get("base_bits", 0.0) or math.inf)
        return self._held.total / before[0] > WORSE * made_for

    def _budget(self, coding_s: float) -> tuple[int, float]:
        """Return steps and seconds: as asked, else as the time of coding allows."""
        steps, seconds = self._task.steps, self._task.seconds
        if steps is None and seconds is None:
            return MAX_STEPS, coding_s / TIME_SHARE
        if steps is None:
            return 1 << 20, seconds or 0.0
        return steps, math.inf if seconds is None else seconds

    def _tune(self, steps: int, seconds: float) -> bytes | None:
        from archiver.codec import finetune
        from archiver.codec import tiles as codec

        started = time.monotonic()
        # a tile of one colour, or of one channel thrice, is not what the network is asked to code
        tiles = [tile.samples for tile in self._sample.learned_from]
        coded = codec.encode(tiles, self._engines[0])
        learnt = [codec.learnable_part(*pair) for pair in zip(tiles, coded, strict=True)]
        is_asked = self._task.steps is not None
        model = finetune.finetune(
            self._base,
            [tile for tile in learnt if tile is not None],
            [8.0 * len(c.payload) for t, c in zip(learnt, coded, strict=True) if t is not None],
            finetune.Budget(steps, seconds, 0 if is_asked else MIN_STEPS),
            name=f"{self._engines[0].name}-{ARCHIVE_MODEL}",
            device=str(self._engines[0].device),
            threads=self._task.threads,
        )
        self._facts["tune_seconds"] = round(time.monotonic() - started, 1)
        return model

    def _decide(self, tuned: bytes, best: float) -> Tuned:
        """Keep the model in the rounding that makes the whole smallest, if it pays at all."""
        from archiver.codec import finetune, model_delta, weights
        from archiver.codec.engine import Engine

        found: list[tuple[float, float, bytes]] = []  # bytes in all, of tiles alone, the file
        card = weights.ModelFile.from_bytes(tuned).card
        for step in ROUNDINGS:
            model = finetune.rounded(tuned, self._base, step)
            alone = self._held.total_of(Engine.open(model, threads=self._threads))
            together = self._held.total_with_last
            card |= self._held.bits(alone) | {"rounding": step}
            stored = model_delta.difference(weights.with_card(model, card), self._base)
            found.append((together + len(stored), together, stored))
            if found[-1][0] > min(found)[0]:
                break
        total, tiles_alone, stored = min(found)
        self._facts |= {
            "steps": card["steps"],
            "model_bytes": len(stored),
            "tuned_bytes": round(tiles_alone),
            "saved_bytes": round(best - total),
        }
        if total >= best:
            return self._result("the model tuned saves less than its own bytes")
        return self._result("the model saves more than its own bytes", stored)


class _HeldOut:
    """The tiles that models are judged by, and what the best model so far takes of each file."""

    def __init__(self, sample: Sample) -> None:
        self._tiles = sample.held_out
        self._samples = [tile.samples for tile in self._tiles]
        self.pixels = sum(s.shape[0] * s.shape[1] for s in self._samples)
        self._n_samples = sum(t.scale * t.samples.size for t in self._tiles)
        self._best = dict(sample.as_is)  # file -> bytes, scaled
        self._last: dict[int, float] = {}
        self._base_total = 0.0

    @property
    def total(self) -> float:
        """Bytes of the whole dataset if each file takes the best of the models added."""
        return sum(self._best.values())

    @property
    def total_with_last(self) -> float:
        """The same if the model judged last were there, too."""
        return sum(min(size, self._last[file]) for file, size in self._best.items())

    def add(self, engine: Engine) -> float:
        """Add a model; return the bytes of the whole dataset under it alone."""
        total = self.total_of(engine)
        self._base_total = self._base_total or total
        self._best = {file: min(size, self._last[file]) for file, size in self._best.items()}
        return total

    def total_of(self, engine: Engine) -> float:
        """Return the bytes of the whole dataset under a model alone."""
        from archiver.codec import tiles as codec

        self._last = {}
        for tile, coded in zip(self._tiles, codec.encode(self._samples, engine), strict=True):
            size = tile.scale * len(coded.payload)
            self._last[tile.file] = self._last.get(tile.file, 0.0) + size
        return sum(self._last.values())

    def bits(self, total: float) -> dict[str, float]:
        """Return the bits per sample of so many bytes, and those under the first model."""
        per_sample = 8.0 / self._n_samples
        return {
            "bits": round(total * per_sample, 4),
            "base_bits": round(self._base_total * per_sample, 4),
        }
