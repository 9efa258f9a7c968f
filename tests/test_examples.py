"""The examples run as their docstrings say, on a small folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(name: str, *args: Path | str) -> str:
    """Run one example as a user would, and return what it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with one image and one other file."""
    folder = tmp_path / "scans"
    folder.mkdir()
    gradient = np.add.outer(np.arange(70), np.arange(90))
    noise = np.random.default_rng(0).integers(0, 6, gradient.shape)
    Image.fromarray((gradient + noise).astype(np.uint8)).save(folder / "gradient.png")
    (folder / "notes.txt").write_text("opaque", encoding="utf-8")
    return folder


def test_pack_from_python_and_read_back(folder: Path, tmp_path: Path) -> None:
    """archive_folder.py packs and verifies; read_back.py reads whole images and regions."""
    packed = run_example("archive_folder.py", folder, tmp_path / "scans.archive")
    assert "gradient.png: " in packed
    assert "2 files verified, 0 problems" in packed
    read = run_example("read_back.py", tmp_path / "scans.archive")
    assert "gradient.png: (70, 90, 1) uint8, region (35, 45, 1), same: True" in read
    assert "notes.txt: not kept as samples" in read


@pytest.mark.slow
def test_train_a_small_model(folder: Path, tmp_path: Path) -> None:
    """train_small.py trains, exports and measures; the model it leaves is a model file."""
    shown = run_example("train_small.py", folder, tmp_path, "50")
    assert "step 50: nan bits per sample in colour, " in shown
    assert "scans: " in shown
    assert (tmp_path / "small.model").read_bytes().startswith(b"ARCMODEL")
