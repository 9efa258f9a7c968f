"""Whole jobs: what goes in comes out, however many workers, and again with nothing new."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import poison
import pytest
from trees import make_tree, snapshot

from archiver.archive import layout
from archiver.archive.writer import ArchiveWriter
from archiver.codec.inference.engine import Engine
from archiver.errors import NotFoundError, UsageError
from archiver.jobs import plan, run, work
from archiver.jobs.events import Committed, Event, FileDone, FileFailed, Planned
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

HERE = PackSettings(workers=0)


def names(folder: Path) -> list[str]:
    """Return the names in a directory."""
    return [path.name for path in folder.iterdir()]


def shards(archive: Path) -> list[str]:
    """Return the names of all shards: their digests."""
    return sorted(path.name for path in (archive / layout.SHARDS).iterdir())


def stored(archive: Path) -> dict[str, object]:
    """Return all of an archive, by path, but for the times in its commit documents."""
    found: dict[str, object] = {}
    for path in archive.rglob("*"):
        name = path.relative_to(archive)
        if path.is_dir() or name.parts[0] in (layout.LOCK, layout.WIP):
            continue
        found[str(name)] = path.read_bytes()
        document = json.loads(path.read_bytes()) if path.name == "zarr.json" else {}
        if attributes := document.get("attributes"):
            del attributes["created"], attributes["check"], attributes["settings"]["seconds"]
            found[str(name)] = attributes
    return found


@pytest.fixture
def archive(tree: Path, tmp_path: Path) -> Path:
    """The tree, packed."""
    run.pack(tree, tmp_path / "a.archive", HERE)
    return tmp_path / "a.archive"


def test_round_trip(tree: Path, tmp_path: Path) -> None:
    """Every file, link, directory, mode and time comes back."""
    events: list[Event] = []
    summary = run.pack(tree, tmp_path / "a.archive", HERE, events.append)
    assert not summary.failures
    assert summary.generation == 1
    assert summary.files == sum(kind == "file" for kind, *_ in snapshot(tree).values())
    assert summary.archive_bytes == summary.payload_bytes + summary.model_bytes
    assert sum(summary.tiles.values()) > 0
    assert {totals.name for totals in summary.formats} >= {"PNG", "TIFF", "other"}
    done = [event for event in events if isinstance(event, FileDone)]
    assert len(done) == summary.files
    assert isinstance(events[0], Planned)
    assert events[-1] == Committed(1)

    unpacked = run.unpack(tmp_path / "a.archive", tmp_path / "out", workers=0)
    assert not unpacked.failures
    assert unpacked.files == summary.files
    assert snapshot(tmp_path / "out") == snapshot(tree)


@pytest.mark.parametrize("depth", ["structure", "samples", "files"])
def test_verify_finds_nothing_wrong(archive: Path, depth: str) -> None:
    """A fresh archive verifies at every depth."""
    summary = run.verify(archive, depth=depth, workers=0)
    assert not summary.problems
    assert (summary.tiles > 0) == (depth != "structure")


def test_nothing_new_commits_nothing(tree: Path, archive: Path) -> None:
    """A second run reads no file and adds no generation."""
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*") if path.is_file()}
    summary = run.pack(tree, archive, HERE)
    assert summary.generation is None
    assert summary.unchanged == summary.files
    after = {path: path.stat().st_mtime_ns for path in archive.rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.name != "lock"} == {
        p: t for p, t in before.items() if p.name != "lock"
    }


def test_second_generation_holds_what_changed(tree: Path, archive: Path, tmp_path: Path) -> None:
    """Changed files are superseded, moved content is not coded again, the rest is kept."""
    (tree / "notes.txt").write_text("stained on Tuesday\n", encoding="utf-8")
    (tree / "slides" / "1.png").rename(tree / "moved.png")
    summary = run.pack(tree, archive, HERE)
    assert summary.generation == 2
    assert summary.unchanged == summary.files - 2
    assert not summary.tiles
    (tree / "slides" / "1.png").write_bytes((tree / "moved.png").read_bytes())
    run.unpack(archive, tmp_path / "out", ["notes.txt", "moved.png"], workers=0)
    assert (tmp_path / "out" / "notes.txt").read_bytes() == (tree / "notes.txt").read_bytes()
    assert (tmp_path / "out" / "moved.png").read_bytes() == (tree / "moved.png").read_bytes()
    assert sorted(names(tmp_path / "out")) == ["moved.png", "notes.txt"]


@pytest.mark.slow
def test_shards_do_not_depend_on_workers(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice in this process, one worker or two: the same archive, byte for byte, but for times."""
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 4096)
    (tree / "again.tif").hardlink_to(tree / "slides" / "1.tif")
    found = []
    for workers in (0, 0, 1, 2):
        archive = tmp_path / f"{workers}.archive"
        shutil.rmtree(archive, ignore_errors=True)
        run.pack(tree, archive, PackSettings(workers=workers))
        found.append(stored(archive))
    assert found[0] == found[1] == found[2] == found[3]
    assert len(shards(archive)) > 1
    assert not run.verify(tmp_path / "2.archive", workers=2).problems
    run.unpack(tmp_path / "1.archive", tmp_path / "out", workers=2)
    assert snapshot(tmp_path / "out") == snapshot(tree)


