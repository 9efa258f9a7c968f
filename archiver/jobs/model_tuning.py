"""The task that makes an archive model: sample, estimate, tune, decide by bytes.

The model is made if it is expected to pay, and kept if it does: what it saves on files that it was
not tuned on, scaled to all files, must be more than the bytes that store it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.image import Samples
from archiver.pipeline import engines
from archiver.pipeline.write import dataset_sample
from archiver.pipeline.write.dataset_sample import Sample

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

MAX_STEPS = 2000
MIN_STEPS = 40
MIN_SECONDS = 5.0
TIME_SHARE = 5  # of the time that coding takes, one part of so many is for the model
CODING_PER_ENCODING = 2.2  # the time of coding, decoding included, to that of encoding alone
LEARNING_PER_ENCODING = 12  # the time to learn from a pixel, at least, to that of encoding it
HOPED_GAIN = 0.1
WORSE = 1.03  # than what the models were made for: then a new one is considered
ROUNDINGS = (1, 2, 4)  # of mantissas, tried while they make the whole smaller
ARCHIVE_MODEL = "archive"
MAX_GROUPS = 3  # with a model of their own, beside that of the whole


@dataclass(frozen=True)
class TuneTask:
    """The sample and time to tune; ``steps`` and ``seconds`` None: as the coding time allows."""

    archive: Path
    source: Path
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
    """The stored bytes of models that pay, if there are any, and why; figures in ``facts``."""

    reason: str
    models: tuple[bytes, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def least_bytes(base: int) -> int:
    """Return what the difference to a base of so many bytes takes at least."""
    return 1000 + base // 50


def run_task(task: TuneTask, threads: int) -> Tuned:
    """Make the archive model of a job, or say why there is none."""
    base = engines.of_archive(task.archive, task.base, threads)
    deep = base.has_high_depth
    sample = dataset_sample.draw(task.files, task.total_bytes, tile=task.tile, deep=deep)
    if not sample.held_out or not sample.learned_from:
        return Tuned("too few images that a model can code")
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
        self._made: list[bytes] = []
        self._start = self._base  # what tuning begins with

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
        if self._task.seconds is None and not self._is_long_enough(seconds, per_pixel):
            return self._result("coding takes too short a time to tune a model in a part of it")
        return self._make_all(steps, seconds, best)

    @staticmethod
    def _is_long_enough(seconds: float, per_pixel: float) -> bool:
        """Whether the least steps may fit, given the time to encode a pixel."""
        if seconds < MIN_SECONDS:
            return False
        from archiver.codec.tuning.archive_model import BATCH_PIXELS

        return seconds >= MIN_STEPS * BATCH_PIXELS * per_pixel * LEARNING_PER_ENCODING

    def _make_all(self, steps: int, seconds: float, before: float) -> Tuned:
        """Tune a model for the whole dataset, then one for each group that may pay for its own."""
        whole = Group("", frozenset(range(len(self._sample.paths))))
        parts = groups(self._labels(), self._held.sizes, least_bytes(len(self._base)) / HOPED_GAIN)
        shares = [1.0] if not parts else [0.5, *(0.5 / len(parts) for _ in parts)]
        for group, share in zip([whole, *parts], shares, strict=True):
            model = self._tune(group, steps, seconds * share)
            if model is not None:
                self._decide(model, group)
        if "steps" not in self._facts:
            return self._result("the time for it is not enough to tune a model")
        self._facts |= {"tuned_bytes": round(self._held.total)}
        self._facts["model_bytes"] = sum(map(len, self._made))
        self._facts["saved_bytes"] = round(before - self._held.total) - self._facts["model_bytes"]
        if not self._made:
            return self._result("the model tuned saves less than its own bytes")
        return self._result("made: saves more than its own bytes")

    def _result(self, reason: str) -> Tuned:
        return Tuned(reason, tuple(self._made), self._facts)

    def _labels(self) -> list[str]:
        """Return the group of each file of the sample: top-level directory and kind of samples."""
        kinds = {tile.file: _kind(tile.samples) for tile in self._sample.tiles}
        labels = []
        for number, path in enumerate(self._sample.paths):
            parts = path.relative_to(self._task.source).parts
            labels.append(f"{parts[0] if len(parts) > 1 else '.'} {kinds.get(number, '')}")
        return labels

    def _is_worse(self, before: Sequence[float]) -> bool:
        """Whether the archive's models gain clearly less here than on what they were made for."""
        from archiver.codec.model import model_file

        best = min(range(1, len(before)), key=lambda number: before[number])
        whole = engines.whole_model(self._task.archive, self._task.known[best - 1])
        card = model_file.ModelFile.from_bytes(whole).card
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

    def _tune(self, group: Group, steps: int, seconds: float) -> bytes | None:
        """Return a model tuned on the files of a group, beginning with the newest model made."""
        from archiver.codec import learned
        from archiver.codec import tiles as codec
        from archiver.codec.model.batches import Shown
        from archiver.codec.tuning import archive_model

        started = time.monotonic()
        # a tile of one colour, or of one channel thrice, is not what the network is asked to code
        tiles = [t.samples for t in self._sample.learned_from if t.file in group.files]
        base = self._engines[0]
        coded = codec.encode(tiles, base)
        parts = [learned.parts(*pair, base) for pair in zip(tiles, coded, strict=True)]
        learnt = [
            (Shown.of(piece), 8.0 * len(encoded.payload) / len(pieces))
            for pieces, encoded in zip(parts, coded, strict=True)
            for piece in pieces
        ]
        is_asked = self._task.steps is not None
        model = archive_model.tune(
            self._start,
            [shown for shown, _ in learnt],
            [bits for _, bits in learnt],
            archive_model.Budget(steps, seconds, 0 if is_asked else MIN_STEPS),
            name=f"{base.name}-{ARCHIVE_MODEL} {group.label}".rstrip(),
            device=str(base.device),
            threads=self._task.threads,
        )
        took = time.monotonic() - started
        self._facts["tune_seconds"] = round(self._facts.get("tune_seconds", 0.0) + took, 1)
        return model

    def _decide(self, tuned: bytes, group: Group) -> None:
        """Keep the model in the rounding that makes the whole smallest, if it pays at all."""
        from archiver.codec.inference.engine import Engine
        from archiver.codec.model import model_delta, model_file
        from archiver.codec.tuning import archive_model

        tried: list[tuple[float, bytes, Engine]] = []  # bytes in all, the file, its engine
        card = model_file.ModelFile.from_bytes(tuned).card
        self._facts["steps"] = self._facts.get("steps", 0) + card["steps"]
        for step in ROUNDINGS:
            engine = Engine.open(
                model := archive_model.rounded(tuned, self._base, step), threads=self._threads
            )
            card |= self._held.judge(engine, group.files) | {"rounding": step}
            card["base"] = model_file.digest(self._base)
            stored = model_delta.difference(model_file.with_card(model, card), self._base)
            tried.append((self._held.total_with_last + len(stored), stored, engine))
            if tried[-1][0] > min(total for total, *_ in tried):
                break
        total, stored, engine = min(tried, key=lambda rounding: rounding[0])
        if total < self._held.total:
            self._held.add(engine, group.files)
            self._made.append(stored)
            self._start = model_delta.expand(stored, lambda _: self._base)


