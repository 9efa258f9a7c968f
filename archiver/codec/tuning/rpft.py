"""Rate-guided progressive fine-tuning: from an image's tiles to the adapter that pays.

RPFT (CALLIC, Li et al., AAAI 2025, "MDL-Principled RPFT", equations 6-9): one pass of the base
model gives every patch its rate; patches are shown in the order of falling rate, a growing share
of them at each pass; the loss is the description length of the whole image, adapter included.
Nothing here needs exactness: it ends in whole numbers, whose worth is measured in real bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from archiver.codec.model import architecture, batches, devices, mgcf
from archiver.codec.model.adapter import (
    KERNEL,
    Adapter,
    Ranks,
    factor_shapes,
    merged_weights,
    starts,
)
from archiver.codec.model.batches import Batch, Shown
from archiver.codec.tuning import factors
from archiver.codec.tuning.heads import Learned

PATCH = 64  # side of what is shown and ranked
BATCH = 2  # patches of one update: the smaller, the better, at the same number of passes
WARM_UP = 8  # updates


@dataclass(frozen=True)
class Settings:
    """How to adapt.  ``order`` is that of CALLIC; the others are there to be compared with."""

    passes: int = 12  # T
    rate: float = 1.0  # of Adam, in steps of a factor
    first_share: float = 0.55  # b: of the patches, at the start
    last_passes: float = 0.1  # d: of the passes, over all patches
    exponent: float = 1.0  # e
    progressive: bool = True  # False: all patches at every pass
    order: str = "falling"  # or "rising", "random"
    ranks: Ranks = field(default_factory=Ranks)
    kernels: bool = True  # False: no increments for depth-wise kernels
    seconds: float = float("inf")
    seed: int = 0


@dataclass(frozen=True)
class Pass:
    """What one pass over the shown patches did."""

    number: int
    share: float  # of the patches that were shown
    bits: float  # estimated description length of the image's samples
    seconds: float


def share(settings: Settings, t: int) -> float:
    """Return the share of patches shown at pass ``t`` (CALLIC, equations 6-9)."""
    if not settings.progressive:
        return 1.0
    whole = settings.passes * (1 - settings.last_passes)
    x = min(1.0, t / whole) if whole else 1.0
    smooth = (3 - 2 * x) * x * x
    b = settings.first_share
    return float(b + (1 - b) * smooth**settings.exponent)


def adapt(
    net: mgcf.MGCF,
    patches: Sequence[Shown],
    settings: Settings,
    on_pass: Callable[[Pass], None] = lambda done: None,
    start: Learned | None = None,
    *,
    scale: float = 1.0,
    device: str = "cpu",
    threads: int | None = None,
) -> Adapter:
    """Return the adapter for ``patches`` that represent an image.

    ``net`` is a coding network on the CPU; ``device`` is where to train.  ``scale`` is how many
    times the patches' bits the whole image has, if they are a sample of it.  ``start`` is what
    the heads have learned before.  ``threads`` None leaves torch's setting as it is.
    """
    begin = start or Learned({}, settings.ranks, 0.0, 1.0, net.architecture)
    with devices.training(threads):
        trainer = _Trainer(net, patches, settings, begin, scale, device)
        return _adapted(trainer, settings, on_pass)


def _adapted(trainer: _Trainer, settings: Settings, on_pass: Callable[[Pass], None]) -> Adapter:
    start = time.monotonic()
    for t in range(settings.passes):
        bits = trainer.run(t)
        spent = time.monotonic() - start
        on_pass(Pass(t + 1, share(settings, t), bits, spent))
        if spent > settings.seconds:
            break
    return trainer.adapter()


class _Trainer:
    def __init__(
        self,
        net: mgcf.MGCF,
        patches: Sequence[Shown],
        settings: Settings,
        start: Learned,
        scale: float,
        device: str,
    ) -> None:
        self._settings = settings
        self._device = torch.device(device)
        self._rng = np.random.default_rng(settings.seed)
        self._patches = list(patches)
        self._objective = _Objective(net.architecture, settings.ranks, device)
        self._objective.net.load_state_dict(net.state_dict())
        self._rates = _rates(self._objective.net, self._patches)
        self._total = float(self._rates.sum()) * scale  # bits of the whole image
        self._order = _order(self._rates, settings.order, self._rng)
        shapes = factor_shapes(net.architecture, settings.ranks)
        self._factors = {
            name: self._first(start, name, shape).to(self._device).requires_grad_()
            for name, shape in shapes.items()
        }
        self._learned = [
            factor
            for name, factor in self._factors.items()
            if settings.kernels or KERNEL not in name
        ]
        self._adam = torch.optim.Adam(self._learned, lr=settings.rate, betas=(0.9, 0.99))
        self._noise = torch.Generator(self._device).manual_seed(settings.seed)
        self._updates = 0

    def _first(self, start: Learned, name: str, shape: tuple[int, int]) -> Tensor:
        if name in start.factors:
            return start.factors[name].detach().clone()
        return factors.dithered(shape, self._rng)

    def run(self, t: int) -> float:
        """Make one pass over the patches that are shown; returns the image's estimated bits."""
        n = max(1, round(share(self._settings, t) * len(self._order)))
        shown = self._rng.permutation(self._order[:n])
        n_updates = max(1, round(n / BATCH))
        if n >= BATCH:  # whole batches: some patches come twice, or next time
            shown = np.resize(shown, n_updates * BATCH)
        seen = before = 0.0
        for i, chosen in enumerate(np.array_split(shown, n_updates)):
            self._set_rate((t + i / n_updates) / self._settings.passes)
            seen += self._update(chosen)
            before += float(self._rates[chosen].sum())
        return seen / before * self._total

    def _set_rate(self, progress: float) -> None:
        """Warm up, then fall with the square root of the remainder."""
        warm = min(1.0, (self._updates + 1) / WARM_UP)
        for group in self._adam.param_groups:
            group["lr"] = self._settings.rate * warm * (1 - progress) ** 0.5
        self._updates += 1

    def _update(self, chosen: NDArray[np.int64]) -> float:
        """Move the factors along the gradient of the description length; returns patch bits."""
        rates = float(self._rates[chosen].sum())
        seen = 0.0
        for group in _alike([self._patches[i] for i in chosen]):
            bits = self._objective.bits(self._factors, group.to(self._device))
            seen += bits.item()
            (bits / rates).backward()
        (factors.price(self._learned, self._noise) / self._total).backward()
        self._adam.step()
        self._adam.zero_grad()
        return seen

    def adapter(self) -> Adapter:
        """Return what was learned, rounded."""
        return Adapter(self._settings.ranks, factors.finished(self._factors))


