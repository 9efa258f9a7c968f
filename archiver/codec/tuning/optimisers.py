"""The optimisers, the learning-rate schedule and the moving average of the weights.

Muon (Jordan et al., 2024) for the matrices of the blocks, AdamW for everything else: embeddings,
heads, depth-wise kernels, biases, and at a tenth of its rate the linear base predictors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MUON_RATE = 0.01
ADAM_RATE = 2e-3
BASE_RATE = 2e-4
CLIP = 1.0  # of the gradient's norm
WARM_UP = 100  # steps
AVERAGE = 0.998  # of the weights, a step


def rate(step: int, progress: float, *, peak: float, decay: float) -> float:
    """Return the factor of all learning rates: warm-up, constant, linear decay to zero.

    ``progress`` in [0, 1] is how much of this leg of training is done; the decay takes its last
    ``decay``.  ``step`` counts from the first one of the leg.
    """
    warm = min(1.0, (step + 1) / WARM_UP)
    cool = min(1.0, (1.0 - progress) / decay) if decay else 1.0
    return peak * warm * max(0.0, cool)


class Optimiser:
    """All parameters of a network, each under the rule that suits it."""

    def __init__(self, net: nn.Module) -> None:
        self._parameters = list(net.parameters())
        named = list(net.named_parameters())
        matrices = [p for n, p in named if _is_block_matrix(n, p)]
        base = [p for n, p in named if ".base." in n]
        other = [p for n, p in named if not _is_block_matrix(n, p) and ".base." not in n]
        self._rules: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.0, momentum=0.95),
            torch.optim.AdamW(
                [{"params": other, "lr": ADAM_RATE}, {"params": base, "lr": BASE_RATE}],
                betas=(0.9, 0.98),
                weight_decay=0.0,
            ),
        )
        self._full_rates = [[float(g["lr"]) for g in rule.param_groups] for rule in self._rules]

    def step(self, factor: float) -> float:
        """Move all parameters by their gradients; returns the gradient's norm before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self._parameters, CLIP))
        for rule, full_rates in zip(self._rules, self._full_rates, strict=True):
            for group, full_rate in zip(rule.param_groups, full_rates, strict=True):
                group["lr"] = full_rate * factor
            rule.step()
            rule.zero_grad()
        return norm

    def state(self) -> list[dict[str, Any]]:
        """Return what :meth:`restore` needs."""
        return [rule.state_dict() for rule in self._rules]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on from a saved state."""
        for rule, saved in zip(self._rules, state, strict=True):
            rule.load_state_dict(saved)


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("blocks.") and parameter.dim() == 2


class Average:
    """Exponential moving average of the parameters: what is exported."""

    def __init__(self, net: nn.Module) -> None:
        self.parameters = {n: p.detach().clone() for n, p in net.named_parameters()}
        self.steps = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the present weights; faster at first, when little is known."""
        self.steps += 1
        keep = min(AVERAGE, self.steps / (self.steps + 9))
        for name, parameter in net.named_parameters():
            self.parameters[name].lerp_(parameter, 1.0 - keep)

    def restore(self, parameters: dict[str, Tensor], steps: int) -> None:
        """Go on from a saved average."""
        for name, value in parameters.items():
            self.parameters[name].copy_(value)
        self.steps = steps
