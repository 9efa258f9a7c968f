"""Archives forged to be consistent: every digest right, every value hostile.  Refused, cheaply."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from builder import add_generation

from archiver.archive import Archive, manifest
from archiver.errors import FormatError, IntegrityError

BIG = 2**63 - 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one generation that no test may change."""
    path = tmp_path_factory.mktemp("made") / "one.archive"
    add_generation(path, {b"a.png": b"alpha", b"d/b.png": b"beta"})
    return path


@pytest.fixture
def one(made: Path, tmp_path: Path) -> Path:
    """An archive of one generation, to forge."""
    return Path(shutil.copytree(made, tmp_path / "a.archive"))


def sign(
    archive: Path, change: Callable[[dict[str, Any]], object] = lambda attributes: None
) -> None:
    """Make all digests of generation 1 right again, after ``change`` edited its attributes."""
    folder = archive / "manifest" / "000001"
    document = json.loads((folder / "zarr.json").read_text())
    attributes = document["attributes"]
    for name, info in attributes["tables"].items():
        info["sha256"] = manifest.digest(folder / name)
    change(attributes)
    attributes["check"] = ""
    attributes["check"] = hashlib.sha256(canonical(document)).hexdigest()
    for path in (folder / "zarr.json", archive / "zarr.json"):
        path.write_bytes(canonical(document))


