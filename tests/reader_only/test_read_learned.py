"""FORMAT.md is enough: learned tiles are read with Python's integers alone.

The readers beside this file were written from the text.  They use neither archiver, NumPy nor a
library of entropy coding, and no number in them is a float.
"""

from __future__ import annotations

import ast
import hashlib
import json
import struct
from pathlib import Path

import pytest
from reader_only_adapter import adapted
from reader_only_high_depth import read_high_depth
from reader_only_learned import S, T, W, read_learned
from reader_only_network import Model, read_model

TESTS = Path(__file__).parents[1]
VECTORS = TESTS / "vectors" / "codec-v1"
READERS = sorted(Path(__file__).parent.glob("reader_only_*.py"))
LEARNED = sorted(path.stem for path in VECTORS.glob("*-learned.bin"))
TABLES = "a27e778518ebd5d8626f5e25fa60e6f736b14001d283b040104d90d3a4e3a604"
LIBRARIES = {
    *("__future__", "array", "bisect", "collections", "itertools", "json", "operator", "struct"),
    *("typing", "zstandard"),
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_tile_reads_with_integers_alone(name: str) -> None:
    """Model and payload give the samples."""
    recorded = json.loads((VECTORS / f"{name}.json").read_text())
    payload = (VECTORS / f"{name}.bin").read_bytes()
    samples = read_learned(model_of("tiny"), payload, *recorded["shape"])
    assert hashlib.sha256(samples).hexdigest() == recorded["sha256"]


@pytest.mark.parametrize("name", ["adapted", "adapted-heads"])
def test_an_adapted_tile_reads_with_integers_alone(name: str) -> None:
    """Model, adapter and payload give the samples."""
    model = adapted(model_of(name), (VECTORS / f"{name}.adapter").read_bytes())
    samples = read_learned(model, (VECTORS / f"{name}.tile").read_bytes(), 12, 15, 3)
    digest = (VECTORS / f"{name}.sha256").read_text().strip()
    assert hashlib.sha256(samples).hexdigest() == digest


def test_limits_are_those_of_the_text() -> None:
    """A model of large weights reaches each on both sides: nothing is clipped but as it says."""
    payload = (VECTORS / "saturated.tile").read_bytes()
    samples = read_learned(model_of("saturated"), payload, 9, 10, 3)
    digest = (VECTORS / "saturated.sha256").read_text().strip()
    assert hashlib.sha256(samples).hexdigest() == digest


@pytest.mark.parametrize("bits", [12, 16])
def test_a_tile_of_high_bit_depth_reads_with_integers_alone(bits: int) -> None:
    """Window, stream and model give the samples."""
    payload = (VECTORS / f"deep-{bits}.tile").read_bytes()
    samples = read_high_depth(model_of("deep"), payload, 11, 14)
    digest = (VECTORS / f"deep-{bits}.sha256").read_text().strip()
    assert hashlib.sha256(samples).hexdigest() == digest


def test_the_tables_are_those_of_the_text() -> None:
    """The formulas give the numbers whose digest the text has: W, T and 4096 S."""
    values = [*W, *T, *(n << 12 - k for n, k in S.values())]
    digest = hashlib.sha256(struct.pack(f"<{len(values)}i", *values)).hexdigest()
    assert digest == TABLES


def model_of(name: str) -> Model:
    """Return a model among the vectors."""
    return read_model((VECTORS / f"{name}.model").read_bytes())


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_readers_have_no_floats(path: Path) -> None:
    """They import nothing that calculates, divide whole numbers only, and name no float."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        roots = {name.split(".")[0] for name in names}
        assert roots <= LIBRARIES | {reader.stem for reader in READERS}
        assert not isinstance(node, ast.Div)
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not (isinstance(node, ast.Name) and node.id == "float")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            assert not isinstance(node.right, ast.UnaryOp)  # 2 ** -n is a float
