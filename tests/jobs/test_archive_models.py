"""The archive model: made where it pays, reused, found again after a kill, named when damaged."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from trees import snapshot

from archiver.archive import layout
from archiver.archive.model_files import info_of
from archiver.archive.reader import Archive
from archiver.archive.writer import ArchiveWriter
from archiver.codec.learned import IDENTITY_ONLY
from archiver.jobs import archive_models, model_tuning, run
from archiver.jobs.events import Event, FileDone, Planned, Summary, Tuning
from archiver.jobs.spec import PackSettings
from archiver.pipeline.write import orientation
from archiver.report.summary import pack_shown

STEPS = 50
HERE = PackSettings(workers=0, adapt_steps=STEPS, tile=64)


@pytest.fixture(autouse=True, scope="module")
def _weak_rivals() -> Iterator[None]:
    """Do without JPEG XL, which 50 steps from random weights do not beat, and without turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.codec.classic.encode_jpegxl", lambda *_, **__: None)
        patch.setattr(orientation, "find", lambda *_, **__: IDENTITY_ONLY)
        yield


def scans(folder: Path, seed: int, n: int) -> Path:
    """Write images of one source: smooth, with noise that the channels share."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    for i in range(n):
        smooth = 128 + 60 * np.sin(x / 9 + 6 * rng.random()) * np.sin(y / 7 + 6 * rng.random())
        grain = rng.normal(0, 3, (96, 96, 1)) + rng.normal(0, 2, (96, 96, 3))
        save(folder / f"{seed}-{i}.bmp", smooth[..., None] + grain)
    return folder


def walks(folder: Path, n: int) -> Path:
    """Write images of another source: every row wanders by itself."""
    rng = np.random.default_rng(3)
    for i in range(n):
        save(folder / f"walk-{i}.bmp", 128 + np.cumsum(rng.normal(0, 6, (96, 96, 3)), 1))
    return folder


def save(path: Path, samples: np.ndarray) -> None:
    """Write 8-bit samples as a BMP file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8)).save(path)


def noise(folder: Path, n: int) -> Path:
    """Write images that no model codes any smaller."""
    rng = np.random.default_rng(9)
    for i in range(n):
        save(folder / f"{i}.bmp", rng.integers(0, 256, (64, 64, 3)))
    return folder


def models(archive: Path) -> list[str]:
    """Return the names of the models that the archive lists."""
    with Archive.open(archive) as opened:
        return [model.name for model in opened.models]


def facts(summary: Summary) -> dict[str, float]:
    """Return the figures of the tuning."""
    assert summary.archive_model is not None
    return dict(summary.archive_model.facts)


def check(source: Path, archive: Path, out: Path) -> None:
    """The archive verifies and gives everything back."""
    assert not run.verify(archive, workers=0).problems
    run.unpack(archive, out, workers=0)
    assert snapshot(out) == snapshot(source)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, tiny_model: bytes) -> tuple[Path, Path]:
    """A source whose archive model pays, and its archive; shared: copy before changing it."""
    folder = tmp_path_factory.mktemp("adapt")
    source, archive = scans(folder / "source", 1, 12), folder / "a.archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archiver.codec.model.pretrained.load", lambda name: tiny_model)
        run.pack(source, archive, HERE)
    return source, archive


