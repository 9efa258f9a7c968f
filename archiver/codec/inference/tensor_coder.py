"""The coder on tensors, on any device: which tiles go through `inference.wavefront` together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.inference import wavefront
from archiver.codec.model import architecture, grid, mgcf
from archiver.codec.model.high_depth import Values, Window

ENCODE_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 22}  # in one parallel pass
DECODE_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 25}  # in one wavefront

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


class TensorCoder:
    """Encode and decode tiles with tensor operations, on the device that holds the network."""

    def __init__(self, net: mgcf.MGCF) -> None:
        self.net, self.sizes = net, net.architecture
        self.device = str(next(net.parameters()).device)

    @torch.inference_mode()
    def predict(self, tiles: Uint8) -> tuple[Float32, Float32]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C) of tiles."""
        outputs, base = wavefront.predict(self.net, self._samples(tiles))
        return outputs.cpu().numpy(), base.cpu().numpy()

    @torch.inference_mode()
    def features(self, tiles: Uint8) -> tuple[NDArray[np.int8], Float32]:
        """Return what the head sees, (N, H, W, dim), and base predictions of tiles."""
        levels, base = wavefront.features(self.net, self._samples(tiles))
        return levels.to(torch.int8).cpu().numpy(), base.cpu().numpy()

    @torch.inference_mode()
    def predict_high_depth(self, values: Values, window: Window) -> tuple[Float32, Float32]:
        """Return outputs (H, W, n_outputs) and base predictions (H, W) of numbers (H, W).

        On the CPU, and in float64 as far as samples have more bits than float32 keeps.
        """
        net = copy.deepcopy(self.net).cpu()
        port = cast(mgcf.Port, net.ports[architecture.HIGH_DEPTH])
        wide = copy.deepcopy(port).double()
        units = torch.from_numpy(window.units(values).astype(np.float64))[None, ..., None]
        base = wide.base(units)
        h = port.embed(wide.planes(units, base).float())
        for block in net.blocks:
            h = block(h)
        return port.head(grid.snap(h))[0].numpy(), base[0, ..., 0].float().numpy()

    @torch.inference_mode()
    def encode(self, tiles: Sequence[Uint8]) -> list[bytes]:
        """Return the payloads of tiles (H, W, C), those of one shape in one pass."""
        payloads = [b""] * len(tiles)
        for indices in _batches([tile.shape for tile in tiles], self._at_once(ENCODE_PIXELS)):
            coded = wavefront.encode(self.net, np.stack([tiles[i] for i in indices]))
            for i, payload in zip(indices, coded, strict=True):
                payloads[i] = payload
        return payloads

    @torch.inference_mode()
    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode, similar ones in one wavefront."""
        tiles = [np.empty(0, np.uint8)] * len(payloads)
        for indices in _wavefronts(shapes, self._at_once(DECODE_PIXELS)):
            sides, channels = [shapes[i][:2] for i in indices], shapes[indices[0]][2]
            decoded = wavefront.Wavefront(self.net, sides, channels).decode(
                [payloads[i] for i in indices]
            )
            for i, tile in zip(indices, decoded, strict=True):
                tiles[i] = tile
        return tiles

    def _at_once(self, pixels: dict[str, int]) -> int:
        return pixels[self.device.partition(":")[0]]

    def _samples(self, tiles: Uint8) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device, torch.float32)


def _batches(shapes: Sequence[tuple[int, ...]], max_pixels: int) -> list[list[int]]:
    """Group indices by equal shape, at most ``max_pixels`` (or one tile) to a group."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(i)
    groups = []
    for shape, indices in by_shape.items():
        size = max(1, max_pixels // (shape[0] * shape[1]))
        groups += [indices[i : i + size] for i in range(0, len(indices), size)]
    return groups


def _wavefronts(shapes: Sequence[tuple[int, int, int]], max_pixels: int) -> list[list[int]]:
    """Group indices by channel count, similar sizes together, bounded by padded pixels."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i][2], shapes[i][1], shapes[i][0]))
    groups: list[list[int]] = []
    for i in order:
        channels = shapes[i][2]
        if groups:
            members = [shapes[j] for j in groups[-1]] + [shapes[i]]
            padded = max(h for h, _, _ in members) * max(w for _, w, _ in members) * len(members)
            wasted = padded > 2 * sum(h * w for h, w, _ in members)
            if members[0][2] == channels and padded <= max_pixels and not wasted:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups
