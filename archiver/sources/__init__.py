"""Split files into images and residue, and rebuild them; exact by check, or kept byte for byte.

    parse(path)  ->  ParsedFile: format, images, residue, digests, note
    rebuild(format, residue, images)  ->  the bytes of the file

Rooms and modules, top floor first; each imports only from those below it (tests/test_layers.py):

    registry                                   magic numbers, ``split`` and ``rebuild`` of each
    gzipped                                    any of the files below inside gzip
    detached_header                            headers beside the voxels that they describe
    jpeg metaimage nrrd tiff                   formats, one module or room each
    bitmap dicom/ jp2 jpeg_ls mgh nifti npy    the same; what NRRD and MetaImage share (volumes),
                                               frames without an IFD in TIFF (tiff_stacks)
    segmented/                                 files of segments and gaps: recipes that rebuild them
    png                                        with a residue of its own
    lerc/ deflate/ jpeg2000/ xz/ zstd/         streams, rebuilt from what they decode to and a
                                               *plan* of what their encoder decided
    cursor notes                               stored fields, bounded; why a file is kept as it is
    contract                                   format ids, fidelity, the result of parsing
    bit_packing nearest opaque quiet           samples of odd bits, where bytes stood last, files
                                               kept whole, silent parsers

A new format is one module with ``split`` and ``rebuild``, one id in :class:`Format`, one row in
``_MAGIC`` and ``_REBUILD`` of the registry, and its tests.

Readers are imported when the first file is read: describing an archive needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from archiver.sources.contract import Fidelity, Format, ParsedFile

if TYPE_CHECKING:
    from archiver.sources.registry import NO_FORMAT, decode_samples, parse, rebuild

__all__ = ["NO_FORMAT", "Fidelity", "Format", "ParsedFile", "decode_samples", "parse", "rebuild"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("archiver.sources.registry"), name)
