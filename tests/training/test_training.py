"""Training runs: they learn, go on after a kill as if nothing had happened, and are exported."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from archiver.cli import main
from archiver.codec.inference.engine import Engine
from archiver.codec.model import architecture, grid, limits, mgcf, model_file
from archiver.codec.tuning.optimisers import rate
from archiver.errors import ArchiverError, FormatError, UsageError
from archiver.training import checkpoint, export, log, run
from archiver.training.checkpoint import Checkpoint
from archiver.training.measure import measure
from archiver.training.run import Options

MakeOptions = Callable[..., Options]


def nothing(_: object) -> None:
    """Listen to nothing."""


def go(photos: Path, folder: Path, options: Options) -> Checkpoint:
    return run.run([(photos, 1.0)], folder, options, nothing, nothing)


def losses(folder: Path) -> list[tuple[int, float, float, float]]:
    return [(row.step, row.colour, row.grey, row.rate) for row in log.read(folder)]


def test_training_learns(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """150 steps take a twentieth off the loss of the first row; the log holds every row."""
    go(photos, tmp_path, options(steps=150))
    rows = log.read(tmp_path)
    assert [row.step for row in rows] == [50, 100, 150]
    assert rows[-1].colour < 0.95 * rows[0].colour
    assert rows[-1].rate < rows[1].rate  # the decay


RUN = """
import os, signal, sys
from pathlib import Path
from archiver.training import run
photos, folder, killed_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
options = run.Options(**{options})
settings = options.settings()
object.__setattr__(settings, "save_every_s", 0.0)
run.Options.settings = lambda self: settings
def on_start(started):
    print(started.step, started.resumed)
def on_row(row):
    if row.step == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
