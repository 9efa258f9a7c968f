"""Any damage to an archive ends in a named error or in the right samples, never in wrong ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from archiver.errors import ArchiverError
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

FILES = 8


def grow_tree(tree: Path) -> None:
    """Write files of several formats, each of a few tiles."""
    rng = np.random.default_rng(8)
    row, column = np.mgrid[0:40, 0:50]
    for i in range(3):
        rgb = np.stack([row * 3, column * 4, row + column], -1) + rng.integers(
            0, 5 + i, (40, 50, 3)
        )
        Image.fromarray(rgb.astype(np.uint8)).save(tree / f"rgb{i}.bmp")
    tifffile.imwrite(tree / "grey.tif", (row * 5 + column).astype(np.uint8))
    tifffile.imwrite(tree / "wide.tif", (row * 500 + column).astype(np.uint16))
    slices = rng.integers(0, 200, (40, 50)) + rng.integers(0, 3, (4, 40, 50))
    tifffile.imwrite(tree / "slices.tif", slices.astype(np.uint8), photometric="minisblack")
    tifffile.imwrite(tree / "whole.tif", (slices[0] / 10).astype(np.float32))
    (tree / "text.txt").write_bytes(rng.bytes(3000))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tree and its archive."""
    folder = tmp_path_factory.mktemp("damage")
    tree = folder / "tree"
    tree.mkdir()
    grow_tree(tree)
    model = Path(__file__).parents[1] / "vectors" / "codec-v1" / "tiny.model"
    settings = PackSettings(profile="fast", model=str(model), workers=0, tile=24)
    run.pack(tree, folder / "a.archive", settings, lambda _: None)
    return tree, folder / "a.archive"


def flip(data: bytearray, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(data)


def cut(data: bytearray, rng: np.random.Generator) -> bytes:
    """Lose the end."""
    return bytes(data[: rng.integers(len(data))])


def splice(data: bytearray, rng: np.random.Generator) -> bytes:
    """Copy one part of the file over another."""
    size = int(rng.integers(1, len(data) // 2 + 2))
    source, target = rng.integers(max(1, len(data) - size + 1), size=2)
    data[target : target + size] = data[source : source + size]
    return bytes(data)


DAMAGES: list[Callable[[bytearray, np.random.Generator], bytes]] = [flip, cut, splice]


def restored(archive: Path, tree: Path) -> tuple[int, int]:
    """Read every file of a damaged archive: (right, refused); fails on a wrong byte."""
    right = refused = 0
    try:
        opened = open_archive(archive)
        entries = [entry for entry in opened.entries() if entry.kind == "file"]
    except ArchiverError:
        return 0, FILES
    for entry in entries:
        try:
            content = b"".join(entry.chunks())
        except ArchiverError:
            refused += 1
        else:
            assert content == (tree / entry.path).read_bytes(), entry.path
            right += 1
    return right, refused


@pytest.mark.slow
@pytest.mark.timeout(1800)  # with --damages 1600
def test_damage_is_refused_or_harmless(
    packed: tuple[Path, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Flips, cuts and splices anywhere: an error, or the right bytes; other files still read."""
    tree, archive = packed
    rng = np.random.default_rng(17)
    names = sorted(p.relative_to(archive) for p in archive.rglob("*") if p.stat().st_size)
    names = [name for name in names if (archive / name).is_file()]
    shards = [name for name in names if name.parts[0] == "shards"]
    partly = 0
    for trial in range(int(request.config.getoption("--damages"))):
        name = shards[0] if trial % 3 == 0 else names[rng.integers(len(names))]
        damaged = DAMAGES[rng.integers(3)](bytearray((archive / name).read_bytes()), rng)
        if damaged == (archive / name).read_bytes():
            continue
        copy = tmp_path / "copy.archive"
        shutil.copytree(archive, copy)
        (copy / name).write_bytes(damaged)
        right, refused = restored(copy, tree)
        assert right + refused == FILES, name
        partly += 0 < right < FILES
        assert run_verify(copy) or name.parts[0] in ("lock", "wip"), f"verify misses {name}"
        shutil.rmtree(copy)
    assert partly > 10


def run_verify(archive: Path) -> bool:
    """Whether ``verify --depth structure`` finds something."""
    try:
        summary = run.verify(archive, depth="structure", workers=0, on_event=lambda _: None)
    except ArchiverError:
        return True
    return bool(summary.problems)
