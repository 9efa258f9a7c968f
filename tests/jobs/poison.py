"""Task functions that die, as a crash in a third-party decoder or a lack of memory would."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from archiver.jobs import unpack, verify, work
from archiver.jobs.plan import Task
from archiver.jobs.unpack import UnpackResult, UnpackTask
from archiver.jobs.verify import VerifyResult, VerifyTask

run_task = work.run_task
verify_task = verify.run_task
unpack_task = unpack.run_task


def run_poisoned(task: Task, threads: int) -> work.TaskResult:
    """Kill this process if the task holds notes.txt; raise a bug on slides/1.tif."""
    names = {item.name for item in task.items}
    if "notes.txt" in names:
        os.kill(os.getpid(), signal.SIGKILL)
    if "slides/1.tif" in names:
        raise ZeroDivisionError("a bug")
    return run_task(task, threads)


def die_once(archive: Path) -> None:
    """Kill this process if no other was killed in this job: what is tried again succeeds."""
    try:
        archive.with_name("killed").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def verify_killed_once(task: VerifyTask, threads: int) -> VerifyResult:
    """Verify; the first worker dies."""
    die_once(task.archive)
    return verify_task(task, threads)


def unpack_killed_once(task: UnpackTask, threads: int) -> UnpackResult:
    """Unpack; the first worker dies."""
    die_once(task.archive)
    return unpack_task(task, threads)


def verify_killed(task: VerifyTask, threads: int) -> VerifyResult:
    """Verify, but for object 3, which always takes its worker along."""
    if 3 in task.objects:
        os.kill(os.getpid(), signal.SIGKILL)
    return verify_task(task, threads)
