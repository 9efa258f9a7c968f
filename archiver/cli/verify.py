"""`archiver verify`: is the archive complete and undamaged?"""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import options
from archiver.cli.output import Output
from archiver.errors import worst_code
from archiver.report import summary as report


@click.command()
@options.archive_or_default
@options.depth
@options.workers
@options.scheduler
@options.output
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    archive: Path | None,
    depth: str,
    workers: int | None,
    scheduler: str | None,
    output: Output,
) -> None:
    """Check that ARCHIVE is complete and undamaged.

    ARCHIVE defaults to the archive in or at the current directory.  The default depth decodes
    everything and compares each file's SHA-256, which takes a seventh to half of packing;
    `structure` only reads and compares checksums, as fast as the disk allows.

    \b
    Examples:
      archiver verify                                     the archive here
      archiver verify /data/histo.archive
      archiver verify --depth structure --json /data/histo.archive
      archiver verify /data/histo.archive --scheduler tcp://head:8786

    Exits with 12 if there is damage, and says which files it hits and what to do; with 15 if some
    files could not be checked, because workers or disks failed: nothing says that they are damaged.
    """
    from archiver.jobs import run  # brings in dask and torch: not for --help

    with output.watch("verifying") as on_event:
        summary = run.verify(
            archive or options.archive_here(Path()),
            depth=depth,
            workers=workers,
            scheduler=scheduler,
            on_event=on_event,
        )
    output.result(
        report.verify_shown(summary), report.verify_json(summary), is_bad=bool(summary.problems)
    )
    ctx.exit(worst_code(problem.verdict for problem in summary.problems))
