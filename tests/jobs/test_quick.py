"""The profile `quick`: all promises, no model, nothing heavy loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from jpegs import scene
from PIL import Image
from trees import snapshot

from archiver.archive import layout
from archiver.codec.ids import TileCodec, codec_name
from archiver.errors import UsageError
from archiver.jobs import archive_models, run
from archiver.jobs.events import FormatTotals
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

QUICK = PackSettings(profile="quick", workers=0)
CODECS = {codec_name(codec) for codec in TileCodec if codec not in range(4, 7)}


@pytest.fixture
def mixed(tree: Path) -> Path:
    """The small tree, and what it lacks: JPEGs, volumes, floats, masks, noise."""
    more = tree / "more"
    more.mkdir()
    Image.fromarray(scene(sides=(130, 170))).save(more / "photograph.jpg", quality=80)
    rng = np.random.default_rng(5)
    wave = np.add.outer(np.arange(60) * 90, np.arange(50) * 70) + rng.integers(0, 40, (60, 50))
    samples = {
        "colour": scene(sides=(90, 110)),
        "alpha": np.dstack([scene(sides=(40, 41)), np.full((40, 41), 255, np.uint8)]),
        "deep": wave.astype(np.uint16),
        "deep colour": np.stack([wave, wave * 2, wave + 5], -1).astype(np.uint16),
        "signed": (wave - 3000).astype(np.int16),
        "floats": (wave / 7).astype(np.float32),
        "mask": np.kron(rng.integers(0, 2, (9, 9)), np.ones((12, 12))).astype(np.uint8),
        "noise": rng.integers(0, 256, (50, 60, 3)).astype(np.uint8),
        "flat": np.full((70, 80, 3), 9, np.uint8),
        "thin": rng.integers(0, 99, (1, 900)).astype(np.uint8),
    }
    for name, array in samples.items():
        tifffile.imwrite(more / f"{name}.tif", array, photometric=photometric(array))
    np.save(more / "volume.npy", np.stack([wave + i for i in range(5)]).astype(np.int16))
    (more / "noise.bin").write_bytes(rng.bytes(5000))
    return tree


def photometric(samples: np.ndarray) -> str:
    """Return what TIFF calls such samples."""
    return "rgb" if samples.ndim == 3 else "minisblack"


def test_all_comes_back_and_no_model_is_stored(mixed: Path, tmp_path: Path) -> None:
    """A mixed folder: packed, verified, unpacked; no tile needs a model, none is there."""
    archive, out = tmp_path / "a.archive", tmp_path / "out"
    summary = run.pack(mixed, archive, QUICK)
    assert not summary.failures
    assert (summary.model, summary.model_bytes, summary.models) == ("", 0, ())
    assert summary.archive_model is not None
    assert summary.archive_model.reason == archive_models.NONE
    assert set(summary.tiles) <= CODECS
    assert {"jpeg_ls", "zstd", "jpeg", "constant", "stored"} <= set(summary.tiles)
    assert not list((archive / layout.MODELS).iterdir())
    assert not run.verify(archive, workers=0).problems
    run.unpack(archive, out, workers=0)
    assert snapshot(out) == snapshot(mixed)


def test_no_file_grows(mixed: Path, tmp_path: Path) -> None:
    """Every file takes its own bytes at most; formats that have samples take fewer."""
    archive = tmp_path / "a.archive"
    summary = run.pack(mixed, archive, QUICK)
    for entry in open_archive(archive).entries():
        assert entry.stored_bytes <= entry.size, entry.path
    [tiff] = [totals for totals in summary.formats if totals.name == "TIFF"]
    assert isinstance(tiff, FormatTotals)
    assert tiff.stored_bytes < 0.6 * tiff.input_bytes


def test_workers_store_the_same(mixed: Path, tmp_path: Path) -> None:
    """A cluster's archive has the shards that one process makes."""
    one, two = tmp_path / "one.archive", tmp_path / "two.archive"
    run.pack(mixed, one, QUICK)
    run.pack(mixed, two, PackSettings(profile="quick", workers=1))
    names = [{path.name for path in (archive / layout.SHARDS).iterdir()} for archive in (one, two)]
    assert names[0] == names[1]


def test_other_profiles_go_on_in_the_same_archive(mixed: Path, tmp_path: Path) -> None:
    """What `quick` packed is kept; what is new the night after may be coded by a model."""
    archive = tmp_path / "a.archive"
    run.pack(mixed, archive, QUICK)
    tifffile.imwrite(mixed / "new.tif", scene(sides=(80, 80)), photometric="rgb")
    summary = run.pack(mixed, archive, PackSettings(profile="fast", workers=0))
    assert summary.files - summary.unchanged == 1
    run.pack(mixed, archive, QUICK)  # nothing new
    run.unpack(archive, tmp_path / "out", workers=0)
    assert snapshot(tmp_path / "out") == snapshot(mixed)


def test_a_model_is_refused() -> None:
    """Who asks for a model asks for another profile."""
    with pytest.raises(UsageError, match="quick"):
        PackSettings(profile="quick", model="mgcf")


def test_no_torch_is_loaded(mixed: Path, tmp_path: Path) -> None:
    """Packing, verifying and unpacking load neither torch nor the range coder, nor any cluster."""
    code = f"""
import sys
from archiver.cli import main
for words in (["pack", {str(mixed)!r}, "a.archive", "--profile", "quick", "--workers", "0"],
              ["verify", "a.archive", "--workers", "0"],
              ["unpack", "a.archive", "out", "--workers", "0"]):
    main([*words, "-q"], standalone_mode=False)
print(*sys.modules)
"""
    run_ = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not {"torch", "constriction", "distributed"} & set(run_.stdout.split())
    assert snapshot(tmp_path / "out") == snapshot(mixed)
