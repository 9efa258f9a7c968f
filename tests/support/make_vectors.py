"""Write the golden vectors: tiles of codec version 1, a whole archive of format version 1.

    python tests/support/make_vectors.py tests/vectors

Run by hand; tests never create a golden file.  Refuses to overwrite: vectors are append-only.
``codec-v1/tiny.model`` is made first, if it is missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import saturated_vector
import torch
from archive_vector import write_archive
from jpegs import coefficients, jpeg_files

import archiver
from archiver.codec import classic, jpeg_ls, learned, tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.inference import high_depth_tiles as high_depth_tiles
from archiver.codec.inference.engine import Engine
from archiver.codec.jpeg import t81 as t81
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.model import adapter, architecture, mgcf, model_delta, model_file
from archiver.codec.model.batches import Shown
from archiver.codec.transforms import (
    chain,
    delta,
    order_search,
    orientation,
)
from archiver.codec.transforms.from_jpeg import coded, pixels, stream
from archiver.codec.transforms.from_jpeg.collage import FromJpegs, Piece
from archiver.codec.transforms.from_jpeg.pixels import Mode
from archiver.codec.transforms.from_jpeg.tile import FromJpeg
from archiver.codec.transforms.ordered import Ordered
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.codec.tuning import archive_model
from archiver.training.export import export


def tiny_model_of_before() -> bytes:
    """Return a model of the first release: neither copies nor a port for more than 8 bits."""
    return tiny_model(0, deep=0)


def tiny_model(copies: int = 0, *, deep: int = 1) -> bytes:
    """Return a small model with random weights in every layer, so that every layer matters."""
    torch.manual_seed(7)
    sizes = {"dim": 8, "blocks": 2, "hidden": 2, "mixtures": 3}
    net = mgcf.MGCF(architecture.Architecture(**sizes, copies=copies, deep=deep))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("project.weight", "contract.weight")):
                parameter.normal_(0, 0.3)
            elif name.endswith("bias") and "head" not in name:
                parameter.normal_(0, 0.2)
    return export(net, "tiny", {"note": "random weights, for tests"})


def pictures() -> dict[str, np.ndarray]:
    """Return the samples of every vector, by name."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[0:24, 0:31]
    ramp = np.stack([row * 4, column * 5, row + column], -1) + rng.integers(0, 6, (24, 31, 3))
    return {
        "01-rgb-ramp": ramp.astype(np.uint8),
        "02-grey-ramp": ramp[..., :1].astype(np.uint8),
        "03-rgb-one-pixel": np.array([[[1, 128, 255]]], np.uint8),
        "04-grey-column": ramp[:, :1, 1:2].astype(np.uint8),
        "05-rgb-row": ramp[:1].astype(np.uint8),
        "06-grey-two-tone": (rng.integers(0, 2, (17, 13, 1)) * 255).astype(np.uint8),
        "07-rgb-noise": rng.integers(0, 256, (9, 11, 3)).astype(np.uint8),
        "08-constant": np.full((40, 40, 3), 77, np.uint8),
        "09-grey-16": (ramp[..., :1] * 131).astype(np.uint16),
        "10-rgb-flat-lines": np.repeat(ramp[:, :1] // 8 * 8, 31, 1).astype(np.uint8),
    }


def write(folder: Path) -> None:
    """Write every vector that does not exist yet: one by the learned codec, one by the smallest."""
    model = folder / "tiny.model"
    if not model.exists():
        model.write_bytes(tiny_model_of_before())
    engine = Engine.open(model.read_bytes(), device="cpu", threads=1)
    for name, samples in pictures().items():
        best = tiles.encode([samples], engine)[0]
        save(folder / f"{name}-best", samples, best)
        if learned.is_byte_tile(samples.dtype, samples.shape[2]):
            payload = engine.encode([samples])[0]
            save(folder / f"{name}-learned", samples, Encoded(TileCodec.LEARNED, payload))


def write_difference(folder: Path) -> None:
    """Write a tuned model as the difference to the tiny one, and the SHA-256 of its tensors."""
    path = folder / "tuned.model"
    if path.exists():
        return
    base, tiles_ = (folder / "tiny.model").read_bytes(), [Shown.of(pictures()["01-rgb-ramp"])]
    model = archive_model.tune(base, tiles_, [1.0], archive_model.Budget(20, 60.0), name="tuned")
    assert model is not None
    path.write_bytes(model_delta.difference(model, base))
    tensors = model_file.ModelFile.from_bytes(model).tensors.values()
    digest = hashlib.sha256(b"".join(tensor.tobytes() for tensor in tensors)).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}\n")


