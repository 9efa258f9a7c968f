"""The arrays that loops take, and those that belong together.

They come as plain tuples where Python calls a loop for every group of pixels: Numba tells their
types in half a microsecond, those of a NamedTuple in four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Tables = tuple[Float32, Float32, Float32]  # of inverse scales, of weights, of the sigmoid
Sums = tuple[
    Any, Float32, Float32
]  # of products (M, n), and what makes levels of them: scale, bias
Depthwise = tuple[Any, Float32, Float32]  # of a convolution: taps (T, 2), weight (T, dim), bias
Place = tuple[int, int]  # of a group in a ring: its number and its first row
