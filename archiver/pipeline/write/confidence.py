"""When a sample of a file is enough to decide for all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SURE = 3.0  # standard errors


def is_sure(gains: Sequence[float], n: int, price: float = 0.0) -> bool:
    """Whether parts of a file gain so much that all ``n`` surely gain more than a price.

    ``gains`` are those of a sample of the parts; of all, they say what there is to say.
    """
    m = len(gains)
    total = n * sum(gains) / max(1, m) - price
    if m >= n:
        return total > 0
    if m < 2:
        return False
    mean = sum(gains) / m
    spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (m - 1))
    error = n * spread / math.sqrt(m) * math.sqrt((n - m) / (n - 1))
    return total > _SURE * error
