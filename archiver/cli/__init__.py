"""The command line: the group of commands, logging, and errors turned into exit codes."""

from __future__ import annotations

import errno
import logging
from typing import Any

import click

import archiver
from archiver.cli.export import export
from archiver.cli.info import info
from archiver.cli.ls import ls
from archiver.cli.output import JSON_FLAG, errors_as_json, report_error, report_usage
from archiver.cli.pack import pack
from archiver.cli.train import train
from archiver.cli.unpack import unpack
from archiver.cli.verify import verify
from archiver.errors import ArchiverError, advice

CANCELLED = 130
EXIT_CODES = {
    0: "success",
    1: "failed: refused by the operating system, or a bug (run with -v)",
    2: "a bad option or argument",
    3: "some inputs could not be read; all others are in the archive",
    10: "no archive there, or no such entry",
    11: "not an archive, or of a version that this release cannot read",
    12: "the archive is damaged; the message says which files are hit",
    13: "another process is writing to the archive",
    14: "this machine does not compute the exact bits; nothing was written",
    15: "a machine, disk or worker failed: some files could not be checked; none is known damaged",
    16: "what was to be written could not be: disk full, read-only, no permission",
    CANCELLED: "cancelled by Ctrl-C; run the same command again to continue",
}
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class Commands(click.Group):
    """A group whose commands end with the exit code of the error they raised."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; report what it raises and exit with its code."""
        errors_as_json(ctx, JSON_FLAG in ctx.args)  # a wrong option is found before it is read
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            report_usage(error)
            ctx.exit(error.exit_code)
        except ArchiverError as error:
            report_error(error, error.exit_code)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output went away
                raise
            report_error(ArchiverError(_said(error)), ArchiverError.exit_code)
            ctx.exit(ArchiverError.exit_code)
        except KeyboardInterrupt:
            click.echo("cancelled; run the same command again to continue", err=True)
            ctx.exit(CANCELLED)


def _said(error: OSError) -> str:
    """Say what the operating system refused: where, why, what to do."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; {advice(error)}, then run the same command again"


def _exit_code_table() -> str:
    rows = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"\b\nExit codes:\n{rows}"


@click.group(
    cls=Commands,
    epilog=_exit_code_table(),
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ARCHIVER"},
)
@click.version_option(archiver.__version__, prog_name="archiver")
@click.option("-v", "--verbose", count=True, help="Log more to stderr; -vv for everything.")
def main(verbose: int) -> None:
    """Keep medical, histology and satellite images small, exact and checkable.

    An archive is a directory.  It takes a tree of files, stores the samples of images with a
    learned lossless codec, and gives back every file with the same SHA-256.

    \b
    Examples:
      archiver pack /data/histo               put a tree into /data/histo.archive
      archiver verify /data/histo.archive     decode everything and compare
      archiver ls -l /data/histo.archive      list what is inside
      archiver unpack /data/histo.archive out write all files to out/

    Every option has a default in the environment too: ARCHIVER_PACK_WORKERS=4 is
    `archiver pack --workers 4`.
    """
    level = _LEVELS[min(verbose, len(_LEVELS) - 1)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)


for _command in (pack, verify, unpack, ls, info, train, export):
    main.add_command(_command)
