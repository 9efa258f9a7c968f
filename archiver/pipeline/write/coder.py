"""Files through the codec: their tiles wait for those of others, plans are made, tiles are coded.

What comes of a file depends on the file alone, whatever its tiles are coded with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archiver.errors import SourceError
from archiver.image import Samples
from archiver.pipeline.write import encode, planning
from archiver.pipeline.write.alternatives import Alternative, alternatives
from archiver.pipeline.write.batch import BATCH_PIXELS, Batch, WaitingTile
from archiver.pipeline.write.encode import PlannedTile
from archiver.pipeline.write.file_plan import EngineKey, PlanEngines
from archiver.pipeline.write.planning import Draft, Sample
from archiver.pipeline.write.queued_file import Coding, QueuedFile
from archiver.pipeline.write.tile_samples import raw_tiles

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

PART_PIXELS = 1 << 17  # coded at once by each core


class Coder:
    """Codings of files that were begun, as far as they are not done."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = PlanEngines(engines)
        self._batch = Batch()
        self._drafts: dict[Coding, Draft] = {}  # of codings whose plans are not made yet
        self._doubted: deque[Coding] = deque()  # which are still to begin

    def take(self, file: QueuedFile, first: Alternative) -> None:
        """Begin a file in all its alternatives, a large one in the first; others may get done."""
        images = file.source.parsed.images
        of_file = [first] if file.source.is_large else alternatives(images, first)
        codings = [file.coding(alternative.tile) for alternative in of_file]
        for coding, alternative in zip(codings, of_file, strict=True):
            self._begin(coding, alternative)
        self._code_doubted()

    def drain(self) -> None:
        """Code all that waits."""
        self._code()
        self._code_doubted()

    def _code_doubted(self) -> None:
        """Code files by a cheaper plan, too, where a sample left a doubt."""
        while self._doubted:
            self._read(self._doubted.popleft())
            self._code()

    def _begin(self, coding: Coding, alternative: Alternative) -> None:
        """Draft the plan of a coding and let its tiles wait."""
        source, models = coding.file.source, self._engines.models
        try:
            draft = planning.draft(source, alternative, coding.places, models)
        except SourceError as error:
            coding.fail(str(error))
            return
        if draft.numbers:
            self._drafts[coding] = draft
        else:
            coding.decide(draft.plan)
        self._read(coding)

    def _read(self, coding: Coding) -> None:
        """Let the tiles of a file wait; code all that wait once they are enough."""
        parsed = coding.file.source.parsed
        self._batch.hold(len(parsed.residue))
        try:
            is_quick = coding.plan is not None and coding.plan.is_quick
            for tile in raw_tiles(parsed.images, coding.places, coding.tile, alone=is_quick):
                self._batch.add(coding, tile)
                if self._batch.is_full:
                    self._code()
        except SourceError as error:
            self._drafts.pop(coding, None)
            coding.fail(str(error))

    def _code(self) -> None:
        """Make the plans of the files whose tiles wait, code these, hand them to their files."""
        waiting = [(coding, tile) for coding, tile in self._batch.take() if coding.error is None]
        self._decide(waiting)
        by_engine: dict[EngineKey, list[tuple[Coding, PlannedTile]]] = {}
        for coding, tile in waiting:
            if coding.plan is not None:  # else it failed
                members = by_engine.setdefault(coding.plan.engine_key, [])
                members.append((coding, (coding.plan, tile)))
        for members in by_engine.values():
            engine = self._engines.of(members[0][1][0])
            for part in _parts(members, _most_pixels(engine)):
                coded = encode.code([tile for _, tile in part], engine)
                for (coding, _), coded_tile in zip(part, coded, strict=True):
                    coding.add(coded_tile)

    def _decide(self, waiting: Sequence[WaitingTile]) -> None:
        """Make the plans that are not made yet, all together."""
        tiles: dict[Coding, dict[int, Samples]] = {}
        for coding, tile in waiting:
            if coding in self._drafts:
                tiles.setdefault(coding, {})[tile.number] = tile.samples
        sampled: dict[Coding, tuple[Draft, Sample]] = {}
        for coding, samples in tiles.items():
            draft, source = self._drafts.pop(coding), coding.file.source
            try:
                sample = planning.whole_sample(draft, source, coding.places, samples)
            except SourceError as error:
                coding.fail(str(error))
            else:
                sampled[coding] = draft, sample
        decisions = planning.decide(list(sampled.values()), self._engines.models)
        for coding, decision in zip(sampled, decisions, strict=True):
            coding.decide(decision.plan)
            doubts = decision.doubts
            self._doubted += [coding.file.coding_by(plan, coding.places) for plan in doubts]


def _parts(
    members: Sequence[tuple[Coding, PlannedTile]], most_pixels: int
) -> Iterator[Sequence[tuple[Coding, PlannedTile]]]:
    """Yield tiles that are coded at once: so few that it is soon known how far their files are."""
    first = pixels = 0
    for number, (_, (_, tile)) in enumerate(members, 1):
        pixels += tile.n_pixels
        if pixels >= most_pixels:
            yield members[first:number]
            first, pixels = number, 0
    if first < len(members):
        yield members[first:]


def _most_pixels(engine: Engine | None) -> int:
    """Return how much is coded at once: on a GPU as much as there is."""
    if engine is None:
        return PART_PIXELS
    return PART_PIXELS * engine.threads if str(engine.device) == "cpu" else BATCH_PIXELS
