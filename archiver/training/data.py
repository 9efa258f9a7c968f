"""The training samples: folders of images read into memory, and seeded crops out of them.

Every batch is a function of (data, seed, step), so that a run that was killed goes on exactly where
its last checkpoint was.

Samples of 8 bits, grey or colour, are learned from as they are; those of 9 to 16 bits (high depth)
one channel at a time, through the window that a tile of an archive would have.
"""

from __future__ import annotations

import io
import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from archiver.codec.model import architecture
from archiver.codec.model.batches import Batch, Shown
from archiver.codec.model.high_depth import MAX_VALUE, Window
from archiver.errors import UsageError

Uint8 = NDArray[np.uint8]
HighDepth = NDArray[np.uint16]
Samples = NDArray[Any]  # either

SUFFIXES = {
    *(".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".jpg", ".jpeg"),
    *(".dcm", ".ima"),
}
DICOM = {".dcm", ".ima"}
LOSSY = {".jpg", ".jpeg"}
MAX_SIDE = 4096  # of a larger image a window of this side is kept
AREA_POWER = 0.7  # an image is drawn in proportion to its area ** AREA_POWER
BLOCK = 8  # side of the blocks that JPEG transforms
LUMA = (0.299, 0.587, 0.114)
GREY, COLOUR, HIGH_DEPTH = *architecture.PORTS, architecture.HIGH_DEPTH  # kinds of batches
MADE = 0.4  # share of crops of high depth that are made from colour crops, for their variety
NOISE = (0.5, 60.0)  # of those, in steps
OTHER_SHIFT = 0.2  # share of crops of high depth whose unit is not the best one


@dataclass(frozen=True)
class Domain:
    """The images of one folder, 8 bit, and how often crops are drawn from it."""

    name: str
    weight: float
    images: tuple[Uint8, ...]  # (H, W, C), C 1 or 3
    high_depth: tuple[HighDepth, ...]  # (H, W)
    skipped: tuple[str, ...]  # "name: why", for each file that was left out

    @property
    def n_samples(self) -> int:
        """Number of samples in memory."""
        return sum(image.size for images in (self.images, self.high_depth) for image in images)


def load_domain(folder: Path, weight: float, *, side: int, seed: int, limit: int) -> Domain:
    """Read all images below ``folder`` that hold crops of ``side``, up to ``limit`` bytes.

    UsageError if there are none.  Files are taken in a seeded order, so that a folder that does
    not fit into memory gives a fair sample of itself.
    """
    rng = np.random.default_rng(seed)
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    images: list[Uint8] = []
    high_depth: list[HighDepth] = []
    skipped: list[str] = []
    n_bytes = 0
    for index in rng.permutation(len(files)):
        read, why = _read_or_why(files[index], side, rng)
        size = sum(image.nbytes for image in read)
        if n_bytes + size > limit:
            read, why = [], "over the memory limit"
        if not read:
            skipped.append(f"{files[index].relative_to(folder)}: {why}")
            continue
        images += [image for image in read if image.dtype == np.uint8]
        high_depth += [image for image in read if image.dtype == np.uint16]
        n_bytes += size
    if not images and not high_depth:
        raise UsageError(
            f"{folder}: no image to train on: expected images of 8 to 16 bits of at least "
            f"{side} x {side} samples, found {len(files)} image files"
            + (f", the first refused is {skipped[0]}" if skipped else "")
        )
    name = folder.resolve().name
    return Domain(name, weight, tuple(images), tuple(high_depth), tuple(sorted(skipped)))


def read_image(path: Path) -> Uint8:
    """Return the 8-bit samples (H, W, C), C 1 or 3; ValueError if the file holds none.

    A lossy file is halved: the traces of its compression would teach what no lossless file has.
    """
    return _eight_bit(_decode(path))


def _eight_bit(samples: NDArray[np.generic]) -> Uint8:
    if samples.dtype != np.uint8:
        raise ValueError(f"{samples.dtype} samples")
    if samples.ndim == 3 and samples.shape[2] > 4 and samples.shape[0] in (1, 3, 4):
        samples = np.moveaxis(samples, 0, 2)  # planar
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.ndim != 3 or samples.shape[2] not in (1, 3, 4):
        raise ValueError(f"shape {samples.shape}")
    samples = samples[..., :3] if samples.shape[2] == 4 else samples
    if samples.shape[2] == 3 and bool((samples == samples[..., :1]).all()):
        samples = samples[..., :1]
    return np.ascontiguousarray(samples, np.uint8)


def _planes(samples: NDArray[np.generic]) -> list[HighDepth]:
    """Return every plane of 16-bit samples, signed ones with their top bit inverted."""
    if samples.ndim == 3 and samples.shape[2] <= 4:
        samples = np.moveaxis(samples, 2, 0)
    planes = samples.reshape(-1, *samples.shape[-2:])
    top = np.uint16(0x8000 if samples.dtype.kind == "i" else 0)
    return [np.ascontiguousarray(plane).view(np.uint16) ^ top for plane in planes]


def _decode(path: Path) -> NDArray[np.generic]:
    if path.suffix.lower() in (".tif", ".tiff"):
        decoded: NDArray[np.generic] = tifffile.imread(path)
        return decoded
    if path.suffix.lower() in DICOM:
        import pydicom  # takes a while to import

        return pydicom.dcmread(path).pixel_array
    with Image.open(path) as image:
        if image.mode in ("P", "1", "CMYK"):
            raise ValueError(f"mode {image.mode}")
        if image.format == "PNG" and _png_depth(path) == 16:
            raise ValueError("uint16 samples")  # Pillow would drop half of each
        if path.suffix.lower() in LOSSY:
            return np.asarray(image.reduce(2))
        return np.asarray(image)


def _png_depth(path: Path) -> int:
    """Return the bit depth that a PNG's header states."""
    with path.open("rb") as stream:
        return stream.read(25)[24]


def _read_or_why(path: Path, side: int, rng: np.random.Generator) -> tuple[Sequence[Samples], str]:
    """Return the images of a file, none and why if there is none to learn from."""
    try:
        samples = _decode(path)
        is_high_depth = samples.dtype.kind in "ui" and samples.dtype.itemsize == 2
        images: Sequence[Samples] = _planes(samples) if is_high_depth else [_eight_bit(samples)]
    except Exception as error:  # whatever a reader raises on a file that is not for it
        return [], str(error) or type(error).__name__
    height, width = images[0].shape[:2]
    if min(height, width) < side:
        return [], f"{width} x {height} is smaller than a crop"
    varied = [image for image in images if image.dtype == np.uint8 or image.min() < image.max()]
    return [_window(image, MAX_SIDE, rng) for image in varied], "one value only"


def _window(image: Samples, side: int, rng: np.random.Generator) -> Samples:
    """Return a random window of at most ``side`` x ``side``."""
    height, width = (min(side, n) for n in image.shape[:2])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    window: Samples = image[top : top + height, left : left + width]
    return window if window.base is image and window.shape == image.shape else window.copy()


class Crops:
    """Draws batches of square crops from several domains, in the proportion of their weights."""

    def __init__(
        self,
        domains: Sequence[Domain],
        *,
        side: int,
        batch: int,
        seed: int,
        jpeg: float = 0.0,
        resized: float = 0.0,
    ) -> None:
        self.side, self.batch, self.seed = side, batch, seed
        self._jpeg, self._resized = jpeg, resized
        self._domains = domains
        self._colour = [_Pool([i for i in d.images if i.shape[2] == 3]) for d in domains]
        pairs = zip(domains, self._colour, strict=True)
        weights = np.array([domain.weight if pool.images else 0.0 for domain, pool in pairs])
        self._weights = weights / weights.sum() if weights.any() else weights
        self._grey = _Pool([i for d in domains for i in d.images if i.shape[2] == 1])
        self._high_depth = _Pool([i for d in domains for i in d.high_depth])
        self._has_bytes = bool(self._weights.any() or self._grey.images)

    def shares(self) -> dict[str, float]:
        """Return the weight of every domain, by name; of several of one name their sum."""
        weights: dict[str, float] = {}
        for domain in self._domains:
            weights[domain.name] = weights.get(domain.name, 0.0) + domain.weight
        return weights

    def kind(self, step: int, grey_share: float, high_depth_share: float) -> str:
        """Return what the batch of ``step`` holds; each kind is evenly spread."""
        if not self._has_bytes or (self._high_depth.images and _is_due(step, high_depth_share)):
            return HIGH_DEPTH
        return GREY if not self._weights.any() or _is_due(step, grey_share) else COLOUR

    def draw(self, step: int, kind: str) -> Batch:
        """Return the batch of ``step``."""
        rng = np.random.default_rng([self.seed, step])
        if kind == HIGH_DEPTH:
            planes = (_reoriented(self._high_depth_crop(rng), rng) for _ in range(self.batch))
            return Batch.of([Shown.through(_window_of(plane, rng), plane) for plane in planes])
        crop = self._colour_crop if kind == COLOUR else self._grey_crop
        return Batch.of([Shown(_reoriented(crop(rng), rng)) for _ in range(self.batch)])

    def _high_depth_crop(self, rng: np.random.Generator) -> HighDepth:
        if self._weights.any() and rng.random() < MADE:
            pool = self._colour[rng.choice(len(self._colour), p=self._weights)]
            return _with_more_bits(pool.draw(rng), self.side, rng)
        return _window(self._high_depth.draw(rng), self.side, rng)

    def _colour_crop(self, rng: np.random.Generator) -> Uint8:
        pool = self._colour[rng.choice(len(self._colour), p=self._weights)]
        image, kind = pool.draw(rng), rng.random()
        if kind < self._jpeg:
            return _window(
                _through_jpeg(_window(image, self.side + 2 * BLOCK, rng), rng), self.side, rng
            )
        if kind < self._jpeg + self._resized:
            return _window(_enlarged(image, self.side, rng), self.side, rng)
        return _window(image, self.side, rng)

    def _grey_crop(self, rng: np.random.Generator) -> Uint8:
        """Return a grey crop: of a grey image, or the luma or one channel of a colour image."""
        if self._grey.images and (not self._weights.any() or rng.random() < 0.4):
            return _window(self._grey.draw(rng), self.side, rng)
        crop = self._colour_crop(rng)
        channel = rng.integers(4)
        if channel < 3:
            return crop[..., channel : channel + 1]
        luma: Uint8 = np.round(crop @ np.array(LUMA))[..., None].astype(np.uint8)
        return luma


class Prefetch:
    """Draws the batches of coming steps while one is learned from.

    In other threads, which suffices beside a CPU; with ``processes``, in so many of those: a GPU
    learns from a batch in the time that a core takes to draw it.
    """

    def __init__(
        self,
        crops: Crops,
        *,
        step: int,
        grey_share: float,
        high_depth_share: float,
        ahead: int,
        processes: int = 0,
    ) -> None:
        self._crops, self._next, self._shares = crops, step, (grey_share, high_depth_share)
        self._executor: Executor
        self._draw: Callable[[int, str], Batch]
        if processes:
            # forked, not spawned: they share the images in memory
            context = multiprocessing.get_context("fork")
            self._executor = ProcessPoolExecutor(processes, context, _share, (crops,))
            self._draw = _draw_shared
        else:
            self._executor, self._draw = ThreadPoolExecutor(ahead), crops.draw
        self._drawn = deque(self._submit() for _ in range(ahead + 2 * processes))

    def draw(self) -> Batch:
        """Return the next batch; its samples of 8 bits may be bytes still."""
        self._drawn.append(self._submit())
        return self._drawn.popleft().result()

    def close(self) -> None:
        """Drop what was drawn ahead."""
        self._executor.shutdown(cancel_futures=True)

    def _submit(self) -> Future[Batch]:
        step, self._next = self._next, self._next + 1
        return self._executor.submit(self._draw, step, self._crops.kind(step, *self._shares))


_shared: Crops | None = None  # of a process that draws


def _share(crops: Crops) -> None:
    global _shared
    _shared = crops
    torch.set_num_threads(1)  # a pool of threads does not survive a fork


def _draw_shared(step: int, kind: str) -> Batch:
    """Return a batch as bytes, if it is of 8 bits: a quarter of what has to be sent."""
    if _shared is None:
        raise RuntimeError("process without crops")
    batch = _shared.draw(step, kind)
    return batch if kind == HIGH_DEPTH else replace(batch, samples=batch.samples.byte())


class _Pool:
    """Images with the chance of each to be drawn."""

    def __init__(self, images: Sequence[Samples]) -> None:
        self.images = images
        area = np.array([i.shape[0] * i.shape[1] for i in images], float) ** AREA_POWER
        self._chance = area / area.sum() if len(area) else area

    def draw(self, rng: np.random.Generator) -> Samples:
        return self.images[rng.choice(len(self.images), p=self._chance)]


def _through_jpeg(crop: Uint8, rng: np.random.Generator) -> Uint8:
    """Return what a JPEG of ``crop`` decodes to: many slides and scenes were such a file once."""
    quality, subsampling = int(rng.integers(70, 98)), int(rng.choice([0, 2]))  # 4:4:4, 4:2:0
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    decoded = Image.open(stream).convert("RGB")
    if subsampling == 0 and rng.random() < 0.7:
        decoded = _with_repeated_chroma(decoded, (2, int(rng.integers(1, 3))))
    return np.array(decoded)


def _with_repeated_chroma(image: Image.Image, factors: tuple[int, int]) -> Image.Image:
    """Return what a decoder makes of subsampled chroma that repeats samples (slide readers do)."""
    luma, *chroma = image.convert("YCbCr").split()
    repeated = [c.reduce(factors).resize(c.size, Image.Resampling.NEAREST) for c in chroma]
    return Image.merge("YCbCr", (luma, *repeated)).convert("RGB")


def _enlarged(image: Uint8, side: int, rng: np.random.Generator) -> Uint8:
    """Return a window of at least ``side``, interpolated from fewer samples."""
    scale = rng.uniform(1.1, 2.0)
    window = _window(image, min(side, int(side / scale) + 2), rng)
    size = (max(side, int(window.shape[1] * scale)), max(side, int(window.shape[0] * scale)))
    method = Image.Resampling.BICUBIC if rng.integers(2) else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(window).resize(size, method))


