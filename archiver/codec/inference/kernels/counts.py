"""The loops from the network's outputs to the frequencies of 4-bit digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.codec.entropy import RADIX
from archiver.codec.inference.kernels.arrays import Float32, Tables
from archiver.codec.inference.kernels.rounding import snap
from archiver.codec.model import frequencies, mgcf, mixture
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
REACH = _f32(frequencies.SIGMOID_STEPS * frequencies.SIGMOID_REACH)


@compiled
def fill_components(
    outputs: Float32, base: Float32, centred: Float32, copied: Float32, channel: int,
    tables: Tables, components: Float32,
) -> None:  # fmt: skip
    """Fill ``components`` (3, K + J): centres, inverse scales and weights of a channel of a pixel.

    ``outputs`` is (n_outputs,), ``base`` and ``centred`` (C,), of which only earlier channels are
    read, ``copied`` (J, C) the neighbours' samples.
    """
    inverse_table, weight_table, _ = tables
    centres, inverse, weights = components[0], components[1], components[2]
    copies, channels = len(copied), len(base)
    n = len(centres) - copies
    first = channel * (channel - 1) // 2
    end = n * (3 * channels + channels * (channels - 1) // 2)  # of those that are not copied
    largest = -LOGIT_LIMIT
    for k in range(n):
        weights[k] = snap(outputs[channel * n + k], LOGIT_LIMIT)
        largest = max(largest, weights[k])
    for j in range(copies):
        weights[n + j] = snap(outputs[end + channel * copies + j], LOGIT_LIMIT)
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
        copy = copied[j, channel]
        if channel > 0:
            copy += centred[channel - 1] - copied[j, channel - 1]
        centres[n + j] = copy * MEAN_UNIT + START
        scale = outputs[end + (channels + channel) * copies + j]
        scale = snap(scale - SCALE_MIDDLE, SCALE_REACH)
        inverse[n + j] = inverse_table[_u32(scale + SCALE_MIDDLE - MIN_SCALE)]
    for k in range(n + copies):
        weights[k] = weight_table[_u32(largest - weights[k])]


@compiled
def cumulate(
    first: np.float32,
    step: np.float32,
    components: Float32,
    sigmoid: Float32,
    at: Any,
    inner: Float32,
) -> None:
    """Fill ``inner`` (16,) with the cumulative counts at ``first + step``, ``+ 2 step``, ...

    ``at`` (16,) int32 is room for the places in the ``sigmoid`` table.
    """
    centres, inverse, weights = components[0], components[1], components[2]
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
def write_frequencies(start: np.float32, end: np.float32, inner: Float32, out: Float32) -> None:
    """Write the 16 digit frequencies between counts ``start`` and ``end``, edges ``inner``."""
    before = start
    for e in range(RADIX - 1):
        out[e] = inner[e] - before + ONE
        before = inner[e]
    out[RADIX - 1] = end - before + ONE


@compiled
def encode_tables(
    outputs: Float32, base: Float32, tile: Any, positions: Any, offsets: Any, tables: Tables,
    coded: tuple[Float32, Any],
) -> None:  # fmt: skip
    """Write the frequency rows and digits of all pixels to their places in the tile's stream.

    ``outputs`` (H * W, n_outputs), ``base`` (H * W, C), ``tile`` (H, W, C) uint8, ``positions``
    (H * W, C, 2), ``offsets`` (J, 2) of the neighbours that may be copied; ``coded`` are the rows
    (H * W * C * 2, 16) and the digits.
    """
    table, digits = coded
    height, width, channels = tile.shape
    samples = tile.reshape(height * width, channels)
    copies, sigmoid = len(offsets), tables[2]
    predicted = outputs.shape[1] - 2 * copies * channels
    n = predicted // (3 * channels + channels * (channels - 1) // 2) + copies
    certain = _f32(sigmoid[-1])
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    centred, copied = np.empty(channels, _f32), np.empty((copies, channels), _f32)
    components = np.empty((3, n), _f32)
    for i in range(len(samples)):
        for j in range(copies):
            row, column = i // width + offsets[j, 0], i % width + offsets[j, 1]
            for channel in range(channels):
                inside = row >= 0 and column >= 0
                copied[j, channel] = _f32(tile[row, column, channel]) - MID if inside else ZERO
        for channel in range(channels):
            centred[channel] = _f32(samples[i, channel]) - MID
            fill_components(outputs[i], base[i], centred, copied, channel, tables, components)
            total = ZERO
            for k in range(n):
                total += components[2, k]
            high = samples[i, channel] // RADIX
            place = positions[i, channel, 0]
            cumulate(ZERO, _f32(RADIX), components, sigmoid, at, inner)
            start = inner[high - 1] if high > 0 else ZERO
            end = inner[high] if high < RADIX - 1 else total * certain
            write_frequencies(ZERO, total * certain, inner, table[place])
            digits[place] = high
            place = positions[i, channel, 1]
            cumulate(_f32(high) * _f32(RADIX), ONE, components, sigmoid, at, inner)
            write_frequencies(start, end, inner, table[place])
            digits[place] = samples[i, channel] % RADIX


@compiled
def high_tables(
    outputs: Float32, base: Float32, seen: tuple[Float32, Float32], channel: int, tables: Tables,
    kept: tuple[Float32, Float32], table: Float32,
) -> None:  # fmt: skip
    """Write the frequencies (M, 16) of the high digit of one channel of M pixels.

    ``seen`` are the samples so far (M, C) and those that may be copied (M, J, C), all centred;
    ``kept`` for the low digit are the mixtures (M, 3, K + J) and the cumulative counts (M, 17).
    """
    centred, copied = seen
    mixtures, cumulative = kept
    sigmoid = tables[2]
    certain = _f32(sigmoid[-1])
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    for i in range(len(outputs)):
        components = mixtures[i]
        fill_components(outputs[i], base[i], centred[i], copied[i], channel, tables, components)
        cumulate(ZERO, _f32(RADIX), components, sigmoid, at, inner)
        total = ZERO
        for k in range(len(components[2])):
            total += components[2, k]
        cumulative[i, 0] = ZERO
        for e in range(RADIX - 1):
            cumulative[i, e + 1] = inner[e]
        cumulative[i, RADIX] = total * certain
        write_frequencies(ZERO, total * certain, inner, table[i])


@compiled
def low_tables(high: Any, sigmoid: Float32, kept: tuple[Float32, Float32], table: Float32) -> None:
    """Write the frequencies (M, 16) of the low digit, given the decoded ``high`` (M,)."""
    mixtures, cumulative = kept
    inner, at = np.empty(RADIX, _f32), np.empty(RADIX, np.int32)
    for i in range(len(high)):
        digit = high[i]
        cumulate(_f32(digit) * _f32(RADIX), ONE, mixtures[i], sigmoid, at, inner)
        write_frequencies(cumulative[i, digit], cumulative[i, digit + 1], inner, table[i])
