"""The two streams: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click
from rich.console import Console, RenderableType

from archiver.cli.bar import Watcher, bar
from archiver.errors import UsageError
from archiver.jobs.events import Event, FileFailed, Notice, OnEvent
from archiver.report.text import printable

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
        with bar(self._stderr, disable=not shown) as progress:
            watcher = Watcher(progress, doing)

            def on_event(event: Event) -> None:
                match event:
                    case FileFailed(path, message):
                        self.failure(path, message)
                    case Notice(message):
                        self.note(message)
                watcher.on_event(event)

            yield on_event

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
