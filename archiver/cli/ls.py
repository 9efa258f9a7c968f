"""`archiver ls`: what is in an archive?"""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import options
from archiver.cli.output import Output, write_json
from archiver.report import contents
from archiver.report.text import printable


@click.command()
@options.archive
@options.patterns
@options.long
@options.generation
@options.output
def ls(
    archive: Path,
    patterns: tuple[str, ...],
    is_long: bool,
    generation: int | None,
    output: Output,
) -> None:
    """List what is in ARCHIVE.

    All entries, or those whose path matches a PATTERN.

    \b
    Examples:
      archiver ls /data/histo.archive
      archiver ls -l /data/histo.archive '*.tif'
      archiver ls /data/histo.archive --generation 3    as it was
      archiver ls --json /data/histo.archive | jq '.entries[].path'
    """
    from archiver.pipeline import open_archive  # brings in zarr: not for --help

    entries = open_archive(archive, generation).entries(patterns)
    if output.as_json:
        write_json({"entries": [contents.entry_json(entry) for entry in entries]})
        return
    if output.quiet:
        return
    if is_long:
        click.echo(contents.LONG_HEADER)
    for entry in entries:
        click.echo(contents.entry_line(entry) if is_long else printable(entry.path))
