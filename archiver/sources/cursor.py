"""The reading of stored fields: bounded, and damage is always an IntegrityError."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError
from archiver.sources.contract import LAYOUT_VERSION


class Cursor:
    """Read fields one after the other, never past their end; ``what`` they are, for errors."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what
        (version,) = self.unpack("<B")
        if version != LAYOUT_VERSION:
            raise self.damaged(f"layout version {LAYOUT_VERSION}", version)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Read one struct."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def take(self, n_bytes: int) -> bytes:
        """Read ``n_bytes`` bytes."""
        if n_bytes > len(self._data) - self._at:
            raise self.damaged(f"{n_bytes} bytes at {self._at}", f"{len(self._data)} in all")
        self._at += n_bytes
        return self._data[self._at - n_bytes : self._at]

    def blob(self) -> bytes:
        """Read a u8 length and that many bytes."""
        (n_bytes,) = self.unpack("<Q")
        return self.take(n_bytes)

    def rest(self) -> bytes:
        """Read all that is left."""
        return self.take(len(self._data) - self._at)

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        """Read ``count`` numbers of a little-endian ``dtype``."""
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def end(self) -> None:
        """Refuse bytes that nothing explains."""
        if self._at != len(self._data):
            raise self.damaged("its end", f"{len(self._data) - self._at} more bytes")

    def damaged(self, expected: object, got: object) -> IntegrityError:
        """Build the error for a value that a writer never wrote."""
        return IntegrityError(
            f"{self._what}: expected {expected}, found {got};"
            " the archive is damaged, run `archiver verify` on it"
        )


def pack_blob(data: bytes) -> bytes:
    """Write what :meth:`Cursor.blob` reads."""
    return struct.pack("<Q", len(data)) + data
