"""Records survive their way through JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builder import make_shard

from archiver.archive import ArchiveWriter, ShardRecord, records


@pytest.fixture
def shard(tmp_path: Path) -> ShardRecord:
    """A record with every kind of part."""
    with ArchiveWriter.open(tmp_path / "a.archive"):
        return make_shard(tmp_path / "a.archive", [b"one", b"two"], fidelity=1)


def test_round_trip(shard: ShardRecord) -> None:
    """A record read back equals the one written, tiles and text included."""
    again = records.from_json(records.to_json(shard))
    assert again == shard
    assert again.objects[0].tiles.dtype == records.TILE
    assert records.to_json(again) == records.to_json(shard)


def test_difference_is_seen(shard: ShardRecord) -> None:
    """Records that differ in one value of one tile are not equal."""
    other = records.from_json(records.to_json(shard))
    other.objects[1].tiles["crc32c"][0] ^= 1
    assert other != shard


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"sha256": 5}', "[" * 99999])
def test_nonsense_is_refused(text: str) -> None:
    """Anything that is not a record is a ValueError, whatever it is."""
    with pytest.raises(ValueError):
        records.from_json(text)


def test_wrong_parts_are_refused(shard: ShardRecord) -> None:
    """A record whose tiles or images are nonsense is a ValueError."""
    for key, value in (("tiles", "AAAA"), ("tiles", "*"), ("images", [{"height": 1}])):
        document = json.loads(records.to_json(shard))
        document["objects"][0][key] = value
        with pytest.raises(ValueError):
            records.from_json(json.dumps(document))
