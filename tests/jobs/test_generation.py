"""What a generation says, replayed, gives the tree: whatever was there before, and is there now."""

from __future__ import annotations

import random

import pytest

from archiver.archive import layout
from archiver.archive.assemble import Known as KnownObjects
from archiver.archive.assemble import assemble_entries
from archiver.archive.records import EntryRecord
from archiver.jobs import generation
from archiver.jobs.plan import Item, Scan
from archiver.jobs.present import Known, Present
from archiver.pipeline import globs

Tree = dict[bytes, int]  # path -> kind
CONTENT = b"c" * 32


def tree(rng: random.Random) -> Tree:
    """Return a small tree of files and directories with few names."""
    found: Tree = {}
    for _ in range(rng.randrange(1, 9)):
        path = b"/".join(rng.choice([b"a", b"b", b"-"]) for _ in range(rng.randrange(1, 4)))
        above = [path[:end] for end in range(len(path)) if path[end : end + 1] == b"/"]
        if path not in found and layout.FILE not in {found.get(one) for one in above}:
            found |= dict.fromkeys(above, layout.DIRECTORY)
            found[path] = rng.choice([layout.FILE, layout.DIRECTORY])
    return found


def present(before: Tree) -> Present:
    """Return what an archive says that has that tree."""
    entries = {
        path: Known(kind, 0, 0, 0, CONTENT if kind == layout.FILE else None, 0, False, True)
        for path, kind in before.items()
    }
    return Present(entries, is_empty=False)


def replayed(before: Tree, entries: list[EntryRecord]) -> Tree:
    """Return the tree after a generation, as FORMAT.md says."""
    shown = dict(before)
    for entry in entries:
        below = {p for p in shown if p.startswith(entry.path + b"/")}
        gone = {p for p in shown if entry.path.startswith(p + b"/") and shown[p] == layout.FILE}
        if entry.kind != layout.DIRECTORY:
            gone |= below
        shown = {path: kind for path, kind in shown.items() if path not in gone | {entry.path}}
        if entry.kind != layout.REMOVED:
            shown[entry.path] = entry.kind
    return shown


def said(before: Tree, items: list[Item], gone: generation.Gone) -> list[EntryRecord]:
    """Return the entries of a generation, checked as the writer checks them."""
    entries = [
        EntryRecord(i.path, i.kind, 0, 0, CONTENT if i.kind == layout.FILE else None)
        for i in items
        if before.get(i.path) != i.kind
    ]
    entries += gone.removals(entries)
    assemble_entries(entries, KnownObjects({CONTENT: (0, 0)}))
    return sorted(entries, key=lambda entry: entry.path)


@pytest.mark.parametrize("seed", range(4))
def test_a_generation_leads_from_any_tree_to_any_other(seed: int) -> None:
    """Hundreds of pairs of trees: what is said of the second, after the first, is the second."""
    rng = random.Random(seed)
    for _ in range(400):
        before, now = tree(rng), tree(rng)
        items = [Item(path, now[path], 0, 0) for path in sorted(now)]
        scan = Scan(tuple(items), (), (), (), frozenset(now))
        gone = generation.gone(present(before), scan, [])
        entries = said(before, items, gone)
        assert replayed(before, entries) == now, (before, now)
        removed = [entry.path for entry in entries if entry.kind == layout.REMOVED]
        assert not [p for p in removed for q in removed if p.startswith(q + b"/")]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_out_of_sight_stays(seed: int) -> None:
    """Nothing goes that a pattern left out, or that lies below what failed, unless replaced."""
    rng = random.Random(seed)
    for _ in range(400):
        before, tonight = tree(rng), tree(rng)
        include = rng.choice([(), ("a",), ("a/b",), ("-",)])
        exclude = rng.choice([(), ("b",), ("a/-",)])
        is_out, is_in = globs.any_of(exclude), globs.any_of(include)
        now = {path: kind for path, kind in tonight.items() if not is_out(path.decode())}
        failed = rng.choice([[], ["a/a"], ["b"]])
        items = [
            Item(path, now[path], 0, 0)
            for path in sorted(now)
            if not include or is_in(path.decode())
        ]
        scan = Scan(tuple(items), (), (), (), frozenset(now))
        gone = generation.gone(present(before), scan, failed, include=include, exclude=exclude)
        shown = replayed(before, said(before, items, gone))
        files = {item.path for item in items if item.kind == layout.FILE}
        for path in before:
            name = path.decode()
            is_unseen = is_out(name) or any(f"{name}/".startswith(f"{one}/") for one in failed)
            is_asked = (not include or is_in(name)) and not is_unseen
            below = [p for p in shown if p.startswith(path + b"/")]
            is_replaced = any(path.startswith(one + b"/") for one in files)
            if is_asked and path not in now:
                assert path not in shown or below
            elif is_unseen and not is_replaced:
                assert path in shown or below
