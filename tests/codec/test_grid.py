"""The grid: rounding, row exponents, and the bound that makes sums exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archiver.codec.model import grid, layers, limits
from archiver.errors import FormatError


def test_snap_rounds_ties_to_even_and_clamps() -> None:
    """Halves go to even levels, everything stays within the limit."""
    x = torch.tensor([-200.0, -1.5, -0.5, 0.5, 1.5, 2.5, 126.6, 200.0])
    assert grid.snap(x).tolist() == [-127, -2, 0, 0, 2, 2, 127, 127]


def test_snap_passes_the_gradient_inside_the_range_only() -> None:
    """Straight-through inside, zero outside; training and coding see the same values."""
    x = torch.tensor([-300.0, 0.3, 300.0], requires_grad=True)
    snapped = grid.snap(x)
    snapped.sum().backward()
    assert snapped.tolist() == grid.snap(x.detach()).tolist()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0]


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20))
def test_rows_use_their_mantissas_fully_and_snapping_is_idempotent(row: list[float]) -> None:
    """Every weight is an integer up to 127 times 2**e, and on-grid weights do not move."""
    weight = torch.tensor([row])
    exponent = grid.row_exponents(weight)
    mantissa = grid.quantise_rows(weight, exponent)
    assert mantissa.abs().max() <= 127
    if max(map(abs, row)) > 0.2 and exponent.item() < limits.MAX_EXPONENT:
        assert mantissa.abs().max() >= 63
    snapped = grid.snap_rows(weight)
    assert torch.equal(snapped, grid.snap_rows(snapped))
    assert (snapped - weight).abs().max() <= 2.0 ** exponent.item() / 2


def test_bound_counts_every_weight_and_the_bias() -> None:
    """The largest partial sum is 128 levels times the sum of magnitudes, plus bias and carry."""
    weight, bias = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([-3.0, 4.0])
    bounds = grid.row_bounds(weight, bias, carried=100)
    assert bounds.tolist() == [3 * 128 + 3 + 100, 0.5 * 128 + 4 + 100]


def test_weights_whose_sums_could_round_are_refused() -> None:
    """One step past 2**24 steps is one too many."""
    limit = limits.EXACT_LIMIT / 128
    layers.check_bounds("ok", np.full((1, 1), limit), 0.0)
    with pytest.raises(FormatError, match="layer big"):
        layers.check_bounds("big", np.full((1, 1), limit), np.ones(1))


def test_sums_at_the_bound_do_not_depend_on_order() -> None:
    """Worst-case products, added in two orders and in float64, agree."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-127, 128, (4, 1000), generator=generator).float() * limits.STEP
    x = torch.randint(-127, 128, (1000,), generator=generator).float()
    layers.check_bounds("sum", weight.numpy(), 0.0)
    order = torch.randperm(1000, generator=generator)
    in_order, reordered = weight @ x, weight[:, order] @ x[order]
    assert torch.equal(in_order, reordered)
    assert torch.equal(in_order.double(), weight.double() @ x.double())
