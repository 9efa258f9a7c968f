"""Own the engines that are open in this process: one per model, opened when first needed."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.archive import durable, layout
from archiver.errors import IntegrityError

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

MAX_MODEL_BYTES = 1 << 30
_OPEN = 4
_ADAPTED = 2  # the tiles of one file come together


def of_archive(archive: Path, sha256: bytes, threads: int | None) -> Engine:
    """Return the engine of a model in ``archive``, tested on this machine."""
    path = layout.model_path(archive, sha256)
    return of_model(_checked(path, sha256), threads)


@lru_cache(maxsize=_OPEN)
def of_model(model: bytes, threads: int | None) -> Engine:
    """Return the engine of a model file's bytes, tested on this machine."""
    from archiver.codec.engine import Engine

    return Engine.open(model, threads=threads or 1)


@lru_cache(maxsize=_ADAPTED)
def adapted(model: bytes, adapter: bytes, threads: int | None) -> Engine:
    """Return the engine of a model with the increments of an adapter."""
    return of_model(model, threads).adapted(adapter)


def _checked(path: Path, sha256: bytes) -> bytes:
    model = durable.read_file(path, limit=MAX_MODEL_BYTES)
    found = hashlib.sha256(model).digest()
    if found != sha256:
        raise IntegrityError(
            f"{path}: expected SHA-256 {sha256.hex()}, found {found.hex()}; "
            "restore the model from a backup of the archive"
        )
    return model
