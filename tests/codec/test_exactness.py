"""The bits depend on samples and model only: not on threads, batches, kernels or devices."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import make_vectors
import numpy as np
import pytest
import torch

from archiver.codec.inference import cpu, matmul, wavefront
from archiver.codec.inference.engine import Engine
from archiver.codec.model import architecture, frozen, mgcf, model_file, pretrained
from archiver.codec.reference import decoder
from archiver.errors import IntegrityError, ParityError
from archiver.training.export import export

MODELS = ["tiny", "copying", *pretrained.names()]

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tiny_model: bytes) -> bytes:
    if request.param == "copying":
        return make_vectors.tiny_model(copies=2)
    return tiny_model if request.param == "tiny" else pretrained.load(request.param)


def make_tiles() -> list[np.ndarray]:
    """70 tiles of few shapes: smooth, noisy, flat, colour and grey."""
    rng = np.random.default_rng(5)
    tiles = []
    for i in range(70):
        channels = 1 if i % 5 == 0 else 3
        height, width = [(16, 16), (16, 16), (11, 23), (1, 9)][i % 4]
        row, column = np.mgrid[0:height, 0:width]
        slope = (row * (i % 7) + column * (i % 11))[..., None] + np.arange(channels) * 9
        tiles.append((slope + rng.integers(0, 1 + i * 3, slope.shape)).astype(np.uint8))
    return tiles


def digest(payloads: list[bytes]) -> str:
    return hashlib.sha256(b"".join(payloads)).hexdigest()


@contextlib.contextmanager
def without_onednn() -> Iterator[None]:
    """Use torch's own kernels, and NNPACK where it offers itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about TF32 on Intel GPUs when it switches
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def encode_in_batches(engine: Engine, tiles: list[np.ndarray], size: int) -> list[bytes]:
    return [p for i in range(0, len(tiles), size) for p in engine.encode(tiles[i : i + size])]


def test_encoding_ignores_threads_batches_order_and_kernels(model: bytes) -> None:
    """One digest for 1, 2 and 8 threads, batches of 1, 7 and 64, with and without oneDNN."""
    engine, tiles = Engine.open(model, device="cpu"), make_tiles()
    expected = digest(encode_in_batches(engine, tiles, 1))
    for n_threads in (1, 2, 8):
        for size in (7, 64):
            engine.threads = n_threads
            assert digest(encode_in_batches(engine, tiles, size)) == expected
    with without_onednn():
        assert digest(engine.encode(tiles)) == expected
    order = np.random.default_rng(0).permutation(len(tiles))
    shuffled = engine.encode([tiles[i] for i in order])
    assert digest([shuffled[i] for i in np.argsort(order)]) == expected


def test_decoding_ignores_threads_batches_order_and_kernels(model: bytes) -> None:
    """Every configuration decodes what another one encoded."""
    engine, tiles = Engine.open(model, device="cpu"), make_tiles()
    payloads, shapes = engine.encode(tiles), [t.shape for t in tiles]

    def check(indices: list[int]) -> None:
        decoded = engine.decode([payloads[i] for i in indices], [shapes[i] for i in indices])
        for i, tile in zip(indices, decoded, strict=True):
            np.testing.assert_array_equal(tile, tiles[i])

    for n_threads, size in ((1, 70), (2, 7), (8, 64)):
        engine.threads = n_threads
        for i in range(0, len(tiles), size):
            check(list(range(i, min(i + size, len(tiles)))))
    with without_onednn():
        check(list(range(len(tiles))))
    check([int(i) for i in np.random.default_rng(1).permutation(len(tiles))])
    for i in (0, 3, 9):
        check([i])


def test_numpy_reference_decodes_what_torch_encoded(model: bytes) -> None:
    """The reference decoder, which shares no model code with torch, finds the same samples."""
    engine = Engine.open(model, device="cpu")
    reader = decoder.ReferenceModel.from_bytes(model)
    for tile in make_tiles()[:24]:
        (payload,) = engine.encode([tile])
        np.testing.assert_array_equal(decoder.decode(payload, tile.shape, reader), tile)


def test_limits_are_kept_by_every_decoder() -> None:
    """Where every limit of the network is reached, wavefront, tensors and NumPy agree."""
    model, payload = (VECTORS / f"saturated.{kind}" for kind in ("model", "tile"))
    engine = Engine.open(model.read_bytes(), device="cpu")
    (samples,) = engine.decode([payload.read_bytes()], [(9, 10, 3)])
    digest = (VECTORS / "saturated.sha256").read_text().strip()
    assert hashlib.sha256(samples.tobytes()).hexdigest() == digest
    assert engine.encode([samples]) == [payload.read_bytes()]
    reader = decoder.ReferenceModel.from_bytes(model.read_bytes())
    again = decoder.decode(payload.read_bytes(), (9, 10, 3), reader)
    np.testing.assert_array_equal(again, samples)


def test_float64_agrees_with_float32(model: bytes) -> None:
    """No float32 sum in the network rounds: float64 gives the same numbers."""
    net = frozen.build(model_file.ModelFile.from_bytes(model))
    tile = torch.from_numpy(make_tiles()[1]).float().unsqueeze(0)
    with torch.inference_mode():
        outputs, base = wavefront.predict(net, tile)
        wide_outputs, wide_base = wavefront.predict(net.double(), tile.double())
    assert torch.equal(base.double(), wide_base)
    # products of two inexact factors round once to float32, then to whole levels
    assert (outputs.double() - wide_outputs).abs().max() <= 1


