"""The jobs as a whole: plan, submit, collect, commit.  Emits events, prints nothing.

`pack` lives here; `verify` and `unpack` have modules of their own and are offered here as well.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from archiver.archive import layout
from archiver.archive import usage as disk
from archiver.archive.model_files import info_of
from archiver.archive.writer import ArchiveWriter
from archiver.codec.model import pretrained
from archiver.jobs import archive_models, cluster, coding, generation, plan, survey
from archiver.jobs.cluster import probe
from archiver.jobs.events import (
    ArchiveModel,
    Committed,
    Committing,
    ModelTotals,
    Notice,
    OnEvent,
    Planned,
    Summary,
    ignore,
)
from archiver.jobs.ledger import Ledger
from archiver.jobs.plan import Item, Task
from archiver.jobs.spec import PackSettings
from archiver.jobs.survey import Survey
from archiver.jobs.unpack import unpack
from archiver.jobs.verify import verify

__all__ = ["pack", "unpack", "verify"]

NOTHING_PACKED = "not one file could be packed, so no generation was added; see why, then run again"


def pack(
    source: Path,
    archive: Path,
    settings: PackSettings | None = None,
    on_event: OnEvent | None = None,
) -> Summary:
    """Put the directory tree ``source`` into ``archive``; add a generation if there is one.

    A file that cannot be packed is an event and an entry in the summary; the job goes on.
    """
    job = _Pack(Path(source), Path(archive), settings or PackSettings(), on_event or ignore)
    if job.settings.dry_run:
        return job.dry_run()
    with ArchiveWriter.open(job.archive) as writer:
        outcome = job.run(writer)
    return job.summary(*outcome)  # what is on disk is known when the writer has cleaned up


class _Pack:
    """One run of `pack`."""

    def __init__(
        self, source: Path, archive: Path, settings: PackSettings, on_event: OnEvent
    ) -> None:
        self.archive = archive
        self.settings = settings
        self._started = time.monotonic()
        self._source = source
        self._on_event = on_event
        by_profile = pretrained.LARGE if settings.adapts else pretrained.SMALLEST
        model = (settings.model or by_profile) if settings.has_models else ""
        self._model_name = Path(model).stem
        self._model = pretrained.load(model) if model else None
        self._ledger = Ledger(on_event)
        self._archive_model = ArchiveModel(archive_models.NOTHING_NEW)
        self._removed = 0

    def dry_run(self) -> Summary:
        """Say what would be packed; write nothing."""
        tree = self._survey()
        tasks = plan.make(self._source, tree.new)
        self._emit_plan(tree, len(tasks))
        self._removed = len(self._gone(tree).paths)
        return self.summary(tree, None)

    def run(self, writer: ArchiveWriter) -> tuple[Survey, int | None]:
        """Pack what is new and commit it; return the tree as it was found, and the generation."""
        tree = self._survey()
        once, self._ledger.other_names = generation.first_names(tree.new)
        groups = plan.make(self._source, once)
        self._emit_plan(tree, len(groups))
        with cluster.open_workers(
            self.settings.workers,
            self.settings.scheduler,
            n_tasks=len(groups),
            places=self._places(tree),
            on_event=self._on_event,
        ) as workers:
            if groups:
                self._choose_models(writer, workers, once)
            models = self._archive_model.models
            tasks = [self._task(items, models) for items in groups]
            coding.run(writer, workers, tasks, self._ledger)
        return tree, self._commit(writer, tree)

    def _survey(self) -> Survey:
        return survey.make(self._source, self.archive, self.settings, self._ledger)

    def _gone(self, tree: Survey) -> generation.Gone:
        return survey.gone(tree.scan, tree.known, self.settings, self._ledger)

    def _emit_plan(self, tree: Survey, n_tasks: int) -> None:
        files = tree.new_files
        self._on_event(Planned(len(files), sum(item.size for item in files), n_tasks))

    def _places(self, tree: Survey) -> list[cluster.Place]:
        """Return what workers elsewhere must see as this process does."""
        source, archive = self._source.resolve(), self.archive.resolve()
        files = tree.new_files or tree.new
        seen = probe.sample([source / item.name for item in files])
        return [
            cluster.Place("SOURCE", seen),
            cluster.Place("ARCHIVE", scratch=archive / layout.WIP),
        ]

    def _choose_models(
        self, writer: ArchiveWriter, workers: cluster.Workers, new: Sequence[Item]
    ) -> None:
        """Settle which models the new files may choose from; tune one if it is worth it."""
        if self._model is None:
            self._archive_model = ArchiveModel(archive_models.NONE)
            return
        base = writer.add_model(self._model_name, self._model)
        source = self._source.resolve()
        self._archive_model = archive_models.prepare(
            writer, workers, base, source, new, self.settings, self._on_event
        )

    def _task(self, items: tuple[Item, ...], models: tuple[bytes, ...]) -> Task:
        return Task(
            source=self._source.resolve(),
            archive=self.archive.resolve(),
            items=items,
            models=models,
            tile=self.settings.tile_side,
            fidelity=self.settings.fidelity,
            profile=self.settings.profile,
            effort=self.settings.effort,
        )

    def _commit(self, writer: ArchiveWriter, tree: Survey) -> int | None:
        """Add a generation if anything is to be said, and keep what was seen for the next run."""
        self._on_event(Committing())
        contents, items = self._ledger.contents, tree.scan.items
        if tree.is_lost(contents):
            self._on_event(Notice(f"{self.archive}: {NOTHING_PACKED}"))
            return None
        entries = generation.entries(self._source, items, contents, tree.known)
        gone = self._gone(tree)
        entries += gone.removals(entries)
        self._removed = len(gone.paths)
        number = None
        if entries or tree.known.is_empty:
            number = writer.commit(entries, self._ledger.shards, self._recorded())
            self._on_event(Committed(number))
        failed = {os.fsencode(failure.path) for failure in self._ledger.failures}
        writer.keep_seen(tree.known.sights(items, contents, failed))
        return number

    def _recorded(self) -> dict[str, object]:
        return {
            **self.settings.recorded(),
            "model": self._model_name,
            "model_sha256": hashlib.sha256(self._model).hexdigest() if self._model else "",
            "tile": self.settings.tile_side,
            "archive_model": self._archive_model.reason,
            "failed": len(self._ledger.failures),
            "removed": self._removed,
            "seconds": round(time.monotonic() - self._started, 3),
        }

    def summary(self, tree: Survey, number: int | None) -> Summary:
        """Say what became of the files of the tree, and in which generation."""
        tally, used = self._ledger.tally, disk.usage(self.archive)
        return Summary(
            archive=self.archive,
            generation=number,
            model=self._model_name,
            files=len(tree.files),
            unchanged=len(tree.files) - len(tree.new_files),
            failures=tuple(tally.failures),
            input_bytes=sum(item.size for item in tree.files),
            sample_bytes=tally.sample_bytes,
            archive_bytes=used.total,
            payload_bytes=used.payload,
            model_bytes=used.models,
            seconds=time.monotonic() - self._started,
            tiles=tally.tiles,
            formats=tally.formats,
            kept=tally.kept,
            models=tuple(self._model_totals(*item) for item in tally.models.items()),
            archive_model=self._archive_model,
            removed=self._removed,
        )

    def _model_totals(self, sha256: bytes, sums: tuple[int, int]) -> ModelTotals:
        info = info_of(self.archive, sha256)
        return ModelTotals(info.name, sha256.hex(), info.size, *sums)
