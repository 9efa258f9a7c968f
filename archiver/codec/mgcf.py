"""Own the Masked Gated ConvFormer (CALLIC, Li et al., AAAI 2025): one network to train and to code.

The network that trains is the network that codes.  In training mode the master weights are put on
the grid of :mod:`archiver.codec.grid` at every pass (straight-through gradients); in evaluation
mode they are on the grid already, because they come from a model file.

A pixel of group ``t = column + 2 * row`` may depend on pixels of smaller groups only.  Kernels span
rows -3..0 and columns -3..3; ``mask(strict=True)`` (type A) keeps taps of earlier groups,
``mask(strict=False)`` (type B, used between features) also those of the same group.

Layout: channels last, ``(tiles, rows, columns, channels)``.  All activations are float32 tensors
that hold whole numbers of levels; a level is 1/16.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archiver.codec import grid

KERNEL_ROWS, KERNEL_COLUMNS = 4, 7  # rows -3..0, columns -3..3
UNIT = 16  # levels per unit of the real-valued network
MID = 128  # subtracted from 8-bit samples
VALID = 64  # level of the plane that tells inside from outside
BASE_BITS = 10  # base predictor weights are multiples of 2**-10 ...
BASE_LIMIT = 2047  # ... of at most 11 bits, so they survive TF32
BASE_FRACTION = 16  # predictions are in 1/16 of a sample step
CACHED_PIXELS = 2048  # pixels a pointwise layer handles at once on a CPU
RESIDUAL_SCALES = (8, 2)  # residuals enter at 16/8 = 2 and 16/2 = 8 levels per sample step


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network.  ``hidden`` is the MLP's width as a multiple of ``dim``."""

    dim: int = 64
    blocks: int = 3
    hidden: int = 4
    mixtures: int = 5

    def to_json(self) -> dict[str, int]:
        """Return the sizes as stored in a model file."""
        return asdict(self)


