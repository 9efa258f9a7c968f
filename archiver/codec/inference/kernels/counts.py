"""The loops from the network's outputs to the frequencies of 4-bit digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.codec.entropy import RADIX
from archiver.codec.inference.kernels.rounding import Float32, snap
from archiver.codec.model import frequencies as tables
from archiver.codec.model import mgcf, mixture
from archiver.compiled import compiled

_f32, _u32 = np.float32, np.uint32
ZERO, ONE = _f32(0), _f32(1)
FRACTION, MID = _f32(mgcf.BASE_FRACTION), _f32(mgcf.MID)
LOGIT_LIMIT, MEAN_GAIN = _f32(mixture.LOGIT_LIMIT), _f32(mixture.MEAN_GAIN)
MEAN_LIMIT, CENTRE_LIMIT = _f32(mixture.MEAN_LIMIT), _f32(mixture.CENTRE_LIMIT)
COUPLING_GAIN, COUPLING_LIMIT = _f32(mixture.COUPLING_GAIN), _f32(mixture.COUPLING_LIMIT)
COUPLING_UNIT, MEAN_UNIT = _f32(mixture.COUPLING_UNIT), _f32(mixture.MEAN_UNIT)
MEAN_STEP = _f32(mixture.MEAN_UNIT / (mixture.COUPLING_UNIT * mgcf.BASE_FRACTION))
SCALE_MIDDLE = _f32((mixture.MIN_SCALE + mixture.MAX_SCALE) / 2)
SCALE_REACH = _f32((mixture.MAX_SCALE - mixture.MIN_SCALE) / 2)
MIN_SCALE = _f32(mixture.MIN_SCALE)
START = _f32((mgcf.MID + 0.5) * mixture.MEAN_UNIT)
REACH = _f32(tables.SIGMOID_STEPS * tables.SIGMOID_REACH)


@compiled
def mixture_of(
    outputs: Float32,
    base: Float32,
    centred: Float32,
    neighbours: Float32,
    channel: int,
    inverse_table: Float32,
    weight_table: Float32,
    centres: Float32,
    inverse: Float32,
    weights: Float32,
) -> None:
    """Fill the last three, (K + J,) each, with the mixture of one channel of one pixel.

    ``outputs`` is (n_outputs,), ``base`` and ``centred`` (C,), ``neighbours`` (J, C); of
    ``centred`` only earlier channels are read.
    """
    copies, channels = len(neighbours), len(base)
    n = len(centres) - copies
    first = channel * (channel - 1) // 2
    own = n * (3 * channels + channels * (channels - 1) // 2)
    largest = -LOGIT_LIMIT
    for k in range(n):
        weights[k] = snap(outputs[channel * n + k], LOGIT_LIMIT)
        largest = max(largest, weights[k])
    for j in range(copies):
        weights[n + j] = snap(outputs[own + channel * copies + j], LOGIT_LIMIT)
        largest = max(largest, weights[n + j])
    for k in range(n):
        mean = snap(outputs[(channels + channel) * n + k] * MEAN_GAIN, MEAN_LIMIT)
        mean = (mean + base[channel]) * COUPLING_UNIT
        for earlier in range(channel):
            coupling = outputs[(3 * channels + first + earlier) * n + k] * COUPLING_GAIN
            residual = centred[earlier] * FRACTION - base[earlier]
            mean += snap(coupling, COUPLING_LIMIT) * residual
        centres[k] = snap(mean * MEAN_STEP, CENTRE_LIMIT) + START
        scale = snap(outputs[(2 * channels + channel) * n + k] - SCALE_MIDDLE, SCALE_REACH)
        inverse[k] = inverse_table[_u32(scale + SCALE_MIDDLE - MIN_SCALE)]
    for j in range(copies):
        copy = neighbours[j, channel]
        if channel > 0:
            copy += centred[channel - 1] - neighbours[j, channel - 1]
        centres[n + j] = copy * MEAN_UNIT + START
        scale = outputs[own + (channels + channel) * copies + j]
        scale = snap(scale - SCALE_MIDDLE, SCALE_REACH)
        inverse[n + j] = inverse_table[_u32(scale + SCALE_MIDDLE - MIN_SCALE)]
    for k in range(n + copies):
        weights[k] = weight_table[_u32(largest - weights[k])]


@compiled
def cumulate(
    first: np.float32,
    step: np.float32,
    centres: Float32,
    inverse: Float32,
    weights: Float32,
    sigmoid: Float32,
    at: Any,
    inner: Float32,
) -> None:
    """Fill ``inner`` (16,) with the cumulative counts at ``first + step``, ``+ 2 step``, ...

    ``at`` (16,) int32 is room for the places in the ``sigmoid`` table.
    """
    for e in range(RADIX):
        inner[e] = ZERO
    for k in range(len(centres)):
        centre, scale, weight = centres[k], inverse[k], weights[k]
        for e in range(RADIX):
            edge = (first + step * _f32(e + 1)) * MEAN_UNIT
            at[e] = np.int32(snap((edge - centre) * scale, REACH) + REACH)
        for e in range(RADIX):
            inner[e] += sigmoid[_u32(at[e])] * weight


@compiled
def frequencies(start: np.float32, end: np.float32, inner: Float32, out: Float32) -> None:
    """Write the 16 digit frequencies between counts ``start`` and ``end``, edges ``inner``."""
    before = start
    for e in range(RADIX - 1):
        out[e] = inner[e] - before + ONE
        before = inner[e]
    out[RADIX - 1] = end - before + ONE


@compiled
def encode_tables(
    outputs: Float32,
    base: Float32,
    tile: Any,
    positions: Any,
    copied: Any,
    inverse_table: Float32,
    weight_table: Float32,
    sigmoid: Float32,
    table: Float32,
    digits: Any,
) -> None:
    """Write the frequency rows and digits of all pixels to their places in the tile's stream.

    ``outputs`` (H * W, n_outputs), ``base`` (H * W, C), ``tile`` (H, W, C) uint8, ``positions``
    (H * W, C, 2), ``copied`` (J, 2) the offsets of the neighbours that may be copied.
    """
    height, width, channels = tile.shape
    samples = tile.reshape(height * width, channels)
    own = outputs.shape[1] - 2 * len(copied) * channels
    n = own // (3 * channels + channels * (channels - 1) // 2) + len(copied)
    one = _f32(sigmoid[-1])
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    centred, neighbours = np.empty(channels, _f32), np.empty((len(copied), channels), _f32)
    centres, inverse, weights = np.empty(n, _f32), np.empty(n, _f32), np.empty(n, _f32)
    for i in range(len(samples)):
        for j in range(len(copied)):
            row, column = i // width + copied[j, 0], i % width + copied[j, 1]
            for channel in range(channels):
                inside = row >= 0 and column >= 0
                neighbours[j, channel] = _f32(tile[row, column, channel]) - MID if inside else ZERO
        for channel in range(channels):
            centred[channel] = _f32(samples[i, channel]) - MID
            mixture_of(
                outputs[i], base[i], centred, neighbours, channel, inverse_table, weight_table,
                centres, inverse, weights,
            )  # fmt: skip
            total = ZERO
            for k in range(n):
                total += weights[k]
            high = samples[i, channel] // RADIX
            place = positions[i, channel, 0]
            cumulate(ZERO, _f32(RADIX), centres, inverse, weights, sigmoid, at, inner)
            start = inner[high - 1] if high > 0 else ZERO
            end = inner[high] if high < RADIX - 1 else total * one
            frequencies(ZERO, total * one, inner, table[place])
            digits[place] = high
            place = positions[i, channel, 1]
            first = _f32(high) * _f32(RADIX)
            cumulate(first, ONE, centres, inverse, weights, sigmoid, at, inner)
            frequencies(start, end, inner, table[place])
            digits[place] = samples[i, channel] % RADIX


@compiled
def high_tables(
    outputs: Float32,
    base: Float32,
    centred: Float32,
    neighbours: Float32,
    channel: int,
    inverse_table: Float32,
    weight_table: Float32,
    sigmoid: Float32,
    mixtures: Float32,
    cumulative: Float32,
    table: Float32,
) -> None:
    """Write the frequencies (M, 16) of the high digit of one channel of M pixels.

    ``centred`` is (M, C), ``neighbours`` (M, J, C).
    Keeps the ``mixtures`` (M, 3, K + J) and the ``cumulative`` counts (M, 17) for the low digit.
    """
    one = _f32(sigmoid[-1])
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    for i in range(len(outputs)):
        centres, inverse, weights = mixtures[i, 0], mixtures[i, 1], mixtures[i, 2]
        mixture_of(
            outputs[i], base[i], centred[i], neighbours[i], channel, inverse_table, weight_table,
            centres, inverse, weights,
        )  # fmt: skip
        cumulate(ZERO, _f32(RADIX), centres, inverse, weights, sigmoid, at, inner)
        total = ZERO
        for k in range(len(weights)):
            total += weights[k]
        cumulative[i, 0] = ZERO
        for e in range(RADIX - 1):
            cumulative[i, e + 1] = inner[e]
        cumulative[i, RADIX] = total * one
        frequencies(ZERO, total * one, inner, table[i])


@compiled
def low_tables(
    high: Any, sigmoid: Float32, mixtures: Float32, cumulative: Float32, table: Float32
) -> None:
    """Write the frequencies (M, 16) of the low digit, given the decoded ``high`` (M,)."""
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    for i in range(len(high)):
        digit = high[i]
        first = _f32(digit) * _f32(RADIX)
        cumulate(first, ONE, mixtures[i, 0], mixtures[i, 1], mixtures[i, 2], sigmoid, at, inner)
        frequencies(cumulative[i, digit], cumulative[i, digit + 1], inner, table[i])
