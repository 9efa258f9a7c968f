"""The layers of a model file in whole numbers, as products take them; every bound is proven first.

No sum of a layer leaves the range in which float32, and whole numbers of 32 bits, are exact
(`grid`), whatever the samples are: :func:`check` refuses a file of which that is not certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.codec.model import architecture, limits, taps
from archiver.codec.model.architecture import Architecture
from archiver.codec.model.model_file import Integers, ModelFile
from archiver.errors import FormatError

Shape = tuple[int, ...]
KERNEL = (taps.KERNEL_ROWS, taps.KERNEL_COLUMNS)
BLOCK_LAYERS = ("attend", "value", "depthwise", "project", "expand", "contract")
STREAM_LAYERS = ("project", "contract")  # they add to the residual stream


@dataclass(frozen=True)
class Layer:
    """Weights (n_out, n_in) int8 times ``scale`` (n_out,), powers of two, plus ``bias`` in levels.

    Of a kernel n_in runs over its causal taps, and over the input's channels within each.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


def layer(file: ModelFile, name: str) -> Layer:
    """Return one layer of a file that was checked."""
    weight = file.tensors[f"{name}.weight"]
    if weight.ndim == len(KERNEL) + 2:
        weight = _taps(weight, strict=not name.endswith("depthwise"))
    return Layer(
        np.ascontiguousarray(weight, np.int8),
        np.exp2(file.tensors[f"{name}.exponent"].astype(np.float32)),
        file.tensors[f"{name}.bias"].astype(np.float32) * np.float32(limits.STEP),
    )


def base_mantissas(file: ModelFile, port: str) -> NDArray[np.int16]:
    """Return the base predictor of a port, (C, taps * C), in steps of 2**-10."""
    weight = _taps(file.tensors[f"ports.{port}.base.weight"], strict=True)
    return np.ascontiguousarray(weight, np.int16)


def _taps(kernel: Integers, *, strict: bool) -> Integers:
    """Return the causal taps of a kernel (n_out, n_in, 4, 7) as (n_out, taps * n_in)."""
    seen = np.stack([kernel[..., r, c] for r, c in taps.causal_taps(strict=strict)], 1)
    return seen.reshape(len(kernel), -1)


def check(file: ModelFile) -> None:
    """Raise FormatError unless the file has all layers of its architecture, each of them exact."""
    for name, shape in _shapes(file.architecture):
        weight = _tensor(file, f"{name}.weight", shape)
        is_base = name.endswith(".base")
        strict = not name.endswith("depthwise")
        seen = (_taps(weight, strict=strict) if weight.ndim > 2 else weight).astype(np.float64)
        if is_base:
            check_bounds(name, seen * 2.0**-architecture.BASE_BITS, 0.0)
            continue
        exponent = _tensor(file, f"{name}.exponent", shape[:1])
        bias = _tensor(file, f"{name}.bias", shape[:1])
        if weight.min() < -limits.WEIGHT:
            raise FormatError(f"model layer {name}: a weight is off the grid")
        if exponent.min() < limits.MIN_EXPONENT or exponent.max() > limits.MAX_EXPONENT:
            raise FormatError(f"model layer {name}: a weight exponent is off the grid")
        carried = limits.STREAM_LIMIT if name.endswith(STREAM_LAYERS) else 0.0
        scaled = seen * np.exp2(exponent.astype(np.float64))[:, None]
        check_bounds(name, scaled, carried + np.abs(bias.astype(np.float64)) * limits.STEP)


def _shapes(sizes: Architecture) -> Iterator[tuple[str, Shape]]:
    """Yield the layers of an architecture with the shapes of their weights."""
    dim, wide = sizes.dim, sizes.hidden * sizes.dim
    of_block: dict[str, Shape] = dict.fromkeys(BLOCK_LAYERS, (dim, dim))
    of_block |= {"depthwise": (dim, 1, *KERNEL), "expand": (wide, dim), "contract": (dim, wide)}
    for number in range(sizes.blocks):
        for name, shape in of_block.items():
            yield f"blocks.{number}.{name}", shape
    for port, channels in architecture.ports_of(sizes).items():
        yield f"ports.{port}.base", (channels, channels, *KERNEL)
        yield f"ports.{port}.embed", (dim, architecture.n_planes(channels), *KERNEL)
        yield f"ports.{port}.head", (architecture.n_outputs(channels, sizes), dim)


def _tensor(file: ModelFile, name: str, shape: Shape) -> Integers:
    array = file.tensors.get(name)
    if array is None or array.shape != shape:
        held = None if array is None else array.shape
        raise FormatError(f"model tensor {name}: expected shape {shape}, found {held}")
    return array


def check_bounds(
    name: str, weight: NDArray[np.floating], fixed: float | NDArray[np.floating]
) -> None:
    """Raise FormatError if a row's sum, with what is ``fixed`` in it, could leave the range."""
    bound = float((np.abs(weight).sum(1) * (limits.LEVEL + 1) + fixed).max())
    if bound > limits.EXACT_LIMIT:
        raise FormatError(
            f"model layer {name}: a sum can reach {bound:.0f} levels, exact up to "
            f"{limits.EXACT_LIMIT:.0f}; the model file is damaged or was exported without its "
            "bound check"
        )
