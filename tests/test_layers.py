"""The shape of the code: who may import whom, one door per library, nothing too long."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "archiver"
MODULES = sorted(PACKAGE.rglob("*.py"))
ALL_FILES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted(ROOT.glob("examples/*.py"))]

MAX_FILE = 400
MAX_FUNCTION = 50  # without its docstring
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}

# A layer may import those below it.  Layers on one line are siblings and never import each other.
LAYERS = (
    {"cli"},
    {"report"},
    {"jobs", "training"},
    {"pipeline"},
    {"sources", "codec", "archive"},
    {"image", "compiled", "jpegxl_sides"},
    {"errors"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# One library, one door: folders end with a slash.
DOORS = {
    "click": ("cli/",),
    "rich": ("cli/", "report/"),
    "zarr": ("archive/manifest.py",),
    "filelock": ("archive/",),
    "constriction": ("codec/entropy.py",),
    "numba": ("compiled.py",),
    "distributed": ("jobs/cluster/",),
    "PIL": ("sources/", "training/data.py"),
    "tifffile": ("sources/", "training/data.py"),
    "nibabel": ("sources/nifti.py", "sources/mgh.py"),
    "nrrd": ("sources/nrrd.py",),
    "pydicom": ("sources/", "training/data.py"),
    "torch": ("codec/", "training/"),
}
PACKAGES = {"PIL": "pillow", "nrrd": "pynrrd"}  # whose names are not those of their modules


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield every module that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "archiver":
            yield from (f"archiver.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def name_of(path: Path) -> str:
    """Return the path of a module inside the package, as the test's name."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """Parse one file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_point_downwards(path: Path) -> None:
    """A module imports its own layer's package or layers below, never above or beside."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    assert own in RANK, f"{own} has no place in LAYERS"
    targets = {name.split(".")[1] for name in imported(parse(path)) if name.startswith("archiver.")}
    wrong = {name for name in targets & set(RANK) - {own} if RANK[name] <= RANK[own]}
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_one_door(path: Path) -> None:
    """Third-party libraries are imported only by the modules that own them."""
    inside = path.relative_to(PACKAGE).as_posix()
    libraries = {name.split(".")[0] for name in imported(parse(path))}
    wrong = {name for name in libraries & set(DOORS) if not inside.startswith(DOORS[name])}
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


def test_what_is_imported_is_declared() -> None:
    """Every library that the package imports is a dependency, or the extra of a source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["plot"]]
    declared = {re.split(r"[<>=~!]", line)[0].replace("-", "_") for line in asked}
    libraries = {name.split(".")[0] for path in MODULES for name in imported(parse(path))}
    libraries -= {"archiver", *sys.stdlib_module_names}
    assert {PACKAGES.get(name, name) for name in libraries} <= declared


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    """No file is longer than 400 lines, no function longer than 50."""
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MAX_FILE
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        node.name: function_length(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions)
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION}


def function_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_owns(path: Path) -> None:
    """Every module has a docstring, and none is a drawer for things without a home."""
    assert path.stem not in DRAWERS
    assert ast.get_docstring(parse(path)) or not path.read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("module", ["archiver", "archiver.cli"])
def test_import_is_light(module: str) -> None:
    """Importing the package, or showing help, loads none of the heavy libraries."""
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "dask", "distributed", "zarr", "imagecodecs", "constriction", "numpy"}
    assert not heavy & set(run.stdout.split())
