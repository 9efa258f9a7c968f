"""Arrays as the native core takes them: an address, once their type is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def address(
    array: NDArray[Any],
    dtype: DTypeLike,
    shape: tuple[int, ...] | None = None,
    *,
    is_out: bool = False,
) -> int:
    """Return where the items of an array begin, one after the other, of the type asked for.

    TypeError if it has another type or ``shape``, or ``is_out`` and cannot be written to.  The
    caller keeps the array and, without a shape, sees to its size: the core trusts what it is told.
    """
    is_right = array.dtype == np.dtype(dtype) and array.flags.c_contiguous
    if not is_right or (shape is not None and array.shape != shape):
        wanted = np.dtype(dtype) if shape is None else f"{np.dtype(dtype)} {shape}"
        raise TypeError(f"expected {wanted} in C order, got {array.dtype} {array.shape}")
    if is_out and not array.flags.writeable:
        raise TypeError(f"expected {np.dtype(dtype)} that can be written to")
    return array.ctypes.data
