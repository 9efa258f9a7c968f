"""The glue of sources, codec and archive: files to objects in a shard, and objects back to files.

- ``write``: files to objects of a shard         - ``read``: objects back to samples and files
- ``tiling``: channels to components, images to tiles
- ``key_tiles``: what the JPEG tiles of a file learn from each other
- ``progress``: how far the files of a task are
- ``engines``, ``known_content``: models and archives that are open in this process

Names are loaded on first use: who describes an archive needs no coder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver.pipeline.read.open_archive import (
        Entry,
        ImageInfo,
        OpenArchive,
        Totals,
        open_archive,
    )
    from archiver.pipeline.tiling import DEFAULT_TILE, LARGE_TILE
    from archiver.pipeline.write.adapter import Effort
    from archiver.pipeline.write.alternatives import Alternative
    from archiver.pipeline.write.pack import Failure, Packed, pack_content, pack_files
    from archiver.pipeline.write.source_file import LARGE_BYTES

__all__ = [
    "DEFAULT_TILE",
    "LARGE_BYTES",
    "LARGE_TILE",
    "Alternative",
    "Effort",
    "Entry",
    "Failure",
    "ImageInfo",
    "OpenArchive",
    "Packed",
    "Totals",
    "open_archive",
    "pack_content",
    "pack_files",
]

_HOME = {
    "Entry": "archiver.pipeline.read.open_archive",
    "ImageInfo": "archiver.pipeline.read.open_archive",
    "OpenArchive": "archiver.pipeline.read.open_archive",
    "Totals": "archiver.pipeline.read.open_archive",
    "open_archive": "archiver.pipeline.read.open_archive",
    "DEFAULT_TILE": "archiver.pipeline.tiling",
    "LARGE_TILE": "archiver.pipeline.tiling",
    "Effort": "archiver.pipeline.write.adapter",
    "Alternative": "archiver.pipeline.write.alternatives",
    "Failure": "archiver.pipeline.write.pack",
    "Packed": "archiver.pipeline.write.pack",
    "pack_content": "archiver.pipeline.write.pack",
    "pack_files": "archiver.pipeline.write.pack",
    "LARGE_BYTES": "archiver.pipeline.write.source_file",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
