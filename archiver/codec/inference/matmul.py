"""What the CPU coder multiplies: a network's weights as whole numbers, and room for results.

Matrix products are torch's, in int8 where the processor is exact and fast at it, else in float32;
both hold whole numbers, so both give the same sums.  NumPy views share the tensors' memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.inference import wavefront
from archiver.codec.inference.kernels import layers
from archiver.codec.inference.kernels.arrays import Float32
from archiver.codec.model import causal, grid, mgcf

SUMS = {torch.int8: torch.int32, torch.float32: torch.float32}  # of products of such levels


def has_int8() -> bool:
    """Whether this processor multiplies int8 exactly and faster than float32.

    Without these instructions oneDNN sums pairs of products in 16 bits, which may saturate.
    """
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    has_instructions = any(able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return has_instructions and torch.backends.mkldnn.is_available()


@dataclass(frozen=True)
class Product:
    """One layer's matrix product: whole-number weights (n_in, n_out), what scales the sums."""

    weight: Tensor
    scale: Float32  # (n_out,) powers of two
    bias: Float32  # (n_out,) levels

    @classmethod
    def of(cls, kind: torch.dtype, *layers: mgcf.Linear | mgcf.CausalConv) -> Product:
        """Join layers that take the same input, side by side."""
        parts = [layer.on_grid() for layer in layers]
        weight = torch.cat([weight for weight, _ in parts])
        scale = torch.exp2(grid.row_exponents(weight).float())
        mantissas = (weight / scale[:, None]).t().to(kind)
        # with the strides of its shape, even if a side is 1: the int8 product reads them
        mantissas = mantissas.clone(memory_format=torch.contiguous_format)
        bias = torch.cat([bias for _, bias in parts])
        return cls(mantissas, scale.numpy(), bias.numpy())

    def into(self, out: Tensor, x: Tensor) -> None:
        """Compute the sums ``x @ weight`` (M, n_out)."""
        if self.weight.dtype == torch.int8:
            torch._int_mm(x, self.weight, out=out)
        else:
            torch.mm(x, self.weight, out=out)


class Block:
    """The weights of one block."""

    def __init__(self, block: mgcf.Block, kind: torch.dtype) -> None:
        self.attend_value = Product.of(kind, block.attend, block.value)
        self.project = Product.of(kind, block.project)
        self.expand = Product.of(kind, block.expand)
        self.contract = Product.of(kind, block.contract)
        weight, bias = block.depthwise.on_grid()
        taps = causal.tap_weights(weight[:, 0], strict=False).t()
        self.taps, self.bias = taps.contiguous().numpy(), bias.contiguous().numpy()


@dataclass(frozen=True)
class Buffers:
    """Room for some pixels at every stage of a block: levels go in, sums come out."""

    levels: Tensor  # (n, dim)
    sums: Tensor  # (n, dim)
    features: Tensor  # (n, 2 dim) sums
    wide: Tensor  # (n, hidden * dim) sums
    hidden: Tensor  # (n, hidden * dim) levels

    @classmethod
    def of(cls, n: int, dim: int, hidden: int, kind: torch.dtype) -> Buffers:
        """Make room for ``n`` pixels."""
        total = SUMS[kind]
        return cls(
            torch.empty(n, dim, dtype=kind),
            torch.empty(n, dim, dtype=total),
            torch.empty(n, 2 * dim, dtype=total),
            torch.empty(n, hidden * dim, dtype=total),
            torch.empty(n, hidden * dim, dtype=kind),
        )

    def first(self, n: int) -> Buffers:
        """Return views of the first ``n`` pixels."""
        return Buffers(
            self.levels[:n], self.sums[:n], self.features[:n], self.wide[:n], self.hidden[:n]
        )

    def mix(self, block: Block, h: Float32) -> None:
        """Add gated values and MLP to ``h`` (n, dim); the gated values are in ``levels``."""
        project, expand, contract = block.project, block.expand, block.contract
        levels, sums = self.levels.numpy(), self.sums.numpy()
        project.into(self.sums, self.levels)
        layers.add_limited_and_snap(h, sums, project.scale, project.bias, levels)
        expand.into(self.wide, self.levels)
        layers.activate(self.wide.numpy(), expand.scale, expand.bias, self.hidden.numpy())
        contract.into(self.sums, self.hidden)
        layers.add_limited(h, sums, contract.scale, contract.bias)


class Port:
    """The weights for one kind of image."""

    def __init__(self, port: mgcf.Port, kind: torch.dtype) -> None:
        self.channels = port.channels
        self.embed = Product.of(kind, port.embed)
        self.head = Product.of(kind, port.head)
        self.base = port.base.on_grid().t().contiguous().numpy()  # (taps * C, C)
        self.mantissas = np.rint(self.base[:, 0] * 2.0**mgcf.BASE_BITS).astype(np.int64)


def _offsets(taps: list[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(taps, np.int64)


# (taps, 2): kernel indices of rows and columns, and offsets of rows and groups when skewed
STRICT, ALL_TAPS = _offsets(causal.taps(strict=True)), _offsets(causal.taps(strict=False))
SKEWED_STRICT = _offsets(wavefront.skewed_taps(strict=True))
SKEWED_ALL = _offsets(wavefront.skewed_taps(strict=False))
COPIED = _offsets(list(mgcf.COPIED))
