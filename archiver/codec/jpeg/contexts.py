"""What a decision on a coefficient depends on: neighbours, edges, other components, so far.

A block is coded from its last nonzero coefficient (zigzag order) to its DC.  Every number here is
whole; signed ones divide rounding down.  FORMAT.md, section "Coded coefficients".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg.context_mixing import Desk, Ints, slot
from archiver.codec.jpeg.t81 import SIDE, ZIGZAG
from archiver.compiled import compiled

ZERO, SIGN, CLASS, MANTISSA = 0, 1, 2, 3  # stages of a number
_STEP = 8  # predictions count in eighths of a quantisation step
_MOST_DC = 1 << 14


# vertical and horizontal frequency of a coefficient, by its place in zigzag order
ROW_OF, COLUMN_OF = np.divmod(ZIGZAG, SIDE)
PLACE_OF = np.argsort(ZIGZAG)


def _wave(frequency: int, sample: int) -> float:
    scale = math.sqrt(0.125) if frequency == 0 else 0.5
    return scale * math.cos((2 * sample + 1) * frequency * math.pi / 16)


# what a coefficient adds, in 1/1024, to the first sample of its row or column, and, going on like
# the first two, to the edge before it
EDGE = np.array(
    [
        [round(1024 * _wave(f, 0)) for f in range(SIDE)],
        [round(1024 * (1.5 * _wave(f, 0) - 0.5 * _wave(f, 1))) for f in range(SIDE)],
    ]
)


class Scene(NamedTuple):
    """One component while it is coded.  Planes have two rows above, two columns left, one right."""

    plane: NDArray[np.int16]  # (rows + 2, columns + 3, 64)
    first: NDArray[np.int16]  # (rows, columns, 64) of the first component, (1, 1, 64) without
    second: NDArray[np.int16]  # of the one before, where that is the second
    steps: Ints  # (64,)
    kind: Ints  # component, at most 3; others that it may look at
    ends: Ints  # (rows + 1, columns + 2): last nonzero of each block, one row above, one each side
    below: Ints  # (2, columns, 8): what lies at the lower edge of the row above, by frequency
    right: Ints  # (2, 8): at the right edge of the block before
    above: Ints  # (2, 8): at the upper edge of this block, as far as it is known
    left: Ints  # (2, 8)
    seen: Ints  # (10, 10): magnitudes of this block, by frequency
    facts: Ints  # what the contexts are made of, see below
    signed: Ints
    aligned: Ints  # the signed ones, as the decision sees them


# facts of a block: nonzeros so far and the sum of magnitudes, how far the other components are off
# and their magnitudes, where nonzeros end in it and around it, sums of magnitudes beside it
(COUNT, SUM, OFF_FIRST, OF_FIRST, OFF_SECOND, OF_SECOND, END, END_LEFT, END_ABOVE) = range(9)
(END_RIGHT, END_MEAN, END_FIRST, END_SECOND, SUM_LEFT, SUM_ABOVE) = range(9, 15)
# facts of a coefficient
(K, GUESS, NEAR, INSIDE, AROUND, BOTH, SPREAD, SLOPE, RAW_FIRST, RAW_SECOND) = range(15, 25)
N_FACTS = 25
# signed facts of a coefficient, on their scales
(UP, ACROSS, UP_ON, ACROSS_ON, MEAN, MEAN_ON, MEAN4, MEAN_ON4) = range(8)
(LEFT, ABOVE, FIRST, SECOND, FIRST4, SECOND4) = range(8, 14)
N_SIGNED = 14


@compiled
def log2(x: int) -> Any:
    """Return a number's place on a scale of two steps an octave: 0 1 2 3 4 4 5 5 6 6 6 6 7..."""
    bits = 0
    while x >> bits > 3:
        bits += 1
    return 2 * bits + (x >> bits)


@compiled
def log4(x: int) -> Any:
    """Return a number's place on a scale of four steps an octave."""
    bits = 0
    while x >> bits > 7:
        bits += 1
    return 4 * bits + (x >> bits)


@compiled
def signed2(x: int) -> Any:
    """Return :func:`log2` of a magnitude, at most 15, with its sign."""
    return -min(log2(-x), 15) if x < 0 else min(log2(x), 15)


