"""The sizes of a network, and the constants that its layers share: no tensors here.

`mgcf` is the network for tensors, `inference.native` the one in C.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

UNIT = 16  # levels per unit of the real-valued network
MID = 128  # subtracted from 8-bit samples
VALID = 64  # level of the plane that tells inside from outside
BASE_BITS = 10  # base predictor weights are multiples of 2**-10 ...
BASE_LIMIT = 2047  # ... of at most 11 bits, so they survive TF32
BASE_FRACTION = 16  # predictions are in 1/16 of a sample step
HIGH_DEPTH_LIMIT = 1 << 20  # of predictions of samples of more bits, which are far from it
RESIDUAL_SCALES = (8, 2)  # residuals enter at 16/8 = 2 and 16/2 = 8 levels per sample step
COPIED = ((0, -1), (-1, 0))  # row and column offsets of the neighbours that may be copied: W, N


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network.

    ``hidden`` is the MLP's width as a multiple of ``dim``, ``mixtures`` the components per channel
    whose mean the network gives, ``copies`` those whose mean is a neighbour's sample.  ``deep`` is
    1 if it has a port for samples of more than 8 bits.
    """

    dim: int = 64
    blocks: int = 3
    hidden: int = 4
    mixtures: int = 5
    copies: int = len(COPIED)
    deep: int = 1

    @classmethod
    def from_json(cls, sizes: dict[str, int]) -> Architecture:
        """Read what a file states; the first files knew neither copies nor samples of more bits."""
        if any(type(size) is not int for size in sizes.values()):
            raise TypeError(f"sizes that are no whole numbers: {sizes}")
        return cls(**{"copies": 0, "deep": 0, **sizes})

    def to_json(self) -> dict[str, int]:
        """Return the sizes as stored in a model file; what is 0 is not mentioned."""
        return {name: size for name, size in asdict(self).items() if size}


def n_couplings(channels: int) -> int:
    """Return how many earlier channels all channels of a pixel depend on: 0 for grey, 3 for RGB."""
    return channels * (channels - 1) // 2


def n_outputs(channels: int, sizes: Architecture) -> int:
    """Return the head's outputs per pixel: see :func:`archiver.codec.model.mixture.parameters`."""
    predicted = sizes.mixtures * (3 * channels + n_couplings(channels))
    return predicted + 2 * sizes.copies * channels


def n_planes(channels: int) -> int:
    """Return the input planes: samples, residuals at each scale, and the inside/outside plane."""
    return channels * (1 + len(RESIDUAL_SCALES)) + 1


PORTS = {"grey": 1, "rgb": 3}  # name -> channels, of 8-bit images
HIGH_DEPTH = "deep"  # the port of one channel of more bits
PORT_OF = {channels: name for name, channels in PORTS.items()}


def ports_of(sizes: Architecture) -> dict[str, int]:
    """Return the ports of a network, and the channels of each."""
    return {**PORTS, **({HIGH_DEPTH: 1} if sizes.deep else {})}
