"""Binary decisions: predicted by mixing contexts' probabilities, range-coded, learned from.

After PAQ (M. Mahoney, "Adaptive weighing of context models for lossless data compression", 2005):
every context has a slot with a probability; logistic mixers weigh their logits, a second
layer weighs three mixers, and two curves correct what comes out.  Whole numbers alone, so that
every machine computes the same.  FORMAT.md, section "Coded coefficients", says it in formulas.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

INPUTS = 23  # contexts of one decision, at most
SLOT_BITS = 18
MIXERS = 3
SETS, BLENDS, CURVES = 1376, 112, 608
WIDTH = 2 * INPUTS + 2
_ONE = 1 << 16  # a probability, or a weight, of 1
_LOGIT = 2047  # the largest logit, in 1/256
_FIRST_WEIGHT = 7864
_MOST_COUNT = 127
_MOST_USES = 305  # after which a mixer's rate stays the same
_KNOTS = 33  # of a curve
_LEAST, _MOST = 24, _ONE - 24  # the surest that a decision can be
_MOST_ZEROS = 1 << 12  # bytes that a writer may leave away at the end
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def _rounded(values: list[float]) -> Ints:
    return np.array([round(value) for value in values], np.int64)


_LOGITS = np.arange(-_LOGIT, _LOGIT + 1) / 256
SQUASH = np.clip(_rounded([_ONE / (1 + math.exp(-x)) for x in _LOGITS]), 16, _ONE - 16)
STRETCH = np.clip(
    _rounded([256 * math.log((i + 0.5) / (4095.5 - i)) for i in range(4096)]), -_LOGIT, _LOGIT
)
TRUST = np.array([(645 * n + 2) // (10 * n + 6) for n in range(32)])  # in a slot seen n times
SHARE = np.array([_ONE * 5 // (5 * n + 9) for n in range(_MOST_COUNT + 1)])  # of what is new


class ContextState(NamedTuple):
    """All that is learned: arrays that the kernels change in place."""

    slots: NDArray[np.int16]  # (INPUTS, 2^SLOT_BITS): probability of 1, less a half
    counts: NDArray[np.uint8]  # how often each was used
    weights: NDArray[np.int32]  # (MIXERS, SETS, WIDTH)
    uses: NDArray[np.int32]  # (MIXERS, SETS)
    blends: NDArray[np.int32]  # (BLENDS, MIXERS)
    curves: NDArray[np.int32]  # (2, CURVES, _KNOTS)

    @classmethod
    def fresh(cls) -> ContextState:
        """Return the state of a coder that has seen nothing."""
        weights = np.zeros((MIXERS, SETS, WIDTH), np.int32)
        weights[:, :, 1::2] = _FIRST_WEIGHT  # of logits
        knots = SQUASH[np.clip(np.arange(_KNOTS) * 128 - 1, 0, 2 * _LOGIT)]
        return cls(
            np.zeros((INPUTS, 1 << SLOT_BITS), np.int16),
            np.zeros((INPUTS, 1 << SLOT_BITS), np.uint8),
            weights,
            np.zeros((MIXERS, SETS), np.int32),
            np.full((BLENDS, MIXERS), _ONE // MIXERS, np.int32),
            np.broadcast_to(knots.astype(np.int32), (2, CURVES, _KNOTS)).copy(),
        )

    def copy(self) -> ContextState:
        """Return a state that learns apart from this one."""
        return ContextState(*(array.copy() for array in self))  # type: ignore[arg-type]


class Coder(NamedTuple):
    """One stream: bytes that are written or read, and the interval that they stand for."""

    state: Ints  # low, high, value, position, whether it reads
    buffer: Bytes

    @classmethod
    def writer(cls, room: int) -> Coder:
        """Return a coder that writes ``room`` bytes; what comes after them is lost."""
        return cls(np.array([0, 0xFFFFFFFF, 0, 0, 0]), np.zeros(room, np.uint8))

    @classmethod
    def reader(cls, stream: bytes) -> Coder:
        """Return a coder that reads ``stream``, and zeros after it."""
        value = int.from_bytes(stream[:4].ljust(4, b"\0"), "big")
        state = np.array([0, 0xFFFFFFFF, value, 4, 1])
        return cls(state, np.frombuffer(stream, np.uint8).copy())

    def finished(self) -> bytes | None:
        """Return what was written, and as few bytes as end it; None if there was no room for it."""
        low, high, _, size, _ = (int(number) for number in self.state)
        if size > len(self.buffer):
            return None
        for n in range(5):
            unit = 1 << (32 - 8 * n)
            number = -(-low // unit) * unit
            if number <= high:
                break
        tail = (number >> (32 - 8 * n)).to_bytes(n, "big") if n else b""
        return (self.buffer[:size].tobytes() + tail).rstrip(b"\0")


class Desk(NamedTuple):
    """Where one decision is prepared: fields that the kernels fill."""

    slots: Ints  # (INPUTS,): the slot of each context
    sets: Ints  # (MIXERS,): the weights of each mixer
    choice: Ints  # blend, first curve, second curve
    inputs: NDArray[np.int32]  # (WIDTH,)
    logits: Ints  # (MIXERS,)

    @classmethod
    def fresh(cls) -> Desk:
        """Return an empty desk."""
        slots, sets, choice, logits = (np.zeros(n, np.int64) for n in (INPUTS, MIXERS, 3, MIXERS))
        return cls(slots, sets, choice, np.zeros(WIDTH, np.int32), logits)


@compiled
def slot(a: int, b: int, c: int) -> Any:
    """Return the slot of a context of three numbers."""
    h = (a * 2654435761 + b * 2246822519 + c * 3266489917) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    return (h ^ (h >> 13)) >> (32 - SLOT_BITS)


@compiled
def decide(bit: int, n: int, state: ContextState, coder: Coder, desk: Desk) -> Any:
    """Write ``bit``, or read it, under the first ``n`` contexts of the desk; return it."""
    used = 2 * n + 1
    _gather(n, state, desk)
    logit = _mix(used, state, desk)
    first, second = desk.choice[1], desk.choice[2]
    knot, beyond = (logit + 2048) >> 7, (logit + 2048) & 127
    first_curve, second_curve = state.curves[0, first], state.curves[1, second]
    corrected = (first_curve[knot] * (128 - beyond) + first_curve[knot + 1] * beyond) >> 7
    corrected += (second_curve[knot] * (128 - beyond) + second_curve[knot + 1] * beyond) >> 7
    chance = (2 * SQUASH[logit + _LOGIT] + corrected) >> 2
    bit = _code(bit, min(max(chance, _LEAST), _MOST), coder)
    target = bit << 16
    near = knot + (beyond >> 6)
    first_curve[near] += (target - first_curve[near]) >> 6
    second_curve[near] += (target - second_curve[near]) >> 6
    _learn(target, logit, used, state, desk)
    _update_slots(target, n, state, desk)
    return bit


@compiled
def _gather(n: int, state: ContextState, desk: Desk) -> None:
    """Fill the inputs: of each context its logit, and its probability less a half."""
    desk.inputs[0] = 256
    for i in range(n):
        at = desk.slots[i]
        chance, count = int(state.slots[i, at]), min(state.counts[i, at], 31)
        trust = TRUST[count]
        desk.inputs[2 * i + 1] = (STRETCH[(chance + 32768) >> 4] * trust) >> 6
        desk.inputs[2 * i + 2] = (chance * trust) >> 11


@compiled
def _mix(used: int, state: ContextState, desk: Desk) -> Any:
    """Return the logit of 1 that the mixers agree on."""
    blend, total = state.blends[desk.choice[0]], 0
    for m in range(MIXERS):
        weights, dot = state.weights[m, desk.sets[m]], 0
        for i in range(used):
            dot += int(desk.inputs[i]) * int(weights[i])
        logit = min(max(dot >> 16, -_LOGIT), _LOGIT)
        desk.logits[m] = logit
        total += logit * blend[m]
    return min(max(total >> 16, -_LOGIT), _LOGIT)


@compiled
def _learn(target: int, logit: int, used: int, state: ContextState, desk: Desk) -> None:
    """Move the weights towards what would have been better."""
    for m in range(MIXERS):
        chosen = desk.sets[m]
        uses = min(state.uses[m, chosen] + 1, _MOST_USES)
        state.uses[m, chosen] = uses
        rate = 4 + 320 // (16 + uses)
        error = ((target - SQUASH[desk.logits[m] + _LOGIT]) * rate) >> 6
        weights = state.weights[m, chosen]
        for i in range(used):
            weights[i] += (desk.inputs[i] * error + 2048) >> 12
    error = (target - SQUASH[logit + _LOGIT]) * 3
    blend = state.blends[desk.choice[0]]
    for m in range(MIXERS):
        blend[m] += (desk.logits[m] * error + (1 << 17)) >> 18


@compiled
def _update_slots(target: int, n: int, state: ContextState, desk: Desk) -> None:
    """Move what the slots hold towards what came: the less, the more they have seen."""
    for i in range(n):
        at = desk.slots[i]
        chance, count = int(state.slots[i, at]) + 32768, state.counts[i, at]
        chance += ((target - chance) * SHARE[count]) >> 16
        state.slots[i, at] = chance - 32768
        if count < _MOST_COUNT:
            state.counts[i, at] = count + 1


@compiled
def is_spent(coder: Coder) -> Any:
    """Whether more was read than a writer leaves away: zeros after a stream go on for ever."""
    return coder.state[4] == 1 and coder.state[3] > coder.buffer.size + _MOST_ZEROS


@compiled
def _code(bit: int, chance: int, coder: Coder) -> Any:
    """Write ``bit``, or read it, of which ``chance``/2^16 is the probability of 1."""
    state, buffer = coder.state, coder.buffer
    span = state[1] - state[0]
    middle = state[0] + (span >> 16) * chance + (((span & 0xFFFF) * chance) >> 16)
    if state[4]:
        bit = 1 if state[2] <= middle else 0
    if bit:
        state[1] = middle
    else:
        state[0] = middle + 1
    while (state[0] ^ state[1]) >> 24 == 0:
        if state[4]:
            byte = int(buffer[state[3]]) if state[3] < buffer.size else 0
            state[2] = ((state[2] << 8) & 0xFFFFFFFF) | byte
        elif state[3] < buffer.size:  # beyond, only counted
            buffer[state[3]] = state[1] >> 24
        state[3] += 1
        state[0] = (state[0] << 8) & 0xFFFFFFFF
        state[1] = ((state[1] << 8) & 0xFFFFFFFF) | 255
    return bit
