"""Own the compiler of the loops, and the rounding that all of them share.

Numba keeps the machine code beside the source file, or in the user's cache: only the first run on
a machine waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` when first called; other threads run meanwhile."""
    try:
        out: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in can be written
        out = numba.njit(nogil=True, error_model="numpy")(function)
    typed: F = out
    return typed


@compiled
def snap(x: np.float32, limit: np.float32) -> Any:
    """Round to whole levels, ties to even, within [-limit, limit]."""
    return min(max(np.rint(x), -limit), limit)
