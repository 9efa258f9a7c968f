"""The sums of a pack job: what each finished file adds to the summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from archiver.archive.records import ObjectRecord
from archiver.codec.ids import codec_name
from archiver.jobs.events import FileDone, FileFailed, FormatTotals, Kept
from archiver.jobs.plan import Item
from archiver.sources import Format

OTHER = Format.OPAQUE.label  # how files kept as they are appear among the formats


def stored_bytes(objects: Sequence[ObjectRecord]) -> list[int]:
    """Return what the payloads of each object of a shard take, without those of objects before."""
    seen: set[int] = set()
    sizes = []
    for record in objects:
        columns = (record.tiles[name].tolist() for name in ("offset", "length"))
        extents = [*zip(*columns, strict=True), *((r.offset, r.length) for r in record.residues)]
        new = {offset: length for offset, length in extents if length and offset not in seen}
        seen.update(new)
        sizes.append(sum(new.values()))
    return sizes


def sample_bytes(record: ObjectRecord) -> int:
    """Return the uncompressed size of an object's samples."""
    return sum(
        math.prod((image.height, image.width, image.channels)) * np.dtype(image.dtype).itemsize
        for image in record.images
    )


@dataclass
class Tally:
    """Sums over the files that a job coded."""

    failures: list[FileFailed] = field(default_factory=list)
    codecs: Counter[int] = field(default_factory=Counter)
    models: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # tiles, their bytes
    sample_bytes: int = 0
    _formats: dict[str, FormatTotals] = field(default_factory=dict)
    _kept: dict[str, Kept] = field(default_factory=dict)

    def add(
        self,
        item: Item,
        record: ObjectRecord,
        models: Sequence[bytes],
        stored: int,
        *,
        is_copy: bool,
    ) -> FileDone:
        """Count a file whose content is ``record``; a copy of an earlier one costs nothing.

        ``models`` are those that its tiles refer to, ``stored`` is what its payloads take.
        """
        stored = 0 if is_copy else stored
        samples = sample_bytes(record)
        self.sample_bytes += samples
        if not is_copy:
            self.codecs.update(record.tiles["codec"].tolist())
            self._add_models(record, models)
        self._add_format(item, record, stored)
        if record.note and record.format == Format.OPAQUE:
            first = self._kept.get(record.note, Kept(record.note, 0, 0, item.name))
            self._kept[record.note] = Kept(
                record.note, first.files + 1, first.input_bytes + item.size, first.example
            )
        return FileDone(item.name, item.size, stored, samples)

    def _add_models(self, record: ObjectRecord, models: Sequence[bytes]) -> None:
        used, numbers = np.unique(record.tiles["model"], return_inverse=True)
        for number, model in enumerate(used.tolist()):
            if model >= 0:
                lengths = record.tiles["length"][numbers == number]
                tiles, stored = self.models.get(models[model], (0, 0))
                self.models[models[model]] = (
                    tiles + len(lengths),
                    stored + int(lengths.sum(dtype=np.int64)),
                )

    def _add_format(self, item: Item, record: ObjectRecord, stored: int) -> None:
        name = Format(record.format).label
        old = self._formats.get(name, FormatTotals(name, 0, 0, 0))
        self._formats[name] = FormatTotals(
            name, old.files + 1, old.input_bytes + item.size, old.stored_bytes + stored
        )

    @property
    def tiles(self) -> dict[str, int]:
        """Tiles by codec."""
        return {codec_name(codec): n for codec, n in self.codecs.most_common()}

    @property
    def formats(self) -> tuple[FormatTotals, ...]:
        """The formats, by name, those kept as they are last."""
        return tuple(
            sorted(self._formats.values(), key=lambda f: (f.name == OTHER, f.name.casefold()))
        )

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Why files are kept as they are, the most frequent reason first."""
        return tuple(sorted(self._kept.values(), key=lambda kept: (-kept.files, kept.reason)))
