"""Own the orders in which DICOM stores plain samples, other than one byte after the other.

    YBR_422    Y Y Cb Cr of two pixels side by side  ->  Y Cb Cr, Y Cb Cr
    BITS       eight samples in a byte, lowest bit first; frames follow each other bit by bit
    SWAPPED    bytes in 16-bit words of the other byte order

What a frame of bits lacks of its first byte, which is the last one of the frame before, stands
before what is decoded: how many samples, and that byte.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from archiver.sources.packing import Bytes

LEAD_BYTES = 2
_WIDEN = [0, 2, 3, 1, 2, 3]  # Y Y Cb Cr -> Y Cb Cr Y Cb Cr
_NARROW = [0, 3, 1, 2]


class Order(IntEnum):
    """How samples are stored."""

    YBR_422 = 0
    BITS = 1
    SWAPPED = 2


def decode(order: Order, stored: bytes, n_bytes: int) -> bytes:
    """Return ``n_bytes`` bytes of samples, or fewer if there are no more."""
    data = np.frombuffer(stored, np.uint8)
    if order is Order.YBR_422:
        pairs = data[: n_bytes // 6 * 4].reshape(-1, 4)
        return pairs[:, _WIDEN].tobytes()
    if order is Order.BITS:
        lead = np.unpackbits(data[1:LEAD_BYTES], bitorder="little")[8 - int(data[0]) :]
        rest = np.unpackbits(data[LEAD_BYTES:], bitorder="little")
        return np.concatenate([lead, rest])[:n_bytes].tobytes()
    return data[: len(data) // 2 * 2].reshape(-1, 2)[:, ::-1].tobytes()[:n_bytes]


def plan(order: Order, stored: bytes, n_bytes: int) -> bytes:
    """Return what has to be known beside ``n_bytes`` bytes of samples to store them again."""
    if order is Order.BITS:
        return stored[:1] + stored[-1:]
    if order is Order.SWAPPED and n_bytes % 2:
        return stored[-2:-1]
    return b"\0"


def encode(order: Order, rows: Bytes, plan: bytes) -> bytes:
    """Return samples (R, bytes) as they are stored; ValueError if the plan does not fit."""
    flat = np.ascontiguousarray(rows).reshape(-1)
    if order is Order.YBR_422:
        return flat.reshape(-1, 6)[:, _NARROW].tobytes()
    if order is Order.BITS:
        return _packed(flat, *plan)
    odd = np.frombuffer(plan if flat.size % 2 else b"", np.uint8)
    return np.concatenate([flat, odd]).reshape(-1, 2)[:, ::-1].tobytes()


def _packed(samples: Bytes, n_lead: int, last: int) -> bytes:
    """Pack samples without the first ones; the unused bits are those of the ``last`` byte."""
    if n_lead > 7 or int(samples.max(initial=0)) > 1:
        raise ValueError(f"bits of {n_lead} samples before, or samples of more than a bit")
    own = samples[n_lead:]
    unused = np.unpackbits(np.array([last], np.uint8), bitorder="little")
    rest = unused[len(own) % 8 :] if len(own) % 8 else unused[:0]
    return np.packbits(np.concatenate([own, rest]), bitorder="little").tobytes()
