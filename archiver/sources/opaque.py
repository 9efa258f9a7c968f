"""Files that are kept byte for byte: the file itself is its residue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archiver.image import Image


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file."""
    yield residue
