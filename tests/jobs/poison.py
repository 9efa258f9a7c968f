"""A task function that dies on certain files, as a crash in a third-party decoder would."""

from __future__ import annotations

import os
import signal

from archiver.jobs import work
from archiver.jobs.plan import Task

run_task = work.run_task


def run_poisoned(task: Task, threads: int) -> work.TaskResult:
    """Kill this process if the task holds notes.txt; raise a bug on slides/1.tif."""
    names = {item.name for item in task.items}
    if "notes.txt" in names:
        os.kill(os.getpid(), signal.SIGKILL)
    if "slides/1.tif" in names:
        raise ZeroDivisionError("a bug")
    return run_task(task, threads)
