"""Learned tiles of more than 8 bits by the text of FORMAT.md, in Python's integers."""

from __future__ import annotations

import struct
from operator import mul

from reader_only_learned import (
    COPIED,
    Count,
    S,
    T,
    W,
    frequencies,
    groups,
    scale_index,
)
from reader_only_network import STRICT, UNIT, Field, Model, Network, Values, levels, seen
from reader_only_range_coder import RangeDecoder, clip, nearest


def read_high_depth(model: Model, payload: bytes, height: int, width: int) -> bytes:
    """Return the samples of one channel, little-endian."""
    lowest, step, top, middle, shift = struct.unpack_from("<HHHHB", payload)
    tile = HighDepthTile(model, top, middle, 2**shift)
    numbers = tile.read(payload[9:], height, width)
    return struct.pack(f"<{height * width}H", *(lowest + step * x for x in numbers))


class HighDepthTile:
    """One tile while it is read; what the text calls u is held in 1/unit."""

    def __init__(self, model: Model, top: int, middle: int, unit: int) -> None:
        self.network = Network(model, "deep", 1)
        self.top, self.middle, self.unit = top, middle, unit
        self.centred: Field = {}  # unit * u

    def read(self, payload: bytes, height: int, width: int) -> Values:
        """Return the numbers x, row by row."""
        stream, n_digits = RangeDecoder(payload), max(1, -(-self.top.bit_length() // 4))
        for pixels in groups(height, width):
            bases = [self.base(*pixel) for pixel in pixels]
            counts = [self.count(*state) for state in zip(pixels, bases, strict=True)]
            values = [0] * len(pixels)
            for d in range(n_digits - 1, -1, -1):
                for i, count in enumerate(counts):
                    digit = stream.digit(frequencies(count, values[i], 16**d))
                    values[i] += digit * 16**d
            for pixel, base, x in zip(pixels, bases, values, strict=True):
                self.keep(pixel, base, x - self.middle)
        places = [(row, column) for row in range(height) for column in range(width)]
        return [self.centred[place][0] + self.middle for place in places]

    def base(self, row: int, column: int) -> int:
        """Return the base prediction of a pixel, in 1/16 unit."""
        u = seen(self.centred, row, column, STRICT, 1)
        total = 16 * sum(map(mul, self.network.base[0], u))
        return clip(nearest(total, UNIT * self.unit), 2**20)

    def keep(self, pixel: tuple[int, int], base: int, u: int) -> None:
        """Keep what later pixels see of this one."""
        residual = 16 * u - base * self.unit
        snapped = [nearest(u, self.unit), nearest(residual, 8 * self.unit)]
        snapped.append(nearest(residual, 2 * self.unit))
        self.centred[pixel] = [u]
        self.network.planes[pixel] = [*(clip(x, 127) for x in snapped), 64]

    def count(self, at: tuple[int, int], base: int) -> Count:
        """Return F of a pixel."""
        k, j = self.network.sizes["mixtures"], self.network.sizes.get("copies", 0)
        o = self.network.outputs(*at)
        logits = [levels(x) for x in o[:k] + o[3 * k : 3 * k + j]]
        scales = [scale_index(x) for x in o[2 * k : 3 * k] + o[3 * k + j :]]
        centres = [4 * (levels(8 * x, 4080) + base) * self.unit for x in o[k : 2 * k]]
        for row, column in COPIED[:j]:
            centres.append(64 * self.centred.get((at[0] + row, at[1] + column), [0])[0])
        shares = [W[max(logits) - x] for x in logits]
        components = list(zip(shares, centres, [S[s] for s in scales], strict=True))

        def count(x: int) -> int:
            if x <= 0 or x > self.top:
                return 8192 * sum(shares) * (x > 0)
            place, total = 64 * (x - self.middle) - 32, 0
            for share, centre, (n, bits) in components:
                p = clip(nearest(256 * (place - centre) * n, self.unit << bits), 655360)
                i, f = (p >> 8) + 2560, p % 256
                after = T[i + 1] if f else T[i]
                total += share * (256 * T[i] + f * (after - T[i]))
            return total >> 8

        return count
