"""The survey before a pack job: the tree, what the archive has of it, what is new or gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from archiver.archive import layout
from archiver.errors import UsageError
from archiver.jobs import generation, plan
from archiver.jobs.events import Notice
from archiver.jobs.generation import Gone
from archiver.jobs.ledger import Ledger
from archiver.jobs.plan import Item, Scan
from archiver.jobs.present import Present
from archiver.jobs.spec import PackSettings


@dataclass(frozen=True)
class Survey:
    """The tree, the archive, and the items of the tree that have to be packed."""

    scan: Scan
    known: Present
    new: tuple[Item, ...]

    @property
    def files(self) -> list[Item]:
        """All regular files of the tree."""
        return [item for item in self.scan.items if item.kind == layout.FILE]

    @property
    def new_files(self) -> list[Item]:
        """The regular files that have to be packed."""
        return [item for item in self.new if item.kind == layout.FILE]

    def is_lost(self, contents: Mapping[bytes, bytes]) -> bool:
        """Whether there are files and not one of them is in the archive now: not a tree's state.

        ``contents`` are those that this job packed, by path.
        """
        return bool(self.files) and not any(
            item.path in contents or self.known.content(item) for item in self.files
        )


def make(source: Path, archive: Path, settings: PackSettings, ledger: Ledger) -> Survey:
    """Look at the tree and the archive; refuse if the tree has no file any more, but had some."""
    scan = _scan(source, archive, settings, ledger)
    known = Present.read(archive, settings.fidelity)
    if all(item.kind == layout.DIRECTORY for item in scan.items):
        missing = gone(scan, known, settings, ledger)
        _refuse_to_lose_all(source, archive, settings, missing)
        if not scan.items and not missing.paths:
            _refuse_to_match_nothing(source, settings)
    return Survey(scan, known, _new(source, settings, scan, known, ledger))


def gone(scan: Scan, known: Present, settings: PackSettings, ledger: Ledger) -> Gone:
    """Return what the archive has and the tree has not, as far as all could be looked at."""
    if settings.keep_deleted:
        return Gone()
    failed = [failure.path for failure in ledger.failures]
    return generation.gone(known, scan, failed, include=settings.include, exclude=settings.exclude)


def _scan(source: Path, archive: Path, settings: PackSettings, ledger: Ledger) -> Scan:
    scan = plan.scan(source, include=settings.include, exclude=settings.exclude, skip=archive)
    for path, reason in scan.failures:
        ledger.fail(path, reason)
    for path in scan.skipped:
        ledger.on_event(Notice(f"{path}: not a file, directory or link; left out"))
    for notice in scan.notices:
        ledger.on_event(Notice(notice))
    return scan


def _refuse_to_lose_all(source: Path, archive: Path, settings: PackSettings, missing: Gone) -> None:
    if missing.has_files and not settings.allow_empty:
        raise UsageError(
            f"{source}: expected some of the files that {archive} has, found none; "
            "nothing was written. Is it mounted? If all of them were removed on purpose, give "
            "--allow-empty"
        )


def _refuse_to_match_nothing(source: Path, settings: PackSettings) -> None:
    if settings.include:
        raise UsageError(
            f"{source}: nothing in it matches --include "
            f"{' '.join(settings.include)}; * does not cross '/', ** does"
        )


def _new(
    source: Path, settings: PackSettings, scan: Scan, known: Present, ledger: Ledger
) -> tuple[Item, ...]:
    """Return what has to be packed: what is not there, and what turns out to have changed."""
    new = known.new(scan.items)
    if settings.checksum:
        doubtful = [item for item in scan.items if known.content(item) is not None]
    else:
        doubtful = known.doubtful(scan.items)
    if not doubtful:
        return tuple(new)
    size = sum(item.size for item in doubtful)
    ledger.on_event(Notice(f"{size} bytes are read again, to see which files have changed"))
    changed = known.changed(source, doubtful)
    return tuple(sorted([*new, *changed], key=lambda item: item.path))
