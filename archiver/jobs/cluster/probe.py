"""Files and folders that a worker must see to take part: the same ones, and writable.

The job says what it sees itself, each worker what it finds in the same places.  Devices and inodes
differ between machines; sizes, times and the content of a note do not.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from archiver import __version__
from archiver.archive import layout
from archiver.errors import DestinationError

SAMPLE = 8  # files of a place that are compared
_CLOCK_NS = 2 * 10**9  # what file systems may round a time by
Stamp = tuple[int, int]  # size, modification time


@dataclass(frozen=True)
class Place:
    """A directory of the job: some ``files`` in it, and a ``scratch`` folder if it is written."""

    name: str  # in messages: SOURCE, ARCHIVE, DEST
    files: tuple[Path, ...] = ()
    scratch: Path | None = None


@dataclass(frozen=True)
class Asked:
    """A place as this process sees it now: stamps of its files, and the note in its scratch."""

    name: str
    stamps: tuple[tuple[Path, Stamp], ...]
    note: Path | None = None


@dataclass(frozen=True)
class Sight:
    """The answer of a worker: where it runs, what it is made of, what it sees otherwise."""

    host: str
    versions: dict[str, str]
    faults: tuple[str, ...]
    replies: tuple[Path, ...]  # what it wrote


def of_archive(archive: Path) -> Place:
    """Return an archive that is only read: its root changes with every commit."""
    try:
        shards = sorted((archive / layout.SHARDS).iterdir())
    except OSError:
        shards = []
    return Place("ARCHIVE", (archive / layout.ROOT, *sample(shards)))


def sample(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return some of the files, spread over all."""
    step = max(1, len(paths) // SAMPLE)
    return tuple(paths[::step][:SAMPLE])


@contextmanager
def noted(places: Sequence[Place]) -> Iterator[tuple[tuple[Place, Path | None], ...]]:
    """Yield the places with a note in the scratch folder of each that is written."""
    notes = tuple((place, _note(place)) for place in places)
    try:
        for place, note in notes:
            if note is not None:
                _write(place, note)
        yield notes
    finally:
        for _, note in notes:
            if note is not None:
                note.unlink(missing_ok=True)


def asked(notes: Sequence[tuple[Place, Path | None]]) -> tuple[Asked, ...]:
    """Return what this process sees of the places now; files that went away are left out."""
    seen = []
    for place, note in notes:
        stamps = [(path, _stamp(path)) for path in place.files]
        kept = tuple((path, stamp) for path, stamp in stamps if isinstance(stamp, tuple))
        seen.append(Asked(place.name, kept, note))
    return tuple(seen)


def look(places: tuple[Asked, ...]) -> Sight:
    """Return what this process, a worker, sees; what it writes is for the asker to remove."""
    faults: list[str] = []
    replies: list[Path] = []
    for place in places:
        faults += _faults(place)
        if place.note is not None:
            reply, fault = _reply(place.name, place.note)
            replies += [reply] if reply else []
            faults += [fault] if fault else []
    return Sight(platform.node(), versions(), tuple(faults), tuple(replies))


def versions() -> dict[str, str]:
    """Return the versions that workers are compared by."""
    named = {name: version(name) for name in ("numpy", "distributed")}
    return {"archiver": __version__, "python": platform.python_version(), **named}


def received(sight: Sight) -> Sight:
    """Remove what a worker wrote; a fault if it does not appear here."""
    faults = list(sight.faults)
    for reply in sight.replies:
        try:
            reply.unlink()
        except OSError as error:
            faults.append(f"{reply}: what it writes does not appear here ({error.strerror})")
    return replace(sight, faults=tuple(faults))


def _note(place: Place) -> Path | None:
    if place.scratch is None:
        return None
    suffix = "wip" if place.scratch.name == layout.WIP else "part"  # as other scratch files there
    return place.scratch / f".archiver-{uuid.uuid4().hex}.{suffix}"


def _write(place: Place, note: Path) -> None:
    try:
        note.write_text(note.name)
    except OSError as error:
        raise DestinationError(
            f"{place.name} {note.parent}: cannot be written ({error.strerror}); "
            "make room or check permissions, then run again"
        ) from error


def _stamp(path: Path) -> Stamp | str:
    """Return size and time of a file, or why there is none."""
    try:
        status = path.lstat()
    except OSError as error:
        return error.strerror or str(error)
    return status.st_size, status.st_mtime_ns


def _faults(place: Asked) -> Iterator[str]:
    for path, (size, mtime_ns) in place.stamps:
        stamp = _stamp(path)
        if isinstance(stamp, str):
            yield f"{place.name} {path}: {stamp}"
        elif stamp[0] != size:
            yield f"{place.name} {path}: has {stamp[0]} bytes there, {size} here"
        elif abs(stamp[1] - mtime_ns) > _CLOCK_NS:
            yield f"{place.name} {path}: has another modification time there than here"


def _reply(name: str, note: Path) -> tuple[Path | None, str]:
    """Write beside the note of the asker; return what was written, or why that cannot be."""
    try:
        if note.read_text() != note.name:
            return None, f"{name} {note.parent}: holds another note there"
    except FileNotFoundError:
        return None, f"{name} {note.parent}: is another directory there, or not mounted"
    except OSError as error:
        return None, f"{name} {note.parent}: cannot be read there ({error.strerror})"
    reply = note.with_name(f".archiver-{uuid.uuid4().hex}{note.suffix}")
    try:
        with reply.open("xb") as file:
            file.write(os.urandom(512))
    except OSError as error:
        with suppress(OSError):
            reply.unlink()
        return None, f"{name} {note.parent}: cannot be written there ({error.strerror})"
    return reply, ""
