"""A tree that changes from night to night in every way that trees do, at random but repeatably."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from trees import snapshot

from archiver.jobs import run
from archiver.jobs.events import Event, Notice, Summary
from archiver.pipeline import open_archive

Night = Callable[..., Summary]  # packs the tree once more, under settings
NAMES = ("a", "b", "c", "d!", "d")  # few, so that paths come back, as another kind or the same


class Nights:
    """The tree below ``root``; each `night` changes it a little."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self._rng = random.Random(seed)
        self._clock = 1_700_000_000_000_000_000
        root.mkdir()
        (root / "kept").write_text("always there")

    def night(self, changes: int) -> None:
        """Do some random changes."""
        ways: list[Callable[[Path], None]] = [
            self._write, self._write, self._make_folder, self._make_folder, self._make_symlink,
            self._link, self._remove, self._move, self._edit_unseen, self._edit, self._chmod,
            self._touch, self._make_holes,
        ]  # fmt: skip
        for _ in range(changes):
            self._rng.choice(ways)(self._somewhere())

    def _somewhere(self) -> Path:
        folders = [
            self.root,
            *(p for p in self.root.rglob("*") if p.is_dir() and not p.is_symlink()),
        ]
        return self._rng.choice(folders) / self._rng.choice(NAMES)

    def _file(self) -> Path:
        found = [p for p in sorted(self.root.rglob("*")) if p.is_file() and not p.is_symlink()]
        return self._rng.choice(found)

    def _content(self, size: int) -> bytes:
        return self._rng.randbytes(size // 2) + bytes(size - size // 2)

    def _time(self, path: Path) -> None:
        self._clock += 1_000_000_007
        os.utime(path, ns=(self._clock, self._clock), follow_symlinks=False)

    def _write(self, path: Path) -> None:
        self._remove(path)
        path.write_bytes(self._content(self._rng.randrange(40)))

    def _make_folder(self, path: Path) -> None:
        if not path.is_dir() or path.is_symlink():
            self._remove(path)
            path.mkdir()

    def _make_symlink(self, path: Path) -> None:
        self._remove(path)
        path.symlink_to(self._rng.choice(["kept", "nowhere", "..", "/etc"]))
        self._time(path)

    def _link(self, path: Path) -> None:
        self._remove(path)
        path.hardlink_to(self._file())

    def _remove(self, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)

    def _move(self, path: Path) -> None:
        found = sorted(p for p in self.root.rglob("*") if p.name != "kept")
        source = self._rng.choice([path, *found])
        if source.exists() and not path.is_relative_to(source):
            self._remove(path)
            if os.path.lexists(source):
                source.rename(path)

    def _edit(self, path: Path) -> None:
        with self._file().open("ab") as file:
            file.write(b"more")

    def _edit_unseen(self, path: Path) -> None:
        """Change a file under its size and modification time."""
        path = self._file()
        before = path.stat()
        with path.open("r+b") as file:
            file.write(self._content(before.st_size))
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))

    def _chmod(self, path: Path) -> None:
        found = [p for p in sorted(self.root.rglob("*")) if not p.is_symlink()]
        self._rng.choice(found).chmod(self._rng.choice([0o700, 0o755, 0o775]))

    def _touch(self, path: Path) -> None:
        self._time(self._rng.choice(sorted(self.root.rglob("*"))))

    def _make_holes(self, path: Path) -> None:
        self._remove(path)
        with path.open("wb") as file:
            file.seek(1 << 16)
            file.write(self._content(20))
            file.truncate(1 << 17)


def state(root: Path) -> tuple[object, ...]:
    """Return everything that must come back: `snapshot`, names of one file, and what has holes."""
    inodes: dict[int, set[str]] = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            inodes.setdefault(path.stat().st_ino, set()).add(str(path.relative_to(root)))
    links = sorted(sorted(names) for names in inodes.values() if len(names) > 1)
    holes = [str(p.relative_to(root)) for p in sorted(root.rglob("*")) if has_hole(p)]
    return snapshot(root), links, holes


def has_hole(path: Path) -> bool:
    """Whether a path is a file that takes less room than its size."""
    status = path.lstat()
    return path.is_file() and not path.is_symlink() and status.st_blocks * 512 < status.st_size


# --- what came of a night ---------------------------------------------------------------------

EVENTS: dict[Path, list[Event]] = {}


def events(tmp_path: Path) -> list[Event]:
    """Return the list that events of this test go to."""
    return EVENTS.setdefault(tmp_path, [])


def notices(tmp_path: Path) -> str:
    """Return all notices since the last call."""
    found = [event.message for event in events(tmp_path) if isinstance(event, Notice)]
    events(tmp_path).clear()
    return "\n".join(found)


def shown(tmp_path: Path, number: int | None = None) -> list[str]:
    """Return the paths of a generation."""
    return [entry.path for entry in open_archive(tmp_path / "a.archive", number).entries()]


def restored(tmp_path: Path, number: int | None = None) -> Path:
    """Unpack a generation and return where it is."""
    dest = tmp_path / f"restored {number}"
    done = run.unpack(
        tmp_path / "a.archive", dest, generation=number, workers=0,
        on_event=events(tmp_path).append,
    )  # fmt: skip
    assert not done.failures
    return dest