def write_adapted(stem: Path, ranks: adapter.Ranks) -> None:
    """Write a model with copies, an adapter of it, a tile coded by both, and its SHA-256."""
    if stem.with_suffix(".model").exists():
        return
    model, samples = tiny_model(copies=2, deep=int(ranks.head > 0)), pictures()["01-rgb-ramp"]
    samples = samples[:12, :15]
    engine, rng = Engine.open(model, device="cpu", threads=1), np.random.default_rng(4)
    shapes = adapter.factor_shapes(engine.net.architecture, ranks)
    factors = {
        name: (rng.integers(0, 4) * rng.normal(0, 2, shape)).round().astype(np.int8)
        for name, shape in shapes.items()
    }
    record = adapter.Adapter(ranks, factors).to_bytes()
    [payload] = engine.adapted(record).encode([samples])
    stem.with_suffix(".model").write_bytes(model)
    stem.with_suffix(".adapter").write_bytes(record)
    stem.with_suffix(".tile").write_bytes(payload)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    stem.with_suffix(".sha256").write_text(f"{digest}\n")


def write_deep(folder: Path) -> None:
    """Write a model with a port for deep samples, tiles of 12 and 16 bits, and their SHA-256."""
    stem = folder / "deep"
    if stem.with_suffix(".model").exists():
        return
    model, rng = tiny_model(copies=2), np.random.default_rng(5)
    row, column = np.mgrid[0:11, 0:14]
    wave = 2000 + 150 * np.sin(row / 3) + 40 * column
    tiles_ = [wave + rng.normal(0, 12, wave.shape), 9 * wave + rng.normal(0, 900, wave.shape)]
    planes = [tile.round().astype(np.uint16) for tile in tiles_]
    payloads = Engine.open(model, device="cpu", threads=1).encode_high_depth(planes)
    stem.with_suffix(".model").write_bytes(model)
    for bits, plane, payload in zip((12, 16), planes, payloads, strict=True):
        (folder / f"deep-{bits}.tile").write_bytes(payload)
        digest = hashlib.sha256(plane.astype("<u2").tobytes()).hexdigest()
        (folder / f"deep-{bits}.sha256").write_text(f"{digest}\n")


def write_series(folder: Path) -> None:
    """Write tiles that are differences under the deep model, what they are taken from, SHA-256."""
    engine = Engine.open((folder / "deep.model").read_bytes(), device="cpu", threads=1)
    rng = np.random.default_rng(6)
    ramp = pictures()["01-rgb-ramp"][:11, :14].astype(np.int64)
    wave = 40 * ramp - 3000
    moved = wave[..., :1] + rng.integers(-9, 10, (11, 14, 1))
    cases = {
        "slice-16": ((2, 48), moved.astype(np.int16), wave[..., :1].astype(np.int16)),
        "band-8": ((1, 64), ramp[..., :1].astype(np.uint8), ramp[..., 1:2].astype(np.uint8)),
        "channels-16": ((0, 64), (wave + 5000).astype(np.uint16), ramp[:0].astype(np.uint16)),
    }
    for name, (base, samples, other) in cases.items():
        stem = folder / name
        if stem.with_suffix(".tile").exists():
            continue
        taken = delta.Base(*base)
        left = taken.minus(samples, other)
        if left.dtype == np.uint8:
            [payload] = engine.encode([left])
        else:
            [payload] = high_depth_tiles.encode([left], engine)
        coded = chain.as_delta(taken, Encoded(TileCodec.LEARNED, payload))
        stem.with_suffix(".tile").write_bytes(coded.payload)
        stem.with_suffix(".base").write_bytes(other.tobytes())
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        stem.with_suffix(".sha256").write_text(f"{digest}\n")


