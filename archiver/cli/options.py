"""The options and arguments that commands share: each a named value, used as a decorator."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from archiver.cli.output import JSON_FLAG, Output
from archiver.errors import NotFoundError, UsageError
from archiver.jobs.spec import FIDELITIES, PROFILES

Command = Callable[..., None]

DEPTHS = ("structure", "samples", "files")
_ANY_PATH = click.Path(path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

source = click.argument("source", type=_FOLDER)
archive = click.argument("archive", type=_ANY_PATH)
archive_or_default = click.argument("archive", type=_ANY_PATH, required=False)
dest = click.argument("dest", type=click.Path(file_okay=False, path_type=Path))
entry = click.argument("entry", required=False)
patterns = click.argument("patterns", metavar="[PATTERN]...", nargs=-1)

profile = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="balanced",
    show_default=True,
    help="How much time to spend on size.  quick: no model; JPEG-LS, JPEGs by libjxl, zstd for the"
    " rest.  fast: the small model, JPEGs by libjxl.  balanced: the"
    " large model, an archive model tuned once on a sample of the files, the best orientation and"
    " last layer of each image that pays for it, and the coefficients of JPEGs.  max: fits all"
    " layers to each such image, which takes minutes.",
)
model = click.option(
    "--model",
    metavar="NAME",
    help="Base model to use: mgcf, mgcf-s or mgcf-xs (smaller and faster), or the path of a .model"
    " file.  [default: mgcf-xs for profile fast, else mgcf; quick uses none]",
)
fidelity = click.option(
    "--fidelity",
    type=click.Choice(FIDELITIES),
    default="bytes",
    show_default=True,
    help="What `unpack` gives back.  bytes: the same file, same SHA-256.  samples: every sample and"
    " every metadata field, in a container that may be compressed differently.",
)
include = click.option(
    "--include",
    metavar="GLOB",
    multiple=True,
    help="Pack only paths that match, e.g. '*.tif' or 'slides/**'.  May be given several times.",
)
exclude = click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    help="Leave out paths that match; wins over --include.",
)
workers = click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Worker processes of the local cluster; 0: no cluster, all in this process."
    "  [default: one for each GPU, else as the cores allow]",
)
scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Join a running Dask scheduler, e.g. tcp://host:8786."
)
tile = click.option(
    "--tile",
    type=int,
    metavar="N",
    help="Side of the tiles, in samples.  Larger packs a little better; smaller reads regions"
    " faster.  [default: 256; 512 with quick and max]",
)
adapt_steps = click.option(
    "--adapt-steps",
    type=int,
    metavar="N",
    help="Tune the archive model for at most N steps and, with max, fit adapters for N passes (at"
    " most 100); 0: tune and fit nothing, try no orientations.  [default: up to 2000, in about a"
    " fifth of the time that coding takes; 12 to 36 passes]",
)
adapt_seconds = click.option(
    "--adapt-seconds",
    type=float,
    metavar="S",
    help="Tune a model, and fit the adapter of an image, for at most S seconds each; 0: tune and"
    " fit nothing, try no orientations.",
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="Scan and say what would be packed; write nothing."
)
checksum = click.option(
    "--checksum",
    is_flag=True,
    help="Read every file and compare its content.  Without it a file counts as unchanged if its"
    " size, modification time, change time and inode are what they were.",
)
keep_deleted = click.option(
    "--keep-deleted",
    is_flag=True,
    help="Keep showing what SOURCE no longer has.  Without it the new generation goes without"
    " it; earlier generations keep it.",
)
allow_empty = click.option(
    "--allow-empty",
    is_flag=True,
    help="Take it as meant that SOURCE has no file any more.  Without it that is an error, as a"
    " disk that is not mounted looks the same.",
)
generation = click.option(
    "--generation",
    type=click.IntRange(min=1),
    metavar="N",
    help="The tree of generation N; `archiver info` lists them.  [default: the newest]",
)
figure = click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the bits of every tile of ENTRY, and the fit of its adapter, as PNG, PDF or SVG.",
)
depth = click.option(
    "--depth",
    type=click.Choice(DEPTHS),
    default="files",
    show_default=True,
    help="How far to look.  structure: manifest, models and shards by checksum, nothing decoded."
    "  samples: also decode every tile.  files: also rebuild every file and compare its SHA-256.",
)
long = click.option(
    "-l",
    "--long",
    "is_long",
    is_flag=True,
    help="Show mode, sizes, ratio, format, fidelity, shape.",
)


def output(command: Command) -> Command:
    """Add --json and -q; the command takes what follows from them as ``output``."""

    @click.option(
        JSON_FLAG, "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else."
    )
    @click.option("-q", "--quiet", is_flag=True, help="Print errors only (and JSON if asked for).")
    @wraps(command)
    def with_output(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> None:
        command(*args, output=Output(as_json=as_json, quiet=quiet), **kwargs)

    return with_output


def archive_beside(source: Path) -> Path:
    """Return where SOURCE goes if nobody says: its name + '.archive', beside it."""
    named = source.resolve() if source.name in ("", "..") else source
    if not named.name:
        raise UsageError(f"{source}: has no name to derive one from; name the ARCHIVE")
    return named.with_name(named.name + ".archive")


def archive_here(folder: Path) -> Path:
    """Return the archive at or in ``folder``; raises if there is none, or more than one."""
    if (folder / "zarr.json").is_file():
        return folder
    archives = sorted(path.parent for path in folder.glob("*.archive/zarr.json"))
    if not archives:
        raise NotFoundError(f"{folder.absolute()}: no archive here; name it: archiver verify PATH")
    if len(archives) > 1:
        names = ", ".join(path.name for path in archives)
        raise UsageError(f"{folder.absolute()}: several archives here, name one of: {names}")
    return archives[0]