def _with_more_bits(image: Uint8, side: int, rng: np.random.Generator) -> HighDepth:
    """Return a crop of more bits: weighted sums of blocks of samples, with a sensor's noise."""
    block = min(int(rng.integers(1, 4)), *(n // side for n in image.shape[:2]))
    window = _window(image, side * block, rng) @ rng.integers(0, 8, 3)
    sums = window.reshape(side, block, side, block).sum((1, 3)) >> int(rng.integers(0, 4))
    noise = rng.normal(0, np.exp(rng.uniform(*np.log(NOISE))), sums.shape)
    scaled: HighDepth = np.clip(np.rint(sums + noise), 0, MAX_VALUE).astype(np.uint16)
    return scaled


def _window_of(crop: HighDepth, rng: np.random.Generator) -> Window:
    """Return the window of a crop (H, W), or one whose unit is twice or half as large."""
    window = Window.of(crop)
    if rng.random() >= OTHER_SHIFT:
        return window
    return replace(window, shift=max(0, window.shift + int(rng.choice((-1, 1)))))


def _is_due(step: int, share: float) -> bool:
    """Whether ``step`` is one of those, evenly spread, that make up a share."""
    return int((step + 1) * share) > int(step * share)


def _reoriented(crop: Samples, rng: np.random.Generator) -> Samples:
    """Return one of the eight flips and transposes of a square crop."""
    rotated: Samples = np.rot90(crop, int(rng.integers(4)))
    return rotated[:, ::-1] if rng.integers(2) else rotated