def canonical(document: dict[str, Any]) -> bytes:
    """Return JSON as commit documents are written."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def forge(archive: Path, name: str, values: object) -> None:
    """Overwrite a column of generation 1 with the help of plain zarr."""
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(archive / "manifest" / "000001" / name, mode="r+")[...] = np.array(values)
    sign(archive)


def read(archive: Path) -> None:
    """Read every table."""
    opened = Archive.open(archive)
    opened.index.load_all()
    list(opened.entries())


def test_signing_alone_changes_nothing(one: Path) -> None:
    """The forger of this file produces archives that are accepted if nothing else is wrong."""
    sign(one)
    read(one)


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        ("entries/path_data", list(b"../ppdd/b.png"), "is refused"),
        ("entries/path_data", list(b"/.pngdd/b.png"), "is refused"),
        ("entries/path_data", list(b"a\0pngdd/b.png"), "is refused"),
        ("entries/path_offsets", [0, 9, 5, 13], "decrease"),
        ("entries/path_offsets", [0, 5, 6, BIG], "span"),
        ("entries/path_offsets", [-BIG, 5, 6, 13], "span"),
        ("entries/kind", [0, 1, 9], "kind"),
        ("entries/mode", [0o104755, 0, 0], "mode"),
        ("entries/object", [2, -1, 0], "object"),
        ("entries/object", [-2, -1, 0], "object"),
        ("entries/object", [0, 0, 0], "directory"),
        ("entries/kind", [3, 1, 0], "directory has an object"),
        ("entries/kind", [0, 3, 0], "removal has a mode"),
        ("entries/link", [-1, 0, 0], "link is negative"),
        ("entries/link", [BIG, 1, BIG], "something else than a file"),
        ("entries/sparse", [0, 0, 2], "sparse"),
        ("entries/sparse", [0, 1, 0], "something else than a file"),
        ("objects/size", [-1, 0], "size"),
        ("images/object", [1, 0], "order"),
        ("images/object", [0, 2], "owner"),
        ("images/shape", [[0, 1, 1], [1, 1, 1]], "dimension"),
        ("images/tile_shape", [[0, 1], [1, 1]], "dimension"),
        ("images/dtype", [1, 99], "dtype"),
        ("images/bit_depth", [8, 65], "bit_depth"),
        ("images/view", [0, 67], "view"),
        ("tiles/image", [0, 0, 1, BIG], "owner"),
        ("tiles/window", [[0, 2**32 - 1, 2**32 - 1, 2**32 - 1]] * 4, "leaves the image"),
        ("tiles/window", [[0, 0, 0, 1]] * 4, "empty"),
        ("tiles/component", [0, 0, 0, 3], "component"),
        ("tiles/shard", [0, 0, 1, 2], "shard"),
        ("tiles/offset", [0, 0, 0, BIG], "extent"),
        ("tiles/offset", [0, 0, 0, -1], "extent"),
        ("tiles/length", [0, 0, 0, 2**32 - 1], "extent"),
        ("tiles/model", [-1, 0, -1, 1], "model"),
        ("tiles/model", [-2, 0, -1, 0], "model"),
        ("residues/offset", [BIG, 0], "extent"),
        ("residues/object", [0, -1], "owner"),
        ("shards/size", [-1, 0], "size"),
        ("models/name_data", list(b"\xff\xff\xff\xff"), "UTF-8"),
    ],
)
def test_values_out_of_range(one: Path, column: str, values: list[int], fault: str) -> None:
    """An index, extent, window, kind or path that leads elsewhere is refused when it is read."""
    forge(one, column, values)
    with pytest.raises(IntegrityError, match=fault):
        read(one)


def test_duplicate_and_nested_paths(one: Path) -> None:
    """Two entries of one path, or an entry below a file, are refused."""
    forge(one, "entries/path_data", list(b"a.png" + b"d" + b"d/b.png"))
    forge(one, "entries/kind", [0, 2, 0])
    forge(one, "entries/object", [0, 0, 0])
    with pytest.raises(IntegrityError, match="below a file"):
        read(one)


def test_an_entry_below_a_removal(one: Path) -> None:
    """What is gone has nothing below it in the same generation; links of any number are taken."""
    forge(one, "entries/link", [BIG, 0, BIG])
    read(one)
    forge(one, "entries/mode", [0, 0, 0])
    forge(one, "entries/mtime_ns", [0, 0, 0])
    forge(one, "entries/kind", [0, 3, 0])
    with pytest.raises(IntegrityError, match="below a file or removal"):
        read(one)


@pytest.mark.parametrize("rows", [10**9, 2**48])
def test_claimed_sizes_allocate_nothing(one: Path, rows: int) -> None:
    """A manifest that claims terabytes is refused by its file names, before any allocation."""

    def claim(attributes: dict[str, Any]) -> None:
        attributes["tables"]["tiles"]["rows"] = rows

    sign(one, claim)
    Archive.open(one)
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="expected a file, found nothing"):
        read(one)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_bomb(one: Path) -> None:
    """A chunk whose frame declares gigabytes is refused without inflating it."""
    import google_crc32c
    import zstandard

    frame = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    path = one / "manifest/000001/entries/kind/c/0"
    path.write_bytes(frame + google_crc32c.value(frame).to_bytes(4, "little"))
    sign(one)
    with pytest.raises(IntegrityError, match="declares 268435456 bytes, expected 3"):
        read(one)


@pytest.mark.parametrize("size", [0, 3, 4, 5, 8, 11])
def test_short_chunks(one: Path, size: int) -> None:
    """A chunk that is cut short, checksum and all, is refused."""
    import google_crc32c

    path = one / "manifest/000001/entries/kind/c/0"
    frame = path.read_bytes()[:size]
    path.write_bytes(frame + google_crc32c.value(frame).to_bytes(4, "little"))
    sign(one)
    with pytest.raises(IntegrityError, match="kind/c/0"):
        read(one)


def test_other_metadata(one: Path) -> None:
    """Column metadata that zarr would accept but that we do not write is refused."""
    path = one / "manifest/000001/entries/kind/zarr.json"
    path.write_text(path.read_text().replace('"fill_value":0', '"fill_value":1'))
    sign(one)
    with pytest.raises(IntegrityError, match="other metadata"):
        read(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2, "needs": "9.1"}, "too new.*needs archiver >= 9.1"),
        ({"version": 0}, "too old.*older release"),
        ({"version": "1"}, "format version is '1'"),
        ({"version": True}, "format version is True"),
        ({"generation": 0}, "breaks the rules"),
        ({"generation": True}, "breaks the rules"),
        ({"previous": "../../etc"}, "breaks the rules"),
        ({"tables": {"../x": {"rows": 1, "sha256": "0" * 64}}}, "breaks the rules"),
        ({"tables": {"tiles": {"rows": -1, "sha256": "0" * 64}}}, "breaks the rules"),
        ({"tables": {"tiles": {"rows": 2**49, "sha256": "0" * 64}}}, "breaks the rules"),
        ({"tables": {"tiles": {"rows": 1}}}, "breaks the rules"),
        ({"tables": []}, "breaks the rules"),
        ({"settings": []}, "breaks the rules"),
    ],
)
def test_commit_documents_that_break_the_rules(
    one: Path, change: dict[str, Any], message: str
) -> None:
    """Other versions are refused as such; impossible values are refused, whoever signed them."""
    sign(one, lambda attributes: attributes.update(change))
    with pytest.raises(FormatError, match=message):
        Archive.open(one)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"attributes":{"ome":{}}}', "\xff", "null"])
def test_not_ours(tmp_path: Path, text: str) -> None:
    """A Zarr group of somebody else, or anything else, is not an archive of ours."""
    (tmp_path / "zarr.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match="archive"):
        Archive.open(tmp_path)


def test_reading_stays_small(one: Path) -> None:
    """Opening and refusing a hostile archive fits into an address space of 2 GiB."""
    sign(one, lambda attributes: attributes["tables"]["entries"].update(rows=2**40, text=2**47))
    code = (
        "import sys, pathlib, numpy, numcodecs.zstd; from archiver.archive import Archive\n"
        "from archiver.errors import IntegrityError\n"
        "try: list(Archive.open(pathlib.Path(sys.argv[1])).entries())\n"
        "except IntegrityError: sys.exit(42)"
    )
    limit = 2 << 30
    done = subprocess.run(
        [sys.executable, "-c", code, str(one)],
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 42