@pytest.fixture
def archive(packed: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of that archive."""
    return Path(shutil.copytree(packed[1], tmp_path / "a.archive"))


def test_a_model_that_pays_is_made(tmp_path: Path) -> None:
    """It is stored as a difference beside its base, used, reported, and smaller than without."""
    source = scans(tmp_path / "source", 1, 12)
    plain = run.pack(source, tmp_path / "fast.archive", PackSettings(profile="fast", workers=0))
    events: list[Event] = []
    summary = run.pack(source, tmp_path / "a.archive", HERE, events.append)
    kinds = [event for event in events if not isinstance(event, FileDone)]
    assert isinstance(kinds[0], Planned)
    assert kinds[1:3] == [Tuning(), Tuning(is_over=True)]
    assert summary.archive_model is not None
    assert summary.archive_model.made == 1
    assert facts(summary)["steps"] == STEPS
    saved = facts(summary)["saved_bytes"]
    assert summary.archive_bytes < plain.archive_bytes - 0.5 * saved
    base, tuned = summary.archive_model.models
    assert info_of(summary.archive, tuned).base == base
    used = {one.sha256: one for one in summary.models}
    assert used[tuned.hex()].tiles > 0.9 * sum(one.tiles for one in summary.models)
    check(source, tmp_path / "a.archive", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["balanced", "max"])
def test_a_model_that_does_not_pay_is_not_kept(tmp_path: Path, profile: str) -> None:
    """Noise has nothing to learn: base model alone, the reason said."""
    source = noise(tmp_path / "source", 12)
    asked = PackSettings(profile=profile, workers=0, adapt_steps=3, tile=64)
    summary = run.pack(source, tmp_path / "a.archive", asked)
    assert summary.archive_model is not None
    assert summary.archive_model.made == 0
    assert "saves less" in summary.archive_model.reason
    assert len(models(tmp_path / "a.archive")) <= 1


@pytest.mark.slow
def test_a_budget_too_short_for_one_model_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training that shows it will not get anywhere in its time is given up, and reported."""
    monkeypatch.setattr("archiver.codec.tuning.archive_model.tune", lambda *_, **__: None)
    source = scans(tmp_path / "source", 1, 12)
    summary = run.pack(source, tmp_path / "a.archive", HERE)
    assert summary.archive_model is not None
    assert "not enough to tune" in summary.archive_model.reason
    Console(file=io.StringIO()).print(pack_shown(summary, source, HERE))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (PackSettings(profile="fast", workers=0), "off"),
        (PackSettings(workers=0, adapt_steps=0), "set to 0"),
        (PackSettings(workers=0, adapt_seconds=0.0), "set to 0"),
        (PackSettings(workers=0), "too short"),
    ],
)
def test_no_model_is_tuned_without_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: PackSettings, why: str
) -> None:
    """Profile fast, bounds of 0, and jobs that take seconds: the base model codes all."""
    monkeypatch.setattr(
        "archiver.codec.tuning.archive_model.tune", lambda *_, **__: pytest.fail("tuned")
    )
    summary = run.pack(scans(tmp_path / "source", 1, 8), tmp_path / "a.archive", settings)
    assert summary.archive_model is not None
    assert why in summary.archive_model.reason


