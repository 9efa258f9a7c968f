"""The way from stored objects back to files and samples.

Small objects are decoded many at a time, in one wavefront; a large image is decoded by rows of
tiles while its file is rebuilt, so that memory stays bounded whatever its size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from archiver import sources
from archiver.archive.reader import Archive
from archiver.archive.records import ImageRecord, TileArray
from archiver.codec import residue
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.codec.residue import ResidueCodec
from archiver.errors import ArchiverError, FormatError, IntegrityError, within
from archiver.image import Image, Samples
from archiver.pipeline.read.decode import BATCH_PIXELS, TileDecoder
from archiver.pipeline.read.output_files import check_digest
from archiver.pipeline.read.stored_tile import Key, Payload, StoredTile
from archiver.pipeline.read.windows import Raster, assembled
from archiver.pipeline.tiling import check_grid, components, spans
from archiver.sources import Format

SMALL_PIXELS = BATCH_PIXELS // 2  # objects up to this size are decoded together
BAND_ROWS = 128  # of a large image, read at once to check it
MAX_RESIDUE_BYTES = 1 << 30  # of a format that needs its residue in memory


@dataclass(frozen=True)
class StoredImage:
    """One image of an object and its tiles."""

    record: ImageRecord
    tiles: dict[Key, StoredTile]

    @property
    def has_jpegs(self) -> bool:
        """Whether tiles are kept as JPEGs, which a rebuild takes as they are."""
        return any(tile.is_jpeg for tile in self.tiles.values())

    @property
    def n_pixels(self) -> int:
        """Pixels to decode: once for every component."""
        return sum(tile.n_pixels for tile in self.tiles.values())


@dataclass(frozen=True)
class Decoded:
    """An object whose images can be read, or ``errors`` that say why not."""

    index: int
    images: tuple[Image, ...] = ()
    errors: tuple[ArchiverError, ...] = ()


class Restorer:
    """Rebuild the objects of one archive with that many torch threads."""

    def __init__(self, archive: Archive, threads: int | None = None) -> None:
        self.archive = archive
        self.decoder = TileDecoder(archive, threads)
        self._last: tuple[int, list[StoredImage]] = (-1, [])

    def images_of(self, index: int) -> list[tuple[ImageRecord, TileArray]]:
        """Return the images of an object with their tile tables, as the manifest has them."""
        return [(self.archive.image(i), self.archive.tiles(i)) for i in self.archive.images(index)]

    def images(self, index: int) -> list[StoredImage]:
        """Return the stored images of an object; those of the last one are at hand."""
        number, images = self._last
        if number != index:
            images = self._stored_images(index)
            self._last = index, images
        return images

    def _stored_images(self, index: int) -> list[StoredImage]:
        beside, siblings = self._beside(index), list[StoredTile]()
        images = []
        for number, (record, rows) in enumerate(self.images_of(index)):
            check_grid(number, record, rows)
            owner = index, number
            tiles = dict(_stored_tile(owner, record, row, beside, siblings) for row in rows)
            images.append(StoredImage(record, tiles))
        return images

    def read_adapter_record(self, index: int) -> AdapterRecord | None:
        """Return the adapter of an object, None if it has none; IntegrityError if damaged."""
        where = self._beside(index).get(ResidueCodec.ADAPTER_RECORD)
        return AdapterRecord.from_bytes(self.decoder.payload(where)) if where else None

    def _beside(self, index: int) -> dict[int, Payload]:
        """Return where an object keeps what its tiles need, by codec."""
        return {
            int(chunk["codec"]): Payload(
                *(int(chunk[name]) for name in ("shard", "offset", "length", "crc32c"))
            )
            for chunk in self.archive.residues(index)
            if chunk["codec"] in residue.BESIDE
        }

    def n_tiles(self, index: int) -> int:
        """Return how many tiles an object has."""
        return sum(len(tiles) for _, tiles in self.images_of(index))

    def decoded(self, objects: Sequence[int]) -> Iterator[Decoded]:
        """Yield the objects in their order, small ones decoded together, large ones on demand."""
        batch: list[tuple[int, list[StoredImage]]] = []
        pixels = 0
        for index in objects:
            try:
                images = self.images(index)
            except ArchiverError as error:
                yield from self._decode_batch(batch)
                batch, pixels = [], 0
                yield Decoded(index, errors=(error,))
                continue
            size = sum(image.n_pixels for image in images)
            if batch and pixels + size > BATCH_PIXELS:
                yield from self._decode_batch(batch)
                batch, pixels = [], 0
            if size > SMALL_PIXELS or any(image.has_jpegs for image in images):
                yield from self._decode_batch(batch)
                batch, pixels = [], 0
                yield Decoded(index, tuple(self._on_demand(images)))
            else:
                batch.append((index, images))
                pixels += size
        yield from self._decode_batch(batch)

    def _on_demand(self, images: Sequence[StoredImage]) -> Iterator[Image]:
        """Yield images that are decoded as they are read, from the first to the last."""
        for number, image in enumerate(images):
            following = partial(_tiles_from, images, number + 1)
            yield Raster(image.record, image.tiles, self.decoder, following).image()

    def _decode_batch(self, batch: Sequence[tuple[int, list[StoredImage]]]) -> Iterator[Decoded]:
        tiles = [t for _, images in batch for image in images for t in image.tiles.values()]
        results = iter(self.decoder.decode(tiles))
        for index, images in batch:
            whole: list[Image] = []
            errors: list[ArchiverError] = []
            for image in images:
                parts = {key: next(results) for key in image.tiles}
                errors += [tile for tile in parts.values() if isinstance(tile, ArchiverError)]
                if not errors:
                    whole.append(assembled(image.record, _samples(parts)))
            yield Decoded(index, () if errors else tuple(whole), tuple(errors))

    def residue(self, index: int) -> Iterator[bytes]:
        """Yield the residue of an object, chunk by chunk."""
        for number, chunk in enumerate(self.archive.residues(index)):
            shard, offset = int(chunk["shard"]), int(chunk["offset"])
            payload = self.archive.payload(
                shard, offset, int(chunk["length"]), int(chunk["crc32c"])
            )
            try:
                yield residue.decompress(int(chunk["codec"]), payload, int(chunk["raw_length"]))
            except ArchiverError as error:
                raise IntegrityError(
                    f"residue chunk {number}: does not decode ({error}); "
                    "restore its shard from a backup of the archive"
                ) from error

    def chunks(self, decoded: Decoded) -> Iterator[bytes]:
        """Yield the bytes of the file; ArchiverError if it cannot be rebuilt."""
        if decoded.errors:
            raise decoded.errors[0]
        file_format = known_format(self.archive.object(decoded.index).format)
        if file_format == Format.OPAQUE:
            yield from self.residue(decoded.index)
            return
        try:
            yield from sources.rebuild(
                file_format, self.whole_residue(decoded.index), decoded.images
            )
        except ArchiverError:
            raise
        except MemoryError as error:
            raise within(f"the {file_format.label} file", error) from error
        except Exception as error:  # a residue with a valid CRC may still be nonsense
            raise IntegrityError(
                f"the {file_format.label} file cannot be rebuilt ({error!r}); "
                "restore the archive from a backup"
            ) from error

    def whole_residue(self, index: int) -> bytes:
        """Return the residue of an object in one piece."""
        size = sum(int(chunk["raw_length"]) for chunk in self.archive.residues(index))
        if size > MAX_RESIDUE_BYTES:
            raise IntegrityError(
                f"the residue claims {size} bytes, at most {MAX_RESIDUE_BYTES} fit"
            )
        return b"".join(self.residue(index))

    def read_through(self, decoded: Decoded) -> None:
        """Decode everything without rebuilding the file."""
        for _ in self.residue(decoded.index):
            pass
        for image in decoded.images:
            for row, height in spans(image.height, BAND_ROWS):
                image.window(row, 0, height, image.width)

    def check(self, decoded: Decoded) -> None:
        """Rebuild the file and compare its SHA-256."""
        digest = hashlib.sha256()
        for chunk in self.chunks(decoded):
            digest.update(chunk)
        check_digest(digest.digest(), self.archive.object(decoded.index).rebuilt_sha256)


def _tiles_from(images: Sequence[StoredImage], first: int) -> Iterator[StoredTile]:
    """Yield the tiles of the images from that one on."""
    for image in islice(images, first, None):
        yield from image.tiles.values()


def _stored_tile(
    owner: tuple[int, int],
    record: ImageRecord,
    row: Any,
    beside: Mapping[int, Payload],
    siblings: list[StoredTile],
) -> tuple[Key, StoredTile]:
    """Return a row of the tile table by its place, and append it to its ``siblings``.

    ``owner`` is its object, and the number of its image there.
    """
    index, number = owner
    place = {name: int(row[name]) for name in ("component", "row", "column")}
    groups = components(record.channels)
    if place["component"] >= len(groups):
        raise FormatError(f"image {number}: has no component {place['component']}")
    shape = int(row["height"]), int(row["width"]), len(groups[place["component"]])
    where = ("shard", "offset", "length", "crc32c", "sample_crc32c", "codec", "model")
    tile = StoredTile(
        name=f"image {number}, tile at row {place['row']}, column {place['column']}",
        shape=shape,
        room=(record.tile_height, record.tile_width),
        dtype=np.dtype(record.dtype),
        beside=beside,
        object=index,
        number=len(siblings),
        siblings=siblings,
        **{name: int(row[name]) for name in where},
    )
    siblings.append(tile)
    return (place["component"], place["row"], place["column"]), tile


def known_format(number: int) -> Format:
    """Return the format of that id; FormatError if this release knows none."""
    try:
        return Format(number)
    except ValueError as error:
        raise FormatError(
            f"its format has the id {number}, which this release does not know; "
            "use a newer release of archiver"
        ) from error


def _samples(parts: dict[Key, Samples | ArchiverError]) -> dict[Key, Samples]:
    return {key: tile for key, tile in parts.items() if not isinstance(tile, ArchiverError)}


def n_samples(record: ImageRecord) -> int:
    """Return how many samples an image has."""
    return math.prod((record.height, record.width, record.channels))
