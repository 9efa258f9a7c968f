"""The adapter of one file: fitted to a sample of its tiles, and kept if it pays.

The heads of the model come first, in seconds; that may be all, or what the fit of all layers
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
    from archiver.codec.model.adapter import Ranks
    from archiver.codec.model.batches import Shown
    from archiver.codec.tuning.heads import Learned

SAMPLE_PIXELS, HEAD_PIXELS = 1 << 20, 1 << 18  # to fit all layers, heads alone
LEAST_BYTES = 16_000  # of learnable tiles: below that no adapter has paid for itself
# up to so many bytes of learnable tiles, ranks of heads
HEAD_RANKS = ((70_000, 2), (150_000, 4), (1_000_000, 6), (math.inf, 8))
# up to so many bytes for each unit of the network's width, ranks of matrices and kernels
RANKS = ((1_600, 1, 2), (2_400, 2, 2), (16_000, 4, 4), (math.inf, 8, 8))
PASSES = 12  # of an image of 64 patches or more
MOST_PASSES = 36  # of a smaller one: a pass has fewer updates
RATE = 64  # of the fitting, in steps: a factor moves as many inputs as the network is wide
WORTHWHILE = 0.992  # of the bits: less is not worth the coding that finds out
OUT_OF_REACH = 1.3  # times the bits that another codec takes: no fitting makes up for that


@dataclass(frozen=True)
class Effort:
    """How long to fit on one file: first its heads, then all, in so many passes.

    ``passes`` None: as many as the size of the file asks for; 0: the heads alone.
    """

    passes: int | None = None
    seconds: float | None = None

    @property
    def sample_pixels(self) -> int:
        """How much of a file stands for all of it, at least."""
        return HEAD_PIXELS if self.passes == 0 else SAMPLE_PIXELS

    def orientations(self, best: Orientations) -> Orientations:
        """Return those of tiles without an adapter, given those that are best for a file.

        Who asks for all that there is gets no more bytes than with tiles as they are.
        """
        return best if self.passes == 0 or best[-1] == IDENTITY else (IDENTITY, best[-1])


@dataclass(frozen=True)
class Adapted:
    """What the archive has to keep of an adapter for one file, and the sample coded by it.

    ``orientations`` are those in which each tile of the file is given to the model.  ``is_sure``
    is False where the sample leaves a doubt whether all tiles gain what the adapter takes.
    """

    orientations: Orientations
    encoded: list[Encoded]
    record: bytes = b""  # empty: no adapter
    is_sure: bool = True

    @property
    def size(self) -> int:
        """Bytes of the sample."""
        return _size(self.encoded)


@dataclass(frozen=True)
class _Fit:
    """What adapters are fitted to, and how long.

    ``planes`` are parts of the sample as the model is given them; the tiles that they are from
    take ``n_bytes`` now.  All that the model codes of the file is ``scale`` times the sample.
    """

    planes: Sequence[NDArray[np.generic]]
    n_bytes: int
    scale: float
    engine: Engine
    effort: Effort


def adapt(
    tiles: Sequence[Prepared],
    before: Sequence[Encoded],
    n_tiles: int,
    engine: Engine,
    effort: Effort,
    orientations: Orientations = IDENTITY_ONLY,
) -> Adapted:
    """Adapt ``engine`` to a file of ``n_tiles``, if that pays.

    ``tiles`` are a sample of them, ``before`` how they are coded without an adapter in
    ``orientations``; an adapter is for the last of those.  What it is depends on the machine (its
    kernels, its clock if ``effort`` bounds the time); what is stored decodes on every machine.
    """
    scale = n_tiles / max(1, len(tiles))
    pairs = list(zip(tiles, before, strict=True))
    parts = [learned.parts(tile.samples, coding, engine) for tile, coding in pairs]
    n_bytes = _size([coding for coding, planes in zip(before, parts, strict=True) if planes])
    plain = Adapted(orientations, list(before))
    if scale * n_bytes < LEAST_BYTES:
        return plain
    way = orientations[-1]
    planes = [way.on(plane).oriented(plane) for of_tile in parts for plane in of_tile]
    return _best(tiles, plain, _Fit(planes, n_bytes, scale, engine, effort))


def adapt_heads(
    tiles: Sequence[Prepared], engine: Engine, effort: Effort, orientations: Orientations
) -> Adapted | None:
    """Adapt the heads alone to all tiles of a file, none of which was coded yet.

    None if the estimates do not promise enough, or were wrong.
    """
    started = time.monotonic()
    parts = [tile.learned_parts(engine) for tile in tiles]
    n_bytes = sum(tile.quick_bytes for tile, planes in zip(tiles, parts, strict=True) if planes)
    if n_bytes < LEAST_BYTES:
        return None
    way = orientations[-1]
    planes = [way.on(plane).oriented(plane) for of_tile in parts for plane in of_tile]
    learned_heads = _fitted_heads(_Fit(planes, n_bytes, 1.0, engine, effort))
    if not learned_heads.factors or learned_heads.share > WORTHWHILE:
        return None
    adapter = learned_heads.adapter.to_bytes()
    try:
        adapted = engine.adapted(adapter)
    except FormatError:  # a bound of exact arithmetic: rare, and no reason to fail
        return None
    after = codec.encode(tiles, adapted, [orientations[-1:]] * len(tiles))
    seconds, before = time.monotonic() - started, learned_heads.before / 8
    record = AdapterRecord(adapter, round(before), seconds, (learned_heads.share,)).to_bytes()
    size = _size([coding for coding, of_tile in zip(after, parts, strict=True) if of_tile])
    return Adapted(orientations[-1:], after, record) if size + len(record) < before else None


def _best(tiles: Sequence[Prepared], before: Adapted, fit: _Fit) -> Adapted:
    """Return the best of no adapter and those that are fitted."""
    started = time.monotonic()
    old = least = fit.scale * before.size
    best, orientations = before, before.orientations[-1:]
    for adapter, rates in _fitted(fit):
        try:
            adapted = fit.engine.adapted(adapter)
        except FormatError:  # a bound of exact arithmetic: rare, and no reason to fail
            continue
        after = codec.encode(tiles, adapted, [orientations] * len(tiles))
        seconds = time.monotonic() - started
        record = AdapterRecord(adapter, round(old), seconds, rates).to_bytes()
        new = fit.scale * _size(after) + len(record)
        if new < least:
            is_sure = _is_sure(before.encoded, after, fit.scale, len(record))
            best, least = Adapted(orientations, after, record, is_sure), new
    return best


def _size(encoded: Sequence[Encoded]) -> int:
    return sum(len(coding.payload) for coding in encoded)


def _is_sure(before: Sequence[Encoded], after: Sequence[Encoded], scale: float, price: int) -> bool:
    pairs = zip(before, after, strict=True)
    gains = [len(old.payload) - len(new.payload) for old, new in pairs]
    return confidence.is_sure(gains, round(scale * len(gains)), price)


def _fitted(fit: _Fit) -> Iterator[tuple[bytes, tuple[float, ...]]]:
    """Yield an adapter of the heads, then one of all layers, each with its estimated rates."""
    first = _fitted_heads(fit)
    if not first.factors:
        return
    yield first.adapter.to_bytes(), (first.share,)
    if fit.effort.passes != 0:
        yield from _fitted_in_all_layers(fit, first)


def _fitted_heads(fit: _Fit) -> Learned:
    """Return what the heads learn."""
    from archiver.codec.tuning import heads

    return heads.adapt(
        fit.engine,
        _patches(fit),
        _ranks_for(fit).head,
        scale=fit.scale,
        most_bits=OUT_OF_REACH * 8.0 * fit.n_bytes,
        seconds=fit.effort.seconds or math.inf,
    )


def _patches(fit: _Fit) -> list[Shown]:
    from archiver.codec.model.batches import Shown
    from archiver.codec.tuning import rpft

    return [patch for plane in fit.planes for patch in Shown.of(plane).cut(rpft.PATCH)]


def _ranks_for(fit: _Fit) -> Ranks:
    from archiver.codec.model.adapter import Ranks

    return Ranks(*_ranks(fit.scale * fit.n_bytes, fit.engine.sizes.dim))


def _fitted_in_all_layers(fit: _Fit, first: Learned) -> Iterator[tuple[bytes, tuple[float, ...]]]:
    """Yield an adapter of all layers that begins with that of the heads, unless it is empty."""
    from archiver.codec.tuning import rpft

    engine, scale, seconds = fit.engine, fit.scale, fit.effort.seconds or math.inf
    patches, ranks = _patches(fit), _ranks_for(fit)
    n_passes = fit.effort.passes or _passes(len(patches))
    rate = RATE / engine.sizes.dim
    passes: list[rpft.Pass] = []
    adapter = rpft.adapt(
        engine.net,
        patches,
        rpft.Settings(n_passes, rate, seconds=seconds, ranks=ranks),
        passes.append,
        first,
        scale=scale,
        device=engine.device,
        threads=engine.threads,
    )
    if not adapter.is_zero:
        rates = (after.bits / first.before / scale for after in passes)
        yield adapter.to_bytes(), (first.share, *rates)


def _ranks(n_bytes: float, dim: int) -> tuple[int, int, int]:
    """Return the ranks of matrices, kernels and heads that a file of so many bytes pays for."""
    matrix, kernel = next(ranks for limit, *ranks in RANKS if n_bytes < limit * dim)
    head = next(rank for limit, rank in HEAD_RANKS if n_bytes < limit)
    return matrix, kernel, head


def _passes(n_patches: int) -> int:
    return min(MOST_PASSES, max(PASSES, round(PASSES * math.sqrt(64 / n_patches))))
