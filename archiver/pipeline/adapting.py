"""Own the adapter of one file: fine-tune a model on a sample of its tiles, keep it if it pays.

A file adapts once, whatever its size: tiles of some ``SAMPLE_PIXELS``, spread over it, stand for
all of them.  What an adapter saves is measured in bytes of coded tiles, its own included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import tiles as codec
from archiver.codec.adaptation import Adaptation
from archiver.codec.tiles import Encoded
from archiver.errors import FormatError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

SAMPLE_PIXELS = 1 << 20
LEAST_BYTES = 16_000  # of learnable tiles: below that no adapter has paid for itself
RANKS = ((70_000, 1, 2), (150_000, 2, 2), (1_000_000, 4, 4))  # up to so many bytes: matrix, kernel
LARGEST_RANKS = (8, 8)
PASSES = 12  # of an image of 64 patches or more
MOST_PASSES = 36  # of a smaller one: a pass has fewer updates


@dataclass(frozen=True)
class Effort:
    """How long to fine-tune on one file."""

    passes: int | None = None  # None: as the size of the file asks for
    seconds: float | None = None


@dataclass(frozen=True)
class Adapted:
    """An engine for one file, what the archive has to keep of it, and the sample coded by it."""

    engine: Engine
    chunk: bytes
    encoded: list[Encoded]


def adapt(
    tiles: Sequence[Samples],
    before: Sequence[Encoded],
    n_tiles: int,
    engine: Engine,
    effort: Effort,
) -> Adapted | None:
    """Adapt ``engine`` to a file of ``n_tiles``; None if that is in vain.

    ``tiles`` are a sample of them, ``before`` how they are coded without an adapter.  What is found
    depends on the machine (its kernels, its clock if ``effort`` bounds the time); what is stored
    decodes on every machine.
    """
    scale = n_tiles / max(1, len(tiles))
    pairs = zip(tiles, before, strict=True)
    parts = [codec.learnable_parts(tile, one, engine) for tile, one in pairs]
    now = sum(len(one.payload) for part, one in zip(parts, before, strict=True) if part)
    if scale * now < LEAST_BYTES:
        return None
    started = time.monotonic()
    adapter, rates = _fine_tuned(
        [plane for part in parts for plane in part], scale, 8.0 * now, engine, effort
    )
    if adapter is None:
        return None
    try:
        adapted = engine.adapted(adapter)
    except FormatError:  # a bound of exact arithmetic: rare, and no reason to fail
        return None
    after = codec.encode(tiles, adapted)
    old, new = (scale * sum(len(one.payload) for one in coded) for coded in (before, after))
    chunk = Adaptation(adapter, round(old), time.monotonic() - started, rates).to_bytes()
    return Adapted(adapted, chunk, after) if new + len(chunk) < old else None


def _fine_tuned(
    tiles: Sequence[NDArray[np.generic]], scale: float, now: float, engine: Engine, effort: Effort
) -> tuple[bytes | None, tuple[float, ...]]:
    """Return the adapter (None if it changes nothing), and the rate at every pass."""
    from archiver.codec import adapters, rpft
    from archiver.codec.batches import Shown

    passes: list[rpft.Pass] = []
    patches = [patch for tile in tiles for patch in Shown.of(tile).cut(rpft.PATCH)]
    settings = rpft.Settings(
        passes=effort.passes or _passes(len(patches)),
        seconds=effort.seconds or float("inf"),
        ranks=adapters.Ranks(*_ranks(scale * now / 8)),
        known_bits=now,
    )
    adapter = rpft.adapt(
        engine.net, patches, settings, passes.append, scale=scale, device=str(engine.device)
    )
    if not passes:
        return None, ()
    first = max(1.0, passes[0].bits)
    rates = tuple(one.bits / first for one in passes)
    return None if adapter.is_zero else adapter.to_bytes(), rates


def _ranks(n_bytes: float) -> tuple[int, int]:
    """Return the ranks of matrices and kernels that a file of so many bytes pays for."""
    fitting = [(matrix, kernel) for limit, matrix, kernel in RANKS if n_bytes < limit]
    return fitting[0] if fitting else LARGEST_RANKS


def _passes(n_patches: int) -> int:
    return min(MOST_PASSES, max(PASSES, round(PASSES * math.sqrt(64 / n_patches))))
