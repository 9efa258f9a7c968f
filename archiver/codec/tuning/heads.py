"""The quick half of fitting an adapter: increments of the heads, learned from kept features.

What a head sees depends on all that comes before it, which stays as it is here.  So one pass of the
network gives the features of all pixels, and every update after it costs a small matrix product and
the mixture alone, of pixels drawn from anywhere in the image: hundreds of updates take the time of
one pass of :mod:`archiver.codec.tuning.rpft`, which may go on from what they found.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archiver.codec.inference.engine import Engine
from archiver.codec.model import architecture, devices, mgcf, mixture
from archiver.codec.model.adapter import (
    Adapter,
    Ranks,
    factor_shapes,
    head_of,
    merged_weights,
    starts,
)
from archiver.codec.model.batches import Batch, Shown
from archiver.codec.tuning import factors

MAX_PIXELS = 1 << 18  # whose features are kept: some 150 bytes each
UPDATE_PIXELS = 1 << 11  # drawn for one update
UPDATES = 0.8  # times the square root of the number of pixels
JUDGED_PIXELS = 1 << 14  # that tell what was gained
RATE = 1.5  # of Adam, in steps of a factor; falls with the square of the remainder
WARM_UP = 8  # updates


@dataclass(frozen=True)
class Pixels:
    """Pixels of one kind, and all that the code length depends on but the head.

    ``levels`` (n, dim) int8 are the features, ``base`` (n, C) the base predictions.
    """

    kind: str
    levels: Tensor
    base: Tensor
    coded: mixture.Coded

    def __len__(self) -> int:
        return len(self.levels)

    def draw(self, chosen: Tensor) -> Pixels:
        """Return the pixels of these numbers."""
        c = self.coded
        coded = replace(
            c,
            centred=c.centred[chosen],
            neighbours=c.neighbours[:, chosen],
            grain=c.grain[chosen] if isinstance(c.grain, Tensor) else c.grain,
            is_least=c.is_least[chosen],
            is_most=c.is_most[chosen],
        )
        return Pixels(self.kind, self.levels[chosen], self.base[chosen], coded)

    def bits(self, net: mgcf.MGCF, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the code length of all of them under a head; ``bias`` in units of 16 levels."""
        outputs = F.linear(self.levels.float(), weight, bias * architecture.UNIT)
        return mixture.bits(outputs, self.base, self.coded, net.architecture).sum()


def pixels_of(engine: Engine, patches: Sequence[Shown]) -> list[Pixels]:
    """Return the pixels of patches, those of one kind together, where the engine computes."""
    parts: dict[str, list[Pixels]] = {}
    for patch in patches:
        batch = Batch.of([patch])
        seen = (torch.from_numpy(x).to(engine.device) for x in engine.features(patch))
        levels, base = (x.flatten(0, -2) for x in seen)
        coded = _flat(batch.to(engine.device).coded(engine.sizes))
        parts.setdefault(batch.kind, []).append(Pixels(batch.kind, levels, base, coded))
    return [_joined(batches) for batches in parts.values()]


@dataclass(frozen=True)
class Learned:
    """Factors of heads, on the way to be rounded, and the bits that they were learned from.

    ``before`` is the estimated code length of the patches without them, ``share`` that with them,
    relative to it.
    """

    factors: dict[str, Tensor]
    ranks: Ranks
    before: float
    share: float
    sizes: architecture.Architecture

    @property
    def adapter(self) -> Adapter:
        """What was learned, rounded; all other factors are zero."""
        values = factors.finished(self.factors)
        shapes = factor_shapes(self.sizes, self.ranks)
        zeros = {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}
        return Adapter(self.ranks, zeros | values)


def adapt(
    engine: Engine,
    patches: Sequence[Shown],
    rank: int,
    *,
    scale: float = 1.0,
    most_bits: float = float("inf"),
    seconds: float = float("inf"),
    seed: int = 0,
) -> Learned:
    """Return what the heads learn from ``patches`` that represent an image.

    ``scale`` is how many times the patches' bits the whole image has, if they are a sample of it:
    the longer the image, the more its factors may cost.  Nothing is learned if the patches take
    more than ``most_bits`` without it.
    """
    rng = np.random.default_rng(seed)
    kept = _some(patches, rng)
    n_pixels, n_kept = (sum(tile.samples.size for tile in some) for some in (patches, kept))
    stands_for = n_pixels / max(1, n_kept)
    ranks, sizes = Ranks(0, 0, rank), engine.sizes
    with devices.training(engine.threads):
        runs = [
            _Run(engine.net, pixels, ranks, scale * stands_for, rng)
            for pixels in pixels_of(engine, kept)
        ]
        before = sum(run.before for run in runs)
        if not before or before * stands_for > most_bits:
            return Learned({}, ranks, before * stands_for, 1.0, sizes)
        after = sum(run.learn(seconds) for run in runs)
    learned = {name: factor for run in runs for name, factor in run.factors.items()}
    return Learned(learned, ranks, before * stands_for, after / before, sizes)


