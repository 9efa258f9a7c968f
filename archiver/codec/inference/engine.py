"""One model on one device: tested for exactness before it touches a sample.

The self-test (FORMAT.md, "Self-test") runs known tiles through every layer, compares a digest with
the one in the model file, then encodes and decodes them.  A way to compute that fails is given up
for the next: TF32, strict float32, the native core on each instruction set that this processor has,
tensors on the CPU, then ParityError.

Torch is imported by those ways alone that need tensors.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archiver.codec.inference.native import NativeCoder
from archiver.codec.model import architecture, layers
from archiver.codec.model.architecture import Architecture
from archiver.codec.model.high_depth import Values, Window
from archiver.codec.model.model_file import ModelFile
from archiver.errors import IntegrityError, MachineError, ParityError
from archiver.native import library

if TYPE_CHECKING:
    from archiver.codec.model.batches import Shown
    from archiver.codec.model.mgcf import MGCF

log = logging.getLogger(__name__)

SELF_TEST_SHAPE = (16, 19, 23)  # tiles, rows, columns: libraries switch kernels by batch size
CODED_EVERY = 5  # of those tiles, is encoded and decoded, too

Uint8 = NDArray[np.uint8]
Uint16 = NDArray[np.uint16]
Float32 = NDArray[np.float32]


class Coder(Protocol):
    """One way to compute: in the native core, or on tensors of any device."""

    device: str
    sizes: Architecture

    def predict(self, tiles: Uint8) -> tuple[Float32, Float32]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C)."""

    def features(self, tiles: Uint8) -> tuple[NDArray[np.int8], Float32]:
        """Return what the head sees, (N, H, W, dim), and base predictions (N, H, W, C)."""

    def encode(self, tiles: Sequence[Uint8]) -> list[bytes]:
        """Return the payloads of tiles (H, W, C)."""

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) of payloads."""

    def predict_high_depth(self, values: Values, window: Window) -> tuple[Float32, Float32]:
        """Return outputs (H, W, n_outputs) and base predictions (H, W) of numbers (H, W)."""


class Engine:
    """Encode and decode tiles with one model: of 8 bits, 1 or 3 channels, or more.

    Use :meth:`open`; the constructor trusts its arguments.
    """

    def __init__(
        self,
        file: ModelFile,
        make: Callable[[ModelFile], Coder],
        *,
        adapter: bytes | None = None,
        threads: int = 1,
    ) -> None:
        self.name, self.adapter, self.threads = file.name, adapter, threads
        self.coder = make(file)
        self._file, self._make = file, make
        self._native = self.coder if isinstance(self.coder, NativeCoder) else _native(file, threads)

    @classmethod
    def open(cls, model: bytes, *, device: str = "auto", threads: int = 1) -> Engine:
        """Load ``model`` on ``device`` ("auto", "cpu", "cuda", "cuda:1") and self-test it.

        ``threads`` tiles are coded at a time on a CPU.  Raises FormatError or IntegrityError for a
        bad model and ParityError if not even the CPU computes the exact bits.
        """
        file = ModelFile.from_bytes(model)
        layers.check(file)
        if device == "auto":
            from archiver.codec.model import devices

            device = "cuda" if devices.n_gpus() else "cpu"
        fault: str | None = "no way to compute"
        for how, make in _attempts(device, threads):
            engine = cls(file, make, threads=threads)
            fault = engine.self_test_fault(file.self_test)
            if fault is None:
                log.info("model %s: computed by %s", file.name, how)
                return engine
            log.warning("%s fails the exactness self-test: %s", how, fault)
        raise ParityError(
            f"model {file.name}: this machine does not compute the exact bits ({fault}); nothing "
            "was read or written. Check the installation and the hardware, and report it"
        )

    def adapted(self, adapter: bytes) -> Engine:
        """Return an engine with the increments of an adapter, computing in the same way.

        FormatError or IntegrityError if it is not an adapter for this model, or breaks a bound.
        """
        from dataclasses import replace

        from archiver.codec.model import frozen
        from archiver.codec.model.adapter import Adapter

        merged = Adapter.from_bytes(adapter, self.sizes).merged(self.net)
        file = replace(self._file, tensors=frozen.quantise(merged))
        return Engine(file, self._make, adapter=adapter, threads=self.threads)

    @cached_property
    def net(self) -> MGCF:
        """The network as tensors on the CPU, for those who learn."""
        from archiver.codec.model import frozen

        return frozen.build(self._file)

    @property
    def sizes(self) -> Architecture:
        """The sizes of the network."""
        return self._file.architecture

    @property
    def device(self) -> str:
        """Where the network runs, as torch names it."""
        return self.coder.device

    @property
    def has_high_depth(self) -> bool:
        """Whether the model has a port for samples of more than 8 bits."""
        return bool(self.sizes.deep)

    def features(self, shown: Shown) -> tuple[NDArray[np.int8], Float32]:
        """Return what the head sees of a part of an image, (H, W, dim), and its base predictions.

        These are (H, W, C).
        """
        if shown.window is None:
            levels, base = self.coder.features(shown.samples[None])
            return levels[0], base[0]
        values = shown.window.values_of(shown.samples[..., 0])
        levels, base = self._high_depth().features_high_depth(values, shown.window)
        return levels, base[..., None]

    def encode(self, tiles: Sequence[Uint8]) -> list[bytes]:
        """Return one payload per tile (H, W, C); tiles may differ in shape.

        ValueError unless all are 8 bit, of 1 or 3 channels, and hold a pixel.
        """
        for tile in tiles:
            is_known = tile.dtype == np.uint8 and tile.shape[2] in architecture.PORT_OF
            if not (is_known and tile.size):
                raise ValueError(f"tile of {tile.shape} {tile.dtype}: expected uint8, grey or RGB")
        return self.coder.encode(tiles)

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that :meth:`encode` was given."""
        return self.coder.decode(payloads, shapes)

    def encode_high_depth(self, tiles: Sequence[Uint16]) -> list[bytes]:
        """Return one payload per tile (H, W) of more than 8 bits; ValueError without a port."""
        if not tiles:
            return []
        windows = [Window.of(tile) for tile in tiles]
        values = [window.values(tile) for window, tile in zip(windows, tiles, strict=True)]
        streams = self._high_depth().encode_high_depth(values, windows)
        return [window.to_bytes() + stream for window, stream in zip(windows, streams, strict=True)]

    def decode_high_depth(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int]]
    ) -> list[Uint16]:
        """Return the tiles (H, W) that :meth:`encode_high_depth` was given."""
        if not payloads:
            return []
        coder = self._high_depth()
        windows, streams = zip(*map(Window.split, payloads), strict=True)
        decoded = coder.decode_high_depth(streams, shapes, windows)
        for values, window in zip(decoded, windows, strict=True):
            if values.max() > window.top:
                raise IntegrityError("tile of high bit depth: a number above the largest one")
        return [window.samples(values) for values, window in zip(decoded, windows, strict=True)]

    def _high_depth(self) -> NativeCoder:
        if not self.has_high_depth:
            raise ValueError(f"model {self.name} has no port for more than 8 bits")
        if self._native is None:
            library.required()
            raise MachineError(f"model {self.name}: no memory for its network")
        return self._native

    def self_test_fault(self, expected: str) -> str | None:
        """Return what is wrong with this device's arithmetic, or None if it is exact."""
        try:
            return self._self_test(expected)
        except Exception as error:  # whatever a wrong result leads to
            return f"{type(error).__name__}: {error}"

    def _self_test(self, expected: str) -> str | None:
        computed = self_test_digest(self.coder, self._native)
        if computed != expected:
            return f"digest {computed[:16]}, expected {expected[:16]}"
        kinds = architecture.PORTS.values()
        images = [t for channels in kinds for t in self_test_tiles(channels)[::CODED_EVERY]]
        payloads = self.encode(images)
        for image, decoded in zip(
            images, self.decode(payloads, [_shape(image) for image in images]), strict=True
        ):
            if not np.array_equal(image, decoded):
                return "a tile does not decode to itself"
        return self._high_depth_fault() if self.has_high_depth and self._native else None

    def _high_depth_fault(self) -> str | None:
        tiles = list(high_depth_test_tiles()[::CODED_EVERY])
        decoded = self.decode_high_depth(
            self.encode_high_depth(tiles), [tile.shape for tile in tiles]
        )
        if all(map(np.array_equal, tiles, decoded)):
            return None
        return "a tile of high bit depth does not decode to itself"


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