def write_narrow(folder: Path) -> None:
    """Write tiles of wide samples under the deep model, and their SHA-256."""
    engine = Engine.open((folder / "deep.model").read_bytes(), device="cpu", threads=1)
    ramp = pictures()["01-rgb-ramp"][:11, :14, :1].astype(np.int64)
    holed = (ramp * 130 / 10).astype("<f4")
    holed[2:6, 3:9] = np.nan
    cases = {"narrow-f4": holed, "narrow-f8": ramp / 255, "narrow-i8": ramp * 100 - (1 << 40)}
    for name, samples in cases.items():
        stem = folder / name
        if stem.with_suffix(".tile").exists():
            continue
        found = ScaleOffset.find(samples)
        assert found is not None
        how, numbers = found
        if how.n_bytes == 1:
            [payload] = engine.encode([numbers])
        else:
            [payload] = high_depth_tiles.encode([numbers], engine)
        stem.with_suffix(".tile").write_bytes(how.to_bytes(TileCodec.LEARNED) + payload)
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        stem.with_suffix(".sha256").write_text(f"{digest}\n")


def write_ordered(folder: Path) -> None:
    """Write tiles by the order of their samples, of every form; SHA-256, type and shape."""
    engine = Engine.open((folder / "deep.model").read_bytes(), device="cpu", threads=1)
    ramp, rng = pictures()["01-rgb-ramp"][:11, :14, :1].astype(np.int64), np.random.default_rng(8)
    odd = (ramp * np.float32(0.0372921) - 1).astype("<f4")
    odd.view("<u4")[2:4, 3:6, 0] = [0x80000000, 0x7FC00001, 0xFFC12345]
    cases = {
        "ranks-f4": (odd, 0),
        "ranks-u2": (ramp.astype("<u2") * 411 + 9, 0),
        "high-f4": (np.where(odd > 0, odd + rng.normal(0, 1, odd.shape), -9999).astype("<f4"), 1),
        "high-i8": (ramp * 10**11 + rng.integers(0, 10**12, ramp.shape) - 10**13, 1),
        "high-f8": ((ramp / 7 + rng.normal(0, 9, ramp.shape)).astype("<f4").astype("<f8"), 2),
        "differences-f2": ((np.mgrid[0:11, 0:14].sum(0)[..., None] * 1.7).astype("<f2"), -1),
    }
    for name, (samples, number) in cases.items():
        stem = folder / f"ordered-{name}"
        if stem.with_suffix(".tile").exists():
            continue
        guess = list(order_search.candidates(samples))[number]
        how, numbers = Ordered.of(guess), guess.numbers
        codec = TileCodec.LEARNED if number == 0 else TileCodec.ZSTD
        payload = classic.encode_zstd(numbers)
        if codec == TileCodec.LEARNED:
            byte = how.dtype.itemsize == 1
            [payload] = (
                engine.encode([numbers]) if byte else high_depth_tiles.encode([numbers], engine)
            )
        stem.with_suffix(".tile").write_bytes(how.to_bytes(codec) + payload)
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        stem.with_suffix(".sha256").write_text(f"{digest} {samples.dtype.str[1:]}\n")


