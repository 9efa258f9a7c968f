"""The coder on a CPU, in the native core: what `inference.tensor_coder` computes, in C.

No tensors here.  Shapes are checked before C sees a pointer; C checks what payloads lead it to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from archiver.codec.model import architecture, layers
from archiver.codec.model.high_depth import Values, Window
from archiver.codec.model.layers import Layer
from archiver.codec.model.model_file import ModelFile
from archiver.codec.model.tables import table_values
from archiver.errors import IntegrityError, MachineError

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Job = TypeVar("Job")
Done = TypeVar("Done")

_KINDS = {"grey": 0, "rgb": 1, architecture.HIGH_DEPTH: 2}
_DIGITS = 2  # of an 8-bit sample
_BYTES_A_DIGIT = 3  # at most
_WORDS_BEYOND = 4  # that a stream may take more


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("n_in", ctypes.c_int32),
        ("n_out", ctypes.c_int32),
    )


def _signatures() -> dict[str, tuple[Any, list[Any]]]:
    p, i, size, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_int64
    return {
        "network_new": (p, [i, i, i, i, i]),
        "network_free": (None, [p]),
        "network_block": (i, [p, i, p]),
        "network_port": (i, [p, i, p, p]),
        "tile_encode": (long, [p, p, i, p, i, i, p]),
        "tile_decode": (i, [p, p, i, p, size, p, i, i]),
        "tile_predict": (i, [p, i, p, i, i, p, p, p]),
        "deep_encode": (long, [p, p, p, p, i, i, p]),
        "deep_decode": (i, [p, p, p, p, size, p, i, i]),
        "deep_predict": (i, [p, p, p, i, i, p, p, p]),
    }


@lru_cache(maxsize=4)
def _bound(core: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in _signatures().items():
        function = getattr(core, f"archiver_{name}")
        function.restype, function.argtypes = result, arguments
    return core


@lru_cache(maxsize=1)
def _tables() -> Float32:
    """Return the tables of the coder in the order of the core's ``Tables``."""
    sigmoid, weight, inverse_scale = table_values()
    return np.array([*sigmoid, *weight, *inverse_scale], np.float32)


