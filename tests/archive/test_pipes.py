"""A pipe in place of a file of an archive is refused at once: nothing ever waits for a writer."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from builder import add_generation
from test_damage import committed, read_all

from archiver.archive import ArchiveWriter, check_structure, layout
from archiver.archive.model_files import info_of
from archiver.errors import ArchiverError

pytestmark = pytest.mark.timeout(60)


def make_pipe(path: Path) -> None:
    """Put a pipe where a file was."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def test_no_file_of_an_archive_may_be_a_pipe(made_once: Path, tmp_path: Path) -> None:
    """Readers and the check end with an error that names it, whichever kind of file it is."""
    archive = Path(shutil.copytree(made_once, tmp_path / "a.archive"))
    kinds = {(path.parts[:-1][-2:], path.suffix): path for path in committed(archive)}
    for path in dict(sorted(kinds.items(), key=lambda one: len(one[1].parts))[:9]).values():
        data = path.read_bytes()
        make_pipe(path)
        read_all(archive)
        problems = check_structure(archive)
        assert any(str(path) in f"{p.where} {p.found}" or str(path.parent) in p.where
                   for p in problems), path  # fmt: skip
        path.unlink()
        path.write_bytes(data)
    assert not check_structure(archive)


def test_info_of_a_model_that_is_a_pipe_says_so(made_once: Path, tmp_path: Path) -> None:
    """What a model file says of itself is asked for at every turn: it must not block."""
    archive = Path(shutil.copytree(made_once, tmp_path / "a.archive"))
    model = next((archive / layout.MODELS).iterdir())
    make_pipe(model)
    assert "expected a regular file" in info_of(archive, bytes.fromhex(model.name)).fault


@pytest.mark.parametrize("name", [layout.LOCK, "wip/0123.wip", "wip/tasks/0123.json"])
def test_a_writer_does_not_wait_for_pipes(tmp_path: Path, name: str) -> None:
    """The lock, unfinished shards and task records are opened by the next run as well."""
    archive = tmp_path / "a.archive"
    add_generation(archive, {b"a": b"alpha"})
    make_pipe(archive / name)
    is_refused = pytest.raises(ArchiverError, match=name)
    with is_refused if name == layout.LOCK else nullcontext(), ArchiveWriter.open(archive) as one:
        assert one.archive is not None
