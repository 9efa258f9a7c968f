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
MAX_ARGUMENTS = 8  # without self and cls
MAX_CLASS = 199
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}

# The floors of each folder, top first: a module may import those on floors below it, never above
# or beside.  It holds inside every folder that is named here, for imports of types, too.
FLOORS: dict[str, str] = {
    "": "cli > report > jobs training > pipeline > sources codec archive "
    "> compiled image image_headers > errors",
    "archive": "check writer > reader recover > affected new_generation "
    "> assemble stored usage view > index salvage tasks "
    "> commit lock manifest model_files seen shard validate > records "
    "> durable layout tables",
    "cli": "export info ls pack train unpack verify > options > output",
    "codec": "tiles > learned tuning > inference > transforms reference "
    "> model jpeg residue > classic entropy > ids",
    "codec/inference": "high_depth_tiles > engine > cpu > cpu_high_depth > cpu_wavefront "
    "> matmul > kernels wavefront",
    "codec/inference/kernels": "wavefront > counts high_depth layers > arrays rounding",
    "codec/jpeg": "tile > payload > planes > blocks > baseline contexts "
    "> context_mixing huffman t81",
    "codec/model": "adapter > batches frequencies model_delta pretrained > mixture model_file "
    "> mgcf > adapter_record causal devices grid high_depth",
    "codec/reference": "high_depth > decoder > range_coder",
    "codec/transforms": "chain > ordered > order_search > order_forms > ordinals "
    "> delta from_jpeg orientation pieces repeated scale_offset",
    "codec/transforms/from_jpeg": "collage > tile > traces > coded fit > stream > grid pixels",
    "codec/tuning": "rpft > archive_model heads > factors optimisers",
    "jobs": "run > coding survey unpack verify > archive_models destination "
    "generation ledger retry > cluster present restored tally work "
    "> events hard_links model_tuning plan restore shares spec",
    "jobs/cluster": "local remote > pool > members > clients knock outcome probe",
    "pipeline": "write read > engines globs key_tiles known_content tiling",
    "pipeline/read": "open_archive > restore > windows > decode > tile_cache "
    "> output_files stored_tile",
    "pipeline/write": "pack > coder finish > batch > queued_file > encode planning "
    "> alternatives check > adapter dataset_sample file_plan orientation source_file "
    "> confidence model_choice residues rows tile_samples > delta_bases payloads",
    "report": "contents summary > figure text",
    "sources": "gzipped > detached_header > jpeg metaimage nrrd tiff "
    "> bitmap dicom jp2 jpeg_ls mgh nifti npy tiff_stacks volumes > segmented > lerc png "
    "> deflate jpeg2000 xz > cursor notes zstd > bit_packing contract nearest opaque quiet",
    "sources/deflate": "settings > plan > matches > bitstream > trees",
    "sources/dicom": "deflated > file > frames > native > header",
    "sources/jpeg2000": "plan > packets throughput > codestream wavelet > blocks",
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
        elif isinstance(node, ast.ImportFrom) and is_ours(f"{node.module}."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def name_of(path: Path) -> str:
    """Return the path of a module inside the package, as the test's name."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """Parse one file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def floors(folder: str) -> dict[str, int]:
    """Return the floor of each module and room of a folder, 0 for the lowest."""
    names = [floor.split() for floor in FLOORS[folder].split(" > ")]
    return {name: -number for number, floor in enumerate(names) for name in floor}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_point_downwards(path: Path) -> None:
    """A module imports from floors below its own, in every folder that it lies in."""
    *rooms, own = path.relative_to(PACKAGE).with_suffix("").parts
    targets = [name.split(".")[1:] for name in imported(parse(path)) if is_ours(name)]
    for depth, name in enumerate([*rooms, own]):
        if name in ENTRANCES:
            continue
        rank = floors("/".join(rooms[:depth]))
        inside = {to[depth] for to in targets if to[:depth] == rooms[:depth] and len(to) > depth}
        wrong = {to for to in inside & set(rank) - {name} if rank[to] >= rank[name]}
        assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


@pytest.mark.parametrize("folder", [path.parent for path in MODULES if path.stem == "__init__"])
def test_every_module_has_a_floor(folder: Path) -> None:
    """What is in a folder is what FLOORS says of it, so that nothing escapes the test above."""
    here = {path.stem for path in folder.glob("*.py")} - ENTRANCES
    here |= {path.parent.name for path in folder.glob("*/__init__.py")}
    said = FLOORS.get(folder.relative_to(PACKAGE).as_posix().replace(".", ""), "")
    assert set(said.split()) - {">"} == here


def is_ours(name: str) -> bool:
    """Whether an imported name is of the package."""
    return name.startswith("archiver.")


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


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_functions_take_few_arguments(path: Path) -> None:
    """No function takes more than 8 arguments: what belongs together comes together."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    counts = {
        node.name: n_arguments(node)
        for node in ast.walk(parse(path))
        if isinstance(node, functions)
    }
    assert not {name: count for name, count in counts.items() if count > MAX_ARGUMENTS}


def n_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many arguments a function takes, positional or by name."""
    args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len({arg.arg for arg in args} - {"self", "cls"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_classes_are_short(path: Path) -> None:
    """No class has 200 lines."""
    classes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    assert not {name: length for name, length in lengths.items() if length > MAX_CLASS}


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
