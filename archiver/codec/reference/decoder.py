"""The last word on the bitstream: a decoder in NumPy float64, without torch.

It follows FORMAT.md, "Codec", line by line and shares no code with the fast decoder.  All values
are whole multiples of a power of two far below 2**53, so float64 is exact here; torch in float32,
on any device, must agree bit for bit (tests/codec/test_exactness.py).
Slow on purpose: about a second for a 64 x 64 tile.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from archiver.codec.reference.range_coder import DigitDecoder, Frequencies

Array = NDArray[np.float64]

ROWS, COLUMNS = 4, 7  # kernels span rows -3..0 and columns -3..3
PORTS = {1: "ports.grey", 3: "ports.rgb"}


@dataclass(frozen=True)
class ReferenceModel:
    """A model file, its tensors as float64 on their grids."""

    architecture: dict[str, int]
    tensors: dict[str, Array]

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceModel:
        """Read a model file (FORMAT.md, "Model file"); the caller has verified its digest."""
        (length,) = struct.unpack_from("<I", data, 12)
        header: dict[str, Any] = json.loads(data[16 : 16 + length])
        body, offset, tensors = data[16 + length : -4], 0, {}
        if struct.unpack_from("<H", data, 8)[0] == 3:
            body = zstandard.ZstdDecompressor().decompress(body)
        for name, code, shape in header["tensors"]:
            dtype = np.dtype("<" + code)
            count = int(np.prod(shape))
            values = np.frombuffer(body, dtype, count, offset).reshape(shape)
            tensors[name] = values.astype(np.float64)
            offset += count * dtype.itemsize
        return cls(header["architecture"], tensors)

    def adapted(self, adapter: bytes) -> ReferenceModel:
        """Return the model with the increments of an adapter (FORMAT.md, "Adapter")."""
        tensors, products, shapes = dict(self.tensors), self._products(adapter), []
        for layer, rank, n_in in products:
            n_out = len(tensors[f"{layer}.weight"])
            shapes += [(n_out, rank), (rank, n_in)] + [(n_out, 1)] * layer.endswith("head")
        factors = _factors(adapter, shapes)
        for layer, rank, n_in in products:
            u, v = factors.pop(0), factors.pop(0)
            increment = u / 32 @ (v / 32 + _signs(rank, n_in))
            weight = self.weight(layer)
            if layer.endswith("head"):
                bias = tensors[f"{layer}.bias"] + 128 * factors.pop(0)[:, 0]
                tensors[f"{layer}.bias"] = np.clip(bias, -(2.0**21), 2.0**21)
            if layer.endswith("depthwise"):
                weight[:, 0, _taps()] += increment
            else:
                weight += increment
            self._put(tensors, layer, weight)
        return ReferenceModel(self.architecture, tensors)

    def _products(self, adapter: bytes) -> list[tuple[str, int, int]]:
        """Return name, rank and inputs of the layers that an adapter has increments of."""
        matrix, kernel, head = adapter[1], adapter[2], 0 if adapter[0] == 1 else adapter[3]
        dim, taps = self.architecture["dim"], int(_taps().sum())
        layers = [(name, matrix, dim) for name in ("attend", "value", "expand")]
        layers.append(("depthwise", kernel, taps))
        blocks = range(self.architecture["blocks"])
        products = [(f"blocks.{i}.{name}", rank, n) for i in blocks for name, rank, n in layers]
        ports = ["grey", "rgb"] + ["deep"] * bool(self.architecture.get("deep"))
        products += [(f"ports.{port}.head", head, dim) for port in ports]
        return [product for product in products if product[1]]

    @staticmethod
    def _put(tensors: dict[str, Array], layer: str, weight: Array) -> None:
        """Put a weight on its grid: the smallest exponents that hold its rows."""
        largest = np.abs(weight.reshape(len(weight), -1)).max(1)
        exponent = np.full(len(weight), -10.0)
        for candidate in range(-9, 5):
            exponent[largest > 127 * 2.0 ** (candidate - 1)] = candidate
        scale = np.exp2(exponent).reshape(-1, *[1] * (weight.ndim - 1))
        tensors[f"{layer}.weight"] = np.rint(np.clip(weight / scale, -127, 127))
        tensors[f"{layer}.exponent"] = exponent

    def weight(self, layer: str) -> Array:
        """Return mantissa * 2**exponent, one exponent per output row."""
        mantissa, exponent = self.tensors[f"{layer}.weight"], self.tensors[f"{layer}.exponent"]
        weight: Array = mantissa * np.exp2(exponent).reshape(-1, *[1] * (mantissa.ndim - 1))
        return weight

    def bias(self, layer: str) -> Array:
        """Return the bias in levels."""
        return self.tensors[f"{layer}.bias"] / 1024

    def apply(self, layer: str, x: Array) -> Array:
        """Return the matrix product of a pointwise layer, (n, in) -> (n, out)."""
        product: Array = x @ self.weight(layer).T + self.bias(layer)
        return product


def decode(payload: bytes, shape: tuple[int, int, int], model: ReferenceModel) -> NDArray[np.uint8]:
    """Return the (H, W, C) tile of a learned payload, C being 1 or 3."""
    height, width, _ = shape
    stream = DigitDecoder(payload)
    samples = np.zeros(shape, np.uint8)
    field = Field(model, shape)
    for group in range(width + 2 * (height - 1)):
        rows = np.arange(max(0, (group - width + 2) // 2), min(height, group // 2 + 1))
        if not len(rows):  # a tile one column wide has no pixel in odd groups
            continue
        columns = group - 2 * rows
        outputs, base = field.predict(rows, columns)
        values = _decode_pixels(stream, outputs, base, field.copyable(rows, columns))
        samples[rows, columns] = values
        field.store(rows, columns, values, base)
    return samples


class Field:
    """Every layer's values at the pixels decoded so far; zero outside the tile."""

    def __init__(self, model: ReferenceModel, shape: tuple[int, int, int]) -> None:
        height, width, self.channels = shape
        self.model = model
        self.port = PORTS[self.channels]
        padded = (height + ROWS - 1, width + COLUMNS - 1)
        self.planes = np.zeros((*padded, 3 * self.channels + 1))
        dim, blocks = model.architecture["dim"], model.architecture["blocks"]
        self.features = [np.zeros((*padded, dim)) for _ in range(blocks)]

    def predict(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return the head's outputs (n, outputs) and the base prediction (n, C) of some pixels."""
        seen = window(self.planes, rows, columns, strict=True)
        kernel = self.model.tensors[f"{self.port}.base.weight"] / 1024
        base = self._base(rows, columns, seen[..., : self.channels], kernel)
        embed = f"{self.port}.embed"
        h = np.einsum("nijp,dpij->nd", seen, self.model.weight(embed)) + self.model.bias(embed)
        for i, features in enumerate(self.features):
            h = self._block(f"blocks.{i}", features, rows, columns, h)
        return self.model.apply(f"{self.port}.head", snap(h)), base

    def _base(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], seen: Array, kernel: Array
    ) -> Array:
        return snap(np.einsum("nijp,cpij->nc", seen, kernel) * 16, 128 * 16)

    def _block(
        self,
        name: str,
        features: Array,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        h: Array,
    ) -> Array:
        apply = self.model.apply
        value = apply(f"{name}.value", snap(h))
        features[rows + 3, columns + 3] = snap(_hard_swish(apply(f"{name}.attend", snap(h))))
        kernel = self.model.weight(f"{name}.depthwise")[:, 0]
        seen = window(features, rows, columns, strict=False)
        gate = np.einsum("nijd,dij->nd", seen, kernel) + self.model.bias(f"{name}.depthwise")
        gated = snap(_float32(gate * value) / 16)
        h = np.clip(h + apply(f"{name}.project", gated), -2048, 2048)
        hidden = snap(_hard_swish(apply(f"{name}.expand", snap(h))))
        result: Array = np.clip(h + apply(f"{name}.contract", hidden), -2048, 2048)
        return result

    def copyable(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
        """Return the samples minus 128 of the neighbours W, N that may be copied, (n, J, C)."""
        neighbours = [(0, -1), (-1, 0)][: self.model.architecture.get("copies", 0)]
        seen = np.zeros((len(rows), len(neighbours), self.channels))
        for j, (row, column) in enumerate(neighbours):
            seen[:, j] = self.planes[rows + 3 + row, columns + 3 + column, : self.channels]
        return seen

    def store(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.int64],
        base: Array,
    ) -> None:
        """Set the input planes of decoded pixels: samples, residuals at two scales, inside."""
        centred = values - 128.0
        residual = centred * 16 - base
        inside = np.full((len(rows), 1), 64.0)
        planes = [centred, snap(residual / 8), snap(residual / 2), inside]
        self.planes[rows + 3, columns + 3] = np.concatenate(planes, 1)


