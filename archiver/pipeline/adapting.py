"""Own the adapter of one file: fine-tune a model on a sample of its tiles, keep it if it pays.

A file adapts once, whatever its size: up to ``SAMPLE_TILES`` of its tiles, spread over it, stand
for all of them.  What an adapter saves is measured in bytes of coded tiles, its own included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archiver.codec import tiles as codec
from archiver.codec.adaptation import Adaptation
from archiver.errors import FormatError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

SAMPLE_TILES = 64
LEAST_BYTES = 16_000  # of learned tiles: below that no adapter has paid for itself
PASSES = 12


@dataclass(frozen=True)
class Effort:
    """How long to fine-tune on one file."""

    passes: int = PASSES
    seconds: float = float("inf")


@dataclass(frozen=True)
class Adapted:
    """An engine for one file, and what the archive has to keep of it."""

    engine: Engine
    chunk: bytes


def adapt(tiles: Sequence[Samples], n_tiles: int, engine: Engine, effort: Effort) -> Adapted | None:
    """Adapt ``engine`` to a file of ``n_tiles`` of which ``tiles`` are a sample; None if in vain.

    What is found depends on the machine (its kernels, its clock if ``effort`` bounds the time);
    what is stored decodes on every machine.
    """
    from archiver.codec import rpft

    before = codec.encode(tiles, engine)
    learned = [
        codec.distinct_channels(tile).astype(np.uint8, copy=False)
        for tile, one in zip(tiles, before, strict=True)
        if one.needs_model
    ]
    scale = n_tiles / max(1, len(tiles))
    if scale * sum(len(one.payload) for one in before if one.needs_model) < LEAST_BYTES:
        return None
    started = time.monotonic()
    passes: list[rpft.Pass] = []
    patches = [patch for tile in learned for patch in rpft.cut(tile)]
    settings = rpft.Settings(passes=effort.passes, seconds=effort.seconds)
    adapter = rpft.adapt(engine.net, patches, settings, passes.append, scale=scale)
    if adapter.is_zero:
        return None
    try:
        adapted = engine.adapted(adapter.to_bytes())
    except FormatError:  # a bound of exact arithmetic: rare, and no reason to fail
        return None
    after = codec.encode(tiles, adapted)
    old, new = (scale * sum(len(one.payload) for one in coded) for coded in (before, after))
    first = max(1.0, passes[0].bits)
    chunk = Adaptation(
        adapter.to_bytes(),
        round(old),
        time.monotonic() - started,
        tuple(one.bits / first for one in passes),
    ).to_bytes()
    return Adapted(adapted, chunk) if new + len(chunk) < old else None