@pytest.mark.slow
def test_poison_files_are_found_and_left_out(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that kills its worker and one that hits a bug are failures; all others are packed."""
    monkeypatch.setattr(work, "run_task", poison.run_poisoned)
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 4096)
    summary = run.pack(tree, tmp_path / "a.archive", PackSettings(workers=2))
    assert {failure.path for failure in summary.failures} == {"notes.txt", "slides/1.tif"}
    assert all("cannot be packed" in failure.message for failure in summary.failures)
    monkeypatch.undo()
    run.unpack(tmp_path / "a.archive", tmp_path / "out", workers=0)
    expected = snapshot(tree)
    del expected["notes.txt"], expected["slides/1.tif"]
    assert snapshot(tmp_path / "out") == expected


def test_finished_tasks_are_not_repeated(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails before its commit leaves its shards to the next one."""
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 4096)
    archive = tmp_path / "a.archive"

    def fail(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveWriter, "commit", fail)
        with pytest.raises(KeyboardInterrupt):
            run.pack(tree, archive, HERE)
    finished = shards(archive)
    assert finished
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "encode", fail)
        summary = run.pack(tree, archive, HERE)
    assert summary.generation == 1
    assert shards(archive) == finished
    assert not run.verify(archive, workers=0).problems


def test_dry_run_writes_nothing(tree: Path, tmp_path: Path) -> None:
    """A dry run scans and plans."""
    summary = run.pack(tree, tmp_path / "a.archive", PackSettings(dry_run=True))
    assert summary.generation is None
    assert summary.files > 0
    assert not (tmp_path / "a.archive").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_is_reported(tree: Path, tmp_path: Path) -> None:
    """One file that cannot be read is a failure; the others are packed."""
    (tree / "notes.txt").chmod(0)
    summary = run.pack(tree, tmp_path / "a.archive", HERE)
    assert [failure.path for failure in summary.failures] == ["notes.txt"]
    assert not run.verify(tmp_path / "a.archive", workers=0).problems


def test_unpack_refuses_other_content(tree: Path, archive: Path, tmp_path: Path) -> None:
    """A file of the same name with other content is named and left alone; nothing is written."""
    dest = tmp_path / "out"
    dest.mkdir()
    (dest / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        run.unpack(archive, dest, workers=0)
    assert names(dest) == ["notes.txt"]
    assert (dest / "notes.txt").read_text(encoding="utf-8") == "mine"
    (dest / "notes.txt").write_bytes((tree / "notes.txt").read_bytes())
    run.unpack(archive, dest, workers=0)
    assert snapshot(dest) == snapshot(tree)
    run.unpack(archive, dest, workers=0)
    assert snapshot(dest) == snapshot(tree)


def test_unpack_never_follows_links(archive: Path, tmp_path: Path) -> None:
    """A link in DEST where a directory belongs is refused, not written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slides").symlink_to(outside)
    with pytest.raises(UsageError, match="slides"):
        run.unpack(archive, tmp_path / "out", workers=0)
    assert not names(outside)


def test_unknown_pattern(archive: Path, tmp_path: Path) -> None:
    """A pattern that matches nothing is an error that names it."""
    with pytest.raises(NotFoundError, match="absent"):
        run.unpack(archive, tmp_path / "out", ["absent"], workers=0)


def test_damage_is_found_and_the_rest_restored(archive: Path, tree: Path, tmp_path: Path) -> None:
    """A flipped byte costs the files that use it; verify and unpack name them and go on."""
    entry = next(e for e in open_archive(archive).entries() if e.path == "slides/1.png")
    [shard] = (archive / layout.SHARDS).iterdir()
    tile = next(iter(entry._restorer.images(entry.object)[0].tiles.values()))
    data = bytearray(shard.read_bytes())
    data[tile.offset + 3] ^= 1
    shard.write_bytes(data)
    for depth in ("samples", "files"):
        summary = run.verify(archive, depth=depth, workers=0)
        assert [problem.entries for problem in summary.problems] == [("slides/1.png",)]
        assert "backup" in summary.problems[0].advice
    events: list[Event] = []
    unpacked = run.unpack(archive, tmp_path / "out", workers=0, on_event=events.append)
    assert [failure.path for failure in unpacked.failures] == ["slides/1.png"]
    assert any(isinstance(event, FileFailed) for event in events)
    expected = snapshot(tree)
    del expected["slides/1.png"]
    assert snapshot(tmp_path / "out") == expected


def test_empty_source(tmp_path: Path) -> None:
    """An empty directory packs into a valid, empty archive."""
    (tmp_path / "source").mkdir()
    summary = run.pack(tmp_path / "source", tmp_path / "a.archive", HERE)
    assert summary.generation == 1
    assert not run.verify(tmp_path / "a.archive", workers=0).problems


def test_order_of_trees(tmp_path: Path) -> None:
    """The same tree made twice gives the same shards."""
    found = []
    for name in ("one", "two"):
        run.pack(make_tree(tmp_path / name), tmp_path / f"{name}.archive", HERE)
        found.append(shards(tmp_path / f"{name}.archive"))
    assert found[0] == found[1]
