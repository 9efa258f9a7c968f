"""A model that needs another one: both kept, both listed, damage of either names its entries."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from builder import file_entry, make_shard, sha256

from archiver.archive import layout
from archiver.archive.check import check_structure
from archiver.archive.model_files import ModelInfo, info_of, parsed
from archiver.archive.reader import Archive
from archiver.archive.records import ShardRecord
from archiver.archive.writer import ArchiveWriter
from archiver.errors import UsageError


def model_file(version: int, **header: object) -> bytes:
    """Return a model file as far as the archive reads it."""
    text = json.dumps(header).encode()
    return struct.pack("<8sHHI", b"ARCMODEL", version, 0, len(text)) + text + b"body" * 9


BASE = model_file(1, name="base")
DELTA = model_file(2, name="tuned", base=sha256(BASE).hex())


def shard_of(archive: Path, content: bytes, *models: bytes) -> ShardRecord:
    """Return a finished shard with one content whose tiles use the first of ``models``."""
    return replace(make_shard(archive, [content]), models=tuple(map(sha256, models)))


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """An archive of one file coded with a base, and one with a model that differs from it."""
    path = tmp_path / "a.archive"
    with ArchiveWriter.open(path) as writer:
        for name, data in (("tuned", DELTA), ("base", BASE)):
            writer.add_model(name, data)
        shards = [shard_of(path, b"one", DELTA, BASE), shard_of(path, b"two", BASE)]
        writer.commit([file_entry(b"one", b"one"), file_entry(b"two", b"two")], shards, {})
    return path


def test_the_base_is_listed_with_its_difference(tmp_path: Path) -> None:
    """Though no tile names it; it stays when others are removed, and in later generations."""
    path = tmp_path / "a.archive"
    with ArchiveWriter.open(path) as writer:
        for name, data in (("tuned", DELTA), ("base", BASE), ("other", b"unused")):
            writer.add_model(name, data)
        writer.commit([file_entry(b"f", b"one")], [shard_of(path, b"one", DELTA)], {})
    with ArchiveWriter.open(path):
        pass
    names = sorted(file.name for file in (path / layout.MODELS).iterdir())
    assert names == sorted([sha256(BASE).hex(), sha256(DELTA).hex()])
    opened = Archive.open(path)
    assert [model.name for model in opened.models] == ["base", "tuned"]
    assert 1 in opened.tiles(0)["model"]
    assert not check_structure(path)


def test_a_difference_without_its_base_is_not_committed(tmp_path: Path) -> None:
    """The writer asks for the base; nothing is committed."""
    path = tmp_path / "a.archive"
    with ArchiveWriter.open(path) as writer:
        writer.add_model("tuned", DELTA)
        with pytest.raises(UsageError, match=sha256(BASE).hex()):
            writer.commit([file_entry(b"f", b"one")], [shard_of(path, b"one", DELTA)], {})


def test_task_records_keep_models_and_their_bases(tmp_path: Path) -> None:
    """A killed run's models are there for the next one, and get back their names."""
    path = tmp_path / "a.archive"
    with ArchiveWriter.open(path) as writer:
        for name, data in (("tuned", DELTA), ("base", BASE)):
            writer.add_model(name, data)
        writer.record("t1", shard_of(path, b"one", DELTA))
    with ArchiveWriter.open(path) as writer:
        shard = writer.finished("t1")
        assert shard is not None
        writer.commit([file_entry(b"f", b"one")], [shard], {})
    assert [model.name for model in Archive.open(path).models] == ["base", "tuned"]


@pytest.mark.parametrize(
    ("damaged", "hit"), [(BASE, ("one", "two")), (DELTA, ("one",))], ids=["base", "difference"]
)
def test_damage_names_what_it_costs(tuned: Path, damaged: bytes, hit: tuple[str, ...]) -> None:
    """The base costs the entries of both models, the difference its own."""
    file = layout.model_path(tuned, sha256(damaged))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    [problem] = check_structure(tuned)
    assert (problem.where, problem.entries) == (str(file), hit)
    file.unlink()
    assert hit in {problem.entries for problem in check_structure(tuned)}


def test_a_base_that_is_not_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that lists a difference alone is a fault of its writer."""
    path = tmp_path / "a.archive"
    with monkeypatch.context() as patch, ArchiveWriter.open(path) as writer:
        patch.setattr("archiver.archive.writer.parsed", lambda data: ModelInfo("", 0))
        writer.add_model("tuned", DELTA)
        writer.commit([file_entry(b"f", b"one")], [shard_of(path, b"one", DELTA)], {})
    [problem] = check_structure(path)
    assert "does not list" in problem.found
    assert problem.entries == ("f",)


def test_what_is_no_model_needs_no_base(tmp_path: Path) -> None:
    """Any bytes may stand in a model file: nothing is believed that does not parse."""
    for data in (b"", b"model", BASE, model_file(2), model_file(2, base=7), DELTA[:30]):
        assert parsed(data).base is None
    assert parsed(model_file(1, base=sha256(BASE).hex())).base is None
    nothing = info_of(tmp_path, b"x" * 32)
    assert nothing == ModelInfo("", 0, fault=nothing.fault)
    assert "found nothing" in nothing.fault
