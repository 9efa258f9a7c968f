"""The two streams: results on stdout, everything else on stderr; and the progress bar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from archiver.errors import UsageError
from archiver.jobs.events import (
    Committed,
    Event,
    FileDone,
    FileFailed,
    Notice,
    OnEvent,
    Planned,
    Tuning,
)
from archiver.report.text import printable, ratio_text, size_text

_JSON = "archiver.json"  # key in the click context: how to report an error
JSON_FLAG = "--json"


class Output:
    """The output of one command: ``as_json`` chooses the form, ``quiet`` keeps only errors."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        errors_as_json(click.get_current_context(), as_json)

    def note(self, message: str) -> None:
        """Tell something that is no error."""
        if not self.quiet:
            self._stderr.print(printable(message))

    def result(
        self, shown: RenderableType, data: Mapping[str, object], *, is_bad: bool = False
    ) -> None:
        """Write the result of the command: as JSON, or for people; bad news even if quiet."""
        if self.as_json:
            write_json(data)
        elif is_bad or not self.quiet:
            Console(highlight=False).print(shown)

    @contextmanager
    def watch(self, doing: str) -> Iterator[OnEvent]:
        """Yield a listener that shows the events of a job as a progress bar on stderr."""
        shown = self._stderr.is_terminal and not self.quiet
        with _bar(self._stderr, disable=not shown) as progress:
            yield _Watcher(self, progress, doing).on_event

    def failure(self, path: str, message: str) -> None:
        """Report a file that failed; said even when quiet."""
        self._stderr.print(f"failed: {printable(path)}: {printable(message)}", style="red")


def write_json(data: Mapping[str, object]) -> None:
    """Write one JSON object to stdout."""
    click.echo(json.dumps(data, indent=2))


def errors_as_json(ctx: click.Context, as_json: bool) -> None:
    """Settle whether errors of this command go to stdout as JSON, too."""
    ctx.meta[_JSON] = as_json


def report_error(error: Exception, exit_code: int) -> None:
    """Write an error to stderr, and as JSON to stdout if the command was asked for JSON."""
    click.echo(f"error: {printable(str(error))}", err=True)
    _error_json(type(error).__name__, str(error), exit_code)


def report_usage(error: click.ClickException) -> None:
    """Write what click says of a wrong option or argument, likewise."""
    error.show()
    _error_json(UsageError.__name__, error.format_message(), error.exit_code)


def _error_json(kind: str, message: str, exit_code: int) -> None:
    if click.get_current_context().meta.get(_JSON):
        write_json({"error": {"kind": kind, "message": message, "exit_code": exit_code}})


class _Watcher:
    """Turns events into the state of a progress bar."""

    def __init__(self, output: Output, progress: Progress, doing: str) -> None:
        self._output = output
        self._progress = progress
        self._doing = doing
        self._files = self._n_files = self._input_bytes = self._stored_bytes = 0
        self._task: TaskID = progress.add_task("scanning", total=None, status="")

    def on_event(self, event: Event) -> None:
        match event:
            case Planned(files, input_bytes, _):
                self._n_files = files
                self._progress.update(self._task, description=self._doing, total=input_bytes)
            case FileDone():
                self._files += 1
                self._input_bytes += event.input_bytes
                self._stored_bytes += event.stored_bytes
                self._advance(event.input_bytes)
            case FileFailed(path, message):
                self._files += 1
                self._output.failure(path, message)
                self._advance(0)
            case Notice(message):
                self._output.note(message)
            case Tuning(is_over):
                doing = self._doing if is_over else "tuning a model on a sample"
                self._progress.update(self._task, description=doing)
            case Committed(generation):
                self._progress.update(self._task, description=f"generation {generation} committed")

    def _advance(self, n_bytes: int) -> None:
        ratio = ratio_text(self._input_bytes, self._stored_bytes)
        status = f"{self._files}/{self._n_files} files  {size_text(self._input_bytes)}"
        self._progress.update(self._task, advance=n_bytes, status=f"{status}  ratio {ratio}")


class _Rate(TextColumn):
    """Bytes of input per second, so far."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{size_text(round(speed))}/s" if speed else "")


def _bar(console: Console, *, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        _Rate(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
    )
