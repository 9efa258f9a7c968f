"""The coder on a CPU in the native core: what `inference.wavefront` computes, in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.model import causal, grid, mgcf
from archiver.codec.model.frequencies import table_values
from archiver.codec.model.model_file import ModelFile
from archiver.errors import IntegrityError, MachineError
from archiver.native import library

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
KINDS = {"grey": 0, "rgb": 1, "deep": 2}
_WORDS_BEYOND = 4  # of a stream, over three bytes a digit


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("n_in", ctypes.c_int32),
        ("n_out", ctypes.c_int32),
    )


@lru_cache(maxsize=1)
def _core() -> ctypes.CDLL:
    core = library.core()
    p, i, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    signatures = {
        "network_new": (p, [i, i, i, i, i]),
        "network_free": (None, [p]),
        "network_block": (i, [p, i, p]),
        "network_port": (i, [p, i, p, p]),
        "tile_encode": (ctypes.c_int64, [p, p, i, p, i, i, p]),
        "tile_decode": (i, [p, p, i, p, size, p, i, i]),
        "tile_predict": (i, [p, i, p, i, i, p, p, p]),
        "deep_encode": (ctypes.c_int64, [p, p, p, p, i, i, p]),
        "deep_decode": (i, [p, p, p, p, size, p, i, i]),
        "deep_predict": (i, [p, p, p, i, i, p, p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(core, f"archiver_{name}")
        function.restype, function.argtypes = result, arguments
    return core


@lru_cache(maxsize=1)
def _tables() -> Float32:
    sigmoid, weight, inverse = table_values()
    return np.array([*sigmoid, *weight, *inverse], np.float32)


class Coder:
    def __init__(self, file: ModelFile) -> None:
        self.sizes = file.architecture
        self._core = _core()
        a = file.architecture
        self._tables = _tables()
        self._network = self._core.archiver_network_new(
            a.dim, a.hidden * a.dim, a.blocks, a.mixtures, a.copies
        )
        if not self._network:
            raise MachineError("no memory")
        for number in range(a.blocks):
            names = ("attend", "value", "depthwise", "project", "expand", "contract")
            layers = [self._layer(file, f"blocks.{number}.{name}") for name in names]
            self._set(self._core.archiver_network_block, number, layers)
        for name, kind in KINDS.items():
            if name == "deep" and not a.deep:
                continue
            layers = [self._layer(file, f"ports.{name}.{part}") for part in ("embed", "head")]
            base = file.tensors[f"ports.{name}.base.weight"]
            taps = np.stack([base[..., r, c] for r, c in causal.taps(strict=True)], -1)
            base = np.ascontiguousarray(taps.transpose(0, 2, 1).astype(np.int16))
            self._set(self._core.archiver_network_port, kind, layers, base.ctypes.data)

    def _layer(self, file: ModelFile, name: str) -> tuple[Any, ...]:
        weight = file.tensors[f"{name}.weight"]
        if weight.ndim == 4:
            strict = not name.endswith("depthwise")
            taps = np.stack([weight[..., r, c] for r, c in causal.taps(strict=strict)], -1)
            weight = taps.transpose(0, 2, 1).reshape(len(weight), -1)
        scale = np.exp2(file.tensors[f"{name}.exponent"].astype(np.float32))
        bias = file.tensors[f"{name}.bias"].astype(np.float32) * np.float32(grid.STEP)
        return np.ascontiguousarray(weight, np.int8), scale, bias

    def _set(self, function: Any, at: int, layers: Sequence[Any], *more: Any) -> None:
        rows = (_Layer * len(layers))()
        for row, (weight, scale, bias) in zip(rows, layers, strict=True):
            row.weights, row.scale, row.bias = (x.ctypes.data for x in (weight, scale, bias))
            row.n_out, row.n_in = weight.shape
        if not function(self._network, at, rows, *more):
            raise MachineError("layers do not fit")

    def encode(self, tile: Uint8) -> bytes:
        height, width, channels = tile.shape
        tile = np.ascontiguousarray(tile)
        words = np.empty(tile.size * 2 * 3 // 4 + _WORDS_BEYOND, np.uint32)
        n = self._core.archiver_tile_encode(
            self._network, self._tables.ctypes.data, KINDS[mgcf.PORT_OF[channels]],
            tile.ctypes.data, height, width, words.ctypes.data,
        )
        return words[:n].tobytes()

    def decode(self, payload: bytes, shape: tuple[int, int, int]) -> Uint8:
        height, width, channels = shape
        tile = np.empty(shape, np.uint8)
        done = self._core.archiver_tile_decode(
            self._network, self._tables.ctypes.data, KINDS[mgcf.PORT_OF[channels]],
            payload, len(payload), tile.ctypes.data, height, width,
        )
        if done != 1:
            raise IntegrityError("learned tile: stream does not decode (beyond its interval)")
        return tile

    def encode_high_depth(self, values, window) -> bytes:
        height, width = values.shape
        numbers = np.ascontiguousarray(values, np.int32)
        words = np.empty(numbers.size * window.digits * 3 // 4 + 8, np.uint32)
        n = self._core.archiver_deep_encode(
            self._network, self._tables.ctypes.data, _quadruple(window).ctypes.data,
            numbers.ctypes.data, height, width, words.ctypes.data,
        )
        return words[:n].tobytes()

    def decode_high_depth(self, stream, shape, window):
        height, width = shape
        numbers = np.empty(shape, np.int32)
        done = self._core.archiver_deep_decode(
            self._network, self._tables.ctypes.data, _quadruple(window).ctypes.data,
            stream, len(stream), numbers.ctypes.data, height, width,
        )
        if done != 1:
            raise IntegrityError("learned tile: stream does not decode (beyond its interval)")
        return numbers


def _quadruple(window):
    return np.array([window.top, window.middle, window.shift, window.digits], np.int32)
