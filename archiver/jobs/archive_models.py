"""Models that code the files of a job: the base model, and archive models tuned from it.

Models that earlier generations made are candidates first.  A new one is made, as one task on a
worker, when there is enough new data for it to pay.  What came of that is kept until the commit: a
run that was killed goes on with the same models, and so finds its finished tasks again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from archiver import __version__
from archiver.archive import layout
from archiver.archive.model_files import parsed
from archiver.archive.writer import ArchiveWriter
from archiver.errors import ArchiverError
from archiver.jobs import model_tuning
from archiver.jobs.cluster import Workers
from archiver.jobs.events import ArchiveModel, OnEvent, Tuning
from archiver.jobs.model_tuning import Tuned, TuneTask
from archiver.jobs.plan import Item
from archiver.jobs.spec import PackSettings
from archiver.pipeline.write import dataset_sample

MAX_MODELS = 4  # archive models that a file may choose from
OFF = "off: the base model codes all"
NONE = "off: classic codecs code all"
NOTHING_NEW = "nothing new to code"


def prepare(
    writer: ArchiveWriter,
    workers: Workers,
    base: bytes,
    source: Path,
    new: Sequence[Item],
    settings: PackSettings,
    on_event: OnEvent,
) -> ArchiveModel:
    """Return the models, by SHA-256, that the ``new`` files below ``source`` may choose from."""
    if not settings.adapts:
        return ArchiveModel(OFF, (base,))
    known = _of_base(writer, base)
    task = _task(writer, workers, base, known, source, new, settings)
    tuned = _tuned(writer, workers, task, settings, on_event)
    made = tuple(writer.add_model(parsed(model).name, model) for model in tuned.models)
    models = (base, *(model for model in known if model not in made), *made)
    return ArchiveModel(tuned.reason, models, len(made), len(known), dict(tuned.facts))


def _of_base(writer: ArchiveWriter, base: bytes) -> tuple[bytes, ...]:
    """Return the newest models of the archive that were made from that base."""
    if writer.archive is None:
        return ()
    made = [model for model in writer.archive.models if model.base == base.hex()]
    return tuple(bytes.fromhex(model.sha256) for model in made[-MAX_MODELS:])


def _task(
    writer: ArchiveWriter,
    workers: Workers,
    base: bytes,
    known: tuple[bytes, ...],
    source: Path,
    new: Sequence[Item],
    settings: PackSettings,
) -> TuneTask:
    files = [item for item in new if item.kind == layout.FILE]
    chosen = [files[number] for number in dataset_sample.shortlist(len(files))]
    return TuneTask(
        archive=writer.path.resolve(),
        source=source,
        files=tuple((source / item.name, item.size) for item in chosen),
        total_bytes=sum(item.size for item in files),
        base=base,
        known=known,
        tile=settings.tile_side,
        steps=settings.adapt_steps,
        seconds=settings.adapt_seconds,
        parallel=workers.size,
        threads=1 if settings.scheduler else workers.size,
    )


def _tuned(
    writer: ArchiveWriter,
    workers: Workers,
    task: TuneTask,
    settings: PackSettings,
    on_event: OnEvent,
) -> Tuned:
    """Return what came of tuning, now or in the run that was killed before its commit."""
    if not settings.tunes:
        return Tuned("no model is tuned: the time for it was set to 0")
    base_size = layout.model_path(writer.path, task.base).stat().st_size
    if model_tuning.HOPED_GAIN * task.total_bytes < model_tuning.least_bytes(base_size):
        return Tuned("too little new data for a model of its own to pay")
    how, what = _how(task), _what(task)
    before = _read(writer.kept(how))
    if before is not None and (before[1].models or before[0] == what):
        return before[1]
    on_event(Tuning())
    try:
        [outcome] = workers.run(model_tuning.run_task, [task])
    except ValueError as error:
        raise ArchiverError(f"the tuning task ended without an outcome: {error}") from error
    finally:
        on_event(Tuning(is_over=True))
    if outcome.result is None:  # a model is a gain, never a condition
        if isinstance(outcome.error, ArchiverError | OSError):
            raise outcome.error
        return Tuned(f"tuning failed ({outcome.error}); the models that there are code all")
    writer.keep(how, _write(what, outcome.result))
    return outcome.result


def _how(task: TuneTask) -> str:
    """Identify what decides on a model, but for the files: a model found again fits them still."""
    return _digest([__version__, task.base.hex(), [m.hex() for m in task.known], task.tile,
                    task.steps, task.seconds])  # fmt: skip


def _what(task: TuneTask) -> str:
    """Identify the files that were sampled."""
    return _digest([[str(path), size] for path, size in task.files] + [task.total_bytes])


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode("utf-8", "surrogatepass")).hexdigest()


def _write(what: str, tuned: Tuned) -> bytes:
    models = [base64.b64encode(model).decode() for model in tuned.models]
    return json.dumps({"what": what, **asdict(tuned), "models": models}).encode()


def _read(data: bytes | None) -> tuple[str, Tuned] | None:
    if data is None:
        return None
    try:
        document = json.loads(data)
        models = tuple(base64.b64decode(model) for model in document["models"])
        return document["what"], Tuned(document["reason"], models, document["facts"])
    except (ValueError, KeyError, TypeError):
        return None  # of another release: tuned again
