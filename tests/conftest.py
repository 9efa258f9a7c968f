"""Options, skips and fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

VECTORS = Path(__file__).parent / "vectors"
REAL_IMAGES = Path(__file__).parents[2] / "shared" / "images"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --slow and --kills."""
    parser.addoption("--slow", action="store_true", help="run tests that take minutes, too")
    parser.addoption("--kills", default="2", help="how often the crash tests kill (default 2)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine, or this run, is not made for."""
    if not config.getoption("--slow"):
        _skip(items, "slow", "takes minutes; run with --slow")
    if any(item.get_closest_marker("gpu") for item in items) and not _has_gpu():
        _skip(items, "gpu", "no CUDA device here")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _has_gpu() -> bool:
    import torch  # heavy: only when a test asks for a GPU

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    """A frozen model of a few KB with random weights: every layer matters, nothing is learned."""
    return (VECTORS / "codec-v1" / "tiny.model").read_bytes()


@pytest.fixture(scope="session")
def high_depth_model() -> bytes:
    """The same with a port for more than 8 bits."""
    return (VECTORS / "codec-v1" / "deep.model").read_bytes()


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images beside the project; tests that need it skip without it."""
    if not REAL_IMAGES.is_dir():
        pytest.skip("no real images at ../shared/images")
    return REAL_IMAGES


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded source of randomness."""
    return np.random.default_rng(20260101)
