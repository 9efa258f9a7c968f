"""Every job test packs a small tree, with the tiny model instead of the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import make_tree

from archiver.codec import pretrained


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch, tiny_model: bytes) -> None:
    monkeypatch.setattr(pretrained, "load", lambda name: tiny_model)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory tree: images, copies, text, links, empty and odd names."""
    return make_tree(tmp_path / "source")
