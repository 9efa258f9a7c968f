"""How much room an archive takes on disk, models counted apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from archiver.archive import layout


@dataclass(frozen=True)
class Usage:
    """Bytes of all files of an archive."""

    payload: int  # shards and manifest
    models: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.payload + self.models


def usage(archive: Path) -> Usage:
    """Return the bytes of all files below ``archive``; unfinished work does not count."""
    payload = models = 0
    for folder, folders, names in os.walk(archive):
        top = Path(folder).relative_to(archive).parts[:1]
        if not top and layout.WIP in folders:
            folders.remove(layout.WIP)
        size = sum(Path(folder, name).lstat().st_size for name in names)
        if top == (layout.MODELS,):
            models += size
        else:
            payload += size
    return Usage(payload, models)
