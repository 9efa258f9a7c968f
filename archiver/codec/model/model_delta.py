"""Model files that hold the difference to another model: archive models are stored so.

A tuned network differs from its base in few weights, and there by little.  Layout (FORMAT.md,
"Model file", version 2): prefix and CRC-32C as in a whole model; the header names the ``base`` by
SHA-256 and has no tensors, because they are those of the base; the body is one zstd frame of all
differences, zigzag, by width (i1, i2, i4) and as byte planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import zstandard

from archiver.codec.classic import inflate
from archiver.codec.model import model_file
from archiver.codec.model.model_file import Integers, ModelFile, Tensors
from archiver.errors import FormatError, IntegrityError

LEVEL = 19
_WIDTHS = (1, 2, 4)  # bytes; the order of the groups on disk

LoadBase = Callable[[str], bytes]  # SHA-256 in hexadecimal -> the bytes of that model file


def is_difference(data: bytes) -> bool:
    """Whether a model file holds a difference; FormatError if it is no model file."""
    return model_file.version_of(data) == model_file.DELTA_VERSION


def difference(model: bytes, base: bytes) -> bytes:
    """Return ``model`` as a file that names ``base`` and expands to exactly ``model``.

    FormatError if the two are not networks of one architecture, or ``base`` is a difference.
    """
    tuned, known = ModelFile.from_bytes(model), ModelFile.from_bytes(base)
    if _shapes(tuned.tensors) != _shapes(known.tensors):
        raise FormatError(f"model {tuned.name}: has other tensors than its base {known.name}")
    header = {
        "base": model_file.digest(base),
        "name": tuned.name,
        "self_test": tuned.self_test,
        "card": tuned.card,
    }
    # with its size: a decoder that is written from FORMAT.md need not know it beforehand
    frame = zstandard.ZstdCompressor(LEVEL).compress(_subtracted(tuned.tensors, known.tensors))
    stored = model_file.seal(model_file.DELTA_VERSION, header, frame)
    if expand(stored, lambda sha256: base) != model:
        raise IntegrityError(
            f"model {tuned.name}: its difference does not read back; test this machine's memory"
        )
    return stored


def expand(data: bytes, load_base: LoadBase) -> bytes:
    """Return the whole model of a model file: ``data`` itself unless it is a difference.

    IntegrityError if file or base are damaged, FormatError if they are no models of ours.
    """
    if not is_difference(data):
        return data
    header, frame = model_file.unseal(data, model_file.DELTA_VERSION)
    try:
        name, self_test = str(header["name"]), str(header["self_test"])
        sha256, card = str(header["base"]), dict(header["card"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"model file: header of a difference is incomplete: {error}") from error
    base = load_base(sha256)
    if model_file.digest(base) != sha256:
        raise IntegrityError(f"model {name}: its base is not the model {sha256}; restore that")
    known = ModelFile.from_bytes(base)
    tensors = _added(frame, known.tensors)
    return ModelFile(name, known.architecture, tensors, self_test, card).to_bytes()


def _shapes(tensors: Tensors) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(name, t.dtype.itemsize, t.shape) for name, t in tensors.items()]


def _groups(tensors: Tensors) -> list[tuple[int, list[str]]]:
    """Return (bytes of an element, names of tensors) of each group, in the order on disk."""
    return [
        (width, [name for name, t in tensors.items() if t.dtype.itemsize == width])
        for width in _WIDTHS
    ]


def _subtracted(tensors: Tensors, base: Tensors) -> bytes:
    parts = []
    for width, names in _groups(base):
        differences = [_flat(tensors[n], width) - _flat(base[n], width) for n in names]
        d = np.concatenate([np.zeros(0, f"<i{width}"), *differences])
        zigzag = (d << 1) ^ (d >> (8 * width - 1))
        parts.append(np.ascontiguousarray(zigzag.view(np.uint8).reshape(-1, width).T).tobytes())
    return b"".join(parts)


def _added(frame: bytes, base: Tensors) -> Tensors:
    """Return the tensors of a difference, in the order of the base."""
    data = inflate(frame, sum(t.nbytes for t in base.values()))
    start, tensors = 0, {}
    for width, names in _groups(base):
        count = sum(base[name].size for name in names)
        planes = np.frombuffer(data, np.uint8, width * count, start).reshape(width, count)
        start += width * count
        zigzag = np.ascontiguousarray(planes.T).reshape(-1).view(f"<u{width}")
        # modulo 2**(8 width), as all that follows: numpy's integers wrap around
        d = ((zigzag >> 1) ^ (~(zigzag & 1) + 1)).view(f"<i{width}")
        taken = 0
        for name in names:
            shape = base[name].shape
            steps = d[taken : taken + math.prod(shape)].reshape(shape)
            tensors[name] = base[name] + steps
            taken += math.prod(shape)
    return {name: tensors[name] for name in base}


def _flat(tensor: Integers, width: int) -> Integers:
    return tensor.astype(f"<i{width}", copy=False).reshape(-1)
