"""The integer tables of the coder: mixture parameters -> frequencies of 4-bit digits.

For a sample x in 0..255 the cumulative count is (FORMAT.md, "Frequencies")

    F(x) = sum_k W[max(l) - l_k] * T[clamp(((x - 128) * 64 - 32 - m_k) * S[s_k])]

with the weight table W, the sigmoid table T and the inverse scale table S below; F(0) = 0 and
F(256) = sum_k w_k * 8192.  The factors of every product together have at most 24 bits, so all of it
is exact in float32.  A digit's frequency is the difference of F over its interval, plus 1.

::

    F(0)          F(16)  ...          F(16 h)          F(16 h + 16)    ...      F(256)
     |--- h = 0 ----|        ...         |-- l = 0 .. 15 --|            ...       |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from archiver.codec.entropy import RADIX
from archiver.codec.model import architecture, mixture
from archiver.codec.model.tables import (
    MEAN_UNIT,
    MIN_SCALE,
    SIGMOID_ONE,
    SIGMOID_REACH,
    SIGMOID_STEPS,
    table_values,
)

_LIMIT = SIGMOID_STEPS * SIGMOID_REACH


@dataclass(frozen=True)
class Lookup:
    """The three tables, float32 holding whole numbers (S: 8-bit numbers times a power of two)."""

    sigmoid: Tensor  # (2 * 2560 + 1,)
    weight: Tensor  # (2 * 127 + 1,) indexed by the distance to the largest logit
    inverse_scale: Tensor  # (185,) indexed by scale - MIN_SCALE; per 1/64 step, in table steps


@lru_cache(maxsize=8)
def lookup(device: torch.device) -> Lookup:
    """Return the tables on ``device``."""
    sigmoid, weight, inverse = (
        torch.tensor(values, dtype=torch.float32, device=device) for values in table_values()
    )
    return Lookup(sigmoid, weight, inverse)


@dataclass(frozen=True)
class ChannelTables:
    """Mixture of one channel of M pixels, ready to give frequencies digit by digit."""

    centres: Tensor  # (K + J, M, 1) 1/64 step, relative to sample 0 minus 1/2
    inverse_scales: Tensor  # (K + J, M, 1)
    weights: Tensor  # (K + J, M, 1) whole numbers
    lookup: Lookup

    @classmethod
    def of(
        cls,
        p: mixture.Parameters,
        channel: int,
        base: Tensor,
        centred: Tensor,
        neighbours: Tensor,
    ) -> ChannelTables:
        """Build from flat parameters: see :func:`archiver.codec.model.mixture.centres`."""
        table = lookup(base.device)
        logits = p.logits[channel]  # (K + J, M)
        distance = logits.amax(0) - logits
        scales = p.scales[channel] - MIN_SCALE
        centres = mixture.centres(p, channel, base, centred, neighbours)
        start = (architecture.MID + 0.5) * MEAN_UNIT
        return cls(
            (centres + start).unsqueeze(-1),
            _take(table.inverse_scale, scales).unsqueeze(-1),
            _take(table.weight, distance).unsqueeze(-1),
            table,
        )

    def cumulative(self, edges: Tensor) -> Tensor:
        """Return F at ``edges`` ((1 or M, n) sample values): (M, n) whole numbers."""
        position = edges * MEAN_UNIT - self.centres
        index = position.mul_(self.inverse_scales).round_().clamp_(-_LIMIT, _LIMIT).add_(_LIMIT)
        return _take(self.lookup.sigmoid, index).mul_(self.weights).sum(0)

    def high_digit(self) -> Tensor:
        """Return F at 0, 16, ..., 256: (M, 17)."""
        edges = torch.arange(1, RADIX, device=self.weights.device) * RADIX
        inner = self.cumulative(edges.float().unsqueeze(0))
        total = self.weights.squeeze(-1).sum(0).mul_(SIGMOID_ONE).unsqueeze(-1)
        return torch.cat([torch.zeros_like(total), inner, total], -1)

    def low_digit(self, high: Tensor, cumulative: Tensor) -> Tensor:
        """Return F at 16 h, 16 h + 1, ..., 16 h + 16: (M, 17).

        ``high`` is (M, 1) int64, the decoded digit; ``cumulative`` is :meth:`high_digit`'s result.
        """
        edges = torch.arange(1, RADIX, device=high.device) + high * RADIX
        ends = cumulative.gather(1, torch.cat([high, high + 1], 1))
        return torch.cat([ends[:, :1], self.cumulative(edges.float()), ends[:, 1:]], 1)


def frequencies(cumulative: Tensor) -> Tensor:
    """Return digit frequencies (M, 16) >= 1 from cumulative counts (M, 17)."""
    return cumulative.diff(dim=1).add_(1.0)


def _take(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[index]`` for an index held in floats."""
    flat = index.reshape(-1).to(torch.int32)
    return table.index_select(0, flat).view(index.shape)
