"""The blocks of a component as decisions, written or read by the core.

``jpeg_blocks.c`` has their order: of a plane its blocks, of a block its end, its AC, its DC;
``jpeg_contexts.c`` what each depends on, ``jpeg_mixing.c`` how it is predicted and coded.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from archiver.codec.jpeg import context_mixing, kernels
from archiver.codec.jpeg.context_mixing import Coder, ContextState, Ints
from archiver.codec.jpeg.huffman import Blocks
from archiver.codec.jpeg.t81 import SIDE, ZIGZAG
from archiver.native import arrays

_MOST_COMPONENT = 3  # the number of one, for its contexts
_MOST_STEP = (1 << 16) - 1


def _wave(frequency: int, sample: int) -> float:
    scale = math.sqrt(0.125) if frequency == 0 else 0.5
    return scale * math.cos((2 * sample + 1) * frequency * math.pi / 16)


# what a coefficient adds, in 1/1024, to the first sample of its row or column, and, going on like
# the first two, to the edge before it
EDGE = np.array(
    [
        [round(1024 * _wave(f, 0)) for f in range(SIDE)],
        [round(1024 * (1.5 * _wave(f, 0) - 0.5 * _wave(f, 1))) for f in range(SIDE)],
    ],
    np.int64,
)
_IN_ROWS = ZIGZAG.astype(np.uint8)


def code_plane(
    blocks: Blocks,
    component: int,
    others: list[Blocks],
    steps: Ints,
    state: ContextState,
    coder: Coder,
) -> bool:
    """Write the blocks of a component, or read them; return whether they are possible ones.

    ``blocks`` (rows, columns, 64) and ``steps`` (64,) are in zigzag order.  ``others``, two at
    most, are of the same shape: the first component, and the one before if that is the second.
    """
    shape = (*blocks.shape[:2], SIDE * SIDE)
    if len(others) > 2 or steps.min() < 1 or steps.max() > _MOST_STEP:
        raise ValueError(f"{len(others)} other components, steps {steps.min()} to {steps.max()}")
    plane = kernels.Plane(
        rows=shape[0],
        columns=shape[1],
        component=min(component, _MOST_COMPONENT),
        others=len(others),
        steps=arrays.address(steps, np.int64, (SIDE * SIDE,)),
        blocks=arrays.address(blocks, np.int16, shape, is_out=coder.reads),
    )
    for name, other in zip(("first", "second"), others, strict=False):
        setattr(plane, name, arrays.address(other, np.int16, shape))
    return kernels.code_plane(plane, _tables(), state.addresses(), coder.stream)


@cache
def _tables() -> kernels.Tables:
    return kernels.Tables(
        stretch=arrays.address(context_mixing.STRETCH, np.int16, (4096,)),
        squash=arrays.address(context_mixing.SQUASH, np.uint16, (4095,)),
        edges=arrays.address(EDGE, np.int64, (2, SIDE)),
        in_rows=arrays.address(_IN_ROWS, np.uint8, (SIDE * SIDE,)),
    )
