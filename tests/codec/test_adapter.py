"""Adapters: their bytes, their bounds, and that everything that decodes them builds one network."""

from __future__ import annotations

import contextlib
from functools import lru_cache

import make_vectors
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained
from archiver.codec.model.adapter import Adapter, Ranks, factor_shapes
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.codec.model.batches import Shown
from archiver.codec.reference import decoder
from archiver.codec.tuning import factors, rpft
from archiver.errors import ArchiverError, FormatError, IntegrityError
from archiver.native import library

RANKS = (Ranks(2, 1), Ranks(1, 0, 2))


@pytest.fixture(scope="module", params=["copying", pretrained.SMALL])
def model(request: pytest.FixtureRequest) -> bytes:
    if request.param == "copying":
        return make_vectors.tiny_model(copies=2)
    return pretrained.load(request.param)


@lru_cache
def tiny_engine() -> Engine:
    return Engine.open(make_vectors.tiny_model(copies=2), device="cpu")


def random_adapter(engine: Engine, seed: int, ranks: Ranks, spread: float = 1.5) -> Adapter:
    rng = np.random.default_rng(seed)
    shapes = factor_shapes(engine.net.architecture, ranks)
    factors = {
        name: rng.normal(0, spread * rng.integers(0, 3), shape).round().astype(np.int8)
        for name, shape in shapes.items()
    }
    return Adapter(ranks, factors)


def picture(seed: int, height: int = 48, width: int = 56) -> np.ndarray:
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width]
    wave = 60 * np.sin(row / 5)[..., None] * np.cos(column / 7)[..., None] + [90, 120, 140]
    return (wave + rng.integers(0, 9, wave.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "ranks", [Ranks(), Ranks(1, 2), Ranks(16, 16), Ranks(2, 3, 4), Ranks(0, 0, 2), Ranks(0, 1, 16)]
)
def test_an_adapter_survives_its_bytes(model: bytes, ranks: Ranks) -> None:
    engine = Engine.open(model, device="cpu")
    adapter = random_adapter(engine, 3, ranks)
    back = Adapter.from_bytes(adapter.to_bytes(), engine.net.architecture)
    assert back.ranks == ranks
    for name, values in adapter.factors.items():
        np.testing.assert_array_equal(back.factors[name], values)


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(0, 0, 2)])
def test_an_adapter_of_zeros_costs_a_byte_a_factor_and_changes_nothing(
    model: bytes, ranks: Ranks
) -> None:
    engine = Engine.open(model, device="cpu")
    shapes = factor_shapes(engine.net.architecture, ranks)
    nothing = Adapter(ranks, {n: np.zeros(s, np.int8) for n, s in shapes.items()})
    data = nothing.to_bytes()
    assert nothing.is_zero
    assert len(data) == len(ranks.to_bytes()) + len(shapes)
    tile = picture(1)
    assert engine.adapted(data).encode([tile]) == engine.encode([tile])


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(3, 2, 4)])
def test_every_coder_builds_the_same_adapted_network(
    model: bytes, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core, tensors, and NumPy in float64, an adapted tile is one and the same."""
    engine = Engine.open(model, device="cpu")
    adapter = random_adapter(engine, 7, ranks).to_bytes()
    tile = picture(2, 24, 31)
    [payload] = engine.adapted(adapter).encode([tile])
    assert [payload] != engine.encode([tile])
    reader = decoder.ReferenceModel.from_bytes(model).adapted(adapter)
    np.testing.assert_array_equal(decoder.decode(payload, tile.shape, reader), tile)
    monkeypatch.setattr(library, "instruction_set", lambda: None)
    floats = Engine.open(model, device="cpu").adapted(adapter)
    np.testing.assert_array_equal(floats.decode([payload], [tile.shape])[0], tile)


def test_increments_that_break_a_bound_are_refused(model: bytes) -> None:
    engine = Engine.open(model, device="cpu")
    shapes = factor_shapes(engine.net.architecture, Ranks(16, 16, 16))
    huge = Adapter(Ranks(16, 16, 16), {n: np.full(s, 127, np.int8) for n, s in shapes.items()})
    with pytest.raises(FormatError, match="a sum can reach"):
        engine.adapted(huge.to_bytes())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_adapters_are_refused_or_harmless(data: st.DataObject) -> None:
    """No damage crashes, hangs or takes memory: it is an error, or another valid adapter."""
    engine = tiny_engine()
    damaged = bytearray(random_adapter(engine, 5, data.draw(st.sampled_from(RANKS))).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    shortened = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(ArchiverError):
        engine.adapted(shortened)


def test_adaptation_survives_its_bytes() -> None:
    record = AdapterRecord(b"adapter", 123456, 1.5, (1.0, 0.96875, 0.5))
    data = record.to_bytes()
    assert AdapterRecord.from_bytes(data) == record
    for end in range(len(data)):
        with pytest.raises(IntegrityError):
            AdapterRecord.from_bytes(data[:end])
    with pytest.raises(FormatError, match="version 9"):
        AdapterRecord.from_bytes(b"\x09" + data[1:])


@pytest.mark.slow
def test_fine_tuning_pays_for_itself(model: bytes) -> None:
    """An image unlike the training data gets smaller, its adapter included."""
    torch.set_num_threads(1)
    engine = Engine.open(model, device="cpu")
    image = np.tile(picture(4, 64, 64), (2, 2, 1))
    passes: list[rpft.Pass] = []
    how = rpft.Settings(passes=12, ranks=Ranks(2, 2))
    adapter = rpft.adapt(engine.net, list(Shown.of(image).cut(rpft.PATCH)), how, passes.append)
    data = adapter.to_bytes()
    [before], [after] = engine.encode([image]), engine.adapted(data).encode([image])
    assert len(after) + len(data) < len(before)
    assert [stated.number for stated in passes] == list(range(1, 13))
    np.testing.assert_array_equal(engine.adapted(data).decode([after], [image.shape])[0], image)


@pytest.mark.parametrize("value", [0.0, 1.0, 5.0, -13.0, 14.0, 127.0, -1e6])
@pytest.mark.parametrize("rest", [0.0, 200.0])
def test_a_price_is_finite_and_pulls_towards_zero(value: float, rest: float) -> None:
    """Also of a value that its scale did not expect; the gradient never points away from zero."""
    factor = torch.full((4096,), rest)
    factor[0] = value
    factor.requires_grad_()
    price = factors.price([factor], torch.Generator().manual_seed(0))
    price.backward()
    assert torch.isfinite(price)
    assert factor.grad is not None
    assert torch.isfinite(factor.grad).all()
    assert (factor.grad[0] * value) >= 0 or abs(value) < 1


def test_a_price_is_what_storing_takes(model: bytes) -> None:
    """Of factors of whole steps, within a fifth: noise stands for rounding."""
    engine = Engine.open(model, device="cpu")
    adapter = random_adapter(engine, 3, RANKS[0])
    values = [torch.from_numpy(v.astype(np.float32)) for v in adapter.factors.values()]
    noise = torch.Generator().manual_seed(1)
    priced = sum(float(factors.price([v], noise)) for v in values for _ in range(4)) / 4
    assert abs(priced / (8 * len(adapter.to_bytes())) - 1) < 0.2


def test_the_share_of_patches_grows_to_all() -> None:
    how = rpft.Settings(passes=50)
    shares = [rpft.share(how, t) for t in range(50)]
    assert shares[0] == how.first_share
    assert shares == sorted(shares)
    assert shares[44] < 1.0
    assert set(shares[45:]) == {1.0}
    assert {rpft.share(rpft.Settings(progressive=False), t) for t in range(50)} == {1.0}
