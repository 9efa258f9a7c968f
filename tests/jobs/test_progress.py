"""How far a job is: told by tiles while it runs, right in the end, and never worth a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from rich.console import Console

from archiver.cli.bar import Pace, Watcher, bar, clock
from archiver.jobs import run
from archiver.jobs.events import (
    Committed,
    Committing,
    Event,
    FileDone,
    FileFailed,
    FileProgress,
    Planned,
    Tuning,
)
from archiver.jobs.spec import PackSettings
from archiver.pipeline import progress


def quick(workers: int) -> PackSettings:
    """Return settings of a job that codes some tiles in a second."""
    return PackSettings(profile="quick", workers=workers, tile=64)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder with one file of many tiles, which takes a second or two."""
    source = tmp_path / "source"
    (source / "slides").mkdir(parents=True)
    rng = np.random.default_rng(3)
    ramp = np.add.outer(np.arange(2600), np.arange(2600))[..., None] // 8 * np.array([1, 2, 3])
    image = (ramp + rng.integers(0, 30, ramp.shape)).astype(np.uint8)
    tifffile.imwrite(source / "slides" / "a.tif", image, photometric="rgb")
    return source


@pytest.mark.parametrize("workers", [0, 1])
def test_a_large_file_is_seen_to_grow(large: Path, tmp_path: Path, workers: int) -> None:
    """Parts of it come before it is done, more each time, and all of it in the end."""
    events: list[Event] = []
    run.pack(large, tmp_path / "a.archive", quick(workers), events.append)
    size = (large / "slides" / "a.tif").stat().st_size
    parts = [event.input_bytes for event in events if isinstance(event, FileProgress)]
    assert {event.path for event in events if isinstance(event, FileProgress)} == {"slides/a.tif"}
    assert parts == sorted(parts)
    assert len([part for part in parts if 0 < part < size]) >= 2
    assert parts[-1] == size
    steps = np.diff([0, *parts])
    assert steps.sum() == size
    last = max(i for i, event in enumerate(events) if isinstance(event, FileProgress))
    [done] = [i for i, event in enumerate(events) if isinstance(event, FileDone)]
    assert last < done


@pytest.mark.parametrize("workers", [0, 1])
def test_phases_come_in_order(large: Path, tmp_path: Path, workers: int) -> None:
    """Scan, code, commit."""
    events: list[Event] = []
    run.pack(large, tmp_path / "a.archive", quick(workers), events.append)
    kinds = list(dict.fromkeys(type(event) for event in events))
    assert kinds == [Planned, FileProgress, FileDone, Committing, Committed]


def test_odd_names_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no text, and a file that is kept as it is."""
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    source, events = tmp_path / "source", []
    source.mkdir()
    name = b"odd \xff name".decode("utf-8", "surrogateescape")
    (source / name).write_bytes(np.random.default_rng(0).bytes(9000))
    run.pack(source, tmp_path / "a.archive", quick(0), events.append)
    parts = [(e.path, e.input_bytes) for e in events if isinstance(e, FileProgress)]
    assert set(parts) == {(name, 9000)}


def test_a_message_that_cannot_be_told_is_lost() -> None:
    """Whatever the listener raises, the work goes on; without one nothing is told."""

    def broken(news: Mapping[bytes, int]) -> None:
        raise RuntimeError("the scheduler is gone")

    with progress.told_to(broken):
        progress.report(Path("a"), 3)
        progress.name_below(Path("/elsewhere"))
        progress.report(Path("/other/place"), 3)
    progress.report(Path("a"), 5)


def test_messages_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many reports are one message: the newest of each file."""
    heard: list[Mapping[bytes, int]] = []
    monkeypatch.setattr(progress, "EVERY_S", 100.0)
    with progress.told_to(heard.append):
        for n_bytes in range(1000):
            progress.report(Path("ab"[n_bytes % 2]), n_bytes)
    assert heard == [{b"a": 0}, {b"b": 999, b"a": 998}]


def test_the_bar_counts_every_byte_once() -> None:
    """Parts, the whole, what is told late or again: the sum is that of the files."""
    watcher = Watcher(bar(Console(quiet=True), disable=True), "packing")
    assert watcher.phase == "scanning"
    watcher.on_event(Planned(3, 600, 2))
    for n_bytes in (50, 120, 80, 200):  # 80: tried again
        watcher.on_event(FileProgress("a", n_bytes))
    assert (watcher.phase, watcher.done) == ("packing", 200)
    watcher.on_event(FileDone("a", 300, 10, 900))
    watcher.on_event(FileProgress("a", 250))  # late
    watcher.on_event(FileDone("b", 200, 10, 900))
    assert watcher.done == 500
    watcher.on_event(FileProgress("c", 100))
    watcher.on_event(FileFailed("c", "changed"))
    assert watcher.done == 600


def test_the_bar_names_the_phases() -> None:
    """Scan, tune, code, commit."""
    watcher, seen = Watcher(bar(Console(quiet=True), disable=True), "packing"), []
    for event in (Planned(1, 9, 1), Tuning(), Tuning(is_over=True), Committing(), Committed(4)):
        watcher.on_event(event)
        seen.append(watcher.phase)
    tuning = "tuning a model on a sample"
    assert seen == ["packing", tuning, "packing", "committing", "generation 4 committed"]


def test_the_pace_is_that_of_the_last_minutes() -> None:
    """Bytes in a second since the first were heard of; later over a window; the time left."""
    pace = Pace()
    assert pace.seconds_left(990.0, 100) is None
    for second in range(61):
        pace.add(1000.0 + second, 10 * second)
    assert pace.rate(1060.0) == pytest.approx(10.0)
    assert pace.seconds_left(1060.0, 1200) == pytest.approx(60.0)
    for second in range(61, 601):  # twice as fast from then on
        pace.add(1000.0 + second, 600 + 20 * (second - 60))
    assert pace.rate(1600.0) == pytest.approx(20.0, rel=0.02)
    assert pace.rate(1660.0) < 20.0  # nothing came since
    assert clock(3725) == "1:02:05"


def test_unpacking_tells_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are told when they are written, not when all of their task are."""
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    source, events = tmp_path / "source", []
    source.mkdir()
    for number in range(4):
        (source / f"{number}.txt").write_text(f"{number}" * 99)
    run.pack(source, tmp_path / "a.archive", quick(0))
    run.unpack(tmp_path / "a.archive", tmp_path / "out", workers=0, on_event=events.append)
    told = [(e.path, e.input_bytes) for e in events if isinstance(e, FileProgress)]
    assert sorted(told) == [(f"{number}.txt", 99) for number in range(4)]
    assert isinstance(events[1], FileProgress)
