"""The view of a generation equals a replay of all generations, one after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from archiver.archive import layout
from archiver.archive.view import View, matches

Generation = dict[bytes, int]  # path -> kind


class Entries:
    """What a view needs of an index, held in memory."""

    def __init__(self, generations: list[Generation]) -> None:
        self.archive = "memory"
        self.rows = [
            (place, path, kind)
            for place, entries in enumerate(generations)
            for path, kind in sorted(entries.items())
        ]

    def whole(self, table: str, name: str) -> Any:
        """Return the kinds."""
        return np.array([kind for _, _, kind in self.rows], np.uint8)

    def text(self, table: str, name: str) -> Iterator[bytes]:
        """Return the paths."""
        return (path for _, path, _ in self.rows)

    def locate(self, table: str, index: int) -> tuple[int, int]:
        """Return the generation of a row."""
        return self.rows[index][0], index


def generation(rng: random.Random) -> Generation:
    """Return random entries among few paths, none below one that is not a directory."""
    entries: Generation = {}
    for _ in range(rng.randrange(1, 4)):
        path = b"/".join(rng.choice([b"a", b"b"]) for _ in range(rng.randrange(1, 4)))
        kinds = [layout.FILE, layout.DIRECTORY, layout.SYMLINK, layout.REMOVED]
        entries[path] = rng.choice(kinds)
    files = [path for path, kind in entries.items() if kind != layout.DIRECTORY]
    return {p: k for p, k in entries.items() if not any(p.startswith(f + b"/") for f in files)}


def replayed(generations: list[Generation]) -> dict[bytes, tuple[int, int]]:
    """Return path -> (generation, kind) as FORMAT.md says it, step by step."""
    shown: dict[bytes, tuple[int, int]] = {}
    for place, entries in enumerate(generations):
        for path, kind in entries.items():
            below = [p for p in shown if p.startswith(path + b"/") and kind != layout.DIRECTORY]
            above = [p for p in shown if path.startswith(p + b"/")]
            for gone in {*below, *(p for p in above if shown[p][1] != layout.DIRECTORY)}:
                del shown[gone]
            shown.pop(path, None)
            if kind != layout.REMOVED:
                shown[path] = (place, kind)
    return shown


@pytest.mark.parametrize("seed", range(3))
def test_view_is_a_replay(seed: int) -> None:
    """Hundreds of random histories of files, links and directories changing places and going."""
    rng = random.Random(seed)
    for _ in range(400):
        history = [generation(rng) for _ in range(rng.randrange(1, 6))]
        index = Entries(history)
        view = View(index)  # type: ignore[arg-type]
        found = {path: index.rows[row] for path, row in view.items()}
        expected = replayed(history)
        assert {p: (place, kind) for p, (place, _, kind) in found.items()} == expected, history
        assert list(found) == sorted(found)


def test_patterns_are_literal_first() -> None:
    """A name with brackets matches itself; wildcards cross folders; a folder means all below."""
    assert matches(b"scan[1].png", "scan[1].png")
    assert matches(b"a/b/c.png", "a/*.png")
    assert matches(b"a/b/c.png", "a/b/")
    assert matches(b"a/b/c.png", b"a")
    assert not matches(b"ab/c.png", "a")
    assert matches(b"odd \xff", "odd \udcff")
