"""The published schema agrees with what is written, with its examples, and with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from archiver.archive import commit
from archiver.archive.tables import TABLES
from archiver.errors import FormatError

SCHEMA = Path(__file__).parents[2] / "manifests" / "schema"
VALID = sorted((SCHEMA / "examples" / "valid").glob("archive-*.json"))
INVALID = sorted((SCHEMA / "examples" / "invalid").glob("archive-*.json"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema, itself checked against its draft."""
    document: dict[str, Any] = json.loads((SCHEMA / "archive-v1.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return document


def is_valid(schema: dict[str, Any], text: str) -> bool:
    """Whether a JSON text obeys a schema."""
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_examples(schema: dict[str, Any], path: Path) -> None:
    """Schema and reader accept every valid example; writing it again gives the same text."""
    assert is_valid(schema, path.read_text())
    parsed = commit.parse(path, path.read_bytes())
    rendered = json.loads(commit.render(parsed))["attributes"]
    assert rendered == json.loads(path.read_text())["attributes"]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_examples(schema: dict[str, Any], path: Path) -> None:
    """Schema and reader refuse every invalid example, though its check sum is right."""
    assert not is_valid(schema, path.read_text())
    with pytest.raises(FormatError):
        commit.parse(path, path.read_bytes())


def test_what_is_written_obeys_the_schema(made_once: Path, schema: dict[str, Any]) -> None:
    """Root, generations and the metadata of every column are as published."""
    documents = [made_once / "zarr.json", *made_once.glob("manifest/0*/zarr.json")]
    assert len(documents) == 3
    assert all(is_valid(schema, path.read_text()) for path in documents)
    columns = schema["$defs"]["columns"]
    for path in made_once.glob("manifest/0*/*/*/zarr.json"):
        table, name = path.parts[-3:-1]
        wanted = {"$ref": f"#/$defs/columns/{table}/{name}", "$defs": schema["$defs"]}
        assert is_valid(wanted, path.read_text()), path
    assert {t: list(c) for t, c in columns.items()} == {
        table: [column.name for column in parts] for table, parts in TABLES.items()
    }