@compiled
def signed4(x: int) -> Any:
    """Return :func:`log4` of a magnitude, with its sign."""
    return -log4(-x) if x < 0 else log4(x)


@compiled
def last_nonzero(block: Any) -> Any:
    """Return the place of the last AC coefficient that is not 0, 0 if all are."""
    for k in range(63, 0, -1):
        if block[k] != 0:
            return k
    return 0


@compiled
def look(scene: Scene, row: int, column: int, k: int) -> None:
    """Fill the facts of coefficient ``k`` of a block."""
    facts, signed, plane, others = scene.facts, scene.signed, scene.plane, scene.kind[1]
    left, above = plane[row + 2, column + 1], plane[row + 1, column + 2]
    near = abs(int(left[k])) + abs(int(above[k]))
    corners = abs(int(plane[row + 1, column + 1, k])) + abs(int(plane[row + 1, column + 3, k]))
    far = abs(int(plane[row + 2, column, k])) + abs(int(plane[row, column + 2, k]))
    near = (13 * near + 3 * corners + 2 * far) >> 2
    inside, around = _inside(scene.seen, k), _around(left, above, k)
    facts[K] = k
    facts[NEAR], facts[INSIDE] = min(log2(near), 17), min(log2(inside), 15)
    facts[AROUND], facts[BOTH] = min(log2(around), 15), log4(2 * near + 2 * inside + around)
    first = int(scene.first[row, column, k]) if others > 0 else 0
    second = int(scene.second[row, column, k]) if others > 1 else 0
    facts[RAW_FIRST], facts[RAW_SECOND] = first, second
    signed[LEFT], signed[ABOVE] = signed2(int(left[k])), signed2(int(above[k]))
    signed[FIRST], signed[SECOND] = signed2(first), signed2(second)
    signed[FIRST4], signed[SECOND4] = signed4(first), signed4(second)
    _guess(scene, row, column, k)


@compiled
def _inside(seen: Ints, k: int) -> Any:
    """Weigh the magnitudes of higher frequencies of the same block."""
    v, u = ROW_OF[k], COLUMN_OF[k]
    total = 2 * (seen[v, u + 1] + seen[v + 1, u]) + seen[v + 1, u + 1]
    total += seen[v, u + 2] + seen[v + 2, u]
    if v > 0:
        total += seen[v - 1, u + 1]
    if u > 0:
        total += seen[v + 1, u - 1]
    return total


@compiled
def _around(left: Any, above: Any, k: int) -> Any:
    """Add up the magnitudes of like frequencies of the two blocks beside it."""
    v, u, total = ROW_OF[k], COLUMN_OF[k], 0
    for y in range(max(v - 1, 0), min(v + 2, SIDE)):
        for x in range(max(u - 1, 0), min(u + 2, SIDE)):
            if y + x > 0:
                at = PLACE_OF[y * SIDE + x]
                total += abs(int(left[at])) + abs(int(above[at]))
    return total


@compiled
def _guess(scene: Scene, row: int, column: int, k: int) -> None:
    """Predict a coefficient so that samples go on over the upper, and the left, edge."""
    signed, step = scene.signed, scene.steps[k]
    v, u = ROW_OF[k], COLUMN_OF[k]
    up, across, up_on, across_on = 0, 0, 0, 0
    if row:
        up = ((scene.below[0, column, u] - scene.above[0, u]) * _STEP) // (EDGE[0, v] * step)
        up_on = ((scene.below[1, column, u] - scene.above[1, u]) * _STEP) // (EDGE[1, v] * step)
    if column:
        across = ((scene.right[0, v] - scene.left[0, v]) * _STEP) // (EDGE[0, u] * step)
        across_on = ((scene.right[1, v] - scene.left[1, v]) * _STEP) // (EDGE[1, u] * step)
    if k == 0:
        _guess_dc(scene, row, column, up, across, up_on + across_on)
        return
    half = min(row, 1) & min(column, 1)  # both edges: their mean
    mean, on = (up + across) >> half, (up_on + across_on) >> half
    signed[UP], signed[ACROSS] = signed2(up >> 1), signed2(across >> 1)
    signed[UP_ON], signed[ACROSS_ON] = signed2(up_on >> 1), signed2(across_on >> 1)
    signed[MEAN], signed[MEAN_ON] = signed2(mean), signed2(on)
    signed[MEAN4], signed[MEAN_ON4] = signed4(mean), signed4(on)
    scene.facts[GUESS] = 0


