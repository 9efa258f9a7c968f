"""The bytes of a file that are no samples, on their way to payloads: cut, compressed, checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from archiver.codec import residue
from archiver.errors import IntegrityError
from archiver.pipeline.write.payloads import Chunk

log = logging.getLogger(__name__)


def residue_chunks(blocks: Iterable[bytes], level: int = residue.LEVEL) -> Iterator[Chunk]:
    """Yield the coded chunks of a residue given in blocks of any size, at a level of zstd."""
    waiting, size = [], 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= residue.CHUNK_BYTES:
            data = b"".join(waiting)
            whole = len(data) - len(data) % residue.CHUNK_BYTES
            for start in range(0, whole, residue.CHUNK_BYTES):
                yield _encode_chunk(data[start : start + residue.CHUNK_BYTES], level)
            waiting, size = [data[whole:]], len(data) - whole
    if size:
        yield _encode_chunk(b"".join(waiting), level)


def _encode_chunk(data: bytes, level: int) -> Chunk:
    codec, payload = residue.compress(data, level)
    try:
        is_good = residue.decompress(codec, payload, len(data)) == data
    except IntegrityError:
        is_good = False
    if not is_good:
        log.error("a residue chunk did not decode to itself; stored as it is")
        codec, payload = residue.ResidueCodec.STORED, data
    return Chunk(int(codec), payload, len(data))
