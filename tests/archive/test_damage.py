"""Damage of any file: an ArchiverError or the right bytes, and a problem that names it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from builder import GENERATIONS, sha256

from archiver.archive import Archive, ArchiveWriter, Problem, check_structure, layout
from archiver.errors import ArchiverError, FormatError, IntegrityError, NotFoundError

CONTENTS = GENERATIONS[0] | GENERATIONS[1]
BY_DIGEST = {sha256(content): content for content in CONTENTS.values()}
OPERATIONS = ("flip", "flip bit", "cut", "empty", "longer", "splice", "delete", "directory")


def committed(archive: Path) -> list[Path]:
    """Return every file of an archive that a generation depends on."""
    return sorted(p for p in archive.rglob("*") if p.is_file() and p.name != layout.LOCK)


def damage(path: Path, operation: str, rng: random.Random, other: bytes) -> None:
    """Do one kind of damage to a file; the result differs from what was there."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    path.unlink()
    if operation == "directory":
        path.mkdir()
        return
    if operation == "flip":
        data[at] ^= rng.randrange(1, 256)
    elif operation == "flip bit":
        data[at] ^= 1 << rng.randrange(8)
    elif operation in ("cut", "empty"):
        data = data[: at if operation == "cut" else 0]
    elif operation == "longer":
        data += bytes([data[at]])
    elif operation == "splice":
        data[at:] = other if other != data[at:] else b"spliced"
    if operation != "delete":
        path.write_bytes(data)


def cases(archive: Path, seed: int) -> Iterator[tuple[Path, str, random.Random]]:
    """Yield (file, operation): one operation for each file, all for the vital ones."""
    rng = random.Random(seed)
    for path in committed(archive):
        is_vital = path.parent in (archive, archive / "shards", archive / "models")
        wanted = OPERATIONS if is_vital else rng.sample(OPERATIONS, 1)
        for operation in wanted:
            yield path, operation, rng


def read_all(archive: Path, generation: int | None = None) -> dict[bytes, bytes]:
    """Return the content of every path that can be read; anything but an ArchiverError escapes."""
    found: dict[bytes, bytes] = {}
    try:
        opened = Archive.open(archive, generation=generation)
        entries = [entry for entry in opened.entries() if entry.object >= 0]
    except ArchiverError as error:
        check_message(error)
        return found
    for entry in entries:
        try:
            assert opened.model(0)
            for image in opened.images(entry.object):
                for tile in opened.tiles(image):
                    opened.payload(*(int(tile[n]) for n in ("shard", "offset", "length", "crc32c")))
            [row] = opened.residues(entry.object)
            found[entry.path] = opened.payload(
                *(int(row[n]) for n in ("shard", "offset", "length", "crc32c"))
            )
            assert opened.object(entry.object).sha256 == sha256(found[entry.path])
        except ArchiverError as error:
            check_message(error)
    opened.close()
    return found


def check_message(error: ArchiverError) -> None:
    """A message ends with the next step."""
    assert str(error).rpartition("; ")[2]


