"""The vector in which every limit of the network and its mixtures is reached, on both sides."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from archiver.codec.inference.engine import Engine
from archiver.codec.model import architecture, mgcf
from archiver.training.export import export

SHAPE = (9, 10, 3)
ROW = 100.0  # sum of a row's magnitudes: little below what exact sums allow
BASE = 0.35  # spread of the base prediction's weights


def saturated_model() -> bytes:
    """Return a model with random weights as large as the exactness bound lets them be."""
    torch.manual_seed(11)
    sizes = {"dim": 8, "blocks": 2, "hidden": 2, "mixtures": 3}
    net = mgcf.MGCF(architecture.Architecture(**sizes, copies=1, deep=0))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 20)
            elif "base" in name:
                parameter.normal_(0, BASE)
            else:
                rows = parameter.normal_(0, 1).flatten(1)
                rows.mul_(ROW / rows.abs().sum(1, keepdim=True))
    return export(net, "saturated", {"note": "large random weights, for tests"})


def write(stem: Path) -> None:
    """Write the model, a tile of few values and of noise that it codes, and its SHA-256."""
    if stem.with_suffix(".model").exists():
        return
    model, rng = saturated_model(), np.random.default_rng(8)
    samples = rng.choice(np.array([0, 1, 77, 254, 255], np.uint8), SHAPE)
    samples[:4] = rng.integers(0, 256, (4, *SHAPE[1:]))
    [payload] = Engine.open(model, device="cpu", threads=1).encode([samples])
    stem.with_suffix(".model").write_bytes(model)
    stem.with_suffix(".tile").write_bytes(payload)
    stem.with_suffix(".sha256").write_text(f"{hashlib.sha256(samples.tobytes()).hexdigest()}\n")
