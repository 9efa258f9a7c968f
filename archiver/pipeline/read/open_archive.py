"""The view of an archive that people and programs read: entries, images, regions, files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver import sources
from archiver.archive import layout
from archiver.archive import usage as disk
from archiver.archive.reader import Archive
from archiver.codec.ids import codec_name
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.errors import NotFoundError, UsageError
from archiver.image import Samples, seen, seen_shape, seen_window
from archiver.pipeline import globs
from archiver.pipeline.read import output_files
from archiver.pipeline.read.restore import Restorer, StoredImage, known_format, n_samples
from archiver.pipeline.read.windows import Raster
from archiver.pipeline.tiling import check_grid
from archiver.sources import Fidelity, Format

KINDS = {layout.FILE: "file", layout.DIRECTORY: "directory", layout.SYMLINK: "symlink"}
Region = tuple[int, int, int, int] | tuple[slice, slice]


def open_archive(path: Path | str, generation: int | None = None) -> OpenArchive:
    """Open the archive at ``path`` for reading; NotFoundError, FormatError or IntegrityError.

    ``generation`` counts from 1: the archive as it was then; None is the newest.
    """
    return OpenArchive(Archive.open(Path(path), generation=generation))


@dataclass(frozen=True)
class ImageInfo:
    """Facts about one image that need no decoding."""

    height: int
    width: int
    channels: int
    dtype: str
    bit_depth: int
    tile_height: int
    tile_width: int
    sample_bytes: int
    stored_bytes: int
    models: tuple[str, ...]
    tiles: Mapping[str, int]  # codec name -> tiles

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Totals:
    """Sums over an archive: ``files`` to ``input_bytes`` of the current view, the rest of all."""

    files: int
    directories: int
    symlinks: int
    objects: int
    input_bytes: int
    archive_bytes: int
    payload_bytes: int
    model_bytes: int
    sample_bytes: int
    tiles: Mapping[str, int]
    failed: int  # of the last generation
    seconds: float


class OpenArchive:
    """An archive open for reading.  Models are loaded when the first tile needs one."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._restorer = Restorer(archive)
        self.path = archive.path

    @property
    def generations(self) -> Sequence[Mapping[str, Any]]:
        """What each commit recorded, oldest first."""
        return self._archive.generations

    @property
    def models(self) -> Sequence[Any]:
        """Name, SHA-256 and size of every model."""
        return self._archive.models

    @property
    def n_objects(self) -> int:
        """How many different contents there are, those of earlier generations too."""
        return self._archive.n_objects

    def object_size(self, index: int) -> int:
        """Return the size of one content, in bytes of its file."""
        return int(self._archive.object(index).size)

    def entries(self, patterns_: Sequence[str] = ()) -> list[Entry]:
        """Return the entries that match any pattern (all without any), sorted by path."""
        entries = sorted(self._entries.values(), key=lambda entry: os.fsencode(entry.path))
        for pattern in patterns_:
            if not any(globs.matches(pattern, entry.path) for entry in entries):
                raise NotFoundError(
                    f"{self.path}: no entry matches {pattern!r}; `archiver ls` shows what there is"
                )
        wanted = globs.any_of(patterns_)
        return [entry for entry in entries if not patterns_ or wanted(entry.path)]

    def entry(self, path: str) -> Entry:
        """Return the entry of exactly that path."""
        try:
            return self._entries[path]
        except KeyError:
            raise NotFoundError(
                f"{self.path}: no entry {path!r}; `archiver ls` shows what there is"
            ) from None

    def totals(self) -> Totals:
        """Return sums over the archive."""
        entries = list(self._entries.values())
        kinds = Counter(entry.kind for entry in entries)
        used = disk.usage(self.path)
        images = [i for n in range(self.n_objects) for i in self._restorer.images_of(n)]
        codecs: Counter[int] = Counter()
        for _, tiles in images:
            codecs.update(tiles["codec"].tolist())
        settings = [dict(generation.get("settings", {})) for generation in self.generations]
        return Totals(
            files=kinds["file"],
            directories=kinds["directory"],
            symlinks=kinds["symlink"],
            objects=self.n_objects,
            input_bytes=sum(entry.size for entry in entries if entry.kind == "file"),
            archive_bytes=used.total,
            payload_bytes=used.payload,
            model_bytes=used.models,
            sample_bytes=sum(n_samples(r) * np.dtype(r.dtype).itemsize for r, _ in images),
            tiles={codec_name(codec): n for codec, n in codecs.most_common()},
            failed=int(settings[-1].get("failed", 0)) if settings else 0,
            seconds=sum(float(recorded.get("seconds", 0)) for recorded in settings),
        )

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = (Entry(self._archive, self._restorer, row) for row in self._archive.entries())
        return {entry.path: entry for entry in entries}


