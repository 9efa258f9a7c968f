"""The Masked Gated ConvFormer (CALLIC, Li et al., AAAI 2025): one network to train and to code.

The network that trains is the network that codes.  In training mode the master weights are put on
the grid of `model.grid` at every pass (straight-through gradients); in evaluation
mode they are on the grid already, because they come from a model file.

A pixel of group ``t = column + 2 * row`` may depend on pixels of smaller groups only.  Kernels span
rows -3..0 and columns -3..3; ``mask(strict=True)`` (type A) keeps taps of earlier groups,
``mask(strict=False)`` (type B, used between features) also those of the same group.

Layout: channels last, ``(tiles, rows, columns, channels)``.  All activations are float32 tensors
that hold whole numbers of levels; a level is 1/16.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archiver.codec.model import causal, grid, limits, taps
from archiver.codec.model.architecture import (
    BASE_BITS,
    BASE_FRACTION,
    BASE_LIMIT,
    HIGH_DEPTH,
    HIGH_DEPTH_LIMIT,
    MID,
    PORT_OF,
    PORTS,
    RESIDUAL_SCALES,
    UNIT,
    VALID,
    Architecture,
    n_outputs,
    n_planes,
)


class Linear(nn.Module):
    """A matrix product on the grid, ``(..., n_in) -> (..., n_out)``; bias in units of 16 levels."""

    def __init__(self, n_in: int, n_out: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (gain / n_in**0.5))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return weight (n_out, n_in) and bias (n_out,) in levels, both on the grid."""
        if not self.training:
            return self.weight, self.bias * UNIT
        return grid.snap_rows(self.weight), grid.snap_bias(self.bias * UNIT)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.on_grid())


class CausalConv(nn.Module):
    """A masked 4x7 convolution on the grid that mixes all channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        shape = (n_out, n_in, taps.KERNEL_ROWS, taps.KERNEL_COLUMNS)
        self.weight = nn.Parameter(torch.randn(shape) * torch.Size(shape[1:]).numel() ** -0.5)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return the taps (n_out, taps * n_in) and the bias (n_out,) in levels, on the grid."""
        matrix = causal.tap_matrix(self.weight)
        if not self.training:
            return matrix, self.bias * UNIT
        return grid.snap_rows(matrix), grid.snap_bias(self.bias * UNIT)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(causal.neighbours(x), *self.on_grid())


class DepthwiseConv(nn.Module):
    """A masked 4x7 convolution on the grid, one kernel per channel."""

    mask: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        shape = (dim, 1, taps.KERNEL_ROWS, taps.KERNEL_COLUMNS)
        self.weight = nn.Parameter(
            torch.randn(shape) * (taps.KERNEL_ROWS * taps.KERNEL_COLUMNS) ** -0.5
        )
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mask", causal.mask(strict=False), persistent=False)

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return the masked kernel (dim, 1, 4, 7) and the bias in levels, both on the grid."""
        if not self.training:
            return self.weight, self.bias * UNIT
        return grid.snap_rows(self.weight * self.mask), grid.snap_bias(self.bias * UNIT)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.on_grid()
        convolve = causal.depthwise_train if self.training else causal.depthwise_exact
        return convolve(x, weight, bias)


def hard_swish(x: Tensor) -> Tensor:
    """Return ``x * clamp(x / 64 + 1/2, 0, 1)``: swish made of exactly rounded elementwise steps."""
    if x.requires_grad:
        out: Tensor = _HardSwish.apply(x)  # type: ignore[no-untyped-call]
        return out
    return torch.add(torch.tensor(0.5), x, alpha=1 / (4 * UNIT)).clamp_(0.0, 1.0).mul_(x)


class _HardSwish(torch.autograd.Function):
    """Keeps its argument alone and masks by arithmetic, as `grid._Snap`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * (x * (1 / (4 * UNIT)) + 0.5).clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        inside = ((2 * UNIT - x.abs()) * 2.0**limits.STEP_BITS).clamp(0.0, 1.0)
        slope = x * (1 / (4 * UNIT))
        return grad * ((slope + 0.5).clamp(0.0, 1.0) + slope * inside)


class Block(nn.Module):
    """Masked convolutional gating, then an MLP; both add to the residual stream ``h``.

    ``features`` feeds the depth-wise kernel and ``mix`` takes its output, so that the wavefront
    decoder can run the same code with the kernel applied to cached columns.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.attend = Linear(dim, dim)  # W_A
        self.value = Linear(dim, dim)  # W_V
        self.depthwise = DepthwiseConv(dim)
        self.project = Linear(dim, dim, gain=0.0)
        self.expand = Linear(dim, hidden * dim)
        self.contract = Linear(hidden * dim, dim, gain=0.0)

    def features(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the depth-wise kernel's input and the gated values, both (..., dim) levels."""
        a = grid.snap(h)
        return grid.snap(hard_swish(self.attend(a))), self.value(a)

    def mix(self, h: Tensor, gate: Tensor, value: Tensor) -> Tensor:
        """Return the new residual stream, given the depth-wise kernel's output ``gate``."""
        gated = grid.snap(gate * value * (1 / UNIT))
        h = grid.limit_stream(h + self.project(gated))
        hidden = grid.snap(hard_swish(self.expand(grid.snap(h))))
        return grid.limit_stream(h + self.contract(hidden))

    def forward(self, h: Tensor) -> Tensor:
        x, value = self.features(h)
        return self.mix(h, self.depthwise(x), value)


