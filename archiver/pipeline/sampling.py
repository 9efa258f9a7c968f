"""Own the sample of a dataset that models are tuned and judged by: a few tiles of a few files.

Bounded in files, bytes read and pixels kept; a function of the files and the seed alone.  Files are
taken at random, tiles in proportion to the pixels of their file, and some files are held out: what
a model saves on them it will save on files that nobody sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archiver import sources
from archiver.errors import SourceError
from archiver.image import Image, Samples
from archiver.pipeline import coding
from archiver.pipeline.choice import is_learnable
from archiver.pipeline.geometry import DEFAULT_TILE, Place

MIN_TILES = 2  # of a file
HELD_OUT = 5  # one file of so many; one tile of so many where files are few


@dataclass(frozen=True)
class Limits:
    """What a sample takes at most; ``pixels`` also as a share of what there seems to be."""

    files: int = 96
    visits: int = 384  # files looked at, images or not
    share: int = 10  # of the bytes: one of so many are read, at least ``input_bytes``
    input_bytes: int = 256 << 20
    pixels: tuple[int, int] = (1 << 19, 1 << 24)  # least, most
    pixel_share: int = 16


@dataclass(frozen=True)
class SampledTile:
    """A tile of 8 bit samples, grey or colour, of the sample's ``file``-th file.

    Held out, a pixel of it stands for ``scale`` pixels of the dataset.
    """

    samples: Samples
    file: int
    scale: float
    is_held_out: bool


@dataclass(frozen=True)
class Sample:
    """Tiles of a dataset of about ``pixels`` that a model could code.

    ``as_is`` is the size of each file held out, scaled: no file ever takes more.
    """

    tiles: tuple[SampledTile, ...]
    pixels: float
    as_is: Mapping[int, float]

    @property
    def learned_from(self) -> list[SampledTile]:
        """The tiles that a model may be tuned on."""
        return [tile for tile in self.tiles if not tile.is_held_out]

    @property
    def held_out(self) -> list[SampledTile]:
        """The tiles that it is judged by; scaled, they are the whole dataset."""
        return [tile for tile in self.tiles if tile.is_held_out]


@dataclass(frozen=True)
class _Visited:
    images: tuple[Image, ...]
    places: list[tuple[int, Place]]  # of learnable tiles
    pixels: int
    size: int  # of the file


def shortlist(n_files: int, *, seed: int = 0, limits: Limits | None = None) -> list[int]:
    """Return which of so many files are looked at, in that order."""
    visits = (limits or Limits()).visits
    order = np.random.default_rng(seed).permutation(n_files)
    return [int(number) for number in order[:visits]]


def draw(
    files: Sequence[tuple[Path, int]],
    total_bytes: int,
    *,
    tile: int = DEFAULT_TILE,
    seed: int = 0,
    limits: Limits | None = None,
) -> Sample:
    """Return a sample of the (path, size) files of a shortlist out of ``total_bytes``.

    Files that cannot be parsed count as no image.
    """
    limits, rng = limits or Limits(), np.random.default_rng(seed)
    visited, bytes_read = _visit(files, total_bytes, tile, limits)
    sizes = [(one.pixels, one.size) for one in visited]
    if not visited:
        return Sample((), 0.0, {})
    sampled = sum(one.pixels for one in visited)
    pixels = sampled * total_bytes / max(1, bytes_read)
    room = min(limits.pixels[1], max(limits.pixels[0], int(pixels) // limits.pixel_share))
    share = min(1.0, room / sampled)
    by_file = []
    while visited:  # one by one: an image may keep what it has decoded
        by_file.append(list(_read(visited.pop(0), share, rng)))
    return _split(by_file, sizes, pixels, rng)


def _visit(
    files: Sequence[tuple[Path, int]], total: int, tile: int, limits: Limits
) -> tuple[list[_Visited], int]:
    """Parse files until the sample is full; return those with images, and the bytes of all."""
    most_bytes = max(limits.input_bytes, total // limits.share)
    visited: list[_Visited] = []
    seen: set[bytes] = set()
    bytes_read = 0
    for path, size in files:
        if len(visited) == limits.files or (bytes_read and bytes_read + size > most_bytes):
            break
        bytes_read += size
        try:
            parsed = sources.parse(path)
        except SourceError:
            continue  # said when it is packed
        places = [
            (i, place)
            for i, place in coding.all_places(parsed.images, tile)
            if is_learnable(parsed.images[i], place)
        ]
        if places and parsed.sha256 not in seen:  # a copy costs nothing, so nothing can be saved
            seen.add(parsed.sha256)
            pixels = sum(place.height * place.width for _, place in places)
            visited.append(_Visited(parsed.images, places, pixels, size))
    return visited, bytes_read


def _read(file: _Visited, share: float, rng: np.random.Generator) -> Iterator[Samples]:
    """Yield some tiles of a file, none if it cannot be read any more."""
    n = len(file.places)
    count = min(n, max(MIN_TILES, round(share * n)))
    try:
        for number in sorted(rng.choice(n, count, replace=False).tolist()):
            image, place = file.places[number]
            yield coding.read_tile(file.images[image], place)
    except SourceError:
        return


def _split(
    by_file: Sequence[Sequence[Samples]],
    sizes: Sequence[tuple[int, int]],
    total: float,
    rng: np.random.Generator,
) -> Sample:
    """Return the sample of files (pixels, bytes); hold out files, or tiles where files are few."""
    n = len(by_file)
    by_files = n >= HELD_OUT
    chosen = set(rng.permutation(n)[: max(1, n // HELD_OUT)].tolist()) if by_files else set()
    flags = [
        [number in chosen if by_files else i % HELD_OUT == HELD_OUT - 1 for i in range(len(tiles))]
        for number, tiles in enumerate(by_file)
    ]
    if not by_files and not any(map(any, flags)):  # only some tiles in all
        longest = max(range(n), key=lambda number: len(by_file[number]))
        flags[longest][-1:] = [True] * (len(by_file[longest]) > 1)
    held = sum(pixels for (pixels, _), marks in zip(sizes, flags, strict=True) if any(marks))
    sampled, as_is = [], {}
    for number, (tiles, marks) in enumerate(zip(by_file, flags, strict=True)):
        kept = sum(_area(t) for t, is_out in zip(tiles, marks, strict=True) if is_out)
        scale = sizes[number][0] / kept * total / held if kept else 0.0
        for samples, is_out in zip(tiles, marks, strict=True):
            sampled.append(SampledTile(samples, number, scale, is_out))
        if kept:
            as_is[number] = sizes[number][1] * total / held
    return Sample(tuple(sampled), total, as_is)


def _area(tile: Samples) -> int:
    height, width = tile.shape[:2]
    return int(height * width)
