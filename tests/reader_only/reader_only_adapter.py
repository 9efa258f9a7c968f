"""The section "Adapter" of FORMAT.md, in Python's integers: a model with its increments."""

from __future__ import annotations

from reader_only_learned import frequencies, mixture
from reader_only_network import CAUSAL, Model, Values
from reader_only_range_coder import RangeDecoder, clip, nearest


def adapted(model: Model, adapter: bytes) -> Model:
    """Return the model with the increments of an adapter."""
    start = 3 if adapter[0] == 1 else 4
    layers = layers_of(model, *adapter[1:3], adapter[3] if start == 4 else 0)
    shapes = []
    for name, rank, inputs in layers:
        outputs = model.shapes[f"{name}.weight"][0]
        shapes += [(outputs, rank), (rank, inputs)] + [(outputs, 1)] * name.endswith("head")
    codes = list(adapter[start : start + len(shapes)])
    sizes = [rows * columns for rows, columns in shapes]
    values = iter(values_of(adapter[start + len(shapes) :], codes, sizes))
    merged = Model(model.sizes, model.shapes, dict(model.tensors))
    factors = [[[next(values) for _ in range(n)] for _ in range(m)] for m, n in shapes]
    for name, rank, inputs in layers:
        u, v = factors.pop(0), factors.pop(0)
        signs = iter(signs_of(rank * inputs))
        v = [[x + 8 * next(signs) for x in row] for row in v]  # in 1/32, as u
        columns = list(zip(*v, strict=True))
        step = [[sum(map(int.__mul__, row, column)) for column in columns] for row in u]
        put(merged, name, step)
        if name.endswith("head"):
            pairs = zip(model.tensors[f"{name}.bias"], factors.pop(0), strict=True)
            merged.tensors[f"{name}.bias"] = [clip(bias + 128 * b, 2**21) for bias, (b,) in pairs]
    return merged


def layers_of(model: Model, matrix: int, kernel: int, head: int) -> list[tuple[str, int, int]]:
    """Return name, rank and inputs of the layers that have increments."""
    dim, layers = model.sizes["dim"], []
    for i in range(model.sizes["blocks"]):
        layers += [(f"blocks.{i}.{name}", matrix, dim) for name in ("attend", "value", "expand")]
        layers.append((f"blocks.{i}.depthwise", kernel, len(CAUSAL)))
    ports = ["grey", "rgb"] + ["deep"] * model.sizes.get("deep", 0)
    layers += [(f"ports.{port}.head", head, dim) for port in ports]
    return [layer for layer in layers if layer[1]]


def values_of(stream: bytes, codes: Values, sizes: Values) -> Values:
    """Return the values of all factors, one factor after the other."""
    decoder, values, places, counts = RangeDecoder(stream), [], [], []
    for code, size in zip(codes, sizes, strict=True):
        if code:
            places += range(len(values), len(values) + size)
            counts += [mixture([0], [0], [code - 81])] * size
        values += [0] * size
    high = [decoder.digit(frequencies(count, 0, 16)) for count in counts]
    for place, count, digit in zip(places, counts, high, strict=True):
        low = decoder.digit(frequencies(count, 16 * digit, 1))
        values[place] = 16 * digit + low - 128
    return values


def signs_of(n: int) -> Values:
    """Return the signs of P, row by row."""
    state, signs = 1, []
    for _ in range(n):
        state = (1103515245 * state + 12345) % 2**31
        signs.append(1 if state >= 2**30 else -1)
    return signs


def put(model: Model, name: str, increment: list[Values]) -> None:
    """Add an increment, in 1/1024, to the weights of a layer; its rows get new exponents."""
    mantissas, exponents = [], []
    for row, steps in zip(model.rows(name), increment, strict=True):
        places = CAUSAL if name.endswith("depthwise") else range(len(row))
        for place, step in zip(places, steps, strict=True):
            row[place] += step
        largest = max(map(abs, row))
        e = next((e for e in range(-10, 5) if largest <= 127 << e + 10), 4)
        exponents.append(e)
        mantissas += [clip(nearest(w, 1 << e + 10), 127) for w in row]
    model.tensors[f"{name}.weight"] = mantissas
    model.tensors[f"{name}.exponent"] = exponents
