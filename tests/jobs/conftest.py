"""Every job test packs a small tree, with the tiny model instead of the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
from nights import Night, events
from trees import make_tree

from archiver.codec.model import pretrained
from archiver.jobs import run
from archiver.jobs.events import Summary
from archiver.jobs.spec import PackSettings


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch, tiny_model: bytes) -> None:
    monkeypatch.setattr(pretrained, "load", lambda name: tiny_model)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory tree: images, copies, text, links, empty and odd names."""
    return make_tree(tmp_path / "source")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree of a few small files."""
    root = tmp_path / "source"
    (root / "scans" / "old").mkdir(parents=True)
    for name in ("notes.txt", "scans/1.txt", "scans/2.txt", "scans/old/3.txt"):
        (root / name).write_text(f"content of {name}")
    return root


@pytest.fixture
def night(source: Path, tmp_path: Path) -> Night:
    """Pack the tree once more."""

    def packed(**settings: object) -> Summary:
        wanted = PackSettings(workers=0, profile="fast", **settings)  # type: ignore[arg-type]
        return run.pack(source, tmp_path / "a.archive", wanted, events(tmp_path).append)

    return packed
