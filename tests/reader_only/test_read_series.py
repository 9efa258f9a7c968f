"""FORMAT.md is enough: difference and narrow tiles are read with NumPy alone.

Written from the text of the sections "Delta tiles" and "Scale and offset".
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reader_only_high_depth import read_high_depth
from reader_only_learned import read_learned
from reader_only_network import read_model


@pytest.mark.parametrize(
    ("name", "code", "channels"),
    [("slice-16", "<i2", 1), ("band-8", "u1", 1), ("channels-16", "<u2", 3)],
)
def test_a_difference_tile_reads_from_the_text_alone(name: str, code: str, channels: int) -> None:
    """Base, weight and what is left give the samples."""
    folder = Path(__file__).parents[1] / "vectors" / "codec-v1"
    payload, model = (folder / f"{name}.tile").read_bytes(), (folder / "deep.model").read_bytes()
    back, weight, codec = struct.unpack("<IBB", payload[:6])
    assert codec == 4
    bits = 8 * np.dtype(code).itemsize
    left = left_of(payload[6:], model, channels, bits)
    base = np.frombuffer((folder / f"{name}.base").read_bytes(), code).astype(np.int64)
    u = (base + (1 << (bits - 1)) * ("i" in code)).reshape(-1, 14, 1)
    parts = []
    for c in range(channels):
        if back == 0:
            u = parts[-1] if parts else None
        taken = 0 if u is None else ((weight * u + 32) >> 6) - (1 << (bits - 1))
        parts.append((left[..., c : c + 1] + taken) % (1 << bits))
    samples = np.concatenate(parts, -1) - (1 << (bits - 1)) * ("i" in code)
    digest = hashlib.sha256(samples.astype(code).tobytes()).hexdigest()
    assert digest == (folder / f"{name}.sha256").read_text().strip()


@pytest.mark.parametrize("code", ["f4", "f8", "i8"])
def test_a_narrow_tile_reads_from_the_text_alone(code: str) -> None:
    """Numbers, divisor, lowest and hole give the samples."""
    stem = Path(__file__).parents[1] / "vectors" / "codec-v1" / f"narrow-{code}"
    payload = stem.with_suffix(".tile").read_bytes()
    model = stem.with_name("deep.model").read_bytes()
    n_bytes, divisor, lowest, hole, pattern, codec = struct.unpack("<BHqIQB", payload[:24])
    assert codec == 4
    numbers = left_of(payload[24:], model, 1, 8 * n_bytes)
    samples = (numbers + lowest) if code == "i8" else (numbers + lowest) / divisor
    bits = samples.astype(f"<{code}").view(f"<u{code[1]}")
    bits[numbers == hole] = pattern
    digest = hashlib.sha256(bits.tobytes()).hexdigest()
    assert digest == stem.with_suffix(".sha256").read_text().strip()


def left_of(payload: bytes, model: bytes, channels: int, bits: int) -> Any:
    """Return the learned samples (11, 14, channels) of a payload, 8 or 16 bits."""
    shape, network = (11, 14, channels), read_model(model)
    if bits == 8:
        samples = read_learned(network, payload, *shape)
        return np.frombuffer(samples, "u1").reshape(shape).astype(np.int64)
    planes = []
    for c in range(channels):
        size = len(payload)
        if c < channels - 1:
            (size,), payload = struct.unpack("<I", payload[:4]), payload[4:]
        samples = read_high_depth(network, payload[:size], *shape[:2])
        planes.append(np.frombuffer(samples, "<u2").reshape(shape[:2]).astype(np.int64))
        payload = payload[size:]
    return np.stack(planes, -1)
