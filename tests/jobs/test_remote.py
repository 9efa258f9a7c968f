"""A running scheduler and its workers: strangers that are asked first, and never waited for long.

Real processes of Dask, as `dask scheduler` and `dask worker` start them.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from trees import snapshot

from archiver.errors import MachineError, UsageError
from archiver.jobs import cluster, run
from archiver.jobs.cluster import knock, members, probe, remote
from archiver.jobs.events import Event, Notice
from archiver.jobs.spec import PackSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_S = 90  # for a process of Dask, on a busy machine


class Head:
    """A scheduler process and what joined it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        log = self._start("dask_scheduler", "--port", "0", "--dashboard-address", ":0")
        self.address = self._said(log, r"Scheduler at:\s+(tcp://\S+)")

    def worker(self, *before: str, path: Path | None = None, nanny: bool = False) -> int:
        """Start a worker, wait until it is registered; return its place among the processes."""
        options = ("--nanny" if nanny else "--no-nanny", "--nthreads", "1", "--no-dashboard")
        options = (*options, "--local-directory", str(self.folder))
        log = self._start("dask_worker", self.address, *options, before=before, path=path)
        self._said(log, r"(Registered to)")
        return len(self.processes) - 1

    def _start(
        self, command: str, *args: str, before: tuple[str, ...] = (), path: Path | None = None
    ) -> Path:
        log = self.folder / f"{len(self.processes)}.log"
        found = os.pathsep.join(
            map(str, ([path] if path else []) + [ROOT, HERE, HERE.parent / "support"])
        )
        host = ("--host", "127.0.0.1")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", f"distributed.cli.{command}", *args, *host],
                stdout=file,
                stderr=file,
                env=os.environ | {"PYTHONPATH": found},
                cwd=self.folder,  # the first place that -m imports from
            )
        self.processes.append(process)
        return log

    def _said(self, log: Path, pattern: str) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if found := re.search(pattern, log.read_text()):
                return found[1]
            time.sleep(0.1)
        raise TimeoutError(log.read_text())

    def stop_last(self) -> None:
        """End what was started last."""
        process = self.processes.pop()
        process.kill()
        process.wait()

    def close(self) -> None:
        """End everything."""
        while self.processes:
            self.stop_last()


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A scheduler without workers."""
    (tmp_path / "head").mkdir()
    started = Head(tmp_path / "head")
    yield started
    started.close()


def nap(task: float, threads: int) -> float:
    """Sleep."""
    time.sleep(task)
    return task


def hidden(folder: Path) -> tuple[str, ...]:
    """Return what to start a process with so that it sees nothing in ``folder``; skip if it cannot.

    A mount namespace of its own: another machine, where the share is not mounted.
    """
    with suppress(OSError):
        if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0:
            script = f'mount -t tmpfs none "{folder}" && exec "$@"'
            return ("unshare", "-rm", "sh", "-c", script, "sh")
    pytest.skip("no mount namespaces here")


@pytest.mark.slow
def test_workers_are_asked_first(head: Head, tree: Path, tmp_path: Path) -> None:
    """A worker that sees the same files packs, verifies, unpacks; one that does not is refused.

    So is one of another release; both by name, at the start as well as when they join later.
    """
    scheduler, archive = head.address, tmp_path / "a.archive"
    head.worker()
    events: list[Event] = []
    settings = PackSettings(profile="fast", scheduler=scheduler)
    assert run.pack(tree, archive, settings, events.append).generation == 1
    assert not run.verify(archive, scheduler=scheduler).problems
    assert not run.unpack(archive, tmp_path / "out", scheduler=scheduler).failures
    assert snapshot(tmp_path / "out") == snapshot(tree)
    assert not list(tmp_path.rglob("*.part"))
    assert not events_that_name(events, "gets no task")

    old = tmp_path / "old" / "archiver"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text('__version__ = "0.0.7"\n')
    (tree / "new.txt").write_text("new")
    with cluster.open_workers(None, scheduler, n_tasks=9, on_event=events.append) as workers:
        naps = workers.run(nap, [0.5] * 12)
        next(naps)
        head.worker(path=old.parent)
        assert not [one for one in naps if one.error]  # the newcomer got none
    assert events_that_name(events, r"worker tcp://\S+ gets no task: has archiver 0\.0\.7")

    head.stop_last()
    head.worker(*hidden(tree))
    with pytest.raises(UsageError, match=r"worker tcp://\S+: on .* SOURCE .*: No such file"):
        run.pack(tree, archive, settings)
    archive = archive.rename(tree / "a.archive")
    with pytest.raises(UsageError, match=r"ARCHIVE .*zarr\.json: No such file"):
        run.verify(archive, scheduler=scheduler)
    assert not list(tree.rglob("*.part"))


def events_that_name(events: list[Event], pattern: str) -> list[Event]:
    """Return the notices that say so."""
    return [one for one in events if isinstance(one, Notice) and re.search(pattern, one.message)]


@pytest.mark.slow
def test_waits_end(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker at the start, none any more, no scheduler any more: each said, and soon over."""
    monkeypatch.setattr(members, "START_S", 1.0)
    monkeypatch.setattr(members, "IDLE_S", 1.0)
    events: list[Event] = []
    with pytest.raises(UsageError, match="has no workers, for 1 s"):
        run_naps(head, 1, 0, events)
    assert events_that_name(events, "has no workers; waiting 1 s for one")

    first = head.worker()
    naps = run_naps(head, 6, 0.5, events, lambda: head.processes[first].kill())
    assert any(isinstance(one, MachineError) and "has no workers" in str(one) for one in naps)

    monkeypatch.setattr(members, "START_S", 60.0)
    monkeypatch.setattr(members, "IDLE_S", 60.0)
    head.worker()
    naps = run_naps(head, 6, 0.5, events, lambda: head.processes[0].kill())
    assert any(isinstance(one, MachineError) and "was lost" in str(one) for one in naps)


