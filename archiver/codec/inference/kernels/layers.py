"""The loops between two matrix products of one tile, in one masked pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.codec.inference.kernels.arrays import Depthwise, Float32, Sums
from archiver.codec.inference.kernels.rounding import snap
from archiver.codec.model import causal, grid, mgcf
from archiver.compiled import compiled

_f32 = np.float32
ZERO, HALF, ONE = _f32(0), _f32(0.5), _f32(1)
LEVEL, STREAM = _f32(grid.LEVEL), _f32(grid.STREAM_LIMIT)
UNIT_STEP, GATE_STEP = _f32(1 / mgcf.UNIT), _f32(1 / (4 * mgcf.UNIT))
FRACTION = _f32(mgcf.BASE_FRACTION)
MID, VALID = mgcf.MID, mgcf.VALID
BASE_LIMIT = _f32(mgcf.MID * mgcf.BASE_FRACTION)
FINE, COARSE = (_f32(1 / divisor) for divisor in mgcf.RESIDUAL_SCALES)
ABOVE, SIDE = causal.ABOVE, causal.SIDE


@compiled
def swish(x: np.float32) -> Any:
    """Hard swish of one sum, snapped for the next product."""
    return snap(min(max(x * GATE_STEP + HALF, ZERO), ONE) * x, LEVEL)


@compiled
def snap_rows(h: Float32, out: Any) -> None:
    """Snap the residual stream (M, dim) for the next product."""
    for i in range(h.shape[0]):
        for k in range(h.shape[1]):
            out[i, k] = snap(h[i, k], LEVEL)


@compiled
def scaled(z: Any, scale: Float32, bias: Float32, out: Float32) -> None:
    """Return sums of products to levels: ``z`` (M, n) times ``scale`` plus ``bias`` (n,)."""
    for i in range(z.shape[0]):
        for k in range(z.shape[1]):
            out[i, k] = _f32(z[i, k]) * scale[k] + bias[k]


@compiled
def activate(z: Any, scale: Float32, bias: Float32, out: Any) -> None:
    """Hard swish of scaled sums (M, n), snapped for the next product."""
    for i in range(z.shape[0]):
        for k in range(z.shape[1]):
            out[i, k] = swish(_f32(z[i, k]) * scale[k] + bias[k])


@compiled
def add_limited(h: Float32, z: Any, scale: Float32, bias: Float32) -> None:
    """Add scaled sums to the residual stream ``h``, both (M, dim), within its range."""
    for i in range(h.shape[0]):
        for k in range(h.shape[1]):
            y = _f32(z[i, k]) * scale[k] + bias[k]
            h[i, k] = min(max(h[i, k] + y, -STREAM), STREAM)


@compiled
def add_limited_and_snap(h: Float32, z: Any, scale: Float32, bias: Float32, out: Any) -> None:
    """Do what :func:`add_limited` does, and snap the result into ``out``."""
    for i in range(h.shape[0]):
        for k in range(h.shape[1]):
            y = _f32(z[i, k]) * scale[k] + bias[k]
            total = min(max(h[i, k] + y, -STREAM), STREAM)
            h[i, k] = total
            out[i, k] = snap(total, LEVEL)


@compiled
def base_and_planes(samples: Any, weight: Float32, taps: Any, base: Float32, planes: Any) -> None:
    """Predict one tile linearly and write the embedding's input.

    ``samples`` is (H, W, C) uint8, ``weight`` (taps * C, C), ``taps`` (taps, 2) kernel indices,
    ``base`` (H, W, C); ``planes`` (H + 3, W + 6, n_planes) has zeros around the tile.
    """
    height, width, channels = samples.shape
    for r in range(height):
        for c in range(width):
            for channel in range(channels):
                planes[ABOVE + r, SIDE + c, channel] = np.int16(samples[r, c, channel]) - MID
    for r in range(height):
        for c in range(width):
            for channel in range(channels):
                base[r, c, channel] = ZERO
            for t in range(len(taps)):
                for seen in range(channels):
                    x = _f32(planes[r + taps[t, 0], c + taps[t, 1], seen])
                    for channel in range(channels):
                        base[r, c, channel] += x * weight[t * channels + seen, channel]
            for channel in range(channels):
                predicted = snap(base[r, c, channel] * FRACTION, BASE_LIMIT)
                base[r, c, channel] = predicted
                residual = _f32(planes[ABOVE + r, SIDE + c, channel]) * FRACTION - predicted
                planes[ABOVE + r, SIDE + c, channels + channel] = snap(residual * FINE, LEVEL)
                planes[ABOVE + r, SIDE + c, 2 * channels + channel] = snap(residual * COARSE, LEVEL)
            planes[ABOVE + r, SIDE + c, 3 * channels] = VALID


@compiled
def gather(planes: Any, top: int, n_rows: int, taps: Any, out: Any) -> None:
    """Copy the neighbourhoods of rows ``top ...`` of a tile: out (n_rows * W, taps * n_planes)."""
    width, n_planes = planes.shape[1] - 2 * SIDE, planes.shape[2]
    for r in range(n_rows):
        for c in range(width):
            row = out[r * width + c]
            for t in range(len(taps)):
                for p in range(n_planes):
                    row[t * n_planes + p] = planes[top + r + taps[t, 0], c + taps[t, 1], p]


@compiled
def features(sums: Sums, x: Float32, top: int, n_rows: int, value: Float32) -> None:
    """Split scaled sums (n_rows * W, 2 dim): activated to ``x`` (H + 3, W + 6, dim), ``value``."""
    z, scale, bias = sums
    width, dim = x.shape[1] - 2 * SIDE, x.shape[2]
    for r in range(n_rows):
        for c in range(width):
            i = r * width + c
            for k in range(dim):
                x[ABOVE + top + r, SIDE + c, k] = swish(_f32(z[i, k]) * scale[k] + bias[k])
            for k in range(dim):
                value[top * width + i, k] = _f32(z[i, dim + k]) * scale[dim + k] + bias[dim + k]


@compiled
def depthwise_gate(
    x: Float32, top: int, n_rows: int, depthwise: Depthwise, value: Float32, out: Any
) -> None:
    """Convolve rows ``top ...`` of ``x`` (H + 3, W + 6, dim) and gate the values with the result.

    ``value`` is (H * W, dim); ``out`` (n_rows * W, dim) is snapped.
    """
    taps, weight, bias = depthwise
    width, dim = x.shape[1] - 2 * SIDE, x.shape[2]
    row = np.empty(dim, _f32)
    for r in range(n_rows):
        for c in range(width):
            for k in range(dim):
                row[k] = bias[k]
            for t in range(len(taps)):
                seen, w = x[top + r + taps[t, 0], c + taps[t, 1]], weight[t]
                for k in range(dim):
                    row[k] += seen[k] * w[k]
            i = r * width + c
            for k in range(dim):
                out[i, k] = snap(row[k] * value[top * width + i, k] * UNIT_STEP, LEVEL)
