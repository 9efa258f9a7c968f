"""The loops for samples of more than 8 bits, in whole numbers and float64, which are exact.

A tile's numbers k (`model.high_depth`) come as ``centred`` = k - middle, int32; a
``window`` is (top, middle, shift).  What lies between is that of 8-bit tiles: input planes are
levels in int8, outputs are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.entropy import RADIX
from archiver.codec.inference.kernels.arrays import Float32, Place, Tables
from archiver.codec.model import causal, frequencies, mgcf, mixture
from archiver.compiled import compiled

Float64 = NDArray[np.float64]
_f64, _i64, _f32 = np.float64, np.int64, np.float32
ABOVE, SIDE = causal.ABOVE, causal.SIDE
LEVEL, BASE_LIMIT = _f64(127), _f64(mgcf.HIGH_DEPTH_LIMIT)
FRACTION, VALID = _f64(mgcf.BASE_FRACTION), mgcf.VALID
BASE_STEP = _f64(mgcf.BASE_FRACTION * 2.0**-mgcf.BASE_BITS)
FINE, COARSE = (_f64(1 / divisor) for divisor in mgcf.RESIDUAL_SCALES)
MEAN_UNIT, MEAN_STEP = (
    _f64(mixture.MEAN_UNIT),
    _f64(mixture.MEAN_UNIT / mgcf.BASE_FRACTION),
)
MEAN_GAIN, MEAN_LIMIT = _f64(mixture.MEAN_GAIN), _f64(mixture.MEAN_LIMIT)
LOGIT_LIMIT = _f64(mixture.LOGIT_LIMIT)
SCALE_MIDDLE = _f64((mixture.MIN_SCALE + mixture.MAX_SCALE) / 2)
SCALE_REACH = _f64((mixture.MAX_SCALE - mixture.MIN_SCALE) / 2)
MIN_SCALE = _f64(mixture.MIN_SCALE)
SUBSTEPS = frequencies.HIGH_DEPTH_SUBSTEPS
REACH = (
    frequencies.SIGMOID_STEPS * frequencies.SIGMOID_REACH
)  # entries on either side of the table's middle


@compiled
def _snap(x: np.float64, limit: np.float64) -> Any:
    return min(max(np.rint(x), -limit), limit)


@compiled
def _grain(shift: int) -> Any:
    """Return a step in units."""
    return _f64(1) / _f64(1 << shift)


@compiled
def _put_planes(x: int, base: np.float64, shift: int, planes: Any) -> None:
    """Write the embedding's input (4,) for a pixel ``x`` steps from the middle."""
    unit = _f64(x) * _grain(shift)
    residual = unit * FRACTION - base
    planes[0] = _snap(unit, LEVEL)
    planes[1] = _snap(residual * FINE, LEVEL)
    planes[2] = _snap(residual * COARSE, LEVEL)
    planes[3] = VALID


@compiled
def base_and_planes(
    centred: Any, shift: int, weight: Any, taps: Any, base: Float32, planes: Any
) -> None:
    """Predict one tile linearly and write the embedding's input.

    ``centred`` is (H + 3, W + 6) with zeros around the tile, ``weight`` (taps,) whole numbers,
    ``taps`` (taps, 2) kernel indices, ``base`` (H, W), ``planes`` (H + 3, W + 6, 4).
    """
    height, width = base.shape
    for r in range(height):
        for c in range(width):
            total = _i64(0)
            for t in range(len(taps)):
                total += _i64(weight[t]) * _i64(centred[r + taps[t, 0], c + taps[t, 1]])
            predicted = _snap(_f64(total) * BASE_STEP * _grain(shift), BASE_LIMIT)
            base[r, c] = predicted
            _put_planes(centred[ABOVE + r, SIDE + c], predicted, shift, planes[ABOVE + r, SIDE + c])


@compiled
def base_of_ring(
    ring: Any, place: Place, taps: Any, weight: Any, shifts: Any, base: Float32
) -> None:
    """Do the first half of :func:`base_and_planes` for one group: ``base`` (rows, tiles)."""
    group, first = place
    kept = ring.shape[0]
    for r in range(base.shape[0]):
        for tile in range(base.shape[1]):
            total = _i64(0)
            for t in range(len(taps)):
                seen = ring[(group + taps[t, 1]) % kept, ABOVE + first + r + taps[t, 0], tile]
                total += _i64(weight[t]) * _i64(seen)
            base[r, tile] = _snap(_f64(total) * BASE_STEP * _grain(shifts[tile]), BASE_LIMIT)


@compiled
def write_ring(
    ring: Any, planes: Any, place: Place, centred: Any, base: Float32, windows: Any, inside: Any
) -> None:
    """Write a group's decoded pixels (rows, tiles) and their planes; nothing outside a tile."""
    group, first = place
    pixels, seen = ring[group % ring.shape[0]], planes[group % planes.shape[0]]
    for r in range(inside.shape[0]):
        for tile in range(inside.shape[1]):
            row = ABOVE + first + r
            if not inside[r, tile]:
                pixels[row, tile] = 0
                seen[row, tile, :] = 0
                continue
            pixels[row, tile] = centred[r, tile]
            _put_planes(centred[r, tile], _f64(base[r, tile]), windows[tile, 2], seen[row, tile])


