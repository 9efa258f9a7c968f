"""The entries of an unpack job and what came of them: told as events, kept for the summary."""

from __future__ import annotations

from collections.abc import Sequence

from archiver.errors import ArchiverError, Verdict, verdict_of
from archiver.jobs.events import FileDone, FileFailed, Notice, OnEvent
from archiver.pipeline import Entry


class Restored:
    """The files of one unpack job that are there, and those that are not."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event
        self.failures: list[FileFailed] = []
        self.n_files = self.n_bytes = 0

    def done(self, entry: Entry, *, stored: int) -> None:
        """Count a file; ``stored`` is what it took in the archive to restore it."""
        self.n_files += 1
        self.n_bytes += entry.size
        self.on_event(FileDone(entry.path, entry.size, stored, entry.sample_bytes))

    def fail(self, entries: Sequence[Entry], error: ArchiverError) -> None:
        """Note that entries could not be restored."""
        self.report(entries, str(error), verdict_of(error))

    def report(self, entries: Sequence[Entry], message: str, verdict: Verdict) -> None:
        """Note that entries could not be restored, and what that says of the archive."""
        for entry in entries:
            failure = FileFailed(entry.path, message, verdict)
            self.failures.append(failure)
            self.on_event(failure)

    def tell(self, message: str) -> None:
        """Say something that is no failure."""
        self.on_event(Notice(message))
