"""`archiver train`: make a base model out of a folder of images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import UsageError
from archiver.report.text import duration_text

if TYPE_CHECKING:
    from archiver.training.run import Started
    from archiver.training.train import Row

SHOWN = 5  # files left out that are named, per folder


@click.command()
@click.argument("data", metavar="DATA[=WEIGHT]...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run: checkpoint, log.csv, figure.  A run that is there goes on.",
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Train for so long.")
@click.option("--steps", type=click.IntRange(min=1), help="Train for so many steps.")
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="Share of the time, at its end, in which the learning rate falls to zero.  0: stay high,"
    " to go on later; 1: fall from the start, to finish a run that stayed high.",
)
@click.option(
    "--peak",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    help="Height of the learning rate before that.",
)
@click.option(
    "--start",
    type=click.Path(exists=True, path_type=Path),
    help="Begin with these weights: a .model file, a run or its checkpoint.",
)
@click.option("--dim", type=int, help="Width of a new network.  [default: 64]")
@click.option("--blocks", type=click.IntRange(1, 16), help="Depth of one.  [default: 3]")
@click.option("--crop", type=click.IntRange(16, 512), default=64, show_default=True)
@click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Crops a step."
)
@click.option(
    "--grey",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of batches that are grey.",
)
@click.option(
    "--high-depth",
    type=click.FloatRange(0, 1),
    default=0.15,
    show_default=True,
    help="Share of batches of more than 8 bits, if there are such images.",
)
@click.option(
    "--jpeg",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of colour crops that are compressed as JPEG and decoded first: slides and scenes"
    " often were JPEG once.",
)
@click.option(
    "--resize",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of colour crops that are enlarged by interpolation first.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Compile the step: twice as fast after a minute.  [default: if there is a compiler]",
)
@click.option("--figure", is_flag=True, help="Draw the loss at the end (needs archiver[plot]).")
@options.output
def train(data: tuple[str, ...], out: Path, figure: bool, output: Output, **asked: Any) -> None:
    """Train a base model on the images below each DATA folder.

    Images of 8 bits, grey or RGB, and of 9 to 16 bits are used, others skipped; JPEG files only at
    half size, where their traces are gone.  A WEIGHT, such as slides=2, says how often crops come
    from a folder; it is 1 if left out.  Run the same command again after a crash and it goes on.

    \b
    Examples:
      archiver train slides -o run --minutes 60
      archiver train photos=2 slides=1 -o run --dim 128 --decay 0   as long as you like
      archiver train photos=2 slides=1 -o run --decay 1 --minutes 60   and its end
      archiver export run -o slides.model
      archiver pack /data/histo --model slides.model
    """
    from archiver.training import log, run  # torch takes seconds to import

    shown = _Shown(output)
    done = run.run(_folders(data), out, run.Options(**asked), shown.start, shown.row)
    result = {"run": str(out), "steps": done.step, "log": str(out / log.CSV)}
    if figure:
        result["figure"] = str(log.draw(out))
        output.note(f"figure: {result['figure']}")
    text = f"{out}: {done.step} steps; make a model file of it: archiver export {out}"
    output.result(text, result)


class _Shown:
    """Shows a run on stderr as it goes."""

    def __init__(self, output: Output) -> None:
        self._note = output.note

    def start(self, started: Started) -> None:
        """Say what is learned from, and where the run begins."""
        for domain in started.domains:
            n_images = len(domain.images) + len(domain.high_depth)
            sizes = f"{n_images} images, {domain.n_samples / 1e6:.1f} M samples"
            self._note(f"{domain.name}: {sizes}, weight {domain.weight:g}")
            for reason in domain.skipped[:SHOWN]:
                self._note(f"  left out: {reason}")
            if len(domain.skipped) > SHOWN:
                self._note(f"  left out: {len(domain.skipped) - SHOWN} more")
        how = "goes on" if started.resumed else "begins"
        compiled = ", compiling first (a minute)" if started.settings.compiled else ""
        self._note(
            f"dim {started.architecture.dim}, {started.weights} weights, on "
            f"{started.settings.device}: {how} at step {started.step}{compiled}"
        )
        self._note("   step     time   colour     grey   16-bit     rate  gradient   Kpx/s")

    def row(self, row: Row) -> None:
        """Show one row of the log; losses are in bits per sample."""
        self._note(
            f"{row.step:7d} {duration_text(row.seconds):>8} {row.colour:8.4f} {row.grey:8.4f} "
            f"{row.high_depth:8.4f} {row.rate:8.4f} {row.gradient:9.2f} {row.pixels_s / 1e3:7.1f}"
        )


def _folders(values: tuple[str, ...]) -> list[tuple[Path, float]]:
    """Return folder and weight of each DATA[=WEIGHT]; UsageError if one is neither."""
    parsed = []
    for value in values:
        name, _, weight = value.rpartition("=") if "=" in value else (value, "", "1")
        if Path(value).is_dir():
            name, weight = value, "1"
        try:
            parsed.append((Path(name), float(weight)))
        except ValueError as error:
            raise UsageError(f"{value}: expected FOLDER or FOLDER=WEIGHT") from error
        if not Path(name).is_dir():
            raise UsageError(f"{name}: no such folder; expected a folder of images to train on")
        if not 0 < parsed[-1][1] < math.inf:
            raise UsageError(f"{value}: expected a weight above 0")
    return parsed
