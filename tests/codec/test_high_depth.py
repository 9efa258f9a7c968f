"""Samples of more than 8 bits: their windows, their tiles, and that all decoders agree."""

from __future__ import annotations

from functools import lru_cache

import make_vectors
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.codec import tiles
from archiver.codec.ids import TileCodec
from archiver.codec.inference import high_depth_tiles
from archiver.codec.inference.engine import Engine
from archiver.codec.inference.native import NativeCoder
from archiver.codec.model import architecture, mixture, model_file, pretrained
from archiver.codec.model.high_depth import MAX_SHIFT, Window
from archiver.codec.reference import decoder, high_depth
from archiver.errors import ArchiverError, IntegrityError
from archiver.native import library


@lru_cache
def engine() -> Engine:
    return Engine.open(make_vectors.tiny_model(copies=2), device="cpu")


def plane(seed: int, height: int = 20, width: int = 23, *, noise: float = 30.0) -> np.ndarray:
    """A wave with noise, somewhere in 16 bits."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width]
    wave = rng.uniform(300, 60000) + 12 * noise * (np.sin(row / 5) + np.cos(column / 7))
    return np.clip(wave + rng.normal(0, noise, wave.shape), 0, 65535).astype(np.uint16)


CASES = {
    "12 bit": plane(1) % 4096,
    "16 bit, full range": np.random.default_rng(2).integers(0, 65536, (17, 19)).astype(np.uint16),
    "few steps": np.random.default_rng(3).integers(5, 8, (9, 12)).astype(np.uint16),
    "a multiple": (plane(4, noise=2) // 16 * 16).astype(np.uint16),
    "one column": plane(5, 30, 1),
    "one row": plane(6, 1, 30),
    "one pixel": np.array([[65535]], np.uint16),
    "two values": (np.random.default_rng(7).integers(0, 2, (8, 8)) * 65535).astype(np.uint16),
    "as large as a tile": plane(8, 128, 128, noise=700),
}


@pytest.mark.parametrize("name", CASES)
def test_every_plane_comes_back(name: str) -> None:
    samples = CASES[name]
    [payload] = engine().encode_high_depth([samples])
    [back] = engine().decode_high_depth([payload], [samples.shape])
    np.testing.assert_array_equal(back, samples)


def test_planes_of_all_kinds_decode_in_one_call() -> None:
    planes = list(CASES.values())
    payloads = engine().encode_high_depth(planes)
    back = engine().decode_high_depth(payloads, [p.shape for p in planes])
    assert all(map(np.array_equal, back, planes))


@pytest.mark.parametrize("copies", [0, 2])
@pytest.mark.parametrize("name", ["12 bit", "16 bit, full range", "a multiple", "one column"])
def test_the_reference_reads_what_the_fast_coder_writes(name: str, copies: int) -> None:
    """On every instruction set; NumPy in float64 shares no code with it."""
    model = make_vectors.tiny_model(copies)
    file, samples = model_file.ModelFile.from_bytes(model), CASES[name]
    window = Window.of(samples)
    cores = [core for core in map(library.load, library.supported()) if core]
    streams = {
        NativeCoder(file, core).encode_high_depth([window.values(samples)], [window])[0]
        for core in cores
    }
    assert len(streams) == 1
    payload = window.to_bytes() + streams.pop()
    reader = decoder.ReferenceModel.from_bytes(model)
    np.testing.assert_array_equal(high_depth.decode(payload, samples.shape, reader), samples)


@pytest.mark.parametrize("name", [pretrained.SMALL, pretrained.LARGE])
def test_shipped_models_agree_with_the_reference(name: str) -> None:
    model = pretrained.load(name)
    shipped, samples = Engine.open(model, device="cpu"), CASES["12 bit"]
    [payload] = shipped.encode_high_depth([samples])
    reader = decoder.ReferenceModel.from_bytes(model)
    np.testing.assert_array_equal(high_depth.decode(payload, samples.shape, reader), samples)
    np.testing.assert_array_equal(shipped.decode_high_depth([payload], [samples.shape])[0], samples)


def test_the_network_that_trains_is_the_network_that_codes() -> None:
    """Tensors of the training code and the loops of the coder give the same numbers."""
    net = engine().net
    for samples in (CASES["12 bit"], CASES["16 bit, full range"]):
        window = Window.of(samples)
        units = torch.from_numpy(window.units(window.values(samples)))[None, ..., None]
        outputs, base = net(units, architecture.HIGH_DEPTH)
        fast, fast_base = engine().coder.predict_high_depth(window.values(samples), window)
        np.testing.assert_array_equal(outputs[0].numpy(), fast)
        np.testing.assert_array_equal(base[0, ..., 0].numpy(), fast_base)


def test_coded_size_is_the_loss() -> None:
    samples = CASES["as large as a tile"]
    window = Window.of(samples)
    units = torch.from_numpy(window.units(window.values(samples)))[None, ..., None]
    ends = torch.from_numpy(window.units(np.array([[0, window.top]])))
    outputs, base = engine().net(units, architecture.HIGH_DEPTH)
    sizes = engine().net.architecture
    grain = torch.tensor([window.grain])
    bits = float(
        mixture.bits(
            outputs, base, mixture.Coded.of_high_depth(units, grain, ends, sizes), sizes
        ).sum()
    )
    [payload] = engine().encode_high_depth([samples])
    assert 8 * len(payload) == pytest.approx(bits, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_windows_fit_any_samples(data: st.DataObject) -> None:
    low = data.draw(st.integers(0, 65535))
    step = data.draw(st.integers(1, 300))
    count = data.draw(st.integers(1, 1 + (65535 - low) // step))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    samples = (low + step * rng.integers(0, count, (3, 5))).astype(np.uint16)
    window = Window.of(samples)
    assert Window.split(window.to_bytes() + b"rest") == (window, b"rest")
    values = window.values(samples)
    np.testing.assert_array_equal(window.samples(values), samples)
    assert 0 == values.min() <= values.max() == window.top < 16**window.digits
    assert 0 <= window.shift <= MAX_SHIFT


def test_what_is_added_to_all_samples_costs_nothing() -> None:
    samples = plane(9, 32, 32, noise=9) % 3000 + 1
    here, there = engine().encode_high_depth([samples, samples + 40000])
    assert len(here) == len(there)
    by_three = engine().encode_high_depth([samples * 3])[0]
    assert len(by_three) == len(here)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_of_16_bits_take_the_learned_codec(dtype: type, channels: int) -> None:
    flat = np.stack([plane(20 + c, 40, 40, noise=5) % 2000 for c in range(channels)], -1)
    tile = (flat.astype(np.int64) - (1000 if dtype == np.int16 else 0)).astype(dtype)
    payload = high_depth_tiles.encode([tile], engine())[0]
    [back] = tiles.decode([(TileCodec.LEARNED, payload)], [tile.shape], [tile.dtype], engine())
    assert back.dtype == tile.dtype
    np.testing.assert_array_equal(back, tile)


def test_a_model_without_the_port_leaves_them_to_others() -> None:
    old = make_vectors.tiny_model_of_before()
    without, tile = Engine.open(old, device="cpu"), plane(30, 40, 40)[..., None]
    [coded] = tiles.encode([tile], without)
    assert coded.codec != TileCodec.LEARNED
    with pytest.raises(IntegrityError, match="no port"):
        tiles.decode([(TileCodec.LEARNED, b"")], [tile.shape], [tile.dtype], without)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_payloads_are_refused_or_decode_to_something(data: st.DataObject) -> None:
    """No damage crashes or hangs: it is an error, or samples (a CRC tells them apart)."""
    samples = np.stack([plane(40, 9, 9), plane(41, 9, 9), plane(42, 9, 9)], -1)
    damaged = bytearray(high_depth_tiles.encode([samples], engine())[0])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        [back] = high_depth_tiles.decode([cut], [samples.shape], engine())
    except ArchiverError:
        return
    assert back.shape == samples.shape
