"""The commit document: what a generation is, and the root that names the newest one.

Quotes FORMAT.md, "Commit document".  manifest/NNNNNN/zarr.json is the group metadata of generation
N; the root zarr.json is a byte-for-byte copy of the newest.  Each one carries the SHA-256 of its
own text ("check"), of its predecessor ("previous") and of its tables, so the root fixes all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archiver.archive import durable, layout
from archiver.archive.tables import GROUP, TABLES, TEXT, Size
from archiver.errors import FormatError, IntegrityError, NotFoundError, UsageError

MAX_BYTES: Final = 1 << 20
_MAX_ROWS: Final = 1 << 48  # sums and products of two row counts stay inside int64
_N_ATTRIBUTES: Final = 10
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class TableInfo:
    """Size of a table of one generation and the digest of its files."""

    size: Size
    sha256: str


@dataclass(frozen=True)
class Commit:
    """One generation.  ``previous`` is the SHA-256 of the document before, "" for the first."""

    generation: int
    previous: str
    writer: str
    created: str
    tables: Mapping[str, TableInfo]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def size(self, table: str) -> Size:
        """Return the size of a table; a table that is not listed is empty."""
        info = self.tables.get(table)
        return info.size if info else Size(0)

    def recorded(self) -> dict[str, Any]:
        """Return what the commit says of itself, for people and programs."""
        return {
            "name": layout.generation_name(self.generation),
            "created": self.created,
            "writer": self.writer,
            "rows": {name: info.size.rows for name, info in self.tables.items()},
            "settings": dict(self.settings),
        }


def render(commit: Commit) -> bytes:
    """Return the commit document: canonical JSON, with the SHA-256 of itself filled in."""
    attributes = {
        "check": "",
        "created": commit.created,
        "format": layout.FORMAT,
        "generation": commit.generation,
        "needs": layout.NEEDS,
        "previous": commit.previous,
        "settings": dict(commit.settings),
        "tables": {name: _table_json(name, info) for name, info in commit.tables.items()},
        "version": layout.VERSION,
        "writer": commit.writer,
    }
    try:
        data = _canonical(attributes)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"settings: not plain JSON ({error}); use text, numbers, lists") from error
    if len(data) > MAX_BYTES // 2:
        raise UsageError(f"settings: {len(data)} bytes of JSON, at most {MAX_BYTES // 2} fit")
    return _canonical({**attributes, "check": hashlib.sha256(data).hexdigest()})


def parse(path: Path, data: bytes) -> Commit:
    """Read a commit document.  FormatError: not ours, another version; IntegrityError: damaged."""
    attributes = _attributes(path, data)
    check = attributes.get("check")
    expected = hashlib.sha256(_canonical({**attributes, "check": ""})).hexdigest()
    if check != expected or _canonical(attributes) != data:
        raise IntegrityError(
            f"{path}: its text has SHA-256 {expected}, expected {check}; "
            "restore it from a backup of the archive"
        )
    _check_version(path, attributes)
    try:
        return _commit(attributes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{path}: breaks the rules of format version {layout.VERSION} ({error!r}); "
            "the program that wrote it is at fault: restore a backup"
        ) from error


def read_root(archive: Path) -> Commit:
    """Return the newest generation, from the root zarr.json and its copy."""
    path = archive / layout.ROOT
    if not path.exists():
        raise _no_root(archive)
    data = b""
    try:
        data = durable.read_file(path, limit=MAX_BYTES)
        commit = parse(path, data)
    except FormatError:
        if _is_well_formed(path, data):
            raise
        raise _with_remedy(archive, None) from None
    except IntegrityError as error:
        raise _with_remedy(archive, error) from error
    _check_copy(archive, commit.generation, data)
    return commit


def read_history(archive: Path, newest: Commit) -> list[Commit]:
    """Return all generations, the first one first, each checked against its successor."""
    if durable.read_file(archive / layout.MANIFEST / "zarr.json", limit=MAX_BYTES) != GROUP:
        raise IntegrityError(
            f"{archive / layout.MANIFEST / 'zarr.json'}: expected {GROUP!r}, found other bytes; "
            "write exactly that text into it"
        )
    commits = [newest]
    while commits[-1].generation > 1:
        commits.append(_predecessor(archive, commits[-1]))
    for commit in commits:
        _check_names(layout.generation_path(archive, commit.generation), commit)
    return commits[::-1]


def candidates(archive: Path) -> list[Commit]:
    """Return what could stand in for a damaged root: itself if whole, then the copies."""
    paths = [archive / layout.ROOT, *_good_copies(archive)]
    commits = []
    for path in paths:
        with contextlib.suppress(FormatError, IntegrityError):
            commits.append(parse(path, durable.read_file(path, limit=MAX_BYTES)))
    return commits


def unswitched(archive: Path, newest: Commit | None) -> Commit | None:
    """Return the complete generation that a killed run wrote but did not switch to, if any."""
    number = newest.generation + 1 if newest else 1
    path = layout.generation_path(archive, number) / "zarr.json"
    if not path.parent.exists():
        return None
    commit = parse(path, durable.read_file(path, limit=MAX_BYTES))
    if commit.generation != number or commit.previous != document_digest(archive, newest):
        raise IntegrityError(
            f"{path}: does not follow generation {number - 1}; move {path.parent} out of the "
            "archive if zarr.json was restored from an older copy on purpose"
        )
    return commit


def document_digest(archive: Path, commit: Commit | None) -> str:
    """Return the SHA-256 of a generation's document on disk, "" for none."""
    if commit is None:
        return ""
    return hashlib.sha256(_document(archive, commit.generation)).hexdigest()


