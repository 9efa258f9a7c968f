"""A folder of small images to learn from, and the options of runs that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archiver.training.run import Options


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four colour and two grey images of smooth noise, 48 x 56."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    for i in range(6):
        steps = rng.normal(size=(48, 56, 3)).cumsum(1) * 3 + rng.normal(size=(48, 1, 3)) * 20
        samples = np.clip(steps + 128, 0, 255).astype(np.uint8)
        Image.fromarray(samples if i < 4 else samples[..., 0]).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def options() -> Callable[..., Options]:
    """Options of a tiny network on one thread, uncompiled: the same arithmetic every time."""

    def of(**changed: object) -> Options:
        tiny = {"steps": 100, "dim": 8, "blocks": 1, "crop": 16, "batch": 2, "device": "cpu"}
        return Options(**{**tiny, "threads": 1, "compiled": False, **changed})  # type: ignore[arg-type]

    return of
