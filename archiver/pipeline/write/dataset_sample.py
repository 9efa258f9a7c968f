"""The sample of a dataset that models are tuned and judged by: a few tiles of a few files.

Bounded in files, bytes read and pixels kept; a function of the files and the seed alone.  Files are
taken at random, tiles in proportion to the pixels of their file, and some files are held out: what
a model saves on them it will save on files that nobody sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from archiver import sources
from archiver.errors import SourceError
from archiver.image import Image, Samples
from archiver.pipeline.tiling import Place
from archiver.pipeline.write import tile_samples
from archiver.pipeline.write.model_choice import is_learnable

TILE = 128  # side at most: more places of a file, at the same price
MIN_TILES = 2  # of a file
HELD_OUT = 5  # one file of so many is held out ...
MANY_FILES = 20  # ... of at least these; of fewer, which may all differ, one tile of so many


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
    """A tile that a model can code, of the sample's ``file``-th file.

    Held out, a pixel of it stands for ``scale`` pixels of the dataset.
    """

    samples: Samples
    file: int
    scale: float
    is_held_out: bool


@dataclass(frozen=True)
class Sample:
    """Tiles of a dataset of about ``pixels`` that a model could code.

    ``as_is`` is the size of each file held out, scaled: no file ever takes more.  ``paths`` are
    those of the files, by number.
    """

    tiles: tuple[SampledTile, ...]
    pixels: float
    as_is: Mapping[int, float]
    paths: tuple[Path, ...] = ()

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
    path: Path
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
    tile: int = TILE,
    deep: bool = True,
    seed: int = 0,
    limits: Limits | None = None,
) -> Sample:
    """Return a sample of the (path, size) files of a shortlist out of ``total_bytes``.

    Files that cannot be parsed count as no image, and those of 16 bits unless ``deep``.
    """
    limits, rng = limits or Limits(), np.random.default_rng(seed)
    visited, bytes_read = _visit(files, total_bytes, min(tile, TILE), limits, deep)
    sizes = [(file.pixels, file.size) for file in visited]
    paths = tuple(file.path for file in visited)
    if not visited:
        return Sample((), 0.0, {})
    sampled = sum(file.pixels for file in visited)
    pixels = sampled * total_bytes / max(1, bytes_read)
    room = min(limits.pixels[1], max(limits.pixels[0], int(pixels) // limits.pixel_share))
    share = min(1.0, room / sampled)
    by_file = []
    while visited:  # one by one: an image may keep what it has decoded
        by_file.append(list(_read(visited.pop(0), share, rng)))
    return replace(_split(by_file, sizes, pixels), paths=paths)


def _visit(
    files: Sequence[tuple[Path, int]], total: int, tile: int, limits: Limits, deep: bool
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
            for i, place in tile_samples.all_places(parsed.images, tile)
            if is_learnable(parsed.images[i], place, deep=deep)
        ]
        if places and parsed.sha256 not in seen:  # a copy costs nothing, so nothing can be saved
            seen.add(parsed.sha256)
            pixels = sum(place.height * place.width for _, place in places)
            visited.append(_Visited(path, parsed.images, places, pixels, size))
    return visited, bytes_read


def _read(file: _Visited, share: float, rng: np.random.Generator) -> Iterator[Samples]:
    """Yield some tiles of a file, none if it cannot be read any more."""
    n = len(file.places)
    count = min(n, max(MIN_TILES, round(share * n)))
    try:
        for number in sorted(rng.choice(n, count, replace=False).tolist()):
            image, place = file.places[number]
            yield tile_samples.read_tile(file.images[image], place)
    except SourceError:
        return


def _split(
    by_file: Sequence[Sequence[Samples]],
    sizes: Sequence[tuple[int, int]],
    total: float,
) -> Sample:
    """Return the sample of files (pixels, bytes); hold out files, or tiles where files are few."""
    flags = _held_out([len(tiles) for tiles in by_file])
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


def _held_out(n_tiles: Sequence[int]) -> list[list[bool]]:
    """Return which tiles of each file are held out: every so many-th file, or tile; never all."""
    if len(n_tiles) >= MANY_FILES:  # in random order already
        return [[i % HELD_OUT == 0] * n for i, n in enumerate(n_tiles)]
    every = min(HELD_OUT, sum(n_tiles))
    marks = [every > 1 and i % every == every - 1 for i in range(sum(n_tiles))]
    return [[marks.pop(0) for _ in range(n)] for n in n_tiles]


def _area(tile: Samples) -> int:
    height, width = tile.shape[:2]
    return int(height * width)
