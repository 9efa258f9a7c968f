"""The figure of one entry: where its bits are, and how the fit of its adapter went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver.errors import UsageError

if TYPE_CHECKING:
    from archiver.pipeline import Entry


def write(path: Path, entry: Entry) -> None:
    """Draw bits per sample of every tile, and rate against pass if it has an adapter.

    UsageError without matplotlib, without images, or for a name that it cannot write.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--figure needs matplotlib: pip install 'archiver[plot]'") from error
    if not entry.images:
        raise UsageError(f"{entry.path}: has no images to draw; it is kept as it is")
    record = entry.adapter_record
    figure = Figure(figsize=(10 if record else 5.5, 4.5), layout="constrained")
    places = figure.subplots(1, 2 if record else 1, squeeze=False)[0]
    _map(figure, places[0], entry)
    if record:
        _curve(places[1], record.rates, record.n_passes)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"--figure {path}: cannot be written: {error}") from error


def _map(figure: Any, axes: Any, entry: Entry) -> None:
    image = entry.images[0]
    extent = (0, image.width, image.height, 0)
    drawn = axes.imshow(entry.tile_bits(), extent=extent, cmap="viridis", interpolation="nearest")
    axes.set(title=entry.path, xlabel="column", ylabel="row")
    figure.colorbar(drawn, ax=axes, label="bits per sample, by tile")


def _curve(axes: Any, rates: tuple[float, ...], n_passes: int) -> None:
    first = n_passes + 1 - len(rates)  # 0: after the heads were fitted
    axes.plot(range(first, n_passes + 1), [100 * rate for rate in rates], marker=".")
    axes.axhline(100, color="0.7", linewidth=1)
    axes.set(
        xlabel="pass", ylabel="estimated rate, % of the model's own", title="fit of the adapter"
    )
