"""Plans of deflate streams: any encoder's bytes come back, without that encoder."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from trees import blob

from archiver.errors import IntegrityError
from archiver.sources import Format, parse, png, rebuild
from archiver.sources.deflate import plan
from archiver.sources.deflate import settings as deflate_settings

MOST_SECONDS = 10.0


def by_zlib(level: int, memory: int = 8, strategy: int = 0) -> Callable[[bytes], bytes]:
    def encode(raw: bytes) -> bytes:
        compressor = zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy)
        return compressor.compress(raw) + compressor.flush()

    return encode


def by_flushes(raw: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    starts = range(0, len(raw), 999)
    pieces = (compressor.compress(raw[i : i + 999]) + compressor.flush(2) for i in starts)
    return b"".join(pieces) + compressor.flush()


def by_zlib_ng(level: int) -> Callable[[bytes], bytes]:
    return lambda raw: bytes(imagecodecs.zlibng_encode(raw, level))[2:-4]


def by_libdeflate(level: int) -> Callable[[bytes], bytes]:
    return lambda raw: bytes(imagecodecs.deflate_encode(raw, level, raw=True))


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    **{f"zlib {level}": by_zlib(level) for level in range(10)},
    "zlib 6, memory 9, filtered": by_zlib(6, 9, zlib.Z_FILTERED),
    "zlib, Huffman codes only": by_zlib(6, 8, zlib.Z_HUFFMAN_ONLY),
    "zlib, runs": by_zlib(6, 8, zlib.Z_RLE),
    "zlib, fixed codes": by_zlib(6, 8, zlib.Z_FIXED),
    "zlib, flushed": by_flushes,
    **{f"zlib-ng {level}": by_zlib_ng(level) for level in range(1, 10)},
    **{f"libdeflate {level}": by_libdeflate(level) for level in (1, 6, 9, 12)},
    "zopfli": lambda raw: bytes(imagecodecs.zopfli_encode(raw))[2:-4],
}
RAW = {
    "rows of a PNG": np.diff(
        blob(np.random.default_rng(3), 120, 90).astype(np.int16), axis=1, prepend=0
    )
    .astype(np.uint8)
    .tobytes(),
    "text": b"".join(b"stained on day %d, slide %d\n" % (i, i * i) for i in range(900)),
    "zeros": bytes(70_000),
    "noise": np.random.default_rng(1).bytes(30_000),
    "one byte": b"a",
    "the probe": deflate_settings.probe()[:40_000],
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("what", RAW)
def test_a_plan_gives_the_very_stream(what: str, encoder: str) -> None:
    raw = RAW[what]
    stream = ENCODERS[encoder](raw)
    assert zlib.decompress(stream, -15) == raw
    planned = plan.make(raw, stream)
    if planned is None:  # the plan would be no smaller than what it stands for
        assert len(stream) < 0.3 * len(raw) or what == "one byte"
    else:
        assert plan.replay(raw, planned) == stream


@pytest.mark.parametrize("level", [1, 4, 5, 6, 7, 9])
def test_what_zlib_ng_does_is_predicted(level: int) -> None:
    raw = deflate_settings.probe()
    stream = by_zlib_ng(level)(raw)
    planned = plan.make(raw, stream)
    assert planned is not None
    assert len(zlib.compress(planned)) < 0.01 * len(stream)


def as_zlib(raw: bytes) -> bytes:
    """Return a zlib stream by zlib-ng."""
    return bytes(imagecodecs.zlibng_encode(raw, 6))


def test_a_png_of_a_foreign_encoder_comes_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(blob(np.random.default_rng(0), 300, 280))
    image.save(path)
    chunks = png._read_chunks(path.read_bytes())
    stream = as_zlib(zlib.decompress(chunks.data))
    path.write_bytes(chunks.prefix + png._chunk(b"IDAT", stream) + chunks.suffix)
    parsed = parse(path)
    assert parsed.format is Format.PNG, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    assert len(zlib.compress(parsed.residue)) < 0.05 * len(stream)


def test_a_gzip_of_a_foreign_encoder_comes_apart(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, blob(np.random.default_rng(0), 200, 180))
    stream = by_zlib_ng(6)(buffer.getvalue())
    whole = gzip.compress(buffer.getvalue())
    path = tmp_path / "a.npy.gz"
    path.write_bytes(whole[:10] + stream + whole[-8:])
    parsed = parse(path)
    assert parsed.format is Format.GZIP, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()


@pytest.mark.parametrize("predictor", [False, True])
def test_tiff_tiles_of_a_foreign_encoder_come_apart(tmp_path: Path, predictor: bool) -> None:
    path = tmp_path / "a.tif"
    image = blob(np.random.default_rng(0), 300, 280)
    tifffile.imwrite(path, image, compression="zlib", predictor=predictor, tile=(128, 128))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data = bytearray(path.read_bytes())
    for offset, length in spans:
        raw = zlib.decompress(data[offset : offset + length])
        foreign = as_zlib(raw)
        if len(foreign) <= length:  # bytes after a stream are allowed
            data[offset : offset + length] = foreign.ljust(length, b"\0")
    path.write_bytes(data)
    assert np.array_equal(tifffile.imread(path), image)
    parsed = parse(path)
    assert parsed.format is Format.TIFF, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == bytes(data)


def test_damaged_plans_are_refused_or_give_other_bytes() -> None:
    raw = RAW["text"]
    whole = plan.make(raw, ENCODERS["zlib-ng 2"](raw))
    assert whole is not None
    rng = random.Random(5)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 2, 5))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        started = time.monotonic()
        with contextlib.suppress(IntegrityError):
            plan.replay(raw, bytes(damaged))
        assert time.monotonic() - started < MOST_SECONDS


@pytest.mark.parametrize(("kind", "n_bytes"), [(7, 17), (4, 70_000)])
def test_blocks_that_deflate_does_not_have_are_refused(kind: int, n_bytes: int) -> None:
    """A third type, and a stored block that is too long."""
    head = struct.pack("<BHBHHH", 1, 8, 3, 8, 8, 32767) + bytes(56)
    with pytest.raises(IntegrityError, match="block"):
        plan.replay(bytes(n_bytes), head + struct.pack("<IBIH", 1, kind, n_bytes, 0) + bytes(8))


def test_bytes_that_match_everywhere_are_given_up_in_time() -> None:
    raw = (b"ab" * 120 + b"c") * 9000
    stream = by_zlib(9)(raw)
    started = time.monotonic()
    planned = plan.make(raw, stream)
    assert time.monotonic() - started < 6 * MOST_SECONDS
    assert planned is None or plan.replay(raw, planned) == stream


def test_literals_alone_take_the_least_work() -> None:
    """Noise of two levels without a match is planned by the cheapest search, and soon.

    Every search predicts it, and the deepest, tried first, took six seconds for each MiB.
    """
    raw = np.random.default_rng(1).integers(0, 2, 1 << 20, dtype=np.uint8).tobytes()
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_HUFFMAN_ONLY)
    pieces = (raw[i : i + 99_991] for i in range(0, len(raw), 99_991))
    flushed = b"".join(compressor.compress(piece) + compressor.flush(2) for piece in pieces)
    stream = flushed + compressor.flush()
    plan.make(raw[:1000], by_zlib(9)(raw[:1000]))  # compiles
    started = time.process_time()
    planned = plan.make(raw, stream)
    assert time.process_time() - started < 4
    assert planned is not None
    assert plan.replay(raw, planned) == stream


def test_what_would_not_pay_is_given_up_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose tokens nothing predicts is looked at where it begins, and nowhere else."""
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 4, 1 << 19, dtype=np.uint8).tobytes()
    seen: list[int] = []
    compare = plan._compare
    monkeypatch.setattr(plan, "_n_odd", lambda contexts, _: contexts.size)
    monkeypatch.setattr(plan, "_compare", lambda d, *how: seen.append(d.size) or compare(d, *how))
    assert plan.make(raw, by_zlib(9)(raw)) is None
    assert max(seen) < len(raw)


