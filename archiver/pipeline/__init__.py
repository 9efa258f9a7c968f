"""The glue of sources, codec and archive: files to objects in a shard, and objects back to files.

geometry    channels to components, images to tiles
coding      samples and residues to checked payloads          decoding    and back
packing     files to objects of a shard                       restoring   and back
reading     the view of an archive: entries, images, regions
"""

from archiver.pipeline.adapting import Effort
from archiver.pipeline.geometry import DEFAULT_TILE, LARGE_TILE
from archiver.pipeline.open_file import LARGE_BYTES
from archiver.pipeline.packing import Failure, Packed, pack_content, pack_files
from archiver.pipeline.reading import Entry, ImageInfo, OpenArchive, Totals, open_archive

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
