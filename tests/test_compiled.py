"""Loops that were compiled by another release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = """
from typing import NamedTuple
from archiver.compiled import compiled
import {module}

@compiled
def total(pair):
    return pair.a + pair.b

print(total({module}.{name}(1, 2)))
"""
PAIR = "from typing import NamedTuple\n\nclass {name}(NamedTuple):\n    a: int\n    b: int\n"


@pytest.mark.parametrize("name", ["Pair", "Couple"])
def test_code_of_classes_that_are_gone_is_compiled_anew(tmp_path: Path, name: str) -> None:
    """An upgrade renames a class: what was kept of loops that took it is no obstacle."""
    for now in ("Pair", name, name):
        (tmp_path / "pairs.py").write_text(PAIR.format(name=now))
        (tmp_path / "loop.py").write_text(LOOP.format(module="pairs", name=now))
        run = subprocess.run(
            [sys.executable, "loop.py"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr
    assert list(tmp_path.glob("__pycache__/*.nbi"))
