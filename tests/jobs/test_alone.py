"""Every file fails alone: what is wrong with one takes no other with it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import snapshot

from archiver.archive import commit, manifest
from archiver.archive.commit import Commit, TableInfo
from archiver.archive.reader import Archive
from archiver.archive.tables import TABLES, size_of
from archiver.jobs import plan, run
from archiver.jobs.events import FileFailed, UnpackSummary
from archiver.jobs.spec import PackSettings
from archiver.pipeline.write import source_file

Tables = dict[str, dict[str, np.ndarray[Any, Any]]]


@pytest.fixture
def packed(tree: Path, tmp_path: Path) -> Path:
    """The archive of a tree."""
    run.pack(tree, tmp_path / "a.archive", PackSettings(profile="fast", workers=0))
    return tmp_path / "a.archive"


def forge(archive: Path, change: Callable[[Tables], None]) -> None:
    """Change the tables of an archive of one generation and make all digests right again."""
    with Archive.open(archive) as opened:
        names = opened.commits[0].tables
        tables = {
            name: {key: np.array(value) for key, value in opened.index.table(0, name).items()}
            for name in TABLES
            if name in names
        }
    change(tables)
    folder = archive / "manifest/000001"
    shutil.rmtree(folder)
    folder.mkdir()
    sizes = {name: size_of(name, columns) for name, columns in tables.items()}
    infos = {
        name: TableInfo(
            sizes[name], manifest.write_table(folder / name, name, columns, sizes[name])
        )
        for name, columns in tables.items()
    }
    document = commit.render(Commit(1, "", "forger", "2026-01-01T00:00:00+00:00", infos, {}))
    for path in (folder / "zarr.json", archive / "zarr.json"):
        path.write_bytes(document)


def first_image(tables: Tables) -> int:
    """Return the object of the first image."""
    return int(tables["images"]["object"][0])


def set_shape(tables: Tables) -> None:
    tables["images"]["shape"][0, :2] = 2**32 - 1


def set_tile(tables: Tables) -> None:
    tables["images"]["shape"][0, :2] = 60_000
    tables["images"]["tile_shape"][0] = 60_000
    tables["tiles"]["window"][tables["tiles"]["image"] == 0] = [0, 0, 60_000, 60_000]


def set_component(tables: Tables) -> None:
    tables["tiles"]["component"][0] = 2


def set_format(tables: Tables) -> None:
    tables["objects"]["format"][first_image(tables)] = 255


def set_raw_length(tables: Tables) -> None:
    rows = tables["residues"]["object"] == first_image(tables)
    tables["residues"]["raw_length"][rows] = 2**32 - 1


@pytest.mark.parametrize("change", [set_shape, set_tile, set_component, set_format, set_raw_length])
def test_a_forged_object_fails_alone(
    packed: Path, tree: Path, tmp_path: Path, change: Callable[[Tables], None]
) -> None:
    """Whatever one object claims, all others come back and are checked."""
    before = snapshot(tree)
    forge(packed, change)
    summary = run.unpack(packed, tmp_path / "out", workers=0)
    failed = {failure.path for failure in summary.failures}
    assert 1 <= len(failed) <= 2  # and its copy
    after = snapshot(tmp_path / "out")
    assert {k: v for k, v in after.items() if k not in failed} == {
        k: v for k, v in before.items() if k not in failed
    }
    problems = run.verify(packed, workers=0).problems
    assert {path for problem in problems for path in problem.entries} == failed


def unpack(archive: Path, dest: Path) -> UnpackSummary:
    """Unpack in this process."""
    return run.unpack(archive, dest, workers=0)


def test_a_name_that_is_too_long_fails_alone(packed: Path, tree: Path, tmp_path: Path) -> None:
    """A file whose path this file system does not take is reported; the rest is written."""

    def rename(tables: Tables) -> None:
        columns = tables["entries"]
        data, offsets = columns["path_data"].tobytes(), columns["path_offsets"]
        paths = [data[a:b] for a, b in itertools.pairwise(offsets)]
        paths[paths.index(b"copy.png")] = b"copy" * 100  # slides/0.png has the same content
        paths[paths.index(b"notes.txt")] = b"/".join([b"deep" * 50] * 30)
        columns["path_data"] = np.frombuffer(b"".join(paths), "u1")
        columns["path_offsets"] = np.cumsum([0, *map(len, paths)]).astype("<i8")

    forge(packed, rename)
    summary = unpack(packed, tmp_path / "out")
    assert len(summary.failures) == 2
    assert all("takes no name as long" in failure.message for failure in summary.failures)
    expected = snapshot(tree)
    del expected["notes.txt"], expected["copy.png"]
    found = snapshot(tmp_path / "out")
    assert {name: found.get(name) for name in expected} == expected


def test_a_source_that_became_a_pipe_is_a_failure(tmp_path: Path) -> None:
    """Between scan and reading anything may happen to a file: nothing waits for a writer."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(source_file.SourceError, match="no regular file"):
        source_file.stamp(pipe)
    item = plan.Item(b"pipe", 0, 0o644, 0, 10)
    assert plan._probe(tmp_path, item) is None


def test_what_is_said_of_a_damaged_file_names_its_shard(packed: Path) -> None:
    """The line of a file is all that `verify -q` prints of it: where the damage is stands there."""
    [shard] = (packed / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    failed: list[FileFailed] = []
    run.verify(
        packed, depth="structure", on_event=lambda e: isinstance(e, FileFailed) and failed.append(e)
    )
    assert failed
    assert all(shard.name in failure.message for failure in failed)
