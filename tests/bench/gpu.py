"""What a GPU does with the base models: exactness, speed, training; each step in its own process.

usage: python tests/bench/gpu.py --out FOLDER [--device cpu --quick] [STEP ...]

Steps write ``STEP.json`` as soon as they end; one that fails or runs over its time does not stop
the next.  A result of another machine that differs by one bit from the CPU's is the most important
finding of all: it is printed first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archiver.codec.inference.engine import Engine, digest_of, self_test_digest
from archiver.codec.inference.native import NativeCoder
from archiver.codec.inference.tensor_coder import TensorCoder
from archiver.codec.model import frozen, model_file, pretrained
from archiver.native import library

SECONDS = {"exactness": 100, "speed": 90, "train": 460}
Options = argparse.Namespace


def photograph(side: int, seed: int) -> np.ndarray:
    """Return a synthetic image (side, side, 3) with edges, gradients and grain."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:side, 0:side]
    smooth = sum(
        60 * np.sin(row * rng.uniform(0, 0.1) + column * rng.uniform(0, 0.1) + rng.uniform(0, 6))
        for _ in range(3)
    )
    edge = 50 * ((row * rng.uniform(-1, 1) + column * rng.uniform(-1, 1)) > side * 0.1)
    grey = 128 + smooth * 0.5 + edge
    grain = rng.normal(0, 2, (side, side, 3)) + rng.normal(0, 3, (side, side, 1))
    return np.clip(grey[..., None] * [1, 0.9, 0.8] + grain, 0, 255).astype(np.uint8)


def outputs_digest(coder: Any, tiles: np.ndarray) -> str:
    outputs, base = coder.predict(tiles)
    state = hashlib.sha256()
    for values in (outputs * 1024, base):
        state.update(values.astype("<i4").tobytes())
    return state.hexdigest()[:16]


def coders(file: model_file.ModelFile, device: str) -> dict[str, Callable[[], Any]]:
    """Return every way to compute with a model, by name."""
    net = frozen.build(file)

    def on_device(tf32: bool) -> Callable[[], Any]:
        def make() -> Any:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            import copy

            return TensorCoder(copy.deepcopy(net).to(device))

        return make

    ways = {
        f"{device} tensors": on_device(False),
    }
    for name in library.supported():
        ways[f"cpu {name}"] = lambda name=name: NativeCoder(file, library.load(name))
    if device != "cpu":
        ways[f"{device} TF32"] = on_device(True)
    return ways