@compiled
def _guess_dc(scene: Scene, row: int, column: int, up: int, across: int, on: int) -> None:
    """Predict DC: it is coded as its difference to that."""
    facts, signed = scene.facts, scene.signed
    left, above = int(scene.plane[row + 2, column + 1, 0]), int(scene.plane[row + 1, column + 2, 0])
    edges = min(row, 1) + min(column, 1)
    mean = (up + across + on) // (2 * edges) if edges else 0
    guess = min(max((mean + 4) >> 3, -_MOST_DC), _MOST_DC)
    facts[GUESS] = guess
    facts[SPREAD] = min(log2(abs(up - across)), 20) if edges == 2 else 0
    facts[SLOPE] = min(log2(abs(above - left)), 20)
    signed[MEAN_ON] = signed2(on - mean * edges)
    signed[LEFT] = signed2(left - guess) if column else 0
    signed[ABOVE] = signed2(above - guess) if row else 0


@compiled
def align(scene: Scene, stage: int, sign: int) -> None:
    """Have signed facts ready: magnitudes for the first stage, later seen along the sign."""
    for i in range(N_SIGNED):
        value = scene.signed[i]
        scene.aligned[i] = abs(value) if stage == ZERO else sign * value


@compiled
def lay_ac(scene: Scene, stage: int, node: int, desk: Desk) -> Any:
    """Lay out the contexts of a decision on an AC coefficient; return how many they are."""
    facts, t, slots, seen = scene.facts, scene.aligned, desk.slots, scene.seen
    k, component, others = facts[K], scene.kind[0], scene.kind[1]
    near, inside, around, both = facts[NEAR], facts[INSIDE], facts[AROUND], facts[BOTH]
    every, here = node * 4 + component, (node * 64 + k) * 4 + component
    v, u = ROW_OF[k], COLUMN_OF[k]
    pair = min(seen[v, u + 1], 7) * 8 + min(seen[v + 1, u], 7)
    slots[0] = slot(here, t[UP], t[ACROSS])
    slots[1] = slot(here, t[UP_ON], t[ACROSS_ON])
    slots[2] = slot(here, t[MEAN], near)
    slots[3] = slot(here, t[MEAN_ON], inside)
    slots[4] = slot(here, around, inside)
    slots[5] = slot(here, min(log2(facts[SUM]), 15), k - facts[END])
    slots[6] = slot(here, t[LEFT], t[ABOVE])
    slots[7] = slot(here, t[SECOND] * 32 + t[FIRST], near >> 1)
    slots[8] = slot(here, t[MEAN], t[MEAN_ON])
    slots[9] = slot(here, pair, min(seen[v + 1, u + 1], 3))
    slots[10] = slot(here, t[UP], around)
    slots[11] = slot(here, t[ACROSS], around)
    slots[12] = slot(here, around * 32 + near, facts[END_LEFT] >> 2)
    slots[13] = slot(every, both, 0)
    slots[14] = slot(every, both, t[MEAN])
    slots[15] = slot(every, t[MEAN4], 0)
    slots[16] = slot(every, t[MEAN_ON4], both >> 1)
    colour = min(component, 1)
    desk.sets[0] = k + 64 * stage + 256 * colour
    desk.sets[1] = node + 32 * (near >> 1) + 288 * colour
    desk.sets[2] = inside + 16 * abs(t[MEAN]) + 256 * stage
    desk.choice[0] = node + 32 * colour
    desk.choice[1], desk.choice[2] = node * 16 + inside, k * 8 + min(near >> 1, 7)
    if not others:
        return 17
    slots[17] = slot(here, t[FIRST], t[MEAN])
    slots[18] = slot(here, t[FIRST], t[MEAN_ON])
    slots[19] = slot(every, t[FIRST] * 32 + t[SECOND], t[MEAN_ON])
    slots[20] = slot(every, t[FIRST4], both >> 1)
    slots[21] = slot(every, t[SECOND4], both >> 1)
    other, at = (t[FIRST4], OFF_FIRST) if others == 1 else (t[SECOND4], OFF_SECOND)
    slots[22] = slot(every, other, min(log2(facts[at]), 12) * 16 + min(log2(facts[at + 1]), 12))
    return 23


