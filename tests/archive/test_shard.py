"""Shards: named by their digest, written once, read from many threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archiver.archive import ArchiveWriter, ShardWriter, layout
from archiver.archive.shard import ShardReader, crc32c, remove_abandoned
from archiver.errors import ArchiverError, IntegrityError, UsageError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An archive that was started."""
    with ArchiveWriter.open(tmp_path / "a.archive"):
        return tmp_path / "a.archive"


def names(folder: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(path.name for path in folder.iterdir())


def n_descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_shard_is_its_payloads(place: Path) -> None:
    """A shard is the payloads in order, under the SHA-256 of its bytes."""
    with ShardWriter(place) as shard:
        assert shard.append(b"one") == (0, crc32c(b"one"))
        assert shard.append(b"") == (3, 0)
        assert shard.append(b"three") == (3, crc32c(b"three"))
        digest, size = shard.finish()
    assert size == 8
    assert digest == hashlib.sha256(b"onethree").digest()
    assert layout.shard_path(place, digest).read_bytes() == b"onethree"
    assert names(place / "wip") == ["tasks"]


def test_equal_payloads_are_there_once(place: Path) -> None:
    """What comes again is found again, unless it was taken back; tiny ones are not looked for."""
    tile, tiny = bytes(range(100)), b"tiny"
    with ShardWriter(place) as shard:
        assert shard.append(tile)[0] == shard.append(tile)[0] == 0
        assert [shard.append(tiny)[0] for _ in range(2)] == [100, 104]
        mark, late = shard.mark(), tile[::-1]
        assert shard.append(late)[0] == 108
        shard.rollback(mark)
        shard.append(b"something else")
        assert shard.append(late)[0] == 122
        assert shard.append(tile) == (0, crc32c(tile))
        digest, size = shard.finish()
    assert size == 222
    assert layout.shard_path(place, digest).read_bytes() == (
        tile + tiny + tiny + b"something else" + late
    )


def test_same_shard_twice_is_one_file(place: Path) -> None:
    """Writing a shard that is there already keeps one, and mends a damaged one."""
    for _ in range(2):
        with ShardWriter(place) as shard:
            shard.append(b"content")
            digest, _ = shard.finish()
        layout.shard_path(place, digest).write_bytes(b"CONTENT")
    with ShardWriter(place) as shard:
        shard.append(b"content")
        shard.finish()
    assert names(place / "shards") == [digest.hex()]
    assert layout.shard_path(place, digest).read_bytes() == b"content"


def test_error_leaves_nothing(place: Path) -> None:
    """A task that fails leaves neither a shard nor an unfinished file."""

    def fail() -> None:
        with ShardWriter(place) as shard:
            shard.append(b"content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(place / "wip") == ["tasks"]
    assert not names(place / "shards")


def test_needs_an_archive(tmp_path: Path) -> None:
    """A shard cannot be written where no archive was started."""
    with pytest.raises(UsageError, match="archive that is being written"):
        ShardWriter(tmp_path)


def test_only_abandoned_files_are_removed(place: Path) -> None:
    """Cleaning spares the shard of a live process and removes that of a dead one."""
    code = (
        "import os, sys, pathlib; from archiver.archive import ShardWriter\n"
        "shard = ShardWriter(pathlib.Path(sys.argv[1])); shard.append(b'lost'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    with ShardWriter(place) as shard:
        shard.append(b"kept")
        assert len(names(place / "wip")) == 3
        remove_abandoned(place)
        assert len(names(place / "wip")) == 2
        shard.finish()


def test_removed_under_the_writer(place: Path) -> None:
    """A shard whose unfinished file was taken away says so instead of vanishing."""
    with ShardWriter(place) as shard:
        next((place / "wip").glob("*.wip")).unlink()
        with pytest.raises(ArchiverError, match="run again"):
            shard.finish()


def test_reading_from_many_threads(place: Path) -> None:
    """Threads get the right bytes while descriptors are evicted under them, and none leaks."""
    shards = []
    for number in range(9):
        with ShardWriter(place) as shard:
            shard.append(bytes([number]) * 1000)
            shards.append(shard.finish())
    reader = ShardReader(place, n_open=2)

    def read(step: int) -> bool:
        digest, size = shards[step % 9]
        return reader.read(digest, size, (step % 500, 300)) == bytes([step % 9]) * 300

    before = n_descriptors()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(2000)))
        assert n_descriptors() <= before + 2 + 8
    reader.close()
    assert n_descriptors() <= before


def test_size_and_kind_are_checked(place: Path) -> None:
    """A cut shard, a missing one and a pipe in its place are IntegrityErrors, none blocks."""
    with ShardWriter(place) as shard:
        shard.append(b"content")
        digest, size = shard.finish()
    path = layout.shard_path(place, digest)
    path.write_bytes(b"conten")
    with pytest.raises(IntegrityError, match="expected 7 bytes, found 6"):
        ShardReader(place).read(digest, size, (0, 7))
    path.unlink()
    with pytest.raises(IntegrityError, match="found nothing"):
        ShardReader(place).read(digest, size, (0, 7))
    os.mkfifo(path)
    with pytest.raises(IntegrityError, match="regular file"):
        ShardReader(place).read(digest, size, (0, 7))
