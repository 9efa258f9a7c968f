"""The shipped models: small, described, known by name; and model files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.codec.model import model_file, pretrained
from archiver.errors import UsageError

FOLDER = Path(pretrained.__file__).parent


def test_all_models_together_are_small() -> None:
    """Less than 4 MB in the wheel."""
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 4_000_000


@pytest.mark.parametrize("name", pretrained.names())
def test_every_model_has_a_card(name: str) -> None:
    """The file says its name, steps, data, licences and what it was measured to be worth."""
    file = model_file.ModelFile.from_bytes(pretrained.load(name))
    assert file.name == name
    assert file.card["steps"] > 0
    assert file.card["licence"]
    assert file.card["legs"][-1]["data"]
    assert {m["set"] for m in file.card["measured"]} == {"natural", "histology", "satellite"}
    assert all(m["above_loss"] < 0.003 for m in file.card["measured"])  # exported = trained
    assert (FOLDER / f"{name}.md").read_text().startswith(f"# {name}\n")


def test_all_sizes_are_there() -> None:
    """Profiles name them."""
    assert {pretrained.SMALLEST, pretrained.SMALL, pretrained.LARGE} <= set(pretrained.names())


@pytest.mark.parametrize("content", [b"rubbish", b"ARCMODEL" + bytes(40)])
def test_model_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    """`--model x.model` with something else in it: the message names the file."""
    (tmp_path / "x.model").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.model: "):
        pretrained.load(str(tmp_path / "x.model"))
