"""`archiver info`: an archive as a whole, or one entry in detail."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import IntegrityError, UsageError
from archiver.report import contents
from archiver.report import figure as draw


@click.command()
@options.archive
@options.entry
@options.figure
@options.generation
@options.output
@click.pass_context
def info(
    ctx: click.Context,
    /,
    archive: Path,
    entry: str | None,
    figure: Path | None,
    generation: int | None,
    output: Output,
) -> None:
    """Describe ARCHIVE, or one ENTRY of it.

    Of an archive: sizes, models, generations, tiles by codec.  Of an entry: format, why it is kept
    as it is, checksum, images, tiles by codec, bits per sample, and what its adapter brought.

    \b
    Examples:
      archiver info /data/histo.archive
      archiver info /data/histo.archive slides/a.tif      one entry: format, why kept, images
      archiver info /data/histo.archive slides/a.tif --figure a.png    where its bits are
      archiver info --json /data/histo.archive | jq .archive_bytes

    Exits with 12 if a model of the archive cannot be read.
    """
    from archiver.pipeline import open_archive  # brings in zarr: not for --help

    opened = open_archive(archive, generation)
    if entry is None and figure is not None:
        raise UsageError(
            "--figure draws one entry; name it: archiver info ARCHIVE ENTRY --figure F"
        )
    if entry is None:
        output.result(
            contents.archive_shown(archive, opened), contents.archive_json(archive, opened)
        )
        faults = [model.fault for model in opened.models if model.fault]
        for fault in faults:
            output.failure("model", fault)
        if faults:
            ctx.exit(IntegrityError.exit_code)
        return
    described = opened.entry(entry)
    if figure is not None:
        draw.write(figure, described)
    output.result(contents.entry_shown(described), contents.entry_in_full_json(described))
