"""The words of a report: sizes, ratios, plurals, and what is safe on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

MAX_LISTED = 10  # failures and problems shown; JSON has them all

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(n_bytes: int) -> str:
    """Return a size for people: three digits and a decimal unit."""
    value, unit = float(n_bytes), 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"


def ratio_text(original: int, stored: int) -> str:
    """Return original / stored for people; a dash where that means nothing."""
    return f"{original / stored:.2f}" if original and stored else "-"


def printable(text: str) -> str:
    """Return text that is safe on a terminal: control characters and rogue bytes escaped."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


def duration_text(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def facts_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of keys and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(Text(key, style="bold"), Text(value))
    return table


def more(n_all: int) -> list[str]:
    """Return the line that ends a shortened list, if it was shortened."""
    return [f"  ... and {n_all - MAX_LISTED} more; --json has them all"] * (n_all > MAX_LISTED)


def some(paths: Sequence[str]) -> str:
    """Return the first few of some paths."""
    if not paths:
        return "no file"
    shown = ", ".join(printable(path) for path in paths[:MAX_LISTED])
    return shown + (f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else "")


def tiles_text(tiles: Mapping[str, int]) -> str:
    """Return how many tiles each codec won, most first."""
    counted = sorted(((n, name) for name, n in tiles.items() if n), reverse=True)
    return ", ".join(f"{name} {n}" for n, name in counted) or "none"


def plural(n: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def archive_size_text(archive_bytes: int, payload_bytes: int, model_bytes: int) -> str:
    """Return the size of an archive and what it is made of."""
    return (
        f"{size_text(archive_bytes)} on disk = {size_text(payload_bytes)} payload and manifest "
        f"+ {size_text(model_bytes)} models (once per archive)"
    )
