"""The model file: named integer tensors, their grids, and the digest that identifies them.

Layout (FORMAT.md, "Model file"; all numbers little-endian)::

    offset  size  field
    0       8     magic  "ARCMODEL"
    8       2     version, 3
    10      2     reserved, 0
    12      4     length J of the header
    16      J     header, UTF-8 JSON
    16+J    ...   one zstd frame of the tensors in the order of the header: int8 mantissas, int8
                  exponents, int32 biases
    end-4   4     CRC-32C of everything before

Version 1 has the tensors without zstd; version 2 keeps the difference to another model:
`model_delta`.  No pickle.  Loading proves the exactness bound of every row
(:mod:`archiver.codec.model.grid`).
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, field, replace
from typing import Any

import google_crc32c
import numpy as np
import zstandard
from numpy.typing import NDArray

from archiver.codec.classic import inflate
from archiver.codec.model.architecture import COPIED, Architecture
from archiver.errors import FormatError, IntegrityError

MAGIC = b"ARCMODEL"
PLAIN_VERSION, DELTA_VERSION, VERSION = 1, 2, 3
_LEVEL = 9  # of zstd: weights are noise, the highest gains a thousandth
_MAX_BYTES = 1 << 26  # of all tensors
_PREFIX = struct.Struct("<8sHHI")
Integers = NDArray[np.signedinteger[Any]]
_DTYPES: dict[str, np.dtype[np.signedinteger[Any]]] = {
    "i1": np.dtype("i1"),
    "i2": np.dtype("<i2"),
    "i4": np.dtype("<i4"),
}
_MAX_DIM, _MAX_BLOCKS, _MAX_HIDDEN, _MAX_MIXTURES = 512, 16, 8, 5
Tensors = dict[str, Integers]


@dataclass(frozen=True)
class ModelFile:
    """A parsed model file.  ``self_test`` is the digest of its known-answer test."""

    name: str
    architecture: Architecture
    tensors: Tensors
    self_test: str = ""
    card: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Serialise; the same content always gives the same bytes."""
        header = {
            "name": self.name,
            "architecture": self.architecture.to_json(),
            "self_test": self.self_test,
            "card": self.card,
            "tensors": [[k, _code(v), list(v.shape)] for k, v in self.tensors.items()],
        }
        tensors = b"".join(v.astype(_DTYPES[_code(v)]).tobytes() for v in self.tensors.values())
        return seal(VERSION, header, zstandard.ZstdCompressor(_LEVEL).compress(tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelFile:
        """Parse a model file; IntegrityError if damaged, FormatError if not ours or too new."""
        header, body = unseal(data, PLAIN_VERSION, VERSION)
        try:
            if version_of(data) == VERSION:
                body = inflate(body, _n_bytes(header))
            tensors = _tensors(header, body)
            architecture = Architecture.from_json(header["architecture"])
            name, self_test = str(header["name"]), str(header["self_test"])
            card = dict(header["card"])
            _check_sizes(architecture)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"model file: header does not describe its tensors: {error}"
            ) from error
        return cls(name, architecture, tensors, self_test, card)


def _n_bytes(header: dict[str, Any]) -> int:
    """Return what the tensors of a header take; ValueError if that is more than any model has."""
    n_bytes = 0
    for _, code, shape in header["tensors"]:
        n_bytes += math.prod(int(side) for side in shape) * _DTYPES[code].itemsize
    if not 0 <= n_bytes <= _MAX_BYTES:
        raise ValueError(f"tensors of {n_bytes} bytes")
    return n_bytes


def _tensors(header: dict[str, Any], body: bytes) -> Tensors:
    offset, tensors = 0, {}
    for name, code, shape in header["tensors"]:
        if name in tensors:
            raise ValueError(f"tensor {name} is named twice")
        count = math.prod(shape)
        tensors[name] = np.frombuffer(body, _DTYPES[code], count, offset).reshape(shape)
        offset += count * _DTYPES[code].itemsize
    return tensors


def digest(data: bytes) -> str:
    """Return the SHA-256 (hex) that names a model file."""
    return hashlib.sha256(data).hexdigest()


def _code(array: Integers) -> str:
    return f"i{array.dtype.itemsize}"


def with_card(data: bytes, card: dict[str, Any]) -> bytes:
    """Return the same model with another card."""
    return replace(ModelFile.from_bytes(data), card=card).to_bytes()


def seal(version: int, header: dict[str, Any], body: bytes) -> bytes:
    """Return a model file of that version: prefix, header, body, CRC-32C."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    whole = _PREFIX.pack(MAGIC, version, 0, len(text)) + text + body
    return whole + struct.pack("<I", google_crc32c.value(whole))


def version_of(data: bytes) -> int:
    """Return the version of a model file; FormatError if it is none."""
    if len(data) < _PREFIX.size + 4 or data[:8] != MAGIC:
        raise FormatError("model file: does not start with ARCMODEL; this is not a model file")
    version: int = _PREFIX.unpack_from(data)[1]
    return version


def unseal(data: bytes, *versions: int) -> tuple[dict[str, Any], bytes]:
    """Return header and body of a model file of one of those versions.

    IntegrityError if it is damaged, FormatError if it is not ours or of another version.
    """
    version = version_of(data)
    kinds = dict.fromkeys((PLAIN_VERSION, VERSION), "a whole model")
    kinds[DELTA_VERSION] = "the difference to another model"
    if version not in versions and version in kinds:
        raise FormatError(f"model file: holds {kinds[version]}, expected {kinds[versions[0]]}")
    if version not in versions:
        raise FormatError(
            f"model file: version {version}, this release reads 1 to {VERSION};"
            " use a newer archiver"
        )
    (stored,) = struct.unpack_from("<I", data, len(data) - 4)
    computed = google_crc32c.value(data[:-4])
    if computed != stored:
        raise IntegrityError(
            f"model file: CRC-32C is {computed:#010x}, stored {stored:#010x}; restore the file"
        )
    length = _PREFIX.unpack_from(data)[3]
    try:
        header: dict[str, Any] = json.loads(data[_PREFIX.size : _PREFIX.size + length])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"model file: header is not JSON: {error}") from error
    return header, data[_PREFIX.size + length : -4]


def _check_sizes(a: Architecture) -> None:
    """Refuse sizes that no release ever wrote."""
    limits = ((a.dim, _MAX_DIM), (a.blocks, _MAX_BLOCKS), (a.hidden, _MAX_HIDDEN))
    sizes = (*limits, (a.mixtures, _MAX_MIXTURES))
    is_possible = all(1 <= size <= limit for size, limit in sizes)
    if not (is_possible and 0 <= a.copies <= len(COPIED) and a.deep in (0, 1)):
        raise FormatError(f"model file: impossible network sizes {a}")
