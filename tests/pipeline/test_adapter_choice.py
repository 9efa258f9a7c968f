"""`--profile max`: adapters are found, used, named when damaged, and make nothing larger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from archiver import jobs
from archiver.cli import main
from archiver.codec.model import pretrained
from archiver.jobs import model_tuning, run
from archiver.jobs.events import Summary
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive
from archiver.pipeline.write import adapter

TILE = 128  # several a file
MAX: dict[str, Any] = {"profile": "max", "model": pretrained.SMALL, "tile": TILE}


@pytest.fixture(autouse=True, scope="module")
def _no_archive_model() -> Iterator[None]:
    """Adapters are what is tested here; an archive model is not even tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_tuning, "HOPED_GAIN", 0)
        yield


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that an adapter pays for, one too small for that, and one of equal channels."""
    folder = tmp_path_factory.mktemp("tree") / "source"
    folder.mkdir()
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 14, (144, 160 + 16))
    woven = noise[:, 8:-8] + 0.9 * noise[:, :-16]  # each row remembers what was 8 samples back
    woven += 0.8 * np.roll(woven, 2, 0) + 120
    weave = woven.clip(0, 255)
    colour = np.stack([weave, 255 - weave / 2, weave / 3 + rng.normal(60, 2, weave.shape)], -1)
    Image.fromarray(colour.astype(np.uint8)).save(folder / "weave.png")
    Image.fromarray(colour[:40, :40].astype(np.uint8)).save(folder / "small.png")
    Image.fromarray(np.repeat(weave[..., None], 3, -1).astype(np.uint8)).save(folder / "grey.png")
    return folder


def n_adapted(summary: Summary) -> int:
    """Return how many tiles take an adapter."""
    return sum(summary.tiles.get(name, 0) for name in ("adapted", "adapted_oriented"))


@pytest.fixture(scope="module")
def packed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree packed with adapters."""
    archive = tmp_path_factory.mktemp("packed") / "a.archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "LEAST_BYTES", 4000)
        settings = PackSettings(**MAX, workers=0, adapt_steps=4)
        summary = run.pack(tree, archive, settings)
    assert not summary.failures
    assert n_adapted(summary) >= 4
    return archive


@pytest.mark.slow
def test_balanced_fits_heads_alone_and_0_steps_fit_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LEAST_BYTES", 4000)
    how: dict[str, Any] = {**MAX, "profile": "balanced", "workers": 0}
    summary = run.pack(tree, tmp_path / "a", PackSettings(**how))
    assert n_adapted(summary) >= 4
    fitted = open_archive(tmp_path / "a").entry("weave.png").adapter_record
    assert fitted is not None
    assert fitted.n_passes == 0
    assert not jobs.run.verify(tmp_path / "a", workers=0).problems
    jobs.run.unpack(tmp_path / "a", tmp_path / "out", workers=0)
    for path in tree.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    plain = run.pack(tree, tmp_path / "b", PackSettings(**how, adapt_steps=0))
    assert not {"adapted", "adapted_oriented", "learned_oriented"} & set(plain.tiles)
    assert summary.payload_bytes < plain.payload_bytes


def test_files_come_back(tree: Path, packed: Path, tmp_path: Path) -> None:
    assert not jobs.run.verify(packed, workers=0).problems
    jobs.run.unpack(packed, tmp_path / "out", workers=0)
    for path in tree.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_region_is_read_with_the_adapter(tree: Path, packed: Path) -> None:
    samples = open_archive(packed).entry("weave.png").read((100, 120, 30, 40))
    expected = np.asarray(Image.open(tree / "weave.png"))[100:130, 120:160]
    np.testing.assert_array_equal(samples, expected)


def test_info_tells_what_the_adapter_brought(packed: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "weave.png"
    asked = ["info", str(packed), "weave.png", "--json", "--figure", str(figure)]
    told = json.loads(CliRunner().invoke(main, asked).stdout)["adapter"]
    assert told["bits_per_sample"] < told["bits_per_sample_before"]
    assert told["passes"] in (0, 4)  # the heads alone, or all
    assert len(told["rates"]) == told["passes"] + 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    small = CliRunner().invoke(main, ["info", str(packed), "small.png", "--json"])
    assert json.loads(small.stdout)["adapter"] is None
    refused = CliRunner().invoke(main, ["info", str(packed), "--figure", str(figure)])
    assert refused.exit_code == 2


def test_a_damaged_adapter_is_named_and_costs_its_file_only(packed: Path, tmp_path: Path) -> None:
    archive = tmp_path / "damaged.archive"
    shutil.copytree(packed, archive)
    opened = open_archive(archive)
    entry = opened.entry("weave.png")
    adapter = entry.adapter_record
    assert adapter is not None
    [shard] = [path for path in (archive / "shards").iterdir() if len(path.name) == 64]
    data = bytearray(shard.read_bytes())
    at = data.find(adapter.to_bytes())
    assert at > 0
    data[at + 20] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    problems = jobs.run.verify(archive, depth="samples", workers=0).problems
    assert {path for one in problems for path in one.entries} == {"weave.png"}
    assert any("adapter" in one.found for one in problems)


def test_nothing_grows(tree: Path, packed: Path, tmp_path: Path) -> None:
    """No file is larger with adapters than by the same model without."""
    settings = PackSettings(profile="fast", model=pretrained.SMALL, tile=TILE, workers=0)
    run.pack(tree, tmp_path / "b.archive", settings)
    adapted, plain = open_archive(packed), open_archive(tmp_path / "b.archive")
    for entry in plain.entries():
        assert adapted.entry(entry.path).stored_bytes <= entry.stored_bytes
    assert adapted.entry("weave.png").stored_bytes < plain.entry("weave.png").stored_bytes


@pytest.mark.slow
def test_what_two_workers_adapted_decodes_without_them(tree: Path, tmp_path: Path) -> None:
    """Other processes may find other adapters; what they store decodes in any."""
    settings = PackSettings(**MAX, workers=2, adapt_steps=2)
    summary = run.pack(tree, tmp_path / "two.archive", settings)
    assert n_adapted(summary) >= 4
    assert not jobs.run.verify(tmp_path / "two.archive", workers=1).problems
    jobs.run.unpack(tmp_path / "two.archive", tmp_path / "out", workers=0)
    for path in tree.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_model_without_a_port_for_16_bits_leaves_them_alone(
    tmp_path: Path, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LEAST_BYTES", 100)
    source = tmp_path / "tree"
    source.mkdir()
    rng = np.random.default_rng(1)
    for i in range(2):
        noise = rng.integers(0, 3000, (90, 80)).astype(np.uint16)
        Image.fromarray(noise).save(source / f"{i}.tif")
    (tmp_path / "old.model").write_bytes(tiny_model)
    settings = PackSettings(
        profile="max", tile=TILE, model=str(tmp_path / "old.model"), workers=0, adapt_steps=2
    )
    summary = run.pack(source, tmp_path / "a.archive", settings)
    assert not summary.failures
    assert not jobs.run.verify(tmp_path / "a.archive", workers=0).problems
