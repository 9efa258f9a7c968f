"""How a file's plan is made: key tiles, a sample, its orientation, the model, the adapter.

A draft has all that the file itself says; files that wait together are then decided together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from archiver.codec import tiles as codec
from archiver.codec.learned import Orientations
from archiver.codec.tiles import Prepared
from archiver.image import Samples
from archiver.pipeline import engines as engines_of
from archiver.pipeline import key_tiles
from archiver.pipeline.write import confidence, model_choice, orientation
from archiver.pipeline.write.adapter import Effort, adapt, adapt_heads
from archiver.pipeline.write.alternatives import Alternative
from archiver.pipeline.write.file_plan import FilePlan
from archiver.pipeline.write.model_choice import Choice
from archiver.pipeline.write.source_file import SourceFile
from archiver.pipeline.write.tile_samples import FilePlaces, read_tile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

LOOKED_AT = 8  # times the tiles of a sample are looked at to find those that are not empty

Sample = Mapping[int, Samples]  # tiles by number


@dataclass(frozen=True)
class Draft:
    """A plan before its model is chosen, and what it is chosen by.

    ``numbers`` are those of the tiles that stand for the ``n_learnable`` ones that a model can
    code; none if there is nothing to choose.  ``read`` has those of them that are at hand.
    """

    plan: FilePlan
    effort: Effort | None = None
    numbers: Sequence[int] = ()
    n_learnable: int = 0
    read: Sample = field(default_factory=dict)
    is_large: bool = False

    @property
    def is_sampled_whole(self) -> bool:
        """Whether the sample is all that a model can code of the file."""
        return len(self.numbers) >= self.n_learnable

    @property
    def is_settled_by_heads(self) -> bool:
        """Whether fitted heads are all that there is to decide, and the whole file is there."""
        is_quick = self.effort is not None and self.effort.passes == 0
        return is_quick and self.is_sampled_whole and not self.is_large


@dataclass(frozen=True)
class Decision:
    """The plan of a file, and cheaper ones to code it by, too, where a sample left a doubt.

    A large file is coded once, whatever the doubt.
    """

    plan: FilePlan
    doubts: tuple[FilePlan, ...] = ()


def draft(
    source: SourceFile, alternative: Alternative, places: FilePlaces, engines: Sequence[Engine]
) -> Draft:
    """Return what the file says itself; SourceError if it cannot be read."""
    plan = FilePlan(alternative.tile, alternative.quick_jpegs, is_quick=alternative.is_quick)
    if not alternative.quick_jpegs:
        plan = _with_keys(plan, source, places)
    effort = alternative.effort
    if alternative.is_settled or not engines or (len(engines) == 1 and not effort):
        return Draft(plan)
    pixels = effort.sample_pixels if effort else model_choice.LEAST_PIXELS
    images, is_deep = source.parsed.images, engines[0].has_high_depth
    learnable = model_choice.learnable_tiles(images, places, deep=is_deep)
    sampled = Draft(plan, effort, is_large=source.is_large)
    if source.is_large:
        return _busy(sampled, source, places, learnable, pixels)
    numbers = model_choice.sample(learnable, alternative.tile, pixels)
    return replace(sampled, numbers=numbers, n_learnable=len(learnable))


def _with_keys(plan: FilePlan, source: SourceFile, places: FilePlaces) -> FilePlan:
    """Return the plan with key tiles, if the file has enough JPEG tiles."""
    images = source.parsed.images
    jpegs = [n for n, (image, _) in enumerate(places) if images[image].jpeg_tile]
    keys, payloads = key_tiles.find(jpegs, lambda number: _read(source, places, number))
    return plan.with_keys(keys, payloads) if payloads else plan


def _busy(
    sampled: Draft,
    source: SourceFile,
    places: FilePlaces,
    learnable: Sequence[int],
    pixels: int,
) -> Draft:
    """Return the draft of a large file, maybe mostly glass, with a sample of no empty tiles."""
    tile = sampled.plan.tile
    seen = model_choice.sample(learnable, tile, LOOKED_AT * pixels)
    tiles = {number: _read(source, places, number) for number in seen}
    busy = [number for number in seen if (tiles[number] != tiles[number][:1, :1]).any()]
    numbers = model_choice.sample(busy, tile, pixels)
    return replace(
        sampled,
        numbers=numbers,
        n_learnable=round(len(learnable) * len(busy) / max(1, len(seen))),
        read={number: tiles[number] for number in numbers},
    )


def _read(source: SourceFile, places: FilePlaces, number: int) -> Samples:
    image, place = places[number]
    return read_tile(source.parsed.images[image], place)


def whole_sample(
    sampled: Draft, source: SourceFile, places: FilePlaces, waiting: Sample
) -> dict[int, Samples]:
    """Return the tiles of a sample; those that do not wait to be coded are read.

    Of a large file some may lie beyond what was read.  SourceError if they cannot be read.
    """
    at_hand = {**waiting, **sampled.read}
    return {
        number: at_hand[number] if number in at_hand else _read(source, places, number)
        for number in sampled.numbers
    }


def decide(files: Sequence[tuple[Draft, Sample]], engines: Sequence[Engine]) -> list[Decision]:
    """Return what is decided for each file, given the tiles of its sample."""
    if not files:
        return []
    drafts = [file_draft for file_draft, _ in files]
    samples = [
        dict(zip(sample, codec.prepared(list(sample.values()), engines[0]), strict=True))
        for _, sample in files
    ]
    orientations = [_orientations(*file, engines[0]) for file in files]
    members = list(zip(drafts, samples, orientations, strict=True))
    if len(engines) > 1:
        return _by_code(members, engines)
    thorough = iter(_by_code([m for m in members if not m[0].is_settled_by_heads], engines))
    return [
        _by_heads(*member, engines[0]) if member[0].is_settled_by_heads else next(thorough)
        for member in members
    ]


Member = tuple[Draft, Mapping[int, Prepared], Orientations]


def _by_code(members: Sequence[Member], engines: Sequence[Engine]) -> list[Decision]:
    """Return the plans by what each model makes of the samples."""
    choices = model_choice.choose(
        [sample for _, sample, _ in members], engines, [ways for *_, ways in members]
    )
    return [
        _decision(sampled, sample, choice, ways, engines)
        for (sampled, sample, ways), choice in zip(members, choices, strict=True)
    ]


def _by_heads(
    sampled: Draft, sample: Mapping[int, Prepared], orientations: Orientations, engine: Engine
) -> Decision:
    """Return the plan for a small file by the only model there is: is it adapted, or as it is?

    Nothing was coded to find out: what is estimated while heads are fitted tells.
    """
    adapted = adapt_heads(list(sample.values()), engine, sampled.effort or Effort(), orientations)
    if adapted is None:
        return Decision(sampled.plan.with_model(0, orientations, {}))
    encoded = dict(zip(sample, adapted.encoded, strict=True))
    return Decision(sampled.plan.with_model(0, adapted.orientations, encoded, adapted.record))


def _orientations(sampled: Draft, sample: Sample, engine: Engine) -> Orientations:
    """Return those in which models are given the tiles of a file."""
    if not sampled.effort:
        return sampled.plan.orientations
    tiles = list(sample.values())
    scout = engines_of.scout(engine)
    best = orientation.find(tiles, engine, scout, is_whole=sampled.is_sampled_whole)
    return sampled.effort.orientations(best)


def _decision(
    sampled: Draft,
    sample: Mapping[int, Prepared],
    choice: Choice,
    orientations: Orientations,
    engines: Sequence[Engine],
) -> Decision:
    """Return the plan by the model that was chosen, adapted to the file if that pays."""
    doubts = []
    if choice.model and not confidence.is_sure(choice.gains, sampled.n_learnable):
        doubts.append(sampled.plan)
    plan = sampled.plan.with_model(choice.model, orientations, choice.encoded)
    if sampled.effort:
        adapted = _adapted(sampled, sample, plan, engines[choice.model], sampled.effort)
        doubts += adapted.doubts
        plan = adapted.plan
    return Decision(plan, () if sampled.is_large else tuple(doubts))


def _adapted(
    sampled: Draft,
    sample: Mapping[int, Prepared],
    plan: FilePlan,
    engine: Engine,
    effort: Effort,
) -> Decision:
    """Return a plan with an adapter if that pays; the one before, too, where that is in doubt."""
    tiles, before = list(sample.values()), [plan.encoded[number] for number in sample]
    adapted = adapt(tiles, before, sampled.n_learnable, engine, effort, plan.orientations)
    is_thorough = effort.passes != 0 and not sampled.is_sampled_whole
    doubts = (plan,) if adapted.record and (is_thorough or not adapted.is_sure) else ()
    if sampled.is_large and not adapted.is_sure:
        return Decision(plan)
    encoded = dict(zip(sample, adapted.encoded, strict=True))
    model, orientations = plan.model, adapted.orientations
    return Decision(plan.with_model(model, orientations, encoded, adapted.record), doubts)