@compiled
def lay_dc(scene: Scene, stage: int, node: int, sign: int, desk: Desk) -> Any:
    """Lay out the contexts of a decision on DC, less its prediction; return how many they are."""
    facts, signed, slots = scene.facts, scene.signed, desk.slots
    spread, count = facts[SPREAD], facts[COUNT]
    toward = -1 if stage >= CLASS and sign < 0 else 1
    on, left, above = toward * signed[MEAN_ON], toward * signed[LEFT], toward * signed[ABOVE]
    here = node * 4 + scene.kind[0]
    slots[0] = slot(here, spread, 0)
    slots[1] = slot(here, spread, min(log2(facts[SUM]), 15))
    slots[2] = slot(here, left, above)
    slots[3] = slot(here, on, spread)
    slots[4] = slot(here, on, left)
    slots[5] = slot(here, on, above)
    slots[6] = slot(here, count, 0)
    slots[7] = slot(here, signed[FIRST], 0)
    slots[8] = slot(here, signed[SECOND], spread >> 1)
    slots[9] = slot(here, facts[SLOPE], spread >> 1)
    desk.sets[0], desk.sets[1] = 640 + node, 640 + spread + 32 * stage
    desk.sets[2] = 1120 + count + 64 * stage
    desk.choice[0], desk.choice[1], desk.choice[2] = 80 + node, 576 + node, 576 + spread
    return 10


@compiled
def look_around(scene: Scene, row: int, column: int) -> None:
    """Fill the facts of a block, of which nothing is known yet."""
    facts, ends, others = scene.facts, scene.ends, scene.kind[1]
    facts[:] = 0
    above = ends[row, column + 1]
    left = ends[row + 1, column] if column else above
    above = above if row else left
    right = ends[row, column + 2] if row and column + 2 < ends.shape[1] - 1 else above
    corner = ends[row, column] if row and column else left
    facts[END_LEFT], facts[END_ABOVE], facts[END_RIGHT] = left, above, right
    facts[END_MEAN] = (2 * left + 2 * above + right + corner) // 6 if row or column else 0
    facts[END_FIRST] = last_nonzero(scene.first[row, column]) if others > 0 else 0
    facts[END_SECOND] = last_nonzero(scene.second[row, column]) if others > 1 else 0
    for k in range(1, 64):
        facts[SUM_LEFT] += abs(int(scene.plane[row + 2, column + 1, k]))
        facts[SUM_ABOVE] += abs(int(scene.plane[row + 1, column + 2, k]))


@compiled
def lay_end(scene: Scene, bit: int, node: int, desk: Desk) -> Any:
    """Lay out the contexts of ``bit`` of the last nonzero's place; return how many they are."""
    facts, slots = scene.facts, desk.slots
    left, above, mean = facts[END_LEFT], facts[END_ABOVE], facts[END_MEAN]
    first, both = facts[END_FIRST], log2(facts[SUM_LEFT] + facts[SUM_ABOVE])
    colour, here = min(scene.kind[0], 1), node * 4 + scene.kind[0]
    slots[0] = slot(here, mean, 0)
    slots[1] = slot(here, left >> 1, above >> 1)
    slots[2] = slot(here, left, 0)
    slots[3] = slot(here, above, 0)
    slots[4] = slot(here, (facts[END_RIGHT] + above) >> 2, left >> 2)
    slots[5] = slot(here, first >> 1, mean >> 2)
    slots[6] = slot(here, facts[END_SECOND] >> 1, first >> 2)
    slots[7] = slot(here, log2(facts[SUM_LEFT]), log2(facts[SUM_ABOVE]))
    slots[8] = slot(here, both, mean >> 2)
    slots[9] = slot(here, 0, 0)
    desk.sets[0], desk.sets[1] = 512 + node + 64 * colour, 576 + (mean >> 1) + 32 * colour
    desk.sets[2] = 1024 + 16 * bit + min(both, 15)
    desk.choice[0], desk.choice[1], desk.choice[2] = 64 + bit, 512 + node, 512 + mean
    return 10