class BasePredictor(nn.Module):
    """Linear prediction of every channel from all channels of the causal neighbourhood.

    A ``balanced`` one has weights of sum 1: what is added to all samples is added to predictions.
    """

    def __init__(self, channels: int, *, balanced: bool = False) -> None:
        super().__init__()
        self.balanced = balanced
        weight = torch.zeros(channels, channels, taps.KERNEL_ROWS, taps.KERNEL_COLUMNS)
        for channel in range(channels):  # 0.75 W + 0.75 N - 0.5 NW
            weight[channel, channel, 3, 2] = weight[channel, channel, 2, 3] = 0.75
            weight[channel, channel, 2, 2] = -0.5
        self.weight = nn.Parameter(weight)

    def on_grid(self) -> Tensor:
        """Return the taps (C, taps * C) as multiples of 2**-10."""
        matrix = causal.tap_matrix(self.weight)
        if not self.training:
            return matrix
        if self.balanced:
            matrix = matrix + (1 - matrix.sum()) / matrix.numel()
        with torch.no_grad():
            on_grid = self.mantissas(matrix) * 2.0**-BASE_BITS
        return matrix + (on_grid - matrix).detach()

    def mantissas(self, matrix: Tensor) -> Tensor:
        """Return a matrix of taps in whole steps of 2**-10; what is over goes to the left one."""
        mantissas = (matrix * 2.0**BASE_BITS).round().clamp(-BASE_LIMIT, BASE_LIMIT)
        if self.balanced:
            mantissas[0, taps.tap_index(0, -1)] += 2.0**BASE_BITS - mantissas.sum()
        return mantissas

    def forward(self, centred: Tensor) -> Tensor:
        """Predict ``centred`` samples (N, H, W, C); the result is in 1/16 of a sample step."""
        limit = HIGH_DEPTH_LIMIT if self.balanced else MID * BASE_FRACTION
        return snap_base(F.linear(causal.neighbours(centred), self.on_grid()), limit)


def snap_base(prediction: Tensor, limit: float = MID * BASE_FRACTION) -> Tensor:
    """Round a prediction to 1/16 of a sample step within the range of a sample."""
    return grid.snap(prediction * BASE_FRACTION, limit)


class Port(nn.Module):
    """What depends on the kind of image: base predictor, embedding and head for ``channels``."""

    def __init__(
        self, channels: int, architecture: Architecture, *, balanced: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.base = BasePredictor(channels, balanced=balanced)
        self.embed = CausalConv(n_planes(channels), architecture.dim)
        self.head = Linear(architecture.dim, n_outputs(channels, architecture), gain=0.1)
        self._start_head(architecture)

    def planes(self, centred: Tensor, base: Tensor) -> Tensor:
        """Return the embedding's input (..., planes) in levels: samples, residuals, inside."""
        residual = centred * BASE_FRACTION - base
        scaled = [grid.snap(residual * (1 / divisor)) for divisor in RESIDUAL_SCALES]
        samples = grid.snap(centred) if self.base.balanced else centred
        return torch.cat([samples, *scaled, torch.full_like(centred[..., :1], VALID)], -1)

    def _start_head(self, sizes: Architecture) -> None:
        """Start with spread means, scales of 2..8 steps and a coupling of 3/4 to the neighbour.

        Copies start with a scale of 1 step and a quarter of the others' weight.
        """
        mixtures, spread = sizes.mixtures, torch.linspace(-1, 1, sizes.mixtures)
        c, bias = self.channels, self.head.bias.data
        first = len(bias) - 2 * c * sizes.copies
        bias[first : first + c * sizes.copies] = -2
        bias[c * mixtures : 2 * c * mixtures] = (spread / 8).repeat(c)
        bias[2 * c * mixtures : 3 * c * mixtures] = (2 + spread.abs()).repeat(c)
        if c == 3:
            for coupling in (0, 2):  # green from red, blue from green
                start = (3 * c + coupling) * mixtures
                bias[start : start + mixtures] = 0.75


class MGCF(nn.Module):
    """The whole network: shared blocks between the ports of each kind of image."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.blocks = nn.ModuleList(
            Block(architecture.dim, architecture.hidden) for _ in range(architecture.blocks)
        )
        self.ports = nn.ModuleDict({name: Port(c, architecture) for name, c in PORTS.items()})
        if architecture.deep:
            self.ports[HIGH_DEPTH] = Port(1, architecture, balanced=True)

    def port(self, channels: int) -> Port:
        """Return the port for 8-bit images of 1 or 3 channels."""
        return cast(Port, self.ports[PORT_OF[channels]])

    def forward(self, samples: Tensor, kind: str | None = None) -> tuple[Tensor, Tensor]:
        """Predict every sample of the tiles in one masked pass.

        ``samples`` is (N, H, W, C), float32 holding 0..255, or, if the ``kind`` is HIGH_DEPTH, deep
        samples (N, H, W, 1) in units from their middle.  Returns the head's outputs
        (N, H, W, n_outputs) in levels and the base prediction (N, H, W, C) in 1/16 steps.
        """
        features, base = self.features(samples, kind)
        port = self._port(samples, kind)
        with torch.autocast(samples.device.type, enabled=False):
            return port.head(features), base

    def features(self, samples: Tensor, kind: str | None = None) -> tuple[Tensor, Tensor]:
        """Return what the head sees, (N, H, W, dim) whole levels, and the base prediction."""
        port = self._port(samples, kind)
        centred = samples if kind == HIGH_DEPTH else samples - MID
        with torch.autocast(centred.device.type, enabled=False):
            base = port.base(centred)
        # the base predictor learns from the means alone: the way through the planes costs a tenth
        h = port.embed(port.planes(centred, base.detach())).float()
        for block in self.blocks:
            h = block(h)
        return grid.snap(h.float()), base

    def _port(self, samples: Tensor, kind: str | None) -> Port:
        return (
            cast(Port, self.ports[HIGH_DEPTH])
            if kind == HIGH_DEPTH
            else self.port(samples.shape[-1])
        )
