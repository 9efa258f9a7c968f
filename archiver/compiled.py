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
    _forgive_old_code(out)
    typed: F = out
    return typed


def _forgive_old_code(dispatcher: Any) -> None:
    """Have code that another release of this package left behind compiled anew.

    Numba unpickles its index before it compares the age of the source, and fails where a class is
    gone that arguments had then.
    """
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    load = getattr(file, "_load_index", None)
    if load is None:
        return

    def load_if_readable() -> Any:
        try:
            return load()
        except Exception:
            return {}

    file._load_index = load_if_readable