def run_naps(
    head: Head, count: int, seconds: float, events: list[Event], then: Callable[[], None] = str
) -> list[Exception | None]:
    """Run naps, do something after the first; return their errors, the one that ended all last."""
    errors: list[Exception | None] = []
    with cluster.open_workers(None, head.address, n_tasks=9, on_event=events.append) as workers:
        try:
            for outcome in workers.run(nap, [seconds] * count):
                if not errors:
                    then()
                errors.append(outcome.error)
        except MachineError as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (b"", "accepts connections, but says nothing"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "something else than a Dask scheduler"),
        (b"HTTP", "that is a dashboard"),
    ],
)
def test_strangers_at_the_address(
    says: bytes, message: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port where something else listens is a usage error that says what, within seconds."""
    monkeypatch.setattr(knock, "SPEAK_S", 0.5)
    with listener(says) as port, pytest.raises(UsageError, match=message):
        run.pack(tree, tmp_path / "a", PackSettings(scheduler=f"tcp://127.0.0.1:{port}"))


class listener:
    """A server that accepts and says so much; b"HTTP": an answer to what it is asked."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.accepted: list[socket.socket] = []

    def __enter__(self) -> int:
        """Start it; return its port."""
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.socket.accept()
                self.accepted.append(one)
                if self.says == b"HTTP":
                    threading.Thread(target=self._answer, args=(one,), daemon=True).start()
                elif self.says:
                    one.sendall(self.says)

    def _answer(self, one: socket.socket) -> None:
        with suppress(OSError):
            if one.recv(3) == b"GET":
                one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        for one in (*self.accepted, self.socket):
            one.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tls://127.0.0.1:{port}", "TLS needs certificates"),
        ("http://127.0.0.1:{port}", "expected an address like"),
        ("127.0.0.1", "expected an address like"),
    ],
)
def test_addresses_that_cannot_be(address: str, message: str) -> None:
    """TLS without certificates, another scheme, no port: refused before anything is waited for."""
    with (
        listener(b"") as port,
        pytest.raises(UsageError, match=message),
        remote.joined(address.format(port=port), [], lambda event: None),
    ):
        pass


def test_what_a_worker_sees_otherwise(tmp_path: Path) -> None:
    """Another size, another time, another folder are named; a rounded time is the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"22")
    place = probe.Place("SOURCE", (one, two, tmp_path / "gone"), tmp_path)
    with probe.noted([place]) as notes:
        asked = probe.asked(notes)
        assert probe.received(probe.look(asked)).faults == ()
        os.utime(one, ns=(0, one.stat().st_mtime_ns - 10**9))
        assert probe.received(probe.look(asked)).faults == ()
        os.utime(one, ns=(0, 0))
        two.write_bytes(b"333")
        for note in tmp_path.glob("*.part"):
            note.rename(tmp_path / "moved")
        faults = probe.look(asked).faults
        for fault, part in zip(
            faults, ("another modification", "3 bytes there, 2 here", "not mounted"), strict=True
        ):
            assert part in fault
        assert all(fault.startswith("SOURCE") for fault in faults)
