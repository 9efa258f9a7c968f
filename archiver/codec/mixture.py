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
FLOOR = 2.0**-20  # the loss never asks for less probability
FAR = 64.0  # where a sigmoid is 0 or 1
LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Parameters:
    """Mixture parameters as integers in float tensors; ``...`` are pixel dimensions.

    Pixels come last: every step then runs along them, whatever the number of components.
    """

    logits: Tensor  # (C, K, ...) 1/16 octave
    means: Tensor  # (C, K, ...) 1/16 step, relative to the base prediction
    scales: Tensor  # (C, K, ...) 1/16 octave
    couplings: Tensor  # (C*(C-1)/2, K, ...) 1/64


def parameters(outputs: Tensor, channels: int) -> Parameters:
    """Snap the head's ``outputs`` (..., n_outputs) to mixture parameters."""
    mixtures = outputs.shape[-1] // (3 * channels + mgcf.n_couplings(channels))
    rows = outputs.movedim(-1, 0).unflatten(0, (-1, mixtures))
    logits, means, scales, couplings = rows.split(
        [channels, channels, channels, mgcf.n_couplings(channels)]
    )
    middle = (MIN_SCALE + MAX_SCALE) / 2
    return Parameters(
        grid.snap(logits, LOGIT_LIMIT),
        grid.snap(means * MEAN_GAIN, MEAN_LIMIT),
        grid.snap(scales - middle, (MAX_SCALE - MIN_SCALE) / 2) + middle,
        grid.snap(couplings * COUPLING_GAIN, COUPLING_LIMIT),
    )


def coupled_mean(p: Parameters, channel: int, base: Tensor, residuals: Tensor) -> Tensor:
    """Return the means (K, ...) of one channel in 1/64 of a sample step, relative to MID.

    ``base`` is (..., C) in 1/16 step; ``residuals`` (..., C) is sample minus base, 1/16 step,
    of which only channels before ``channel`` are read.
    """
    mean = (p.means[channel] + base[..., channel]) * COUPLING_UNIT
    first = mgcf.n_couplings(channel)  # rows of the couplings of earlier channels
    for earlier in range(channel):
        mean = mean + p.couplings[first + earlier] * residuals[..., earlier]
    return grid.snap(mean * (MEAN_UNIT / (COUPLING_UNIT * mgcf.BASE_FRACTION)), CENTRE_LIMIT)


def bits(outputs: Tensor, base: Tensor, samples: Tensor) -> Tensor:
    """Return the ideal code length of every sample (..., C) in bits; differentiable.

    ``samples`` is (..., C) float 0..255, ``base`` (..., C) from the network.
    """
    channels = samples.shape[-1]
    p = parameters(outputs, channels)
    residuals = (samples - mgcf.MID) * mgcf.BASE_FRACTION - base
    lengths = [
        _channel_bits(p, c, coupled_mean(p, c, base, residuals), samples[..., c])
        for c in range(channels)
    ]
    return torch.stack(lengths, -1)


def _channel_bits(p: Parameters, channel: int, centres: Tensor, samples: Tensor) -> Tensor:
    """Return the code length (...) of one channel: -log2 of its mass within half a step."""
    inverse_scale = torch.exp2(p.scales[channel] / -OCTAVE)
    distance = (samples - mgcf.MID - centres / MEAN_UNIT) * inverse_scale
    high = torch.where(samples >= 255, FAR, distance + inverse_scale / 2)
    low = torch.where(samples <= 0, -FAR, distance - inverse_scale / 2)
    # on the left of the centre both sigmoids are small, and their difference is precise
    right = distance > 0
    mass = torch.sigmoid(torch.where(right, -low, high)) - torch.sigmoid(
        torch.where(right, -high, low)
    )
    weight = torch.softmax(p.logits[channel] * (LN2 / OCTAVE), 0)
    return -torch.log2((weight * mass).sum(0) + FLOOR)
