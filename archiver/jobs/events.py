"""Events, which a job says while it runs, and summaries, which it ends with.

A job never prints.  It hands events to ``on_event`` as they happen and returns one summary; the
command line and a library user listen in the same way.  Paths are those inside the tree, as text
(undecodable bytes as surrogate escapes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import Verdict

if TYPE_CHECKING:
    from archiver.archive.check import Problem


@dataclass(frozen=True)
class Planned:
    """The scan is over: so many files are to be done, in so many tasks."""

    files: int
    input_bytes: int
    tasks: int


@dataclass(frozen=True)
class FileProgress:
    """So many bytes of a file are done so far.

    It comes at most a few times a second from each worker, may be lost, and begins anew if a part
    of the work is tried again; `FileDone` is what counts.
    """

    path: str
    input_bytes: int


@dataclass(frozen=True)
class FileDone:
    """One file was packed (or verified, or unpacked); ``stored_bytes`` is what it costs."""

    path: str
    input_bytes: int
    stored_bytes: int
    sample_bytes: int


@dataclass(frozen=True)
class FileFailed:
    """One file could not be done; the job goes on."""

    path: str
    message: str
    verdict: Verdict = Verdict.FAILED


@dataclass(frozen=True)
class Notice:
    """Something the user should know that is no failure, such as a fall-back to the CPU."""

    message: str


@dataclass(frozen=True)
class Committing:
    """All files are done; the generation is being written."""


@dataclass(frozen=True)
class Committed:
    """The archive now is at this generation."""

    generation: int


@dataclass(frozen=True)
class Tuning:
    """An archive model is tuned from now on, before files are coded; or that is over."""

    is_over: bool = False


Event = Planned | FileProgress | FileDone | FileFailed | Notice | Tuning | Committing | Committed
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class FormatTotals:
    """The files of one format: how many, their size, and what they take in the archive."""

    name: str  # "PNG", "TIFF", ...; "other" for opaque files
    files: int
    input_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Kept:
    """Files that are kept as their original bytes for one and the same reason."""

    reason: str
    files: int
    input_bytes: int
    example: str  # path of the first of them


@dataclass(frozen=True)
class ArchiveModel:
    """The models that a job's files could choose from; whether one was tuned, and why.

    ``models`` by SHA-256, the base model first.

    ``facts`` of the tuning, as far as it came: "pixels" that models could code; bytes of all that,
    estimated from files not tuned on, under the base model ("base_bytes"), with the models found in
    the archive ("known_bytes"), with the new ones ("tuned_bytes"); "model_bytes" and "saved_bytes",
    the difference with the new models' own bytes counted; "steps", "tune_seconds".
    """

    reason: str
    models: tuple[bytes, ...] = ()
    made: int = 0  # how many of them, the last ones, this job made
    reused: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelTotals:
    """A model that tiles of this job use: how many, and their bytes; ``size`` of its file."""

    name: str
    sha256: str
    size: int
    tiles: int
    stored_bytes: int


@dataclass(frozen=True)
class Summary:
    """The outcome of one pack job.

    ``files`` and ``input_bytes`` count every regular file found in SOURCE, failed and unchanged
    ones too.  ``formats``, ``kept``, ``tiles`` and ``sample_bytes`` cover the files that this job
    coded: not the ``unchanged`` ones, which are in the archive already.  ``archive_bytes`` is the
    size of the whole archive afterwards; it equals ``payload_bytes + model_bytes``.  ``removed``
    counts the paths that SOURCE no longer has: this generation goes without them.
    """

    archive: Path
    generation: int | None  # None: nothing was committed (dry run, or nothing new)
    model: str  # name of the base model, "" if the profile has none
    files: int
    unchanged: int
    failures: tuple[FileFailed, ...]
    input_bytes: int
    sample_bytes: int  # uncompressed
    archive_bytes: int
    payload_bytes: int  # shards and manifest: everything but the models
    model_bytes: int
    seconds: float
    tiles: Mapping[str, int]  # codec name -> tiles
    formats: tuple[FormatTotals, ...] = ()
    kept: tuple[Kept, ...] = ()
    models: tuple[ModelTotals, ...] = ()
    archive_model: ArchiveModel | None = None
    removed: int = 0


@dataclass(frozen=True)
class VerifySummary:
    """The outcome of one verification; without ``problems`` the archive is good to that depth.

    The verdict of a problem tells damage from what could not be checked.
    """

    archive: Path
    depth: str
    files: int
    tiles: int  # decoded and compared; 0 at depth "structure"
    archive_bytes: int
    problems: tuple[Problem, ...]
    seconds: float


@dataclass(frozen=True)
class UnpackSummary:
    """The outcome of one unpack job."""

    dest: Path
    files: int
    failures: tuple[FileFailed, ...]
    output_bytes: int
    seconds: float
