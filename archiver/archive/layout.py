"""The names inside an archive, its versions and its on-disk ids (FORMAT.md, "Layout").

histo.archive/
  zarr.json                 the commit point: a copy of the newest manifest/NNNNNN/zarr.json
  manifest/zarr.json
  manifest/000001/zarr.json          what generation 1 is (commit.py)
  manifest/000001/<table>/<column>   Zarr arrays (manifest.py)
  models/<sha256>           everything a decoder needs
  shards/<sha256>           payloads
  wip/                      not committed: shards, task records, generation, what was seen last
  lock                      held by the one writer
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FORMAT: Final = "archiver"
MIN_VERSION: Final = 1  # oldest format version this release reads
VERSION: Final = 1  # newest it reads, and the one it writes
NEEDS: Final = "0.1.0"  # oldest release that reads what this one writes

ROOT: Final = "zarr.json"
MANIFEST: Final = "manifest"
MODELS: Final = "models"
SHARDS: Final = "shards"
WIP: Final = "wip"
TASKS: Final = "wip/tasks"
SEEN: Final = "wip/seen"
LOCK: Final = "lock"
OUR_NAMES: Final = frozenset({ROOT, MANIFEST, MODELS, SHARDS, WIP, LOCK})

DTYPES: Final[dict[int, str]] = {  # on-disk ids: append only, never reuse
    1: "|u1",
    2: "<u2",
    3: "<u4",
    4: "<u8",
    5: "|i1",
    6: "<i2",
    7: "<i4",
    8: "<i8",
    9: "<f2",
    10: "<f4",
    11: "<f8",
    12: "|b1",
}
DTYPE_IDS: Final[dict[str, int]] = {code: number for number, code in DTYPES.items()}

FILE: Final = 0  # kinds of entries: append only
DIRECTORY: Final = 1
SYMLINK: Final = 2
REMOVED: Final = 3  # the path, and all below it, is gone since this generation
WITHOUT_OBJECT: Final = (DIRECTORY, REMOVED)

MAX_GENERATION: Final = 999_999
MAX_MODE: Final = 0o7777
MIN_MTIME_NS: Final = -(1 << 63)
MAX_MTIME_NS: Final = (1 << 63) - 1  # 2262-04-11T23:47:16


def generation_name(number: int) -> str:
    """Return the directory name of a generation, "000001" for the first."""
    return f"{number:06d}"


def generation_path(archive: Path, number: int) -> Path:
    """Return the directory of a generation."""
    return archive / MANIFEST / generation_name(number)


def shard_path(archive: Path, sha256: bytes) -> Path:
    """Return where the shard of that digest lies."""
    return archive / SHARDS / sha256.hex()


def model_path(archive: Path, sha256: bytes) -> Path:
    """Return where the model of that digest lies."""
    return archive / MODELS / sha256.hex()


def is_digest_name(name: str) -> bool:
    """Whether a file name is a SHA-256 in lower-case hexadecimal."""
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def path_fault(path: bytes) -> str:
    """Say what is wrong with an entry path, "" if nothing is.

    A path is relative, separated by "/", free of NUL; no component is empty, "." or "..".  So it
    cannot lead out of the directory that it is restored into.
    """
    if not path:
        return "it is empty"
    if b"\0" in path:
        return "it contains a NUL byte"
    if path.startswith(b"/"):
        return "it is absolute"
    if not {b"", b".", b".."}.isdisjoint(path.split(b"/")):
        return "it has an empty, '.' or '..' component"
    return ""


def display(path: bytes) -> str:
    """Return an entry path as text for messages; bytes that are not UTF-8 show as escapes."""
    return path.decode("utf-8", "backslashreplace")
