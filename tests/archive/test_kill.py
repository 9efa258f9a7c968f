"""SIGKILL before any change of any file: the archive is the old one or the new one, and goes on."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builder import GENERATIONS
from killer import NEW, write
from test_damage import read_all

from archiver.archive import Archive, check_structure
from archiver.errors import ArchiverError

OLD = GENERATIONS[0] | GENERATIONS[1]
Kill = Callable[[Path, int], list[str]]
N_RANDOM = 3


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """Kill a writer of the archive before its n-th change; return all changes up to there."""
    command = [sys.executable, str(Path(__file__).with_name("killer.py"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def send(archive: Path, number: int) -> list[str]:
            stdin.write(f"{archive} {number}\n")
            stdin.flush()
            return stdout.readline().split()

        yield send
        stdin.close()


def moments(events: list[str], seed: int) -> list[int]:
    """Return when to kill: around every rename that is ours, not zarr's, and at some others."""
    renames = [n for n, event in enumerate(events, 1) if event == "os.rename"]
    around = {n + step for n in renames for step in (0, 1) if n + step <= len(events)}
    others = sorted(set(range(1, len(events) + 1)) - around)
    return sorted(around | set(random.Random(seed).sample(others, N_RANDOM)))


@pytest.mark.slow
def test_kill_while_adding_a_generation(made_once: Path, tmp_path: Path, kill: Kill) -> None:
    """Old or new, undamaged; the next run redoes only what was not finished and leaves no rest."""
    shutil.copytree(made_once, tmp_path / "0")
    events = kill(tmp_path / "0", 0)
    assert len(events) > 50
    seen = set()
    for number in moments(events, seed=1):
        archive = Path(shutil.copytree(made_once, tmp_path / str(number)))
        assert kill(archive, number)[-1] == events[number - 1]
        assert not check_structure(archive)
        content = read_all(archive)
        assert content in (OLD, OLD | NEW)
        n_recorded = len(list((archive / "wip/tasks").glob("*.json")))
        n_redone = write(archive)
        seen.add((content == OLD, n_recorded, n_redone))
        assert n_redone == (3 - n_recorded if content == OLD and n_redone else 0)
        check_completed(archive)
        shutil.rmtree(archive)
    assert {was_old for was_old, *_ in seen} == {True, False}
    assert {n_redone for *_, n_redone in seen} == {0, 1, 2, 3}


def check_completed(archive: Path) -> None:
    """Everything is there, in three generations, and nothing else is left on disk."""
    assert read_all(archive) == OLD | NEW
    assert not check_structure(archive)
    opened = Archive.open(archive)
    assert opened.generation == 3
    assert {path.name for path in archive.iterdir()} == {
        *("lock", "manifest", "models", "shards", "wip", "zarr.json")
    }
    assert [path for path in (archive / "wip").rglob("*") if path.is_file()] == []
    shards = {digest.tobytes().hex() for digest in opened.index.whole("shards", "sha256")}
    assert {path.name for path in (archive / "shards").iterdir()} == shards
    assert opened.totals().uncommitted == 0


@pytest.mark.slow
def test_kill_while_making_the_first(tmp_path: Path, kill: Kill) -> None:
    """Before the first commit there is no archive, after it a whole one; the next run completes."""
    events = kill(tmp_path / "0", 0)
    for number in moments(events, seed=2)[::3]:
        archive = tmp_path / str(number)
        kill(archive, number)
        try:
            assert Archive.open(archive).generation == 1
        except ArchiverError as error:
            is_told = "again" in str(error) or "no archive here" in str(error)
            assert is_told
        write(archive)
        assert read_all(archive) == NEW
        assert not check_structure(archive)
        shutil.rmtree(archive)
