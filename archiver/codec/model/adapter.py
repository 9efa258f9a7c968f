"""The image adapter: low-rank increments of a model's weights, and their few bytes.

An adapted layer's weight is its base weight plus ``U V`` (FORMAT.md, "Adapter"): LoRA (Hu et al.,
2022) for the matrices of a block that see its input, the same product for the flattened
depth-wise kernels, which is a Tucker-1 decomposition (CALLIC, Li et al., AAAI 2025), and the same
product and a new bias for the head of each port.  ``V``
starts from fixed signs that both sides know and ``U`` from zero, so an adapter of zeros changes
nothing and costs a byte per factor.

Factors are whole numbers of steps, priced and coded as a logistic of mean zero with one scale per
factor, by the tables and the range coder of the samples.  The sum of weight and increment goes
back on the weight grid, where it has the same exactness bounds as any model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.entropy import RADIX, DigitDecoder, encode_digits
from archiver.codec.model import (
    architecture,
    frequencies,
    grid,
    layers,
    mgcf,
    mixture,
    tables,
    taps,
)
from archiver.errors import FormatError, IntegrityError

VERSION, HEADLESS_VERSION = 2, 1  # the first had no increments of heads
STEP = 2.0**-5  # of a factor: the product of two steps is a fourth of a typical weight step
SIGN = 0.25  # magnitude of what V starts from
BIAS_STEP = 2.0**-3  # of a bias, in levels
LIMIT = 127  # of a factor, in steps
MAX_RANK = 16
MATRICES = ("attend", "value", "expand")
KERNEL = "depthwise"
_ABSENT = 0  # scale code of a factor of zeros
_MID = 128  # a factor's value is coded as a sample: 128 is zero
_LEAST_SCALE = tables.MIN_SCALE  # scale code 1

Factor = NDArray[np.int8]


@dataclass(frozen=True)
class Ranks:
    """How many columns U has: for matrices, depth-wise kernels and heads; 0: no increments."""

    matrix: int = 4
    kernel: int = 4
    head: int = 0

    def of(self, layer: str) -> int:
        """Return the rank for a layer's name."""
        return self.kernel if layer.endswith(KERNEL) else self.matrix

    def to_bytes(self) -> bytes:
        """Return what an adapter begins with."""
        if not self.head:
            return bytes([HEADLESS_VERSION, self.matrix, self.kernel])
        return bytes([VERSION, self.matrix, self.kernel, self.head])

    @classmethod
    def from_bytes(cls, data: bytes) -> Ranks:
        """Read them; FormatError if they are of another version, IntegrityError if damaged."""
        if data[:1] not in (bytes([HEADLESS_VERSION]), bytes([VERSION])):
            raise FormatError(
                f"adapter: version {data[0] if data else 'none'}, this release reads"
                f" {HEADLESS_VERSION} and {VERSION}; use a newer archiver"
            )
        is_headless = data[0] == HEADLESS_VERSION
        ranks = data[1 : 3 if is_headless else 4]
        if len(ranks) < (2 if is_headless else 3):
            raise IntegrityError(f"adapter: {len(data)} bytes, expected its ranks")
        if max(ranks) > MAX_RANK or min(ranks if is_headless else ranks[2:]) < 1:
            raise FormatError(f"adapter: impossible ranks {', '.join(map(str, ranks))}")
        return cls(*ranks)