class NativeCoder:
    """Encode and decode tiles with one network; ``threads`` of them at a time."""

    device = "cpu"

    def __init__(self, file: ModelFile, core: ctypes.CDLL, threads: int = 1) -> None:
        self.sizes, self.threads = file.architecture, threads
        self._core, self._tables = _bound(core), _tables()
        sizes = self.sizes
        width = sizes.hidden * sizes.dim
        self._network = self._core.archiver_network_new(
            sizes.dim, width, sizes.blocks, sizes.mixtures, sizes.copies
        )
        if not self._network:
            raise MachineError(f"model {file.name}: no memory for its network")
        for number in range(sizes.blocks):
            names = (f"blocks.{number}.{name}" for name in layers.BLOCK_LAYERS)
            rows = [layers.layer(file, name) for name in names]
            self._fill(file, self._core.archiver_network_block, number, rows)
        for port in architecture.ports_of(sizes):
            rows = [layers.layer(file, f"ports.{port}.{name}") for name in ("embed", "head")]
            base = layers.base_mantissas(file, port)
            fill = self._core.archiver_network_port
            self._fill(file, fill, _KINDS[port], rows, base.ctypes.data)

    def __del__(self) -> None:
        if getattr(self, "_network", None):
            self._core.archiver_network_free(self._network)

    def _fill(
        self, file: ModelFile, fill: Any, at: int, rows: Sequence[Layer], *more: object
    ) -> None:
        passed = (_Layer * len(rows))()
        for to, row in zip(passed, rows, strict=True):
            to.weights, to.scale = row.weight.ctypes.data, row.scale.ctypes.data
            to.bias = row.bias.ctypes.data
            to.n_out, to.n_in = row.weight.shape
        if not fill(self._network, at, passed, *more):
            raise MachineError(f"model {file.name}: no memory for its network")

    # --- 8 bits ------------------------------------------------------------------------------

    def encode(self, tiles: Sequence[Uint8]) -> list[bytes]:
        """Return the payload of every tile (H, W, C)."""
        return self._on_threads(self._encode, tiles)

    def _encode(self, tile: Uint8) -> bytes:
        height, width, channels = tile.shape
        samples = np.ascontiguousarray(tile, np.uint8)
        words = _room(samples.size * _DIGITS)
        kind = _kind(channels)
        n = self._core.archiver_tile_encode(
            self._network, self._tables.ctypes.data, kind, samples.ctypes.data, height, width,
            words.ctypes.data,
        )  # fmt: skip
        return _stream(words, n)

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode; IntegrityError if one does not."""
        jobs = list(zip(payloads, shapes, strict=True))
        return self._on_threads(lambda job: self._decode(*job), jobs)

    def _decode(self, payload: bytes, shape: tuple[int, int, int]) -> Uint8:
        height, width, channels = shape
        tile, kind = np.empty(shape, np.uint8), _kind(channels)
        _check_words(payload)
        done = self._core.archiver_tile_decode(
            self._network, self._tables.ctypes.data, kind, payload, len(payload),
            tile.ctypes.data, height, width,
        )  # fmt: skip
        _check_done(done)
        return tile

    def predict(self, tiles: Uint8 | Sequence[Uint8]) -> tuple[Float32, Float32]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C) of tiles."""
        _, bases, outputs = self._predict(tiles, with_outputs=True)
        return outputs, bases

    def features(self, tiles: Uint8 | Sequence[Uint8]) -> tuple[NDArray[np.int8], Float32]:
        """Return what the head sees, (N, H, W, dim), and base predictions of tiles."""
        levels, bases, _ = self._predict(tiles, with_outputs=False)
        return levels, bases

    def _predict(
        self, tiles: Uint8 | Sequence[Uint8], *, with_outputs: bool
    ) -> tuple[NDArray[np.int8], Float32, Float32]:
        samples = np.ascontiguousarray(tiles, np.uint8)
        n, height, width, channels = samples.shape
        n_outputs = architecture.n_outputs(channels, self.sizes) if with_outputs else 0
        levels = np.empty((n, height, width, self.sizes.dim), np.int8)
        bases = np.empty(samples.shape, np.float32)
        outputs = np.empty((n, height, width, n_outputs), np.float32)
        for tile, level, base, output in zip(samples, levels, bases, outputs, strict=True):
            done = self._core.archiver_tile_predict(
                self._network, _kind(channels), tile.ctypes.data, height, width,
                base.ctypes.data, level.ctypes.data, output.ctypes.data if n_outputs else None,
            )  # fmt: skip
            _check_done(done)
        return levels, bases, outputs

    # --- more bits -----------------------------------------------------------------------------

    def encode_high_depth(self, values: Sequence[Values], windows: Sequence[Window]) -> list[bytes]:
        """Return the streams of numbers (H, W), each 0..top of its window."""
        jobs = list(zip(values, windows, strict=True))
        return self._on_threads(lambda job: self._encode_high_depth(*job), jobs)

    def _encode_high_depth(self, values: Values, window: Window) -> bytes:
        numbers, seen = np.ascontiguousarray(values, np.int32), _window(window)
        words = _room(numbers.size * window.digits)
        n = self._core.archiver_deep_encode(
            self._network, self._tables.ctypes.data, seen.ctypes.data, numbers.ctypes.data,
            *numbers.shape, words.ctypes.data,
        )  # fmt: skip
        return _stream(words, n)

    def decode_high_depth(
        self, streams: Sequence[bytes], shapes: Sequence[tuple[int, int]], windows: Sequence[Window]
    ) -> list[Values]:
        """Return the numbers (H, W) of streams; IntegrityError if one does not decode."""
        jobs = list(zip(streams, shapes, windows, strict=True))
        return self._on_threads(lambda job: self._decode_high_depth(*job), jobs)

    def _decode_high_depth(self, stream: bytes, shape: tuple[int, int], window: Window) -> Values:
        numbers, seen = np.empty(shape, np.int32), _window(window)
        _check_words(stream)
        done = self._core.archiver_deep_decode(
            self._network, self._tables.ctypes.data, seen.ctypes.data, stream, len(stream),
            numbers.ctypes.data, *shape,
        )  # fmt: skip
        _check_done(done)
        return numbers

    def predict_high_depth(self, values: Values, window: Window) -> tuple[Float32, Float32]:
        """Return outputs (H, W, n_outputs) and base predictions (H, W) of numbers (H, W)."""
        _, base, outputs = self._predict_high_depth(values, window, with_outputs=True)
        return outputs, base

    def features_high_depth(
        self, values: Values, window: Window
    ) -> tuple[NDArray[np.int8], Float32]:
        """Return what the head sees, (H, W, dim), and base predictions of numbers (H, W)."""
        levels, base, _ = self._predict_high_depth(values, window, with_outputs=False)
        return levels, base

    def _predict_high_depth(
        self, values: Values, window: Window, *, with_outputs: bool
    ) -> tuple[NDArray[np.int8], Float32, Float32]:
        numbers, seen = np.ascontiguousarray(values, np.int32), _window(window)
        n_outputs = architecture.n_outputs(1, self.sizes) if with_outputs else 0
        levels = np.empty((*numbers.shape, self.sizes.dim), np.int8)
        base = np.empty(numbers.shape, np.float32)
        outputs = np.empty((*numbers.shape, n_outputs), np.float32)
        done = self._core.archiver_deep_predict(
            self._network, seen.ctypes.data, numbers.ctypes.data, *numbers.shape,
            base.ctypes.data, levels.ctypes.data, outputs.ctypes.data if n_outputs else None,
        )  # fmt: skip
        _check_done(done)
        return levels, base, outputs

    def _on_threads(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> list[Done]:
        """Do some work on each job; C leaves the interpreter to other threads meanwhile."""
        if self.threads == 1 or len(jobs) < 2:
            return [work(job) for job in jobs]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, jobs))


def _kind(channels: int) -> int:
    return _KINDS[architecture.PORT_OF[channels]]


def _window(window: Window) -> NDArray[np.int32]:
    return np.array([window.top, window.middle, window.shift, window.digits], np.int32)


def _room(n_digits: int) -> NDArray[np.uint32]:
    return np.empty(n_digits * _BYTES_A_DIGIT // 4 + _WORDS_BEYOND, np.uint32)


def _stream(words: NDArray[np.uint32], n: int) -> bytes:
    if n < 0:
        raise MachineError("not enough memory to code a tile")
    return words[:n].astype("<u4", copy=False).tobytes()


def _check_words(payload: bytes) -> None:
    if len(payload) % 4:
        raise IntegrityError(
            f"learned tile: payload of {len(payload)} bytes, expected whole 32-bit words"
        )


def _check_done(done: int) -> None:
    if done < 0:
        raise MachineError("not enough memory to code a tile")
    if not done:
        raise IntegrityError("learned tile: stream does not decode (beyond its interval)")
