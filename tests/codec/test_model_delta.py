"""Models stored as differences: exact, small, refused when they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archiver.codec.inference.engine import Engine
from archiver.codec.model import model_delta, model_file
from archiver.codec.model.model_file import ModelFile
from archiver.errors import ArchiverError, FormatError, IntegrityError


@pytest.fixture
def tuned(tiny_model: bytes, rng: np.random.Generator) -> bytes:
    """The tiny model with every integer moved: most by little, some across the whole range."""
    file = ModelFile.from_bytes(tiny_model)
    tensors = {}
    for name, tensor in file.tensors.items():
        moved = tensor + rng.integers(-2, 3, tensor.shape).astype(tensor.dtype)
        limits = np.iinfo(tensor.dtype)
        moved.flat[0], moved.flat[-1] = limits.min, limits.max
        tensors[name] = moved
    return replace(file, name="tuned", tensors=tensors, card={"gain": 0.123456789}).to_bytes()


def test_a_difference_expands_to_the_same_bytes(tiny_model: bytes, tuned: bytes) -> None:
    """Whatever the tensors hold; a whole model expands to itself."""
    stored = model_delta.difference(tuned, tiny_model)
    assert model_delta.is_difference(stored)
    assert not model_delta.is_difference(tuned)
    asked = []
    assert model_delta.expand(stored, lambda sha: asked.append(sha) or tiny_model) == tuned
    assert asked == [model_file.digest(tiny_model)]
    assert model_delta.expand(tuned, lambda sha: pytest.fail("needs no base")) == tuned


def test_no_difference_costs_little(tiny_model: bytes) -> None:
    """A model that equals its base takes its header and some bytes; it codes like the base."""
    same = replace(ModelFile.from_bytes(tiny_model), name="same").to_bytes()
    stored = model_delta.difference(same, tiny_model)
    assert len(stored) < 400
    expanded = model_delta.expand(stored, lambda sha: tiny_model)
    assert Engine.open(expanded, device="cpu").name == "same"


def test_a_wrong_base_is_refused(tiny_model: bytes, tuned: bytes) -> None:
    """Another file than the one named, a difference as a base, a network of another shape."""
    stored = model_delta.difference(tuned, tiny_model)
    with pytest.raises(IntegrityError, match="base"):
        model_delta.expand(stored, lambda sha: tuned)
    with pytest.raises(FormatError, match="difference"):
        model_delta.difference(tuned, stored)
    header, frame = model_file.unseal(stored, model_file.DELTA_VERSION)
    header["base"] = model_file.digest(stored)
    chained = model_file.seal(model_file.DELTA_VERSION, header, frame)
    with pytest.raises(FormatError, match="difference"):
        model_delta.expand(chained, lambda sha: stored)
    file = ModelFile.from_bytes(tuned)
    fewer = dict(list(file.tensors.items())[1:])
    with pytest.raises(FormatError, match="other tensors"):
        model_delta.difference(replace(file, tensors=fewer).to_bytes(), tiny_model)


def test_a_difference_is_no_model_by_itself(tiny_model: bytes, tuned: bytes) -> None:
    """Opening it without its base says what it is."""
    with pytest.raises(FormatError, match="difference to another model"):
        Engine.open(model_delta.difference(tuned, tiny_model), device="cpu")


def test_damage_is_an_error_of_ours(
    tiny_model: bytes, tuned: bytes, rng: np.random.Generator
) -> None:
    """Flipped bytes, cuts, and bodies under a valid CRC: refused, never another model."""
    stored = model_delta.difference(tuned, tiny_model)
    for place in rng.integers(0, len(stored), 40):
        damaged = bytearray(stored)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ArchiverError):
            model_delta.expand(bytes(damaged), lambda sha: tiny_model)
    header, frame = model_file.unseal(stored, model_file.DELTA_VERSION)
    for body in (b"", frame[:-40], b"\0" * 64):
        sealed = model_file.seal(model_file.DELTA_VERSION, header, body)
        with pytest.raises(ArchiverError):
            model_delta.expand(sealed, lambda sha: tiny_model)
    for missing in header:
        rest = {key: value for key, value in header.items() if key != missing}
        sealed = model_file.seal(model_file.DELTA_VERSION, rest, frame)
        with pytest.raises(FormatError, match="incomplete"):
            model_delta.expand(sealed, lambda sha: tiny_model)