class Entry:
    """One path of an archive."""

    def __init__(self, archive: Archive, restorer: Restorer, row: Any) -> None:
        self._archive = archive
        self._restorer = restorer
        self.path = os.fsdecode(row.path)
        self.kind = KINDS[row.kind]
        self.mode = int(row.mode)
        self.mtime_ns = int(row.mtime_ns)
        self.object = int(row.object)  # index of its content, -1 for a directory
        self.link = int(row.link)  # files of one number, unless it is 0, are names of one file
        self.is_sparse = bool(row.is_sparse)  # whether the file had holes

    def __repr__(self) -> str:
        """Say which entry it is."""
        return f"<Entry {self.path!r} {self.kind} {self.size} bytes>"

    @cached_property
    def _object(self) -> Any:
        return self._archive.object(self.object) if self.object >= 0 else None

    @property
    def size(self) -> int:
        """Size of the packed file."""
        return int(self._object.size) if self._object else 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the packed file, hexadecimal; "" for a directory."""
        return bytes(self._object.sha256).hex() if self._object else ""

    @property
    def rebuilt_sha256(self) -> bytes:
        """SHA-256 of what unpacking writes."""
        return bytes(self._object.rebuilt_sha256) if self._object else b""

    @property
    def format(self) -> str:
        """Name of the format, "other" for bytes kept as they are."""
        return _format_label(self._object.format) if self._object else ""

    @property
    def fidelity(self) -> str:
        """ "bytes" or "samples": what unpacking restores."""
        return _fidelity_name(self._object.fidelity) if self._object else ""

    @property
    def note(self) -> str:
        """Why the file is kept as it is, if there is something to say."""
        return str(self._object.note) if self._object else ""

    @cached_property
    def images(self) -> tuple[ImageInfo, ...]:
        """The images that `read` can give; a JPEG file's are known only once it is decoded."""
        if self._object is None:
            return ()
        names = [model.name for model in self._archive.models]
        return tuple(_info(*image, names) for image in self._restorer.images_of(self.object))

    @cached_property
    def adapter_record(self) -> AdapterRecord | None:
        """The adapter fitted to this file, None if there is none; IntegrityError if damaged."""
        return self._restorer.read_adapter_record(self.object) if self.object >= 0 else None

    def tile_bits(self, page: int = 0) -> NDArray[np.float64]:
        """Return the bits per sample of every tile of one page, (rows, columns)."""
        images = self._restorer.images_of(self.object) if self.object >= 0 else []
        record, tiles = self._page(images, page)
        check_grid(page, record, tiles)
        n_rows, n_columns = (
            -(-record.height // record.tile_height),
            -(-record.width // record.tile_width),
        )
        bits = np.zeros((n_rows, n_columns))
        rows, columns = tiles["row"] // record.tile_height, tiles["column"] // record.tile_width
        np.add.at(bits, (rows, columns), 8.0 * tiles["length"])
        area = np.zeros_like(bits)
        is_first = tiles["component"] == 0
        np.add.at(
            area,
            (rows[is_first], columns[is_first]),
            (tiles["height"].astype(np.int64) * tiles["width"])[is_first],
        )
        per_sample: NDArray[np.float64] = bits / np.maximum(area * record.channels, 1)
        return per_sample

    @property
    def stored_bytes(self) -> int:
        """What its content takes in the archive."""
        if self._object is None:
            return 0
        residues = self._archive.residues(self.object)
        return sum(image.stored_bytes for image in self.images) + sum(
            int(chunk["length"]) for chunk in residues
        )

    @property
    def sample_bytes(self) -> int:
        """Uncompressed size of its samples."""
        return sum(image.sample_bytes for image in self.images)

    def read(self, region: Region | None = None, page: int = 0) -> Samples:
        """Return samples (height, width, channels) of one page, decoding only the tiles it needs.

        ``region`` is (row, column, height, width) or a pair of slices.
        """
        images = self._restorer.images(self.object) if self.object >= 0 else []
        if images:
            return self._window(self._page(images, page), region)
        if not self._object or self.kind != "file" or self._object.format == Format.OPAQUE:
            raise UsageError(
                f"{self.path}: kept as it is, its samples are not known to the archive; "
                "unpack it and open the file"
            )
        data = b"".join(self.chunks())
        file_format = known_format(self._object.format)
        samples: Samples = self._page(sources.decode_samples(file_format, data), page)
        top, left, height, width = _bounds(region, samples.shape[0], samples.shape[1], self.path)
        return samples[top : top + height, left : left + width]

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file, in bounded memory; `write_to` checks them as well."""
        if self._object is None:
            raise UsageError(f"{self.path}: is a directory and has no bytes")
        [decoded] = self._restorer.decoded([self.object])
        yield from self._restorer.chunks(decoded)

    def write_to(self, dest: Path | str) -> None:
        """Write the file at ``dest``, checked, with its mode and modification time."""
        path = Path(dest)
        if self.kind == "directory":
            path.mkdir(exist_ok=True)
        elif self.kind == "symlink":
            output_files.write_link(path, b"".join(self.chunks()))
        else:
            sparse = [path] if self.is_sparse else []
            output_files.write_copies([path], self.chunks(), self.rebuilt_sha256, sparse=sparse)
        output_files.set_attributes(path, self.mode, self.mtime_ns)

    def _page(self, pages: Sequence[Any], page: int) -> Any:
        if not 0 <= page < len(pages):
            raise UsageError(f"{self.path}: page {page} of {len(pages)}; pages count from 0")
        return pages[page]

    def _window(self, image: StoredImage, region: Region | None) -> Samples:
        record = image.record
        shape = record.height, record.width, record.channels
        height, width, _ = seen_shape(shape, record.view)
        bounds = _bounds(region, height, width, self.path)
        raster = Raster(record, image.tiles, self._restorer.decoder)
        return seen_window(raster.window, shape, record.view, bounds)


def _bounds(region: Region | None, height: int, width: int, path: str) -> tuple[int, int, int, int]:
    """Return (row, column, height, width) of a region; UsageError if it leaves the image."""
    if region is None:
        return 0, 0, height, width
    if len(region) == 2:
        rows, columns = region
        if (rows.step or 1) != 1 or (columns.step or 1) != 1:
            raise UsageError(f"{path}: a region has no step; slice what `read` returns")
        (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
        return top, left, max(0, bottom - top), max(0, right - left)
    top, left, rows_, columns_ = region
    if min(region) < 0 or top + rows_ > height or left + columns_ > width:
        raise UsageError(f"{path}: region {region} leaves the image of {height} x {width} samples")
    return top, left, rows_, columns_


def _format_label(number: int) -> str:
    """Return the name of a format, also of one that this release does not know."""
    try:
        return Format(number).label
    except ValueError:
        return f"format {number}"


def _fidelity_name(number: int) -> str:
    """Return the name of a fidelity, likewise."""
    try:
        return Fidelity(number).name.lower()
    except ValueError:
        return f"fidelity {number}"


def _info(record: Any, tiles: Any, model_names: Sequence[str]) -> ImageInfo:
    codecs = Counter(tiles["codec"].tolist())
    height, width, channels = seen_shape(
        (record.height, record.width, record.channels), record.view
    )
    some = np.empty((0, 2, record.channels), record.dtype)
    return ImageInfo(
        height=height,
        width=width,
        channels=channels,
        dtype=seen(some, record.view).dtype.name,
        bit_depth=record.bit_depth,
        tile_height=record.tile_height,
        tile_width=record.tile_width,
        sample_bytes=n_samples(record) * np.dtype(record.dtype).itemsize,
        stored_bytes=int(tiles["length"].sum(dtype=np.int64)),
        models=tuple(model_names[i] for i in sorted(set(tiles["model"].tolist())) if i >= 0),
        tiles={codec_name(codec): n for codec, n in codecs.most_common()},
    )
