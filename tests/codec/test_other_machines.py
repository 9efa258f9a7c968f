"""Other processors code the same bits: Arm under an emulator, AVX-512's instructions in C."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import make_vectors
import numpy as np
import pytest

from archiver.codec.inference.engine import Engine, high_depth_test_tiles, self_test_tiles
from archiver.codec.inference.native import NativeCoder, _tables
from archiver.codec.model import architecture, layers, model_file, pretrained
from archiver.codec.model.high_depth import Window
from archiver.native import build

QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
KINDS = {"grey": 0, "rgb": 1, "deep": 2}


def block(data: bytes) -> bytes:
    return struct.pack("<i", len(data)) + data


def layer(row: layers.Layer) -> bytes:
    n_out, n_in = row.weight.shape
    parts = (row.weight.tobytes(), row.scale.tobytes(), row.bias.tobytes())
    return struct.pack("<2i", n_in, n_out) + b"".join(map(block, parts))


def written(file: model_file.ModelFile, tiles: list[bytes]) -> bytes:
    """Return what other_machine.c reads: tables, network, tiles with their payloads."""
    sizes = file.architecture
    out = block(_tables().tobytes())
    width = sizes.hidden * sizes.dim
    out += struct.pack("<5i", sizes.dim, width, sizes.blocks, sizes.mixtures, sizes.copies)
    for number in range(sizes.blocks):
        for name in layers.BLOCK_LAYERS:
            out += layer(layers.layer(file, f"blocks.{number}.{name}"))
    ports = architecture.ports_of(sizes)
    out += struct.pack("<i", len(ports))
    for port in ports:
        out += struct.pack("<i", KINDS[port])
        out += b"".join(
            layer(layers.layer(file, f"ports.{port}.{name}")) for name in ("embed", "head")
        )
        out += block(layers.base_mantissas(file, port).tobytes())
    return out + struct.pack("<i", len(tiles)) + b"".join(tiles)


def tile(kind: int, samples: np.ndarray, window: list[int], payload: bytes) -> bytes:
    """Return one tile: what is encoded, and what comes out."""
    height, width = samples.shape[:2]
    out = struct.pack("<3i", kind, height, width)
    out += block(np.array(window, "<i4").tobytes()) + block(samples.tobytes())
    return out + struct.pack("<2i", len(payload), samples.nbytes) + payload


def expected(model: bytes) -> bytes:
    engine, tiles = Engine.open(model, device="cpu"), []
    for channels in (1, 3):
        for samples in self_test_tiles(channels)[::6]:
            tiles.append(tile(channels // 2, samples, [], engine.encode([samples])[0]))
    for plane in high_depth_test_tiles()[::6] if engine.has_high_depth else ():
        window = Window.of(plane)
        [payload] = engine.encode_high_depth([plane])
        stated = [window.top, window.middle, window.shift, window.digits]
        values = window.values(plane).astype("<i4")
        tiles.append(tile(2, values, stated, payload[len(window.to_bytes()) :]))
    return written(model_file.ModelFile.from_bytes(model), tiles)


@pytest.mark.slow
@pytest.mark.skipif(QEMU is None, reason="needs qemu-aarch64 (qemu-user)")
@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")
@pytest.mark.parametrize("name", ["portable", "dotprod"])
def test_arm_makes_the_same_bits(name: str, tmp_path: Path) -> None:
    cpu, _ = build.TARGETS["aarch64"][name]
    flags = [flag for flag in build.FLAGS if flag not in ("-shared", "-fvisibility=hidden")]
    sources = [*build.SOURCES.glob("*.c"), Path(__file__).with_name("other_machine.c")]
    program = tmp_path / "program"
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *flags, "-target", "aarch64-linux-musl", cpu,
         "-static", *map(str, sources), "-o", str(program), "-lm"],
        check=True, capture_output=True, timeout=250,
    )  # fmt: skip
    for number, model in enumerate(
        [make_vectors.tiny_model(copies=2), pretrained.load(pretrained.SMALLEST)]
    ):
        data = tmp_path / f"{number}.data"
        data.write_bytes(expected(model))
        run = subprocess.run(
            [str(QEMU), "-cpu", "max", str(program), str(data)],
            check=False, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout
        assert "same" in run.stdout


@pytest.mark.skipif(build.machine() != "x86_64", reason="needs x86-64")
@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")
def test_avx512_makes_the_same_bits(tmp_path: Path) -> None:
    """Its layout of levels, blocks of columns and pairs of taps is its own; most machines lack it.

    The emulation is slow, so it codes small models: one whose features end within a block.
    """
    emulated = Path(__file__).with_name("avx512_emulated.h")
    library = tmp_path / "emulated.so"
    sources = map(str, build.SOURCES.glob("*.c"))
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *build.FLAGS, "-mcpu=x86_64_v3",
         f'-DEMULATED_AVX512="{emulated}"', *sources, "-o", str(library), "-lm"],
        check=True, capture_output=True, timeout=250,
    )  # fmt: skip
    for model in (make_vectors.tiny_model(copies=2), pretrained.load(pretrained.SMALLEST)):
        opened, file = Engine.open(model, device="cpu"), model_file.ModelFile.from_bytes(model)
        coder = NativeCoder(file, ctypes.CDLL(str(library)))
        for channels in (1, 3):
            images = self_test_tiles(channels)[::7]
            payloads = opened.encode(list(images))
            assert coder.encode(images) == payloads
            decoded = coder.decode(payloads, [image.shape for image in images])
            assert all(map(np.array_equal, decoded, images))
        plane = high_depth_test_tiles()[3]
        window = Window.of(plane)
        [stream] = coder.encode_high_depth([window.values(plane)], [window])
        assert opened.encode_high_depth([plane]) == [window.to_bytes() + stream]
