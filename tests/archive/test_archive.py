"""Writing and reading: generations, views, deduplication, lock, and what plain zarr sees."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from builder import (
    GENERATIONS,
    MODEL,
    SETTINGS,
    add_generation,
    file_entry,
    folder_entry,
    make_shard,
    samples_of,
    sha256,
)

from archiver.archive import (
    Archive,
    ArchiveWriter,
    EntryRecord,
    ImageRecord,
    ResidueRecord,
    ShardRecord,
    ShardWriter,
    check_structure,
    layout,
)
from archiver.archive.records import removal
from archiver.archive.shard import crc32c
from archiver.archive.tables import TABLES
from archiver.errors import ArchiverError, LockedError, NotFoundError, UsageError


def contents(archive: Archive) -> dict[bytes, bytes]:
    """Return path -> content of every file, by way of its residue."""
    found = {}
    for entry in archive.entries():
        if entry.object >= 0:
            [row] = archive.residues(entry.object)
            found[entry.path] = archive.payload(
                *(int(row[name]) for name in ("shard", "offset", "length", "crc32c"))
            )
    return found


def test_tables_are_what_the_zarr_library_writes(archive: Path, tmp_path: Path) -> None:
    """Every file of every table, byte for byte, and none beside them."""
    written = [path.parent for path in archive.rglob("zarr.json") if (path.parent / "c").exists()]
    assert len(written) > 10
    for folder in written:
        values = zarr.open_array(folder, mode="r")[...]
        again = tmp_path / "again" / folder.relative_to(archive)
        again.mkdir(parents=True)
        (again / "zarr.json").write_bytes((folder / "zarr.json").read_bytes())
        with zarr.config.set({"array.write_empty_chunks": True}):
            zarr.open_array(again, mode="r+", zarr_format=3)[...] = values
        files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
        assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_all_that_went_in_comes_out(archive: Path) -> None:
    """Entries, objects, images, tiles, residues, payloads and models read as they were written."""
    with Archive.open(archive) as opened:
        assert contents(opened) == GENERATIONS[0] | GENERATIONS[1]
        entry = opened.entry(b"scans/odd \xff name")
        assert (entry.kind, entry.mode, entry.mtime_ns) == (layout.FILE, 0o644, 5)
        assert opened.entry("scans/odd \udcff name") == entry
        stored = opened.object(entry.object)
        assert stored.sha256 == stored.rebuilt_sha256 == sha256(b"gamma")
        assert (stored.size, stored.format, stored.fidelity, stored.note) == (5, 1, 0, "")
        [image] = opened.images(entry.object)
        assert opened.image(image) == ImageRecord(48, 128, 3, "<u2", 12, 64, 64)
        tiles = opened.tiles(image)
        assert tiles["column"].tolist() == [0, 64]
        assert tiles["model"].tolist() == [-1, 0]
        assert [
            opened.payload(*(int(tile[name]) for name in ("shard", "offset", "length", "crc32c")))
            for tile in tiles
        ] == samples_of(b"gamma")
        assert opened.model(0) == MODEL
        assert [(model.name, model.size) for model in opened.models] == [("tiny", len(MODEL))]
        assert [one["settings"] for one in opened.generations] == [SETTINGS, SETTINGS]
        assert len(list(opened.object_sha256s())) == opened.n_objects == 4
    assert not check_structure(archive)


def test_a_generation_as_it_was(archive: Path) -> None:
    """Every generation can be opened as it was when it was committed."""
    assert contents(Archive.open(archive, generation=1)) == GENERATIONS[0]
    assert Archive.open(archive).generation == 2
    for number in (0, 3):
        with pytest.raises(NotFoundError, match="1 to 2"):
            Archive.open(archive, generation=number)


def test_patterns(archive: Path) -> None:
    """A pattern is a path, a directory for all below, or has wildcards."""
    opened = Archive.open(archive)

    def found(*patterns: str) -> list[bytes]:
        return [entry.path for entry in opened.entries(*patterns)]

    below = [b"scans", b"scans/b.png", b"scans/copy.png", b"scans/odd \xff name"]
    assert found("scans") == found("scans/") == below
    assert found("*.png") == [b"a.png", b"scans/b.png", b"scans/copy.png"]
    assert found("a.png", "*odd*") == [b"a.png", b"scans/odd \xff name"]
    assert not found("absent")
    with pytest.raises(NotFoundError, match="absent"):
        opened.entry("absent")


def test_same_content_is_stored_once(archive: Path) -> None:
    """A copy, in the same commit or later, refers to the first object; its shard is not kept."""
    opened = Archive.open(archive)
    assert opened.entry("scans/copy.png").object == opened.entry("scans/b.png").object
    with ArchiveWriter.open(archive) as writer:
        again = [make_shard(archive, [b"beta"]), make_shard(archive, [b"new", b"gamma"])]
        again.append(make_shard(archive, [b"new"]))
        writer.commit([file_entry(b"n", b"new")], again, SETTINGS)
    opened = Archive.open(archive)
    assert opened.n_objects == 5
    assert contents(opened)[b"n"] == b"new"
    assert not check_structure(archive)
    with ArchiveWriter.open(archive):
        pass
    kept = {path.name for path in (archive / "shards").iterdir()}
    assert kept == {digest.tobytes().hex() for digest in opened.index.whole("shards", "sha256")}


def test_better_fidelity_replaces(tmp_path: Path) -> None:
    """A content kept by its samples gives way to the same content kept by its bytes."""
    path = tmp_path / "a.archive"
    for fidelity in (1, 0, 1):
        with ArchiveWriter.open(path) as writer:
            writer.add_model("tiny", MODEL)
            shard = make_shard(path, [b"one", b"%d" % fidelity], fidelity=fidelity)
            writer.commit([file_entry(b"f", b"one")], [shard], SETTINGS)
        opened = Archive.open(path)
        assert opened.object(opened.entry("f").object).fidelity == (
            1 if opened.n_objects == 2 else 0
        )
    assert not check_structure(path)


def test_nothing_new_adds_nothing(archive: Path) -> None:
    """Committing what is there already writes no generation and touches no file but the lock."""
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*") if path.is_file()}
    assert add_generation(archive, GENERATIONS[0] | GENERATIONS[1]) == 2
    after = {path: path.stat().st_mtime_ns for path in archive.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before[path]} <= {archive / "lock"}
    assert before.keys() == after.keys()


def test_a_removal_takes_all_below(archive: Path) -> None:
    """What is removed is gone from then on, comes back as something new, and stays as it was."""
    with ArchiveWriter.open(archive) as writer:
        assert writer.commit([removal(b"scans"), removal(b"absent")], [], SETTINGS) == 3
        assert writer.commit([removal(b"scans"), removal(b"scans/b.png")], [], SETTINGS) == 3
        with pytest.raises(UsageError, match="below a file"):
            writer.commit([removal(b"a.png"), folder_entry(b"a.png/y")], [], SETTINGS)
        back = [folder_entry(b"scans"), replace(file_entry(b"scans/c", b"beta"), link=7)]
        assert writer.commit(back, [], SETTINGS) == 4
        assert writer.current_entries()[b"scans/c"] == back[1]
    shown = [
        {entry.path for entry in Archive.open(archive, generation=n).entries()} for n in (3, 4)
    ]
    assert shown == [{b"a.png"}, {b"a.png", b"scans", b"scans/c"}]
    assert contents(Archive.open(archive, generation=2)) == GENERATIONS[0] | GENERATIONS[1]
    assert Archive.open(archive).commits[2].size("entries").rows == 1
    assert not check_structure(archive)


def test_file_and_directory_change_places(tmp_path: Path) -> None:
    """What a newer file or directory replaced is no longer shown; nothing lies below a file."""
    path = tmp_path / "a.archive"
    steps = [{b"x/y": b"1", b"x/z/w": b"2"}, {b"x": b"3"}, {b"x/new": b"4"}, {b"x/new/n": b"5"}]
    shown = [{b"x/y", b"x/z/w"}, {b"x"}, {b"x/new"}, {b"x/new/n"}]
    for files, expected in zip(steps, shown, strict=True):
        add_generation(path, files)
        assert set(contents(Archive.open(path))) == expected
    assert set(contents(Archive.open(path, generation=1))) == shown[0]


@pytest.mark.parametrize(
    "name", [b"", b"/etc/passwd", b"a//b", b"a/", b"../a", b"a/../b", b"./a", b"a\0b", b".", b"a/."]
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, name: bytes) -> None:
    """A path that is absolute, empty, or climbs cannot be written."""
    with (
        ArchiveWriter.open(tmp_path / "a.archive") as writer,
        pytest.raises(UsageError, match="is refused"),
    ):
        writer.commit([folder_entry(name)], [], {})


def test_entries_that_contradict_each_other_are_refused(archive: Path) -> None:
    """The same path twice, a path below a file, or content that is not there: nothing happens."""
    link = EntryRecord(b"l", layout.SYMLINK, 0o777, 0, sha256(b"beta"))
    below = file_entry(b"l/etc/passwd", b"beta")
    with ArchiveWriter.open(archive) as writer:
        for wrong in ([link, link], [link, below], [file_entry(b"n", b"unknown")]):
            with pytest.raises(UsageError):
                writer.commit(wrong, [], {})
    assert Archive.open(archive).generation == 2
    assert not check_structure(archive)


def test_records_that_make_no_sense_are_refused(archive: Path) -> None:
    """An extent outside its shard, an unknown dtype, a model nobody added: nothing is committed."""
    with ArchiveWriter.open(archive) as writer:
        shard = make_shard(archive, [b"fresh"])
        record = shard.objects[0]
        for name, value in (("offset", 10**9), ("image", 1), ("model", 1), ("width", 99)):
            tiles = record.tiles.copy()
            tiles[name][1] = value
            wrong = replace(shard, objects=(replace(record, tiles=tiles),))
            with pytest.raises(ArchiverError):
                writer.commit([], [wrong], {})
        image = replace(record.images[0], dtype=">u2")
        wrong = replace(shard, objects=(replace(record, images=(image,)),))
        with pytest.raises(UsageError):
            writer.commit([], [wrong], {})
        with pytest.raises(UsageError, match="add_model"):
            writer.commit([], [replace(shard, models=(b"m" * 32,))], {})
        with pytest.raises(UsageError, match="settings"):
            writer.commit([folder_entry(b"n")], [], {"x": float("nan")})
    assert Archive.open(archive).generation == 2
    assert not check_structure(archive)


def test_one_writer(archive: Path) -> None:
    """A second writer is told who holds the archive; readers are not disturbed."""
    with ArchiveWriter.open(archive):
        with pytest.raises(LockedError, match=r"process \d+ on .*wait for it to finish"):
            ArchiveWriter.open(archive)
        assert contents(Archive.open(archive))
    with ArchiveWriter.open(archive, wait_s=1):
        pass


def test_other_directories_are_left_alone(tmp_path: Path) -> None:
    """A directory with foreign files, or a file, is not turned into an archive."""
    (tmp_path / "thesis.tex").write_text("x")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UsageError, match="new or empty"):
            ArchiveWriter.open(path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_empty_archive(tmp_path: Path) -> None:
    """Nothing at all can be committed, once; before that there is no archive."""
    path = tmp_path / "a.archive"
    with pytest.raises(NotFoundError, match="no archive here"):
        Archive.open(path)
    with ArchiveWriter.open(path) as writer:
        with pytest.raises(NotFoundError, match="nothing was committed"):
            Archive.open(path)
        assert writer.current_entries() == {}
        assert [writer.commit([], [], {}), writer.commit([], [], {})] == [1, 1]
    assert not list(Archive.open(path).entries())
    assert not check_structure(path)


def test_current_entries_are_what_was_committed(archive: Path) -> None:
    """The writer gives back the records of the newest generation."""
    with ArchiveWriter.open(archive) as writer:
        current = writer.current_entries()
        assert current[b"a.png"] == file_entry(b"a.png", b"alpha, second state")
        assert current[b"scans"] == folder_entry(b"scans")
        assert len(current) == 5


def test_task_records_are_kept_until_the_commit(archive: Path) -> None:
    """A finished task is known to the next run, its shard and model kept; a bad record is not."""
    with ArchiveWriter.open(archive) as writer:
        model = writer.add_model("other", b"other model")
        shard = replace(make_shard(archive, [b"fresh"]), models=(sha256(MODEL), model))
        writer.record("t1", shard)
        writer.record("t2", make_shard(archive, [b"lost"]))
        writer.record("t3", make_shard(archive, [b"torn"]))
        with pytest.raises(UsageError):
            writer.record("../t4", shard)
    (archive / "wip/tasks/t2.json").write_text("{}")
    data = (archive / "wip/tasks/t3.json").read_bytes()
    (archive / "wip/tasks/t3.json").write_bytes(data[:-9])
    with ArchiveWriter.open(archive) as writer:
        assert writer.finished("t1") == shard
        assert writer.finished("t2") is writer.finished("t3") is writer.finished("t4") is None
        assert (archive / "models" / model.hex()).is_file()
        assert writer.commit([file_entry(b"f", b"fresh")], [shard], {}) == 3
        assert writer.finished("t1") is None
    assert len(list((archive / "shards").iterdir())) == 5
    assert not (archive / "models" / model.hex()).exists()  # no tile used it
    assert not check_structure(archive)


def test_totals(archive: Path) -> None:
    """Totals are the sizes on disk, by kind; work under way counts apart."""
    (archive / "lock").write_text("")
    files = {path: path.stat().st_size for path in archive.rglob("*") if path.is_file()}
    totals = Archive.open(archive).totals()
    assert totals.archive == sum(files.values())
    assert totals.models == len(MODEL)
    with ShardWriter(archive) as shard:
        shard.append(b"under way")
        shard.finish()
    assert Archive.open(archive).totals().uncommitted == len(b"under way")


def test_plain_zarr_reads_every_column(archive: Path) -> None:
    """zarr alone opens the archive and finds every column with the values that we read."""
    root = zarr.open_group(archive, mode="r")
    opened = Archive.open(archive)
    assert root.attrs["format"] == "archiver"
    assert root.attrs["generation"] == 2
    columns = {name for name, _ in root["manifest"].members(max_depth=None)}
    for place, one in enumerate(opened.commits):
        for table in one.tables:
            for column in TABLES[table]:
                name = f"{place + 1:06d}/{table}/{column.name}"
                values = root["manifest"][name][...]
                assert np.array_equal(values, opened.index.table(place, table)[column.name])
                assert name in columns


def test_small_overhead(tmp_path: Path) -> None:
    """The manifest of one file takes less than 18.5 KB, and one more file less than 10 KB."""
    path = tmp_path / "a.archive"
    add_generation(path, {b"one.png": b"1"})
    first = Archive.open(path).totals().manifest
    assert first < 18_500
    with ArchiveWriter.open(path) as writer:
        with ShardWriter(path) as shard:
            shard.append(b"plain")
            digest, size = shard.finish()
        residue = ResidueRecord(0, size, size, crc32c(b"plain"), 0)
        record = make_shard(path, [b"plain"]).objects[0]
        record = replace(record, images=(), tiles=record.tiles[:0], residues=(residue,))
        shard = ShardRecord(digest, size, (record,))
        writer.commit([file_entry(b"two", b"plain")], [shard], SETTINGS)
    assert Archive.open(path).totals().manifest - first < 10_000


def test_importing_stays_light() -> None:
    """Neither the package nor reading an archive loads zarr."""
    code = "import sys, archiver.archive; print('zarr' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
