"""The rounding that all loops of the coder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.compiled import compiled


@compiled
def snap(x: np.float32, limit: np.float32) -> Any:
    """Round to whole levels, ties to even, within [-limit, limit]."""
    return min(max(np.rint(x), -limit), limit)
