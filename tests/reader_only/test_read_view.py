"""FORMAT.md is enough: the tree of every generation is found with zarr and NumPy, without archiver.

Everything below was written from the text of manifests/FORMAT.md, section "The view of a
generation".
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("archive-v1-*"))
FILE, DIRECTORY, SYMLINK, REMOVED = range(4)


class Row(NamedTuple):
    """What is needed of an entry."""

    kind: int
    link: int
    sparse: int
    rest: tuple[int, ...]  # object, mode, mtime_ns


def rows(archive: Path, number: int) -> dict[str, Row]:
    """Return the entries of one generation by path."""
    group = zarr.open_group(str(archive), mode="r")[f"manifest/{number:06d}"]
    if "entries" not in group.attrs["tables"]:
        return {}

    def column(name: str) -> np.ndarray[Any, Any]:
        return group[f"entries/{name}"][...]

    data, ends = column("path_data").tobytes(), column("path_offsets").tolist()
    paths = [data[start:end].decode() for start, end in pairwise(ends)]
    columns = [column(name) for name in ("kind", "link", "sparse", "object", "mode", "mtime_ns")]
    values = zip(*(one.tolist() for one in columns), strict=True)
    return {path: Row(*row[:3], row[3:]) for path, row in zip(paths, values, strict=True)}


def view(archive: Path, number: int) -> dict[str, Row]:
    """Replay the generations up to that one."""
    shown: dict[str, Row] = {}
    for generation in range(1, number + 1):
        for path, row in rows(archive, generation).items():
            gone = {p for p in shown if p.startswith(path + "/") and row.kind != DIRECTORY}
            gone |= {p for p in shown if path.startswith(p + "/") and shown[p].kind != DIRECTORY}
            shown = {p: one for p, one in shown.items() if p not in gone} | {path: row}
    return {path: row for path, row in shown.items() if row.kind != REMOVED}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.name)
def test_the_view_reads_from_the_text_alone(vector: Path) -> None:
    """The files of the newest generation are those recorded; the first has what is gone since."""
    archive = vector / "example.archive"
    newest = view(archive, int(str(zarr.open_group(str(archive), mode="r").attrs["generation"])))
    files = {path for path, row in newest.items() if row.kind == FILE}
    recorded = json.loads((vector / "sha256.json").read_text())
    assert files == {path for path in recorded if newest[path].kind != SYMLINK}
    first = view(archive, 1)
    assert first.keys() - newest.keys() == {"gone", "gone/deep", "gone/deep/notes.txt"}
    assert [path for path, row in newest.items() if row.sparse] == ["holes"]
    linked = {path: (row.link, row.rest) for path, row in newest.items() if row.link}
    assert linked.keys() == {"again.txt", "deep/notes.txt"}
    assert len(set(linked.values())) == 1
