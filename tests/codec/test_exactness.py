"""The bits depend on samples and model only: not on threads, batches, kernels or devices."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import make_vectors
import numpy as np
import pytest
import torch

from archiver.codec.inference import engine, wavefront
from archiver.codec.inference.engine import Engine
from archiver.codec.inference.native import NativeCoder
from archiver.codec.inference.tensor_coder import TensorCoder
from archiver.codec.model import architecture, frozen, mgcf, model_file, pretrained
from archiver.codec.reference import decoder
from archiver.errors import IntegrityError, MachineError, ParityError
from archiver.native import library
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


def encode_in_batches(opened: Engine, tiles: list[np.ndarray], size: int) -> list[bytes]:
    return [p for i in range(0, len(tiles), size) for p in opened.encode(tiles[i : i + size])]


def test_encoding_ignores_threads_batches_order_and_kernels(model: bytes) -> None:
    """One digest for 1, 2 and 8 threads, batches of 1, 7 and 64, with and without oneDNN."""
    opened, tiles = Engine.open(model, device="cpu"), make_tiles()
    expected = digest(encode_in_batches(opened, tiles, 1))
    for n_threads in (1, 2, 8):
        threaded = Engine.open(model, device="cpu", threads=n_threads)
        for size in (7, 64):
            assert digest(encode_in_batches(threaded, tiles, size)) == expected
    with without_onednn():
        assert digest(opened.encode(tiles)) == expected
    order = np.random.default_rng(0).permutation(len(tiles))
    shuffled = opened.encode([tiles[i] for i in order])
    assert digest([shuffled[i] for i in np.argsort(order)]) == expected


def test_decoding_ignores_threads_batches_order_and_kernels(model: bytes) -> None:
    """Every configuration decodes what another one encoded."""
    opened, tiles = Engine.open(model, device="cpu"), make_tiles()
    payloads, shapes = opened.encode(tiles), [t.shape for t in tiles]

    def check(indices: list[int], decoding: Engine = opened) -> None:
        decoded = decoding.decode([payloads[i] for i in indices], [shapes[i] for i in indices])
        for i, tile in zip(indices, decoded, strict=True):
            np.testing.assert_array_equal(tile, tiles[i])

    for n_threads, size in ((1, 70), (2, 7), (8, 64)):
        threaded = Engine.open(model, device="cpu", threads=n_threads)
        for i in range(0, len(tiles), size):
            check(list(range(i, min(i + size, len(tiles)))), threaded)
    with without_onednn():
        check(list(range(len(tiles))))
    check([int(i) for i in np.random.default_rng(1).permutation(len(tiles))])
    for i in (0, 3, 9):
        check([i])


def test_numpy_reference_decodes_what_torch_encoded(model: bytes) -> None:
    """The reference decoder, which shares no model code with torch, finds the same samples."""
    opened = Engine.open(model, device="cpu")
    reader = decoder.ReferenceModel.from_bytes(model)
    for tile in make_tiles()[:24]:
        (payload,) = opened.encode([tile])
        np.testing.assert_array_equal(decoder.decode(payload, tile.shape, reader), tile)


def test_limits_are_kept_by_every_decoder() -> None:
    """Where every limit of the network is reached, wavefront, tensors and NumPy agree."""
    model, payload = (VECTORS / f"saturated.{kind}" for kind in ("model", "tile"))
    opened = Engine.open(model.read_bytes(), device="cpu")
    (samples,) = opened.decode([payload.read_bytes()], [(9, 10, 3)])
    digest = (VECTORS / "saturated.sha256").read_text().strip()
    assert hashlib.sha256(samples.tobytes()).hexdigest() == digest
    assert opened.encode([samples]) == [payload.read_bytes()]
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


def all_coders(model: bytes) -> list[engine.Coder]:
    """The core on every instruction set of this machine, and tensors."""
    file = model_file.ModelFile.from_bytes(model)
    cores = [library.load(name) for name in library.supported()]
    natives = [NativeCoder(file, core) for core in cores if core is not None]
    return [TensorCoder(frozen.build(file)), *natives]


def test_the_core_is_built_and_used() -> None:
    """An installation has the core; without it the tests below would compare nothing."""
    assert "portable" in library.supported()
    assert isinstance(Engine.open(pretrained.load(pretrained.SMALL)).coder, NativeCoder)


def test_all_coders_make_the_same_bits(model: bytes) -> None:
    """Every instruction set and tensors: one prediction, one payload, any decoder."""
    coders = all_coders(model)
    for tile in make_tiles()[:16]:
        results = [coder.predict(tile[None]) for coder in coders]
        levels = [coder.features(tile[None])[0] for coder in coders]
        for (outputs, base), level in zip(results[1:], levels[1:], strict=True):
            np.testing.assert_array_equal(outputs, results[0][0])
            np.testing.assert_array_equal(base, results[0][1])
            np.testing.assert_array_equal(level, levels[0])
        (payload,) = coders[0].encode(tile[None])
        for coder in coders:
            assert coder.encode(tile[None]) == [payload]
            (decoded,) = coder.decode([payload], [tile.shape])
            np.testing.assert_array_equal(decoded, tile)


def test_tensors_take_over_where_there_is_no_core(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits; only time is lost."""
    expected = Engine.open(model, device="cpu").encode(make_tiles()[:4])
    monkeypatch.setattr(library, "instruction_set", lambda: None)
    slow = Engine.open(model, device="cpu")
    assert isinstance(slow.coder, TensorCoder)
    assert slow.encode(make_tiles()[:4]) == expected
    if slow.has_high_depth:
        with pytest.raises(MachineError, match="native core"):
            slow.encode_high_depth([np.zeros((4, 4), np.uint16)])