def digest_of(file: ModelFile) -> str:
    """Return the self-test digest of a model, computed on this CPU."""
    layers.check(file)
    native = _native(file, 1)
    return self_test_digest(native or _tensor_coder("cpu", file), native)


def self_test_digest(coder: Coder, native: NativeCoder | None) -> str:
    """Return the SHA-256 of the network's outputs, as integers, for the self-test's tiles.

    ``native`` computes those of more than 8 bits, where there is a core.
    """
    state = hashlib.sha256()
    for channels in architecture.PORTS.values():
        outputs, base = coder.predict(self_test_tiles(channels))
        for values in (outputs * 1024, base):
            state.update(values.astype("<i4").tobytes())
    if not coder.sizes.deep:
        return state.hexdigest()
    for tile in high_depth_test_tiles():
        window = Window.of(tile)
        raw, predicted = (native or coder).predict_high_depth(window.values(tile), window)
        state.update((raw * 1024).astype("<i4").tobytes())
        state.update(predicted.astype("<i4").tobytes())
    return state.hexdigest()


def _native(file: ModelFile, threads: int) -> NativeCoder | None:
    core = library.core()
    return None if core is None else NativeCoder(file, core, threads)


def _attempts(device: str, threads: int) -> Iterator[tuple[str, Callable[[ModelFile], Coder]]]:
    """Yield what to try in order: how it computes, and what makes the coder of a model."""
    if device != "cpu":
        for tf32 in (True, False):
            _allow_tf32(tf32)
            yield f"{device} (TF32 {tf32})", lambda file: _tensor_coder(device, file)
    for name in library.usable():
        core = library.load(name)
        if core is not None:
            yield f"cpu ({name})", _native_maker(core, threads)
    yield "cpu (tensors)", lambda file: _tensor_coder("cpu", file)


def _native_maker(core: Any, threads: int) -> Callable[[ModelFile], Coder]:
    return lambda file: NativeCoder(file, core, threads)


def _tensor_coder(device: str, file: ModelFile) -> Coder:
    from archiver.codec.inference.tensor_coder import TensorCoder
    from archiver.codec.model import frozen

    return TensorCoder(copy.deepcopy(frozen.build(file)).to(device))


def _allow_tf32(allowed: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _shape(tile: Uint8) -> tuple[int, int, int]:
    height, width, channels = tile.shape
    return height, width, channels
