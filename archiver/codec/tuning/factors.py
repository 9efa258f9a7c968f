"""The factors of an adapter while they are learned: real numbers that will be rounded.

The loss is a description length (CALLIC, "MDL-Principled RPFT"): coded samples under the rounded
factors, straight-through, and the price of the factors, with noise in the place of rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archiver.codec.model.adapter import LIMIT, Factor

LEAST_SCALE, MAX_SCALE = 0.15, 2.0  # steps: of the logistics that price factors


def dithered(shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Return values that round to zero, but not all at the same distance from one.

    From zero all would leave at once, and a matrix of ones is a leap in the dark.
    """
    return torch.from_numpy(rng.uniform(-0.49, 0.49, shape).astype(np.float32))


def price(factors: Sequence[Tensor], noise: torch.Generator) -> Tensor:
    """Return the bits of factors (in steps) under logistics; noise stands for rounding.

    Each factor has the scale that fits it now, as it will when it is stored: the more of its
    values are zero, the more the next one costs that is not.
    """
    return torch.stack([_price(factor, noise) for factor in factors]).sum()


def _price(factor: Tensor, noise: torch.Generator) -> Tensor:
    with torch.no_grad():  # a logistic's mean magnitude is 2 ln 2 scales
        scale = factor.round().abs().mean() / (2 * math.log(2))
        scale = scale.clamp(LEAST_SCALE, MAX_SCALE)
    dither = torch.rand(factor.shape, generator=noise, device=factor.device) - 0.5
    tail = -(factor + dither).abs()  # the lower tail, where no difference vanishes
    upper = F.logsigmoid((tail + 0.5) / scale)
    lower = F.logsigmoid((tail - 0.5) / scale)
    mass = upper + torch.log(-torch.expm1(lower - upper))  # of the bin, in nats
    return -mass.sum() / math.log(2)


def rounded(x: Tensor) -> Tensor:
    """Round with a straight-through gradient."""
    return x + (x.detach().round().clamp(-LIMIT, LIMIT) - x.detach())


def finished(factors: Mapping[str, Tensor]) -> dict[str, Factor]:
    """Return the values that are stored."""
    return {
        name: f.detach().round().clamp(-LIMIT, LIMIT).to(torch.int8).cpu().numpy()
        for name, f in factors.items()
    }
