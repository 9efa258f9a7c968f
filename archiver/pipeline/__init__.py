"""The glue of sources, codec and archive: files to objects in a shard, and objects back to files.

- ``write``: files to objects of a shard         - ``read``: objects back to samples and files
- ``tiling``: channels to components, images to tiles
- ``key_tiles``: what the JPEG tiles of a file learn from each other
- ``progress``: how far the files of a task are
- ``engines``, ``known_content``: models and archives that are open in this process
"""

from archiver.pipeline.read.open_archive import Entry, ImageInfo, OpenArchive, Totals, open_archive
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