def _taps() -> NDArray[np.bool_]:
    """Return which taps of a depth-wise kernel are causal, (4, 7)."""
    distance = np.arange(COLUMNS) - 3 + 2 * (np.arange(ROWS) - 3)[:, None]
    causal: NDArray[np.bool_] = distance <= 0
    return causal


def _signs(rows: int, columns: int) -> Array:
    """Return what the second factor of an increment starts from."""
    state, signs = 1, []
    for _ in range(rows * columns):
        state = (1103515245 * state + 12345) % 2**31
        signs.append(0.25 if state >= 2**30 else -0.25)
    return np.array(signs).reshape(rows, columns)


def _factors(adapter: bytes, shapes: list[tuple[int, int]]) -> list[Array]:
    """Return the factors of an adapter, in steps."""
    start = 3 if adapter[0] == 1 else 4
    codes = np.frombuffer(adapter, np.uint8, len(shapes), start).astype(np.int64)
    lengths = [rows * columns for rows, columns in shapes]
    scale = np.repeat(codes, lengths).astype(np.float64)
    values = np.zeros(sum(lengths))
    present = scale > 0
    if present.any():
        stream = DigitDecoder(adapter[start + len(shapes) :])
        zeros = np.zeros((int(present.sum()), 1))
        count = Count(zeros, zeros, scale[present][:, None] - 81.0)
        high = stream.decode(count.frequencies(np.zeros(len(zeros), np.int64), 16))
        low = stream.decode(count.frequencies(high * 16, 1))
        values[present] = high * 16 + low - 128
    parts = np.split(values, np.cumsum(lengths)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def window(
    field: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], *, strict: bool
) -> Array:
    """Return the masked 4x7 neighbourhood of some pixels, (n, 4, 7, width)."""
    row, column = np.arange(ROWS), np.arange(COLUMNS)
    distance = (column - 3)[None] + 2 * (row - 3)[:, None]
    mask = distance < 0 if strict else distance <= 0
    seen = field[rows[:, None, None] + row[:, None], columns[:, None, None] + column]
    causal: Array = seen * mask[..., None]
    return causal