def mask(*, strict: bool) -> Tensor:
    """Return the (4, 7) 0/1 mask of causal taps; ``strict`` leaves out the pixel's own group."""
    row = torch.arange(1 - KERNEL_ROWS, 1).view(-1, 1)
    column = torch.arange(-(KERNEL_COLUMNS // 2), KERNEL_COLUMNS // 2 + 1).view(1, -1)
    distance = column + 2 * row
    return (distance < 0 if strict else distance <= 0).float()


def n_couplings(channels: int) -> int:
    """Return how many earlier channels all channels of a pixel depend on: 0 for grey, 3 for RGB."""
    return channels * (channels - 1) // 2


def n_outputs(channels: int, mixtures: int) -> int:
    """Return the head's outputs per pixel: logit, mean, scale per channel, and the couplings."""
    return mixtures * (3 * channels + n_couplings(channels))


def n_planes(channels: int) -> int:
    """Return the input planes: samples, residuals at each scale, and the inside/outside plane."""
    return channels * (1 + len(RESIDUAL_SCALES)) + 1


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


@lru_cache(maxsize=2)
def taps(*, strict: bool) -> tuple[tuple[int, int], ...]:
    """Return the (row, column) kernel indices of the causal taps, in scan order."""
    return tuple((r, c) for r, c in torch.nonzero(mask(strict=strict)).tolist())


def tap_weights(weight: Tensor, *, strict: bool) -> Tensor:
    """Return the causal taps of a kernel whose last dimensions are (4, 7): (..., taps)."""
    return torch.stack([weight[..., r, c] for r, c in taps(strict=strict)], -1)


class CausalConv(nn.Module):
    """A masked 4x7 convolution on the grid that mixes all channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        shape = (n_out, n_in, KERNEL_ROWS, KERNEL_COLUMNS)
        self.weight = nn.Parameter(
            torch.randn(shape) * (n_in * KERNEL_ROWS * KERNEL_COLUMNS) ** -0.5
        )
        self.bias = nn.Parameter(torch.zeros(n_out))

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return the taps (n_out, taps * n_in) and the bias (n_out,) in levels, on the grid."""
        matrix = tap_matrix(self.weight)
        if not self.training:
            return matrix, self.bias * UNIT
        return grid.snap_rows(matrix), grid.snap_bias(self.bias * UNIT)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(neighbours(x), *self.on_grid())


class DepthwiseConv(nn.Module):
    """A masked 4x7 convolution on the grid, one kernel per channel."""

    mask: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        shape = (dim, 1, KERNEL_ROWS, KERNEL_COLUMNS)
        self.weight = nn.Parameter(torch.randn(shape) * (KERNEL_ROWS * KERNEL_COLUMNS) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mask", mask(strict=False), persistent=False)

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return the masked kernel (dim, 1, 4, 7) and the bias in levels, both on the grid."""
        if not self.training:
            return self.weight, self.bias * UNIT
        return grid.snap_rows(self.weight * self.mask), grid.snap_bias(self.bias * UNIT)

    def forward(self, x: Tensor) -> Tensor:
        side = KERNEL_COLUMNS // 2
        padded = F.pad(x, (0, 0, side, side, KERNEL_ROWS - 1, 0))
        if not self.training:
            return self._shifted_sum(padded, x)
        weight, bias = self.on_grid()
        return F.conv2d(padded.permute(0, 3, 1, 2), weight, bias, groups=len(bias)).permute(
            0, 2, 3, 1
        )

    def _shifted_sum(self, padded: Tensor, x: Tensor) -> Tensor:
        """Convolve by one shifted multiply-add per tap, a few rows at a time to stay in cache."""
        tiles, height, width, dim = x.shape
        weights = tap_weights(self.weight[:, 0], strict=False).t()
        # a whole row of weights: the inner loop then runs over columns and channels at once
        weights = weights.unsqueeze(1).expand(-1, width, dim).contiguous()
        out = (self.bias * UNIT).expand_as(x).clone(memory_format=torch.contiguous_format)
        step = max(1, CACHED_PIXELS // (tiles * width)) if x.device.type == "cpu" else height
        for top in range(0, height, step):
            part = out[:, top : top + step]
            rows = part.shape[1]
            for (r, c), weight in zip(taps(strict=False), weights, strict=True):
                part.addcmul_(padded[:, top + r : top + r + rows, c : c + width], weight)
        return out


def neighbours(x: Tensor) -> Tensor:
    """Gather the causal neighbourhood of every pixel: (N, H, W, C) -> (N, H, W, taps * C).

    A dense convolution is this and one matrix product.  No convolution library is on the coding
    path: FFT and Winograd algorithms round (NNPACK's did, for batches of 16 and more).
    """
    height, width = x.shape[1:3]
    side = KERNEL_COLUMNS // 2
    padded = F.pad(x, (0, 0, side, side, KERNEL_ROWS - 1, 0))
    seen = [padded[:, r : r + height, c : c + width] for r, c in taps(strict=True)]
    return torch.cat(seen, -1)


def tap_matrix(weight: Tensor) -> Tensor:
    """Return a kernel (n_out, n_in, 4, 7) as the matrix that :func:`neighbours` multiplies."""
    return tap_weights(weight, strict=True).transpose(1, 2).flatten(1)


def hard_swish(x: Tensor) -> Tensor:
    """Return ``x * clamp(x / 64 + 1/2, 0, 1)``: swish made of exactly rounded elementwise steps."""
    gate = torch.add(torch.tensor(0.5), x, alpha=1 / (4 * UNIT))
    return gate.clamp(0.0, 1.0) * x if gate.requires_grad else gate.clamp_(0.0, 1.0).mul_(x)


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
        h = _limit(h + self.project(gated))
        hidden = grid.snap(hard_swish(self.expand(grid.snap(h))))
        return _limit(h + self.contract(hidden))

    def forward(self, h: Tensor) -> Tensor:
        x, value = self.features(h)
        return self.mix(h, self.depthwise(x), value)


def _limit(h: Tensor) -> Tensor:
    """Keep a fresh sum within the range of the residual stream."""
    clamp = torch.clamp if h.requires_grad else torch.clamp_
    return clamp(h, -grid.STREAM_LIMIT, grid.STREAM_LIMIT)


class BasePredictor(nn.Module):
    """Linear prediction of every channel from all channels of the causal neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        weight = torch.zeros(channels, channels, KERNEL_ROWS, KERNEL_COLUMNS)
        for channel in range(channels):  # 0.75 W + 0.75 N - 0.5 NW
            weight[channel, channel, 3, 2] = weight[channel, channel, 2, 3] = 0.75
            weight[channel, channel, 2, 2] = -0.5
        self.weight = nn.Parameter(weight)

    def on_grid(self) -> Tensor:
        """Return the taps (C, taps * C) as multiples of 2**-10."""
        matrix = tap_matrix(self.weight)
        if not self.training:
            return matrix
        with torch.no_grad():
            mantissa = (matrix * 2.0**BASE_BITS).round().clamp(-BASE_LIMIT, BASE_LIMIT)
            on_grid = mantissa * 2.0**-BASE_BITS
        return matrix + (on_grid - matrix).detach()

    def forward(self, centred: Tensor) -> Tensor:
        """Predict ``centred`` samples (N, H, W, C); the result is in 1/16 of a sample step."""
        return snap_base(F.linear(neighbours(centred), self.on_grid()))


def snap_base(prediction: Tensor) -> Tensor:
    """Round a prediction to 1/16 of a sample step within the range of a sample."""
    return grid.snap(prediction * BASE_FRACTION, MID * BASE_FRACTION)


class Port(nn.Module):
    """What depends on the kind of image: base predictor, embedding and head for ``channels``."""

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        self.channels = channels
        self.base = BasePredictor(channels)
        self.embed = CausalConv(n_planes(channels), architecture.dim)
        self.head = Linear(architecture.dim, n_outputs(channels, architecture.mixtures), gain=0.1)
        self._start_head(architecture.mixtures)

    def planes(self, centred: Tensor, base: Tensor) -> Tensor:
        """Return the embedding's input (..., planes) in levels: samples, residuals, inside."""
        residual = centred * BASE_FRACTION - base
        scaled = [grid.snap(residual * (1 / divisor)) for divisor in RESIDUAL_SCALES]
        return torch.cat([centred, *scaled, torch.full_like(centred[..., :1], VALID)], -1)

    def _start_head(self, mixtures: int) -> None:
        """Start with spread means, scales of 2..8 steps and a coupling of 3/4 to the neighbour."""
        spread = torch.linspace(-1, 1, mixtures)
        c, bias = self.channels, self.head.bias.data
        bias[c * mixtures : 2 * c * mixtures] = (spread / 8).repeat(c)
        bias[2 * c * mixtures : 3 * c * mixtures] = (2 + spread.abs()).repeat(c)
        if c == 3:
            for coupling in (0, 2):  # green from red, blue from green
                start = (3 * c + coupling) * mixtures
                bias[start : start + mixtures] = 0.75


PORTS = {"grey": 1, "rgb": 3}  # name -> channels


class MGCF(nn.Module):
    """The whole network: shared blocks between the ports of each kind of image."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.blocks = nn.ModuleList(
            Block(architecture.dim, architecture.hidden) for _ in range(architecture.blocks)
        )
        self.ports = nn.ModuleDict({name: Port(c, architecture) for name, c in PORTS.items()})

    def port(self, channels: int) -> Port:
        """Return the port for images of 1 or 3 channels."""
        name = next(name for name, count in PORTS.items() if count == channels)
        return cast(Port, self.ports[name])

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every sample of the tiles in one masked pass.

        ``samples`` is (N, H, W, C), float32 holding 0..255.  Returns the head's outputs
        (N, H, W, n_outputs) in levels and the base prediction (N, H, W, C) in 1/16 steps.
        """
        port = self.port(samples.shape[-1])
        centred = samples - MID
        with torch.autocast(samples.device.type, enabled=False):
            base = port.base(centred)
        h = port.embed(port.planes(centred, base)).float()
        for block in self.blocks:
            h = block(h)
        with torch.autocast(samples.device.type, enabled=False):
            return port.head(grid.snap(h.float())), base
