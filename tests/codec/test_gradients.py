"""The gradients that training spells out by hand are those of the functions that it computes."""

from __future__ import annotations

import torch

from archiver.codec.model import causal, grid, mgcf, taps


def test_depthwise_gradients_are_those_of_the_exact_sums() -> None:
    """Training's convolution agrees with the coder's in value, and with autograd in gradient."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, 8, 6, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, 4, 7, generator=g, dtype=torch.float64) * causal.mask(strict=False)
    weight.requires_grad_()
    bias = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    out = causal.depthwise_train(x, weight, bias)
    seen = taps.causal_taps(strict=False)
    padded = causal.pad(x)
    expected = bias + sum(padded[:, r : r + 9, c : c + 8] * weight[:, 0, r, c] for r, c in seen)
    torch.testing.assert_close(out, expected)
    along = torch.randn(out.shape, generator=g, dtype=torch.float64)
    ours = torch.autograd.grad(out, (x, weight, bias), along)
    theirs = torch.autograd.grad(expected, (x, weight, bias), along)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # sums are in float32


def test_snap_passes_gradients_inside_its_limit_only() -> None:
    """Rounding is invisible to the gradient; a value at the limit gets none."""
    x = torch.tensor([-300.0, -127.0, -3.4, 0.0, 2.5, 126.4, 127.0], requires_grad=True)
    y = grid.snap(x)
    assert y.tolist() == [-127, -127, -3, 0, 2, 126, 127]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 0]


def test_hard_swish_gradient_is_its_slope() -> None:
    """Zero on the left, one on the right, the parabola's slope between."""
    x = torch.linspace(-90, 90, 721, dtype=torch.float64, requires_grad=True)
    mgcf.hard_swish(x).sum().backward()
    with torch.no_grad():
        step = 1e-6
        slope = (mgcf.hard_swish(x + step) - mgcf.hard_swish(x - step)) / (2 * step)
    assert x.grad is not None
    smooth = (x.detach().abs() - 32).abs() > 0.01
    torch.testing.assert_close(x.grad[smooth], slope[smooth], atol=1e-6, rtol=1e-6)
