"""Own the training samples: folders of images read into memory, and seeded crops out of them.

Every batch is a function of (data, seed, step), so that a run that was killed goes on exactly where
its last checkpoint was.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from archiver.errors import UsageError

Uint8 = NDArray[np.uint8]

SUFFIXES = {".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".jpg", ".jpeg", ".dcm"}
LOSSY = {".jpg", ".jpeg"}
MAX_SIDE = 4096  # of a larger image a window of this side is kept
AREA_POWER = 0.7  # an image is drawn in proportion to its area ** AREA_POWER
BLOCK = 8  # side of the blocks that JPEG transforms
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Domain:
    """The images of one folder, 8 bit, and how often crops are drawn from it."""

    name: str
    weight: float
    images: tuple[Uint8, ...]  # (H, W, C), C 1 or 3
    skipped: tuple[str, ...]  # "name: why", for each file that was left out

    @property
    def n_samples(self) -> int:
        """Number of samples in memory."""
        return sum(image.size for image in self.images)


def load_domain(folder: Path, weight: float, *, side: int, seed: int, limit: int) -> Domain:
    """Read all images below ``folder`` that hold crops of ``side``, up to ``limit`` bytes.

    UsageError if there are none.  Files are taken in a seeded order, so that a folder that does
    not fit into memory gives a fair sample of itself.
    """
    rng = np.random.default_rng(seed)
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    images: list[Uint8] = []
    skipped: list[str] = []
    n_bytes = 0
    for index in rng.permutation(len(files)):
        image, why = _read_or_why(files[index], side, rng)
        if image is not None and n_bytes + image.nbytes > limit:
            image, why = None, "over the memory limit"
        if image is None:
            skipped.append(f"{files[index].relative_to(folder)}: {why}")
        else:
            images.append(image)
            n_bytes += image.nbytes
    if not images:
        raise UsageError(
            f"{folder}: no image to train on: expected 8-bit grey or RGB images of at least "
            f"{side} x {side} samples, found {len(files)} image files"
            + (f", the first refused is {skipped[0]}" if skipped else "")
        )
    return Domain(folder.resolve().name, weight, tuple(images), tuple(sorted(skipped)))


def read_image(path: Path) -> Uint8:
    """Return the 8-bit samples (H, W, C), C 1 or 3; ValueError if the file holds none.

    A lossy file is halved: the traces of its compression would teach what no lossless file has.
    """
    samples = _decode(path)
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
    return np.ascontiguousarray(samples)


def _decode(path: Path) -> NDArray[np.generic]:
    if path.suffix.lower() in (".tif", ".tiff"):
        decoded: NDArray[np.generic] = tifffile.imread(path)
        return decoded
    if path.suffix.lower() == ".dcm":
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


def _read_or_why(path: Path, side: int, rng: np.random.Generator) -> tuple[Uint8 | None, str]:
    try:
        image = read_image(path)
    except Exception as error:  # whatever a reader raises on a file that is not for it
        return None, str(error) or type(error).__name__
    if min(image.shape[:2]) < side:
        return None, f"{image.shape[1]} x {image.shape[0]} is smaller than a crop"
    return _window(image, MAX_SIDE, rng), ""


def _window(image: Uint8, side: int, rng: np.random.Generator) -> Uint8:
    """Return a random window of at most ``side`` x ``side``."""
    height, width = (min(side, n) for n in image.shape[:2])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    window = image[top : top + height, left : left + width]
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

    def shares(self) -> dict[str, float]:
        """Return the weight of every domain, by name; of several of one name their sum."""
        weights: dict[str, float] = {}
        for domain in self._domains:
            weights[domain.name] = weights.get(domain.name, 0.0) + domain.weight
        return weights

    def channels(self, step: int, grey_share: float) -> int:
        """Return how many channels the batch of ``step`` has: 1 or 3, evenly spread."""
        if not self._weights.any():
            return 1
        return 1 if int((step + 1) * grey_share) > int(step * grey_share) else 3

    def draw(self, step: int, channels: int) -> Uint8:
        """Return the batch (N, side, side, channels) of ``step``."""
        rng = np.random.default_rng([self.seed, step])
        crop = self._colour_crop if channels == 3 else self._grey_crop
        return np.stack([_turn(crop(rng), rng) for _ in range(self.batch)])

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
    """Draws the batches of coming steps in other threads while one is learned from."""

    def __init__(self, crops: Crops, *, step: int, grey_share: float, ahead: int) -> None:
        self._crops, self._next, self._grey_share = crops, step, grey_share
        self._threads = ThreadPoolExecutor(ahead)
        self._drawn = deque(self._submit() for _ in range(ahead))

    def draw(self) -> Uint8:
        """Return the next batch (N, side, side, C)."""
        self._drawn.append(self._submit())
        return self._drawn.popleft().result()

    def close(self) -> None:
        """Drop what was drawn ahead."""
        self._threads.shutdown(cancel_futures=True)

    def _submit(self) -> Future[Uint8]:
        step, self._next = self._next, self._next + 1
        channels = self._crops.channels(step, self._grey_share)
        return self._threads.submit(self._crops.draw, step, channels)


class _Pool:
    """Images with the chance of each to be drawn."""

    def __init__(self, images: Sequence[Uint8]) -> None:
        self.images = images
        area = np.array([i.shape[0] * i.shape[1] for i in images], float) ** AREA_POWER
        self._chance = area / area.sum() if len(area) else area

    def draw(self, rng: np.random.Generator) -> Uint8:
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


def _turn(crop: Uint8, rng: np.random.Generator) -> Uint8:
    """Return one of the eight flips and transposes of a square crop."""
    turned: Uint8 = np.rot90(crop, int(rng.integers(4)))
    return turned[:, ::-1] if rng.integers(2) else turned