@dataclass(frozen=True)
class Group:
    """Files, by number in the sample, that are alike enough to share a model."""

    label: str
    files: frozenset[int]


def groups(labels: Sequence[str], sizes: Mapping[int, float], least: float) -> list[Group]:
    """Return the groups of files that may pay for a model of their own, the largest first.

    ``labels`` says which files are alike, ``sizes`` what the files held out take, scaled.  Groups
    below ``least`` bytes are left to the model of the whole; one group is the whole.
    """
    members: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        members.setdefault(label, []).append(number)
    totals = {
        label: sum(sizes.get(number, 0.0) for number in numbers)
        for label, numbers in members.items()
    }
    chosen = sorted((label for label in members if totals[label] >= least), key=totals.__getitem__)
    if len(members) < 2:
        return []
    return [Group(label, frozenset(members[label])) for label in chosen[: -MAX_GROUPS - 1 : -1]]


def _kind(samples: Samples) -> str:
    """Return in a word what kind of samples these are."""
    if samples.dtype.itemsize > 1:
        return "16-bit"
    return "grey" if samples.shape[2] == 1 else "colour"


class _HeldOut:
    """The tiles that models are judged by, and what the best model so far takes of each file."""

    def __init__(self, sample: Sample) -> None:
        self._tiles = sample.held_out
        self.pixels = sum(t.samples.shape[0] * t.samples.shape[1] for t in self._tiles)
        self._best = dict(sample.as_is)  # file -> bytes, scaled
        self._last: dict[int, float] = {}
        self._under_base: dict[int, float] = {}

    @property
    def total(self) -> float:
        """Bytes of the whole dataset if each file takes the best of the models added."""
        return sum(self._best.values())

    @property
    def total_with_last(self) -> float:
        """The same if the model judged last were there, too."""
        return sum(min(size, self._last.get(file, size)) for file, size in self._best.items())

    @property
    def sizes(self) -> dict[int, float]:
        """Bytes of each file under the best of the models added, scaled."""
        return dict(self._best)

    def add(self, engine: Engine, files: Collection[int] | None = None) -> float:
        """Add a model for all or some files; return the bytes of these under it alone."""
        self.judge(engine, files)
        if not self._under_base:
            self._under_base = dict(self._last)
        for file, size in self._last.items():
            self._best[file] = min(size, self._best[file])
        return sum(self._last.values())

    def judge(self, engine: Engine, files: Collection[int] | None = None) -> dict[str, float]:
        """Code all or some files; return their bits per sample, and those under the first model."""
        from archiver.codec import tiles as codec

        chosen = [tile for tile in self._tiles if files is None or tile.file in files]
        coded = codec.encode([tile.samples for tile in chosen], engine)
        self._last = {}
        for tile, encoded in zip(chosen, coded, strict=True):
            size = tile.scale * len(encoded.payload)
            self._last[tile.file] = self._last.get(tile.file, 0.0) + size
        n_samples = sum(tile.scale * tile.samples.size for tile in chosen)
        before = sum(self._under_base.get(file, 0.0) for file in self._last)
        return {
            "bits": round(8.0 * sum(self._last.values()) / n_samples, 4),
            "base_bits": round(8.0 * before / n_samples, 4),
        }
