"""Own the factors of an adapter while they are learned: real numbers that will be rounded.

The loss is a description length (CALLIC, "MDL-Principled RPFT"): coded samples under the rounded
factors, straight-through, and the price of the factors, with noise in the place of rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from archiver.codec.adapters import LIMIT, Factor

PRIOR_SCALE = 1.0  # steps: of the logistic that prices factors while they are learned


def dithered(shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Return values that round to zero, but not all at the same distance from one.

    From zero all would leave at once, and a matrix of ones is a leap in the dark.
    """
    return torch.from_numpy(rng.uniform(-0.49, 0.49, shape).astype(np.float32))


def price(factors: Sequence[Tensor], noise: torch.Generator) -> Tensor:
    """Return the bits of factors (in steps) under a logistic; noise stands for rounding."""
    flat = torch.cat([f.flatten() for f in factors])
    noisy = flat + torch.rand(flat.shape, generator=noise, device=flat.device) - 0.5
    mass = torch.sigmoid((noisy + 0.5) / PRIOR_SCALE) - torch.sigmoid((noisy - 0.5) / PRIOR_SCALE)
    return -(mass + 1e-9).log2().sum()


def rounded(x: Tensor) -> Tensor:
    """Round with a straight-through gradient."""
    return x + (x.detach().round().clamp(-LIMIT, LIMIT) - x.detach())


def finished(factors: Mapping[str, Tensor]) -> dict[str, Factor]:
    """Return the values that are stored."""
    return {
        name: f.detach().round().clamp(-LIMIT, LIMIT).to(torch.int8).cpu().numpy()
        for name, f in factors.items()
    }
