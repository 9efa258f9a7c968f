"""The archive model: a base model tuned once on a sample of what it is going to code.

The whole network is trained on (no adapter, no penalty): its cost, the model file, is shared by all
images of the archive, and whether it pays is decided by real bytes afterwards.  Tiles are drawn in
proportion to their rate under the base model: where most bits are, most are to be saved (the rate
guidance of CALLIC, Li et al., AAAI 2025, at the level of a dataset).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.inference import engine
from archiver.codec.model import batches, devices, frozen, mgcf, model_file
from archiver.codec.model.batches import Batch, Shown
from archiver.codec.model.limits import WEIGHT
from archiver.codec.model.model_file import Integers, Tensors
from archiver.codec.tuning.optimisers import Optimiser, rate

CROP = 64  # side
BATCH_PIXELS = 1 << 13  # a step: many small ones gain more than few large ones
PEAK = 0.4  # of the rates that a network is trained with from scratch
BIAS_STEPS = 128  # of a bias, for each step that mantissas are rounded to


@dataclass(frozen=True)
class Budget:
    """How long to train: until ``steps`` or ``seconds`` are spent, whichever ends first.

    If the first steps show that not even ``min_steps`` fit, training is given up at once.
    """

    steps: int
    seconds: float
    min_steps: int = 0


def tune(
    model: bytes,
    tiles: Sequence[Shown],
    bits: Sequence[float],
    budget: Budget,
    *,
    name: str,
    device: str = "cpu",
    threads: int | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> bytes | None:
    """Return a model file for data like ``tiles``, of ``bits`` code lengths.

    None if the budget is too small.  Needs no exactness itself: it ends in integers whose bounds
    are proven again.  ``threads`` None leaves torch's setting as it is.
    """
    file = model_file.ModelFile.from_bytes(model)
    with devices.training(threads):
        run = _Run(file, budget, device)
        crops = _Crops(tiles, bits)
        while run.progress < 1.0:
            loss = run.step(crops.draw())
            on_step(run.steps, loss)
            if run.steps == _TIMED[1] and not run.is_worth_it:
                return None
        if run.steps < budget.min_steps:  # the machine got busier than the first steps said
            return None
        net = run.net.cpu()
    card: dict[str, Any] = {
        "base": model_file.digest(model),
        "steps": run.steps,
        "tiles": len(tiles),
    }
    return _tested(replace(file, name=name, tensors=frozen.quantise(net), card=card))


def rounded(model: bytes, base: bytes, step: int) -> bytes:
    """Return ``model`` with all differences to ``base`` rounded to multiples of ``step``.

    Rows keep the exponents of the base: then most differences are 0, and cost next to nothing.
    """
    file, known = (
        model_file.ModelFile.from_bytes(model),
        model_file.ModelFile.from_bytes(base).tensors,
    )
    tensors: Tensors = {}
    for name, was in known.items():
        tensors[name] = _rounded(name, file.tensors, known, step).astype(was.dtype)
    return _tested(replace(file, tensors=tensors))


def _rounded(name: str, tensors: Tensors, known: Tensors, step: int) -> NDArray[np.float64]:
    now, was = tensors[name].astype(np.float64), known[name].astype(np.float64)
    layer, _, kind = name.rpartition(".")
    if kind == "exponent":
        return was
    if kind == "bias":
        return was + _to_multiples(now - was, BIAS_STEPS * step)
    if f"{layer}.exponent" not in known:  # a base predictor: few, and every step counts
        return now
    shift = _flat_rows(tensors, layer, now) - _flat_rows(known, layer, now)
    return np.clip(was + _to_multiples(now * 2.0**shift - was, step), -WEIGHT, WEIGHT)


def _flat_rows(tensors: Tensors, layer: str, like: NDArray[np.float64]) -> Integers:
    """Return the exponents of a layer, shaped to be combined with its model_file."""
    exponents: Integers = tensors[f"{layer}.exponent"].astype(np.int32)
    return exponents.reshape(-1, *[1] * (like.ndim - 1))


def _to_multiples(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    return np.rint(values / step) * step


def _tested(file: model_file.ModelFile) -> bytes:
    """Return the file with the self-test of its network."""
    return replace(file, self_test=engine.digest_of(file)).to_bytes()


_TIMED = (1, 4)  # after the first step, which is slower, up to that one


class _Run:
    """A network in training, and what of the budget is spent."""

    def __init__(self, file: model_file.ModelFile, budget: Budget, device: str) -> None:
        self.net = mgcf.MGCF(file.architecture)
        self.net.load_state_dict(frozen.build(file).state_dict())
        self.net.to(device).train()
        self.steps = 0
        self._device, self._budget = device, budget
        self._optimiser = Optimiser(self.net)
        self._start = time.monotonic()
        self._step_ends: list[float] = []

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        spent = (time.monotonic() - self._start) / self._budget.seconds
        return max(self.steps / self._budget.steps, spent)

    @property
    def is_worth_it(self) -> bool:
        """Whether at least the least number of steps fit into the time."""
        first, last = (self._step_ends[i - 1] for i in _TIMED)
        step_s = (last - first) / (_TIMED[1] - _TIMED[0])
        return step_s * self._budget.min_steps <= self._budget.seconds

    def step(self, batch: Batch) -> float:
        """Take one gradient step; returns the loss in bits per sample."""
        factor = rate(10 * self.steps, min(1.0, self.progress), peak=PEAK, decay=1.0)
        loss = batches.bits(self.net, batch.to(self._device)).mean()
        loss.backward()
        self._optimiser.step(factor)
        self.steps += 1
        self._step_ends.append(time.monotonic())
        return loss.item()


class _Crops:
    """Batches of crops: of one kind at a time, where the bits are."""

    def __init__(self, tiles: Sequence[Shown], bits: Sequence[float]) -> None:
        self._rng = np.random.default_rng(0)
        self._pools: dict[str, tuple[list[Shown], NDArray[np.float64]]] = {}
        for kind in sorted({tile.kind for tile in tiles}):
            mine = [i for i, tile in enumerate(tiles) if tile.kind == kind]
            weight = np.array([bits[i] for i in mine]) + 1.0
            self._pools[kind] = ([tiles[i] for i in mine], weight)
        totals = np.array([weight.sum() for _, weight in self._pools.values()])
        self._share = totals / totals.sum()

    def draw(self) -> Batch:
        """Return crops of about BATCH_PIXELS pixels."""
        pools = list(self._pools.values())
        tiles, weight = pools[self._rng.choice(len(pools), p=self._share)]
        chosen = self._rng.choice(len(tiles), BATCH_PIXELS // CROP**2, p=weight / weight.sum())
        height = min(CROP, *(tiles[i].samples.shape[0] for i in chosen))
        width = min(CROP, *(tiles[i].samples.shape[1] for i in chosen))
        return Batch.of([self._crop(tiles[i], height, width) for i in chosen])

    def _crop(self, tile: Shown, height: int, width: int) -> Shown:
        top = self._rng.integers(tile.samples.shape[0] - height + 1)
        left = self._rng.integers(tile.samples.shape[1] - width + 1)
        return tile.crop(int(top), int(left), height, width)
