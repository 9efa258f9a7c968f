"""What a network is shown when it learns: samples of 8 bits, or of more in units.

Training, tuning of archive models and adapters all learn from these, and from their code length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.model import devices, mgcf, mixture
from archiver.codec.model.architecture import HIGH_DEPTH, PORT_OF, Architecture
from archiver.codec.model.high_depth import Window


@dataclass(frozen=True)
class Shown:
    """A part of an image: samples 0..255 (H, W, C), or of more bits (H, W, 1) in units.

    Of more bits ``window`` is the window they are seen through.
    """

    samples: NDArray[Any]
    window: Window | None = None

    @classmethod
    def of(cls, samples: NDArray[Any]) -> Shown:
        """Show 8-bit samples (H, W, C), or a plane (H, W) of uint16."""
        if samples.dtype == np.uint8:
            return cls(samples)
        return cls.through(Window.of(samples), samples)

    @classmethod
    def through(cls, window: Window, samples: NDArray[np.uint16]) -> Shown:
        """Show a plane (H, W) through a window."""
        return cls(window.units(window.values(samples))[..., None], window)

    @property
    def kind(self) -> str:
        """The port it goes through."""
        return HIGH_DEPTH if self.window else PORT_OF[self.samples.shape[2]]

    def crop(self, top: int, left: int, height: int, width: int) -> Shown:
        """Return a part of it."""
        crop = self.samples[top : top + height, left : left + width]
        return replace(self, samples=np.ascontiguousarray(crop))

    def cut(self, side: int) -> Iterator[Shown]:
        """Yield parts of ``side``, smaller at its end."""
        for row in range(0, self.samples.shape[0], side):
            for column in range(0, self.samples.shape[1], side):
                yield self.crop(row, column, side, side)


@dataclass(frozen=True)
class Batch:
    """Parts of one kind and shape: (N, H, W, C) float32.

    Of more bits ``grain`` (N,) is their step in units, ``ends`` (N, 2) the least and the most.
    """

    kind: str
    samples: Tensor
    grain: Tensor | None = None
    ends: Tensor | None = None

    @classmethod
    def of(cls, parts: Sequence[Shown]) -> Batch:
        """Stack parts of one kind and shape."""
        samples = torch.from_numpy(np.stack([tile.samples for tile in parts]).astype(np.float32))
        windows = [tile.window for tile in parts if tile.window]
        if not windows:
            return cls(parts[0].kind, samples)
        ends = np.stack([window.units(np.array([0, window.top])) for window in windows])
        grain = torch.tensor([window.grain for window in windows])
        return cls(parts[0].kind, samples, grain, torch.from_numpy(ends))

    @property
    def n_pixels(self) -> int:
        """Pixels of all parts."""
        return self.samples[..., 0].numel()

    def coded(self, sizes: Architecture) -> mixture.Coded:
        """Return the samples as the mixture of a network codes them."""
        if self.grain is None or self.ends is None:
            return mixture.Coded.of_bytes(self.samples, sizes)
        return mixture.Coded.of_high_depth(self.samples, self.grain, self.ends, sizes)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device, its samples float32 there if they were bytes."""
        samples = self.samples.to(device).float()
        if self.grain is None or self.ends is None:
            return replace(self, samples=samples)
        return Batch(self.kind, samples, self.grain.to(device), self.ends.to(device))


def bits(net: mgcf.MGCF, batch: Batch) -> Tensor:
    """Return the code length (N, H, W, C) of a batch, differentiable in the network's weights."""
    outputs, base = predict(net, batch)
    return code_length(outputs, base, batch, net.architecture)


def predict(net: mgcf.MGCF, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the network predicts of a batch: see :class:`archiver.codec.model.mgcf.MGCF`."""
    device = batch.samples.device.type
    with torch.autocast(
        device, torch.bfloat16, enabled=net.training and learns_in_bfloat16(device)
    ):
        predicted: tuple[Tensor, Tensor] = net(batch.samples, batch.kind)
    return predicted


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def learns_in_bfloat16(device: str) -> bool:
    """Whether products may be of bfloat16 while a network learns there, and gain by it."""
    return devices.has_bfloat16(device)


def code_length(outputs: Tensor, base: Tensor, batch: Batch, sizes: Architecture) -> Tensor:
    """Return the code length (N, H, W, C) of a batch under what was predicted."""
    return mixture.bits(outputs, base, batch.coded(sizes), sizes)
