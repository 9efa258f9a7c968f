"""FORMAT.md is enough: tiles are read with zarr, NumPy and constriction, without archiver.

Everything below was written from the text of manifests/FORMAT.md, one pixel at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import constriction
import google_crc32c
import numpy as np
import pytest
import zarr
import zstandard

ARCHIVES = sorted((Path(__file__).parent / "vectors").glob("archive-v1-*/*.archive"))


def test_this_file_does_not_import_archiver() -> None:
    """The reader below owes nothing to the package."""
    lines = Path(__file__).read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import archiver", "from archiver"))]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda p: p.parent.name)
def test_every_learned_tile_reads_from_the_text_alone(archive: Path) -> None:
    """Shard, extent, CRCs, model and samples are found by what FORMAT.md says."""
    root = zarr.open_group(str(archive), mode="r")
    last = int(str(root.attrs["generation"]))
    generations = [root[f"manifest/{number:06d}"] for number in range(1, last + 1)]

    def column(table: str, name: str) -> np.ndarray[Any, Any]:
        """A column of all generations; tables without rows are not there."""
        have = [g for g in generations if table in g.attrs["tables"]]
        return np.concatenate([g[f"{table}/{name}"][...] for g in have])

    tiles = {name: column("tiles", name) for name in TILE_COLUMNS}
    shards, models = column("shards", "sha256"), column("models", "sha256")
    bytes_ = column("images", "dtype")[tiles["image"]] == 1  # deep tiles have tests of their own
    learned = np.flatnonzero((tiles["codec"] == 4) & bytes_)
    assert len(learned)
    for i in learned:
        shard = (archive / "shards" / bytes(shards[tiles["shard"][i]]).hex()).read_bytes()
        assert hashlib.sha256(shard).digest() == bytes(shards[tiles["shard"][i]])
        payload = shard[tiles["offset"][i] :][: tiles["length"][i]]
        assert google_crc32c.value(payload) == tiles["crc32c"][i]
        model = (archive / "models" / bytes(models[tiles["model"][i]]).hex()).read_bytes()
        _, _, height, width = (int(n) for n in tiles["window"][i])
        channels = int(column("images", "shape")[tiles["image"][i]][2])
        channels = 3 if channels in (3, 4) and tiles["component"][i] == 0 else 1
        samples = Decoder(model, height, width, channels).decode(payload)
        assert google_crc32c.value(samples.tobytes()) == tiles["sample_crc32c"][i]


def test_there_is_an_archive_to_read() -> None:
    """The test above runs on something."""
    assert ARCHIVES


def test_a_difference_reads_from_the_text_alone() -> None:
    """Base and difference give the tensors of the tuned model."""
    folder = Path(__file__).parent / "vectors" / "codec-v1"
    base, tuned = (folder / "tiny.model").read_bytes(), (folder / "tuned.model").read_bytes()
    assert struct.unpack_from("<8sH", tuned) == (b"ARCMODEL", 2)
    assert google_crc32c.value(tuned[:-4]) == struct.unpack("<I", tuned[-4:])[0]
    header, frame = header_of(tuned)
    assert header["base"] == hashlib.sha256(base).hexdigest()
    content = zstandard.ZstdDecompressor().decompress(frame)
    was, data = header_of(base)
    tensors, at = {}, 0
    for name, code, shape in was["tensors"]:
        tensors[name] = np.frombuffer(data, "<" + code, int(np.prod(shape)), at).astype(np.int64)
        at += tensors[name].size * int(code[1])
    at = 0
    for code in ("i1", "i2", "i4"):
        names = [name for name, its_code, _ in was["tensors"] if its_code == code]
        size, n = int(code[1]), sum(tensors[name].size for name in names)
        planes = np.frombuffer(content, np.uint8, size * n, at).reshape(size, n).astype(np.int64)
        at += size * n
        z = sum(plane << (8 * number) for number, plane in enumerate(planes))
        d = np.where(z % 2 == 0, z // 2, -(z + 1) // 2)
        for name in names:
            tensors[name] = (tensors[name] + d[: tensors[name].size]).astype("<" + code)
            d = d[tensors[name].size :]
    assert at == len(content)
    found = b"".join(tensors[name].tobytes() for name, _, _ in was["tensors"])
    assert hashlib.sha256(found).hexdigest() == (folder / "tuned.sha256").read_text().strip()


@pytest.mark.parametrize("name", ["adapted", "adapted-heads"])
def test_an_adapted_tile_reads_from_the_text_alone(name: str) -> None:
    """Model, adapter and payload give the tile."""
    stem = Path(__file__).parent / "vectors" / "codec-v1" / name
    model, payload = stem.with_suffix(".model").read_bytes(), stem.with_suffix(".tile").read_bytes()
    decoder = Decoder(model, 12, 15, 3)
    decoder.adapt(stem.with_suffix(".adapter").read_bytes())
    digest = hashlib.sha256(decoder.decode(payload).tobytes()).hexdigest()
    assert digest == stem.with_suffix(".sha256").read_text().strip()


@pytest.mark.parametrize("bits", [12, 16])
def test_a_deep_tile_reads_from_the_text_alone(bits: int) -> None:
    """Window, stream and model give the samples."""
    folder = Path(__file__).parent / "vectors" / "codec-v1"
    payload = (folder / f"deep-{bits}.tile").read_bytes()
    decoder = DeepDecoder((folder / "deep.model").read_bytes(), 11, 14, payload)
    digest = hashlib.sha256(decoder.decode_deep().astype("<u2").tobytes()).hexdigest()
    assert digest == (folder / f"deep-{bits}.sha256").read_text().strip()


@pytest.mark.parametrize(
    "name", ["rgb-7", "rgb-12", "rgb-29", "rgb-38", "rgb-42", "grey-5", "deep-6"]
)
def test_a_turned_tile_reads_from_the_text_alone(name: str) -> None:
    """The turn and the payload of the tile turned give the tile."""
    stem = Path(__file__).parent / "vectors" / "codec-v1" / f"turned-{name}"
    digest, dtype, *words = stem.with_suffix(".sha256").read_text().split()
    height, width, channels = map(int, words)
    model = (stem.parent / "deep.model").read_bytes()
    payload = stem.with_suffix(".tile").read_bytes()
    side, order = payload[0] % 8, ["012", "021", "102", "120", "201", "210"][payload[0] // 8]
    if side & 4:
        height, width = width, height
    if dtype == "u2":
        found = DeepDecoder(model, height, width, payload[1:]).decode_deep()[..., None]
    else:
        found = Decoder(model, height, width, channels).decode(payload[1:])
    tile = np.empty_like(found)
    for c in range(channels):
        tile[..., int(order[c])] = found[..., c]
    if side & 2:
        tile = tile[:, ::-1]
    if side & 1:
        tile = tile[::-1]
    if side & 4:
        tile = tile.transpose(1, 0, 2)
    assert hashlib.sha256(tile.astype("<" + dtype).tobytes()).hexdigest() == digest


def header_of(model: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", model, 12)
    body = model[16 + length : -4]
    if struct.unpack_from("<H", model, 8)[0] == 3:
        body = zstandard.ZstdDecompressor().decompress(body)
    return json.loads(model[16 : 16 + length]), body


TILE_COLUMNS = (
    *("image", "component", "window", "shard", "offset", "length"),
    *("crc32c", "sample_crc32c", "codec", "model"),
)


def snap(x: np.ndarray[Any, Any], limit: float = 127) -> np.ndarray[Any, Any]:
    return np.clip(np.rint(x), -limit, limit)


def hard_swish(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    v = v.astype(np.float32)
    return v * np.clip(v / np.float32(64) + np.float32(0.5), 0, 1)


def halves(out: int, rank: int, inputs: int) -> list[tuple[int, int]]:
    return [(out, rank), (rank, inputs)]


def signs(rank: int, inputs: int) -> np.ndarray[Any, Any]:
    state, drawn = 1, []
    for _ in range(rank * inputs):
        state = (1103515245 * state + 12345) % 2**31
        drawn.append(0.25 if state >= 2**30 else -0.25)
    return np.array(drawn).reshape(rank, inputs)


def adapter_values(data: bytes, codes: np.ndarray[Any, Any]) -> list[int]:
    """Return the value of every entry, given the scale code of its factor."""
    stream = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4"))
    family = constriction.stream.model.Categorical(perfect=False, lazy=True)
    x = np.where(codes == 0, 128, 0)
    for shift in (4, 0):
        for entry in np.flatnonzero(codes):
            start = 0 if shift else int(x[entry])
            zero, scale = np.zeros(1), np.array([codes[entry] - 81.0])
            ends = [mixed(start + (j << shift), zero, zero, scale) for j in range(17)]
            table = (np.diff(ends) + 1).astype(np.float32)[None]
            x[entry] += int(stream.decode(family, table)[0]) << shift
    return [int(value) for value in x - 128]


def mixed(x: int, logit: Any, centre: Any, s: Any) -> float:
    """The function F of components with integer logits l, centres and scale indices s."""
    mantissa, exponent = np.frexp(4 * 2 ** (-s / 16))
    inverse = np.rint(mantissa * 256) / 256 * 2.0**exponent
    w = np.rint(256 * 2 ** (-(logit.max() - logit) / 16))
    if x in (0, 256):
        return float(8192 * w.sum() * (x == 256))
    i = snap((64 * (x - 128) - 32 - centre) * inverse, 2560)
    return float((w * np.rint(8192 / (1 + np.exp(-i / 256)))).sum())


class Decoder:
    """The section "Codec" of FORMAT.md."""

    def __init__(self, model: bytes, height: int, width: int, channels: int) -> None:
        header, body = header_of(model)
        self.sizes, self.raw, at = header["architecture"], {}, 0
        for name, code, shape in header["tensors"]:
            count = int(np.prod(shape))
            values = np.frombuffer(body, "<" + code, count, at).reshape(shape)
            self.raw[name], at = values.astype(float), at + values.nbytes
        self.shape, self.port = (height, width, channels), {1: "grey", 3: "rgb"}[channels]
        field = (height + 3, width + 6)
        self.planes = np.zeros((*field, 3 * channels + 1))
        self.samples, self.limit = self.planes[..., :channels], 2048.0
        self.features = [np.zeros((*field, self.sizes["dim"])) for _ in range(self.sizes["blocks"])]

    def adapt(self, adapter: bytes) -> None:
        """Merge an adapter: the section "Adapter"."""
        start = 2 + adapter[0]
        r, k, h = (*adapter[1:start], 0)[:3]
        dim, hidden = self.sizes["dim"], self.sizes["dim"] * self.sizes["hidden"]
        sizes = {"attend": (dim, r, dim), "value": (dim, r, dim), "expand": (hidden, r, dim)}
        sizes["depthwise"] = (dim, k, 24)
        used = [name for name in sizes if sizes[name][1]]
        layers = [f"blocks.{i}.{name}" for i in range(self.sizes["blocks"]) for name in used]
        shapes = [s for layer in layers for s in halves(*sizes[layer.rpartition(".")[2]])]
        heads = [f"ports.{port}.head" for port in ("grey", "rgb", "deep") if h]
        heads = [layer for layer in heads if f"{layer}.bias" in self.raw]
        for layer in heads:
            n_out = len(self.raw[f"{layer}.bias"])
            shapes += [*halves(n_out, h, dim), (n_out,)]
        codes = list(adapter[start : start + len(shapes)])
        scales = [np.full(math.prod(s), code) for s, code in zip(shapes, codes, strict=True)]
        values = iter(adapter_values(adapter[start + len(shapes) :], np.concatenate(scales)))
        factors = [np.array([next(values) for _ in range(math.prod(s))]) / 32 for s in shapes]
        parts = [factor.reshape(shape) for factor, shape in zip(factors, shapes, strict=True)]
        for layer in layers + heads:
            u, v = parts.pop(0), parts.pop(0)
            self.put(layer, u @ (v + signs(*v.shape)))
            if layer in heads:
                bias = self.raw[f"{layer}.bias"] + 1024 * 32 * parts.pop(0) / 8
                self.raw[f"{layer}.bias"] = np.clip(bias, -(2**21), 2**21)

    def put(self, layer: str, increment: np.ndarray[Any, Any]) -> None:
        """Add an increment to the weights of a layer; its rows get new exponents."""
        w = self.weight(layer)
        rows = w.reshape(len(w), -1).copy()
        taps = [i for i in range(28) if (i % 7 - 3) + 2 * (i // 7 - 3) <= 0]
        rows[:, taps if layer.endswith("depthwise") else slice(None)] += increment
        fits = [[e for e in range(-10, 5) if abs(row).max() <= 127 * 2.0**e] or [4] for row in rows]
        e = np.array([float(row[0]) for row in fits])
        q = snap(rows / 2 ** e[:, None])
        self.raw[f"{layer}.weight"] = q.reshape(w.shape)
        self.raw[f"{layer}.exponent"] = e

    def weight(self, layer: str) -> np.ndarray[Any, Any]:
        q, e = self.raw[f"{layer}.weight"], self.raw[f"{layer}.exponent"]
        return q * 2.0 ** e.reshape(-1, *[1] * (q.ndim - 1))

    def layer(self, name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self.weight(name) @ x + self.raw[f"{name}.bias"] / 1024

    def seen(self, field: np.ndarray[Any, Any], row: int, column: int, last: int) -> Any:
        """The 4 x 7 neighbourhood of a pixel; taps farther than ``last`` in scan order are zero."""
        r, c = np.mgrid[0:4, 0:7]
        causal = (c - 3) + 2 * (r - 3) <= last
        return field[row : row + 4, column : column + 7] * causal[..., None]

    def predict(self, row: int, column: int) -> tuple[Any, Any]:
        seen = self.seen(self.planes, row, column, -1)
        linear = self.linear(row, column)
        embed = f"ports.{self.port}.embed"
        h = np.einsum("dcij,ijc->d", self.weight(embed), seen) + self.raw[f"{embed}.bias"] / 1024
        for i, field in enumerate(self.features):
            at = f"blocks.{i}."
            a = snap(h)
            field[row + 3, column + 3] = snap(hard_swish(self.layer(at + "attend", a)))
            kernel = self.weight(at + "depthwise")[:, 0]
            gate = np.einsum("dij,ijd->d", kernel, self.seen(field, row, column, 0))
            gate += self.raw[at + "depthwise.bias"] / 1024
            product = gate.astype(np.float32) * self.layer(at + "value", a).astype(np.float32)
            h = np.clip(h + self.layer(at + "project", snap(product / 16)), -2048, 2048)
            hidden = snap(hard_swish(self.layer(at + "expand", snap(h))))
            h = np.clip(h + self.layer(at + "contract", hidden), -2048, 2048)
        return self.layer(f"ports.{self.port}.head", snap(h)), snap(16 * linear, self.limit)

    def linear(self, row: int, column: int) -> np.ndarray[Any, Any]:
        """The base predictor, before its limit."""
        base = self.raw[f"ports.{self.port}.base.weight"] / 1024
        return np.einsum("dcij,ijc->d", base, self.seen(self.samples, row, column, -1))

    def decode(self, payload: bytes) -> Any:
        height, width, channels = self.shape
        stream = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4"))
        family = constriction.stream.model.Categorical(perfect=False, lazy=True)
        out = np.zeros(self.shape, np.uint8)
        for group in range(width + 2 * height - 2):
            pixels = [(r, group - 2 * r) for r in range(height) if 0 <= group - 2 * r < width]
            states = [self.predict(*pixel) for pixel in pixels]
            for c in range(channels):
                counts = [
                    self.count(o, b, c, out, p) for p, (o, b) in zip(pixels, states, strict=True)
                ]
                for shift in (4, 0):
                    for pixel, count in zip(pixels, counts, strict=True):
                        start = 0 if shift else int(out[pixel][c])
                        ends = [count(start + (j << shift)) for j in range(17)]
                        table = (np.diff(ends) + 1).astype(np.float32)[None]
                        out[pixel][c] += int(stream.decode(family, table)[0]) << shift
            for (r, column), (_, base) in zip(pixels, states, strict=True):
                u = out[r, column] - 128.0
                residual = 16 * u - base
                planes = [u, snap(residual / 8), snap(residual / 2), [64]]
                self.planes[r + 3, column + 3] = np.concatenate(planes)
        return out

    def count(self, o: Any, base: Any, c: int, out: Any, pixel: tuple[int, int]) -> Any:
        """Return the function F of one channel of one pixel."""
        channels, k, j = self.shape[2], self.sizes["mixtures"], self.sizes.get("copies", 0)
        decoded = out[pixel]
        rows = o[: len(o) - 2 * channels * j].reshape(-1, k)
        copied = o[len(o) - 2 * channels * j :].reshape(2, channels, j)
        logit, mean, scale = rows[c], rows[channels + c], rows[2 * channels + c]
        centre = 64 * (snap(8 * mean, 4080) + base[c])
        for earlier in range(c):
            coupling = snap(4 * rows[3 * channels + c * (c - 1) // 2 + earlier], 255)
            centre = centre + coupling * (16 * (decoded[earlier] - 128.0) - base[earlier])
        centre = snap(centre / 16, 32768)
        for row, column in [(0, -1), (-1, 0)][:j]:
            seen = self.planes[pixel[0] + 3 + row, pixel[1] + 3 + column, :channels]
            copy = seen[c] + (decoded[c - 1] - 128.0 - seen[c - 1] if c else 0)
            centre = np.append(centre, 64 * copy)
        logit, scale = np.append(logit, copied[0, c]), np.append(scale, copied[1, c])
        s = snap(scale - 12, 92) + 12
        return lambda x: mixed(x, snap(logit), centre, s)


class DeepDecoder(Decoder):
    """The section "Deep tiles", for a tile of one channel."""

    def __init__(self, model: bytes, height: int, width: int, payload: bytes) -> None:
        super().__init__(model, height, width, 1)
        self.lowest, self.step, self.top, self.middle, shift = struct.unpack("<HHHHB", payload[:9])
        self.stream, self.unit = payload[9:], 2.0**shift
        self.port, self.limit = "deep", 2.0**20
        self.samples = np.zeros((*self.planes.shape[:2], 1))

    def decode_deep(self) -> Any:
        height, width, _ = self.shape
        stream = constriction.stream.queue.RangeDecoder(np.frombuffer(self.stream, "<u4"))
        family = constriction.stream.model.Categorical(perfect=False, lazy=True)
        out = np.zeros((height, width), np.int64)
        digits = max(1, math.ceil(len(f"{self.top:b}" if self.top else "") / 4))
        for group in range(width + 2 * height - 2):
            pixels = [(r, group - 2 * r) for r in range(height) if 0 <= group - 2 * r < width]
            states = [self.predict(*pixel) for pixel in pixels]
            counts = [self.deep_count(o, b, *p) for p, (o, b) in zip(pixels, states, strict=True)]
            for digit in range(digits - 1, -1, -1):
                worth = 16**digit
                for pixel, count in zip(pixels, counts, strict=True):
                    ends = [count(int(out[pixel]) + j * worth) for j in range(17)]
                    table = (np.diff(ends) + 1).astype(np.float32)[None]
                    out[pixel] += int(stream.decode(family, table)[0]) * worth
            for pixel, (_, base) in zip(pixels, states, strict=True):
                self.keep(pixel, int(out[pixel]), base)
        return self.lowest + self.step * out

    def keep(self, pixel: tuple[int, int], x: int, base: Any) -> None:
        u = np.array([(x - self.middle) / self.unit])
        residual = 16 * u - base
        planes = [snap(u), snap(residual / 8), snap(residual / 2), [64]]
        self.samples[pixel[0] + 3, pixel[1] + 3] = u
        self.planes[pixel[0] + 3, pixel[1] + 3] = np.concatenate(planes)

    def deep_count(self, o: Any, base: Any, row: int, column: int) -> Any:
        k, j = self.sizes["mixtures"], self.sizes["copies"]
        logit = snap(np.append(o[:k], o[3 * k : 3 * k + j]))
        s = snap(np.append(o[2 * k : 3 * k], o[3 * k + j :]) - 12, 92) + 12
        centre = 4 * (snap(8 * o[k : 2 * k], 4080) + base)
        for r, c in [(0, -1), (-1, 0)][:j]:
            centre = np.append(centre, 64 * self.samples[row + 3 + r, column + 3 + c])
        mantissa, exponent = np.frexp(4 * 2 ** (-s / 16))
        inverse = np.rint(mantissa * 256) / 256 * 2.0**exponent
        w = np.rint(256 * 2 ** (-(logit.max() - logit) / 16))

        def f(x: int) -> float:
            if x <= 0 or x > self.top:
                return float(8192 * w.sum() * (x > self.top))
            p = snap(256 * (64 * (x - self.middle - 0.5) / self.unit - centre) * inverse, 655360)
            i, part = np.floor(p / 256), p % 256
            t, after = (np.rint(8192 / (1 + np.exp(-(i + n) / 256))) for n in (0, 1))
            return float(np.floor((w * (256 * t + part * (after - t))).sum() / 256))

        return f
