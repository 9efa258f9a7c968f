"""Own the step from a checkpoint to a model file: integers, proven bounds, self-test digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archiver.codec import engine, mgcf, weights


def export(net: mgcf.MGCF, name: str, card: dict[str, Any]) -> bytes:
    """Return the model file of a trained network; FormatError if an exactness bound fails."""
    net.train()
    file = weights.ModelFile(name, net.architecture, weights.quantise(net), card=card)
    coding = weights.build(file)
    return replace(file, self_test=engine.self_test_digest(coding)).to_bytes()
