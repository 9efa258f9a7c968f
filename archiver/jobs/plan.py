"""The plan of a pack job: the scan of a tree, and its cut into tasks.

A plan is a function of the tree and the settings.  It does not depend on workers, so the shards do
not either; and a run that was killed finds its finished tasks again by their digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from archiver import __version__
from archiver.archive import layout
from archiver.errors import NotFoundError, SourceError, UsageError
from archiver.pipeline import LARGE_BYTES, Effort, globs
from archiver.pipeline.write import source_file

MIN_TASK_BYTES = 2 << 20
MAX_TASK_BYTES = 128 << 20
MAX_TASK_ITEMS = 4096
TASKS = 64  # aimed at, between those bounds
_PROBE = 4096  # bytes read at the start, middle and end to tell files of one size apart
_PROBE_THREADS = 8
_BLOCK = 512  # bytes that st_blocks counts
_KINDS = {stat.S_IFREG: layout.FILE, stat.S_IFDIR: layout.DIRECTORY, stat.S_IFLNK: layout.SYMLINK}
_CLAMPED = (
    "its modification time lies outside 1677-09-21 to 2262-04-11, which is all that an archive can "
    "hold; the nearest of these is kept"
)


@dataclass(frozen=True)
class Item:
    """One path of the tree, relative to its root; ``size`` is 0 but for regular files.

    ``ctime_ns`` and ``inode`` tell whether to look at it again.  ``file`` is what names of one
    file have in common, None of a file that has one name; ``is_thin`` if it takes less room than
    its size says, so that it may have holes.
    """

    path: bytes
    kind: int
    mode: int
    mtime_ns: int
    size: int = 0
    ctime_ns: int = 0
    inode: int = 0
    file: tuple[int, int] | None = None  # device, inode
    is_thin: bool = False

    @property
    def name(self) -> str:
        """The path as text."""
        return os.fsdecode(self.path)


@dataclass(frozen=True)
class Scan:
    """A tree: its items sorted by path, directories that could not be read, things skipped.

    ``found`` has the paths of all that was found and not excluded, included or not.
    """

    items: tuple[Item, ...]
    failures: tuple[tuple[str, str], ...]  # path, reason
    skipped: tuple[str, ...]
    notices: tuple[str, ...] = ()
    paths: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Task:
    """The files and symlinks of one shard, which one worker packs at once.

    ``done`` holds content that an earlier, killed run brought into a shard already.
    """

    source: Path
    archive: Path
    items: tuple[Item, ...]
    models: tuple[bytes, ...]  # SHA-256 of each candidate, the base model first
    tile: int
    fidelity: str
    profile: str
    effort: Effort | None = None  # of fitting an adapter to each file
    done: frozenset[bytes] = frozenset()

    @property
    def digest(self) -> str:
        """Identify the task: what is packed, and everything that decides how."""
        how = [
            __version__,
            layout.VERSION,
            [model.hex() for model in self.models],
            self.tile,
            self.fidelity,
            self.profile,
            self.effort and [self.effort.passes, self.effort.seconds],
        ]
        what = [(i.path.hex(), i.kind, i.size, i.mtime_ns) for i in self.items]
        return hashlib.sha256(json.dumps([how, what]).encode()).hexdigest()

    @property
    def input_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(item.size for item in self.items)


# --- scan ------------------------------------------------------------------------------------


def scan(
    source: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = (), skip: Path
) -> Scan:
    """Return what lies below ``source``, sorted; ``skip`` is the archive, should it be inside."""
    if not source.is_dir():
        if os.path.lexists(source):
            raise UsageError(f"{source}: expected a directory, found a file; pack its directory")
        raise NotFoundError(f"{source}: expected a directory, found nothing; check the path")
    walk = _Walk(source, globs.any_of(exclude), skip)
    items = sorted(walk.run(), key=lambda item: item.path)
    paths = frozenset(item.path for item in items)
    if include:
        items = _included(items, globs.any_of(include))
    return Scan(
        tuple(items),
        tuple(sorted(walk.failures)),
        tuple(sorted(walk.skipped)),
        tuple(sorted(walk.notices)),
        paths,
    )


class _Walk:
    """One walk over a tree, never through a symlink."""

    def __init__(self, source: Path, is_excluded: Callable[[str], bool], skip: Path) -> None:
        self.failures: list[tuple[str, str]] = []
        self.skipped: list[str] = []
        self.notices: list[str] = []
        self._source = source
        self._is_excluded = is_excluded
        self._skip = os.stat(skip) if skip.is_dir() else None  # noqa: PTH116 - pairs with samestat

    def run(self) -> Iterator[Item]:
        folders = [b""]
        while folders:
            folder = folders.pop()
            for item in self._list(folder):
                yield item
                if item.kind == layout.DIRECTORY:
                    folders.append(item.path)

    def _list(self, folder: bytes) -> Iterator[Item]:
        try:
            with os.scandir(os.fsencode(self._source / os.fsdecode(folder))) as items:
                entries = list(items)
        except OSError as error:
            name = os.fsdecode(folder) or "."
            self.failures.append((name, f"the directory cannot be read: {error.strerror}"))
            return
        for entry in entries:
            path = folder + b"/" + entry.name if folder else entry.name
            if not self._is_excluded(os.fsdecode(path)):
                yield from self._item(entry, path)

    def _item(self, entry: os.DirEntry[bytes], path: bytes) -> Iterator[Item]:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.failures.append((os.fsdecode(path), f"cannot be read: {error.strerror}"))
            return
        if self._skip is not None and os.path.samestat(status, self._skip):
            return
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.skipped.append(os.fsdecode(path))
            return
        item = _described(path, kind, status)
        if item.mtime_ns != status.st_mtime_ns:
            self.notices.append(f"{item.name}: {_CLAMPED}")
        yield item


def _described(path: bytes, kind: int, status: os.stat_result) -> Item:
    """Return what is recorded of a path; times that no archive can hold come as near as it can."""
    is_file = kind == layout.FILE
    return Item(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        _clamped(status.st_mtime_ns),
        status.st_size if is_file else 0,
        _clamped(status.st_ctime_ns),
        status.st_ino,
        (status.st_dev, status.st_ino) if is_file and status.st_nlink > 1 else None,
        is_file and status.st_blocks * _BLOCK < status.st_size,
    )


def _clamped(time_ns: int) -> int:
    return max(layout.MIN_MTIME_NS, min(layout.MAX_MTIME_NS, time_ns))


def _included(items: Iterable[Item], is_included: Callable[[str], bool]) -> list[Item]:
    """Keep what is asked for and the directories above it."""
    kept = {item.path: item for item in items if is_included(item.name)}
    above = {path[:end] for path in kept for end in range(len(path)) if path[end : end + 1] == b"/"}
    return [item for item in items if item.path in kept or item.path in above]


# --- plan ------------------------------------------------------------------------------------


def make(source: Path, items: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Cut files and symlinks into tasks of similar size; copies of one file stay together.

    Directories need no work and are left out.
    """
    groups = _copies(source, [item for item in items if item.kind != layout.DIRECTORY])
    target = task_bytes(sum(group[0].size for group in groups))
    tasks: list[list[Item]] = []
    room = 0
    for group in groups:
        size = group[0].size
        is_alone = size > LARGE_BYTES
        if not tasks or is_alone or size > room or len(tasks[-1]) >= MAX_TASK_ITEMS:
            tasks.append([])
            room = max(target, size)
        tasks[-1] += group
        room = -1 if is_alone else room - size
    return [tuple(task) for task in tasks]


