"""Train a small base model on a folder of images, export it, and say what it is worth there.

Run it: python examples/train_small.py photos out 100
"""

from __future__ import annotations

import sys
from pathlib import Path

from archiver.training import export
from archiver.training.measure import measure
from archiver.training.run import Options, Started, run
from archiver.training.train import Row


def on_start(started: Started) -> None:
    """Say what is learned from."""
    for domain in started.domains:
        print(f"{domain.name}: {len(domain.images)} images, {len(domain.skipped)} files left out")


def on_row(row: Row) -> None:
    """Show the loss as it falls."""
    print(f"step {row.step}: {row.colour:.3f} bits per sample in colour, {row.grey:.3f} in grey")


def main(folder: Path, out: Path, steps: int) -> None:
    """Train for some steps in ``out/run``; leave the model in ``out/small.model``."""
    options = Options(steps=steps, dim=16, blocks=2, crop=32, batch=8, compiled=False)
    trained = run([(folder, 1.0)], out / "run", options, on_start, on_row)
    net, clamped = export.network(trained)
    model = export.export(net, "small", export.card_of(trained, "for this example only", clamped))
    (out / "small.model").write_bytes(model)
    for found in measure(model, [folder]):
        print(
            f"{found.name}: {found.model_bytes} bytes, {found.ratio:.2f} of JPEG XL effort 9; "
            f"the model takes {len(model)}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
