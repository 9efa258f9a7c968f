"""What was decided for a file in one alternative: all that coding takes beside the samples.

A plan is small and says the same to every worker: a model is its number, an adapter its record.
The coding of a tile is a function of the plan, of the tile's number and of its samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.learned import IDENTITY_ONLY, Orientations
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.codec.residue import ResidueCodec
from archiver.image import Samples
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.write.payloads import Chunk

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

EngineKey = tuple[int, bytes]  # number of a model, record of its adapter or b""


@dataclass(frozen=True)
class FilePlan:
    """How the tiles of a file are coded.

    ``tile`` is their side at most; ``quick_jpegs`` leaves those that are JPEGs to libjxl, else they
    learn from ``key_tiles``, if there are any.  ``orientations`` are those in which a model is
    given its tiles.  ``encoded`` has what was coded while the plan was made, by tile.  With
    ``is_quick``, `codec.quick` codes all.
    """

    tile: int
    quick_jpegs: bool = False
    model: int = 0
    orientations: Orientations = IDENTITY_ONLY
    adapter_record: bytes = b""
    key_tiles: KeyTiles | None = None
    encoded: Mapping[int, Encoded] = field(default_factory=dict)
    is_quick: bool = False

    @property
    def engine_key(self) -> EngineKey:
        """What the engine of the learned tiles is known by."""
        return self.model, self.adapter_record

    def with_keys(self, key_tiles: KeyTiles, payloads: Mapping[int, bytes]) -> FilePlan:
        """Return the plan with key tiles, whose payloads are there already."""
        keys = {n: Encoded(TileCodec.JPEG, payload) for n, payload in payloads.items()}
        return replace(self, key_tiles=key_tiles, encoded={**self.encoded, **keys})

    def with_model(
        self,
        model: int,
        orientations: Orientations,
        encoded: Mapping[int, Encoded],
        adapter_record: bytes = b"",
    ) -> FilePlan:
        """Return the plan with a choice of model; ``encoded`` is what is coded by it already."""
        return replace(
            self,
            model=model,
            orientations=orientations,
            adapter_record=adapter_record,
            encoded={**self.encoded, **encoded},
        )

    def codes_coefficients(self, samples: Samples) -> bool:
        """Whether a tile is a JPEG whose coefficients are to be coded."""
        return samples.dtype == jpeg_tile.BYTES and not self.quick_jpegs

    def key_tiles_for(self, samples: Samples) -> KeyTiles | None:
        """Return what a tile learns from, if it is such a JPEG of a file that has key tiles."""
        return self.key_tiles if self.codes_coefficients(samples) else None

    def chunks(self, jpeg_head: bytes) -> list[Chunk]:
        """Return what is kept of a file for its tiles; its JPEGs begin with ``jpeg_head``."""
        kinds = {
            ResidueCodec.ADAPTER_RECORD: self.adapter_record,
            ResidueCodec.JPEG_HEAD: jpeg_head,
            ResidueCodec.JPEG_KEY_TILES: self.key_tiles.to_bytes() if self.key_tiles else b"",
        }
        return [Chunk(kind, data, 0) for kind, data in kinds.items() if data]


class PlanEngines:
    """The engines that plans name: of models by number, and the one that was adapted last."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.models = engines
        self._adapted: tuple[EngineKey, Engine] | None = None

    def of(self, plan: FilePlan) -> Engine | None:
        """Return the engine of a plan, None if there are no models."""
        if not self.models or not plan.adapter_record:
            return self.models[plan.model] if self.models else None
        if self._adapted is None or self._adapted[0] != plan.engine_key:
            adapter = AdapterRecord.from_bytes(plan.adapter_record).adapter
            self._adapted = plan.engine_key, self.models[plan.model].adapted(adapter)
        return self._adapted[1]
