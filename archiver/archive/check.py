"""The check of an archive at rest: every byte that is there, and which entries damage hits.

Nothing is decoded.  Damage becomes a Problem, never an exception, and the check goes on; only a
path without an archive, or an archive of another format version, is an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from archiver.archive import affected, commit, durable, layout, salvage
from archiver.archive.commit import Commit
from archiver.archive.index import owner_of
from archiver.archive.model_files import parsed
from archiver.archive.reader import Archive
from archiver.errors import ArchiverError, IntegrityError, Verdict, verdict_of

_BLOCK = 16 << 20
_PAYLOAD: Final = np.dtype(
    [("shard", "<u4"), ("offset", "<i8"), ("length", "<u4"), ("crc32c", "<u4"), ("object", "<i8")]
)


@dataclass(frozen=True)
class Problem:
    """One fault of an archive, what to do about it, and the entries that cannot be restored.

    ``verdict`` says whether it is damage, or a part that this machine could not check.
    """

    where: str
    expected: str
    found: str
    advice: str
    entries: tuple[str, ...] = ()
    verdict: Verdict = Verdict.DAMAGED

    def said(self, path: str) -> str:
        """Return the problem as one clause about ``path``, an entry or the place itself."""
        where = "" if path == self.where or self.found.startswith(self.where) else f"{self.where}: "
        return f"{where}{self.found.removeprefix(f'{path}: ')}; {self.advice}"


def check_structure(path: Path, *, read_shards: bool = True) -> list[Problem]:
    """Check root, manifest, models and shards of an archive; all payloads if ``read_shards``."""
    problems, commits = _history(path)
    if problems:  # nothing can be restored before the documents are mended
        hit = _names(salvage.paths(path))
        problems = [replace(problem, entries=hit) for problem in problems]
    if commits:
        with Archive(path, commits) as archive:
            problems += _Check(archive, read_shards).run()
    return problems


def _history(path: Path) -> tuple[list[Problem], list[Commit]]:
    """Return what is wrong with root and history, and the history as far as it can be known."""
    problems = []
    try:
        candidates = [commit.read_root(path)]
    except IntegrityError as error:
        problems.append(_problem(path / layout.ROOT, "the newest commit document", error))
        candidates = commit.candidates(path)
    for newest in candidates:
        try:
            return problems, commit.read_history(path, newest)
        except ArchiverError as error:
            problems.append(_problem(path / layout.MANIFEST, "every commit document", error))
    return problems, []


class _Check:
    """The check of one archive whose history is known."""

    def __init__(self, archive: Archive, read_shards: bool) -> None:
        self._archive = archive
        self._index = archive.index
        self._read_shards = read_shards

    def run(self) -> list[Problem]:
        """Return all problems, the manifest's first."""
        return [
            *self._tables(),
            *self._view(),
            *self._models(),
            *self._shards(),
            *self._strangers(),
        ]

    def _tables(self) -> Iterator[Problem]:
        for place, document in enumerate(self._index.commits):
            for table in document.tables:
                where = self._index.where(place, table)
                try:
                    self._index.table(place, table)
                except ArchiverError as error:
                    if not str(error).startswith(where):
                        continue  # a table that this one needs: reported there
                    hit = affected.entries_of_table(self._archive, place, table)
                    yield _problem(Path(where), "the table that was committed", error, hit)

    def _view(self) -> Iterator[Problem]:
        try:
            _ = self._archive.view
        except ArchiverError as error:
            yield _problem(self._archive.path, "a consistent set of entries", error)

    def _models(self) -> Iterator[Problem]:
        try:
            n_models = len(self._archive.models)
        except ArchiverError:
            return  # its table was reported
        for number in range(n_models):
            digest = bytes.fromhex(self._archive.models[number].sha256)
            where = layout.model_path(self._archive.path, digest)
            try:
                self._check_base(where, self._archive.model(number))
            except ArchiverError as error:
                hit = affected.entries_of_model(self._archive, number)
                yield _problem(where, "the model of that SHA-256", error, hit)

    def _check_base(self, where: Path, model: bytes) -> None:
        """Raise unless the base of a difference is listed, and so checked, as well."""
        base = parsed(model).base
        if base is not None and base.hex() not in {other.sha256 for other in self._archive.models}:
            raise IntegrityError(
                f"{where}: needs the model {base.hex()}, which the manifest does not list; "
                "the program that wrote it is at fault: restore a backup of the archive"
            )

    def _shards(self) -> Iterator[Problem]:
        try:
            digests = self._index.whole("shards", "sha256")
            sizes = self._index.whole("shards", "size")
        except ArchiverError:
            return  # its table was reported
        payloads = self._payloads() if self._read_shards else np.zeros(0, _PAYLOAD)
        for number, digest in enumerate(digests):
            path = layout.shard_path(self._archive.path, digest.tobytes())
            low, high = np.searchsorted(payloads["shard"], [number, number + 1])
            try:
                yield from self._shard(path, int(sizes[number]), payloads[low:high])
            except ArchiverError as error:
                hit = affected.entries_of_shard(self._archive, number)
                yield _problem(path, f"a shard of {sizes[number]} bytes", error, hit)

    def _shard(self, path: Path, size: int, payloads: NDArray[np.void]) -> Iterator[Problem]:
        descriptor = durable.open_regular(path)
        try:
            actual = os.fstat(descriptor).st_size
            if actual != size:
                raise IntegrityError(
                    f"{path}: found {actual} bytes; restore the shard from a backup of the archive"
                )
            if self._read_shards:
                yield from self._read(path, descriptor, payloads)
        except OSError as error:
            raise durable.unreadable(path, error) from error
        finally:
            os.close(descriptor)

    def _read(self, path: Path, descriptor: int, payloads: NDArray[np.void]) -> Iterator[Problem]:
        """Check the SHA-256 of a shard, and if it is wrong find the payloads that are hit."""
        digest = _sha256(descriptor)
        is_named_so = digest == path.name
        is_all_whole = True
        for payload in payloads:
            extent = int(payload["offset"]), int(payload["length"])
            crc = _crc32c(descriptor, *extent)
            if crc != payload["crc32c"]:  # a second read, before it is called damage
                crc = _crc32c(descriptor, *extent)
            if crc != payload["crc32c"]:
                is_all_whole = False
                owner = np.array([payload["object"]])
                yield Problem(
                    f"{path}: payload at {payload['offset']}, {payload['length']} bytes",
                    f"CRC-32C {payload['crc32c']:#010x}",
                    f"CRC-32C {crc:#010x}",
                    "restore the shard from a backup of the archive",
                    _names(affected.entries_of_objects(self._archive, owner)),
                )
        if not is_named_so and is_all_whole and _sha256(descriptor) != path.name:
            yield Problem(
                str(path),
                f"SHA-256 {path.name}",
                f"SHA-256 {digest}, though every payload in use is whole",
                "restore the shard from a backup of the archive",
            )

    def _payloads(self) -> NDArray[np.void]:
        """Return every payload that can be located, by shard and offset."""
        parts = [np.zeros(0, _PAYLOAD)]
        for table in ("tiles", "residues"):
            for place in self._index.places(table):
                try:
                    parts.append(self._payloads_of(place, table))
                except ArchiverError:
                    continue  # the table was reported
        payloads = np.concatenate(parts)
        return payloads[np.lexsort((payloads["offset"], payloads["shard"]))]

    def _payloads_of(self, place: int, table: str) -> NDArray[np.void]:
        columns = self._index.table(place, table)
        payloads = np.zeros(len(columns["shard"]), _PAYLOAD)
        for name in ("shard", "offset", "length", "crc32c"):
            payloads[name] = columns[name]
        owner: NDArray[Any] = columns[owner_of(table)]
        if table == "tiles":
            images = self._index.table(place, "images")["object"]
            owner = images[owner - self._index.start(place, "images")]
        payloads["object"] = owner
        return payloads

    def _strangers(self) -> Iterator[Problem]:
        """Report files where only ours belong; shards of an unfinished run do belong."""
        root = self._archive.path
        for folder in (layout.SHARDS, layout.MODELS):
            if (root / folder).is_dir():
                for path in sorted((root / folder).iterdir()):
                    if not layout.is_digest_name(path.name):
                        yield _stranger(path)
        for path in sorted((root / layout.MANIFEST).iterdir()):
            if path.name != "zarr.json" and not (path.name.isdecimal() and len(path.name) == 6):
                yield _stranger(path)


def _sha256(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _crc32c(descriptor: int, offset: int, length: int) -> int:
    crc = 0
    while length:
        block = os.pread(descriptor, min(length, _BLOCK), offset)
        if not block:
            return -1
        crc = int(google_crc32c.extend(crc, block))
        offset += len(block)
        length -= len(block)
    return crc


def _stranger(path: Path) -> Problem:
    what = "a file that does not belong to it"
    return Problem(str(path), "only files of the archive", what, "move it elsewhere")


def _problem(
    where: Path, expected: str, error: ArchiverError, entries: list[bytes] | None = None
) -> Problem:
    """Return an error as a problem: messages are "where: what is wrong; what to do"."""
    fault, _, advice = str(error).rpartition("; ")
    return Problem(str(where), expected, fault, advice, _names(entries or []), verdict_of(error))


def _names(paths: list[bytes]) -> tuple[str, ...]:
    return tuple(os.fsdecode(path) for path in paths)
