"""A model file and its network by the text of FORMAT.md, in Python's integers.

Weights, biases and what layers give are held in 1/1024 level; what enters a layer is whole levels.
"""

from __future__ import annotations

import json
import struct
from operator import mul
from typing import Any, NamedTuple

import zstandard
from reader_only_range_coder import bits24, clip, nearest

UNIT = 1024
Values = list[int]
Field = dict[tuple[int, int], Values]  # by pixel; what is not there is zero


class Model(NamedTuple):
    """A model file: the sizes of its network, and shape and elements of its tensors."""

    sizes: dict[str, int]
    shapes: dict[str, list[int]]
    tensors: dict[str, Values]

    def rows(self, name: str) -> list[Values]:
        """Return the weights of a layer, in 1/1024, by output."""
        mantissas, exponents = self.tensors[f"{name}.weight"], self.tensors[f"{name}.exponent"]
        n = len(mantissas) // len(exponents)
        scaled = [q << exponents[i // n] + 10 for i, q in enumerate(mantissas)]
        return [scaled[i : i + n] for i in range(0, len(scaled), n)]


TAPS = [(r - 3, c - 3) for r in range(4) for c in range(7)]
STRICT = [i for i, (r, c) in enumerate(TAPS) if c + 2 * r < 0]
CAUSAL = [i for i, (r, c) in enumerate(TAPS) if c + 2 * r <= 0]


def read_model(data: bytes) -> Model:
    """Return what a whole model file has (version 1 or 3)."""
    magic, version, _, length = struct.unpack_from("<8sHHI", data)
    assert magic == b"ARCMODEL"
    assert version in (1, 3)
    header: dict[str, Any] = json.loads(data[16 : 16 + length])
    body, at, shapes, tensors = data[16 + length : -4], 0, {}, {}
    if version == 3:
        body = zstandard.ZstdDecompressor().decompress(body)
    for name, code, shape in header["tensors"]:
        count = 1
        for side in shape:
            count *= side
        kind = {"i1": "b", "i2": "h", "i4": "i"}[code]
        shapes[name] = shape
        tensors[name] = list(struct.unpack_from(f"<{count}{kind}", body, at))
        at += count * int(code[1])
    assert at == len(body)
    return Model(header["architecture"], shapes, tensors)


def levels(x: int, limit: int = 127) -> int:
    """Return what is held in 1/1024, rounded to whole numbers, within a limit."""
    return clip(nearest(x, UNIT), limit)


def hard_swish(v: int) -> int:
    """Return the levels of v * clip(v / 64 + 1/2, 0, 1), of v in 1/1024, by float32."""
    if abs(v) >= 32 * UNIT:
        return levels(v) if v > 0 else 0
    share = v + 32 * UNIT  # in 1/65536, exact
    return clip(nearest(bits24(v * share), 65536 * UNIT), 127)


class Layer(NamedTuple):
    """A matrix: of a kernel, its taps one after the other, each with all its inputs."""

    rows: list[Values]
    bias: Values

    def __call__(self, x: Values) -> Values:
        """Return what comes out, in 1/1024."""
        sums = [sum(map(mul, row, x)) for row in self.rows]
        return [total + bias for total, bias in zip(sums, self.bias, strict=True)]


class Network:
    """The network with one port: its layers, and what it has kept of the pixels so far."""

    def __init__(self, model: Model, port: str, channels: int) -> None:
        self.model, self.sizes = model, model.sizes
        self.embed = self.layer(f"ports.{port}.embed", STRICT)
        self.head = self.layer(f"ports.{port}.head")
        kernel = model.tensors[f"ports.{port}.base.weight"]
        self.base = [taps_of(kernel, c, channels, STRICT) for c in range(channels)]
        names = ["attend", "value", "project", "expand", "contract"]
        blocks = [f"blocks.{i}." for i in range(self.sizes["blocks"])]
        self.blocks = [{name: self.layer(block + name) for name in names} for block in blocks]
        self.gates = [self.layer(block + "depthwise", CAUSAL) for block in blocks]
        self.features: list[Field] = [{} for _ in blocks]
        self.planes: Field = {}
        self.n_planes = 3 * channels + 1

    def layer(self, name: str, taps: list[int] | None = None) -> Layer:
        """Return a layer; taps are those of a kernel."""
        rows = self.model.rows(name)
        if taps:
            inputs = self.model.shapes[f"{name}.weight"][1]
            rows = [taps_of(row, 0, inputs, taps) for row in rows]
        return Layer(rows, self.model.tensors[f"{name}.bias"])

    def outputs(self, row: int, column: int) -> Values:
        """Return what the head gives of a pixel, in 1/1024."""
        h = self.embed(seen(self.planes, row, column, STRICT, self.n_planes))
        for block, gate, field in zip(self.blocks, self.gates, self.features, strict=True):
            a = [levels(x) for x in h]
            field[row, column] = [hard_swish(v) for v in block["attend"](a)]
            around = seen(field, row, column, CAUSAL, len(h))
            gates = [
                sum(map(mul, kernel, around[d :: len(h)])) + gate.bias[d]
                for d, kernel in enumerate(gate.rows)
            ]
            products = map(mul, gates, block["value"](a))
            gated = [clip(nearest(bits24(p), 16 * UNIT * UNIT), 127) for p in products]
            h = carried(h, block["project"](gated))
            hidden = [hard_swish(v) for v in block["expand"]([levels(x) for x in h])]
            h = carried(h, block["contract"](hidden))
        return self.head([levels(x) for x in h])


def carried(h: Values, more: Values) -> Values:
    """Return the sum, within 2048 levels."""
    return [clip(x + y, 2048 * UNIT) for x, y in zip(h, more, strict=True)]


def taps_of(kernel: Values, out: int, inputs: int, taps: list[int]) -> Values:
    """Return row `out` of a kernel (out, inputs, 4, 7): tap after tap, each with all inputs."""
    return [kernel[28 * (out * inputs + i) + tap] for tap in taps for i in range(inputs)]


def seen(field: Field, row: int, column: int, taps: list[int], width: int) -> Values:
    """Return what taps see from a pixel: tap after tap, each with all its values."""
    places = [(row + TAPS[tap][0], column + TAPS[tap][1]) for tap in taps]
    return [value for place in places for value in field.get(place, [0] * width)]
