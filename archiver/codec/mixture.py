"""Own the discretised logistic mixture: its parameters, its training loss, its integer tables.

Per channel and component the head gives a logit, a mean, a scale and, for colour, couplings to the
channels decoded before it.  :func:`parameters` snaps them to integer indices; the loss
(:func:`bits`) and the coding tables (:mod:`archiver.codec.tables`) both start from those.

Units: logits in 1/16 octave of weight, means in 1/16 of a sample step, scales in 1/16 octave,
couplings in 1/64, coupled means in 1/64 of a sample step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from archiver.codec import grid, mgcf

MEAN_GAIN = 8.0  # a head output of one unit (16 levels) moves the mean by 8 sample steps
MEAN_LIMIT = 255.0 * mgcf.BASE_FRACTION
COUPLING_GAIN = 4.0
COUPLING_UNIT = 64  # couplings are in 1/64
MEAN_UNIT = 64  # coupled means are in 1/64 of a sample step
CENTRE_LIMIT = 512.0 * MEAN_UNIT
COUPLING_LIMIT = 255.0
LOGIT_LIMIT = 127.0
MIN_SCALE, MAX_SCALE = -80, 104  # 2**(s/16) sample steps: 1/32 .. 90
OCTAVE = 16
FLOOR_BITS = 20.0  # the loss never asks for less than 2**-20 of probability
LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Parameters:
    """Mixture parameters as integers in float tensors; ``...`` are pixel dimensions."""

    logits: Tensor  # (..., C, K) 1/16 octave
    means: Tensor  # (..., C, K) 1/16 step, relative to the base prediction
    scales: Tensor  # (..., C, K) 1/16 octave
    couplings: Tensor  # (..., C*(C-1)/2, K) 1/64


def parameters(outputs: Tensor, channels: int) -> Parameters:
    """Snap the head's ``outputs`` (..., n_outputs) to mixture parameters."""
    mixtures = outputs.shape[-1] // (3 * channels + mgcf.n_couplings(channels))
    rows = outputs.unflatten(-1, (-1, mixtures))
    logits, means, scales, couplings = rows.split(
        [channels, channels, channels, mgcf.n_couplings(channels)], dim=-2
    )
    middle = (MIN_SCALE + MAX_SCALE) / 2
    return Parameters(
        grid.snap(logits, LOGIT_LIMIT),
        grid.snap(means * MEAN_GAIN, MEAN_LIMIT),
        grid.snap(scales - middle, (MAX_SCALE - MIN_SCALE) / 2) + middle,
        grid.snap(couplings * COUPLING_GAIN, COUPLING_LIMIT),
    )


def coupled_mean(p: Parameters, channel: int, base: Tensor, residuals: Tensor) -> Tensor:
    """Return the means (..., K) of one channel in 1/64 of a sample step, relative to MID.

    ``base`` is (..., C) in 1/16 step; ``residuals`` (..., C) is sample minus base, 1/16 step,
    of which only channels before ``channel`` are read.
    """
    mean = (p.means[..., channel, :] + base[..., channel, None]) * COUPLING_UNIT
    first = mgcf.n_couplings(channel)  # rows of the couplings of earlier channels
    for earlier in range(channel):
        mean = mean + p.couplings[..., first + earlier, :] * residuals[..., earlier, None]
    return grid.snap(mean * (MEAN_UNIT / (COUPLING_UNIT * mgcf.BASE_FRACTION)), CENTRE_LIMIT)


def bits(outputs: Tensor, base: Tensor, samples: Tensor) -> Tensor:
    """Return the ideal code length of every sample (..., C) in bits; differentiable.

    ``samples`` is (..., C) float 0..255, ``base`` (..., C) from the network.
    """
    channels = samples.shape[-1]
    p = parameters(outputs, channels)
    centred = samples - mgcf.MID
    residuals = centred * mgcf.BASE_FRACTION - base
    centres = [coupled_mean(p, c, base, residuals) for c in range(channels)]
    means = torch.stack(centres, -2) / MEAN_UNIT
    inverse_scale = torch.exp2(p.scales / -OCTAVE)
    distance = (centred[..., None] - means) * inverse_scale
    high, low = distance + inverse_scale / 2, distance - inverse_scale / 2
    # log(sigmoid(high) - sigmoid(low)), stable for every distance
    log_mass = torch.log(-torch.expm1(-inverse_scale.clamp(max=30.0)))
    at_top, at_bottom = samples[..., None] >= 255, samples[..., None] <= 0
    upper = torch.where(at_top, 0.0, F.logsigmoid(high))
    lower = torch.where(at_bottom, 0.0, F.logsigmoid(-low))
    log_mass = torch.where(at_top | at_bottom, 0.0, log_mass) + upper + lower
    log_weight = F.log_softmax(p.logits * (LN2 / OCTAVE), -1)
    log_p = torch.logsumexp(log_weight + log_mass, -1)
    floor = torch.full_like(log_p, -FLOOR_BITS * LN2)
    return torch.logaddexp(log_p, floor) / -LN2
