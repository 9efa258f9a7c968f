"""Write to archives in forked processes and kill them: killer.py reads "PATH N" lines.

Each line: fork, add a generation to the archive at PATH, and die by SIGKILL before the N-th change
of its files (never if N is 0).  Answers with the names of all changes that were about to happen.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import zarr  # noqa: F401 - before the fork: once is enough
from builder import MODEL, SETTINGS, file_entry, make_shard, sha256

from archiver.archive import ArchiveWriter

NEW = {b"a.png": b"third state", b"new/one.png": b"one", b"new/two.png": b"two"}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def write(path: Path) -> int:
    """Add a generation, going on with what an earlier run had finished; return the tasks redone."""
    n_done = 0
    with ArchiveWriter.open(path) as writer:
        writer.add_model("tiny", MODEL)
        known, shards = writer.known_objects(), []
        for content in NEW.values():
            task = sha256(content).hex()
            shard = writer.finished(task)
            if shard is None and sha256(content) not in known:
                shard = make_shard(path, [content])
                writer.record(task, shard)
                n_done += 1
            if shard is not None:
                shards.append(shard)
        writer.commit([file_entry(*item) for item in NEW.items()], shards, SETTINGS)
    return n_done


class Killer:
    """An audit hook that counts changes below a directory and dies before one of them."""

    def __init__(self, root: str, limit: int, log: int) -> None:
        self._root = root
        self._left = limit
        self._log = log

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Look at one event of the interpreter."""
        if event != "open" and event not in CHANGES:
            return
        if not str(arguments[0]).startswith(self._root) or not _changes(event, arguments):
            return
        is_inside = "/wip/generation/" in str(arguments[0])
        os.write(self._log, f"{event}{'-inside' * is_inside}\n".encode())
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _changes(event: str, arguments: tuple[object, ...]) -> bool:
    if event != "open":
        return True
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def run(path: str, limit: int) -> list[str]:
    """Write in a forked process; return the changes that it came to."""
    source, log = os.pipe()
    child = os.fork()
    if not child:
        os.close(source)
        sys.addaudithook(Killer(path, limit, log))
        write(Path(path))
        os._exit(0)
    os.close(log)
    with open(source, encoding="ascii") as file:  # noqa: PTH123 - a descriptor
        events = file.read().split()
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if died != bool(limit) or (not died and status):
        events = [f"status-{status}"]
    return events


if __name__ == "__main__":
    for line in sys.stdin:
        name, number = line.rsplit(maxsplit=1)
        sys.stdout.write(" ".join(run(name, int(number))) + "\n")
        sys.stdout.flush()
