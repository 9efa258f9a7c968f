"""Pack a folder from Python, watch it happen, and check the archive against itself.

Run it: python examples/archive_folder.py example-set example.archive
"""

from __future__ import annotations

import sys
from pathlib import Path

import archiver
from archiver.jobs.events import Event, FileDone, FileFailed, Notice


def show(event: Event) -> None:
    """Print what the job reports; a program would update a database or a screen here."""
    match event:
        case FileDone(path, input_bytes, stored_bytes):
            print(f"{path}: {input_bytes} -> {stored_bytes} bytes")
        case FileFailed(path, message):
            print(f"{path}: FAILED: {message}")
        case Notice(message):
            print(message)


def main(source: Path, archive: Path) -> None:
    """Pack ``source`` into ``archive`` in this process, then decode and compare everything."""
    settings = archiver.PackSettings(profile="fast", workers=0)
    packed = archiver.pack(source, archive, settings, show)
    print(f"{packed.files} files, {packed.input_bytes} -> {packed.archive_bytes} bytes")
    checked = archiver.verify(archive, depth="files", workers=0, on_event=lambda _: None)
    print(f"{checked.files} files verified, {len(checked.problems)} problems")


if __name__ == "__main__":  # workers import this file again: keep the work behind this line
    main(Path(sys.argv[1]), Path(sys.argv[2]))
