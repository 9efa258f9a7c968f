"""Which way a file is turned: the same whichever way it comes, and never for the worse."""

from __future__ import annotations

import numpy as np
import pytest

from archiver.codec import learned, pretrained
from archiver.codec.engine import Engine
from archiver.codec.turn import SIDES, UPRIGHT, Turn
from archiver.pipeline import turning


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(pretrained.load(pretrained.SMALL), device="cpu", threads=1)


def trails() -> np.ndarray:
    """Sparks with trails to the right: from there they come without warning."""
    rng = np.random.default_rng(3)
    image = np.zeros((96, 96))
    for row, column in rng.integers(0, 96, (150, 2)):
        length = min(24, 96 - column)
        image[row, column : column + length] += 200 * 0.85 ** np.arange(length)
    image = np.minimum(image + 20, 250)[..., None] + rng.normal(0, 0.6, (96, 96, 1))
    return np.clip(image * [1, 0.8, 0.6], 0, 255).round().astype(np.uint8)


def size(tile: np.ndarray, turn: Turn, engine: Engine) -> int:
    [coded] = learned.encode([turn.turned(tile)], engine)
    assert coded is not None
    return len(coded.payload)


def test_one_picture_takes_the_same_whichever_way_it_comes(engine: Engine) -> None:
    """A turn is found that undoes, or outdoes, the one that the picture came in."""
    tile = trails()
    sizes = [size(tile, Turn(number), engine) for number in range(SIDES)]
    assert min(sizes) < 0.98 * max(sizes)
    for number in (0, 2, 5, 7):
        given = Turn(number).turned(tile)
        found = turning.find([given], engine)
        assert size(given, found, engine) <= 1.002 * min(sizes)


def test_colours_in_another_order_are_put_right(engine: Engine) -> None:
    """Channels whose order is not the one that was learned are reordered where it pays."""
    tile = trails()
    [found] = {turning.find([tile[..., list(order)]], engine) for order in [(1, 2, 0)]}
    given = np.ascontiguousarray(tile[..., [1, 2, 0]])
    assert size(given, found, engine) <= 1.002 * size(tile, turning.find([tile], engine), engine)


@pytest.mark.parametrize(
    "tile",
    [
        np.full((64, 64, 3), 9, np.uint8),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((8, 8, 1), np.float32),
    ],
    ids=["constant", "two channels", "float"],
)
def test_what_no_model_codes_stays_upright(engine: Engine, tile: np.ndarray) -> None:
    assert turning.find([tile], engine) == UPRIGHT
    assert turning.find([], engine) == UPRIGHT