@pytest.mark.parametrize("spoil", [lambda x: (x * (1 + 2**-12)).round(), lambda x: x + (x == 7)])
def test_inexact_results_are_refused(
    model: bytes, spoil: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs rounded to 12 bits, or one in many a step off, fail the self-test of every way."""
    for kind in (NativeCoder, TensorCoder):
        exact = kind.predict

        def wrong(self: engine.Coder, tiles: np.ndarray, exact: Any = exact) -> tuple[Any, Any]:
            outputs, base = exact(self, tiles)
            return spoil(outputs), base

        monkeypatch.setattr(kind, "predict", wrong)
    with pytest.raises(ParityError, match="does not compute the exact bits"):
        Engine.open(model, device="cpu")


def test_a_way_that_fails_is_replaced_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong decoder is a fault of the machine, whatever it raises: tensors take over."""
    model = pretrained.load(pretrained.SMALL)
    expected = Engine.open(model, device="cpu").encode(make_tiles()[:2])

    def wrong(self: NativeCoder, *args: object) -> list[np.ndarray]:
        raise IntegrityError("stream does not decode")

    monkeypatch.setattr(NativeCoder, "decode", wrong)
    replaced = Engine.open(model, device="cpu")
    assert isinstance(replaced.coder, TensorCoder)
    assert replaced.encode(make_tiles()[:2]) == expected


@pytest.mark.parametrize(
    "sizes",
    [
        architecture.Architecture(dim=1, blocks=1),
        architecture.Architecture(dim=8, blocks=2, hidden=1, mixtures=1, copies=0),
        architecture.Architecture(dim=40, blocks=1, hidden=3, mixtures=4, copies=1),
    ],
)
def test_networks_of_odd_sizes(sizes: architecture.Architecture) -> None:
    """Widths that fill no vector, one component, no copies: padding changes nothing."""
    torch.manual_seed(3)
    model = export(mgcf.MGCF(sizes), "odd", {})
    coders = all_coders(model)
    for tile in make_tiles()[1:5]:
        payloads = {coder.encode(tile[None])[0] for coder in coders}
        assert len(payloads) == 1
        for coder in coders:
            (decoded,) = coder.decode([*payloads], [tile.shape])
            np.testing.assert_array_equal(decoded, tile)


def test_damaged_streams_end(tiny_model: bytes) -> None:
    """Whatever the words say, a tile of the right shape comes back, or an IntegrityError."""
    rng = np.random.default_rng(11)
    opened, tile = Engine.open(tiny_model, device="cpu"), make_tiles()[1]
    (payload,) = opened.encode([tile])
    for _ in range(300):
        words = np.frombuffer(payload, "<u4").copy()
        words[rng.integers(len(words))] ^= np.uint32(1 << rng.integers(32))
        cut = words[: rng.integers(len(words) + 1)].tobytes()
        with contextlib.suppress(IntegrityError):
            (decoded,) = opened.decode([cut], [tile.shape])
            assert decoded.shape == tile.shape


@pytest.mark.gpu
@pytest.mark.parametrize("tf32", [True, False])
def test_cuda_and_cpu_make_the_same_bits(model: bytes, *, tf32: bool) -> None:
    """CUDA, with and without TF32, encodes to the CPU's digest and decodes the CPU's payloads."""
    cpu, gpu, tiles = (
        Engine.open(model, device="cpu"),
        Engine.open(model, device="cuda"),
        make_tiles(),
    )
    assert gpu.device.startswith("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    payloads = cpu.encode(tiles)
    assert digest(gpu.encode(tiles)) == digest(payloads)
    for tile, decoded in zip(tiles, gpu.decode(payloads, [t.shape for t in tiles]), strict=True):
        np.testing.assert_array_equal(tile, decoded)
