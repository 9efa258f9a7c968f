"""What a machine does to a job: workers die, disks fail, mounts go away.  None of it is damage."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import poison
import pytest
from trees import snapshot

from archiver.archive import durable, layout
from archiver.codec import tiles as codec
from archiver.errors import (
    ArchiverError,
    DestinationError,
    IntegrityError,
    MachineError,
    Verdict,
    worst_code,
)
from archiver.jobs import retry, run, shares, unpack, verify
from archiver.jobs.cluster import Outcome, WorkerDied
from archiver.jobs.events import Event, Notice, Planned, ignore
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

HERE = PackSettings(workers=0)


@pytest.fixture
def archive(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree, packed; it is verified and unpacked in several tasks."""
    monkeypatch.setattr(shares, "MIN_BYTES", 4096)
    run.pack(tree, tmp_path / "a.archive", HERE)
    return tmp_path / "a.archive"


@pytest.mark.slow
def test_killed_worker_is_no_damage(
    archive: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker killed during verify or unpack costs no file: its tasks are tried again."""
    events: list[Event] = []
    monkeypatch.setattr(verify, "run_task", poison.verify_killed_once)
    summary = run.verify(archive, workers=2, on_event=events.append)
    assert (tmp_path / "killed").exists()
    assert not summary.problems
    assert any(isinstance(one, Notice) and "tried again" in one.message for one in events)
    (tmp_path / "killed").unlink()
    monkeypatch.setattr(unpack, "run_task", poison.unpack_killed_once)
    unpacked = run.unpack(archive, tmp_path / "out", workers=2)
    assert (tmp_path / "killed").exists()
    assert not unpacked.failures
    assert snapshot(tmp_path / "out") == snapshot(tree)


@pytest.mark.slow
def test_what_always_kills_its_worker_could_not_be_checked(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that no worker survives is named as not checked; all others are good."""
    monkeypatch.setattr(verify, "run_task", poison.verify_killed)
    summary = run.verify(archive, workers=1)
    assert {one.verdict for one in summary.problems} == {Verdict.UNCHECKED}
    users = {entry.path for entry in open_archive(archive).entries() if entry.object == 3}
    assert {path for one in summary.problems for path in one.entries} == users


@pytest.mark.parametrize("depth", ["structure", "samples", "files"])
def test_failing_disk_is_no_damage(
    archive: Path, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read error of the archive's disk is never called damage, at any depth."""
    refuse(monkeypatch, layout.SHARDS, errno.EIO)
    summary = run.verify(archive, depth=depth, workers=0)
    assert {one.verdict for one in summary.problems} == {Verdict.UNCHECKED}
    assert worst_code(one.verdict for one in summary.problems) == MachineError.exit_code
    assert all("disk" in one.advice for one in summary.problems)


def test_stale_handle_is_no_damage(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that was unmounted under unpack fails the files, as not checked."""
    refuse(monkeypatch, layout.SHARDS, errno.ESTALE)
    unpacked = run.unpack(archive, tmp_path / "out", ["slides/**"], workers=0)
    assert {one.verdict for one in unpacked.failures} == {Verdict.UNCHECKED}
    assert len(unpacked.failures) == 7


def test_lack_of_memory_is_no_damage(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MemoryError in a decoder says nothing of the payload."""

    def fail(*_: object) -> Iterator[object]:
        raise MemoryError("Unable to allocate 1.00 GiB")

    monkeypatch.setattr(codec, "decode", fail)
    summary = run.verify(archive, workers=0)
    assert {one.verdict for one in summary.problems} == {Verdict.UNCHECKED}


def test_what_is_read_right_the_second_time_is_good(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that came wrong once, from a cable or a cache, are read again before a verdict."""
    wrong = [b"wrong"]
    pread = os.pread
    monkeypatch.setattr(
        os, "pread", lambda *args: (wrong.pop() + pread(*args)[5:]) if wrong else pread(*args)
    )
    assert not run.verify(archive, workers=0).problems
    assert not wrong


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, MachineError),
        (errno.ESTALE, MachineError),
        (errno.EACCES, MachineError),
        (errno.EMFILE, MachineError),
        (errno.ENOTDIR, IntegrityError),
        (errno.ELOOP, IntegrityError),
    ],
)
def test_what_the_operating_system_says(number: int, kind: type[ArchiverError]) -> None:
    """Only another kind of thing in its place is damage; what the machine refuses is not."""
    error = durable.unreadable("models/x", OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert "models/x" in str(error)


def test_archive_that_goes_away_is_no_damage(archive: Path) -> None:
    """A mount that is lost in the middle takes every file along, and damages none."""

    def unmount(event: Event) -> None:
        if isinstance(event, Planned):
            archive.rename(archive.with_name("elsewhere"))

    summary = run.verify(archive, workers=0, on_event=unmount)
    assert summary.problems
    assert {one.verdict for one in summary.problems} == {Verdict.UNCHECKED}


def test_full_disk_is_no_damage(archive: Path, tmp_path: Path) -> None:
    """A file that does not fit on the destination's disk could not be written; smaller ones are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        unpacked = run.unpack(archive, tmp_path / "out", workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {one.verdict for one in unpacked.failures} == {Verdict.UNWRITTEN}
    assert (tmp_path / "out" / "nothing").exists()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_full_disk_of_the_archive(tree: Path, tmp_path: Path) -> None:
    """An archive that cannot be written ends the job with the code for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(DestinationError, match="cannot be written"):
            run.pack(tree, tmp_path / "a.archive", HERE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_generation_of_nothing_is_not_committed(tree: Path, tmp_path: Path) -> None:
    """If not one file can be read, as where the source went away, no generation says so."""
    archive = tmp_path / "a.archive"
    events: list[Event] = []

    def remove(event: Event) -> None:
        events.append(event)
        if isinstance(event, Planned):
            shutil.rmtree(tree / "slides")
            for path in tree.iterdir():
                if path.is_file():
                    path.unlink()

    summary = run.pack(tree, archive, HERE, remove)
    assert summary.generation is None
    assert len(summary.failures) == summary.files
    assert any(isinstance(one, Notice) and run.NOTHING_PACKED in one.message for one in events)
    assert not (archive / layout.ROOT).exists()


class Scripted:
    """Workers whose tasks end as a function says; None ends the scheduler."""

    size = 1

    def __init__(self, fate: Callable[[range], Exception | str | None]) -> None:
        self.fate = fate
        self.ran: list[range] = []

    def run(self, function: object, tasks: Iterable[range]) -> Iterator[Outcome[range, str]]:
        """Run nothing."""
        for task in tasks:
            self.ran.append(task)
            fate = self.fate(task)
            if fate is None:
                raise MachineError("the scheduler is gone")
            yield Outcome(task, error=fate) if isinstance(fate, Exception) else Outcome(task, fate)


def outcomes(workers: Scripted, tasks: list[range]) -> list[Outcome[range, str]]:
    """Run ranges that are halved down to one number."""

    def halves(task: range) -> list[range]:
        middle = len(task) // 2
        return [part for part in (task[:middle], task[middle:]) if part]

    def nothing(task: range, threads: int) -> str:
        return ""

    return list(retry.run(workers, nothing, tasks, halves=halves, on_event=ignore))


def test_only_what_kills_is_blamed() -> None:
    """Tasks that fell with a worker are run alone, then halved: one number of 64 is left over."""
    workers = Scripted(lambda task: WorkerDied("died") if 37 in task else "fine")
    found = outcomes(workers, [range(32), range(32, 64)])
    assert [one.task for one in found if one.error] == [range(37, 38)]
    assert sorted(n for one in found for n in one.task) == list(range(64))


def test_scheduler_that_is_lost_leaves_no_task_out() -> None:
    """What has not run when the scheduler goes has an outcome, too: the error that says so."""
    workers = Scripted(lambda task: None if 40 in task else "fine")
    found = outcomes(workers, [range(32), range(32, 48), range(48, 64)])
    assert {one.task: type(one.error) for one in found} == {
        range(32): type(None),
        range(32, 48): MachineError,
        range(48, 64): MachineError,
    }


def test_workers_that_always_die_end_the_job() -> None:
    """Without one success in between, deaths are counted, and the rest is not tried."""
    workers = Scripted(lambda task: WorkerDied("died"))
    found = outcomes(workers, [range(4096)])
    assert sorted(n for one in found for n in one.task) == list(range(4096))
    assert len(workers.ran) <= retry.MAX_DEATHS + 1
    assert any(retry.GIVEN_UP in str(one.error) for one in found)


def refuse(monkeypatch: pytest.MonkeyPatch, folder: str, number: int) -> None:
    """Let the operating system refuse to read what lies in one folder of an archive."""
    opened = os.open

    def fail(path: str | Path, *args: int, **kwargs: int) -> int:
        if Path(os.fsdecode(path)).parent.name == folder and args[0] & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)
