"""What the JPEG tiles of a file learn from each other: a few of them, its *key tiles*, come first.

Key tiles are coded one after the other by one state; every other tile by a copy of what they left.
A region is still a few tiles away.  Chunk (FORMAT.md, "Key tiles"): u1 version, u1 n,
n times u4 tile number, ascending.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from threading import Lock

from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.errors import ArchiverError, IntegrityError
from archiver.image import Samples

VERSION = 1
KEYS = MAX_KEYS = 16
CANDIDATES = 4 * KEYS  # of which those with the most bytes become keys: glass teaches nothing
LEAST_BYTES = 1 << 14  # of JPEGs in a file, below which there are no keys
_HEAD = struct.Struct("<BB")


class KeyTiles:
    """What the key tiles have taught, for any thread that asks.

    ``payload_of`` returns the payload of a tile, with its head.  A pickled one goes without what it
    has learned: whoever opens it learns again.
    """

    def __init__(self, keys: Sequence[int], payload_of: Callable[[int], bytes]) -> None:
        self.keys = tuple(keys)
        self._payload_of = payload_of
        self._state, self._learned = ContextState.fresh(), 0  # from the first keys
        self._taught: ContextState | None = None  # from all of them
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[KeyTiles], tuple[object, ...]]:
        """Pickle what it is made of."""
        return KeyTiles, (self.keys, self._payload_of)

    @classmethod
    def from_bytes(cls, chunk: bytes, payload_of: Callable[[int], bytes]) -> KeyTiles:
        """Read what :meth:`to_bytes` wrote; IntegrityError if it did not."""
        version, n = _HEAD.unpack_from(chunk.ljust(_HEAD.size, b"\0"))
        if version != VERSION or not 1 <= n <= MAX_KEYS or len(chunk) != _HEAD.size + 4 * n:
            raise IntegrityError(f"keys of JPEG tiles: {len(chunk)} bytes, version {version}")
        keys = struct.unpack_from(f"<{n}I", chunk, _HEAD.size)
        if list(keys) != sorted(set(keys)):
            raise IntegrityError(f"keys of JPEG tiles: expected them to ascend, found {keys}")
        return cls(keys, payload_of)

    def to_bytes(self) -> bytes:
        """Return the chunk."""
        return _HEAD.pack(VERSION, len(self.keys)) + struct.pack(f"<{len(self.keys)}I", *self.keys)

    def state(self, number: int) -> ContextState:
        """Return the state by which a tile is coded; IntegrityError if a key tile is damaged."""
        with self._lock:
            if number in self.keys:
                self._learn(self.keys.index(number))
                return self._state.copy()
            if self._taught is None:
                self._learn(len(self.keys))
                self._taught = self._state.copy()
            return self._taught.copy()

    def _learn(self, count: int) -> None:
        """Have learned from the first ``count`` key tiles, no more."""
        if self._learned > count:
            self._state, self._learned = ContextState.fresh(), 0
        while self._learned < count:
            key = self.keys[self._learned]
            try:
                payload = self._payload_of(key)
                if not jpeg_tile.uses_key_tiles(payload):
                    raise IntegrityError("it teaches nothing")
                jpeg_tile.decode(payload, self._state)
            except BaseException as error:  # half of it may be learned
                self._state, self._learned = ContextState.fresh(), 0
                if isinstance(error, ArchiverError):
                    why = f"key {key} of its file's JPEG tiles: {error}"
                    raise IntegrityError(why) from error
                raise
            self._learned += 1

    def decodes(self, number: int, payload: bytes, expected: bytes) -> bool:
        """Whether a payload gives what it should."""
        try:
            return jpeg_tile.decode(payload, self.state(number)) == expected
        except IntegrityError:
            return False


def find(tiles: Sequence[int], read: Callable[[int], Samples]) -> tuple[KeyTiles, dict[int, bytes]]:
    """Return key tiles for tiles of a file, given by number, and their payloads.

    There are none if the tiles hold too little, or none that has coefficients to code.
    """
    step = max(1, len(tiles) // CANDIDATES)
    sizes = {number: read(number).size for number in tiles[::step]}
    payloads: dict[int, bytes] = {}
    if len(tiles) > 1 and sum(sizes.values()) * step >= LEAST_BYTES:
        state = ContextState.fresh()
        largest = sorted(sizes, key=lambda number: -sizes[number])[: min(KEYS, len(tiles) - 1)]
        for number in sorted(largest):
            trial = state.copy()
            payload = jpeg_tile.encode_coefficients(read(number), trial)
            if payload:
                payloads[number], state = payload, trial
    return KeyTiles(list(payloads), payloads.__getitem__), payloads