run.run([(photos, 1.0)], folder, options, on_start, on_row)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """After kill -9 between two checkpoints the log is that of a run which was never killed."""
    text = RUN.replace("{options}", repr(vars(options(steps=200))))

    def go_apart(folder: str, killed_at: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", text, photos, tmp_path / folder, str(killed_at)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    assert go_apart("whole", -1).returncode == 0
    killed = go_apart("killed", 100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.load(tmp_path / "killed").step == 50
    resumed = go_apart("killed", -1)
    assert resumed.stdout == "50 True\n"
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ends = [checkpoint.load(tmp_path / name).average for name in ("killed", "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_finished_leg_is_followed_by_another(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """Constant first, decayed later: steps and history add up, the rate ends near zero."""
    go(photos, tmp_path, options(steps=50, decay=0.0))
    done = go(photos, tmp_path, options(steps=50, decay=1.0))
    assert done.step == 100
    assert [leg["steps"] for leg in done.history] == [50, 50]
    rows = log.read(tmp_path)
    assert rows[-1].rate < 0.05


def test_rate_warms_up_stays_and_falls() -> None:
    """Linear warm-up over 100 steps, then flat, then linear to zero at the end of the leg."""
    assert rate(0, 0.0, peak=1.0, decay=0.5) == pytest.approx(0.01)
    assert rate(500, 0.4, peak=0.8, decay=0.5) == pytest.approx(0.8)
    assert rate(500, 0.75, peak=1.0, decay=0.5) == pytest.approx(0.5)
    assert rate(500, 1.0, peak=1.0, decay=0.5) == 0.0
    assert rate(500, 1.0, peak=1.0, decay=0.0) == 1.0


def test_exported_is_what_was_trained(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """Payloads of the exported model are as long as the loss says, within 0.5 % and a header."""
    done = go(photos, tmp_path / "run", options(steps=150))
    net, clamped = export.network(done)
    model = export.export(net, "small", export.card_of(done, "none", clamped))
    assert clamped == []
    card = model_file.ModelFile.from_bytes(model).card
    assert card["steps"] == 150
    (measured,) = measure(model, [photos])
    assert measured.images == 6
    assert measured.model_bytes == pytest.approx(measured.loss_bytes, rel=0.005, abs=6 * 8)


@pytest.mark.slow
def test_training_goes_on_from_a_model_file(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """Weights alone, on a new machine: the first rows are those of a trained network."""
    done = go(photos, tmp_path / "run", options(steps=150))
    net, clamped = export.network(done)
    (tmp_path / "a.model").write_bytes(export.export(net, "a", export.card_of(done, "", clamped)))
    more = go(
        photos,
        tmp_path / "more",
        options(steps=50, start=tmp_path / "a.model", dim=None, blocks=None),
    )
    assert more.step == 200
    assert more.architecture == done.architecture
    assert log.read(tmp_path / "more")[0].colour < log.read(tmp_path / "run")[0].colour


def test_rows_beyond_the_bound_are_clamped_and_said() -> None:
    """A diverged row is shrunk until its bound is proven; without that, export refuses it."""
    net = mgcf.MGCF(architecture.Architecture(dim=16, blocks=1))
    with torch.no_grad():
        net.blocks[0].expand.weight[3] = 40.0  # type: ignore[union-attr, index]
    with pytest.raises(FormatError, match="exact up to"):
        export.export(net, "wild", {})
    clamped = export.clamp_rows(net)
    assert len(clamped) == 1
    assert clamped[0].startswith("blocks.0.expand: 1 of 64 rows")
    model = export.export(net, "tamed", {})
    tile = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    engine = Engine.open(model, device="cpu", threads=1)
    assert np.array_equal(engine.decode(engine.encode([tile]), [(12, 9, 3)])[0], tile)


def test_clamped_bound_leaves_room_for_rounding() -> None:
    """The largest row after clamping, rounded to its grid, is within the exact limit."""
    layer = mgcf.Linear(512, 4)
    net = torch.nn.ModuleDict({"expand": layer})
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 512) * 3)
    export.clamp_rows(net)  # type: ignore[arg-type]
    layer.train()
    weight, bias = layer.on_grid()
    assert float(grid.row_bounds(weight, bias).max()) <= limits.EXACT_LIMIT


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a checkpoint"),
        (b"\x80\x04rubbish", "not a checkpoint"),
        (b"ARCTRAIN1", "is damaged"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    """Empty, rubbish, missing: a UsageError that names the file."""
    file = tmp_path / checkpoint.FILE
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=expected) as caught:
        checkpoint.load(tmp_path)
    assert str(file) in str(caught.value)


def test_width_must_suit_the_hardware(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """A dim that is no multiple of 8 is refused before anything is trained."""
    with pytest.raises(UsageError, match="multiple of 8"):
        go(photos, tmp_path, options(dim=12))


@pytest.mark.gpu
def test_gpu_learns_what_the_cpu_learns(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """The same command on a GPU gives the same curve, up to rounding."""
    go(photos, tmp_path / "cpu", options(steps=100))
    go(photos, tmp_path / "gpu", options(steps=100, device="cuda"))
    for ours, theirs in zip(losses(tmp_path / "cpu"), losses(tmp_path / "gpu"), strict=True):
        assert math.isclose(ours[1], theirs[1], rel_tol=0.05)


def test_figure_is_drawn(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """The loss and the rate against the steps, as a PNG in the run's folder."""
    pytest.importorskip("matplotlib")
    go(photos, tmp_path, options(steps=100))
    assert log.draw(tmp_path).read_bytes().startswith(b"\x89PNG")


def test_damaged_checkpoint_is_never_used(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """Cut anywhere, or one bit flipped: refused by its checksum, the file named."""
    go(photos, tmp_path, options(steps=1))
    file = tmp_path / checkpoint.FILE
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 30):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        for damaged in (whole[:position], bytes(flipped)):
            file.write_bytes(damaged)
            with pytest.raises(UsageError, match=r"checkpoint\.pt: "):
                checkpoint.load(tmp_path)


def test_another_size_than_the_run_has_is_refused(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """--dim on a run of another width is an error, not ignored."""
    go(photos, tmp_path, options(steps=1))
    with pytest.raises(UsageError, match=r"--dim 16: the network in .* has 8"):
        go(photos, tmp_path, options(steps=1, dim=16))


def test_a_row_that_was_cut_short_is_dropped(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """A full disk leaves half a row: the run goes on, the rows before it are kept."""
    go(photos, tmp_path, options(steps=50))
    with (tmp_path / log.CSV).open("a") as stream:
        stream.write("100,1,2")
    go(photos, tmp_path, options(steps=50, decay=1.0))
    assert [row.step for row in log.read(tmp_path)] == [50, 100]


def test_a_diverged_run_is_not_exported(photos: Path, tmp_path: Path, options: MakeOptions) -> None:
    """Weights that are not finite: the message says that the run diverged, and what to do."""
    done = go(photos, tmp_path, options(steps=1))
    done.average["blocks.0.attend.weight"][0, 0] = float("nan")
    with pytest.raises(ArchiverError, match="diverged"):
        export.network(done)


def test_export_never_replaces_what_it_reads(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """`archiver export a.model` would write a.model: refused; runs with dots keep their names."""
    go(photos, tmp_path / "run.1", options(steps=1))
    invoke = CliRunner().invoke
    assert invoke(main, ["export", str(tmp_path / "run.1")]).exit_code == 0
    model = tmp_path / "run.1.model"
    before = model.read_bytes()
    again = invoke(main, ["export", str(model), "-o", str(model)])
    assert again.exit_code == 2
    assert "name another file" in again.output
    assert model.read_bytes() == before


def test_unknown_device_is_a_usage_error(
    photos: Path, tmp_path: Path, options: MakeOptions
) -> None:
    """A device that torch does not know is named before any image is read."""
    with pytest.raises(UsageError, match="--device foo: expected cpu"):
        go(photos, tmp_path, options(device="foo"))
