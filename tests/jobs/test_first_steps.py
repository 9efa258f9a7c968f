"""What a first stranger stumbled over, each as a test that failed then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from archiver.archive import usage as disk
from archiver.codec.inference.native import NativeCoder
from archiver.codec.inference.tensor_coder import TensorCoder
from archiver.errors import ParityError, UsageError
from archiver.jobs import cluster, run
from archiver.jobs.spec import PackSettings
from archiver.native import library
from archiver.pipeline import engines, open_archive
from archiver.pipeline.write import finish, source_file
from archiver.sources import Format, parse

SETTINGS = PackSettings(profile="fast", workers=0)


def pack(tree: Path, archive: Path) -> None:
    run.pack(tree, archive, SETTINGS)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i2", "i4", "u4"])
def test_samples_are_read_as_what_they_are(
    dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """A float image read from the archive is a float image, not its bits as integers."""
    smooth = np.mgrid[0:90, 0:80].sum(0) * 30.25
    scale = 1e5 if dtype in ("i4", "u4") else 1
    samples = ((smooth + rng.normal(0, 5, smooth.shape)).clip(0) * scale).astype(dtype)
    (tmp_path / "tree").mkdir()
    tifffile.imwrite(tmp_path / "tree" / "a.tif", samples)
    pack(tmp_path / "tree", tmp_path / "a.archive")
    found = open_archive(tmp_path / "a.archive").entry("a.tif").read()
    assert found.dtype == samples.dtype
    np.testing.assert_array_equal(found[..., 0], samples)


def test_sizes_that_pack_reports_are_on_disk(tmp_path: Path) -> None:
    """A model that no tile needs is not in the archive, and not in the summary either."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("no image here")
    summary = run.pack(tmp_path / "tree", tmp_path / "a.archive", SETTINGS)
    assert summary.model_bytes == disk.usage(tmp_path / "a.archive").models == 0
    assert summary.archive_bytes == disk.usage(tmp_path / "a.archive").total


def test_a_path_matches_itself(tmp_path: Path) -> None:
    """`slide[1].tif` is found by its name, although the name is a glob that does not match it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "slide[1].txt").write_text("one")
    pack(tmp_path / "tree", tmp_path / "a.archive")
    (entry,) = open_archive(tmp_path / "a.archive").entries(["slide[1].txt"])
    assert entry.path == "slide[1].txt"


def test_include_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    """A typo in a glob must not look like a successful backup."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one")
    settings = PackSettings(profile="fast", workers=0, include=("*.nothing",))
    with pytest.raises(UsageError, match="nothing in it matches"):
        run.pack(tmp_path / "tree", tmp_path / "a.archive", settings)


def test_an_archive_is_not_unpacked_into_itself(tmp_path: Path) -> None:
    """DEST inside the archive is refused before anything is written."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one")
    pack(tmp_path / "tree", tmp_path / "a.archive")
    with pytest.raises(UsageError, match="inside the archive"):
        run.unpack(tmp_path / "a.archive", tmp_path / "a.archive" / "out")
    assert not (tmp_path / "a.archive" / "out").exists()


@pytest.mark.parametrize("address", ["bogus", "tcp://127.0.0.1:1"])
def test_scheduler_that_is_not_there_is_refused_at_once(address: str) -> None:
    """Not after Dask's minute of trying, and with a message that says what to start."""
    with (
        pytest.raises(UsageError, match="dask scheduler"),
        cluster.open_workers(1, address, n_tasks=1),
    ):
        pass


def test_dicom_that_begins_like_a_tiff_is_not_called_a_broken_tiff(tmp_path: Path) -> None:
    """A dual-personality preamble does not make the summary blame a TIFF without pages."""
    path = tmp_path / "ct.dcm"
    path.write_bytes(b"II*\0" + bytes(124) + b"DICM" + bytes(200))
    parsed = parse(path)
    assert parsed.format is Format.OPAQUE
    assert parsed.note.startswith("DICOM")


def test_a_machine_that_is_not_exact_is_not_called_a_damaged_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed self-test while reading is a ParityError, exit code 14; no shard is blamed."""
    vector = Path(__file__).parents[1] / "vectors" / "archive-v1-by-0.1.0" / "example.archive"
    exact = NativeCoder.predict

    def rounded(self: NativeCoder, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, base = exact(self, tiles)
        return (outputs * (1 + 2**-12)).round(), base

    engines.of_model.cache_clear()
    monkeypatch.setattr(library, "usable", lambda: ("portable",))
    monkeypatch.setattr(NativeCoder, "predict", rounded)
    monkeypatch.setattr(TensorCoder, "predict", rounded)
    with pytest.raises(ParityError):
        open_archive(vector).entry("ramp.bmp").read()
    with pytest.raises(ParityError):
        run.unpack(vector, tmp_path / "out", workers=0)


def test_large_files_do_not_grow_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """A large file whose tiles cost more than its bytes is kept as it is, its tiles forgotten.

    What is stored after it in the same shard must still be found.
    """
    monkeypatch.setattr(source_file, "LARGE_BYTES", 3000)
    (tmp_path / "tree").mkdir()
    noise = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    Image.fromarray(np.tile(noise, (8, 8))).save(tmp_path / "tree" / "a.png")
    (tmp_path / "tree" / "b.txt").write_text("after it")
    settings = PackSettings(profile="fast", workers=0, tile=16)
    run.pack(tmp_path / "tree", tmp_path / "a.archive", settings)
    archive = open_archive(tmp_path / "a.archive")
    for entry in archive.entries():
        path = tmp_path / "tree" / entry.path
        assert b"".join(entry.chunks()) == path.read_bytes()
        assert entry.stored_bytes <= path.stat().st_size
    assert archive.entry("a.png").note == finish.SMALLER_AS_IS
    shards = sum(p.stat().st_size for p in (tmp_path / "a.archive" / "shards").iterdir())
    assert shards == sum(entry.stored_bytes for entry in archive.entries())
