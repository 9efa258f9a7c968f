"""The progress bar: the phase that a job is in, how far it is, its pace, the time left.

scanning -> tuning a model on a sample -> packing -> committing.  Only the third knows its end.
"""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from archiver.jobs.events import (
    Committed,
    Committing,
    Event,
    FileDone,
    FileFailed,
    FileProgress,
    Planned,
    Tuning,
)
from archiver.report.text import ratio_text, size_text

WINDOW_S = 120.0  # that the pace is taken over, at most
_STEP_S = 1.0  # between what is remembered for it


class Pace:
    """How fast a number grows, over the last minutes.

    The first that is heard of it is where it begins: workers take seconds to start.
    """

    def __init__(self) -> None:
        self._last = (0.0, 0)
        self._marks: deque[tuple[float, int]] = deque()

    def add(self, now: float, done: int) -> None:
        """Note how far it is."""
        self._last = now, done
        if not self._marks or now - self._marks[-1][0] >= _STEP_S:
            self._marks.append(self._last)
        while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    def rate(self, now: float) -> float:
        """Return what it grows by in a second; 0 if that is not known."""
        since, before = self._marks[0] if self._marks else (now, 0)
        return (self._last[1] - before) / (now - since) if now > since else 0.0

    def seconds_left(self, now: float, total: int) -> float | None:
        """Return how long it takes to ``total`` at that pace, None if that is not known."""
        rate = self.rate(now)
        return max(0.0, (total - self._last[1]) / rate) if rate > 0 else None


class Watcher:
    """Turns events into the state of the bar; others than of progress do not concern it."""

    def __init__(self, progress: Progress, doing: str) -> None:
        self.done = 0  # bytes of input, parts of files too
        self._progress = progress
        self._doing = doing
        self._files = self._n_files = self._total = 0
        self._input_bytes = self._stored_bytes = 0  # of whole files
        self._parts: dict[str, int] = {}  # bytes of each file
        self._pace = Pace()
        self._task = self._started("scanning", None)

    @property
    def phase(self) -> str:
        """What the bar says is going on."""
        return self._progress.tasks[0].description

    def on_event(self, event: Event) -> None:
        """Take an event of a job."""
        match event:
            case Planned(files, input_bytes, _):
                self._n_files, self._total = files, input_bytes
                self._code()
            case Tuning(is_over):
                if is_over:
                    self._code()
                else:
                    self._phase("tuning a model on a sample")
            case FileProgress(path, n_bytes):
                self._advance(path, n_bytes)
            case FileDone():
                self._files += 1
                self._input_bytes += event.input_bytes
                self._stored_bytes += event.stored_bytes
                self._advance(event.path, event.input_bytes)
            case FileFailed(path):
                self._files += 1
                self._advance(path, 0)
            case Committing():
                self._phase("committing")
            case Committed(generation):
                self._phase(f"generation {generation} committed")

    def _started(self, phase: str, total: int | None) -> TaskID:
        return self._progress.add_task(phase, total=total, status="", pace="")

    def _phase(self, phase: str, total: int | None = None) -> None:
        self._progress.remove_task(self._task)
        self._task = self._started(phase, total)

    def _code(self) -> None:
        self._phase(self._doing, self._total)
        self._pace = Pace()
        self._show()

    def _advance(self, path: str, n_bytes: int) -> None:
        """Take it that so many bytes of a file are done; it was further already, maybe."""
        before = self._parts.get(path, 0)
        if n_bytes > before:
            self._parts[path] = n_bytes
            self.done = min(self.done + n_bytes - before, max(self._total, self.done))
        self._pace.add(time.monotonic(), self.done)
        self._show()

    def _show(self) -> None:
        self._progress.update(
            self._task,
            completed=self.done,
            status=f"{self._files}/{self._n_files} files  {size_text(self.done)}"
            f"  ratio {ratio_text(self._input_bytes, self._stored_bytes)}",
            pace=self._pace,
        )


class _PaceColumn(ProgressColumn):
    """Bytes of input per second, and the time left."""

    def render(self, task: Task) -> Text:
        pace = task.fields["pace"]
        if not isinstance(pace, Pace) or task.total is None:
            return Text("")
        now = time.monotonic()
        rate, left = pace.rate(now), pace.seconds_left(now, int(task.total))
        return Text(f"{clock(left)} left  {size_text(round(rate))}/s" if left is not None else "")


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def bar(console: Console, *, disable: bool) -> Progress:
    """Return a bar that is not shown yet; its spinner and its clock move whatever happens."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[status]}"),
        _PaceColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=disable,
    )
