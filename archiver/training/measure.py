"""The worth of a model: real bytes of its tiles on folders of images, beside JPEG XL."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from archiver.codec import classic
from archiver.codec.inference.engine import Engine
from archiver.codec.model import batches
from archiver.codec.model.batches import Batch, Shown
from archiver.errors import MachineError, UsageError
from archiver.pipeline.tiling import DEFAULT_TILE, spans, tile_side
from archiver.training.data import SUFFIXES, Uint8, read_image

JPEGXL_EFFORT = 9


@dataclass(frozen=True)
class Measured:
    """The coded size of one folder's 8-bit images."""

    name: str
    images: int
    samples: int
    loss_bytes: float  # the code length that training minimises
    model_bytes: int  # range-coded payloads, no other codec beside
    jpegxl_bytes: int  # the whole images under JPEG XL effort 9
    skipped: tuple[str, ...] = ()  # "name: why", for each file that was left out

    @property
    def bits_per_sample(self) -> float:
        """Coded bits per sample."""
        return 8 * self.model_bytes / self.samples

    @property
    def ratio(self) -> float:
        """Size as a share of JPEG XL's."""
        return self.model_bytes / self.jpegxl_bytes


def measure(model: bytes, folders: Sequence[Path], *, workers: int = 0) -> list[Measured]:
    """Code every 8-bit image below each folder, lossy files at half size as in training.

    ``workers`` processes share the images; 0 codes them in this one.
    """
    sets = [_images(folder) for folder in folders]
    if not workers:
        engine = Engine.open(model, device="cpu", threads=1)
        return [_sum(images, [_code(engine, path) for path in images.paths]) for images in sets]
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _open, (model,)) as pool:
            return [_sum(images, list(pool.map(_code_there, images.paths))) for images in sets]
    except BrokenProcessPool as error:
        raise MachineError(
            "a process that measured was killed or ran out of memory; measure with --workers 0"
        ) from error


Sizes = tuple[int, float, int, int]  # samples, loss bytes, model bytes, JPEG XL bytes


@dataclass(frozen=True)
class _Images:
    folder: Path
    paths: list[Path]
    skipped: tuple[str, ...]


def _images(folder: Path) -> _Images:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    reasons = {path: _fault(path) for path in paths}
    usable = [path for path, reason in reasons.items() if reason is None]
    skipped = tuple(f"{p.relative_to(folder)}: {why}" for p, why in reasons.items() if why)
    if not usable:
        raise UsageError(
            f"{folder}: expected 8-bit grey or RGB images to measure on, found none"
            + (f"; the first refused is {skipped[0]}" if skipped else "")
        )
    return _Images(folder, usable, skipped)


def _fault(path: Path) -> str | None:
    """Return why a file cannot be measured on, or None."""
    try:
        read_image(path)
    except Exception as error:  # whatever a reader raises on a file that is not for it
        return str(error) or type(error).__name__
    return None


def _sum(images: _Images, sizes: Sequence[Sizes]) -> Measured:
    samples, loss, model, jpegxl = (sum(column) for column in zip(*sizes, strict=True))
    name = images.folder.resolve().name
    return Measured(name, len(sizes), int(samples), loss, int(model), int(jpegxl), images.skipped)


_engine: Engine | None = None  # of a worker process


def _open(model: bytes) -> None:
    global _engine
    _engine = Engine.open(model, device="cpu", threads=1)


def _code_there(path: Path) -> Sizes:
    if _engine is None:
        raise RuntimeError("worker without an engine")
    return _code(_engine, path)


def _code(engine: Engine, path: Path) -> Sizes:
    image = read_image(path)
    tiles = cut(image)
    payloads = engine.encode(tiles)
    loss = sum(_loss_bits(engine, tile) for tile in tiles) / 8
    jpegxl = classic.encode_jpegxl(image, effort=JPEGXL_EFFORT)
    return image.size, loss, sum(map(len, payloads)), len(jpegxl or b"")


def cut(image: Uint8) -> list[Uint8]:
    """Cut an image into tiles as an archive does."""
    rows, columns = (spans(n, tile_side(n, DEFAULT_TILE)) for n in image.shape[:2])
    return [
        np.ascontiguousarray(image[top : top + height, left : left + width])
        for top, height in rows
        for left, width in columns
    ]


@torch.inference_mode()
def _loss_bits(engine: Engine, tile: Uint8) -> float:
    outputs, base = map(torch.from_numpy, engine.coder.predict(tile[None]))
    batch = Batch.of([Shown.of(tile)])
    return float(batches.code_length(outputs, base, batch, engine.coder.sizes).sum())
