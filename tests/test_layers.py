"""The shape of the code: who may import whom, one door per library, nothing too long."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "archiver"
MODULES = sorted(PACKAGE.rglob("*.py"))
ALL_FILES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted(ROOT.glob("examples/*.py"))]

MAX_FILE = 400
MAX_FUNCTION = 50  # without its docstring
MAX_ARGUMENTS = 8  # without self and cls
MAX_CLASS = 199
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}

Function = ast.FunctionDef | ast.AsyncFunctionDef

# The floors of each folder, top first: a module may import those on floors below it, never above
# or beside.  It holds inside every folder that is named here, for imports of types, too.
FLOORS: dict[str, str] = {
    "": "cli > report > jobs training > pipeline > sources codec archive "
    "> compiled image image_headers native > errors",
    "archive": "check writer > reader recover > affected new_generation "
    "> assemble stored usage view > index salvage tasks "
    "> commit lock manifest model_files seen shard validate > records "
    "> durable layout tables",
    "cli": "export info ls pack train unpack verify > options > output > bar",
    "codec": "quick tiles > learned tuning > inference > transforms reference "
    "> model jpeg jpeg_ls residue > classic entropy > ids",
    "codec/inference": "high_depth_tiles > engine > native tensor_coder > wavefront",
    "codec/jpeg": "tile > payload > planes > baseline blocks > context_mixing huffman "
    "> kernels t81",
    "codec/model": "adapter frozen > batches frequencies layers model_delta pretrained "
    "> mixture model_file > mgcf > adapter_record causal devices grid high_depth "
    "> architecture limits tables taps",
    "codec/reference": "high_depth > decoder > range_coder",
    "codec/transforms": "chain > ordered > order_search > order_forms > ordinals "
    "> delta from_jpeg orientation pieces repeated scale_offset",
    "codec/transforms/from_jpeg": "collage > tile > traces > coded fit > stream > grid pixels",
    "codec/tuning": "rpft > archive_model heads > factors optimisers",
    "jobs": "run > coding survey unpack verify > archive_models destination "
    "generation ledger retry > cluster present restored tally work "
    "> events hard_links model_tuning plan restore shares spec",
    "jobs/cluster": "local remote > pool > members topic > clients knock outcome probe",
    "native": "library > arrays build",
    "pipeline": "write read > engines globs key_tiles known_content progress tiling",
    "pipeline/read": "open_archive > restore > windows > decode > tile_cache "
    "> output_files stored_tile",
    "pipeline/write": "pack > coder finish > batch > queued_file > encode planning "
    "> alternatives check > adapter dataset_sample file_plan orientation source_file "
    "> confidence model_choice residues rows tile_samples > delta_bases payloads",
    "report": "contents summary > figure text",
    "sources": "registry > gzipped > detached_header > jpeg metaimage nrrd tiff "
    "> bitmap dicom jp2 jpeg_ls mgh nifti npy tiff_stacks volumes > segmented > lerc png "
    "> deflate jpeg2000 xz > cursor notes zstd > bit_packing contract nearest opaque quiet",
    "sources/deflate": "settings > plan > matches > bitstream",
    "sources/dicom": "deflated > file > frames > native > header",
    "sources/jpeg2000": "plan > packets throughput > codestream wavelet > blocks > styles",
    "sources/lerc": "segment > plan > walk > blocks huffman > bits blob",
    "sources/segmented": "find_recipes > planes streams > segments > encodings rows "
    "> asides geometry jpeg_frames jpeg_tile orders runs strips",
    "sources/xz": "plan > symbols",
    "sources/zstd": "plan > literals sequences > tables > bits",
    "training": "run > log > export measure train > checkpoint data",
}
ENTRANCES = {"__init__", "__main__"}  # of a package: they may name all of it

# One library, one door: folders end with a slash.
DOORS = {
    "click": ("cli/",),
    "rich": ("cli/", "report/"),
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
        elif isinstance(node, ast.ImportFrom) and is_ours(f"{node.module}."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def name_of(path: Path) -> str:
    """Return the path of a file inside the project."""
    return path.relative_to(ROOT).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    """Parse one file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def functions(path: Path) -> list[Function]:
    """Return all functions of a file."""
    return [node for node in ast.walk(parse(path)) if isinstance(node, Function)]


