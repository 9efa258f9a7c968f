"""The adapter of one file: fine-tune a model on a sample of its tiles, keep it if it pays.

The heads of the model come first, in seconds; that may be all, or what the tuning of all layers
begins with.

A file adapts once, whatever its size: tiles of some ``SAMPLE_PIXELS``, spread over it, stand for
all of them.  What an adapter saves is measured in bytes of coded tiles, its own included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import learned
from archiver.codec import tiles as codec
from archiver.codec.ids import Encoded
from archiver.codec.learned import IDENTITY_ONLY, Orientations
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.codec.tiles import Prepared
from archiver.codec.transforms.orientation import IDENTITY
from archiver.errors import FormatError
from archiver.pipeline.write import confidence

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

SAMPLE_PIXELS, HEAD_PIXELS = 1 << 20, 1 << 18  # to fine-tune on all layers, heads alone
LEAST_BYTES = 16_000  # of learnable tiles: below that no adapter has paid for itself
# up to so many bytes of learnable tiles, ranks of heads
HEAD_RANKS = ((70_000, 2), (150_000, 4), (1_000_000, 6), (math.inf, 8))
# up to so many bytes for each unit of the network's width, ranks of matrices and kernels
RANKS = ((1_600, 1, 2), (2_400, 2, 2), (16_000, 4, 4), (math.inf, 8, 8))
PASSES = 12  # of an image of 64 patches or more
MOST_PASSES = 36  # of a smaller one: a pass has fewer updates
RATE = 64  # of the fine-tuning, in steps: a factor moves as many inputs as the network is wide
OUT_OF_REACH = 1.3  # times the bits that another codec takes: no fine-tuning makes up for that


@dataclass(frozen=True)
class Effort:
    """How long to fine-tune on one file: first its heads, then all, in so many passes.

    ``passes`` None: as many as the size of the file asks for; 0: the heads alone.
    """

    passes: int | None = None
    seconds: float | None = None

    @property
    def sample_pixels(self) -> int:
        """How much of a file stands for all of it, at least."""
        return HEAD_PIXELS if self.passes == 0 else SAMPLE_PIXELS

    def turns(self, found: Orientations) -> Orientations:
        """Return the turns of tiles without an adapter, given those that were found for a file.

        Who asks for all that there is gets no more bytes than from the model as it is, upright.
        """
        return found if self.passes == 0 or found[-1] == IDENTITY else (IDENTITY, found[-1])


@dataclass(frozen=True)
class Adapted:
    """An engine for one file, what the archive has to keep of it, and the sample coded by it.

    ``turns`` are those in which each tile of the file is given to the engine.  ``is_sure`` is
    False where the sample leaves a doubt whether all tiles gain what the adapter takes.
    """

    engine: Engine
    turns: Orientations
    encoded: list[Encoded]
    chunk: bytes = b""  # empty: no adapter
    is_sure: bool = True

    @property
    def size(self) -> int:
        """Bytes of the sample."""
        return sum(len(one.payload) for one in self.encoded)


def adapt(
    tiles: Sequence[Prepared],
    before: Sequence[Encoded],
    n_tiles: int,
    engine: Engine,
    effort: Effort,
    turns: Orientations = IDENTITY_ONLY,
) -> Adapted:
    """Adapt ``engine`` to a file of ``n_tiles``, if that pays.

    ``tiles`` are a sample of them, ``before`` how they are coded without an adapter in ``turns``.
    An adapter is for the last of those.  What is found depends on the machine (its kernels, its
    clock if ``effort`` bounds the time); what is stored decodes on every machine.
    """
    scale = n_tiles / max(1, len(tiles))
    pairs = zip(tiles, before, strict=True)
    parts = [learned.parts(tile.samples, one, engine) for tile, one in pairs]
    now = sum(len(one.payload) for part, one in zip(parts, before, strict=True) if part)
    plain = Adapted(engine, turns, list(before))
    if scale * now < LEAST_BYTES:
        return plain
    planes = [turns[-1].on(part).oriented(part) for each in parts for part in each]
    return _tuned(tiles, planes, scale, now, plain, effort)


def _tuned(
    tiles: Sequence[Prepared],
    planes: Sequence[NDArray[np.generic]],
    scale: float,
    now: int,
    before: Adapted,
    effort: Effort,
) -> Adapted:
    """Return the best of no adapter and those that are found; ``planes`` are as they are shown.

    ``now`` is the size of the tiles that they are from.
    """
    started = time.monotonic()
    old = least = scale * before.size
    best, turns = before, before.turns[-1:]
    for adapter, rates in _found(planes, scale, 8.0 * now, before.engine, effort):
        try:
            adapted = before.engine.adapted(adapter)
        except FormatError:  # a bound of exact arithmetic: rare, and no reason to fail
            continue
        after = codec.encode(tiles, adapted, [turns] * len(tiles))
        seconds = time.monotonic() - started
        chunk = AdapterRecord(adapter, round(old), seconds, rates).to_bytes()
        new = scale * sum(len(one.payload) for one in after) + len(chunk)
        if new < least:
            is_sure = _is_sure(before.encoded, after, scale, len(chunk))
            best, least = Adapted(adapted, turns, after, chunk, is_sure), new
    return best


def _is_sure(before: Sequence[Encoded], after: Sequence[Encoded], scale: float, price: int) -> bool:
    pairs = zip(before, after, strict=True)
    gains = [len(one.payload) - len(other.payload) for one, other in pairs]
    return confidence.is_sure(gains, round(scale * len(gains)), price)


def _found(
    planes: Sequence[NDArray[np.generic]],
    scale: float,
    now: float,
    engine: Engine,
    effort: Effort,
) -> Iterator[tuple[bytes, tuple[float, ...]]]:
    """Yield an adapter of the heads, then one of all, each with its estimated rates."""
    from archiver.codec.model.adapter import Ranks
    from archiver.codec.model.batches import Shown
    from archiver.codec.tuning import heads, rpft

    patches = [patch for plane in planes for patch in Shown.of(plane).cut(rpft.PATCH)]
    dim, seconds = engine.net.architecture.dim, effort.seconds or float("inf")
    ranks = Ranks(*_ranks(scale * now / 8, dim))
    most = OUT_OF_REACH * now
    first = heads.adapt(engine, patches, ranks.head, scale=scale, most_bits=most, seconds=seconds)
    if not first.factors:
        return
    yield first.adapter.to_bytes(), (first.share,)
    if effort.passes == 0:
        return
    passes: list[rpft.Pass] = []
    settings = rpft.Settings(
        effort.passes or _passes(len(patches)), RATE / dim, seconds=seconds, ranks=ranks
    )
    adapter = rpft.adapt(
        engine.net,
        patches,
        settings,
        passes.append,
        first,
        scale=scale,
        device=str(engine.device),
        threads=engine.threads,
    )
    if not adapter.is_zero:
        yield (
            adapter.to_bytes(),
            (first.share, *(one.bits / first.before / scale for one in passes)),
        )


def _ranks(n_bytes: float, dim: int) -> tuple[int, int, int]:
    """Return the ranks of matrices, kernels and heads that a file of so many bytes pays for."""
    matrix, kernel = next(ranks for limit, *ranks in RANKS if n_bytes < limit * dim)
    head = next(rank for limit, rank in HEAD_RANKS if n_bytes < limit)
    return matrix, kernel, head


def _passes(n_patches: int) -> int:
    return min(MOST_PASSES, max(PASSES, round(PASSES * math.sqrt(64 / n_patches))))
