"""Fine-tuning on a dataset: a model file comes out that codes such data smaller, exactly."""

from __future__ import annotations

import numpy as np

from archiver.codec.engine import Engine
from archiver.codec.finetune import Budget, finetune


def stripes(seed: int, n: int) -> list[np.ndarray]:
    """Tiles of a source that no general model knows: values in steps of 16, columns in pairs."""
    rng = np.random.default_rng(seed)
    tiles = []
    for i in range(n):
        channels = 1 if i % 4 == 3 else 3
        values = rng.integers(4, 12, (32, 16, channels)) * 16
        tiles.append(np.repeat(values, 2, 1).astype(np.uint8))
    return tiles


def test_a_tuned_model_codes_its_source_smaller(tiny_model: bytes) -> None:
    """40 steps take a twentieth off tiles that were not trained on; what is coded decodes."""
    base, sample, others = Engine.open(tiny_model, device="cpu"), stripes(1, 24), stripes(2, 8)
    bits = [8.0 * len(payload) for payload in base.encode(sample)]
    model = finetune(tiny_model, sample, bits, Budget(40, 60.0), name="tuned")
    tuned = Engine.open(model, device="cpu")
    payloads = tuned.encode(others)
    assert sum(map(len, payloads)) < 0.95 * sum(map(len, base.encode(others)))
    for tile, decoded in zip(
        others, tuned.decode(payloads, [t.shape for t in others]), strict=True
    ):
        np.testing.assert_array_equal(tile, decoded)
