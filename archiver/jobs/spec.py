"""Settings of a pack job: defaults, limits, and what an archive records of them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from archiver.errors import UsageError

if TYPE_CHECKING:
    from archiver.pipeline import Effort

PROFILES = ("quick", "fast", "balanced", "max")
FIDELITIES = ("bytes", "samples")
MIN_TILE = 16
MAX_TILE = 1024
MAX_PASSES = 100  # over one image
_MAX_GLOBS = 200_000  # bytes, as JSON

# These say where and how fast a job runs, and how it looks at the source.  They never change how it
# stores, so an archive does not record them: the same settings on another machine stay the same.
_OF_THE_MACHINE = ("workers", "scheduler", "dry_run", "checksum", "allow_empty")


@dataclass(frozen=True)
class PackSettings:
    """The options of ``archiver pack``; wrong values raise `UsageError` at once.

    ``model`` None is the default base model, ``tile`` None the tile side of the profile.
    ``workers`` 0 runs in this process, None starts a local cluster sized to the machine;
    ``scheduler`` joins a running Dask scheduler instead.  ``include`` and ``exclude`` are globs on
    paths inside SOURCE; an empty ``include`` means everything.  ``adapt_steps`` and
    ``adapt_seconds`` bound the tuning of models on the data; without both it takes a part of the
    time of coding, with 0 there is none.  ``checksum`` reads every file, whatever its times say;
    ``keep_deleted`` keeps showing what SOURCE no longer has; ``allow_empty`` lets a generation
    without any file follow one that has some.
    """

    profile: str = "balanced"
    model: str | None = None
    fidelity: str = "bytes"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    workers: int | None = None
    scheduler: str | None = None
    tile: int | None = None
    adapt_steps: int | None = None
    adapt_seconds: float | None = None
    dry_run: bool = False
    checksum: bool = False
    keep_deleted: bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        _check_choice("profile", self.profile, PROFILES)
        _check_choice("fidelity", self.fidelity, FIDELITIES)
        if self.model is not None and not self.has_models:
            raise UsageError(
                f"model: the profile {self.profile} uses none; take another profile for "
                f"{self.model!r}, or leave it out"
            )
        _check_globs("include", self.include)
        _check_globs("exclude", self.exclude)
        check_workers(self.workers, self.scheduler)
        _check_tile(self.tile)
        _check_bound("adapt-steps", self.adapt_steps)
        _check_bound("adapt-seconds", self.adapt_seconds)

    @property
    def adapts(self) -> bool:
        """True if the profile asks for archive models tuned on the data, and for adapters."""
        return self.profile in ("balanced", "max")

    @property
    def has_models(self) -> bool:
        """False if the profile does without any."""
        return self.profile != "quick"

    @property
    def tunes(self) -> bool:
        """True if new models may be tuned: neither bound is 0."""
        return self.adapts and self.adapt_steps != 0 and self.adapt_seconds != 0

    @property
    def tile_side(self) -> int:
        """The side of tiles at most: as asked, else as the profile has it."""
        from archiver.pipeline import DEFAULT_TILE, LARGE_TILE

        return self.tile or (LARGE_TILE if self.profile in ("quick", "max") else DEFAULT_TILE)

    @property
    def effort(self) -> Effort | None:
        """How long to fit an adapter to each file; None if the profile asks for none."""
        from archiver.pipeline import Effort  # not for --help

        if not self.tunes:
            return None
        if self.profile != "max":
            return Effort(0, self.adapt_seconds)
        passes = None if self.adapt_steps is None else min(self.adapt_steps, MAX_PASSES)
        return Effort(passes, self.adapt_seconds)

    def recorded(self) -> dict[str, object]:
        """Return the settings that an archive records: JSON-able, the same on every machine."""
        settings = {k: v for k, v in asdict(self).items() if k not in _OF_THE_MACHINE}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{key}: expected one of {', '.join(choices)}, got {value!r}")


def _check_globs(key: str, globs: tuple[str, ...]) -> None:
    for glob in globs:
        if not glob or glob.startswith("/"):
            raise UsageError(
                f"{key}: expected a glob relative to SOURCE, such as '*.tif' or 'slides/**', "
                f"got {glob!r}"
            )
    if len(json.dumps(globs)) > _MAX_GLOBS:
        raise UsageError(
            f"{key}: {len(globs)} globs are more than an archive records ({_MAX_GLOBS} bytes); "
            "name directories in place of files"
        )


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Raise UsageError unless it is one of them, and makes sense."""
    if workers is not None and workers < 0:
        raise UsageError(
            f"workers: expected 0 (run in this process) or a number of workers, got {workers}"
        )
    if workers is not None and scheduler is not None:
        raise UsageError(
            f"workers: the scheduler at {scheduler} already has its workers; "
            "give --workers or --scheduler, not both"
        )


def _check_tile(tile: int | None) -> None:
    if tile is not None and not MIN_TILE <= tile <= MAX_TILE:
        raise UsageError(
            f"tile: expected a side of {MIN_TILE} to {MAX_TILE} samples, got {tile}; "
            "leave it out for the default"
        )


def _check_bound(key: str, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise UsageError(f"{key}: expected a number from 0 on, got {value}; 0 tunes no model")
