"""The compiler of loops.

Numba keeps the machine code beside the source file, or in the user's cache: only the first run on
a machine waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` when first called; other threads run meanwhile."""
    try:
        out: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in can be written
        out = numba.njit(nogil=True, error_model="numpy")(function)
    typed: F = out
    return typed
