"""Archives written by every release still verify, unpack and read; a new folder is a new test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from archiver.jobs import run
from archiver.pipeline import open_archive

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("archive-v*-by-*"))


@pytest.fixture(params=VECTORS, ids=lambda path: path.name)
def vector(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_are_old_archives() -> None:
    """The tests below run on something."""
    assert VECTORS


def test_old_archive_verifies(vector: Path) -> None:
    """Every file of it can be restored."""
    summary = run.verify(
        vector / "example.archive", depth="files", workers=0, on_event=lambda _: None
    )
    assert summary.problems == ()


def test_old_archive_unpacks_to_the_recorded_files(vector: Path, tmp_path: Path) -> None:
    """SHA-256 by SHA-256, links and empty directories too."""
    expected = json.loads((vector / "sha256.json").read_text())
    run.unpack(vector / "example.archive", tmp_path, (), workers=0, on_event=lambda _: None)
    found = {
        str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == expected
    assert (tmp_path / "empty").is_dir()
    assert (tmp_path / "link").is_symlink()


def test_old_archive_reads_by_region(vector: Path) -> None:
    """A region is the slice of the whole."""
    archive = open_archive(vector / "example.archive")
    entry = archive.entry("ramp.bmp")
    whole = entry.read()
    np.testing.assert_array_equal(entry.read((3, 5, 15, 20)), whole[3:18, 5:25])
