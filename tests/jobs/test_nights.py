"""Night after night: a generation is the tree as it was, whatever happened to it by day."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from nights import Night, Nights, notices, restored, shown, state

from archiver.archive import layout
from archiver.archive.reader import Archive
from archiver.cli import main
from archiver.errors import NotFoundError, UsageError
from archiver.jobs import generation, plan, present, run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

DAY = 86_400 * 10**9


def edit_unseen(path: Path, content: bytes) -> None:
    """Change a file under its size and modification time."""
    before = path.stat()
    path.write_bytes(content)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- the tree of that night ------------------------------------------------------------------


def test_every_generation_is_the_tree_of_its_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fourteen nights of removals, renames, links, holes, changes of kind: all come back."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power cut here
    tree, archive = Nights(tmp_path / "source", seed=3), tmp_path / "a.archive"
    states = []
    for _ in range(14):
        tree.night(changes=9)
        summary = run.pack(tree.root, archive, PackSettings(workers=0, profile="fast"))
        assert summary.generation in (None, len(states) + 1)
        if summary.generation:
            states.append(state(tree.root))
        assert states[-1] == state(tree.root)
    for number, expected in enumerate(states, 1):
        run.unpack(archive, tmp_path / "out", generation=number, workers=0)
        assert state(tmp_path / "out") == expected
        shutil.rmtree(tmp_path / "out")
    assert not run.verify(archive, workers=0).problems


def test_what_was_removed_stays_in_earlier_generations(
    source: Path, night: Night, tmp_path: Path
) -> None:
    """A removed directory takes one entry; the generation before still has all of it."""
    night()
    before = shown(tmp_path)
    shutil.rmtree(source / "scans")
    summary = night()
    assert (summary.generation, summary.removed) == (2, 5)
    assert shown(tmp_path) == ["notes.txt"]
    assert shown(tmp_path, 1) == before
    assert (restored(tmp_path, 1) / "scans/old/3.txt").read_text() == "content of scans/old/3.txt"
    with Archive.open(tmp_path / "a.archive") as archive:
        assert archive.commits[-1].size("entries").rows == 1
        assert archive.commits[-1].settings["removed"] == 5
    assert night().generation is None
    with pytest.raises(NotFoundError, match="1 to 2"):
        open_archive(tmp_path / "a.archive", 3)


def test_damage_of_a_night_leaves_those_before(source: Path, night: Night, tmp_path: Path) -> None:
    """An earlier generation is restored though all tables of a later one are damaged."""
    night()
    (source / "new.txt").write_text("new")
    night()
    for path in (tmp_path / "a.archive/manifest/000002").rglob("c/*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    assert state(restored(tmp_path, 1))[1:] == ([], [])
    assert (tmp_path / "restored 1/notes.txt").read_text() == "content of notes.txt"


@pytest.mark.parametrize("depth", ["structure", "files"])
def test_damage_of_what_was_removed_is_named(
    source: Path, night: Night, tmp_path: Path, depth: str
) -> None:
    """verify names a removed file whose content is damaged, and says that it is gone."""
    night()
    (source / "notes.txt").unlink()
    night()
    [shard] = (tmp_path / "a.archive" / layout.SHARDS).iterdir()
    shard.write_bytes(shard.read_bytes().replace(b"notes", b"Notes"))
    [problem] = run.verify(tmp_path / "a.archive", depth=depth, workers=0).problems
    assert problem.entries == ("notes.txt (content of earlier generations)",)


def test_commands_show_earlier_generations(source: Path, night: Night, tmp_path: Path) -> None:
    """ls, info and unpack take --generation; without it they show the newest."""
    night()
    (source / "notes.txt").unlink()
    night()
    archive = str(tmp_path / "a.archive")

    def said(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--generation", "1"])
        assert result.exit_code == 0, result.output
        return result.output

    assert "notes.txt" in said("ls", archive)
    assert "SHA-256" in said("info", archive, "notes.txt")
    said("unpack", archive, str(tmp_path / "out"), "notes.txt")
    assert (tmp_path / "out" / "notes.txt").exists()
    assert "notes.txt" not in CliRunner().invoke(main, ["ls", archive]).output
    assert CliRunner().invoke(main, ["ls", archive, "--generation", "3"]).exit_code == 10


def test_deleted_files_can_be_kept(source: Path, night: Night, tmp_path: Path) -> None:
    """--keep-deleted shows the sum of all nights; the next run without it does not."""
    night()
    (source / "notes.txt").unlink()
    (source / "new.txt").write_text("new")
    assert night(keep_deleted=True).removed == 0
    assert {"notes.txt", "new.txt"} <= set(shown(tmp_path))
    assert night().removed == 1
    assert "notes.txt" not in shown(tmp_path)


def test_patterns_limit_what_is_missed(source: Path, night: Night, tmp_path: Path) -> None:
    """A run that looks at a part of the tree misses only files of that part."""
    night()
    shutil.rmtree(source / "scans")
    (source / "notes.txt").unlink()
    (source / "x.txt").write_text("x")
    assert night(exclude=("scans/old", "notes.txt")).removed == 2
    assert shown(tmp_path) == ["notes.txt", "scans", "scans/old", "scans/old/3.txt", "x.txt"]
    assert night(include=("scans", "x.txt")).removed == 3
    assert shown(tmp_path) == ["notes.txt", "x.txt"]
    with pytest.raises(UsageError, match="--allow-empty"):
        night(include=("notes.txt",))
    assert night(include=("notes.txt",), allow_empty=True).removed == 1
    assert shown(tmp_path) == ["x.txt"]
    with pytest.raises(UsageError, match="nothing in it matches"):
        night(include=("notes.txt",))


def test_directories_go_with_what_was_included(source: Path, night: Night, tmp_path: Path) -> None:
    """A directory that was packed for what is below it goes when that does, not before."""
    night(include=("1.txt", "3.txt"))
    assert shown(tmp_path) == ["scans", "scans/1.txt", "scans/old", "scans/old/3.txt"]
    (source / "scans/old/3.txt").unlink()
    night(include=("1.txt", "3.txt"))
    assert shown(tmp_path) == ["scans", "scans/1.txt", "scans/old"]
    (source / "scans/old").rmdir()
    night(include=("1.txt", "3.txt"))
    assert shown(tmp_path) == ["scans", "scans/1.txt", "scans/old"]
    night()
    assert "scans/old" not in shown(tmp_path)


def test_what_cannot_be_looked_at_is_not_gone(source: Path, night: Night, tmp_path: Path) -> None:
    """Nothing below a directory that cannot be read counts as removed, nor if it is the source."""
    night()
    known = present.Present.read(tmp_path / "a.archive", "bytes")
    nothing = plan.Scan((), (), ())
    gone = generation.gone(known, nothing, ["scans/old", "notes.txt"])
    assert gone.paths == {b"scans/1.txt", b"scans/2.txt"}
    assert [entry.path for entry in gone.removals([])] == [b"scans/1.txt", b"scans/2.txt"]
    assert not generation.gone(known, nothing, ["."]).paths


def test_a_file_that_fails_keeps_its_entry(
    source: Path, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed file that cannot be read tonight stays as it was, and is read again tomorrow."""
    night()
    edit_unseen(source / "notes.txt", b"Content of notes.txt")
    opened = Path.open

    def failing(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "notes.txt":
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        summary = night()
    assert [failure.path for failure in summary.failures] == ["notes.txt"]
    assert (restored(tmp_path) / "notes.txt").read_text() == "content of notes.txt"
    assert night().generation == 2
    assert (restored(tmp_path, 2) / "notes.txt").read_text() == "Content of notes.txt"


def test_an_empty_source_is_refused(source: Path, night: Night, tmp_path: Path) -> None:
    """A disk that is not mounted looks like a tree without files: that is refused."""
    night()
    shutil.rmtree(source)
    (source / "lost+found").mkdir(parents=True)
    for settings in ({}, {"dry_run": True}):
        with pytest.raises(UsageError, match=r"Is it mounted\?.*--allow-empty"):
            night(**settings)
    assert Archive.open(tmp_path / "a.archive").generation == 1
    assert night(keep_deleted=True).removed == 0
    assert night(allow_empty=True).removed == 6
    assert shown(tmp_path) == ["lost+found"]


# --- what is looked at -----------------------------------------------------------------------


def test_edits_under_kept_times_are_seen(source: Path, night: Night, tmp_path: Path) -> None:
    """Change times tell of an edit under the same size and modification time; else --checksum."""
    night()
    edit_unseen(source / "notes.txt", b"Content of notes.txt")
    assert night().generation == 2
    (tmp_path / "a.archive" / layout.SEEN).unlink()
    edit_unseen(source / "notes.txt", b"content of Notes.txt")
    assert night().generation is None
    assert night(checksum=True).generation == 3
    assert (restored(tmp_path) / "notes.txt").read_text() == "content of Notes.txt"


def test_a_link_that_points_elsewhere_is_seen(source: Path, night: Night, tmp_path: Path) -> None:
    """A symbolic link replaced under the same modification time is another one."""
    link = source / "link"
    for number, target in enumerate(("notes.txt", "elsewhere"), 1):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        os.utime(link, ns=(DAY, DAY), follow_symlinks=False)
        assert night().generation == number
    assert (restored(tmp_path) / "link").readlink() == Path("elsewhere")


def test_files_that_were_only_touched_are_read_once(
    source: Path, night: Night, tmp_path: Path
) -> None:
    """New change times of the same content add no generation, and count as seen from then on."""
    night()
    for path in source.rglob("*.txt"):
        path.chmod(0o600)
        path.chmod(0o644)
    notices(tmp_path)
    assert night().generation is None
    assert "read again" in notices(tmp_path)
    assert night().generation is None
    assert not notices(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "pipe"])
