"""Pack in a process of its own, for tests that kill it: packer.py SOURCE ARCHIVE WORKERS MODEL."""

from __future__ import annotations

import sys
from pathlib import Path

from archiver.codec.model import pretrained
from archiver.jobs import plan, run
from archiver.jobs.events import Event, Planned
from archiver.jobs.spec import PackSettings


def say(line: str) -> None:
    """Write a line to whoever started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tell(event: Event) -> None:
    """Say when the work begins."""
    if isinstance(event, Planned):
        say("planned")


if __name__ == "__main__":
    source, archive, workers, model = sys.argv[1:]
    tiny = Path(model).read_bytes()
    pretrained.load = lambda name: tiny  # type: ignore[assignment]
    plan.MIN_TASK_BYTES = 4096  # many small tasks
    settings = PackSettings(workers=int(workers))
    summary = run.pack(Path(source), Path(archive), settings, tell)
    say(f"failed {len(summary.failures)}")
