"""`archiver pack`: a directory tree into an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import SourceError
from archiver.jobs.spec import PackSettings
from archiver.report import summary as report


@click.command()
@options.source
@options.archive_or_default
@options.profile
@options.model
@options.fidelity
@options.include
@options.exclude
@options.workers
@options.scheduler
@options.tile
@options.adapt_steps
@options.adapt_seconds
@options.checksum
@options.keep_deleted
@options.allow_empty
@options.dry_run
@options.output
@click.pass_context
def pack(
    ctx: click.Context, /, source: Path, archive: Path | None, output: Output, **asked: Any
) -> None:
    """Put the directory tree SOURCE into ARCHIVE.

    ARCHIVE defaults to SOURCE's name with `.archive` added, beside it.  If it exists, this adds a
    generation: the tree as it is now, of which only what is new or changed is coded; what was
    removed is gone from it, and is still in the generations before.  Identical content is stored
    once.  Every file is decoded again and compared before it is committed.  Stop it at any moment:
    the archive stays as it was, and the same command continues.

    \b
    Examples:
      archiver pack /data/histo
      archiver pack /data/histo /backup/histo.archive --include '*.tif'
      archiver pack scans --profile fast --workers 0      no cluster, one process
      archiver pack scans --scheduler tcp://head:8786     on a running Dask cluster
      archiver pack scans --dry-run                       only say what would be done

    Exits with 3 if some files could not be read; all others are in the archive then.
    """
    from archiver.jobs import run  # brings in dask and torch: not for --help

    settings = PackSettings(**asked)
    with output.watch("packing") as on_event:
        summary = run.pack(source, archive or options.archive_beside(source), settings, on_event)
    output.result(report.pack_shown(summary, source, settings), report.pack_json(summary, settings))
    if summary.failures:
        ctx.exit(SourceError.exit_code)
