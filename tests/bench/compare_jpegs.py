"""Compare what is stored of JPEGs: as they are, transcoded by libjxl, their coefficients coded.

    python tests/bench/compare_jpegs.py FILE_OR_FOLDER...

Takes JPEG files, and the JPEG tiles of slides and DICOM files.  Bytes are those of whole payloads,
what a file keeps once for all its tiles included; every payload is decoded again and compared.
Times are wall seconds of one core in one run: read them as ratios.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from archiver import sources
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.image import Samples
from archiver.pipeline import key_tiles
from archiver.pipeline.write import tile_samples

Tiles = list[Samples]
COLUMNS = ("as it is", "libjxl", "coefficients", "with keys", "s, libjxl", "s, coefficients")


def main(paths: list[str]) -> None:
    """Print a table with a row for every file, and one of the sums."""
    table = Table("file", "tiles", *COLUMNS)
    sums = [0.0] * len(COLUMNS)
    for path in _files(paths):
        tiles = list(_tiles(path))
        if not tiles:
            continue
        jxl, fast = _timed(lambda tiles=tiles: _one_by_one(tiles, jpeg_tile.encode_quickly))
        alone, slow = _timed(lambda tiles=tiles: _one_by_one(tiles, jpeg_tile.encode))
        row = [sum(tile.size for tile in tiles), jxl, alone, _with_keys(tiles), fast, slow]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        table.add_row(path.name, str(len(tiles)), *_cells(row))
    table.add_row("all", "", *_cells(sums))
    Console().print(table)


def _cells(row: list[float]) -> list[str]:
    return [f"{int(size):,}" for size in row[:4]] + [f"{seconds:.2f}" for seconds in row[4:]]


def _files(paths: list[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _tiles(path: Path) -> Iterator[Samples]:
    images = [image for image in sources.parse(path).images if image.jpeg_tile]
    for index, place in tile_samples.all_places(images, 256):
        yield tile_samples.read_tile(images[index], place)


def _timed(code: Callable[[], int]) -> tuple[int, float]:
    start = time.perf_counter()
    return code(), time.perf_counter() - start


def _one_by_one(tiles: Tiles, encode: Callable[[Samples], bytes]) -> int:
    """Return the bytes of tiles that share a head."""
    payloads = [encode(tile) for tile in tiles]
    for tile, payload in zip(tiles, payloads, strict=True):
        if jpeg_tile.decode(payload) != tile.tobytes():
            raise SystemExit("a payload does not decode to its JPEG")
    return _size(payloads)


def _with_keys(tiles: Tiles) -> int:
    """Return the bytes of tiles of which a few teach the others."""
    keys, payloads = key_tiles.find(range(len(tiles)), tiles.__getitem__)
    for number, tile in enumerate(tiles):
        if number not in payloads:
            state = keys.state(number) if keys.keys else None
            payloads[number] = jpeg_tile.encode(tile, state)
        payload = payloads[number]
        if jpeg_tile.uses_key_tiles(payload) and not keys.decodes(number, payload, tile.tobytes()):
            raise SystemExit("a payload does not decode to its JPEG")
    return _size(list(payloads.values())) + (len(keys.to_bytes()) if keys.keys else 0)


def _size(payloads: list[bytes]) -> int:
    head = jpeg_tile.head_of(payloads[0]) if len(payloads) > 1 else b""
    return len(head) + sum(len(jpeg_tile.without_head(one, head)) for one in payloads)


if __name__ == "__main__":
    main(sys.argv[1:])
