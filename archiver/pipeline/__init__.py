"""The glue of sources, codec and archive: files to objects in a shard, and objects back to files.

geometry    channels to components, images to tiles
coding      samples and residues to checked payloads          decoding    and back
packing     files to objects of a shard                       restoring   and back
reading     the view of an archive: entries, images, regions
"""

from archiver.pipeline.read.open_archive import Entry, ImageInfo, OpenArchive, Totals, open_archive
from archiver.pipeline.tiling import DEFAULT_TILE, LARGE_TILE
from archiver.pipeline.write.adapter import Effort
from archiver.pipeline.write.open_file import LARGE_BYTES
from archiver.pipeline.write.pack import Failure, Packed, pack_content, pack_files

__all__ = [
    "DEFAULT_TILE",
    "LARGE_BYTES",
    "LARGE_TILE",
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