def test_all_coders_make_the_same_bits(model: bytes) -> None:
    """Loops in int8, loops in float32 and tensors: one prediction, one payload, any decoder."""
    net = frozen.build(model_file.ModelFile.from_bytes(model))
    kinds = [torch.float32, *([torch.int8] if matmul.has_int8() else [])]
    coders = [wavefront.TensorCoder(net), *(cpu.CpuCoder(net, kind) for kind in kinds)]
    with torch.inference_mode():
        for tile in make_tiles()[:16]:
            results = [coder.predict(tile[None]) for coder in coders]
            for outputs, base in results[1:]:
                assert torch.equal(outputs, results[0][0])
                assert torch.equal(base, results[0][1])
            (payload,) = coders[0].encode(tile[None])
            for coder in coders:
                assert coder.encode(tile[None]) == [payload]
                (decoded,) = coder.decode([payload], [tile.shape[:2]], tile.shape[2])
                np.testing.assert_array_equal(decoded, tile)


@pytest.fixture(params=["_int_mm", "mm"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the matrix products that a CPU may use; the test breaks it."""
    name: str = request.param
    if name == "_int_mm" and not matmul.has_int8():
        pytest.skip("this processor has no int8 products")
    if name == "mm":
        monkeypatch.setattr(matmul, "has_int8", lambda: False)
    return name


def test_inexact_product_is_refused(
    model: bytes, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix product whose results round to 12 bits fails the self-test."""
    break_products(monkeypatch, lambda out: out.copy_((out * (1 + 2**-12)).round()))
    with pytest.raises(ParityError, match="does not compute the exact bits"):
        Engine.open(model, device="cpu")


def test_one_wrong_sum_in_a_thousand_is_refused(
    tiny_model: bytes, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one output in a thousand that is off by the smallest step is noticed."""

    def off_by_one_step(out: torch.Tensor) -> None:
        out.view(-1)[::1000] += 1

    break_products(monkeypatch, off_by_one_step)
    with pytest.raises(ParityError):
        Engine.open(tiny_model, device="cpu")


def test_int8_that_fails_is_replaced_by_float32(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor whose int8 products saturate still codes, in float32, the same bits."""
    expected = Engine.open(model, device="cpu").encode(make_tiles()[:4])
    monkeypatch.setattr(matmul, "has_int8", lambda: True)
    exact = torch.mm

    def saturated(x: torch.Tensor, y: torch.Tensor, *, out: torch.Tensor) -> None:
        out.copy_(exact(x.float(), y.float()).clamp(-(2**12), 2**12))

    monkeypatch.setattr(torch, "_int_mm", saturated)
    engine = Engine.open(model, device="cpu")
    assert isinstance(engine.coder, cpu.CpuCoder)
    assert engine.coder.kind == torch.float32
    assert engine.encode(make_tiles()[:4]) == expected


def test_a_decoder_that_fails_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong wavefront is a fault of the machine, whatever it raises: float32 takes over."""
    monkeypatch.setattr(matmul, "has_int8", lambda: True)
    exact = cpu.CpuCoder.decode

    def wrong(self: cpu.CpuCoder, *args: object) -> list[np.ndarray]:
        if self.kind == torch.int8:
            raise IntegrityError("stream does not decode")
        return exact(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(cpu.CpuCoder, "decode", wrong)
    engine = Engine.open(pretrained.load(pretrained.SMALL), device="cpu")
    assert isinstance(engine.coder, cpu.CpuCoder)
    assert engine.coder.kind == torch.float32


def test_a_network_one_unit_wide_codes_in_int8() -> None:
    """Products with a single column read their operands' strides: they must be right."""
    if not matmul.has_int8():
        pytest.skip("this processor has no int8 products")
    net = mgcf.MGCF(architecture.Architecture(dim=1, blocks=1))
    coding = frozen.build(model_file.ModelFile.from_bytes(export(net, "thin", {})))
    tile = make_tiles()[1][None]
    with torch.inference_mode():
        outputs, _ = cpu.CpuCoder(coding, torch.int8).predict(tile)
        assert torch.equal(outputs, wavefront.TensorCoder(coding).predict(tile)[0])


def break_products(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[torch.Tensor], object]
) -> None:
    """Let ``spoil`` change the result of every matrix product."""

    def broken(exact: Callable[..., torch.Tensor]) -> Callable[..., None]:
        def product(x: torch.Tensor, y: torch.Tensor, *, out: torch.Tensor) -> None:
            exact(x, y, out=out)
            spoil(out)

        return product

    for name in ("mm", "_int_mm"):
        monkeypatch.setattr(torch, name, broken(getattr(torch, name)))


@pytest.mark.gpu
@pytest.mark.parametrize("tf32", [True, False])
def test_cuda_and_cpu_make_the_same_bits(model: bytes, *, tf32: bool) -> None:
    """CUDA, with and without TF32, encodes to the CPU's digest and decodes the CPU's payloads."""
    cpu, gpu, tiles = (
        Engine.open(model, device="cpu"),
        Engine.open(model, device="cuda"),
        make_tiles(),
    )
    assert gpu.device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    payloads = cpu.encode(tiles)
    assert digest(gpu.encode(tiles)) == digest(payloads)
    for tile, decoded in zip(tiles, gpu.decode(payloads, [t.shape for t in tiles]), strict=True):
        np.testing.assert_array_equal(tile, decoded)
