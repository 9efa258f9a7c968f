"""FORMAT.md is enough: files are rebuilt from residues and images with NumPy and zlib.

Read are the residues that a plan may stand in: PNG, GZIP, segmented files with rows as they are,
zlib streams of classic zlib and planned ones.  Everything here was written from the text of
manifests/FORMAT.md; `sources/test_deflated_by_text.py` compares it with archiver.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_read_plans import Cursor, replay

Array = np.ndarray[Any, Any]
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7 += [(1, 0, 2, 1)]


def test_this_file_does_not_import_archiver() -> None:
    """The reader below owes nothing to the package."""
    lines = Path(__file__).read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import archiver", "from archiver"))]


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "<f4"])
def test_a_residue_by_hand_gives_a_gzip(dtype: str) -> None:
    """A `.npy.gz` of one image of one segment, as no archiver wrote it."""
    samples = np.arange(60).reshape(5, 4, 3).astype(dtype)
    file = io.BytesIO()
    np.save(file, samples)
    raw, size = file.getvalue(), int(dtype[-1])
    flags = ("i" in dtype) + 2 * (">" in dtype) + 128 * ("f" in dtype)
    inner = struct.pack("<BIIIIIIBBB", 1, 1, 5, 4, 3, 5, 4, 8 * size, 1, flags)
    inner += struct.pack("<HB7xIIqQHB", 1, 0, 1, 0, 0, len(raw) - samples.nbytes, 0, 0)
    inner += blob(raw[: -samples.nbytes]) + blob(b"")
    whole = gzip.compress(raw, 6)
    residue = struct.pack("<BB7B", 1, 7, 0, 6, 8, 0, 15, 0, 0)
    residue += blob(whole[:10]) + blob(whole[-8:]) + blob(inner)
    assert read_gzip(residue, [samples]) == whole


def blob(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def zlib_stream(raw: bytes, settings: bytes, plan: bytes | None) -> bytes:
    """The zlib stream of the settings, or of the plan if they say so."""
    encoder, level, memory, strategy, window = settings[:5]
    if encoder == 0:
        compressor = zlib.compressobj(level, zlib.DEFLATED, window, memory, strategy)
        return settings[5:] + (compressor.compress(raw) + compressor.flush())[2:]
    assert encoder == 2, "an encoder that is not read here"
    assert plan is not None
    return settings[5:] + replay(raw, plan) + struct.pack(">I", zlib.adler32(raw))


def read_gzip(data: bytes, images: Sequence[Array]) -> bytes:
    """The file of a residue of GZIP."""
    residue = Cursor(data)
    assert residue.take("<B") in (5, 6, 7, 10, 11, 12), "format of what is inside"
    settings = residue.bytes(7)
    head, tail, inner = (residue.blob() for _ in range(3))
    plan = residue.blob() if settings[0] == 2 else None
    residue.end()
    return head + zlib_stream(read_segmented(inner, images), settings, plan)[2:-4] + tail


def read_volume(data: bytes, images: Sequence[Array]) -> bytes:
    """The file of a residue of volumes."""
    assert data[0] == 1
    return (read_segmented, read_gzip)[data[1]](data[2:], images)


def read_png(data: bytes, image: Array) -> bytes:
    """The file of a residue of PNG."""
    residue = Cursor(data)
    width, height, depth, channels, interlaced = residue.fields("<IIBBB")
    assert image.shape == (height, width, channels)
    settings = residue.bytes(7)
    lengths = residue.column(residue.take("<I"), "u4")
    prefix, suffix, tail, filters, padding = (residue.blob() for _ in range(5))
    plan = residue.blob() if settings[0] == 2 else None
    residue.end()
    parts = [image[r::dr, c::dc] for r, c, dr, dc in ADAM7] if interlaced else [image]
    kinds, pads = iter(filters), iter(padding)
    rows = b"".join(
        filtered(packed(part, depth), max(1, depth * channels // 8), kinds, pads, depth)
        for part in parts
        if part.size
    )
    data = zlib_stream(rows, settings, plan) + tail
    ends = [0, *itertools.accumulate(lengths)]
    assert ends[-1] == len(data)
    chunks = [b"IDAT" + data[a:b] for a, b in itertools.pairwise(ends)]
    forms = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return prefix + b"".join(forms) + suffix


def packed(samples: Array, bits: int) -> Array:
    """Rows of samples as bytes, most significant first."""
    flat = samples.reshape(len(samples), -1)
    if bits >= 8:
        return np.ascontiguousarray(flat.astype(f">u{bits // 8}")).view(np.uint8)
    planes = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
    return np.packbits(planes.reshape(len(flat), -1), axis=1)


def filtered(
    rows: Array, step: int, kinds: Iterator[int], pads: Iterator[int], depth: int
) -> bytes:
    """The filtered rows of a pass; rows of bytes, a pixel being ``step`` of them."""
    rows = rows.astype(int)
    for row, pad in zip(rows, pads, strict=False) if depth < 8 else ():
        row[-1] |= pad
    out, above = b"", np.zeros_like(rows[0])
    for row in rows:
        left, corner = (np.concatenate([[0] * step, r])[:-step] for r in (row, above))
        kind = next(kinds)
        p = left + above - corner
        near = [abs(p - n) for n in (left, above, corner)]
        paeth = np.where(near[1] <= near[2], above, corner)
        paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, paeth)
        guess = [np.zeros_like(row), left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - guess) % 256).astype(np.uint8).tobytes()
        above = row
    return out


def read_segmented(data: bytes, images: Sequence[Array]) -> bytes:
    """The file of a residue of segmented files."""
    residue = Cursor(data)
    geometries = [residue.fields("<IIIIIBBB") for _ in range(residue.take("<I"))]
    recipes = [residue.bytes(8) for _ in range(residue.take("<H"))]
    count = residue.take("<I")
    forms = ("u4", "i8", "u8", "u2", "u1")
    image_of, steps, gap_lengths, recipe_of, flags = (residue.column(count, f) for f in forms)
    gaps, patches = io.BytesIO(residue.blob()), io.BytesIO(residue.blob())
    residue.end()
    out = b""
    for i, index in enumerate(itertools.accumulate(steps)):
        recipe, gap = recipes[recipe_of[i]], gaps.read(gap_lengths[i])
        number = image_of[i]
        rows = segment_rows(images[number], geometries[number], index, flags[i] & 1)
        if flags[i] & 2:
            patch = np.frombuffer(patches.read(len(rows)), np.uint8)
            rows = (np.frombuffer(rows, np.uint8) ^ patch).tobytes()
        assert not flags[i] & 4, "a broken segment, which is not read here"
        plan = None
        if recipe[0] in (8, 9, 16, 17, 18):
            (length,) = struct.unpack("<I", gap[-4:])
            gap, plan = gap[: -4 - length], gap[-4 - length : -4]
        if recipe[0] == 9:
            out += gap + packets(rows, plan)
        elif recipe[0] >= 16:
            out += gap + ordered(recipe[0], rows, plan, geometries[number][1])
        else:
            out += gap + (rows if recipe[0] == 0 else zlib_stream(rows, recipe[1:], plan))
    return out + gaps.read()


def ordered(encoding: int, rows: bytes, plan: bytes, width: int) -> bytes:
    """Plain samples of DICOM in the orders of encodings 16 to 18."""
    if encoding == 18:
        flat = rows + plan * (len(rows) % 2)
        return bytes(flat[i ^ 1] for i in range(len(flat)))
    if encoding == 16:
        half, out = len(rows) // 2, b""
        for i in range(0, half, 2):
            chroma = half + i // width * width + i % width // 2
            out += rows[i : i + 2] + rows[chroma : chroma + 1]
            out += rows[chroma + width // 2 : chroma + width // 2 + 1]
        return out
    skipped, last = plan
    own = rows[skipped:]
    assert set(own) <= {0, 1}
    unused = range(len(own) % 8, 8) if len(own) % 8 else ()
    bits = own + bytes(last >> i & 1 for i in unused)
    return bytes(sum(bits[at + i] << i for i in range(8)) for at in range(0, len(bits), 8))


def packets(rows: bytes, plan: bytes) -> bytes:
    """The stream of a plan of runs."""
    fields = Cursor(plan)
    starts, ends, row, n = fields.fields("<BBIB")
    assert 2 <= min(starts, ends) <= max(starts, ends) <= 16
    assert n
    assert len(rows) % n == 0
    assert len(rows) <= 1 << 26
    out = b""
    for _ in range(n):
        place, before = fields.take("<B"), fields.blob()
        count = fields.take("<I")
        assert place < n
        steps = fields.column(count, "u4")
        assert all(steps[1:])
        numbers = list(itertools.accumulate(steps))
        said = dict(zip(numbers, fields.bytes(count), strict=True))
        plane, p, number = rows[place::n], 0, 0
        out += before

        def run(q: int, plane: bytes = plane) -> int:
            end = min(len(plane), (q // row + 1) * row) if row else len(plane)
            return len(list(itertools.takewhile(lambda x: x == plane[q], plane[q:end])))

        while p < len(plane):
            if number in said:
                first = said[number]
            elif run(p) >= starts:
                first = 257 - min(run(p), 128)
            else:
                q = p + 1
                while q < len(plane) and q - p < 128 and run(q) < ends and (not row or q % row):
                    q += 1
                first = q - p - 1
            assert first != 128
            size = first + 1 if first < 128 else 257 - first
            assert p + size <= len(plane)
            out += bytes([first]) + plane[p : p + (size if first < 128 else 1)]
            p, number = p + size, number + 1
        assert not numbers or numbers[-1] < number
    fields.end()
    return out


def segment_rows(image: Array, geometry: tuple[int, ...], index: int, edge: int) -> bytes:
    """The rows of a segment, before its patch."""
    height, width, channels, down, across, bits, align, flags = geometry
    assert image.shape == (height, width, channels)
    n_down, n_across = math.ceil(height / down), math.ceil(width / across)
    plane, rest = divmod(index, n_down * n_across)
    row, column = rest // n_across * down, rest % n_across * across
    planes = slice(plane, plane + 1) if flags & 4 else slice(None)
    part = image[row : row + down, column : column + across, planes]
    part = part.astype(part.dtype.newbyteorder("="))
    part = part.view(f"u{part.dtype.itemsize}")
    part = part.astype(f"u{max(1, bits // 8)}")
    part = part[::-1] if flags & 32 else part
    part = part[..., ::-1] if flags & 64 else part
    if flags & 16:
        more = [(0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)]
        part = np.pad(part, more, "edge" if edge else "constant")
    if flags & 137 == 137:
        return split_bytes(part)
    if flags & 8:
        part = np.diff(part, axis=1, prepend=part.dtype.type(0))
    rows = packed(part, bits)
    if bits > 8 and not flags & 2:
        rows = rows.reshape(len(rows), -1, bits // 8)[..., ::-1].reshape(len(rows), -1)
    return np.pad(rows, [(0, 0), (0, -rows.shape[1] % align)]).tobytes()


def split_bytes(part: Array) -> bytes:
    """Rows of floating point under the predictor of Technical Note 3."""
    out = bytearray()
    for row in part:
        values, size = row.reshape(-1), part.dtype.itemsize
        line = [int(v) >> 8 * (size - 1 - k) & 255 for k in range(size) for v in values]
        for at in range(len(line) - 1, row.shape[1] - 1, -1):
            line[at] = (line[at] - line[at - row.shape[1]]) % 256
        out += bytes(line)
    return bytes(out)
