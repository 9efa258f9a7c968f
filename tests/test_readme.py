"""README keeps up with the program: commands, exit codes, examples, the two copy-paste lines."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from archiver.cli import EXIT_CODES, main
from archiver.jobs.spec import FIDELITIES, PROFILES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def marked_command(name: str) -> str:
    """Return the one line of shell behind a marker in README."""
    found = re.search(rf"^<!-- command: {name} -->\n```sh\n(.+)\n```$", README, re.MULTILINE)
    assert found, f"README has no command marked {name!r}"
    return found[1]


def shown_commands() -> list[list[str]]:
    """Return every `archiver ...` line that README shows, split into words."""
    blocks = re.findall(r"^```sh\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    words = [shlex.split(line, comments=True) for line in lines]
    return [command for command in words if command and command[0] == "archiver"]


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_is_named(command: str) -> None:
    """README shows every command of the command line."""
    assert f"`archiver {command} " in README


@pytest.mark.parametrize("command", shown_commands(), ids=" ".join)
def test_shown_command_parses(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command line in README has commands, options and values that exist."""
    monkeypatch.chdir(tmp_path)
    words = [word.removeprefix("/") for word in command]  # /data is not on every machine
    for folder in {"pack": words[2:3], "export": ["run", "other-slides"]}.get(words[1], []):
        Path(folder).mkdir(parents=True)
    with click.Context(main) as parent:
        name, found, rest = main.resolve_command(parent, words[1:])
        assert found is not None
        found.make_context(name, rest, parent=parent)


def test_exit_codes_are_those_of_the_program() -> None:
    """The exit code table of README is the one of `archiver --help`."""
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    assert {int(code): meaning for code, meaning in rows.items()} == EXIT_CODES


def test_choices_are_explained() -> None:
    """README names every profile and fidelity."""
    for choice in (*PROFILES, *FIDELITIES):
        assert f"`{choice}`" in README or f" {choice}`" in README


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short_and_explained(path: Path) -> None:
    """Examples start with what they show and how to run them."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python examples/{path.name} " in docstring
    if path.name != "make_example_set.py":
        assert path.read_text(encoding="utf-8").count("\n") <= 60


def test_named_files_exist() -> None:
    """Every script, test and folder of the repository that README names is there."""
    shown = re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL)
    named = set(re.findall(r"\b(?:examples|tests|archiver|manifests)/[\w./-]*[\w/]", shown))
    assert not sorted(name for name in named if not (ROOT / name).exists())


def test_example_set_is_made_without_network(tmp_path: Path) -> None:
    """The first command's example set is made from installed packages alone."""
    pytest.importorskip("skimage", reason="carries the images; in the extras examples and dev")
    assert "python examples/make_example_set.py example-set" in marked_command("try")
    script = ROOT / "examples" / "make_example_set.py"
    subprocess.run([sys.executable, script, tmp_path / "set"], check=True, capture_output=True)
    made = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert {"ihc.png", "retina.jpg", "ct.dcm", "elevation.tif"} <= {path.name for path in made}
    assert 5e6 < sum(path.stat().st_size for path in made) < 15e6


def test_test_command_is_what_ci_runs() -> None:
    """CI reads the test command out of README; it ends in pytest, on all cores."""
    assert marked_command("test").endswith("&& pytest -n auto")
    assert "<!-- command: test -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
