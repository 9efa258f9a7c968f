"""The loops between two matrix products of one group of pixels, over rings of past groups.

A ring is (groups kept, 3 + height, tiles, width): rows and groups of the skewed layout, the past
groups that some tap still sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.codec.inference.kernels.arrays import Depthwise, Float32, Place, Sums
from archiver.codec.inference.kernels.layers import (
    BASE_LIMIT,
    COARSE,
    FINE,
    FRACTION,
    LEVEL,
    MID,
    UNIT_STEP,
    VALID,
    ZERO,
    swish,
)
from archiver.codec.inference.kernels.rounding import snap
from archiver.codec.model import causal
from archiver.compiled import compiled

_f32 = np.float32
ABOVE = causal.ABOVE


@compiled
def gather_ring(ring: Any, place: Place, taps: Any, out: Any) -> None:
    """Copy what ``taps`` (row, group offsets) see: out (rows, tiles, taps * n_planes).

    ``ring`` is (groups kept, 3 + height, tiles, n_planes).
    """
    group, first = place
    kept, n_planes = ring.shape[0], ring.shape[3]
    for r in range(out.shape[0]):
        for tile in range(out.shape[1]):
            row = out[r, tile]
            for t in range(len(taps)):
                seen = ring[(group + taps[t, 1]) % kept, ABOVE + first + r + taps[t, 0], tile]
                for p in range(n_planes):
                    row[t * n_planes + p] = seen[p]


@compiled
def clear_ended(ring: Any, place: Place) -> None:
    """Make rows that ended within the groups kept read as outside."""
    group, first = place
    column = ring[group % ring.shape[0]]
    for r in range(ABOVE + max(0, first - ring.shape[0]), ABOVE + first):
        column[r] = 0


@compiled
def base_of(seen: Any, n_planes: int, weight: Float32, base: Float32) -> None:
    """Predict M pixels linearly: ``seen`` (M, taps * n_planes) -> ``base`` (M, C).

    ``weight`` is (taps * C, C); the samples are the first planes.
    """
    channels = base.shape[1]
    for i in range(len(base)):
        for channel in range(channels):
            base[i, channel] = ZERO
        for t in range(len(weight) // channels):
            for plane in range(channels):
                x = _f32(seen[i, t * n_planes + plane])
                for channel in range(channels):
                    base[i, channel] += x * weight[t * channels + plane, channel]
        for channel in range(channels):
            base[i, channel] = snap(base[i, channel] * FRACTION, BASE_LIMIT)


@compiled
def write_planes(ring: Any, place: Place, samples: Any, base: Float32, inside: Any) -> None:
    """Write a group's decoded ``samples`` (rows, tiles, C) as planes; nothing outside a tile."""
    group, first = place
    column = ring[group % ring.shape[0]]
    rows, tiles, channels = samples.shape
    for r in range(rows):
        for tile in range(tiles):
            seen = column[ABOVE + first + r, tile]
            if not inside[r, tile]:
                seen[:] = 0
                continue
            for channel in range(channels):
                centred = _f32(samples[r, tile, channel]) - _f32(MID)
                residual = centred * FRACTION - base[r * tiles + tile, channel]
                seen[channel] = centred
                seen[channels + channel] = snap(residual * FINE, LEVEL)
                seen[2 * channels + channel] = snap(residual * COARSE, LEVEL)
            seen[3 * channels] = VALID


@compiled
def features_ring(sums: Sums, ring: Float32, place: Place, inside: Any) -> None:
    """Write the activated first half of scaled sums (rows * tiles, 2 dim) to the ring."""
    z, scale, bias = sums
    group, first = place
    column = ring[group % ring.shape[0]]
    rows, tiles = inside.shape
    dim = ring.shape[3]
    for r in range(rows):
        for tile in range(tiles):
            seen, i = column[ABOVE + first + r, tile], r * tiles + tile
            if not inside[r, tile]:
                seen[:] = ZERO
                continue
            for k in range(dim):
                seen[k] = swish(_f32(z[i, k]) * scale[k] + bias[k])


@compiled
def depthwise_gate_ring(
    ring: Float32, place: Place, depthwise: Depthwise, sums: Sums, out: Any
) -> None:
    """Do :func:`depthwise_gate` for one group; the values are the second half of ``sums``."""
    group, first = place
    taps, weight, bias = depthwise
    z, scale, shift = sums
    kept, tiles, dim = ring.shape[0], ring.shape[2], ring.shape[3]
    row = np.empty(dim, _f32)
    for i in range(out.shape[0]):
        r, tile = i // tiles, i % tiles
        for k in range(dim):
            row[k] = bias[k]
        for t in range(len(taps)):
            seen = ring[(group + taps[t, 1]) % kept, ABOVE + first + r + taps[t, 0], tile]
            w = weight[t]
            for k in range(dim):
                row[k] += seen[k] * w[k]
        for k in range(dim):
            value = _f32(z[i, dim + k]) * scale[dim + k] + shift[dim + k]
            out[i, k] = snap(row[k] * value * UNIT_STEP, LEVEL)
