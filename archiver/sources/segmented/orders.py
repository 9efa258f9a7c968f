"""The orders in which DICOM stores plain samples, other than one byte after the other.

    YBR_422    Y Y Cb Cr of two pixels side by side  ->  all Y, below them rows of Cb and of Cr
    BITS       eight samples in a byte, lowest bit first; frames follow each other bit by bit
    SWAPPED    bytes in 16-bit words of the other byte order

Some words stand before what is decoded: the width of a frame of YBR_422; what a frame of bits lacks
of its first byte, which is the last one of the frame before: how many samples, and that byte.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from archiver.sources.bit_packing import Bytes


class Order(IntEnum):
    """How samples are stored."""

    YBR_422 = 0
    BITS = 1
    SWAPPED = 2


LEAD_BYTES = {Order.YBR_422: 4, Order.BITS: 2, Order.SWAPPED: 0}


def decode(order: Order, stored: bytes, n_bytes: int) -> bytes:
    """Return ``n_bytes`` bytes of samples, or fewer if there are no more."""
    data = np.frombuffer(stored, np.uint8)
    if order is Order.YBR_422:
        width = int.from_bytes(stored[: LEAD_BYTES[order]], "little")
        return _planes(data[LEAD_BYTES[order] :][:n_bytes].reshape(-1, width // 2, 4))
    if order is Order.BITS:
        lead = np.unpackbits(data[1 : LEAD_BYTES[order]], bitorder="little")[8 - int(data[0]) :]
        rest = np.unpackbits(data[LEAD_BYTES[order] :], bitorder="little")
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
        return _pairs(rows)
    if order is Order.BITS:
        return _packed(flat, *plan)
    odd = np.frombuffer(plan if flat.size % 2 else b"", np.uint8)
    return np.concatenate([flat, odd]).reshape(-1, 2)[:, ::-1].tobytes()


def _planes(pairs: Bytes) -> bytes:
    """Return planes of rows (R, pairs, 4) of Y Y Cb Cr."""
    luma = pairs[..., :2].reshape(len(pairs), -1)
    return np.vstack([luma, np.hstack([pairs[..., 2], pairs[..., 3]])]).tobytes()


def _pairs(planes: Bytes) -> bytes:
    """Return Y Y Cb Cr of planes as `_planes` gives them; ValueError if they have odd sides."""
    luma, chroma = np.split(planes, 2)
    luma = luma.reshape(len(luma), -1, 2)
    return np.dstack([luma, *np.hsplit(chroma, 2)]).tobytes()


def _packed(samples: Bytes, n_lead: int, last: int) -> bytes:
    """Pack samples without the first ones; the unused bits are those of the ``last`` byte."""
    if n_lead > 7 or int(samples.max(initial=0)) > 1:
        raise ValueError(f"bits of {n_lead} samples before, or samples of more than a bit")
    bits = samples[n_lead:]
    unused = np.unpackbits(np.array([last], np.uint8), bitorder="little")
    rest = unused[len(bits) % 8 :] if len(bits) % 8 else unused[:0]
    return np.packbits(np.concatenate([bits, rest]), bitorder="little").tobytes()