def test_hints_are_only_hints(source: Path, night: Night, tmp_path: Path, damage: str) -> None:
    """What was seen last, damaged or replaced by a pipe, counts as nothing seen."""
    night()
    path = tmp_path / "a.archive" / layout.SEEN
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-5]) if damage == "cut" else os.mkfifo(path)
    assert night().generation is None
    assert path.read_bytes() == data


@pytest.mark.parametrize("time_ns", [(1 << 63) + 10**9, -(1 << 63) - 10**9])
def test_times_out_of_range_are_clamped(
    source: Path, night: Night, tmp_path: Path, time_ns: int
) -> None:
    """A time that no archive can hold is kept as near as can be; it ended the job at its commit."""
    os.utime(source / "notes.txt", ns=(time_ns, time_ns))
    kept = (source / "notes.txt").stat().st_mtime_ns
    if -(1 << 63) <= kept < 1 << 63:
        pytest.skip("the file system does not hold such times")
    assert not night().failures
    assert "notes.txt: its modification time lies outside" in notices(tmp_path)
    [entry] = [e for e in open_archive(tmp_path / "a.archive").entries() if e.path == "notes.txt"]
    assert entry.mtime_ns == (layout.MAX_MTIME_NS if time_ns > 0 else layout.MIN_MTIME_NS)
    assert night().generation is None
    assert (restored(tmp_path) / "notes.txt").stat().st_mtime_ns == entry.mtime_ns