def _document(archive: Path, number: int) -> bytes:
    path = layout.generation_path(archive, number) / "zarr.json"
    return durable.read_file(path, limit=MAX_BYTES)


def _canonical(attributes: Mapping[str, Any]) -> bytes:
    document = {"attributes": attributes, "node_type": "group", "zarr_format": 3}
    return (
        json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
    ).encode()


def _table_json(name: str, info: TableInfo) -> dict[str, int | str]:
    text = {"text": info.size.text} if name in TEXT else {}
    return {"rows": info.size.rows, **text, "sha256": info.sha256}


def _attributes(path: Path, data: bytes) -> dict[str, Any]:
    try:
        attributes = json.loads(data)["attributes"]
        is_ours = attributes["format"] == layout.FORMAT
        _canonical(attributes)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise FormatError(
            f"{path}: expected the root of an archive, found something else; "
            "name a directory that `archiver pack` made"
        ) from error
    if not is_ours or not isinstance(attributes, dict):
        raise FormatError(
            f"{path}: expected format {layout.FORMAT!r}, found {attributes['format']!r:.40}; "
            "this is not an archive of ours"
        )
    return attributes


def _check_version(path: Path, attributes: Mapping[str, Any]) -> None:
    version = attributes.get("version")
    readable = f"{layout.MIN_VERSION} to {layout.VERSION}"
    if not isinstance(version, int) or isinstance(version, bool):
        raise FormatError(f"{path}: format version is {version!r:.40}, expected {readable}")
    if version > layout.VERSION:
        raise FormatError(
            f"{path}: format version {version} is too new, this release reads {readable}; "
            f"needs archiver >= {attributes.get('needs')!s:.40}"
        )
    if version < layout.MIN_VERSION:
        raise FormatError(
            f"{path}: format version {version} is too old, this release reads {readable}; "
            "unpack it with an older release of archiver"
        )


def _commit(attributes: Mapping[str, Any]) -> Commit:
    tables = {str(name): _table(str(name), info) for name, info in attributes["tables"].items()}
    if not isinstance(attributes["settings"], dict):
        raise TypeError("settings")
    if len(attributes) != _N_ATTRIBUTES:
        raise ValueError(f"{len(attributes)} attributes, expected {_N_ATTRIBUTES}")
    generation = _integer(attributes, "generation", 1, layout.MAX_GENERATION)
    previous = attributes["previous"]
    if bool(previous) != (generation > 1):
        raise ValueError(f"generation {generation} with predecessor {previous!r:.80}")
    return Commit(
        generation=generation,
        previous=_digest(previous) if previous else "",
        writer=str(attributes["writer"]),
        created=str(attributes["created"]),
        tables=tables,
        settings=attributes["settings"],
    )


