"""Read samples out of an archive without unpacking it: a whole image, or one region of it.

Run it: python examples/read_back.py example.archive
"""

from __future__ import annotations

import sys
from pathlib import Path

import archiver


def main(archive: Path) -> None:
    """Read every image of the archive, then the middle of each: only its tiles are decoded."""
    opened = archiver.open_archive(archive)
    for entry in opened.entries():
        if not entry.images:
            print(f"{entry.path}: not kept as samples")
            continue
        samples = entry.read()
        height, width = samples.shape[:2]
        row, column = height // 4, width // 4
        region = entry.read((row, column, height // 2, width // 2))
        same = (region == samples[row : row + height // 2, column : column + width // 2]).all()
        print(f"{entry.path}: {samples.shape} {samples.dtype}, region {region.shape}, same: {same}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