@pytest.mark.slow
def test_a_later_generation_reuses_the_model(
    packed: tuple[Path, Path], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of the same source is coded with the model that is there; none is tuned."""
    source = tmp_path / "source"
    scans(source, 1, 12)
    scans(source / "new", 2, 8)
    monkeypatch.setattr(
        "archiver.codec.tuning.archive_model.tune", lambda *_, **__: pytest.fail("tuned")
    )
    before = models(archive)
    summary = run.pack(source, archive, HERE)
    assert summary.generation == 2
    assert summary.archive_model is not None
    assert summary.archive_model.reused == 1
    assert models(archive) == before
    assert [one.name for one in summary.models] == [before[-1]]
    check(source, archive, tmp_path / "out")


@pytest.mark.slow
def test_a_later_generation_of_other_data_gets_its_own(
    packed: tuple[Path, Path], archive: Path, tmp_path: Path
) -> None:
    """What the first model does not code well is worth a second one."""
    source = tmp_path / "source"
    scans(source, 1, 12)
    walks(source, 12)
    summary = run.pack(source, archive, HERE)
    assert summary.archive_model is not None
    assert summary.archive_model.made == 1
    assert len(models(archive)) == 3
    check(source, archive, tmp_path / "out")


@pytest.mark.slow
def test_a_killed_run_finds_its_model_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is tuned once, though the run dies before its commit and more files come."""
    source = scans(tmp_path / "source", 1, 12)

    def fail(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveWriter, "commit", fail)
        with pytest.raises(KeyboardInterrupt):
            run.pack(source, tmp_path / "a.archive", HERE)
    monkeypatch.setattr(
        "archiver.codec.tuning.archive_model.tune", lambda *_, **__: pytest.fail("tuned")
    )
    scans(source, 2, 1)
    summary = run.pack(source, tmp_path / "a.archive", HERE)
    assert summary.archive_model is not None
    assert summary.archive_model.made == 1
    check(source, tmp_path / "a.archive", tmp_path / "out")


@pytest.mark.slow
def test_a_worker_that_dies_while_tuning_costs_the_model_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes on with the base model and says why."""
    source = scans(tmp_path / "source", 1, 8)
    monkeypatch.setattr(model_tuning, "run_task", die)
    monkeypatch.setattr("archiver.jobs.plan.MIN_TASK_BYTES", 4096)
    asked = PackSettings(workers=2, adapt_steps=STEPS, tile=64)
    summary = run.pack(source, tmp_path / "a.archive", asked)
    assert summary.archive_model is not None
    assert "tuning failed" in summary.archive_model.reason
    assert not summary.failures
    check(source, tmp_path / "a.archive", tmp_path / "out")


def die(task: model_tuning.TuneTask, threads: int) -> model_tuning.Tuned:
    """Kill the worker, as running out of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize("which", [0, 1], ids=["base", "difference"])
def test_damage_of_a_model_names_its_files(archive: Path, which: int) -> None:
    """Base or difference: verify names the file and every entry that needs it."""
    with Archive.open(archive) as opened:
        digest = bytes.fromhex(opened.models[which].sha256)
        paths = {os.fsdecode(entry.path) for entry in opened.entries()}
    path = layout.model_path(archive, digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    [problem] = run.verify(archive, depth="structure", workers=0).problems
    assert problem.where == str(path)
    assert set(problem.entries) == paths
    problems = run.verify(archive, depth="samples", workers=0).problems
    assert {name for one in problems for name in one.entries} == paths
    assert any(digest.hex() in one.found for one in problems)


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    """A tuning's outcome survives as it was; anything else is tuned again."""
    for tuned in (
        model_tuning.Tuned("too small"),
        model_tuning.Tuned("good", (b"\0model", b""), {"steps": 4}),
    ):
        assert archive_models._read(archive_models._write("what", tuned)) == ("what", tuned)
    for data in (None, b"", b"{}", b"[1]", b'{"what": 1, "models": 7}'):
        assert archive_models._read(data) is None


def test_groups_are_directories_large_enough() -> None:
    """By label, the largest first; one label is the whole, and small ones stay with it."""
    labels = ["a colour", "b colour", "a colour", "c grey", "b grey"]
    sizes = {0: 50.0, 1: 70.0, 2: 60.0, 3: 5.0, 4: 40.0}
    found = model_tuning.groups(labels, sizes, 40.0)
    assert [(one.label, sorted(one.files)) for one in found] == [
        ("a colour", [0, 2]), ("b colour", [1]), ("b grey", [4]),
    ]  # fmt: skip
    assert model_tuning.groups(["a colour"] * 5, sizes, 0.0) == []
    assert (
        len(model_tuning.groups([str(i) for i in range(9)], dict.fromkeys(range(9), 1.0), 0.0)) == 3
    )


@pytest.mark.slow
def test_a_mixed_dataset_gets_models_by_directory(tmp_path: Path) -> None:
    """Two sources in two directories: at least one has a model of its own, and files choose."""
    source = tmp_path / "source"
    scans(source / "scans", 1, 12)
    walks(source / "walks", 12)
    summary = run.pack(source, tmp_path / "a.archive", HERE)
    assert summary.archive_model is not None
    assert summary.archive_model.made >= 2
    names = models(tmp_path / "a.archive")
    assert any(name.endswith((" scans colour", " walks colour")) for name in names)
    assert len({one.sha256 for one in summary.models}) >= 2
    check(source, tmp_path / "a.archive", tmp_path / "out")
