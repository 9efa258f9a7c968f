"""What an archive keeps of an image's adapter: its bytes, and how it was fitted.

Layout (FORMAT.md, "Adapter"; little-endian)::

    u1 version | u4 length, adapter | u4 bytes before | u4 milliseconds | u2 n, n x u2 rates
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from archiver.errors import FormatError, IntegrityError

VERSION = 1
RATE_ONE = 1 << 15  # a rate is relative to that before, in 1/32768
_HEADLESS = b"\x01"  # what an adapter of the first version begins with
_HEAD, _TAIL = struct.Struct("<BI"), struct.Struct("<IIH")


@dataclass(frozen=True)
class AdapterRecord:
    """One image's adapter.

    ``before`` is the bytes of its learned tiles without it, ``rates`` what they were estimated to
    take after the heads were fitted and at every pass over all layers, relative to ``before``.
    """

    adapter: bytes
    before: int
    seconds: float
    rates: tuple[float, ...]

    @property
    def n_passes(self) -> int:
        """Passes over all layers."""
        return max(0, len(self.rates) - (self.adapter[:1] != _HEADLESS))

    def to_bytes(self) -> bytes:
        """Serialise."""
        steps = [min(2 * RATE_ONE - 1, round(rate * RATE_ONE)) for rate in self.rates]
        tail = _TAIL.pack(self.before, min(2**32 - 1, round(1000 * self.seconds)), len(steps))
        packed = struct.pack(f"<{len(steps)}H", *steps)
        return _HEAD.pack(VERSION, len(self.adapter)) + self.adapter + tail + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> AdapterRecord:
        """Parse; FormatError if it is of another version, IntegrityError if it is damaged."""
        try:
            version, length = _HEAD.unpack_from(data)
            if version != VERSION:
                raise FormatError(
                    f"adapter record: version {version}, this release reads {VERSION}; "
                    "use a newer archiver"
                )
            end = _HEAD.size + length
            before, milliseconds, n = _TAIL.unpack_from(data, end)
            steps = struct.unpack(f"<{n}H", data[end + _TAIL.size :])
        except struct.error as error:
            raise IntegrityError(
                f"adapter record: does not hold what it states: {error}"
            ) from error
        adapter = data[_HEAD.size : end]
        return cls(adapter, before, milliseconds / 1000, tuple(s / RATE_ONE for s in steps))
