"""Tuning on a dataset: a model file comes out that codes such data smaller, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from archiver.codec.inference.engine import Engine
from archiver.codec.model.batches import Shown
from archiver.codec.model.model_file import ModelFile
from archiver.codec.tuning.archive_model import Budget, rounded, tune


def stripes(seed: int, n: int) -> list[np.ndarray]:
    """Tiles of a source that no general model knows: values in steps of 16, columns in pairs."""
    rng = np.random.default_rng(seed)
    tiles = []
    for i in range(n):
        channels = 1 if i % 4 == 3 else 3
        values = rng.integers(4, 12, (32, 16, channels)) * 16
        tiles.append(np.repeat(values, 2, 1).astype(np.uint8))
    return tiles


def shown(tiles: list[np.ndarray]) -> list[Shown]:
    return [Shown.of(tile) for tile in tiles]


def test_a_tuned_model_codes_its_source_smaller(tiny_model: bytes) -> None:
    """40 steps take a twentieth off tiles that were not trained on; what is coded decodes."""
    base, sample, others = Engine.open(tiny_model, device="cpu"), stripes(1, 24), stripes(2, 8)
    bits = [8.0 * len(payload) for payload in base.encode(sample)]
    model = tune(tiny_model, shown(sample), bits, Budget(40, 60.0), name="tuned")
    assert model is not None
    tuned = Engine.open(model, device="cpu")
    payloads = tuned.encode(others)
    assert sum(map(len, payloads)) < 0.95 * sum(map(len, base.encode(others)))
    for tile, decoded in zip(
        others, tuned.decode(payloads, [t.shape for t in others]), strict=True
    ):
        np.testing.assert_array_equal(tile, decoded)


def test_a_budget_for_a_few_steps_is_not_spent(tiny_model: bytes) -> None:
    """If the least number of steps does not fit into the time, tuning ends at once."""
    steps = []
    budget = Budget(1000, 60.0, min_steps=1_000_000)
    sample = shown(stripes(1, 4))
    model = tune(
        tiny_model, sample, [1.0] * 4, budget, name="x", on_step=lambda *s: steps.append(s)
    )
    assert model is None
    assert len(steps) < 10


@pytest.mark.parametrize("step", [1, 4])
def test_rounded_differences_are_multiples(tiny_model: bytes, step: int) -> None:
    """Exponents stay those of the base, mantissas differ by whole steps; the model is exact."""
    sample = stripes(1, 8)
    model = tune(tiny_model, shown(sample), [1.0] * 8, Budget(15, 60.0), name="tuned")
    assert model is not None
    near = ModelFile.from_bytes(rounded(model, tiny_model, step))
    base = ModelFile.from_bytes(tiny_model).tensors
    for name, tensor in near.tensors.items():
        moved = tensor.astype(np.int64) - base[name]
        if name.endswith("exponent"):
            assert not moved.any()
        elif f"{name.rpartition('.')[0]}.exponent" in base and name.endswith("weight"):
            inside = np.abs(tensor.astype(np.int64)) < 127
            assert not (moved[inside] % step).any()
    assert Engine.open(near.to_bytes(), device="cpu").name == "tuned"


def test_a_budget_that_ends_before_the_least_steps_gives_no_model(tiny_model: bytes) -> None:
    """However fast the first steps were, a model of too few steps is not offered."""
    sample = stripes(1, 4)
    budget = Budget(3, 60.0, min_steps=20)
    assert tune(tiny_model, shown(sample), [1.0] * len(sample), budget, name="short") is None


def test_a_model_tunes_on_deep_samples(high_depth_model: bytes) -> None:
    """40 steps take 3 % off planes of 16 bits that were not trained on; what is coded decodes."""
    rng = np.random.default_rng(6)
    bars = [rng.integers(4, 12, (32, 16)).repeat(2, 1) * 900 for _ in range(32)]
    planes = [(bar + rng.integers(0, 9, bar.shape)).astype(np.uint16) for bar in bars]
    base = Engine.open(high_depth_model, device="cpu")
    bits = [8.0 * len(payload) for payload in base.encode_high_depth(planes[:24])]
    model = tune(high_depth_model, shown(planes[:24]), bits, Budget(40, 60.0), name="tuned")
    assert model is not None
    tuned, others = Engine.open(model, device="cpu"), planes[24:]
    payloads = tuned.encode_high_depth(others)
    assert sum(map(len, payloads)) < 0.98 * sum(map(len, base.encode_high_depth(others)))
    back = tuned.decode_high_depth(payloads, [plane.shape for plane in others])
    assert all(map(np.array_equal, back, others))