def task_bytes(total: int) -> int:
    """Return the aimed size of a task: a power of two, so that one more file moves few borders."""
    share = max(1, total // TASKS)
    return max(MIN_TASK_BYTES, min(MAX_TASK_BYTES, 1 << (share.bit_length() - 1)))


def _copies(source: Path, items: Sequence[Item]) -> list[list[Item]]:
    """Return the items, each followed by its copies: coded by one task, they are coded once."""
    content = _contents(source, items)
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(content.get(item.path, item.path), []).append(item)
    return list(groups.values())


def _contents(source: Path, items: Sequence[Item]) -> dict[bytes, tuple[int, bytes]]:
    """Return (size, SHA-256) of the files that may have a copy; others are not read in full."""
    files = [item for item in items if item.kind == layout.FILE and item.size]
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        for read in (_nothing, _probe, _sha256):
            keys = pool.map(lambda item, read=read: read(source, item), files)
            alike = defaultdict(list)
            for item, key in zip(files, keys, strict=True):
                if key is not None:
                    alike[item.size, key].append(item)
            files = [item for group in alike.values() if len(group) > 1 for item in group]
    return {item.path: key for key, group in alike.items() if len(group) > 1 for item in group}


def _nothing(source: Path, item: Item) -> bytes | None:
    return b""


def _probe(source: Path, item: Item) -> bytes | None:
    """Return a few pieces of a file; None if it cannot be read: the task will say so."""
    try:
        with source_file.open_source(source / item.name) as file:
            pieces = []
            for start in (0, item.size // 2, max(0, item.size - _PROBE)):
                file.seek(start)
                pieces.append(file.read(_PROBE))
            return b"".join(pieces)
    except (OSError, SourceError):
        return None


def _sha256(source: Path, item: Item) -> bytes | None:
    try:
        with source_file.open_source(source / item.name) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, SourceError):
        return None