class _Objective:
    """The bits of patches under a network with increments."""

    def __init__(self, sizes: architecture.Architecture, ranks: Ranks, device: str) -> None:
        self.net = mgcf.MGCF(sizes).requires_grad_(False).to(device).train()
        self._device = torch.device(device)
        self._starts = {n: s.to(device) for n, s in starts(sizes, ranks).items()}

    def bits(self, learned: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the code length of a batch, differentiable in the factors."""
        rounded = {name: factors.rounded(f) + self._starts[name] for name, f in learned.items()}
        weights = merged_weights(self.net, rounded)
        device = self._device.type
        with torch.autocast(device, torch.bfloat16, batches.learns_in_bfloat16(device)):
            outputs, base = functional_call(self.net, weights, (batch.samples, batch.kind))
        return batches.code_length(outputs, base, batch, self.net.architecture).sum()


@torch.inference_mode()
def _rates(net: mgcf.MGCF, patches: Sequence[Shown]) -> NDArray[np.float64]:
    """Return the code length of every patch, in bits, under the base model."""
    device = next(net.parameters()).device
    alone = (Batch.of([patch]).to(device) for patch in patches)
    return np.array([float(batches.bits(net, batch).sum()) for batch in alone]) + 1.0


def _order(rates: NDArray[np.float64], order: str, rng: np.random.Generator) -> NDArray[np.int64]:
    if order == "random":
        return rng.permutation(len(rates))
    falling = np.argsort(-rates, kind="stable")
    return falling[::-1] if order == "rising" else falling


def _alike(patches: Sequence[Shown]) -> list[Batch]:
    """Stack patches of one kind and shape."""
    groups: dict[tuple[str, tuple[int, ...]], list[Shown]] = {}
    for patch in patches:
        groups.setdefault((patch.kind, patch.samples.shape), []).append(patch)
    return [Batch.of(group) for group in groups.values()]
