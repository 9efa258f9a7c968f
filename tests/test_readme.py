"""README keeps up with the program: commands, exit codes, figures, the copy-paste lines, limits."""

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
BENCH = ROOT / "tests" / "bench"
RESULTS = (BENCH / "RESULTS.md").read_text(encoding="utf-8")
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
MOST_LINES, MOST_CHARACTERS = 160, 120


def unfolded(shell: str) -> str:
    """Return lines of shell with those that go on in the next one put together."""
    return re.sub(r"\\\n\s*", "", shell)


def marked_command(name: str) -> str:
    """Return the one command of shell behind a marker in README."""
    found = re.search(
        rf"^<!-- command: {name} -->\n```sh\n((?:.+\\\n)*.+)\n```$", README, re.MULTILINE
    )
    assert found, f"README has no command marked {name!r}"
    return unfolded(found[1])


def shown_commands() -> list[list[str]]:
    """Return every `archiver ...` line that README shows, split into words."""
    blocks = re.findall(r"^```sh\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    lines = [part for block in blocks for line in unfolded(block).splitlines()
             for part in line.split("&&")]  # fmt: skip
    words = [shlex.split(line, comments=True) for line in lines]
    return [command for command in words if command and command[0] == "archiver"]


def test_it_is_a_page() -> None:
    """README is short, and so are its lines."""
    lines = README.splitlines()
    assert len(lines) <= MOST_LINES
    assert not [line for line in lines if len(line) > MOST_CHARACTERS]


def test_it_tells_of_the_product_only() -> None:
    """No commit ids, dates or names of older words: those are in RESULTS.md and CHANGELOG.md."""
    assert not re.findall(
        r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b|\b20\d\d-\d\d-\d\d", README
    )
    assert not re.findall(r"\b(?:foresee\w*|turned|upright|what is left|made again)\b", README)


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
    """The exit code table of README is the one of `archiver --help`, and says which to watch."""
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    assert {int(code): meaning for code, meaning in rows.items()} == EXIT_CODES
    nightly = re.search(r"^\*\*Nightly\*\*.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert nightly
    named = {int(code) for code in re.findall(r"\b\d+\b", nightly[0])}
    assert named == set(EXIT_CODES) - {0, 130}


def test_choices_are_explained() -> None:
    """README has a row for every profile, and names every fidelity."""
    rows = re.findall(r"^\| `(\w+)`[^|]* \| [^|]+ \| [^|]+ \|$", README, re.MULTILINE)
    assert tuple(rows) == PROFILES
    for choice in FIDELITIES:
        assert re.search(rf"`--fidelity\s+{choice}`", README)


def test_its_figures_are_those_of_the_results() -> None:
    """The table of sizes and prices is what the results give, row for row."""
    command = [sys.executable, BENCH / "readme_table.py"]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(rows) == 5
    assert [row for row in rows if row not in README.splitlines()] == []


def test_the_figure_is_drawn_from_the_results(tmp_path: Path) -> None:
    """The script draws what README shows from the committed results."""
    pytest.importorskip("matplotlib", reason="draws the figure; in the extras plot and dev")
    assert "(tests/bench/size_and_price.png)" in README
    command = [sys.executable, BENCH / "figure.py", "--out", tmp_path / "a.png"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_every_measurement_says_how_it_was_made() -> None:
    """Each section of RESULTS.md has a command, a commit and a date; its prose has short lines."""
    _, *sections = re.split(r"^## ", RESULTS, flags=re.MULTILINE)
    for section in sections:
        title = section.partition("\n")[0]
        assert re.search(r"`(?:python tests/bench/\w+\.py|archiver \w+)", section), title
        assert re.search(r"\b[0-9a-f]{7}\b", section), title
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", section), title
    prose = [line for line in RESULTS.splitlines() if not line.startswith("|")]
    assert not [line for line in prose if len(line) > MOST_CHARACTERS]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short_and_explained(path: Path) -> None:
    """Examples start with what they show and how to run them."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python examples/{path.name} " in docstring
    if path.name != "make_example_set.py":
        assert path.read_text(encoding="utf-8").count("\n") <= 60


def test_named_files_exist() -> None:
    """Every script, test and folder of the repository that README and RESULTS.md name is there."""
    shown = re.sub(r"<!--.*?-->", "", README + RESULTS, flags=re.DOTALL)
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
