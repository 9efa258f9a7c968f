"""Fixtures of the archive tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builder import make_archive


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two generations that no test may change."""
    return make_archive(tmp_path_factory.mktemp("made") / "once.archive")


@pytest.fixture
def archive(made_once: Path, tmp_path: Path) -> Path:
    """An archive of two generations, to do with as the test likes."""
    return Path(shutil.copytree(made_once, tmp_path / "a.archive"))