def names_it(problem: Problem, path: Path) -> bool:
    """Whether a problem is about a file, or about the folder that holds it."""
    text = f"{problem.where} {problem.found}"
    return any(str(place) in text for place in (path, *path.parents[: len(path.parts) - 4]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_any_damage_to_any_file(made_once: Path, tmp_path: Path, seed: int) -> None:
    """Flip, cut, splice, replace or delete any one file: refused by name, or the right bytes."""
    archive = tmp_path / "a.archive"
    shutil.copytree(made_once, archive)
    others = [path.read_bytes()[-50:] for path in committed(archive)]
    for path, operation, rng in cases(archive, seed):
        original = path.read_bytes()
        damage(path, operation, rng, rng.choice(others))
        read = read_all(archive)
        assert read.items() <= CONTENTS.items(), (path, operation)
        try:
            problems = check_structure(archive)
        except (FormatError, NotFoundError) as error:
            check_message(error)
            has_excuse = path.name == "zarr.json"
            assert has_excuse
        else:
            assert any(names_it(problem, path) for problem in problems), (path, operation, problems)
            assert all(p.advice and p.found and p.expected for p in problems)
            check_affected(archive, path, problems, read)
        if path.is_dir():
            path.rmdir()
        path.write_bytes(original)
    assert read_all(archive) == CONTENTS
    assert not check_structure(archive)


def check_affected(
    archive: Path, path: Path, problems: list[Problem], read: dict[bytes, bytes]
) -> None:
    """Damage to one shard hits the paths that its problems list, and no others."""
    if path.parent != archive / "shards":
        return
    hit = {os.fsencode(name) for problem in problems for name in problem.entries}
    assert CONTENTS.keys() - read.keys() <= hit
    if path.exists() and len(hit) < len(CONTENTS):
        assert read.items() >= {n: c for n, c in CONTENTS.items() if n not in hit}.items()


def test_damage_stays_in_its_generation(archive: Path) -> None:
    """With the newest entries damaged the generation before still reads completely."""
    path = layout.generation_path(archive, 2) / "entries" / "object" / "c" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="entries/object/c/0"):
        list(Archive.open(archive).entries())
    assert read_all(archive, generation=1) == GENERATIONS[0]


def test_root_is_restored_as_the_message_says(archive: Path) -> None:
    """The command in the message restores a damaged, cut or missing root, byte for byte."""
    root = archive / "zarr.json"
    original = root.read_bytes()
    changed = original.replace(b'"tile":64', b'"tile":65')
    for data in (changed, original[:-30], b"{}", b"[" * 5000, b"\xff", b"", None):
        root.unlink()
        if data is not None:
            root.write_bytes(data)
        with pytest.raises(IntegrityError, match="run `cp ") as caught:
            Archive.open(archive)
        if data is not None:
            with pytest.raises(IntegrityError, match="run `cp "):
                ArchiveWriter.open(archive)
        command = str(caught.value).rpartition("run `cp ")[2].partition("`")[0].split()
        shutil.copyfile(*command)
        assert root.read_bytes() == original
    assert read_all(archive) == CONTENTS


def test_copy_of_the_root_is_restored_as_the_message_says(archive: Path) -> None:
    """A damaged copy of the root is refused with the command that mends it."""
    copy = layout.generation_path(archive, 2) / "zarr.json"
    copy.write_bytes(copy.read_bytes()[:-1])
    [problem] = check_structure(archive)
    command = problem.advice.partition("`cp ")[2].partition("`")[0].split()
    shutil.copyfile(*command)
    assert not check_structure(archive)


def test_strangers_are_named(archive: Path) -> None:
    """A file that does not belong to manifest, models or shards is refused or reported by name."""
    places = ["shards/x", "models/README", "manifest/notes", "manifest/000001/extra"]
    places += ["manifest/000002/tiles/x", "manifest/000001/images/shape/c/9"]
    for place in places:
        path = archive / place
        path.write_bytes(b"")
        [problem] = check_structure(archive)
        assert str(path) in problem.where + problem.found
        assert "move it elsewhere" in problem.advice
        path.unlink()
    assert not check_structure(archive)


def test_links_and_pipes_are_refused(archive: Path) -> None:
    """A symbolic link or a pipe in place of a manifest file neither blocks nor is followed."""
    for place in ("manifest/000001/entries/kind/c/0", "manifest/000001/tiles/zarr.json"):
        path = archive / place
        data = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert any(str(path) in problem.found for problem in check_structure(archive))
        path.unlink()
        path.symlink_to("/dev/zero")
        assert any(str(path) in problem.found for problem in check_structure(archive))
        path.unlink()
        path.write_bytes(data)


def test_structure_without_reading_shards(archive: Path) -> None:
    """Without reading the shards, sizes are compared and contents are not."""
    entry = Archive.open(archive).entry("a.png")
    [row] = Archive.open(archive).residues(entry.object)
    shard = Archive.open(archive).index.whole("shards", "sha256")[int(row["shard"])].tobytes()
    path = layout.shard_path(archive, shard)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    assert not check_structure(archive, read_shards=False)
    [problem] = check_structure(archive)
    assert problem.entries == ("a.png",)
    path.write_bytes(data[:-1])
    [problem] = check_structure(archive, read_shards=False)
    assert problem.entries == ("a.png",)


def test_message_of_a_damaged_payload_says_it_all(archive: Path) -> None:
    """Shard, place, both checksums, the entry and the next step are in the message."""
    opened = Archive.open(archive)
    [row] = opened.residues(opened.entry("scans/b.png").object)
    extent = [int(row[name]) for name in ("shard", "offset", "length", "crc32c")]
    path = layout.shard_path(archive, opened.index.whole("shards", "sha256")[extent[0]].tobytes())
    data = bytearray(path.read_bytes())
    data[extent[1]] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        opened.payload(*extent)
    for part in (str(path), f"payload at {extent[1]}", "CRC-32C", "scans/b.png", "; restore the"):
        assert part in str(caught.value)
