"""Fitting heads: features are those of the network, and what is learned pays in real bytes."""

from __future__ import annotations

import make_vectors
import numpy as np
import pytest
import torch

from archiver.codec.inference.engine import Engine
from archiver.codec.inference.tensor_coder import TensorCoder
from archiver.codec.model import pretrained
from archiver.codec.model.batches import Batch, Shown
from archiver.codec.model.high_depth import Window
from archiver.codec.tuning import heads


def weave(channels: int, side: int = 96) -> np.ndarray:
    """Return an image like none that a model was trained on, (H, W, C)."""
    rng = np.random.default_rng(channels)
    noise = rng.normal(0, 9, (side, side + 8))
    woven = 120 + noise[:, 8:] + 0.9 * noise[:, :-8] + 0.5 * np.roll(noise[:, 8:], 2, 0)
    planes = [woven, 255 - woven / 2, woven / 3 + rng.normal(60, 2, woven.shape)][:channels]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_the_network(channels: int) -> None:
    engine = Engine.open(make_vectors.tiny_model(copies=2), device="cpu")
    tiles = np.stack([weave(channels, 20), weave(channels, 20)[::-1]])
    with torch.no_grad():
        expected = engine.net.features(torch.from_numpy(tiles.astype(np.float32)))
    for coder in (engine.coder, TensorCoder(engine.net)):
        levels, base = coder.features(tiles)
        assert levels.dtype == np.int8
        np.testing.assert_array_equal(levels, expected[0].numpy())
        np.testing.assert_array_equal(base, expected[1].numpy())


@pytest.mark.parametrize(("channels", "by_tensors"), [(1, False), (3, False), (1, True)])
def test_fitted_heads_pay_for_themselves(channels: int, by_tensors: bool) -> None:
    """As a CPU computes the features, and as a GPU does."""
    torch.set_num_threads(1)
    engine = Engine.open(pretrained.load(pretrained.SMALL), device="cpu")
    if by_tensors:
        engine.coder = TensorCoder(engine.net)
    image = weave(channels)
    learned = heads.adapt(engine, list(Shown.of(image).cut(32)), 2)
    adapter = learned.adapter.to_bytes()
    [before], [after] = engine.encode([image]), engine.adapted(adapter).encode([image])
    assert len(after) + len(adapter) < len(before)
    assert learned.before == pytest.approx(8 * len(before), rel=0.05)
    assert learned.share == pytest.approx(len(after) / len(before), abs=0.02)


def test_heads_are_fitted_to_deep_samples() -> None:
    torch.set_num_threads(1)
    engine = Engine.open(pretrained.load(pretrained.SMALL), device="cpu")
    plane = weave(1, 128)[..., 0].astype(np.uint16) * 4
    plane += np.random.default_rng(1).integers(0, 4, plane.shape).astype(np.uint16)
    learned = heads.adapt(engine, list(Shown.of(plane).cut(32)), 2, scale=4.0)  # of a larger image
    adapter = learned.adapter.to_bytes()
    adapted = engine.adapted(adapter)
    [before], [after] = engine.encode_high_depth([plane]), adapted.encode_high_depth([plane])
    assert 4 * len(after) + len(adapter) < 4 * len(before)
    assert learned.before == pytest.approx(8 * len(before), rel=0.1)
    np.testing.assert_array_equal(adapted.decode_high_depth([after], [plane.shape])[0], plane)


def test_patches_of_several_kinds_and_a_bound_on_time() -> None:
    engine = Engine.open(make_vectors.tiny_model(copies=2), device="cpu")
    deep = Shown.through(
        Window.of(plane := np.arange(1024, dtype=np.uint16).reshape(32, 32)), plane
    )
    patches = [Shown.of(weave(1, 32)), Shown.of(weave(3, 32)), deep]
    assert {pixels.kind for pixels in heads.pixels_of(engine, patches)} == {"grey", "rgb", "deep"}
    learned = heads.adapt(engine, patches, 1, seconds=0.0)
    engine.adapted(learned.adapter.to_bytes())
    assert not heads.adapt(engine, [], 1).factors
    assert not heads.adapt(engine, patches, 1, most_bits=learned.before / 2).factors
    assert Batch.of([deep]).n_pixels == 1024
