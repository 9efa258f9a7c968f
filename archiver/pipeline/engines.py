"""The engines that are open in this process: one per model, opened when first needed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.archive import model_files

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

_OPEN = 8  # a base and the archive models of some generations
_ADAPTED = 2  # the tiles of one file come together


def of_archive(archive: Path, sha256: bytes, threads: int | None) -> Engine:
    """Return the engine of a model in ``archive``, tested on this machine."""
    model = model_files.read(archive, sha256)  # read each time: damage since the last time is found
    base = model_files.parsed(model).base
    return of_model(model, None if base is None else model_files.read(archive, base), threads)


def whole_model(archive: Path, sha256: bytes) -> bytes:
    """Return a model in ``archive`` as a whole model file, whichever way it is stored."""
    model = model_files.read(archive, sha256)
    base = model_files.parsed(model).base
    return _whole(model, None if base is None else model_files.read(archive, base))


@lru_cache(maxsize=_OPEN)
def of_model(model: bytes, base: bytes | None, threads: int | None) -> Engine:
    """Return the engine of a model file's bytes and its base's, tested on this machine."""
    from archiver.codec.inference.engine import Engine

    return Engine.open(_whole(model, base), threads=threads or 1)


def scout(engine: Engine) -> Engine:
    """Return a quick engine that finds out what ``engine`` would take too long to: it, or another.

    It codes nothing that is kept.
    """
    from archiver.codec.model import pretrained

    small = of_model(pretrained.load(pretrained.SMALLEST), None, engine.threads)
    needs_high_depth = engine.has_high_depth and not small.has_high_depth
    return engine if needs_high_depth or small.sizes.dim >= engine.sizes.dim else small


@lru_cache(maxsize=_ADAPTED)
def adapted(archive: Path, sha256: bytes, adapter: bytes, threads: int | None) -> Engine:
    """Return the engine of a model in ``archive`` with the increments of an adapter."""
    return of_archive(archive, sha256, threads).adapted(adapter)


def _whole(model: bytes, base: bytes | None) -> bytes:
    from archiver.codec.model import model_delta

    return model if base is None else model_delta.expand(model, lambda sha256: base)
