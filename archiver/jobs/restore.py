"""The task of a worker that unpacks: objects in, files out, each checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archiver.errors import ArchiverError, DestinationError, Verdict, advice, verdict_of
from archiver.pipeline import known_content, progress
from archiver.pipeline.read import output_files
from archiver.pipeline.read.restore import Decoded, Restorer


@dataclass(frozen=True)
class Target:
    """One file to write."""

    path: bytes
    mode: int
    mtime_ns: int
    is_sparse: bool


@dataclass(frozen=True)
class UnpackTask:
    """Objects to restore, each to all its places."""

    archive: Path
    dest: Path
    objects: tuple[int, ...]
    targets: tuple[tuple[Target, ...], ...]  # of each object
    generation: int | None = None  # from which they are

    def halves(self) -> list[UnpackTask]:
        """Return the task in two parts, or as it is if it is of one object."""
        middle = len(self.objects) // 2
        return [
            replace(self, objects=self.objects[half], targets=self.targets[half])
            for half in (slice(0, middle), slice(middle, None))
            if self.objects[half]
        ]


@dataclass(frozen=True)
class Unrestored:
    """A path that was not written, and why."""

    path: bytes
    message: str
    verdict: Verdict


@dataclass(frozen=True)
class UnpackResult:
    """The paths that were written, and why the others were not."""

    done: tuple[bytes, ...]
    failures: tuple[Unrestored, ...]


def run_task(task: UnpackTask, threads: int) -> UnpackResult:
    """Restore the objects of one task."""
    restorer = Restorer(known_content.opened(task.archive, task.generation), threads)
    done: list[bytes] = []
    failures: list[Unrestored] = []
    places = dict(zip(task.objects, task.targets, strict=True))
    for decoded in restorer.decoded(task.objects):
        targets = places[decoded.index]
        for target, error in _restore(restorer, decoded, task.dest, targets):
            if error is None:
                done.append(target.path)
                size = restorer.archive.object(decoded.index).size
                progress.report(Path(os.fsdecode(target.path)), size)
            else:
                failures.append(Unrestored(target.path, str(error), verdict_of(error)))
    return UnpackResult(tuple(done), tuple(failures))


def _restore(
    restorer: Restorer, decoded: Decoded, dest: Path, targets: Sequence[Target]
) -> Iterator[tuple[Target, ArchiverError | None]]:
    """Write one object to all its places; yield each with what went wrong there.

    A place that cannot be written takes no other with it: then each is written by itself.
    """
    paths = [dest / os.fsdecode(target.path) for target in targets]
    sparse = {path for path, target in zip(paths, targets, strict=True) if target.is_sparse}
    expected = restorer.archive.object(decoded.index).rebuilt_sha256
    fault: ArchiverError | None = None
    try:
        output_files.write_copies(paths, restorer.chunks(decoded), expected, sparse=sparse)
        for path, target in zip(paths, targets, strict=True):
            output_files.set_attributes(path, target.mode, target.mtime_ns)
    except ArchiverError as error:
        fault = error
    except OSError as error:
        if len(targets) > 1:
            for target in targets:
                yield from _restore(restorer, decoded, dest, [target])
            return
        fault = unwritable(error)
    for target in targets:
        yield target, fault


def unwritable(error: OSError) -> DestinationError:
    """Return the error that says why something cannot be written, and what to do."""
    what = error.strerror or str(error)
    return DestinationError(f"cannot be written: {what}; {advice(error)}, then unpack again")
