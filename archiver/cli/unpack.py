"""`archiver unpack`: files out of an archive."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import worst_code
from archiver.report import summary as report


@click.command()
@options.archive
@options.dest
@options.patterns
@options.generation
@options.workers
@options.scheduler
@options.output
@click.pass_context
def unpack(
    ctx: click.Context,
    /,
    archive: Path,
    dest: Path,
    patterns: tuple[str, ...],
    generation: int | None,
    workers: int | None,
    scheduler: str | None,
    output: Output,
) -> None:
    """Write the files of ARCHIVE to the directory DEST.

    All of them, or those whose path matches a PATTERN.  Each file is compared with its checksum
    before it gets its name, so that no wrong file is ever left behind.

    \b
    Examples:
      archiver unpack /data/histo.archive restored
      archiver unpack /data/histo.archive restored 'slides/2024-*/*.tif' README.txt
      archiver unpack /data/histo.archive restored --generation 3    the tree of that night
      archiver unpack /data/histo.archive restored --scheduler tcp://head:8786

    Exits with 12 if some files are damaged, with 16 if some could not be written, with 15 if
    workers or disks failed before some could be read; all others are written then.
    """
    from archiver.jobs import run  # brings in dask and torch: not for --help

    with output.watch("unpacking") as on_event:
        summary = run.unpack(
            archive,
            dest,
            patterns,
            generation=generation,
            workers=workers,
            scheduler=scheduler,
            on_event=on_event,
        )
    output.result(report.unpack_shown(summary), report.unpack_json(summary))
    ctx.exit(worst_code(failure.verdict for failure in summary.failures))