def snap(x: Array, limit: float = 127) -> Array:
    """Round to whole levels, ties to even, within [-limit, limit]."""
    levels: Array = np.rint(np.clip(x, -limit, limit))
    return levels


def _float32(x: Array) -> Array:
    """Round a product to float32: the products of two inexact factors are defined so."""
    return x.astype(np.float32).astype(np.float64)


def _hard_swish(x: Array) -> Array:
    return _float32(x * _float32(np.clip(_float32(x / 64 + 0.5), 0, 1)))


def _decode_pixels(
    stream: DigitDecoder, outputs: Array, base: Array, neighbours: Array
) -> NDArray[np.int64]:
    """Decode the pixels of one group, channel by channel, high digit first: (n, C)."""
    n_pixels, copies, channels = neighbours.shape
    n_rows = 3 * channels + channels * (channels - 1) // 2
    own, copied = np.split(outputs, [outputs.shape[1] - 2 * channels * copies], 1)
    rows = own.reshape(n_pixels, n_rows, -1)
    copied_rows = copied.reshape(n_pixels, 2, channels, copies)
    logits = snap(np.concatenate([rows[:, :channels], copied_rows[:, 0]], 2))
    means = snap(rows[:, channels : 2 * channels] * 8, 255 * 16)
    scales = np.concatenate([rows[:, 2 * channels : 3 * channels], copied_rows[:, 1]], 2)
    scales = snap(scales - 12, 92) + 12
    coupling = snap(rows[:, 3 * channels :] * 4, 255)
    values = np.zeros((len(outputs), channels), np.int64)
    for c in range(channels):
        centre = (means[:, c] + base[:, c, None]) * 64
        for earlier in range(c):
            residual = (values[:, earlier] - 128) * 16 - base[:, earlier]
            centre = centre + coupling[:, c * (c - 1) // 2 + earlier] * residual[:, None]
        copy = neighbours[:, :, c]
        if c:
            copy = copy + values[:, c - 1, None] - 128 - neighbours[:, :, c - 1]
        centre = np.concatenate([snap(centre / 16, 512 * 64), copy * 64], 1)
        count = Count(logits[:, c], centre, scales[:, c])
        high = stream.decode(count.frequencies(np.zeros(len(values), np.int64), 16))
        low = stream.decode(count.frequencies(high * 16, 1))
        values[:, c] = high * 16 + low
    return values


class Count:
    """The cumulative count F of one channel of n pixels (FORMAT.md, "Frequencies")."""

    def __init__(self, logits: Array, centre: Array, scale: Array) -> None:
        self.weight = np.rint(256 * 2 ** ((logits - logits.max(1, keepdims=True)) / 16))
        self.centre = centre
        exact = 4 * 2 ** (-scale / 16)
        unit = 2.0 ** (np.floor(np.log2(exact)) - 7)  # 8 significant bits
        self.inverse = np.rint(exact / unit) * unit

    def at(self, edges: NDArray[np.int64]) -> Array:
        """Return F at (n, e) sample values 0..256: (n, e) whole numbers."""
        position = (edges[..., None] * 64 - 32 - 128 * 64) - self.centre[:, None]
        argument = np.rint(np.clip(position * self.inverse[:, None], -2560, 2560)) / 256
        inner = (self.weight[:, None] * np.rint(8192 / (1 + np.exp(-argument)))).sum(-1)
        total = 8192 * self.weight.sum(1)[:, None]
        return np.where(edges <= 0, 0, np.where(edges >= 256, total, inner))

    def frequencies(self, start: NDArray[np.int64], step: int) -> Frequencies:
        """Return the frequencies (n, 16) of the digits of width ``step`` from ``start``."""
        edges = start[:, None] + step * np.arange(17)
        return (np.diff(self.at(edges), axis=1) + 1).astype(np.int64)