def write_born(folder: Path) -> None:
    """Write tiles that were decoded from a JPEG, what is left under a classic codec."""
    for mode in Mode:
        stem = folder / f"born-{mode.name.lower()}"
        if stem.with_suffix(".tile").exists():
            continue
        inside = coefficients(mode, 9)
        transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(stream.to_bytes(inside)))
        payload = bytes([jpeg_tile.Form.JPEG_XL, 0, 0, 0]) + transcoded
        one = FromJpeg(mode, 5, 2, b"\x09\x00\xc8", payload, pixels.decode(inside))
        rest = np.zeros((inside.shape[0] + 7, inside.shape[1] + 9, mode.channels), np.uint8)
        rest[:5], rest[:, :2], rest[20, 20:40] = 9, 77, 255
        tile = one.back(rest)
        left = one.to_bytes(TileCodec.ZSTD) + classic.encode_zstd(rest)
        stem.with_suffix(".tile").write_bytes(left)
        digest = hashlib.sha256(tile.tobytes()).hexdigest()
        shape = " ".join(map(str, tile.shape))
        stem.with_suffix(".sha256").write_text(f"{digest} {shape}\n")


def write_bare(folder: Path) -> None:
    """Write tiles that were decoded from a JPEG of standard steps, which is kept without header."""
    for mode, quality in zip(Mode, (20, 60, 75, 90, 45), strict=True):
        stem = folder / f"born-bare-{mode.name.lower()}"
        if stem.with_suffix(".tile").exists():
            continue
        luma = t81.steps(t81.LUMA, quality)
        chroma = t81.steps(t81.CHROMA, quality)
        others = luma if mode in (Mode.GREY, Mode.RGB) else chroma
        inside = replace(coefficients(mode, 9), tables=(luma, others))
        payload = bytes([7, 0, 0, 0]) + coded.encode(inside, ContextState.fresh())
        one = FromJpeg(mode, 1, 4, b"\x07\x03\xff", payload, pixels.decode(inside))
        rest = np.zeros((inside.shape[0] + 2, inside.shape[1] + 5, mode.channels), np.uint8)
        rest[:1], rest[20, 20:40] = 9, 255
        left = one.to_bytes(TileCodec.ZSTD) + classic.encode_zstd(rest)
        stem.with_suffix(".tile").write_bytes(left)
        digest = hashlib.sha256(one.back(rest).tobytes()).hexdigest()
        shape = " ".join(map(str, rest.shape))
        stem.with_suffix(".sha256").write_text(f"{digest} {shape}\n")


def write_several(folder: Path) -> None:
    """Write a tile of two JPEGs that learn from each other, the first with units of zeros."""
    stem = folder / "born-several"
    if stem.with_suffix(".tile").exists():
        return
    pieces, state = [], ContextState.fresh()
    how = [(Mode.QUARTER, 60, 3, 1), (Mode.FULL, 85, 44, 60)]
    for seed, (mode, quality, row, column) in enumerate(how):
        luma = t81.steps(t81.LUMA, quality)
        inside = coefficients(mode, seed)
        sizes = [mode.factors[0], 1, 1]
        planes = [plane[: 4 * n, : 4 * n] for plane, n in zip(inside.planes, sizes, strict=True)]
        if mode is Mode.QUARTER:
            for plane, n in zip(planes, sizes, strict=True):
                plane[2 * n :, 3 * n :] = 0
        tables = luma, t81.steps(t81.CHROMA, quality)
        inside = replace(inside, planes=tuple(planes), tables=tables)
        pieces.append(Piece.of(inside, row, column, coded.encode(inside, state)))
    one = FromJpegs(tuple(pieces), b"\x07\x03\xff")
    rest = np.zeros((80, 95, 3), np.uint8)
    rest[:3], rest[20, 20:40] = 9, 255
    left = one.to_bytes(TileCodec.ZSTD) + classic.encode_zstd(rest)
    stem.with_suffix(".tile").write_bytes(left)
    digest = hashlib.sha256(one.back(rest).tobytes()).hexdigest()
    stem.with_suffix(".sha256").write_text(f"{digest} 80 95 3\n")


