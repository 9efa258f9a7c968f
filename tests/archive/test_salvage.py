"""What is damaged of a manifest is named by the paths that the rest of it still tells."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from builder import GENERATIONS

from archiver.archive import check_structure, salvage

FIRST = {os.fsdecode(path) for path in GENERATIONS[0]}


@pytest.fixture
def archive(made_once: Path, tmp_path: Path) -> Path:
    """An archive of several generations, to damage."""
    return Path(shutil.copytree(made_once, tmp_path / "a.archive"))


def spoil(path: Path) -> None:
    """Change the last byte of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_entries_with_a_damaged_column_are_named(archive: Path) -> None:
    """Their paths are in other columns, which are whole."""
    spoil(next((archive / "manifest/000001/entries/mtime_ns/c").iterdir()))
    assert any(set(problem.entries) >= FIRST for problem in check_structure(archive))


def test_a_damaged_document_is_named_with_what_it_describes(archive: Path) -> None:
    """Without the document of a generation nothing opens: every path is hit."""
    spoil(archive / "manifest/000001/zarr.json")
    [problem] = check_structure(archive)
    assert set(problem.entries) >= FIRST
    assert "000001" in problem.found


def test_a_table_of_objects_is_named_although_entries_are_damaged_too(archive: Path) -> None:
    """Entries of other generations are enough to name some of what is hit."""
    spoil(next((archive / "manifest/000001/objects/size/c").iterdir()))
    spoil(next((archive / "manifest/000002/entries/mode/c").iterdir()))
    problems = [p for p in check_structure(archive) if p.where.endswith("000001/objects")]
    assert problems
    assert set(problems[0].entries) >= FIRST


def test_nothing_is_made_up(archive: Path) -> None:
    """Paths that fail their own checks are not shown."""
    spoil(next((archive / "manifest/000001/entries/path_data/c").iterdir()))
    assert salvage.paths_of(archive / "manifest/000001") == []
    assert salvage.paths_of(archive / "nowhere") == []