def test_millions_of_empty_blocks_take_little_memory() -> None:
    raw = RAW["text"]
    stream = bytes.fromhex("0208208000") * 400_000 + by_zlib(9)(
        raw
    )  # four of 10 bits in five bytes
    assert zlib.decompress(stream, -15) == raw
    plan.make(raw, by_zlib(9)(raw))  # compiles
    tracemalloc.start()
    assert plan.make(raw, stream) is None
    assert tracemalloc.get_traced_memory()[1] < 16 * len(stream)
    tracemalloc.stop()


@pytest.mark.slow
def test_a_small_stream_is_not_worth_much_work() -> None:
    data = (np.random.default_rng(0).random(1 << 16) < 0.02).astype(np.uint8)
    read = plan._read(data, np.frombuffer(by_zlib(6, 8, zlib.Z_HUFFMAN_ONLY)(data.tobytes()), "u1"))
    assert read is not None
    deepest = max(plan.EFFORTS)
    assert plan._compare(data, read, deepest) is None
    assert plan.make(data.tobytes(), by_zlib(6, 8, zlib.Z_HUFFMAN_ONLY)(data.tobytes()))


@pytest.mark.parametrize("name", ["predicted", "stored blocks", "stored header, exceptions"])
def test_a_plan_of_old_gives_the_same_bytes_for_ever(name: str) -> None:
    """Written by the first release; what they give must not change."""
    raw, whole, answer = OLD[name]
    stream = plan.replay(raw, base64.b85decode(whole))
    assert zlib.decompress(stream, -15) == raw
    assert zlib.crc32(stream) == answer


OLD = {
    "predicted": (
        deflate_settings.probe()[:3000],
        "0e}DlfB*sk`F;QZ00032000FA000F6000F500000000310000000031000000000000000000000000000031000I(2"
        "LJ#7009610GR;*000000000000",
        0x362E41BB,
    ),
    "stored blocks": (
        RAW["text"][:2500],
        "0e}DlfB*sk`F;QZ000310000000000000000000000031000F60RRL5000FA00000000000000000000000L7000620s"
        "sO41)l%_000000FD3v00000080P>0000000000000000000000000000080000@0000B0000B0000x0000200004000"
        "150000k000000000000;m80000901*HH0000001N^E0000h0s8|00000",
        0x21AB1DD9,
    ),
    "stored header, exceptions": (
        deflate_settings.probe()[:2500],
        "0e}DlfB*sk`F;QZ00000000FA000F5000F500000000310000000000000000000000000000000000000031000Ki2"
        "LJ%30R#X504oFl0099208Ie^08;?~0000000000000000000005t#r0LC(0PFqQ$@PLVHB+H~F1ep<nw1mJdAxKLIEH"
        "F;MAvf{v-re_qo2{1X{`+dCtN)xjrw;",
        0xABA4D735,
    ),
}