def write_jpegs(folder: Path) -> None:
    """Write JPEG tiles as coded coefficients, and their SHA-256; the primed ones in a chain."""
    state = ContextState.fresh()
    for name, data in jpeg_files().items():
        stem = folder / f"jpeg-{name}"
        if stem.with_suffix(".tile").exists():
            continue
        tile = jpeg_tile.as_tile(bytes([1, 0, 0]) + data)
        how = state if name.startswith("primed") else None
        stem.with_suffix(".tile").write_bytes(jpeg_tile.encode_coefficients(tile, how))
        stem.with_suffix(".sha256").write_text(hashlib.sha256(tile.tobytes()).hexdigest() + "\n")


def write_turned(folder: Path) -> None:
    """Write tiles coded from other sides by the deep model, their SHA-256, type and shape."""
    engine = Engine.open((folder / "deep.model").read_bytes(), device="cpu", threads=1)
    ramp = pictures()["01-rgb-ramp"][:9, :14]
    deep = (ramp[..., :1].astype(np.uint16) * 131) ^ 5
    colours = {f"rgb-{number}": ramp for number in (7, 12, 29, 38, 42)}
    wide = ramp.astype(np.int16) * 99 - 9000
    cases = colours | {"grey-5": ramp[..., :1], "deep-6": deep, "signed-3": wide}
    for name, samples in cases.items():
        stem = folder / f"turned-{name}"
        if stem.with_suffix(".tile").exists():
            continue
        how = orientation.Orientation(int(name.split("-")[1]))
        [coded] = learned.encode([how.oriented(samples)], engine)
        assert coded is not None
        stem.with_suffix(".tile").write_bytes(chain.wrapped(how, coded).payload)
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        words = digest, samples.dtype.str[1:], *samples.shape
        stem.with_suffix(".sha256").write_text(" ".join(map(str, words)) + "\n")


def write_jpeg_ls(folder: Path) -> None:
    """Write tiles under JPEG-LS, their SHA-256, type and shape."""
    ramp = pictures()["01-rgb-ramp"]
    deep = ramp.astype(np.uint16) * 131
    signed = (deep[..., :1].astype(np.int64) - 9000).astype(np.int16)
    cases = {"rgb": ramp, "grey": ramp[..., :1], "deep": deep, "signed": signed}
    for name, samples in cases.items():
        stem = folder / f"ls-{name}"
        if stem.with_suffix(".tile").exists():
            continue
        stem.with_suffix(".tile").write_bytes(jpeg_ls.encode(samples))
        words = hashlib.sha256(samples.tobytes()).hexdigest(), samples.dtype.str[1:], *samples.shape
        stem.with_suffix(".sha256").write_text(" ".join(map(str, words)) + "\n")


def save(stem: Path, samples: np.ndarray, encoded: Encoded) -> None:
    """Write STEM.bin (the payload) and STEM.json (what it decodes to)."""
    if stem.with_suffix(".bin").exists():
        return
    stem.with_suffix(".bin").write_bytes(encoded.payload)
    description = {
        "codec": int(encoded.codec),
        "shape": list(samples.shape),
        "dtype": samples.dtype.str,
        "sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
    }
    stem.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    vectors = Path(sys.argv[1])
    write(vectors / "codec-v1")
    write_difference(vectors / "codec-v1")
    write_adapted(vectors / "codec-v1" / "adapted", adapter.Ranks(2, 3))
    write_adapted(vectors / "codec-v1" / "adapted-heads", adapter.Ranks(2, 0, 3))
    saturated_vector.write(vectors / "codec-v1" / "saturated")
    write_deep(vectors / "codec-v1")
    write_series(vectors / "codec-v1")
    write_narrow(vectors / "codec-v1")
    write_ordered(vectors / "codec-v1")
    write_born(vectors / "codec-v1")
    write_bare(vectors / "codec-v1")
    write_several(vectors / "codec-v1")
    write_jpegs(vectors / "codec-v1")
    write_turned(vectors / "codec-v1")
    write_jpeg_ls(vectors / "codec-v1")
    write_archive(vectors / f"archive-v1-by-{archiver.__version__}", pictures())