def floors(folder: str) -> dict[str, int]:
    """Return the floor of each module and room of a folder, 0 for the lowest."""
    names = [floor.split() for floor in FLOORS[folder].split(" > ")]
    return {name: -number for number, floor in enumerate(names) for name in floor}


def test_imports_only_point_downwards() -> None:
    """A module imports from floors below its own, in every folder that it lies in."""
    assert not [fault for path in MODULES for fault in upward_imports(path)]


def upward_imports(path: Path) -> Iterator[str]:
    """Yield what a module imports although it is above or beside it."""
    *rooms, own = path.relative_to(PACKAGE).with_suffix("").parts
    targets = [name.split(".")[1:] for name in imported(parse(path)) if is_ours(name)]
    for depth, name in enumerate([*rooms, own]):
        if name in ENTRANCES:
            continue
        rank = floors("/".join(rooms[:depth]))
        inside = {to[depth] for to in targets if to[:depth] == rooms[:depth] and len(to) > depth}
        wrong = {to for to in inside & set(rank) - {name} if rank[to] >= rank[name]}
        yield from (f"{name_of(path)} must not import {to}" for to in sorted(wrong))


def test_every_module_has_a_floor() -> None:
    """What is in a folder is what FLOORS says of it, so that nothing escapes the test above."""
    for folder in (path.parent for path in MODULES if path.stem == "__init__"):
        here = {path.stem for path in folder.glob("*.py")} - ENTRANCES
        here |= {path.parent.name for path in folder.glob("*/__init__.py")}
        said = FLOORS.get(folder.relative_to(PACKAGE).as_posix().replace(".", ""), "")
        assert set(said.split()) - {">"} == here, name_of(folder)


def is_ours(name: str) -> bool:
    """Whether an imported name is of the package."""
    return name.startswith("archiver.")


def test_each_library_has_one_door() -> None:
    """Third-party libraries are imported only by the modules that own them."""
    for path in MODULES:
        inside = path.relative_to(PACKAGE).as_posix()
        libraries = {name.split(".")[0] for name in imported(parse(path))}
        wrong = {name for name in libraries & set(DOORS) if not inside.startswith(DOORS[name])}
        assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


def test_what_is_imported_is_declared() -> None:
    """Every library that the package imports is declared: one it needs, `plot` or its build."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, build = whole["project"], whole["build-system"]["requires"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["plot"], *build]
    declared = {re.split(r"[<>=~!]", line)[0].replace("-", "_") for line in asked}
    libraries = {name.split(".")[0] for path in MODULES for name in imported(parse(path))}
    libraries -= {"archiver", *sys.stdlib_module_names}
    assert {PACKAGES.get(name, name) for name in libraries} <= declared


def test_files_are_short() -> None:
    """No file is longer than 400 lines."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in ALL_FILES}
    assert not [name_of(path) for path, n in lines.items() if n > MAX_FILE]


def test_functions_are_short_and_take_few_arguments() -> None:
    """None is longer than 50 lines or takes more than 8 arguments: what belongs together is one."""
    for path in ALL_FILES:
        for function in functions(path):
            where = f"{name_of(path)}: {function.name}"
            assert length_of(function) <= MAX_FUNCTION, where
            assert n_arguments(function) <= MAX_ARGUMENTS, where


def length_of(function: Function) -> int:
    """Return the lines of a function without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def n_arguments(function: Function) -> int:
    """Return how many arguments a function takes, positional or by name."""
    args = function.args
    names = {arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
    return len(names - {"self", "cls"})


def test_classes_are_short() -> None:
    """No class has 200 lines."""
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_CLASS, f"{name_of(path)}: {node.name}"


def test_every_module_says_what_it_owns() -> None:
    """Every module has a docstring, and none is a drawer for things without a home."""
    for path in MODULES:
        assert path.stem not in DRAWERS
        says = ast.get_docstring(parse(path)) or not path.read_text(encoding="utf-8").strip()
        assert says, name_of(path)


@pytest.mark.parametrize("module", ["archiver", "archiver.cli"])
def test_import_is_light(module: str) -> None:
    """Importing the package, or showing help, loads none of the heavy libraries."""
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "dask", "distributed", "zarr", "imagecodecs", "constriction", "numpy"}
    assert not heavy & set(run.stdout.split())
