"""Deflate: settings are found for what known programs write, quickly, and replayed or refused."""

from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pytest

from archiver.errors import ParityError
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.deflate.settings import Encoder, Made, Settings


@pytest.fixture(autouse=True)
def _fresh_answers() -> None:
    for asked in (
        deflate_settings.is_classic,
        deflate_settings._has_classic_door,
        deflate_settings.check_encoder,
    ):
        asked.cache_clear()


def sample(n_bytes: int) -> bytes:
    """Make bytes with literals, short and long matches."""
    return (deflate_settings.probe() * (n_bytes // len(deflate_settings.probe()) + 1))[:n_bytes]


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("memory", [8, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE])
@pytest.mark.parametrize("n_bytes", [0, 1, 70_000])
def test_zlib_settings_are_found(level: int, memory: int, strategy: int, n_bytes: int) -> None:
    """Levels, memory levels and strategies of zlib are found and replayed for any length."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, memory, strategy)
    raw = sample(n_bytes)
    stream = compressor.compress(raw) + compressor.flush()
    made = deflate_settings.find(raw, stream)
    assert made is not None
    assert deflate_settings.replay(raw, made) == stream


@pytest.mark.parametrize("level", [*range(1, 10), 12])
def test_libdeflate_settings_are_found(level: int) -> None:
    """Streams of libdeflate, as tifffile and GDAL write them, are found and replayed."""
    raw = sample(1_500_000 if level < 3 else 200_000)
    stream = bytes(imagecodecs.deflate_encode(raw, level))
    made = deflate_settings.find(raw, stream)
    assert made is not None
    assert deflate_settings.replay(raw, made) == stream


def test_small_window_with_optimised_header() -> None:
    """libpng shrinks the window that the header states for small images."""
    raw = sample(3000)
    compressor = zlib.compressobj(9, zlib.DEFLATED, 12)
    stream = compressor.compress(raw) + compressor.flush()
    made = deflate_settings.find(raw, stream)
    assert made is not None
    assert deflate_settings.replay(raw, made) == stream


def test_unknown_encoder_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a stream that no known program wrote ends after a bounded number of bytes."""
    raw = np.random.default_rng(0).integers(0, 200, 6 << 20, np.uint8).tobytes()
    odd = zlib.compressobj(6)
    stream = odd.compress(raw[:1000]) + odd.flush(zlib.Z_SYNC_FLUSH) + odd.compress(raw[1000:])
    fed = []
    matches = deflate_settings._matches

    def counted(raw: bytes, stream: bytes, settings: Settings) -> tuple[bool, int]:
        matched, used = matches(raw, stream, settings)
        fed.append(used)
        return matched, used

    monkeypatch.setattr(deflate_settings, "_matches", counted)
    made = deflate_settings.find(raw, stream + odd.flush())
    assert made is not None
    assert made.settings.encoder is Encoder.PLANNED
    assert sum(fed) <= 4 * len(raw)


def test_hint_is_tried_first() -> None:
    """The settings of the strip before are checked before any search."""
    raw = sample(10_000)
    hint = Settings(Encoder.ZLIB, 4, 7, zlib.Z_FILTERED, 15, b"\x78\x5e")
    assert deflate_settings.find(raw, deflate_settings.replay(raw, Made(hint)), hint) == Made(hint)


def test_parity_error_on_another_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a foreign zlib, default streams use the second door and others are refused loudly."""
    raw = sample(50_000)
    default, tuned = Made(Settings()), Made(Settings(memory=9))
    expected = deflate_settings.replay(raw, default)
    monkeypatch.setattr(deflate_settings, "is_classic", lambda: False)
    deflate_settings.check_encoder.cache_clear()
    assert deflate_settings.replay(raw, default) == expected
    assert deflate_settings.find(raw, expected) == default
    with pytest.raises(ParityError, match="classic zlib"):
        deflate_settings.replay(raw, tuned)
    monkeypatch.setattr(deflate_settings, "_has_classic_door", lambda: False)
    deflate_settings.check_encoder.cache_clear()
    with pytest.raises(ParityError, match="zlib-ng"):
        deflate_settings.replay(raw, default)


def test_parity_error_of_another_libdeflate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A libdeflate that writes other bytes than it did is refused."""
    monkeypatch.setattr(deflate_settings, "_LIBDEFLATE_ANSWERS", ())
    with pytest.raises(ParityError, match="libdeflate"):
        deflate_settings.replay(b"x", Made(Settings(Encoder.LIBDEFLATE)))


def test_inflate_is_bounded() -> None:
    """A bomb, a cut stream and a longer one than announced are refused."""
    bomb = zlib.compress(bytes(1 << 24))
    for stream in (bomb, bomb[:-3], b""):
        with pytest.raises(zlib.error):
            deflate_settings.inflate(stream, 1 << 10)
    assert deflate_settings.inflate(zlib.compress(b"abc") + b"tail", 3) == (b"abc", 11)