def exactness(options: Options) -> dict[str, Any]:
    """Compare digests of the networks' outputs, of payloads, and decode across devices."""
    found: dict[str, Any] = {"faults": []}
    batches = [(1, 33), (7, 64)] if options.quick else [(1, 64), (7, 64), (64, 64), (512, 64)]
    batches += [] if options.quick else [(1, 256), (24, 256), (1, 512), (3, 512)]
    for name in pretrained.names():
        file = model_file.ModelFile.from_bytes(pretrained.load(name))
        expected: dict[str, str] = {}
        for way, make in coders(file, options.device).items():
            coder = make()
            results = {"self-test": self_test_digest(coder, NativeCoder(file, library.core()))}
            if results["self-test"] != file.self_test:
                found["faults"].append(f"{name}: {way}: self-test")
            for n, side in batches:
                tiles = np.stack([photograph(side, i) for i in range(min(n, 8))])
                tiles = np.concatenate([tiles] * (-(-n // len(tiles))))[:n]
                key = f"{n} x {side}"
                if way.startswith("cpu") and n * side * side > 1 << 20:
                    continue
                results[key] = outputs_digest(coder, tiles)
                same_as_first = results[key] == outputs_digest(coder, tiles[: min(n, 8)]) or n > 8
                if expected.setdefault(key, results[key]) != results[key] or not same_as_first:
                    found["faults"].append(f"{name}: {way}: {key}")
            found[f"{name}, {way}"] = results
            print(name, way, results, flush=True)
        tiles = [photograph(64, i) for i in range(4)] + [photograph(64, 9)[..., :1]]
        engines = [Engine.open(pretrained.load(name), device=d) for d in ("cpu", options.device)]
        payloads = [engine.encode(tiles) for engine in engines]
        if payloads[0] != payloads[1]:
            found["faults"].append(f"{name}: payloads differ")
        for engine in engines:
            decoded = engine.decode(payloads[0], [t.shape for t in tiles])
            if not all(map(np.array_equal, decoded, tiles)):
                found["faults"].append(f"{name}: {engine.device} does not decode")
        assert digest_of(file) == file.self_test
    return found


def speed(options: Options) -> dict[str, Any]:
    """Time encoding and decoding at several numbers of tiles in flight."""
    side = 64 if options.quick else 256
    found: dict[str, Any] = {"tile": side}
    for name in pretrained.names():
        engine = Engine.open(pretrained.load(name), device=options.device)
        tiles = [photograph(side, i) for i in range(16)]
        for n in (1, 2) if options.quick else (1, 16, 128):
            batch = (tiles * (-(-n // 16)))[:n]
            engine.encode(batch[:1])
            pixels = n * side * side / 1e6
            began = time.perf_counter()
            payloads = engine.encode(batch)
            encoding = time.perf_counter() - began
            began = time.perf_counter()
            with torch.inference_mode():
                engine.coder.predict(np.stack(batch[:64]))
                _wait(options.device)
            network = (time.perf_counter() - began) * max(1, n / 64)
            began = time.perf_counter()
            decoded = engine.decode(payloads, [t.shape for t in batch])
            decoding = time.perf_counter() - began
            assert all(map(np.array_equal, decoded, batch))
            row = {
                "encode_mpx_s": pixels / encoding,
                "network_mpx_s": pixels / network,
                "decode_mpx_s": pixels / decoding,
            }
            found[f"{name}, {n} tiles"] = row
            print(name, n, {key: round(value, 3) for key, value in row.items()}, flush=True)
    return found


def train(options: Options) -> dict[str, Any]:
    """Train on folders of images, as ``archiver train`` does."""
    from archiver.training import run

    folders = [(Path(f.partition("=")[0]), float(f.partition("=")[2] or 1)) for f in options.data]
    if not folders:
        return {"skipped": "no --data"}
    asked = run.Options(
        minutes=0.2 if options.quick else options.minutes,
        dim=options.dim,
        blocks=options.blocks,
        crop=96,
        batch=2 if options.quick else options.batch,
        high_depth=0.12,
        grey=0.15,
        decay=options.decay,
        peak=options.peak,
        start=options.start,
        device=options.device,
        compiled=not options.quick,
    )
    rows: list[Any] = []
    _compile_but(options.eager)

    def on_row(row: Any) -> None:
        rows.append(row)
        if len(rows) % 5 == 1:
            print(row, flush=True)

    done = run.run(folders, options.out / "run", asked, lambda s: print(s.step, s.weights), on_row)
    return {"steps": done.step, "pixels_s": rows[-1].pixels_s if rows else None}


def _compile_but(kinds: list[str]) -> None:
    """Have batches of some kinds learned from without compiling, which takes a minute for each."""
    from archiver.codec.model import batches
    from archiver.training import train as training

    def loss_function(run: Any) -> Callable[[Any], torch.Tensor]:
        def bits_per_sample(batch: Any) -> torch.Tensor:
            return batches.bits(run._net, batch).mean()

        compiled = torch.compile(bits_per_sample)
        return lambda batch: (bits_per_sample if batch.kind in kinds else compiled)(batch)

    if kinds:
        training._Run._loss_function = loss_function  # type: ignore[method-assign]


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


STEPS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "exactness": exactness,
    "speed": speed,
    "train": train,
}


def main() -> None:
    """Run the steps that were asked for, each in a process of its own with a limit of time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("steps", nargs="*", default=list(STEPS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--eager", nargs="*", default=[], help="kinds of batches not to compile for"
    )
    parser.add_argument("--dim", type=int)
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--decay", type=float, default=0.7)
    parser.add_argument("--peak", type=float, default=1.5)
    parser.add_argument("--start", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.here:
        (step,) = options.steps
        result = STEPS[step](options)
        (options.out / f"{step}.json").write_text(json.dumps(result, indent=1))
        for fault in result.get("faults", []):
            print("DIFFERS:", fault, flush=True)
        return
    rest = [a for a in sys.argv[1:] if a not in STEPS]
    for step in options.steps:
        began = time.monotonic()
        command = [sys.executable, __file__, step, "--here", *rest]
        try:
            code: Any = subprocess.run(command, timeout=SECONDS[step], check=False).returncode
        except subprocess.TimeoutExpired:
            code = "over its time"
        print(f"== {step}: {code}, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
