"""Names of one file, holes and modes: what of them comes back, and what does not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from nights import Night, notices, restored, state
from trees import snapshot

from archiver.jobs import run
from archiver.jobs.events import Notice
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive


def test_names_of_one_file_come_back(source: Path, night: Night, tmp_path: Path) -> None:
    """Hard links are links again, night after night: added, cut, and changed through one name."""
    (source / "again.txt").hardlink_to(source / "notes.txt")
    assert night().files == 5
    (source / "scans/third.txt").hardlink_to(source / "notes.txt")
    night()
    with (source / "again.txt").open("a") as file:
        file.write(", changed")
    shutil.copy2(source / "scans/third.txt", source / "copy")
    (source / "scans/third.txt").unlink()
    (source / "copy").rename(source / "scans/third.txt")
    night()
    assert [len(links(restored(tmp_path, number))) for number in (1, 2, 3)] == [2, 3, 2]
    assert links(restored(tmp_path)) == {"again.txt", "notes.txt"}


def links(root: Path) -> set[str]:
    """Return the names of the file that has several."""
    [names] = state(root)[1]  # type: ignore[misc]
    return set(names)


def test_a_part_of_the_names_can_be_unpacked(source: Path, night: Night, tmp_path: Path) -> None:
    """Patterns may leave out the first name; a destination that has one gets links to it."""
    for name in ("b.txt", "c.txt"):
        (source / name).hardlink_to(source / "notes.txt")
    night()
    out = tmp_path / "out"
    run.unpack(tmp_path / "a.archive", out, ["b.txt", "c.txt"], workers=0)
    assert sorted(path.name for path in out.iterdir()) == ["b.txt", "c.txt"]
    assert links(out) == {"b.txt", "c.txt"}
    (out / "c.txt").unlink()
    assert run.unpack(tmp_path / "a.archive", out, ["b.txt", "c.txt"], workers=0).files == 2
    assert links(out) == {"b.txt", "c.txt"}


def test_links_become_copies_where_they_must(
    source: Path, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without hard links every name is a file, and that is said."""
    (source / "b.txt").hardlink_to(source / "notes.txt")
    night()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    out = restored(tmp_path)
    assert (out / "b.txt").read_text() == (out / "notes.txt").read_text() == "content of notes.txt"
    assert (out / "b.txt").stat().st_mtime_ns == (source / "b.txt").stat().st_mtime_ns
    assert "1 hard links became copies" in notices(tmp_path)


def test_holes_come_back(source: Path, night: Night, tmp_path: Path) -> None:
    """A sparse file is sparse again, byte for byte; a file of zeros without holes has none."""
    with (source / "sparse").open("wb") as file:
        file.write(b"head")
        file.seek(3_000_001)
        file.write(b"tail")
        file.truncate(9_000_000)
    (source / "zeros").write_bytes(bytes(500_000))
    os.sync()
    if (source / "sparse").stat().st_blocks * 512 >= 9_000_000:
        pytest.skip("the file system has no holes")
    night()
    out = restored(tmp_path)
    assert (out / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (out / "sparse").stat().st_blocks * 512 < 100_000
    assert (out / "zeros").stat().st_blocks * 512 >= 500_000
    assert [e.path for e in open_archive(tmp_path / "a.archive").entries() if e.is_sparse] == [
        "sparse"
    ]


def test_setuid_bits_are_shown_not_restored(source: Path, night: Night, tmp_path: Path) -> None:
    """setuid and setgid of files do not come back, which is said; all other bits do."""
    (source / "notes.txt").chmod(0o6755)
    (source / "scans/1.txt").chmod(0o1640)
    (source / "scans").chmod(0o3775)
    night()
    assert open_archive(tmp_path / "a.archive").entry("notes.txt").mode == 0o6755
    notices(tmp_path)
    out = restored(tmp_path)
    assert "1 paths had a setuid or setgid bit" in notices(tmp_path)
    modes = [(out / name).stat().st_mode & 0o7777 for name in ("notes.txt", "scans/1.txt", "scans")]
    assert modes == [0o755, 0o1640, 0o3775]


def test_names_of_another_generation_are_no_names_of_one_file(tmp_path: Path) -> None:
    """Unpacking over an older night makes files of their own of what was one file then."""
    tree = tmp_path / "w"
    tree.mkdir()
    (tree / "a").write_text("c\n")
    (tree / "b").hardlink_to(tree / "a")
    settings = PackSettings(profile="fast", workers=0)
    run.pack(tree, tmp_path / "w.archive", settings)
    (tree / "b").unlink()
    (tree / "b").write_text("c\n")
    (tree / "b").chmod(0o600)
    os.utime(tree / "b", (10**9, 10**9))
    run.pack(tree, tmp_path / "w.archive", settings)
    for number in (1, 2):
        run.unpack(tmp_path / "w.archive", tmp_path / "out", generation=number, workers=0)
        links = {(tmp_path / "out" / name).stat().st_ino for name in "ab"}
        assert len(links) == number
    assert snapshot(tmp_path / "out") == snapshot(tree)


def test_what_a_generation_has_not_is_said(tmp_path: Path) -> None:
    """A destination with more paths than the tree of that night is not that tree: it is told."""
    tree = tmp_path / "w"
    tree.mkdir()
    (tree / "a").write_text("a\n")
    run.pack(tree, tmp_path / "w.archive", PackSettings(profile="fast", workers=0))
    (tmp_path / "out/older").mkdir(parents=True)
    events: list[object] = []
    run.unpack(tmp_path / "w.archive", tmp_path / "out", workers=0, on_event=events.append)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert any("1 more paths" in message for message in told)
