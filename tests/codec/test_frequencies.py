"""The integer tables: monotone, complete, close to the loss they were trained with."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np
import torch

from archiver.codec.model import architecture, frequencies, mixture, tables

SIZES = architecture.Architecture()


def random_outputs(channels: int) -> tuple[torch.Tensor, ...]:
    """Head outputs, base predictions and samples of a row of 300 unrelated pixels."""
    n = 300
    g = torch.Generator().manual_seed(channels)
    outputs = torch.randn(n, architecture.n_outputs(channels, SIZES), generator=g) * 40
    base = (torch.randn(n, channels, generator=g) * 700).round().clamp(-2048, 2048)
    samples = torch.randint(0, 256, (n, channels), generator=g)
    return outputs, base, samples


def channel_tables(
    channel: int, channels: int = 3
) -> tuple[frequencies.ChannelTables, torch.Tensor]:
    outputs, base, samples = random_outputs(channels)
    p = mixture.parameters(outputs, channels, SIZES)
    centred = samples - float(architecture.MID)
    seen = mixture.copyable(centred[None], SIZES)[:, 0]
    table = frequencies.ChannelTables.of(p, channel, base, centred, seen)
    return table, samples[:, channel : channel + 1]


def test_every_digit_of_every_pixel_has_a_frequency_below_the_limit() -> None:
    """All 256 values of each channel keep a count >= 1 and totals stay below 2**24."""
    for channel in range(3):
        table, _ = channel_tables(channel)
        high = table.high_digit()
        assert float(high.max()) + 16 < 2**24
        for digit in range(16):
            cumulative = table.low_digit(torch.full((len(high), 1), digit), high)
            counts = frequencies.frequencies(cumulative)
            assert float(counts.min()) >= 1
            assert torch.equal(counts, counts.round())
            ends = cumulative[:, [0, 16]]
            assert torch.equal(ends, high[:, digit : digit + 2])


def test_code_length_of_the_tables_is_the_training_loss() -> None:
    """Summed over pixels, tables and loss differ by less than 0.5 %, outliers aside."""
    outputs, base, samples = random_outputs(3)
    loss = mixture.bits(
        outputs[None], base[None], mixture.Coded.of_bytes(samples[None].float(), SIZES), SIZES
    )[0]
    total = 0.0
    likely = loss < 14
    for channel in range(3):
        table, values = channel_tables(channel)
        high = table.high_digit()
        low = table.low_digit(values // 16, high)
        for cumulative, digit in ((high, values // 16), (low, values % 16)):
            counts = frequencies.frequencies(cumulative)
            p = counts.gather(1, digit)[:, 0] / counts.sum(1)
            total += float(-(p.log2() * likely[:, channel]).sum())
    expected = float((loss * likely).sum())
    assert math.isclose(total, expected, rel_tol=5e-3)


def test_sigmoid_table_is_symmetric_monotone_and_not_near_a_tie() -> None:
    """T[-i] = 8192 - T[i]; no entry is so close to a half that libm could round it otherwise."""
    sigmoid, weight, inverse = tables.table_values()
    assert [tables.SIGMOID_ONE - t for t in sigmoid[::-1]] == sigmoid
    assert all(a <= b for a, b in itertools.pairwise(sigmoid))
    x = np.arange(-2560, 2561) / 256
    exact = 8192 / (1 + np.exp(-x))
    assert np.array_equal(np.rint(exact), sigmoid)
    assert np.abs(exact[x != 0] % 1 - 0.5).min() > 1e-9
    assert all(map(operator.ge, weight, weight[1:]))
    assert all(math.frexp(v)[0] * 256 % 1 == 0 for v in inverse)


def test_position_products_are_exact_in_float32() -> None:
    """The largest distance times any inverse scale needs at most 24 bits."""
    _, _, inverse = tables.table_values()
    widest = (255 + 128 + 512 + 1) * tables.MEAN_UNIT
    assert widest < 2**16
    assert all(math.frexp(v)[0] * 2**8 == int(math.frexp(v)[0] * 2**8) for v in inverse)


def test_entropy_coder_words_are_pinned() -> None:
    """A fixed table and message give fixed words: the coder's defaults may not move our bits."""
    from archiver.codec.entropy import DigitDecoder, encode_digits

    counts = (np.arange(64 * 16).reshape(64, 16) % 97 + 1).astype(np.float32)
    digits = (np.arange(64) * 7 % 16).astype(np.int32)
    payload = encode_digits(digits, counts)
    assert payload.hex() == PINNED
    decoder = DigitDecoder(payload)
    parts = [decoder.decode(counts[i : i + 5]) for i in range(0, 64, 5)]
    assert np.array_equal(np.concatenate(parts), digits)


PINNED = "39fac5003ba699278013cff601351fc5a0bada43ad50623d90adafc264b0f9c4032152d0"
