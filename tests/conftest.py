"""Options, skips and fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

VECTORS = Path(__file__).parent / "vectors"
BESIDE = Path(__file__).parents[2] / "shared"  # real images and odd files, in no checkout
NOT_HERE = "not beside this checkout: ../shared/"


# Files of which `pytest -m quick` runs all that is not slow: something of every room, in a minute.
QUICK = frozenset(
    (
        *("test_layers", "test_manifest_texts", "test_readme", "test_cli", "test_report"),
        *("test_grid", "test_delta", "test_scale_offset", "test_orientation", "test_tiles"),
        *("test_model_delta", "test_frequencies", "test_gradients", "test_chain"),
        *("test_records", "test_schema", "test_view", "test_salvage", "test_shard"),
        *("test_bitmap", "test_png", "test_headers", "test_jpeg_frames"),
        *("test_jpeg_ls", "test_recordable", "test_dataset_sample", "test_compat"),
        *("test_spec", "test_plan", "test_generation", "test_names_and_holes"),
        *("test_read_plans", "test_read_residues", "test_read_view", "test_read_from_jpeg"),
        *("test_read_ordered", "test_read_series"),
    )
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --slow, and how much of what can be done for ever."""
    parser.addoption("--slow", action="store_true", help="run tests that take minutes, too")
    parser.addoption("--damages", default="160", help="how often a file is damaged (160; 1600)")
    parser.addoption("--kills", default="2", help="how often the crash tests kill (default 2)")


@pytest.hookimpl(tryfirst=True)  # before items are chosen by their markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine, or this run, is not made for."""
    if not config.getoption("--slow"):
        _skip(items, "slow", "takes minutes; run with --slow")
    for item in items:
        if item.path.stem in QUICK:
            item.add_marker("quick")
        marker = item.get_closest_marker("beside")
        if marker and not (BESIDE / marker.args[0]).exists():
            item.add_marker(pytest.mark.skip(reason=NOT_HERE + marker.args[0]))
    if any(item.get_closest_marker("gpu") for item in items) and not _has_gpu():
        _skip(items, "gpu", "no CUDA device here")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were left out for want of files that no checkout has."""
    skipped = terminalreporter.stats.get("skipped", [])
    n = sum(NOT_HERE in str(report.longrepr) for report in skipped)
    if n:
        terminalreporter.write_line(
            f"{n} tests were left out: they need real images or odd files in ../shared", yellow=True
        )


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
    if not (BESIDE / "images").is_dir():
        pytest.skip(NOT_HERE + "images")
    return BESIDE / "images"


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded source of randomness."""
    return np.random.default_rng(20260101)
