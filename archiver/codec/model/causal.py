"""The causal neighbourhood: which taps a pixel may see, and the sums over them.

A pixel of group ``t = column + 2 * row`` may depend on pixels of smaller groups only.  Kernels span
rows -3..0 and columns -3..3; outside an image is zero.  Layout: (tiles, rows, columns, channels).

No convolution library is on the coding path: FFT and Winograd algorithms round (NNPACK's did, for
batches of 16 and more).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archiver.codec.model.taps import ABOVE, KERNEL_COLUMNS, KERNEL_ROWS, SIDE, causal_taps

CACHED_PIXELS = 2048  # pixels handled at once on a CPU, so that they stay in its cache


def mask(*, strict: bool) -> Tensor:
    """Return the (4, 7) 0/1 mask of causal taps; ``strict`` leaves out the pixel's own group."""
    out = torch.zeros(KERNEL_ROWS, KERNEL_COLUMNS)
    for row, column in causal_taps(strict=strict):
        out[row, column] = 1.0
    return out


def tap_weights(weight: Tensor, *, strict: bool) -> Tensor:
    """Return the causal taps of a kernel whose last dimensions are (4, 7): (..., taps)."""
    return torch.stack([weight[..., r, c] for r, c in causal_taps(strict=strict)], -1)


def neighbours(x: Tensor) -> Tensor:
    """Gather the causal neighbourhood of every pixel: (N, H, W, C) -> (N, H, W, taps * C).

    A dense convolution is this and one matrix product.
    """
    height, width = x.shape[1:3]
    padded = pad(x)
    seen = [padded[:, r : r + height, c : c + width] for r, c in causal_taps(strict=True)]
    return torch.cat(seen, -1)


def tap_matrix(weight: Tensor) -> Tensor:
    """Return a kernel (n_out, n_in, 4, 7) as the matrix that :func:`neighbours` multiplies."""
    return tap_weights(weight, strict=True).transpose(1, 2).flatten(1)


def pad(x: Tensor) -> Tensor:
    """Put the zeros around ``x`` (N, H, W, C) that its outermost pixels' kernels reach."""
    return F.pad(x, (0, 0, SIDE, SIDE, ABOVE, 0))


def depthwise_exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel with its kernel (C, 1, 4, 7) by one multiply-add per tap.

    A few rows at a time, to stay in cache.
    """
    tiles, height, width, channels = x.shape
    padded = pad(x)
    weights = tap_weights(weight[:, 0], strict=False).t()
    # a whole row of weights: the inner loop then runs over columns and channels at once
    weights = weights.unsqueeze(1).expand(-1, width, channels).contiguous()
    out = bias.expand_as(x).clone(memory_format=torch.contiguous_format)
    step = max(1, CACHED_PIXELS // (tiles * width)) if x.device.type == "cpu" else height
    for top in range(0, height, step):
        strip = out[:, top : top + step]
        rows = strip.shape[1]
        for (r, c), tap in zip(causal_taps(strict=False), weights, strict=True):
            strip.addcmul_(padded[:, top + r : top + r + rows, c : c + width], tap)
    return out


def depthwise_train(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve as :func:`depthwise_exact` does, as fast as training wants it, rounding allowed.

    The gradients are spelled out: those of a library's depth-wise kernel are ten times slower on a
    CPU.  Padding and convolution are operators of their own, so that a compiler neither repeats
    the padding at every tap nor chooses another layout.
    """
    out: Tensor = _Depthwise.apply(x, weight.to(x.dtype))  # type: ignore[no-untyped-call]
    return out + bias.to(x.dtype)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        padded = _surround(x, ABOVE, 0)
        ctx.save_for_backward(padded, weight)
        out: Tensor = _convolve(padded, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        padded, weight = ctx.saved_tensors
        height, width = grad.shape[1:3]
        sums = {
            (r, c): (padded[:, r : r + height, c : c + width] * grad).float().sum((0, 1, 2))
            for r, c in causal_taps(strict=False)
        }
        unseen = torch.zeros_like(sums[0, 0])
        kernel = [sums.get(divmod(i, KERNEL_COLUMNS), unseen) for i in range(weight[0].numel())]
        grad_weight = torch.stack(kernel, -1).view_as(weight).to(weight.dtype)
        return _convolve(_surround(grad, 0, ABOVE), weight.flip(2, 3)), grad_weight


@torch.library.custom_op("archiver::surround", mutates_args=())
def _surround(x: Tensor, above: int, below: int) -> Tensor:
    return F.pad(x, (0, 0, SIDE, SIDE, above, below))


@_surround.register_fake
def _(x: Tensor, above: int, below: int) -> Tensor:
    tiles, height, width, channels = x.shape
    return x.new_empty(tiles, height + above + below, width + 2 * SIDE, channels)


@torch.library.custom_op("archiver::convolve", mutates_args=())
def _convolve(padded: Tensor, weight: Tensor) -> Tensor:
    planar = F.conv2d(padded.permute(0, 3, 1, 2), weight, groups=len(weight))
    return planar.permute(0, 2, 3, 1).contiguous()


@_convolve.register_fake
def _(padded: Tensor, weight: Tensor) -> Tensor:
    tiles, height, width, channels = padded.shape
    return padded.new_empty(tiles, height - ABOVE, width - 2 * SIDE, channels)
