"""Lossless archive for medical, histology and satellite images: the public API.

    archiver.pack(source, archive, settings, on_event)      put a directory tree into an archive
    archiver.verify(archive, depth=..., on_event=...)       check an archive
    archiver.unpack(archive, dest, patterns, on_event=...)  write files back
    archiver.open_archive(path)                             read entries and regions
    archiver.PackSettings                                   what `pack` can be asked
    archiver.errors                                         every exception

Names are loaded on first use, so that `import archiver` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver import errors
    from archiver.jobs.run import pack, unpack, verify
    from archiver.jobs.spec import PackSettings
    from archiver.pipeline import open_archive

__version__ = "0.1.0"
__all__ = ["PackSettings", "__version__", "errors", "open_archive", "pack", "unpack", "verify"]

_HOME = {
    "PackSettings": "archiver.jobs.spec",
    "open_archive": "archiver.pipeline",
    "pack": "archiver.jobs.run",
    "unpack": "archiver.jobs.run",
    "verify": "archiver.jobs.run",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("archiver.errors")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'archiver' has no attribute {name!r}")
