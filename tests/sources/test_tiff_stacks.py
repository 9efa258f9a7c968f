"""TIFF stacks whose frames have no IFD of their own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from archiver.sources import Format, parse, rebuild

CASES = Path(__file__).parents[3] / "shared" / "cases"
STACK = np.random.default_rng(0).integers(0, 999, (2, 3, 2, 10, 12), np.uint16)  # TZCYX


def write(path: Path, stack: np.ndarray, **options: object) -> None:
    """Write a stack with one IFD."""
    with tifffile.TiffWriter(path, **options) as tif:  # type: ignore[arg-type]
        tif.write(stack, truncate=True, photometric="minisblack")


def check(path: Path, frames: np.ndarray) -> tuple[int, ...]:
    """Expect all frames as images, and the very bytes; return their neighbours."""
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.TIFF, "")
    decoded = np.stack([image.read()[..., 0] for image in parsed.images])
    np.testing.assert_array_equal(decoded, frames.reshape(-1, *frames.shape[-2:]))
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    assert len(parsed.residue) < path.stat().st_size - frames.nbytes + 40 * len(decoded) + 200
    return parsed.images[0].neighbours


@pytest.mark.parametrize("byteorder", "<>")
def test_imagej(tmp_path: Path, byteorder: str) -> None:
    """All planes of a hyperstack with one IFD are found; slices and times are neighbours."""
    write(tmp_path / "a.tif", STACK, imagej=True, byteorder=byteorder)
    assert check(tmp_path / "a.tif", STACK) == (2, 6)


def test_imagej_with_all_pages(tmp_path: Path) -> None:
    """A hyperstack with all IFDs has the same neighbours."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True)
    assert check(tmp_path / "a.tif", STACK) == (2, 6)


def test_imagej_with_a_wrong_length(tmp_path: Path) -> None:
    """A strip length that is too small for one frame, as above 4 GB, is not believed."""
    path = tmp_path / "a.tif"
    write(path, STACK, imagej=True)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[279].valueoffset
    path.write_bytes(data[:at] + struct.pack("<I", 1) + data[at + 4 :])
    check(path, STACK)


def test_shaped(tmp_path: Path) -> None:
    """A series that tifffile wrote with one IFD is found."""
    write(tmp_path / "a.tif", STACK)
    check(tmp_path / "a.tif", STACK)


def test_a_stack_that_is_cut_off(tmp_path: Path) -> None:
    """Frames that the file has no bytes for are not looked for."""
    path = tmp_path / "a.tif"
    write(path, STACK, imagej=True)
    data = path.read_bytes()
    path.write_bytes(data[:-250])
    parsed = parse(path)
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) in (data[:-250], b"")


@pytest.mark.beside("cases")
def test_a_stack_of_a_bug_report() -> None:
    """It gives the planes that its sibling with all IFDs gives."""
    planes = tifffile.imread(CASES / "ij.tif")
    check(CASES / "ij_trunc.tif", planes)
