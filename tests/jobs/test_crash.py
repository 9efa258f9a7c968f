"""Kill the packing process, or a worker, at any moment: the archive is the old one or the new one.

A handful of seeded kills by default; more with --kills 20.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import make_tree, snapshot

from archiver.codec.model import pretrained
from archiver.jobs import plan, run
from archiver.jobs.spec import PackSettings

TESTS = Path(__file__).parents[1]
MODEL = TESTS / "vectors" / "codec-v1" / "tiny.model"
LONGEST_S = 1.5  # from plan to commit, about


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case for each seed."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(int(metafunc.config.getoption("--kills"))))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A tree, and an archive that holds an older state of it: one generation."""
    monkeypatch.setattr(pretrained, "load", lambda name: MODEL.read_bytes())
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 4096)
    source, archive = make_tree(tmp_path / "source", n_images=1), tmp_path / "a.archive"
    run.pack(source, archive, PackSettings(workers=0))
    for path in sorted(make_tree(tmp_path / "new", n_images=6).rglob("*")):
        target = source / path.relative_to(tmp_path / "new")
        if path.is_file() and not path.is_symlink():
            target.write_bytes(path.read_bytes() + b"!" * (path.suffix == ".txt"))
    return source, archive


def start(source: Path, archive: Path, workers: int) -> subprocess.Popen[str]:
    """Start packing in another process and return when its work begins."""
    command = [sys.executable, str(TESTS / "support" / "packer.py"), str(source), str(archive)]
    process = subprocess.Popen(
        [*command, str(workers), str(MODEL)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "planned\n"
    return process


def check_completed(source: Path, archive: Path, before: dict[str, object], out: Path) -> None:
    """The archive is valid and old or new; packing once more completes it."""
    assert not run.verify(archive, depth="structure", workers=0).problems
    run.unpack(archive, out / "killed", workers=0)
    assert files(out / "killed") in (before, files(source))
    summary = run.pack(source, archive, PackSettings(workers=0))
    assert not summary.failures
    assert not run.verify(archive, depth="files", workers=0).problems
    run.unpack(archive, out / "completed", workers=0)
    assert snapshot(out / "completed") == snapshot(source)


def files(root: Path) -> dict[str, object]:
    """Return the content of every file."""
    return {name: what[-1] for name, what in snapshot(root).items() if what[0] == "file"}


def test_kill_the_packing_process(seed: int, old: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGKILL at a random moment, with and without workers."""
    source, archive = old
    run.unpack(archive, tmp_path / "before", workers=0)
    rng = random.Random(seed)
    process = start(source, archive, workers=2 * (seed % 2))
    time.sleep(rng.random() * LONGEST_S * (1 + 2 * (seed % 2)))
    process.kill()
    process.communicate()
    check_completed(source, archive, files(tmp_path / "before"), tmp_path)


@pytest.mark.slow
def test_kill_a_worker(seed: int, old: tuple[Path, Path], tmp_path: Path) -> None:
    """A worker that is killed costs nothing: the job goes on and ends well."""
    source, archive = old
    rng = random.Random(seed)
    process = start(source, archive, workers=2)
    deadline = time.monotonic() + 60
    while not (victims := list(workers_of(process.pid))) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(rng.random() * 2)
    for victim in rng.sample(victims, 1):
        if process.poll() is None:
            kill(victim)
    output, _ = process.communicate(timeout=120)
    assert output == "failed 0\n"
    assert process.returncode == 0
    assert not run.verify(archive, depth="files", workers=0).problems
    run.unpack(archive, tmp_path / "out", workers=0)
    assert snapshot(tmp_path / "out") == snapshot(source)


def workers_of(pid: int) -> Iterator[int]:
    """Yield the worker processes that a packing process has started."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"spawn_main" in command:
                yield int(child)


def kill(pid: int) -> None:
    """Kill a process if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
