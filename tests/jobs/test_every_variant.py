"""Whatever Pillow and tifffile write as PNG or TIFF comes back, and none of it grows."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest
from variants import write_all

from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive

MOST_MORE = 512  # bytes that a file may take more than it has


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the writers
def test_every_variant(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Pack, unpack, compare; no stream of these writers is one whose encoder is not found.

    All of them with --slow, else every fourth.
    """
    written = write_all(tmp_path / "source")
    assert len(written) > 800
    if not pytestconfig.getoption("--slow"):
        for path in set(written) - set(written[::4]):
            path.unlink()
        written = written[::4]
    settings = PackSettings(profile="fast", workers=0)  # the formats are tested, not the models
    summary = run.pack(tmp_path / "source", tmp_path / "a.archive", settings)
    assert not summary.failures
    archive = open_archive(tmp_path / "a.archive")
    run.unpack(tmp_path / "a.archive", tmp_path / "out", workers=0)
    for path in written:
        name = str(path.relative_to(tmp_path / "source"))
        assert filecmp.cmp(path, tmp_path / "out" / name, shallow=False), name
        entry = archive.entry(name)
        assert entry.stored_bytes <= path.stat().st_size + MOST_MORE, name
        assert "not found" not in entry.note, name
