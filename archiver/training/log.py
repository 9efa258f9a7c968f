"""The log of a run: the CSV that survives, and the figure drawn from it."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from pathlib import Path

from archiver.archive import durable
from archiver.errors import UsageError
from archiver.training.train import Row

CSV = "log.csv"
FIGURE = "loss.png"
COLUMNS = tuple(field.name for field in fields(Row))


class Log:
    """Appends rows to the CSV of a run; rows past the checkpoint it resumes from are dropped."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        self._path = folder / CSV
        kept = [row for row in read(folder) if row.step <= from_step]
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_cells, kept))
        durable.replace_file(self._path, stream.getvalue().encode(), scratch=folder / f".{CSV}.wip")

    def add(self, row: Row) -> None:
        """Append one row."""
        with self._path.open("a", newline="") as stream:
            csv.DictWriter(stream, COLUMNS).writerow(_cells(row))


def read(folder: Path) -> list[Row]:
    """Return the rows of a run's CSV; none if it has no CSV yet."""
    path = folder / CSV
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]  # a crash may have cut the last row short
    with io.StringIO(whole, newline="") as stream:
        try:
            return [_row(line) for line in csv.DictReader(stream)]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: expected the columns {', '.join(COLUMNS)}: {error}; move the file away"
            ) from error


def draw(folder: Path) -> Path:
    """Draw loss and learning rate against steps; UsageError without matplotlib or rows."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--figure needs matplotlib: pip install 'archiver[plot]'") from error
    rows = read(folder)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [row.step for row in rows]
    axes.plot(steps, [row.colour for row in rows], label="colour")
    axes.plot(steps, [row.grey for row in rows], label="grey")
    axes.plot(steps, [row.high_depth for row in rows], label="more than 8 bits")
    axes.set(xlabel="step", ylabel="bits per sample", title=folder.resolve().name)
    axes.legend(loc="upper right")
    rates = axes.twinx()
    rates.plot(steps, [row.rate for row in rows], color="0.7", linewidth=1)
    rates.set(ylabel="learning rate, share of full", ylim=(0, None))
    path = folder / FIGURE
    figure.savefig(path, dpi=120)
    return path


def _row(cells: dict[str, str]) -> Row:
    step = int(cells.pop("step"))
    return Row(step, **{key: float(value) for key, value in cells.items()})


def _cells(row: Row) -> dict[str, str]:
    cells = asdict(row)
    return {key: f"{value:.6g}" if key != "step" else str(value) for key, value in cells.items()}
