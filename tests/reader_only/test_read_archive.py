"""FORMAT.md is enough: an archive's learned tiles are read with zarr and integers alone.

Everything below, and the readers it uses, was written from the text of manifests/FORMAT.md.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
import zstandard
from reader_only_high_depth import read_high_depth
from reader_only_learned import read_learned
from reader_only_network import read_model

ARCHIVES = sorted((Path(__file__).parents[1] / "vectors").glob("archive-v1-*/*.archive"))


def test_this_file_does_not_import_archiver() -> None:
    """The reader below owes nothing to the package."""
    lines = Path(__file__).read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import archiver", "from archiver"))]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda p: p.parent.name)
def test_learned_tiles_read_from_the_text_alone(archive: Path, every: bool) -> None:
    """Shard, extent, CRCs, model and samples are found by what FORMAT.md says."""
    root = zarr.open_group(str(archive), mode="r")
    last = int(str(root.attrs["generation"]))
    generations = [root[f"manifest/{number:06d}"] for number in range(1, last + 1)]

    def column(table: str, name: str) -> np.ndarray[Any, Any]:
        """A column of all generations; tables without rows are not there."""
        have = [g for g in generations if table in g.attrs["tables"]]
        return np.concatenate([g[f"{table}/{name}"][...] for g in have])

    tiles = {name: column("tiles", name) for name in TILE_COLUMNS}
    shards, models = column("shards", "sha256"), column("models", "sha256")
    bytes_ = column("images", "dtype")[tiles["image"]] == 1  # deep tiles have tests of their own
    learned = np.flatnonzero((tiles["codec"] == 4) & bytes_)
    last_of = {int(tiles["image"][i]): i for i in learned}
    assert len(last_of) == 3
    for i in learned if every else last_of.values():
        shard = (archive / "shards" / bytes(shards[tiles["shard"][i]]).hex()).read_bytes()
        assert hashlib.sha256(shard).digest() == bytes(shards[tiles["shard"][i]])
        payload = shard[tiles["offset"][i] :][: tiles["length"][i]]
        assert google_crc32c.value(payload) == tiles["crc32c"][i]
        model = (archive / "models" / bytes(models[tiles["model"][i]]).hex()).read_bytes()
        _, _, height, width = (int(n) for n in tiles["window"][i])
        channels = int(column("images", "shape")[tiles["image"][i]][2])
        channels = 3 if channels in (3, 4) and tiles["component"][i] == 0 else 1
        samples = read_learned(read_model(model), payload, height, width, channels)
        assert google_crc32c.value(samples) == tiles["sample_crc32c"][i]


def test_there_is_an_archive_to_read() -> None:
    """The test above runs on something."""
    assert ARCHIVES


def test_a_difference_reads_from_the_text_alone() -> None:
    """Base and difference give the tensors of the tuned model."""
    folder = Path(__file__).parents[1] / "vectors" / "codec-v1"
    base, tuned = (folder / "tiny.model").read_bytes(), (folder / "tuned.model").read_bytes()
    assert struct.unpack_from("<8sH", tuned) == (b"ARCMODEL", 2)
    assert google_crc32c.value(tuned[:-4]) == struct.unpack("<I", tuned[-4:])[0]
    header, frame = header_of(tuned)
    assert header["base"] == hashlib.sha256(base).hexdigest()
    content = zstandard.ZstdDecompressor().decompress(frame)
    was, data = header_of(base)
    tensors, at = {}, 0
    for name, code, shape in was["tensors"]:
        tensors[name] = np.frombuffer(data, "<" + code, int(np.prod(shape)), at).astype(np.int64)
        at += tensors[name].size * int(code[1])
    at = 0
    for code in ("i1", "i2", "i4"):
        names = [name for name, its_code, _ in was["tensors"] if its_code == code]
        size, n = int(code[1]), sum(tensors[name].size for name in names)
        planes = np.frombuffer(content, np.uint8, size * n, at).reshape(size, n).astype(np.int64)
        at += size * n
        z = sum(plane << (8 * number) for number, plane in enumerate(planes))
        d = np.where(z % 2 == 0, z // 2, -(z + 1) // 2)
        for name in names:
            tensors[name] = (tensors[name] + d[: tensors[name].size]).astype("<" + code)
            d = d[tensors[name].size :]
    assert at == len(content)
    found = b"".join(tensors[name].tobytes() for name, _, _ in was["tensors"])
    assert hashlib.sha256(found).hexdigest() == (folder / "tuned.sha256").read_text().strip()


@pytest.mark.parametrize(
    "name", ["rgb-7", "rgb-12", "rgb-29", "rgb-38", "rgb-42", "grey-5", "deep-6"]
)
def test_a_turned_tile_reads_from_the_text_alone(name: str) -> None:
    """The turn and the payload of the tile turned give the tile."""
    stem = Path(__file__).parents[1] / "vectors" / "codec-v1" / f"turned-{name}"
    digest, dtype, *words = stem.with_suffix(".sha256").read_text().split()
    height, width, channels = map(int, words)
    model = read_model((stem.parent / "deep.model").read_bytes())
    payload = stem.with_suffix(".tile").read_bytes()
    side, order = payload[0] % 8, ["012", "021", "102", "120", "201", "210"][payload[0] // 8]
    if side & 4:
        height, width = width, height
    if dtype == "u2":
        samples = read_high_depth(model, payload[1:], height, width)
    else:
        samples = read_learned(model, payload[1:], height, width, channels)
    stored = np.frombuffer(samples, "<" + dtype).reshape(height, width, channels)
    tile = np.empty_like(stored)
    for c in range(channels):
        tile[..., int(order[c])] = stored[..., c]
    if side & 2:
        tile = tile[:, ::-1]
    if side & 1:
        tile = tile[::-1]
    if side & 4:
        tile = tile.transpose(1, 0, 2)
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def header_of(model: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", model, 12)
    body = model[16 + length : -4]
    if struct.unpack_from("<H", model, 8)[0] == 3:
        body = zstandard.ZstdDecompressor().decompress(body)
    return json.loads(model[16 : 16 + length]), body


TILE_COLUMNS = (
    *("image", "component", "window", "shard", "offset", "length"),
    *("crc32c", "sample_crc32c", "codec", "model"),
)
