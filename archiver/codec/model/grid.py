"""The exact-arithmetic grid: steps, limits, rounding, and the proof that no sum ever rounds.

All that the coding network computes is a whole number of steps (FORMAT.md, "Exact arithmetic"):

* an *activation* entering a matrix product is an integer level in [-127, 127]; a level is 1/16;
* a *weight* is ``q * 2**e`` with an integer |q| <= 127 and one exponent per output row;
* so every product needs 14 bits, and every sum of products is a multiple of ``STEP``.

A float32 sum of multiples of ``STEP`` is exact, in every order, with or without FMA, as long as
no partial sum exceeds ``2**24`` steps.  :func:`row_bounds` computes the largest possible partial
sum of every row; `layers.check_bounds` refuses weights that could exceed it.  Operands of at most 8
significant bits also survive TF32, bfloat16 and int8 matrix units unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from archiver.codec.model.limits import (
    LEVEL,
    MAX_EXPONENT,
    MIN_EXPONENT,
    STEP,
    STEP_BITS,
    STREAM_LIMIT,
    WEIGHT,
)


def snap(x: Tensor, limit: float = LEVEL) -> Tensor:
    """Round to whole levels (ties to even) within [-limit, limit].

    The gradient passes straight through the rounding and stops where the limit was reached.
    """
    if not x.requires_grad:
        return x.round().clamp_(-limit, limit)  # limits are whole: the order does not matter
    out: Tensor = _Snap.apply(x, limit)  # type: ignore[no-untyped-call]
    return out


class _Snap(torch.autograd.Function):
    """Keeps its result alone, which the next product keeps in any case.

    Masks are arithmetic: a compiler stores comparisons, one byte each, and reads them back slowly.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        y = x.round().clamp(-limit, limit)
        ctx.save_for_backward(y)
        ctx.limit = limit
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y: Tensor = ctx.saved_tensors[0]
        return grad * (ctx.limit - y.abs()).clamp(0.0, 1.0), None  # y is whole: 1 inside, 0 at it


def limit_stream(h: Tensor) -> Tensor:
    """Keep a fresh sum within the range of the residual stream; the gradient passes through."""
    if not h.requires_grad:
        return h.clamp_(-STREAM_LIMIT, STREAM_LIMIT)
    return h + (h.detach().clamp(-STREAM_LIMIT, STREAM_LIMIT) - h.detach())


def row_exponents(weight: Tensor) -> Tensor:
    """Return the smallest exponent e of each output row such that max|row| <= 127 * 2**e.

    ``weight`` is (rows, ...); the result is (rows,) int32 within [MIN_EXPONENT, MAX_EXPONENT].
    """
    largest = weight.detach().flatten(1).abs().amax(1) / WEIGHT
    mantissa, exponent = torch.frexp(largest)
    exponent = exponent - (mantissa == 0.5).to(exponent.dtype)  # an exact power of two fits
    return exponent.clamp(MIN_EXPONENT, MAX_EXPONENT).to(torch.int32)


def quantise_rows(weight: Tensor, exponents: Tensor) -> Tensor:
    """Return the integer mantissas of ``weight``: round(w / 2**e), clamped to [-127, 127]."""
    scale = torch.exp2(-exponents.float())  # exact: whole powers of two
    scaled = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    return scaled.round().clamp(-WEIGHT, WEIGHT)


def snap_rows(weight: Tensor) -> Tensor:
    """Return ``weight`` on its row grids, with a straight-through gradient."""
    exponents = row_exponents(weight)
    scale = torch.exp2(exponents.float())
    with torch.no_grad():
        on_grid = quantise_rows(weight, exponents) * scale.view(-1, *[1] * (weight.dim() - 1))
    return weight + (on_grid - weight).detach()


def snap_bias(bias: Tensor) -> Tensor:
    """Return ``bias`` on the grid of sums (multiples of STEP), straight-through gradient."""
    with torch.no_grad():
        on_grid = (bias.clamp(-STREAM_LIMIT, STREAM_LIMIT) * 2.0**STEP_BITS).round() * STEP
    return bias + (on_grid - bias).detach()


def row_bounds(weight: Tensor, bias: Tensor | None, *, carried: float = 0.0) -> Tensor:
    """Return, per output row, the largest magnitude any partial sum can reach, in levels.

    ``carried`` is the bound of what the product is added to (the residual stream).
    """
    bound = weight.detach().double().flatten(1).abs().sum(1) * (LEVEL + 1) + carried
    return bound if bias is None else bound + bias.detach().double().abs()
