"""One model on one device: tested for exactness before it touches a sample.

The self-test (FORMAT.md, "Self-test") runs known tiles through every layer, compares a digest with
the one in the model file, then encodes and decodes them.  A way to compute that fails is given up
for the next: TF32, strict float32, the CPU in int8, the CPU in float32, then ParityError.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from archiver.codec.inference import cpu, matmul, wavefront
from archiver.codec.model import mgcf, model_file
from archiver.codec.model.adapter import Adapter
from archiver.codec.model.batches import Batch
from archiver.codec.model.high_depth import Window
from archiver.errors import IntegrityError, ParityError

log = logging.getLogger(__name__)

ENCODE_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 22}  # in one parallel pass
DECODE_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 25}  # in one wavefront
SELF_TEST_SHAPE = (16, 19, 23)  # tiles, rows, columns: libraries switch kernels by batch size

Uint8 = NDArray[np.uint8]
Uint16 = NDArray[np.uint16]


class Coder(Protocol):
    """One way to compute: on tensors of any device, or in the CPU's own loops."""

    device: torch.device
    sizes: mgcf.Architecture

    def predict(self, tiles: Uint8) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C)."""

    def features(self, tiles: Uint8) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the head sees, (N, H, W, dim) int8, and base predictions (N, H, W, C)."""

    def encode(self, tiles: Uint8) -> list[bytes]:
        """Return the payloads of tiles (N, H, W, C)."""

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int]], channels: int
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) of payloads, all of ``channels``."""


class Engine:
    """Encode and decode tiles with one model: of 8 bits, 1 or 3 channels, or more.

    Use :meth:`open`; the constructor trusts its arguments.
    """

    def __init__(
        self,
        net: mgcf.MGCF,
        make: Callable[[mgcf.MGCF], Coder],
        file: model_file.ModelFile,
        *,
        adapter: bytes | None = None,
        threads: int = 1,
    ) -> None:
        self.net = net  # on the CPU
        self.coder = make(net)
        self.deep = _high_depth_coder(net, self.coder)
        self.name = file.name
        self.adapter = adapter
        self.threads = threads
        self._file, self._make = file, make

    @classmethod
    def open(cls, model: bytes, *, device: str = "auto", threads: int = 1) -> Engine:
        """Load ``model`` on ``device`` ("auto", "cpu", "cuda", "cuda:1") and self-test it.

        ``threads`` is what torch uses on a CPU while the engine works.  More than one pays only
        on an idle machine: operations are short, and threads that wait for a busy core cost far
        more than they save; processes scale better.  Raises FormatError or IntegrityError for a
        bad model and ParityError if not even the CPU computes the exact bits.
        """
        file = model_file.ModelFile.from_bytes(model)
        net = model_file.build(file)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        for how, make in _attempts(device):
            engine = cls(net, make, file, threads=threads)
            fault = engine.self_test_fault(file.self_test)
            if fault is None:
                return engine
            log.warning("%s fails the exactness self-test: %s", how, fault)
        raise ParityError(
            f"model {file.name}: this machine does not compute the exact bits ({fault}); nothing "
            "was read or written. Check the torch build and the hardware, and report it"
        )

    def adapted(self, adapter: bytes) -> Engine:
        """Return an engine with the increments of an adapter, computing in the same way.

        FormatError or IntegrityError if it is not an adapter for this model, or breaks a bound.
        """
        merged = Adapter.from_bytes(adapter, self.net.architecture).merged(self.net)
        return Engine(merged, self._make, self._file, adapter=adapter, threads=self.threads)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.coder.device

    def features(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the head sees of a batch, (N, H, W, dim) int8, and its base predictions."""
        with _computing(self.threads), torch.no_grad():
            if batch.kind == mgcf.HIGH_DEPTH:  # in units, which the loops for samples do not take
                levels, base = self.net.features(batch.samples, batch.kind)
                return levels.to(torch.int8), base
            return self.coder.features(batch.samples.numpy().astype(np.uint8))

    def encode(self, tiles: Sequence[Uint8]) -> list[bytes]:
        """Return one payload per tile (H, W, C); tiles may differ in shape.

        ValueError unless all are 8 bit, of 1 or 3 channels, and hold a pixel.
        """
        for tile in tiles:
            if tile.dtype != np.uint8 or tile.shape[2] not in mgcf.PORTS.values() or not tile.size:
                raise ValueError(f"tile of {tile.shape} {tile.dtype}: expected uint8, grey or RGB")
        payloads: list[bytes] = [b""] * len(tiles)
        with _computing(self.threads):
            for indices in _batches([t.shape for t in tiles], ENCODE_PIXELS[self.device.type]):
                same = np.stack([tiles[i] for i in indices])
                for i, payload in zip(indices, self.coder.encode(same), strict=True):
                    payloads[i] = payload
        return payloads

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that :meth:`encode` was given."""
        tiles: list[Uint8] = [np.empty(0, np.uint8)] * len(payloads)
        with _computing(self.threads):
            for indices in _wavefronts(shapes, DECODE_PIXELS[self.device.type]):
                sides = [shapes[i][:2] for i in indices]
                chosen = [payloads[i] for i in indices]
                decoded = self.coder.decode(chosen, sides, shapes[indices[0]][2])
                for i, tile in zip(indices, decoded, strict=True):
                    tiles[i] = tile
        return tiles

    def encode_high_depth(self, tiles: Sequence[Uint16]) -> list[bytes]:
        """Return one payload per tile (H, W) of more than 8 bits; ValueError without a port."""
        if not tiles:
            return []
        coder, payloads = self._high_depth(), []
        with _computing(self.threads):
            for tile in tiles:
                window = Window.of(tile)
                payloads.append(
                    window.to_bytes() + coder.encode_high_depth(window.values(tile), window)
                )
        return payloads

    def decode_high_depth(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int]]
    ) -> list[Uint16]:
        """Return the tiles (H, W) that :meth:`encode_high_depth` was given."""
        if not payloads:
            return []
        coder = self._high_depth()
        windows, streams = zip(*map(Window.split, payloads), strict=True)
        tiles: list[Uint16] = [np.empty(0, np.uint16)] * len(payloads)
        kinds = [(*shape, window.digits) for shape, window in zip(shapes, windows, strict=True)]
        with _computing(self.threads):
            for indices in _wavefronts(kinds, DECODE_PIXELS["cpu"]):
                chosen = [windows[i] for i in indices]
                decoded = coder.decode_high_depth(
                    [streams[i] for i in indices], [shapes[i] for i in indices], chosen
                )
                for i, values, window in zip(indices, decoded, chosen, strict=True):
                    if values.max() > window.top:
                        raise IntegrityError(
                            "tile of high bit depth: a number above the largest one"
                        )
                    tiles[i] = window.samples(values)
        return tiles

    def _high_depth(self) -> cpu.CpuCoder:
        if self.deep is None:
            raise ValueError(f"model {self.name} has no port for more than 8 bits")
        return self.deep

    def self_test_fault(self, expected: str) -> str | None:
        """Return what is wrong with this device's arithmetic, or None if it is exact."""
        try:
            return self._self_test(expected)
        except Exception as error:  # whatever a wrong result leads to
            return f"{type(error).__name__}: {error}"

    def _self_test(self, expected: str) -> str | None:
        with _computing(self.threads):
            computed = self_test_digest(self.coder, self.deep)
        if computed != expected:
            return f"digest {computed[:16]}, expected {expected[:16]}"
        images = [t for channels in mgcf.PORTS.values() for t in self_test_tiles(channels)]
        payloads = self.encode(images)
        for image, decoded in zip(
            images, self.decode(payloads, [_shape(image) for image in images]), strict=True
        ):
            if not np.array_equal(image, decoded):
                return "a tile does not decode to itself"
        return self._high_depth_fault() if self.deep else None

    def _high_depth_fault(self) -> str | None:
        tiles = list(high_depth_test_tiles())
        decoded = self.decode_high_depth(
            self.encode_high_depth(tiles), [tile.shape for tile in tiles]
        )
        if all(map(np.array_equal, tiles, decoded)):
            return None
        return "a tile of high bit depth does not decode to itself"


