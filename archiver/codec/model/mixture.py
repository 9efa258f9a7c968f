"""The discretised logistic mixture: its parameters, its training loss, its integer tables.

Per channel and component the head gives a logit, a mean, a scale and, for colour, couplings to the
channels decoded before it.  Other components copy their mean from a neighbour: flat backgrounds,
synthetic regions and repeated chroma repeat samples exactly, a sum of rounded weights only nearly.
:func:`parameters` snaps them to integer indices; the loss (:func:`bits`) and the coding tables
(:mod:`archiver.codec.model.frequencies`) both start from those.

Units: logits in 1/16 octave of weight, means in 1/16 of a sample step, scales in 1/16 octave,
couplings in 1/64, coupled means in 1/64 of a sample step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from archiver.codec.model import architecture, grid
from archiver.codec.model.tables import LOGIT_LIMIT, MAX_SCALE, MEAN_UNIT, MIN_SCALE, OCTAVE

MEAN_GAIN = 8.0  # a head output of one unit (16 levels) moves the mean by 8 sample steps
MEAN_LIMIT = 255.0 * architecture.BASE_FRACTION
COUPLING_GAIN = 4.0
COUPLING_UNIT = 64  # couplings are in 1/64
CENTRE_LIMIT = 512.0 * MEAN_UNIT
COUPLING_LIMIT = 255.0
FLOOR = 2.0**-20  # the loss never asks for less probability
FAR = 64.0  # where a sigmoid is 0 or 1
LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Parameters:
    """Mixture parameters as integers in float tensors; ``...`` are pixel dimensions.

    Pixels come last: every step then runs along them, whatever the number of components.
    """

    logits: Tensor  # (C, K + J, ...) 1/16 octave; the J copies come last
    means: Tensor  # (C, K, ...) 1/16 step, relative to the base prediction
    scales: Tensor  # (C, K + J, ...) 1/16 octave
    couplings: Tensor  # (C*(C-1)/2, K, ...) 1/64


def parameters(outputs: Tensor, channels: int, sizes: architecture.Architecture) -> Parameters:
    """Snap the head's ``outputs`` (..., n_outputs) to mixture parameters.

    They are rows of K: C of logits, C of means, C of scales, the couplings; then rows of J: C of
    logits, C of scales.
    """
    n_rows, couplings_of = 3 * channels, architecture.n_couplings(channels)
    predicted, copied = outputs.movedim(-1, 0).split(
        [sizes.mixtures * (n_rows + couplings_of), 2 * channels * sizes.copies]
    )
    logits, means, scales, couplings = predicted.unflatten(0, (-1, sizes.mixtures)).split(
        [channels, channels, channels, couplings_of]
    )
    copied_logits, copied_scales = copied.unflatten(0, (2, channels, sizes.copies))
    middle = (MIN_SCALE + MAX_SCALE) / 2
    return Parameters(
        grid.snap(torch.cat([logits, copied_logits], 1), LOGIT_LIMIT),
        grid.snap(means * MEAN_GAIN, MEAN_LIMIT),
        grid.snap(torch.cat([scales, copied_scales], 1) - middle, (MAX_SCALE - MIN_SCALE) / 2)
        + middle,
        grid.snap(couplings * COUPLING_GAIN, COUPLING_LIMIT),
    )


def copyable(centred: Tensor, sizes: architecture.Architecture) -> Tensor:
    """Return what may be copied, (J, ..., H, W, C), of samples minus MID (..., H, W, C).

    Outside of the tile it is 0.
    """
    shifted = [
        F.pad(centred, (0, 0, -column, 0, -row, 0))[
            ..., : centred.shape[-3], : centred.shape[-2], :
        ]
        for row, column in architecture.COPIED[: sizes.copies]
    ]
    return torch.stack(shifted) if shifted else centred.new_zeros((0, *centred.shape))


def centres(
    p: Parameters,
    channel: int,
    base: Tensor,
    centred: Tensor,
    neighbours: Tensor,
    limit: float = CENTRE_LIMIT,
) -> Tensor:
    """Return the means (K + J, ...) of one channel in 1/64 of a sample step, relative to MID.

    ``base`` is (..., C) in 1/16 step.  ``centred`` (..., C) is samples minus MID, of which only
    channels before ``channel`` are read, and ``neighbours`` (J, ..., C) the same of those that may
    be copied; a copy moves with the channel decoded last, as repeated chroma does.
    """
    mean = (p.means[channel] + base[..., channel]) * COUPLING_UNIT
    first = architecture.n_couplings(channel)  # rows of the couplings of earlier channels
    for earlier in range(channel):
        residual = centred[..., earlier] * architecture.BASE_FRACTION - base[..., earlier]
        mean = mean + p.couplings[first + earlier] * residual
    mean = grid.snap(mean * (MEAN_UNIT / (COUPLING_UNIT * architecture.BASE_FRACTION)), limit)
    copies = neighbours[..., channel]
    if channel:
        copies = copies + (centred[..., channel - 1] - neighbours[..., channel - 1])
    return torch.cat([mean, copies * MEAN_UNIT])


@dataclass(frozen=True)
class Coded:
    """What is coded, and what of it the mixture sees: ``...`` are pixel dimensions.

    ``centred`` (..., C) is samples minus MID, or samples of more bits in units; ``neighbours``
    (J, ..., C) those that may be copied; ``grain`` the step of samples, a number or (...);
    ``is_least`` and ``is_most`` (..., C) mark the smallest and the largest sample that there is.
    """

    centred: Tensor
    neighbours: Tensor
    grain: float | Tensor
    is_least: Tensor
    is_most: Tensor
    limit: float  # of coupled means

    @classmethod
    def of_bytes(cls, samples: Tensor, sizes: architecture.Architecture) -> Coded:
        """Take samples (..., H, W, C), float 0..255."""
        centred = samples - architecture.MID
        ends = samples <= 0, samples >= 255
        return cls(centred, copyable(centred, sizes), 1.0, *ends, CENTRE_LIMIT)

    @classmethod
    def of_high_depth(
        cls, centred: Tensor, grain: Tensor, ends: Tensor, sizes: architecture.Architecture
    ) -> Coded:
        """Take samples of more bits (N, H, W, 1), ``grain`` (N,), ``ends`` (N, 2): least, most."""
        low, high = ends[:, 0, None, None, None], ends[:, 1, None, None, None]
        steps = grain[:, None, None].expand(centred.shape[:-1])
        seen = copyable(centred, sizes)
        return cls(centred, seen, steps, centred <= low, centred >= high, float("inf"))


def bits(outputs: Tensor, base: Tensor, coded: Coded, sizes: architecture.Architecture) -> Tensor:
    """Return the ideal code length of every sample (..., C) in bits; differentiable.

    ``outputs`` and ``base`` are a network's of that architecture.
    """
    channels = coded.centred.shape[-1]
    p = parameters(outputs, channels, sizes)
    lengths = []
    for c in range(channels):
        middles = centres(p, c, base, coded.centred, coded.neighbours, coded.limit)
        ends = coded.is_least[..., c], coded.is_most[..., c]
        lengths.append(_channel_bits(p, c, middles, coded.centred[..., c], coded.grain, ends))
    return torch.stack(lengths, -1)


def _channel_bits(
    p: Parameters,
    channel: int,
    centres: Tensor,
    centred: Tensor,
    grain: float | Tensor,
    ends: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the code length (...) of one channel: -log2 of its mass within half a step.

    ``grain`` is that step, ``ends`` are true at the smallest and the largest sample.
    """
    inverse_scale = torch.exp2(p.scales[channel] / -OCTAVE)
    distance = (centred - centres / MEAN_UNIT) * inverse_scale
    half_step = inverse_scale * (grain / 2)
    high = torch.where(ends[1], FAR, distance + half_step)
    low = torch.where(ends[0], -FAR, distance - half_step)
    # on the left of the centre both sigmoids are small, and their difference is precise
    right = distance > 0
    mass = torch.sigmoid(torch.where(right, -low, high)) - torch.sigmoid(
        torch.where(right, -high, low)
    )
    weight = torch.softmax(p.logits[channel] * (LN2 / OCTAVE), 0)
    return -torch.log2((weight * mass).sum(0) + FLOOR)