@dataclass(frozen=True)
class Adapter:
    """Increments for the layers of one network, as whole numbers of steps.

    ``factors`` maps "<layer>.u" (n_out, rank) and "<layer>.v" (rank, n_in) to int8, of heads
    "<layer>.bias" (n_out, 1) too.
    """

    ranks: Ranks
    factors: Mapping[str, Factor]

    def to_bytes(self) -> bytes:
        """Serialise: ranks, a scale per factor, then the digits of all values."""
        codes = [_scale_code(values) for values in self.factors.values()]
        header = self.ranks.to_bytes() + bytes(codes)
        present = [v.reshape(-1) for v, c in zip(self.factors.values(), codes, strict=True) if c]
        if not present:
            return header
        values = np.concatenate(present).astype(np.int64) + _MID
        table = _table(codes, [values_.size for values_ in self.factors.values()])
        cumulative = table.high_digit()
        high = torch.from_numpy(values // RADIX)
        low = table.low_digit(high.unsqueeze(1), cumulative)
        digits = np.concatenate([values // RADIX, values % RADIX]).astype(np.int32)
        counts = torch.cat([frequencies.frequencies(cumulative), frequencies.frequencies(low)])
        return header + encode_digits(digits, counts.numpy())

    @classmethod
    def from_bytes(cls, data: bytes, sizes: architecture.Architecture) -> Adapter:
        """Parse; FormatError if it is of another version, IntegrityError if it is damaged."""
        ranks = Ranks.from_bytes(data)
        shapes = factor_shapes(sizes, ranks)
        start = len(ranks.to_bytes())
        codes = list(data[start : start + len(shapes)])
        if len(codes) < len(shapes):
            raise IntegrityError("adapter: ends before its scales do")
        if max(codes) > tables.MAX_SCALE - _LEAST_SCALE + 1:
            raise FormatError(f"adapter: impossible scale {max(codes)}")
        values = _decode(data[start + len(shapes) :], codes, list(shapes.values()))
        return cls(ranks, dict(zip(shapes, values, strict=True)))

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing."""
        return not any(self.factors[name].any() for name in self.factors if name[-2:] != ".v")

    def merged(self, net: mgcf.MGCF) -> mgcf.MGCF:
        """Return ``net``, as built from a model file, with the increments added; bounds proven.

        FormatError if a row could leave the range of exact sums.
        """
        out = mgcf.MGCF(net.architecture).eval().requires_grad_(False)
        out.load_state_dict(net.state_dict())
        start = starts(net.architecture, self.ranks)
        factors = {
            name: torch.from_numpy(values.astype(np.float32)) + start[name]
            for name, values in self.factors.items()
        }
        merged = merged_weights(net, factors)
        out.load_state_dict(merged, strict=False)
        for name, layer in _layers(out):
            if f"{name}.weight" in merged:
                bias = (layer.bias * architecture.UNIT).abs().double().numpy()
                weight = layer.weight.flatten(1).double().numpy()
                layers.check_bounds(name, weight, bias)
        return out


Layer = mgcf.Linear | mgcf.DepthwiseConv


def _layers(net: mgcf.MGCF) -> Iterator[tuple[str, Layer]]:
    """Yield name and layer of all that may have increments, in the order of their coding."""
    for i, block in enumerate(net.blocks):
        for name in (*MATRICES, KERNEL):
            yield f"blocks.{i}.{name}", cast(Layer, getattr(block, name))
    for name, port in net.ports.items():
        yield head_of(name), cast(Layer, port.head)


def head_of(port: str) -> str:
    """Return the name of a port's head."""
    return f"ports.{port}.head"


def factor_shapes(sizes: architecture.Architecture, ranks: Ranks) -> dict[str, tuple[int, int]]:
    """Return the shape of every factor, in the order in which they are coded."""
    dim, n_taps = sizes.dim, len(taps.causal_taps(strict=False))
    sides = {name: (sizes.hidden * dim if name == "expand" else dim, dim) for name in MATRICES}
    sides[KERNEL] = dim, n_taps
    shapes: dict[str, tuple[int, int]] = {}
    for i in range(sizes.blocks):
        for name, (n_out, n_in) in sides.items():
            shapes |= _product(f"blocks.{i}.{name}", n_out, ranks.of(name), n_in)
    for port, channels in architecture.ports_of(sizes).items() if ranks.head else ():
        n_out = architecture.n_outputs(channels, sizes)
        shapes |= _product(head_of(port), n_out, ranks.head, dim)
        shapes[f"{head_of(port)}.bias"] = n_out, 1
    return shapes


def _product(name: str, n_out: int, rank: int, n_in: int) -> dict[str, tuple[int, int]]:
    return {f"{name}.u": (n_out, rank), f"{name}.v": (rank, n_in)} if rank else {}


def starts(sizes: architecture.Architecture, ranks: Ranks) -> dict[str, Tensor]:
    """Return what every factor of zeros stands for, in steps: 0, fixed signs for V."""
    return {
        name: _signs(*shape) if name.endswith(".v") else torch.zeros(shape)
        for name, shape in factor_shapes(sizes, ranks).items()
    }


def merged_weights(net: mgcf.MGCF, factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of all adapted layers on the grid; differentiable in the ``factors``.

    ``factors`` are in steps, what they start from added, of any of the layers.  Every operation is
    exact, so this is what encoder, decoder and training compute alike.
    """
    weights = {}
    for name, layer in _layers(net):
        if f"{name}.u" not in factors:
            continue
        increment = (factors[f"{name}.u"] * STEP) @ (factors[f"{name}.v"] * STEP)
        if isinstance(layer, mgcf.DepthwiseConv):
            increment = _kernels(increment)
        weights[f"{name}.weight"] = grid.snap_rows(layer.weight.detach() + increment)
        if f"{name}.bias" in factors:
            bias = (
                layer.bias.detach() * architecture.UNIT + factors[f"{name}.bias"][:, 0] * BIAS_STEP
            )
            weights[f"{name}.bias"] = grid.snap_bias(bias) / architecture.UNIT
    return weights


def _kernels(seen: Tensor) -> Tensor:
    """Return increments (dim, taps) as kernels (dim, 1, 4, 7), zero where not causal."""
    kernels = seen.new_zeros(len(seen), taps.KERNEL_ROWS * taps.KERNEL_COLUMNS)
    places = [r * taps.KERNEL_COLUMNS + c for r, c in taps.causal_taps(strict=False)]
    filled = kernels.index_copy(1, torch.tensor(places, device=seen.device), seen)
    return filled.view(-1, 1, taps.KERNEL_ROWS, taps.KERNEL_COLUMNS)


@lru_cache(maxsize=64)
def _signs(rows: int, columns: int) -> Tensor:
    """Return +-SIGN in steps, by the linear congruence of the self-test."""
    state, values = 1, []
    for _ in range(rows * columns):
        state = (state * 1103515245 + 12345) % 2**31
        values.append(SIGN / STEP if state >> 30 else -SIGN / STEP)
    return torch.tensor(values).view(rows, columns)


# --- values <-> digits -------------------------------------------------------------------------


def _scale_code(values: Factor) -> int:
    """Return the code of the scale that fits a factor: 0 if it is zero, else 1 and up."""
    if not values.any():
        return _ABSENT
    magnitudes = np.bincount(np.abs(values.astype(np.int64)).reshape(-1))
    scales = np.arange(tables.MIN_SCALE, tables.MAX_SCALE + 1)
    width = 2.0 ** (scales / tables.OCTAVE)
    edges = (np.arange(len(magnitudes))[:, None] + [[-0.5, 0.5]])[..., None] / width
    below, above = 1 / (1 + np.exp(-np.clip(edges, -60, 60))).swapaxes(0, 1)
    lengths = -np.log2(np.maximum(above - below, tables.SIGMOID_ONE**-2.0))
    best: int = (magnitudes[:, None] * lengths).sum(0).argmin()
    return int(scales[best]) - _LEAST_SCALE + 1


def _table(codes: list[int], lengths: list[int]) -> frequencies.ChannelTables:
    """Return the tables of all values of the factors that are not absent."""
    scales = np.repeat(codes, lengths).astype(np.float32)
    scales = scales[scales > 0] + (_LEAST_SCALE - 1)
    n = len(scales)
    single = mixture.Parameters(
        torch.zeros(1, 1, n), torch.zeros(1, 1, n), torch.from_numpy(scales).view(1, 1, n),
        torch.zeros(0, 1, n),
    )  # fmt: skip
    zeros = torch.zeros(n, 1)
    return frequencies.ChannelTables.of(single, 0, zeros, zeros, torch.zeros(0, n, 1))


def _decode(stream: bytes, codes: list[int], shapes: list[tuple[int, int]]) -> list[Factor]:
    lengths = [rows * columns for rows, columns in shapes]
    flat = np.zeros(sum(lengths), np.int64)
    if any(codes):
        table, decoder = _table(codes, lengths), DigitDecoder(stream)
        cumulative = table.high_digit()
        high = decoder.decode(frequencies.frequencies(cumulative).numpy()).astype(np.int64)
        low = table.low_digit(torch.from_numpy(high).unsqueeze(1), cumulative)
        values = high * RADIX + decoder.decode(frequencies.frequencies(low).numpy()) - _MID
        if np.abs(values).max() > LIMIT:
            raise IntegrityError("adapter: a value is out of range")
        flat[np.repeat(codes, lengths) > 0] = values
    parts = np.split(flat.astype(np.int8), np.cumsum(lengths)[:-1])
    return [factor.reshape(shape) for factor, shape in zip(parts, shapes, strict=True)]