@contextlib.contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Compute without gradients on that many threads; leave the caller's setting as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def self_test_tiles(channels: int) -> Uint8:
    """Return the self-test's tiles: ramps, edges and noise from a linear congruence."""
    tiles, height, width = SELF_TEST_SHAPE
    state, values = 1, []
    for _ in range(height * width * channels):
        state = (state * 1103515245 + 12345) % 2**31
        values.append(state >> 16)
    noise = np.array(values).reshape(1, height, width, channels)
    number, column = np.arange(tiles)[:, None, None, None], np.arange(width)[:, None]
    ramp = column * (9 - number) + 8 * number + (noise & 15)
    return np.where(column > width // 2 + number, noise >> (number // 2), ramp).astype(np.uint8)


def high_depth_test_tiles() -> Uint16:
    """Return the self-test's tiles of high bit depth, (tiles, rows, columns), of every noise."""
    grey = self_test_tiles(1)[..., 0].astype(np.int64)
    number = np.arange(len(grey))[:, None, None]
    below = grey[::-1] * 257 % 251
    return ((grey * 256 + below) >> (number // 2)).astype(np.uint16)


def digest_of(net: mgcf.MGCF) -> str:
    """Return the self-test digest of a coding network, from float32 on the CPU alone."""
    high_depth = cpu.CpuCoder(net, torch.float32) if net.architecture.deep else None
    return self_test_digest(wavefront.TensorCoder(net), high_depth)


def self_test_digest(coder: Coder, high_depth: cpu.CpuCoder | None) -> str:
    """Return the SHA-256 of the network's outputs, as integers, for the self-test's tiles.

    ``high_depth`` computes those of more than 8 bits, if the network has a port for them.
    """
    state = hashlib.sha256()
    with torch.inference_mode():
        for channels in mgcf.PORTS.values():
            outputs, base = coder.predict(self_test_tiles(channels))
            for values in (outputs * 1024, base):
                state.update(values.cpu().numpy().astype("<i4").tobytes())
        if high_depth is None:
            return state.hexdigest()
        for tile in high_depth_test_tiles():
            window = Window.of(tile)
            raw, predicted = high_depth.predict_high_depth(window.values(tile), window)
            state.update((raw * 1024).astype("<i4").tobytes())
            state.update(predicted.astype("<i4").tobytes())
    return state.hexdigest()


def _high_depth_coder(net: mgcf.MGCF, coder: Coder | None) -> cpu.CpuCoder | None:
    """Return what codes tiles of high bit depth: always a CPU, whatever ``coder`` is."""
    if not net.architecture.deep:
        return None
    if isinstance(coder, cpu.CpuCoder):
        return coder
    return cpu.CpuCoder(net, torch.int8 if matmul.has_int8() else torch.float32)


def _attempts(device: str) -> Iterator[tuple[str, Callable[[mgcf.MGCF], Coder]]]:
    """Yield what to try in order: how it computes, and what makes the coder of a network."""
    if device != "cpu":
        for tf32 in (True, False):
            _allow_tf32(tf32)
            yield (
                f"{device} (TF32 {tf32})",
                lambda net: wavefront.TensorCoder(copy.deepcopy(net).to(device)),
            )
    if matmul.has_int8():
        yield "cpu (int8)", lambda net: cpu.CpuCoder(net, torch.int8)
    yield "cpu (float32)", lambda net: cpu.CpuCoder(net, torch.float32)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _shape(tile: Uint8) -> tuple[int, int, int]:
    height, width, channels = tile.shape
    return height, width, channels


def _batches(shapes: Sequence[tuple[int, ...]], max_pixels: int) -> list[list[int]]:
    """Group indices by equal shape, at most ``max_pixels`` (or one tile) to a group."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(i)
    groups = []
    for shape, indices in by_shape.items():
        size = max(1, max_pixels // (shape[0] * shape[1]))
        groups += [indices[i : i + size] for i in range(0, len(indices), size)]
    return groups


def _wavefronts(shapes: Sequence[tuple[int, int, int]], max_pixels: int) -> list[list[int]]:
    """Group indices by channel count, similar sizes together, bounded by padded pixels."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i][2], shapes[i][1], shapes[i][0]))
    groups: list[list[int]] = []
    for i in order:
        channels = shapes[i][2]
        if groups:
            members = [shapes[j] for j in groups[-1]] + [shapes[i]]
            padded = max(h for h, _, _ in members) * max(w for _, w, _ in members) * len(members)
            wasted = padded > 2 * sum(h * w for h, w, _ in members)
            if members[0][2] == channels and padded <= max_pixels and not wasted:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups
