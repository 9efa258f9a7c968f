"""The styles of code-blocks, as the marker COD states them, that we write."""

from __future__ import annotations

RESET, CAUSAL, SYMBOLS = 0x02, 0x08, 0x20
