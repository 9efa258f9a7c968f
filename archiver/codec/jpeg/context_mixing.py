"""Binary decisions: predicted by mixing contexts' probabilities, range-coded, learned from.

After PAQ (M. Mahoney, "Adaptive weighing of context models for lossless data compression", 2005):
every context has a slot with a probability; logistic mixers weigh their logits, a second
layer weighs three mixers, and two curves correct what comes out.  Whole numbers alone, so that
every machine computes the same.  FORMAT.md, section "Coded coefficients", says it in formulas.

Here are the tables, what is learned, and the stream; ``jpeg_mixing.c`` of the core decides.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg import kernels
from archiver.native import arrays

INPUTS = 23  # contexts of one decision, at most
SLOT_BITS = 18
_SLOTS_SIZE = (3 << SLOT_BITS) + 64  # bytes: the core reads four where three are
MIXERS = 3
SETS, BLENDS, CURVES = 1376, 112, 608
_LANES = INPUTS + 1  # the first is the bias
_ONE = 1 << 16  # a probability, or a weight, of 1
_LOGIT = 2047  # the largest logit, in 1/256
_FIRST_WEIGHT = 7864
_KNOTS = 33  # of a curve
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def _rounded(values: list[float]) -> Ints:
    return np.array([round(value) for value in values], np.int64)


_LOGITS = np.arange(-_LOGIT, _LOGIT + 1) / 256
SQUASH = np.clip(_rounded([_ONE / (1 + math.exp(-x)) for x in _LOGITS]), 16, _ONE - 16).astype(
    np.uint16
)
STRETCH = np.clip(
    _rounded([256 * math.log((i + 0.5) / (4095.5 - i)) for i in range(4096)]), -_LOGIT, _LOGIT
).astype(np.int16)


class ContextState(NamedTuple):
    """All that is learned: arrays that the core changes in place."""

    slots: Bytes  # (INPUTS, _SLOTS_SIZE): of each its uses, and i2 probability of 1, less a half
    weights: NDArray[np.int32]  # (MIXERS, SETS, 2, _LANES): of logits, of probabilities
    uses: NDArray[np.int32]  # (MIXERS, SETS)
    blends: NDArray[np.int32]  # (BLENDS, MIXERS)
    curves: NDArray[np.int32]  # (2, CURVES, _KNOTS)

    @classmethod
    def fresh(cls) -> ContextState:
        """Return the state of a coder that has seen nothing."""
        weights = np.zeros((MIXERS, SETS, 2, _LANES), np.int32)
        weights[:, :, 0, 1:] = _FIRST_WEIGHT
        knots = SQUASH[np.clip(np.arange(_KNOTS) * 128 - 1, 0, 2 * _LOGIT)]
        return cls(
            np.zeros((INPUTS, _SLOTS_SIZE), np.uint8),
            weights,
            np.zeros((MIXERS, SETS), np.int32),
            np.full((BLENDS, MIXERS), _ONE // MIXERS, np.int32),
            np.broadcast_to(knots.astype(np.int32), (2, CURVES, _KNOTS)).copy(),
        )

    def copy(self) -> ContextState:
        """Return a state that learns apart from this one."""
        return ContextState(*(array.copy() for array in self))  # type: ignore[arg-type]

    def addresses(self) -> kernels.State:
        """Return where the core finds it, as long as it is there."""
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "slots": (np.uint8, (INPUTS, _SLOTS_SIZE)),
            "weights": (np.int32, (MIXERS, SETS, 2, _LANES)),
            "uses": (np.int32, (MIXERS, SETS)),
            "blends": (np.int32, (BLENDS, MIXERS)),
            "curves": (np.int32, (2, CURVES, _KNOTS)),
        }
        return kernels.State(
            **{
                name: arrays.address(getattr(self, name), dtype, shape, is_out=True)
                for name, (dtype, shape) in shapes.items()
            }
        )


class Coder:
    """One stream: bytes that are written or read, and the interval that they stand for."""

    def __init__(self, buffer: Bytes, *, reads: bool, value: int = 0, at: int = 0) -> None:
        self.reads = reads
        self._buffer = buffer
        self.stream = kernels.Stream(
            high=0xFFFFFFFF,
            value=value,
            reads=reads,
            at=at,
            size=buffer.size,
            bytes=arrays.address(buffer, np.uint8, (buffer.size,), is_out=not reads),
        )

    @classmethod
    def writer(cls, room: int) -> Coder:
        """Return a coder that writes ``room`` bytes; what comes after them is lost."""
        return cls(np.zeros(room, np.uint8), reads=False)

    @classmethod
    def reader(cls, stream: bytes) -> Coder:
        """Return a coder that reads ``stream``, and zeros after it."""
        value = int.from_bytes(stream[:4].ljust(4, b"\0"), "big")
        return cls(np.frombuffer(stream, np.uint8), reads=True, value=value, at=4)

    def finished(self) -> bytes | None:
        """Return what was written, and as few bytes as end it; None if there was no room for it."""
        low, high, size = self.stream.low, self.stream.high, self.stream.at
        if size > len(self._buffer):
            return None
        for n in range(5):
            unit = 1 << (32 - 8 * n)
            number = -(-low // unit) * unit
            if number <= high:
                break
        tail = (number >> (32 - 8 * n)).to_bytes(n, "big") if n else b""
        return (self._buffer[:size].tobytes() + tail).rstrip(b"\0")
