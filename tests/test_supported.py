"""SUPPORTED.md keeps up with the program: formats, ways to rebuild, notes; its rows are tried."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from supported_files import Row
from supported_volumes import EXAMPLES, HEADERS

import archiver
from archiver.jobs.spec import PackSettings
from archiver.pipeline.write import finish
from archiver.sources import NO_FORMAT, Format, ParsedFile, parse, tiff
from archiver.sources.segmented import segments
from archiver.sources.segmented.encodings import Encoding

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "manifests" / "SUPPORTED.md").read_text(encoding="utf-8")
SOURCES = ROOT / "archiver" / "sources"
WALKS = ("zstd", "xz")  # whose reasons end as "encoder parameters ... not found"
DEFLATE = {"ZLIB", "PLANNED"}
OF_NO_ERROR = {  # notes that are not the message of an exception
    NO_FORMAT,
    finish.SMALLER_AS_IS,
    "NIfTI: a header; its voxels are in the file beside it",
    "...: cannot rebuild (...: ...)",
    "...: damaged or unusual (...: ...)",
    "...: an image of ... x ... x ... samples",
    "...: samples of type ..., ... bits",
}


def table(first: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is ``first``."""
    _, _, rest = TEXT.partition(f"\n| {first} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]


FORMATS = {(row[0], row[1]): row[2:] for row in table("format")}


def names(cell: str) -> set[str]:
    """Return what a cell names as code."""
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_format_has_its_rows() -> None:
    """Every on-disk format has a row that reads it, and there is no row of another."""
    assert {format for format, _ in FORMATS} == set(Format.__members__)
    read = {format for (format, _), cells in FORMATS.items() if cells[0] != "kept"}
    assert read == set(Format.__members__) - {"OPAQUE"}


def test_every_encoding_is_listed() -> None:
    """Every way to rebuild a strip, tile or frame has its id and its name, and is in a row."""
    assert {int(row[0]): names(row[1]) for row in table("id")} == {
        int(encoding): {encoding.name} for encoding in Encoding
    }
    used = set().union(*(names(cells[1]) for cells in FORMATS.values()))
    assert used | DEFLATE == {encoding.name for encoding in Encoding}


def test_every_note_is_listed() -> None:
    """Every reason that a source can give is listed, and no other one."""
    blocks = re.findall(r"^```\n(.*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)
    listed = [line for block in blocks for line in block.splitlines()]
    assert len(listed) == len(set(listed))
    said = OF_NO_ERROR | set(tiff._REASONS.values()) | set(_reasons())
    assert sorted(set(listed) ^ said) == []


def _reasons() -> Iterator[str]:
    """Yield the messages of all `Unsupported`, with ... for what differs."""
    for path in sorted(SOURCES.rglob("*.py")):
        if path.parent.name in WALKS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if is_call and node.func.id == "Unsupported" and node.args:
                yield from (text for text in _texts(node.args[0]) if re.search("[a-z]", text))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "..."
                      for part in node.values)  # fmt: skip
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value.replace("{}", "...")
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def test_its_lines_are_short() -> None:
    """A line has at most 120 characters."""
    assert not [line for line in TEXT.splitlines() if len(line) > 120]


def test_rows_are_tried() -> None:
    """Every row has an example."""
    assert set(EXAMPLES) == set(FORMATS)


@pytest.mark.parametrize("row", EXAMPLES, ids=": ".join)
def test_row_is_true(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a row are read by samples, as their JPEGs, or kept, and rebuilt as it says."""
    used = set[str]()
    add = segments.Table.add

    def noted(self: segments.Table, *given: object) -> None:
        used.update(one.encoding.name for one in given if isinstance(one, segments.Recipe))
        add(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(segments.Table, "add", noted)
    EXAMPLES[row](tmp_path)
    happens, rebuilt, kept = FORMATS[row]
    paths = sorted(p for p in tmp_path.iterdir() if row[0] == "OPAQUE" or p.suffix not in HEADERS)
    assert paths
    for path in paths:
        parsed = parse(path)
        if happens == "kept":
            assert parsed.format is Format.OPAQUE, path.name
            assert any(words in parsed.note for words in names(kept)), parsed.note
        else:
            assert parsed.format.name == row[0], parsed.note or path.name
            assert is_jpeg(parsed) == (happens == "its JPEG")
    if happens != "kept":
        allowed = names(rebuilt) | (DEFLATE if "deflate" in rebuilt else set())
        inside = {"PLAIN"} if row[0] in ("GZIP", "DICOM_DEFLATED") else set()
        assert used <= allowed | inside
        assert used or not names(rebuilt)


@pytest.mark.slow
def test_files_of_all_rows_come_back(tmp_path: Path) -> None:
    """One archive takes them all, each by samples or as it is, and gives back every byte."""
    source, restored = tmp_path / "source", tmp_path / "restored"
    for number, write in enumerate(EXAMPLES.values()):
        (source / str(number)).mkdir(parents=True)
        write(source / str(number))
    summary = archiver.pack(source, tmp_path / "a", PackSettings(profile="fast", workers=0))
    assert not summary.failures
    archiver.unpack(tmp_path / "a", restored, workers=0)
    paths = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    assert len(paths) > len(EXAMPLES)
    for path in paths:
        assert (restored / path).read_bytes() == (source / path).read_bytes()
    archive = archiver.open_archive(tmp_path / "a")
    for number, (format, variant) in enumerate(EXAMPLES):
        formats = {entry.format for entry in archive.entries([f"{number}/*"])}
        is_read = FORMATS[format, variant][0] != "kept"
        assert formats <= {Format.OPAQUE.label} | ({Format[format].label} if is_read else set())


def is_jpeg(parsed: ParsedFile) -> bool:
    """Whether a file is kept as the JPEGs that it is made of."""
    whole = parsed.format is Format.JPEG and not parsed.images
    return whole or any(image.jpeg_tile for image in parsed.images)
