"""What this machine is good at is asked, not assumed."""

from __future__ import annotations

import pytest
import torch

from archiver.codec.model import batches, devices


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx2": True}, False), ({"avx2": True, "avx512_bw": True}, True), ({"bf16": True}, True)],
)
def test_bfloat16_is_used_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], expected: bool
) -> None:
    """Elsewhere such products take ten times as long as those of float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert devices.has_bfloat16("cpu") == expected
    assert batches.learns_in_bfloat16("cpu") == expected
