"""The scan and the plan: complete, deterministic, sized well."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from archiver.archive import layout
from archiver.errors import NotFoundError, UsageError
from archiver.jobs import plan
from archiver.pipeline import globs


def names(items: tuple[plan.Item, ...]) -> list[str]:
    """Return the paths of items as text."""
    return [item.name for item in items]


def test_scan_finds_everything_in_order(tree: Path) -> None:
    """Files, directories and links appear once, sorted by their bytes."""
    scan = plan.scan(tree, skip=tree / "none.archive")
    assert [item.path for item in scan.items] == sorted(item.path for item in scan.items)
    assert len(scan.items) == len(list(tree.rglob("*")))
    kinds = {item.name: item.kind for item in scan.items}
    assert kinds["link"] == layout.SYMLINK
    assert kinds["empty"] == layout.DIRECTORY
    assert kinds[os.fsdecode(b"odd \xff name")] == layout.FILE
    assert not scan.failures


def test_scan_skips_its_own_archive(tree: Path) -> None:
    """An archive inside the source is not packed into itself."""
    (tree / "mine.archive").mkdir()
    (tree / "mine.archive" / "zarr.json").write_text("{}", encoding="utf-8")
    found = names(plan.scan(tree, skip=tree / "mine.archive").items)
    assert not [name for name in found if name.startswith("mine.archive")]


def test_scan_reports_what_it_leaves_out(tree: Path) -> None:
    """A socket is named, not packed."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "socket"))
        scan = plan.scan(tree, skip=tree / "x")
    assert scan.skipped == ("socket",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
def test_scan_reports_unreadable_directories(tree: Path) -> None:
    """A directory that may not be read is a failure; the rest is still found."""
    (tree / "slides" / "deep").chmod(0)
    scan = plan.scan(tree, skip=tree / "x")
    (tree / "slides" / "deep").chmod(0o755)
    assert [path for path, _ in scan.failures] == ["slides/deep"]


def test_scan_refuses_what_is_no_directory(tree: Path) -> None:
    """The source must be a directory."""
    with pytest.raises(UsageError, match=r"notes\.txt"):
        plan.scan(tree / "notes.txt", skip=tree / "x")
    with pytest.raises(NotFoundError):
        plan.scan(tree / "absent", skip=tree / "x")


def test_include_and_exclude(tree: Path) -> None:
    """Globs choose files; directories above what is chosen come along."""
    chosen = plan.scan(tree, include=["*.tif"], exclude=["slides/deep"], skip=tree / "x").items
    assert names(chosen) == ["slides", "slides/0.tif", "slides/1.tif", "slides/2.tif"]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.tif", "a.tif", True),
        ("*.tif", "deep/er/a.tif", True),
        ("slides/*.tif", "slides/a.tif", True),
        ("slides/*.tif", "slides/deep/a.tif", False),
        ("slides/**", "slides/deep/a.tif", True),
        ("**/a.tif", "a.tif", True),
        ("slides", "slides/deep/a.tif", True),
        ("slides/", "slides/a", True),
        ("slide", "slides/a", False),
        ("?.txt", "a.txt", True),
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("a+b(1).txt", "a+b(1).txt", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    """Globs mean what the help text says."""
    assert globs.matches(pattern, path) is expected


def test_copies_share_a_task(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy follows its first occurrence into the same task, whatever the task size."""
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 1)
    monkeypatch.setattr(plan, "MAX_TASK_BYTES", 1)
    tasks = plan.make(tree, plan.scan(tree, skip=tree / "x").items)
    [task] = [names(task) for task in tasks if "copy.png" in names(task)]
    assert "slides/0.png" in task


def test_plan_is_deterministic_and_complete(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and link is in exactly one task; the same tree gives the same plan."""
    monkeypatch.setattr(plan, "MIN_TASK_BYTES", 4096)
    items = plan.scan(tree, skip=tree / "x").items
    tasks = plan.make(tree, items)
    assert tasks == plan.make(tree, items)
    planned = sorted(item.path for task in tasks for item in task)
    assert planned == [item.path for item in items if item.kind != layout.DIRECTORY]
    assert len(tasks) > 1


def test_large_files_are_alone() -> None:
    """A file that streams into its shard shares it with no other."""
    sizes = [10, plan.LARGE_BYTES + 1, 10, 10]
    items = [plan.Item(b"%d" % i, layout.FILE, 0o644, 0, size) for i, size in enumerate(sizes)]
    tasks = plan.make(Path("/nowhere"), items)
    assert [len(task) for task in tasks] == [1, 1, 2]


@pytest.mark.parametrize(
    ("total", "expected"),
    [(0, 2 << 20), (1 << 20, 2 << 20), (1 << 30, 16 << 20), (1 << 40, 128 << 20)],
)
def test_task_size(total: int, expected: int) -> None:
    """Tasks are a 64th of the work, within bounds."""
    assert plan.task_bytes(total) == expected


def test_task_digest_follows_content_and_settings(tree: Path) -> None:
    """What is packed and how identifies a task; where it runs and what is done does not."""
    items = plan.make(tree, plan.scan(tree, skip=tree / "x").items)[0]
    task = plan.Task(tree, Path("/a"), items, (b"m" * 32,), 128, "bytes", "fast")
    same = plan.Task(
        tree, Path("/b"), items, (b"m" * 32,), 128, "bytes", "fast", done=frozenset({b"x"})
    )
    other = plan.Task(tree, Path("/a"), items, (b"m" * 32, b"n" * 32), 128, "bytes", "fast")
    assert task.digest == same.digest != other.digest
