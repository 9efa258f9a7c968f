"""Arrays as the native core takes them: an address, once their type is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def address(array: NDArray[Any], dtype: DTypeLike) -> int:
    """Return where the items of an array begin, one after the other, of the type asked for.

    The caller keeps the array, and sees to its size: the core trusts what it is told.
    """
    if array.dtype != np.dtype(dtype) or not array.flags.c_contiguous:
        raise TypeError(f"the native core takes contiguous {np.dtype(dtype)}, not {array.dtype}")
    return array.ctypes.data
