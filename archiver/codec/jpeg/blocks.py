"""The order of decisions: of a plane its blocks, of a block its end, its AC, its DC.

The same code writes and reads, so that both take the same decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.codec.jpeg import contexts
from archiver.codec.jpeg.context_mixing import Coder, ContextState, Desk, Ints, decide, is_spent
from archiver.codec.jpeg.contexts import (
    CLASS,
    COLUMN_OF,
    COUNT,
    EDGE,
    END,
    GUESS,
    MANTISSA,
    OF_FIRST,
    OF_SECOND,
    OFF_FIRST,
    OFF_SECOND,
    ROW_OF,
    SIGN,
    SUM,
    ZERO,
    Scene,
)
from archiver.codec.jpeg.huffman import MAX_MAGNITUDE, Blocks
from archiver.codec.jpeg.t81 import SIDE
from archiver.compiled import compiled

_MOST_CLASS = 16  # magnitudes, or differences of DC, up to 2^16
_NO_BLOCKS = np.zeros((1, 1, 64), np.int16)


def scene(shape: tuple[int, int], component: int, others: list[Blocks], steps: Ints) -> Scene:
    """Return the scene of a component of ``shape`` blocks, none of which is known."""
    rows, columns = shape
    first, second = [*others, _NO_BLOCKS, _NO_BLOCKS][:2]
    right, above, left = np.zeros((3, 2, SIDE), np.int64)
    return Scene(
        np.zeros((rows + 2, columns + 3, 64), np.int16),
        first,
        second,
        steps,
        np.array([min(component, 3), len(others)]),
        np.zeros((rows + 1, columns + 2), np.int64),
        np.zeros((2, columns, SIDE), np.int64),
        right,
        above,
        left,
        np.zeros((SIDE + 2, SIDE + 2), np.int64),
        np.zeros(contexts.N_FACTS, np.int64),
        np.zeros(contexts.N_SIGNED, np.int64),
        np.zeros(contexts.N_SIGNED, np.int64),
    )


@compiled
def code_plane(blocks: Blocks, scene: Scene, state: ContextState, coder: Coder, desk: Desk) -> bool:
    """Write the blocks of a component, or read them; return whether they are possible ones."""
    reads = coder.state[4] == 1
    for row in range(blocks.shape[0]):
        scene.right[:] = 0
        if is_spent(coder):
            return False
        for column in range(blocks.shape[1]):
            block = blocks[row, column]
            _begin(scene, row, column)
            end = _code_end(contexts.last_nonzero(block), scene, state, coder, desk)
            scene.facts[END] = scene.ends[row + 1, column + 1] = end
            for k in range(end, -1, -1):
                contexts.look(scene, row, column, k)
                guess = scene.facts[GUESS]
                value = guess + _code_number(int(block[k]) - guess, k, scene, state, coder, desk)
                if abs(value) > MAX_MAGNITUDE:
                    return False
                if reads:
                    block[k] = value
                _know(scene, k, value)
            scene.plane[row + 2, column + 2] = block
            _finish(scene, block, column)
    return True


@compiled
def _begin(scene: Scene, row: int, column: int) -> None:
    contexts.look_around(scene, row, column)
    scene.above[:] = 0
    scene.left[:] = 0
    scene.seen[:] = 0


@compiled
def _code_end(end: int, scene: Scene, state: ContextState, coder: Coder, desk: Desk) -> Any:
    """Code the place of the last nonzero AC coefficient, bit by bit."""
    node = 1
    for bit in range(5, -1, -1):
        n = contexts.lay_end(scene, bit, node, desk)
        node = 2 * node + decide((end >> bit) & 1, n, state, coder, desk)
    return node - 64


@compiled
def _code_number(
    value: int, k: int, scene: Scene, state: ContextState, coder: Coder, desk: Desk
) -> Any:
    """Code a coefficient, DC less its prediction: zero, sign, class, mantissa.

    Class c > 0 has the magnitudes from 2^(c-1) + 1 to 2^c, class 0 has 1.
    """
    stage = SIGN if k > 0 and k == scene.facts[END] else ZERO
    sign, bits, left, size = 1, 0, 0, 0
    while left >= 0:
        node = _node(stage, bits, left)
        contexts.align(scene, stage, sign)
        if k == 0:
            n = contexts.lay_dc(scene, stage, node, sign, desk)
        else:
            n = contexts.lay_ac(scene, stage, node, desk)
        bit = decide(_answer(value, stage, bits, left), n, state, coder, desk)
        if stage == ZERO:
            if bit == 0:
                return 0
            stage = SIGN
        elif stage == SIGN:
            sign = 1 - 2 * bit
            stage = CLASS
        elif stage == CLASS:
            bits += bit
            if bit == 0 or bits == _MOST_CLASS:
                left, size, stage = bits - 2, min(bits, 1), MANTISSA
        else:
            size = 2 * size + bit
            left -= 1
    return sign * (size + 1)


@compiled
def _node(stage: int, bits: int, left: int) -> Any:
    """Return the number of a decision among those on a coefficient, below 32."""
    if stage < CLASS:
        return stage
    if stage == CLASS:
        return 1 + min(bits + 1, 12)
    if left == bits - 2:
        return 14 + min(bits, 9)
    return (24 if left == bits - 3 else 28) + min(left, 3)


@compiled
def _answer(value: int, stage: int, bits: int, left: int) -> Any:
    """Return what a writer decides."""
    size = abs(value) - 1
    if stage == ZERO:
        return 1 if value != 0 else 0
    if stage == SIGN:
        return 1 if value < 0 else 0
    if stage == CLASS:
        return 1 if size >> bits > 0 else 0
    return (size >> left) & 1


@compiled
def _know(scene: Scene, k: int, value: int) -> None:
    """Take a coefficient into account for those that follow in its block."""
    facts, v, u = scene.facts, ROW_OF[k], COLUMN_OF[k]
    for e in range(2):
        scene.above[e, u] += value * scene.steps[k] * EDGE[e, v]
        scene.left[e, v] += value * scene.steps[k] * EDGE[e, u]
    if k == 0:
        return
    scene.seen[v, u] = abs(value)
    facts[COUNT] += int(value != 0)
    facts[SUM] += abs(value)
    first, second = facts[contexts.RAW_FIRST], facts[contexts.RAW_SECOND]
    facts[OFF_FIRST] += abs(value - first)
    facts[OF_FIRST] += abs(first)
    facts[OFF_SECOND] += abs(value - second)
    facts[OF_SECOND] += abs(second)


@compiled
def _finish(scene: Scene, block: Any, column: int) -> None:
    """Keep what lies at the lower and the right edge: odd frequencies have the other sign there."""
    below = scene.below[:, column]
    below[:] = 0
    scene.right[:] = 0
    for k in range(scene.facts[END] + 1):
        v, u = ROW_OF[k], COLUMN_OF[k]
        value = int(block[k]) * scene.steps[k]
        for e in range(2):
            below[e, u] += value * EDGE[e, v] * (1 - 2 * (v & 1))
            scene.right[e, v] += value * EDGE[e, u] * (1 - 2 * (u & 1))