def _some(patches: Sequence[Shown], rng: np.random.Generator) -> list[Shown]:
    """Return as many of the patches as are kept, from anywhere."""
    kept, room = [], MAX_PIXELS
    for number in rng.permutation(len(patches)):
        if room > 0:
            kept.append(patches[number])
            room -= patches[number].samples[..., 0].size
    return kept


class _Run:
    """Factors in the making, on the device of the pixels."""

    def __init__(
        self, net: mgcf.MGCF, pixels: Pixels, ranks: Ranks, scale: float, rng: np.random.Generator
    ) -> None:
        self._pixels, self._scale = pixels, scale
        device = pixels.levels.device
        self._net = copy.deepcopy(net).to(device)
        self._head = head_of(pixels.kind)
        self._starts = {
            name: start.to(device)
            for name, start in starts(net.architecture, ranks).items()
            if name.startswith(self._head)
        }
        self.factors = {
            name: factors.dithered((len(start), start.shape[1]), rng).to(device).requires_grad_()
            for name, start in self._starts.items()
        }
        self._adam = torch.optim.Adam(self.factors.values(), lr=RATE, betas=(0.9, 0.99))
        self._random = torch.Generator(device).manual_seed(int(rng.integers(2**31)))
        self._judged = self._drawn(JUDGED_PIXELS)
        self._n_updates = 0

    @property
    def before(self) -> float:
        """The estimated bits of the pixels without factors."""
        head = cast(mgcf.Port, self._net.ports[self._pixels.kind]).head
        some = self._judged
        return float(some.bits(self._net, head.weight, head.bias)) * len(self._pixels) / len(some)

    def learn(self, seconds: float) -> float:
        """Make all updates, or those that fit; return the estimated bits of the pixels."""
        started = time.monotonic()
        n_updates = round(UPDATES * len(self._pixels) ** 0.5)
        for number in range(n_updates):
            self.update(number / n_updates)
            if time.monotonic() - started > seconds:
                break
        with torch.no_grad():
            judged = float(self._bits(self._judged))
        return judged * len(self._pixels) / len(self._judged)

    def update(self, progress: float) -> None:
        """Move the factors along the gradient of the description length."""
        self._n_updates += 1
        warm = min(1.0, self._n_updates / WARM_UP)
        for group in self._adam.param_groups:
            group["lr"] = RATE * warm * (1 - progress) ** 2
        drawn = self._drawn(UPDATE_PIXELS)
        bits = self._bits(drawn) * (len(self._pixels) / len(drawn)) * self._scale
        (bits + factors.price(list(self.factors.values()), self._random)).backward()
        self._adam.step()
        self._adam.zero_grad()

    def _drawn(self, count: int) -> Pixels:
        n, device = len(self._pixels), self._pixels.levels.device
        chosen = torch.randint(n, (min(n, count),), generator=self._random, device=device)
        return self._pixels.draw(chosen)

    def _bits(self, pixels: Pixels) -> Tensor:
        rounded = {
            name: factors.rounded(factor) + self._starts[name]
            for name, factor in self.factors.items()
        }
        merged = merged_weights(self._net, rounded)
        return pixels.bits(self._net, merged[f"{self._head}.weight"], merged[f"{self._head}.bias"])


def _flat(coded: mixture.Coded) -> mixture.Coded:
    """Return what is coded with one pixel dimension."""
    grain = coded.grain
    return replace(
        coded,
        centred=coded.centred.flatten(0, -2),
        neighbours=coded.neighbours.flatten(1, -2),
        grain=grain.flatten() if isinstance(grain, Tensor) else grain,
        is_least=coded.is_least.flatten(0, -2),
        is_most=coded.is_most.flatten(0, -2),
    )


def _joined(parts: Sequence[Pixels]) -> Pixels:
    """Return pixels of one kind in one piece."""
    coded = [batch.coded for batch in parts]
    grains = [c.grain for c in coded if isinstance(c.grain, Tensor)]
    whole = replace(
        coded[0],
        centred=torch.cat([c.centred for c in coded]),
        neighbours=torch.cat([c.neighbours for c in coded], 1),
        grain=torch.cat(grains) if grains else coded[0].grain,
        is_least=torch.cat([c.is_least for c in coded]),
        is_most=torch.cat([c.is_most for c in coded]),
    )
    levels = torch.cat([batch.levels for batch in parts])
    return Pixels(parts[0].kind, levels, torch.cat([batch.base for batch in parts]), whole)
