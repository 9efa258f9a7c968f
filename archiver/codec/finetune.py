"""Own the archive model: a base model fine-tuned once on a sample of what it is going to code.

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
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec import engine, mgcf, mixture, scan, weights
from archiver.codec.optimise import Optimiser, rate

Uint8 = NDArray[np.uint8]

CROP = 64  # side
BATCH_PIXELS = 1 << 16  # a step
PEAK = 0.3  # of the rates that a network is trained with from scratch


@dataclass(frozen=True)
class Budget:
    """How long to train: until ``steps`` or ``seconds`` are spent, whichever ends first."""

    steps: int
    seconds: float


def finetune(
    model: bytes,
    tiles: Sequence[Uint8],
    bits: Sequence[float],
    budget: Budget,
    *,
    name: str,
    device: str = "cpu",
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> bytes:
    """Return a model file for data like ``tiles`` (H, W, C), C 1 or 3, of ``bits`` code lengths.

    Needs no exactness itself: it ends in integers whose bounds are proven again.
    """
    file = weights.ModelFile.from_bytes(model)
    net = mgcf.MGCF(file.architecture)
    net.load_state_dict(weights.build(file).state_dict())
    net.to(device).train()
    optimiser, crops = Optimiser(net), _Crops(tiles, bits, seed)
    start, step = time.monotonic(), 0
    while True:
        spent = (time.monotonic() - start) / budget.seconds
        progress = max(step / budget.steps, spent)
        if progress >= 1.0:
            break
        loss = _loss(net, torch.from_numpy(crops.draw()).to(device).float())
        loss.backward()
        optimiser.step(rate(10 * step, progress, peak=PEAK, decay=1.0))
        step += 1
        on_step(step, loss.item())
    card: dict[str, Any] = {"base": weights.digest(model), "steps": step, "tiles": len(tiles)}
    tuned = replace(file, name=name, tensors=weights.quantise(net.cpu()), card=card)
    coder = scan.TensorCoder(weights.build(tuned))
    return replace(tuned, self_test=engine.self_test_digest(coder)).to_bytes()


def _loss(net: mgcf.MGCF, samples: Tensor) -> Tensor:
    with torch.autocast(samples.device.type, torch.bfloat16):
        outputs, base = net(samples)
    return mixture.bits(outputs, base, samples, net.architecture).mean()


class _Crops:
    """Batches of crops: of one channel count at a time, where the bits are."""

    def __init__(self, tiles: Sequence[Uint8], bits: Sequence[float], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._pools: dict[int, tuple[list[Uint8], NDArray[np.float64]]] = {}
        for channels in {tile.shape[2] for tile in tiles}:
            mine = [i for i, tile in enumerate(tiles) if tile.shape[2] == channels]
            weight = np.array([bits[i] for i in mine]) + 1.0
            self._pools[channels] = ([tiles[i] for i in mine], weight)
        totals = np.array([weight.sum() for _, weight in self._pools.values()])
        self._share = totals / totals.sum()

    def draw(self) -> Uint8:
        """Return crops (N, h, w, C) of about BATCH_PIXELS pixels."""
        pools = list(self._pools.values())
        tiles, weight = pools[self._rng.choice(len(pools), p=self._share)]
        chosen = self._rng.choice(len(tiles), BATCH_PIXELS // CROP**2, p=weight / weight.sum())
        height = min(CROP, *(tiles[i].shape[0] for i in chosen))
        width = min(CROP, *(tiles[i].shape[1] for i in chosen))
        return np.stack([self._crop(tiles[i], height, width) for i in chosen])

    def _crop(self, tile: Uint8, height: int, width: int) -> Uint8:
        top = self._rng.integers(tile.shape[0] - height + 1)
        left = self._rng.integers(tile.shape[1] - width + 1)
        return tile[top : top + height, left : left + width]
