"""The texts in manifests/ keep their own rules: lines, words, sections, ids, notes."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from archiver.archive import layout
from archiver.codec.ids import TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.residue import ResidueCodec
from archiver.codec.transforms.from_jpeg.pixels import Mode
from archiver.sources.contract import Fidelity, Format
from archiver.sources.deflate.settings import Encoder
from archiver.sources.segmented.encodings import Encoding

MANIFESTS = Path(__file__).parents[1] / "manifests"
FORMAT = (MANIFESTS / "FORMAT.md").read_text()
RATIONALE = (MANIFESTS / "RATIONALE.md").read_text()
MAX_LINE = 120
# what ids of tiles are called in the text, where code has another name
CHUNKS = ("stored", "zstd", "adapter record", "head of JPEG tiles", "key tiles")
# words that the text had, and has others for
OLD_WORDS = r"\b(born|fore(see|saw)\w*|prim(ed|ing)|upright|turned|narrow|finetun\w*|fine-tun\w*)\b"


def headings(text: str) -> list[str]:
    """Return the names of all sections."""
    return re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)


def section(name: str) -> str:
    """Return what a section of FORMAT.md says, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(name)}\n(.*?)(?=^#+ |\Z)", FORMAT, re.DOTALL | re.MULTILINE)
    assert found, f"no section {name!r}"
    return found[1]


def without_code(text: str) -> str:
    """Return a text without fenced blocks."""
    return re.sub(r"^```\n.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE)


def glossary() -> list[str]:
    """Return the terms, in their order."""
    rows = re.findall(r"^\| (.*?) \| .* \|$", section("Terms"), re.MULTILINE)
    return [row for row in rows if row != "term"]


def rows_of(name: str) -> dict[int, str]:
    """Return the rows of a section's tables that begin with a number, by that."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section(name), re.MULTILINE)
    return {int(number): rest for number, rest in reversed(rows)}  # the first table counts


@pytest.mark.parametrize("path", sorted(MANIFESTS.rglob("*.md")), ids=lambda path: path.name)
def test_lines_are_short(path: Path) -> None:
    """A line that is too long for a screen is not read."""
    lines = enumerate(path.read_text().splitlines(), 1)
    assert not [f"{path.name}:{n}" for n, line in lines if len(line) > MAX_LINE]


def test_terms_are_defined_once_and_used() -> None:
    """A glossary is of the words of its text, and of no others."""
    terms = glossary()
    assert len(terms) > 60
    assert len(terms) == len(set(terms))
    rest = FORMAT.replace(section("Terms"), "").lower()
    rest = re.sub(r"\s+", " ", rest)
    unused = [term for term in terms if not re.search(rf"\b{re.escape(term.lower())}", rest)]
    assert not unused


def test_definitions_take_two_lines_at_most() -> None:
    """Whoever looks up a word wants the word."""
    rows = section("Terms").splitlines()
    assert not [row for row in rows if row.startswith("| ") and len(row) > MAX_LINE]


def test_sections_have_names_of_their_own() -> None:
    """A reference leads to one place."""
    names = headings(FORMAT)
    assert len(names) == len(set(names))


def test_sections_that_are_referred_to_exist() -> None:
    """No reference leads nowhere."""
    text = re.sub(r"\s+", " ", without_code(FORMAT))
    named = set()
    for group in re.findall(r'[Ss]ections? ((?:"[^"]+"(?:, | and | or )?)+)', text):
        named |= set(re.findall(r'"([^"]+)"', group))
    named |= set(re.findall(r'"((?:Residue|Plan) of [^"]+)"', text))
    named |= {
        row.split(" | ")[-1] for row in rows_of("Tiles and codecs").values() if row[0].isalpha()
    }
    for remark in re.findall(r'# (?:section|sections) (.*)|# "(.*)"', FORMAT):
        named |= set(re.findall(r'"([^"]+)"', remark[0])) or {remark[1]}
    assert len(named) > 40
    wanted = (
        named
        - set(headings(FORMAT))
        - {name for title in headings(FORMAT) for name in title.split(", ")}
    )
    assert not {name for name in wanted if not name.startswith("head of JPEG")}


def test_code_refers_to_sections_that_exist() -> None:
    """Docstrings that quote FORMAT.md name its sections."""
    package = Path(__file__).parents[1] / "archiver"
    names = set(headings(FORMAT))
    missing = {
        f"{path.name}: {name}"
        for path in package.rglob("*.py")
        for name in re.findall(r'FORMAT\.md,(?:\s+section)?\s+"([^"]+)"', path.read_text())
        if name not in names
    }
    assert not missing


@pytest.mark.parametrize("codec", TileCodec)
def test_codecs_are_in_the_text(codec: TileCodec) -> None:
    """Every id of a tile's codec has a row, and a section."""
    name, _, where = rows_of("Tiles and codecs")[codec].split(" | ")
    assert name == codec.name
    assert where in headings(FORMAT)


@pytest.mark.parametrize("codec", ResidueCodec)
def test_chunks_are_in_the_text(codec: ResidueCodec) -> None:
    """Every id of a chunk has a row."""
    assert rows_of("residues")[codec].startswith(CHUNKS[codec])


def test_no_other_ids_are_in_the_text() -> None:
    """What the text has and code does not know is a mistake of one of them."""
    assert len(re.findall(r"^\| \d+ \| [A-Z_0-9]+ \|", section("Tiles and codecs"), re.M)) == len(
        TileCodec
    )
    assert set(rows_of("residues")) == set(ResidueCodec)
    assert set(rows_of("Residues")) == set(Format)


@pytest.mark.parametrize("format", Format)
def test_formats_are_in_the_text(format: Format) -> None:
    """Every id of a file format has a row with its name."""
    assert rows_of("Residues")[format].startswith(format.name)


def test_dtypes_kinds_and_fidelities_are_in_the_text() -> None:
    """The ids that tables hold are those of the layout."""
    names = {"|b1": "bool", "f": "float", "u": "uint", "i": "int"}
    for number, code in layout.DTYPES.items():
        bits = "" if code == "|b1" else str(8 * int(code[2]))
        assert re.search(
            rf"\b{number} {names.get(code, names.get(code[1]))}{bits}\b", section("images")
        )
    kinds = {layout.FILE: "file", layout.DIRECTORY: "directory", layout.SYMLINK: "symbolic link"}
    for number, name in {**kinds, layout.REMOVED: "removed"}.items():
        assert f"{number} {name}" in section("entries")
    for fidelity, words in zip(Fidelity, ("every byte", "samples and metadata"), strict=True):
        assert f"{int(fidelity)} {words}" in section("objects")


@pytest.mark.parametrize(
    ("kind", "where"),
    [(Encoding, "Residue of segmented files"), (Mode, "From JPEG")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_ids_have_rows(kind: type[IntEnum], where: str) -> None:
    """Every id of a kind has a row in its section."""
    assert set(kind) <= set(rows_of(where))


def test_forms_and_encoders_are_in_the_text() -> None:
    """The ids of forms of JPEG tiles, and of encoders, are named."""
    rows = re.findall(r"^\| ([\d, ]+) \|", section("JPEG tiles"), re.MULTILINE)
    forms = {int(number) for row in rows for number in row.split(", ")}
    assert set(jpeg_tile.Form) <= forms
    for encoder, name in zip(Encoder, ("zlib", "libdeflate", "planned"), strict=True):
        assert f"{int(encoder)} {name}" in section("zlib settings")


def test_libraries_are_named_in_notes_alone() -> None:
    """The stream is what the text says, whatever a library does."""
    paragraphs = [part for part in FORMAT.split("\n\n") if "constriction" in part]
    assert paragraphs
    assert all(part.startswith("*Note.*") for part in paragraphs)


@pytest.mark.parametrize("text", [FORMAT, RATIONALE], ids=["FORMAT", "RATIONALE"])
def test_old_words_are_gone(text: str) -> None:
    """One thing has one name."""
    assert not re.findall(rf".*{OLD_WORDS}.*", text)


def test_reasons_are_dated_newest_first() -> None:
    """An entry says when it was decided; a topic begins with the latest."""
    topics = RATIONALE.split("\n## ")[1:]
    assert len(topics) >= 5
    for topic in topics:
        dates = re.findall(r"^\* \*\*(\S+) ", topic, re.MULTILINE)
        assert dates == sorted(dates, reverse=True)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates)


def test_the_norm_has_no_measurements() -> None:
    """Figures and reasons are in RATIONALE.md."""
    assert "Rationale" not in headings(FORMAT)
    assert not re.findall(r".*\d %.*", FORMAT)
