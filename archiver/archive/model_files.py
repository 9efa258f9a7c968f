"""Model files as the archive sees them: size, name, the base that each needs; bytes checked.

A model may be stored as the difference to another one, its base (FORMAT.md, "Model file").  Then
both are kept, both are listed, and the damage of the base is damage of what uses the difference.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from archiver.archive import durable, layout
from archiver.archive.records import ShardRecord
from archiver.errors import ArchiverError, IntegrityError, UsageError

_PREFIX = struct.Struct("<8sHHI")
_MAGIC, _DIFFERENCE = b"ARCMODEL", 2
_MAX_HEADER = 1 << 20
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class ModelInfo:
    """A model as the manifest lists it; ``base`` is the SHA-256 of the model it differs from.

    ``fault`` says why its file cannot be read, "" if it can.
    """

    name: str
    size: int
    base: bytes | None = None
    card: Mapping[str, object] = field(default_factory=dict)  # what it was made of
    fault: str = ""


def info_of(archive: Path, sha256: bytes) -> ModelInfo:
    """Return what the file of a model in ``archive`` says of itself, as far as it can be read."""
    path = layout.model_path(archive, sha256)
    try:
        descriptor = durable.open_regular(path)
    except ArchiverError as error:
        return ModelInfo("", 0, fault=str(error))
    with os.fdopen(descriptor, "rb") as file:
        try:
            head, size = file.read(_PREFIX.size + _MAX_HEADER), os.fstat(descriptor).st_size
        except OSError as error:
            return ModelInfo("", 0, fault=str(durable.unreadable(path, error)))
    return replace(parsed(head), size=size)


def read(archive: Path, sha256: bytes) -> bytes:
    """Return the bytes of a model whose SHA-256 was checked."""
    path = layout.model_path(archive, sha256)
    data = durable.read_file(path, limit=_MAX_BYTES)
    digest = hashlib.sha256(data).digest()
    if digest != sha256:
        raise IntegrityError(
            f"{path}: SHA-256 is {digest.hex()}, expected its name; "
            "restore the model from a backup or from another archive that uses it"
        )
    return data


def needed(
    archive: Path, added: Mapping[bytes, ModelInfo], shards: Sequence[ShardRecord]
) -> dict[bytes, ModelInfo]:
    """Return what is known of every model ``added`` or listed by shards, and of their bases.

    They must be on disk: UsageError.
    """
    models = dict(added)
    todo = {digest for shard in shards for digest in shard.models}
    todo |= {info.base for info in models.values() if info.base is not None}
    while todo := todo - models.keys():
        digest = todo.pop()
        path = layout.model_path(archive, digest)
        if not path.is_file():
            raise UsageError(f"{path}: a shard needs this model; call add_model() first")
        models[digest] = info_of(archive, digest)
        todo |= {base for base in (models[digest].base,) if base is not None}
    return models


def parsed(data: bytes) -> ModelInfo:
    """Return what a model file, or its beginning, says of itself; nothing if it is no model."""
    header = _header(data)
    name, card, base = (header.get(key) for key in ("name", "card", "base"))
    is_digest = isinstance(base, str) and layout.is_digest_name(base)
    return ModelInfo(
        name if isinstance(name, str) else "",
        len(data),
        bytes.fromhex(str(base)) if is_digest else None,
        card if isinstance(card, dict) else {},
    )


def _header(data: bytes) -> Mapping[str, object]:
    """Return the header of a model file, nothing if there is none; only differences have a base."""
    if len(data) < _PREFIX.size:
        return {}
    magic, version, _, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC or length > _MAX_HEADER:
        return {}
    try:
        header = json.loads(data[_PREFIX.size : _PREFIX.size + length])
    except (ValueError, RecursionError):
        return {}
    is_known = isinstance(header, dict) and (version == _DIFFERENCE or "base" not in header)
    return header if is_known else {}