@compiled
def fill_components(
    outputs: Float32, base: np.float64, copied: Any, shift: int, tables: Tables,
    components: Float64,
) -> None:  # fmt: skip
    """Fill ``components`` (3, K + J): centres, inverse scales and weights of one pixel.

    ``copied`` (J,) are the neighbours that may be copied, in steps from the middle.
    """
    inverse_table, weight_table, _ = tables
    centres, inverse, weights = components[0], components[1], components[2]
    copies = len(copied)
    n = len(centres) - copies
    largest = -LOGIT_LIMIT
    for k in range(n + copies):
        at = k if k < n else 2 * n + k  # logits of K, means, scales, logits of J, scales
        weights[k] = _snap(_f64(outputs[at]), LOGIT_LIMIT)
        largest = max(largest, weights[k])
    for k in range(n + copies):
        if k < n:
            centres[k] = (_snap(_f64(outputs[n + k]) * MEAN_GAIN, MEAN_LIMIT) + base) * MEAN_STEP
            scale = _f64(outputs[2 * n + k])
        else:
            centres[k] = _f64(copied[k - n]) * _grain(shift) * MEAN_UNIT
            scale = _f64(outputs[3 * n + copies + k - n])
        scale = _snap(scale - SCALE_MIDDLE, SCALE_REACH) + SCALE_MIDDLE
        inverse[k] = _f64(inverse_table[_i64(scale - MIN_SCALE)])
        weights[k] = _f64(weight_table[_i64(largest - weights[k])])


@compiled
def count(x: int, window: Any, components: Float64, sigmoid: Float32) -> Any:
    """Return F(x), a whole number: the count of all numbers below ``x``."""
    centres, inverse, weights = components[0], components[1], components[2]
    if x <= 0:
        return _i64(0)
    total = _i64(0)
    certain = _i64(sigmoid[2 * REACH])
    if x > window[0]:
        for k in range(len(weights)):
            total += _i64(weights[k]) * certain
        return total
    edge = (_f64(2 * (x - window[1]) - 1) * MEAN_UNIT / 2) * _grain(window[2])
    for k in range(len(weights)):
        fine = (edge - centres[k]) * inverse[k] * _f64(SUBSTEPS)
        place = _i64(_snap(fine, _f64(REACH * SUBSTEPS))) + REACH * SUBSTEPS
        i, f = place // SUBSTEPS, place % SUBSTEPS
        here = _i64(sigmoid[i])
        value = SUBSTEPS * here
        if f > 0:
            value += f * (_i64(sigmoid[i + 1]) - here)
        total += _i64(weights[k]) * value
    return total // SUBSTEPS


@compiled
def digit_table(
    start: Any, step: Any, window: Any, components: Float64, sigmoid: Float32, out: Float32
) -> None:
    """Write the frequencies (16,) of a digit worth ``step``, given the digits before, ``start``."""
    before = count(start, window, components, sigmoid)
    for e in range(RADIX):
        end = start + (e + 1) * step
        after = count(end, window, components, sigmoid)
        out[e] = _f32(after - before + 1)
        before = after


@compiled
def encode_tables(
    outputs: Float32, base: Float32, centred: Any, window: Any, positions: Any, offsets: Any,
    tables: Tables, coded: tuple[Float32, Any],
) -> None:  # fmt: skip
    """Write the frequency rows and digits of all pixels to their places in the tile's stream.

    ``outputs`` (H * W, n_outputs), ``base`` (H, W), ``centred`` (H + 3, W + 6), ``window`` (3,),
    ``positions`` (H * W, n_digits), ``offsets`` (J, 2) of neighbours; ``coded`` are the rows
    (H * W * n_digits, 16) and the digits.
    """
    table, digits = coded
    height, width = base.shape
    copies, n_digits = len(offsets), positions.shape[1]
    n = (outputs.shape[1] - 2 * copies) // 3 + copies
    copied = np.empty(copies, np.int32)
    components = np.empty((3, n), _f64)
    for i in range(height * width):
        r, c = ABOVE + i // width, SIDE + i % width
        for j in range(copies):
            copied[j] = centred[r + offsets[j, 0], c + offsets[j, 1]]
        predicted = _f64(base[i // width, i % width])
        fill_components(outputs[i], predicted, copied, window[2], tables, components)
        value = _i64(centred[r, c]) + window[1]
        start, step = _i64(0), _i64(1) << (4 * (n_digits - 1))
        for d in range(n_digits):
            place = positions[i, d]
            digit_table(start, step, window, components, tables[2], table[place])
            digits[place] = (value - start) // step
            start += digits[place] * step
            step //= RADIX


@compiled
def mixtures_of_group(
    outputs: Float32, base: Float32, ring: Any, place: Place, offsets: Any, windows: Any,
    tables: Tables, mixtures: Any,
) -> None:  # fmt: skip
    """Fill ``mixtures`` (rows * tiles, 3, K + J) for one group; ``offsets`` (J, 2) are skewed."""
    group, first = place
    rows, tiles = base.shape
    kept, copies = ring.shape[0], len(offsets)
    copied = np.empty(copies, np.int32)
    for r in range(rows):
        for tile in range(tiles):
            i = r * tiles + tile
            for j in range(copies):
                row = ABOVE + first + r + offsets[j, 0]
                copied[j] = ring[(group + offsets[j, 1]) % kept, row, tile]
            predicted, shift = _f64(base[r, tile]), windows[tile, 2]
            fill_components(outputs[i], predicted, copied, shift, tables, mixtures[i])


@compiled
def group_tables(
    starts: Any, step: int, windows: Any, mixtures: Any, sigmoid: Float32, table: Float32
) -> None:
    """Write the frequencies (rows * tiles, 16) of one digit of a group."""
    tiles = len(windows)
    for i in range(len(starts)):
        digit_table(starts[i], step, windows[i % tiles], mixtures[i], sigmoid, table[i])
