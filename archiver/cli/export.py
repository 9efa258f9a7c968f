"""`archiver export`: a model file out of a training run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import UsageError

if TYPE_CHECKING:
    from archiver.training.measure import Measured


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The model file.  [default: RUN.model]",
)
@click.option("--name", help="Name of the model, as archives show it.  [default: as the file]")
@click.option("--licence", default="", help="What may be done with it, and why; kept in its card.")
@click.option(
    "--measure",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Code the images of this folder, which it was not trained on, beside JPEG XL effort 9;"
    " the figures go into the card.  May be given several times.",
)
@click.option("--workers", type=click.IntRange(0), help="Processes that measure.  [default: cores]")
@options.output
def export(
    run: Path,
    out: Path | None,
    name: str | None,
    licence: str,
    folders: tuple[Path, ...],
    workers: int | None,
    output: Output,
) -> None:
    """Make a model file of the training run RUN (a folder or its checkpoint).

    The averaged weights are put on the grid, every row is proven to be exact, and the digest of
    a known-answer test is stored, which every machine repeats before it uses the model.

    \b
    Examples:
      archiver export run -o slides.model
      archiver export run --measure /data/validation
      archiver pack /data/histo --model slides.model
    """
    from archiver.archive import durable  # numpy and torch take seconds to import
    from archiver.training import checkpoint
    from archiver.training import export as exporting
    from archiver.training.measure import measure

    out = out or run.with_name(f"{run.absolute().name}.model")
    if out.exists() and out.samefile(run):
        raise UsageError(f"{out}: is what is to be exported; name another file with -o")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: expected a file in a folder that is there; make the folder first")
    trained = checkpoint.load(run)
    net, clamped = exporting.network(trained)
    card = exporting.card_of(trained, licence, clamped)
    model = exporting.export(net, name or out.stem, card)
    if folders:
        n_workers = workers if workers is not None else os.cpu_count() or 1
        measured = measure(model, folders, workers=n_workers)
        card["measured"] = [_figures(m) for m in measured]
        model = exporting.export(net, name or out.stem, card)
        for line in _table(measured):
            output.note(line)
        for m in measured:
            for reason in m.skipped:
                output.note(f"left out of {m.name}: {reason}")
    for line in clamped:
        output.note(f"clamped to stay exact: {line}")
    durable.replace_file(out, model, scratch=out.with_name(f".{out.name}.wip"))
    shown = f"{out}: {trained.step} steps, {len(model)} bytes"
    output.result(shown, {"model": str(out), "bytes": len(model), "card": card})


def _figures(m: Measured) -> dict[str, object]:
    return {
        "set": m.name,
        "images": m.images,
        "samples": m.samples,
        "bits_per_sample": round(m.bits_per_sample, 4),
        "of_jpegxl_9": round(m.ratio, 4),
        "above_loss": round(m.model_bytes / m.loss_bytes - 1, 5),
    }


def _table(measured: list[Measured]) -> list[str]:
    head = f"{'set':<16} {'images':>6} {'bytes':>10} {'bits/sample':>11} {'of JPEG XL 9':>12}"
    rows = [
        f"{m.name:<16} {m.images:>6} {m.model_bytes:>10} "
        f"{m.bits_per_sample:>11.4f} {m.ratio:>12.4f}"
        for m in measured
    ]
    return [head, *rows]