def _table(name: str, info: Mapping[str, Any]) -> TableInfo:
    expected = {"rows", "sha256"} | ({"text"} if name in TEXT else set())
    if name not in TABLES or set(info) != expected:
        raise ValueError(f"table {name!r:.40}")
    text = _integer(info, "text", 0, _MAX_ROWS) if name in TEXT else 0
    return TableInfo(Size(_integer(info, "rows", 1, _MAX_ROWS), text), _digest(info["sha256"]))


def _integer(values: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = values[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is {value!r:.40}, expected {low} to {high}")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not _HEX.issuperset(value):
        raise ValueError(f"{value!r:.80} is not a SHA-256")
    return value


def _predecessor(archive: Path, commit: Commit) -> Commit:
    number = commit.generation - 1
    path = layout.generation_path(archive, number) / "zarr.json"
    data = durable.read_file(path, limit=MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if digest != commit.previous:
        raise IntegrityError(
            f"{path}: SHA-256 is {digest}, generation {commit.generation} says "
            f"{commit.previous or 'none'}; restore {path} from a backup of the archive"
        )
    earlier = parse(path, data)
    if earlier.generation != number:
        raise FormatError(f"{path}: is generation {earlier.generation}, expected {number}")
    return earlier


def _check_names(folder: Path, commit: Commit) -> None:
    names = {item.name for item in folder.iterdir()}
    expected = {"zarr.json", *commit.tables}
    if missing := expected - names:
        raise IntegrityError(
            f"{folder / min(missing)}: expected a table, found nothing; "
            "restore it from a backup of the archive"
        )
    if extra := names - expected:
        raise IntegrityError(
            f"{folder / min(extra)}: this does not belong to the archive; move it elsewhere"
        )


def _check_copy(archive: Path, number: int, data: bytes) -> None:
    copy = layout.generation_path(archive, number) / "zarr.json"
    try:
        is_same = durable.read_file(copy, limit=MAX_BYTES) == data
    except IntegrityError:
        is_same = False
    if not is_same:
        raise IntegrityError(
            f"{copy}: missing or damaged, it must equal {archive / layout.ROOT}, which is whole; "
            f"run `cp {archive / layout.ROOT} {copy}`"
        )


def _is_well_formed(path: Path, data: bytes) -> bool:
    """Whether the root says what it is: then a FormatError about it is the truth."""
    try:
        return "format" in _attributes(path, data)
    except FormatError:
        return not any(_good_copies(path.parent))


def _good_copies(archive: Path) -> Iterator[Path]:
    """Yield the documents of generations that are whole, the newest first."""
    for path in sorted((archive / layout.MANIFEST).glob("[0-9]*/zarr.json"), reverse=True):
        try:
            parse(path, durable.read_file(path, limit=MAX_BYTES))
        except (FormatError, IntegrityError):
            continue
        yield path


def _with_remedy(archive: Path, error: IntegrityError | None) -> IntegrityError:
    path = archive / layout.ROOT
    copy = next(_good_copies(archive), None)
    fault = str(error).rpartition("; ")[0] if error else f"{path}: expected the root of an archive"
    remedy = f"run `cp {copy} {path}`" if copy else "restore it from a backup of the archive"
    return IntegrityError(f"{fault}; {remedy}")


def _no_root(archive: Path) -> NotFoundError | IntegrityError:
    if copy := next(_good_copies(archive), None):
        return IntegrityError(
            f"{archive / layout.ROOT}: missing, but {copy} is whole; "
            f"run `cp {copy} {archive / layout.ROOT}`, or pack into the archive again"
        )
    if (archive / layout.WIP).is_dir():
        return NotFoundError(
            f"{archive}: nothing was committed yet; run `archiver pack` again, "
            "it goes on with what is finished"
        )
    return NotFoundError(f"{archive}: there is no archive here; check the path")
