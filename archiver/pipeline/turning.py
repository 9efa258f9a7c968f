"""Own which way the tiles of a file are turned: the way in which a model codes a sample smallest.

Small crops tell the eight sides apart, which differ by a hundredth or more in one photograph of
two; then the orders of the channels, which matter where colours are not those of photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec.turn import ORDERS, SIDES, UPRIGHT, Turn

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

PIXELS = 1 << 16  # looked at, each 13 times
CROP = 128  # side at most

Part = NDArray[np.generic]  # (H, W, C) of 8 bits, or a plane (H, W) of more


def find(parts: Sequence[Part], engine: Engine) -> Turn:
    """Return the turn in which ``engine`` codes a sample of ``parts`` smallest."""
    crops = _crops(parts)
    best = _smallest([Turn(side) for side in range(SIDES)], crops, engine)
    if not any(crop.shape[2:] == (3,) for crop in crops):
        return best
    return _smallest([best.ordered(order) for order in range(len(ORDERS))], crops, engine)


def sides_of(turn: Turn) -> tuple[Turn, ...]:
    """Return all sides, with channels in the order of ``turn``."""
    order = turn.number // SIDES
    return tuple(Turn(side).ordered(order) for side in range(SIDES))


def _crops(parts: Sequence[Part]) -> list[Part]:
    """Return the middle of some parts, spread over all."""
    if not parts:
        return []
    crops = [_middle(part) for part in parts]
    count = max(1, PIXELS * len(crops) // sum(crop.shape[0] * crop.shape[1] for crop in crops))
    n = len(crops)
    return crops if count >= n else [crops[(2 * i + 1) * n // (2 * count)] for i in range(count)]


def _middle(part: Part) -> Part:
    top, left = (max(0, n - CROP) // 2 for n in part.shape[:2])
    return part[top : top + CROP, left : left + CROP]


def _smallest(turns: Sequence[Turn], crops: Sequence[Part], engine: Engine) -> Turn:
    """Return the first of the turns that take the fewest bytes."""
    if not crops:
        return UPRIGHT
    return min(turns, key=lambda turn: _size(turn, crops, engine))


def _size(turn: Turn, crops: Sequence[Part], engine: Engine) -> int:
    turned = [turn.on(one).turned(one) for one in crops]
    byte = [one.astype(np.uint8, copy=False) for one in turned if one.dtype.itemsize == 1]
    deep = [one.astype(np.uint16, copy=False) for one in turned if one.dtype.itemsize == 2]
    return sum(len(one) for one in engine.encode(byte) + engine.encode_deep(deep))
