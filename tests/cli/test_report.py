"""How results look: sizes, ratios, what is safe on a terminal, entries and archives."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

from archiver import errors
from archiver.cli import main
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.jobs.events import Summary
from archiver.jobs.spec import PackSettings
from archiver.report import contents, summary
from archiver.report.text import printable, ratio_text, size_text

IMAGE = SimpleNamespace(
    height=100, width=200, channels=3, dtype="uint8", bit_depth=8, tile_height=64, tile_width=64,
    sample_bytes=60_000, stored_bytes=15_000, models=["general"], tiles={"learned": 8},
)  # fmt: skip
ENTRY = SimpleNamespace(
    path="slides/a.png", kind="file", mode=0o100644, mtime_ns=1, size=30_000, stored_bytes=15_100,
    link=0, is_sparse=False,
    format="PNG", fidelity="bytes", note="", sha256="ab" * 32, images=[IMAGE, IMAGE],
    adapter_record=AdapterRecord(bytes(1000), 40_000, 12.0, (1.0, 0.8)),
)  # fmt: skip
FOLDER = SimpleNamespace(
    path="slides", kind="directory", mode=0o755, mtime_ns=1, size=0, stored_bytes=0,
    link=0, is_sparse=False,
    format="other", fidelity="bytes", note="", sha256="", images=[],
    adapter_record=None,
)  # fmt: skip
TOTALS = SimpleNamespace(
    files=1, directories=1, symlinks=0, objects=1, failed=0, input_bytes=30_000,
    archive_bytes=1_020_000, payload_bytes=20_000, model_bytes=1_000_000, sample_bytes=120_000,
    seconds=1.5, tiles={"learned": 16},
)  # fmt: skip


class FakeArchive:
    """Stands in for what open_archive returns."""

    models = (
        SimpleNamespace(
            name="general", sha256="cd" * 32, size=1_000_000, base="", card={}, fault=""
        ),
        SimpleNamespace(
            name="tuned", sha256="ef" * 32, size=9_000, base="cd" * 32, fault="",
            card={"steps": 90, "bits": 2.5, "base_bits": 2.75},
        ),
    )  # fmt: skip
    generations = ({"name": "000001", "settings": {"profile": "fast", "include": []}},)

    def entries(self, patterns: tuple[str, ...] = ()) -> Iterator[SimpleNamespace]:
        """Yield all entries."""
        yield from (FOLDER, ENTRY)

    def entry(self, path: str) -> SimpleNamespace:
        """Return one entry."""
        if path != ENTRY.path:
            raise errors.NotFoundError(f"no entry {path!r}")
        return ENTRY

    def totals(self) -> SimpleNamespace:
        """Return the totals."""
        return TOTALS


@pytest.fixture
def _archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the pipeline behind ls and info."""
    pipeline = ModuleType("archiver.pipeline")
    pipeline.open_archive = lambda path, generation: FakeArchive()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "archiver.pipeline", pipeline)


def shown(renderable: RenderableType) -> str:
    """Render as on a terminal of 100 columns."""
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_950, "1.00 MB")],
)
def test_sizes_have_three_digits(n_bytes: int, text: str) -> None:
    """Sizes are decimal, with three digits, and roll over to the next unit."""
    assert size_text(n_bytes) == text


def test_ratio_of_nothing_is_a_dash() -> None:
    """A ratio that means nothing is a dash, not a division by zero."""
    assert ratio_text(300, 200) == "1.50"
    assert ratio_text(0, 10) == ratio_text(10, 0) == "-"


def test_names_cannot_play_tricks_on_the_terminal() -> None:
    """Control characters and rogue bytes in a file name are shown escaped."""
    assert printable("a\x1b[31m\n\udcff.tif") == "a\\x1b[31m\\n\\xff.tif"
    assert printable("Schnitt-\u00e4 [1].tif") == "Schnitt-\u00e4 [1].tif"


def test_brackets_in_names_are_not_markup() -> None:
    """A path such as [red].tif is shown as it is."""
    packed = Summary(Path("[red].archive"), 1, "m", 0, 0, (), 0, 0, 0, 0, 0, 0.0, {})
    assert "[red].archive" in shown(summary.pack_shown(packed, Path("[red]"), PackSettings()))


def test_dry_run_and_nothing_new_say_so() -> None:
    """A dry run says that nothing was written; a run without news that all is up to date.

    Neither has anything to say of models and codecs.
    """
    packed = Summary(Path("a.archive"), None, "m", 2, 2, (), 9, 0, 0, 0, 0, 0.0, {})
    dry = summary.pack_shown(packed, Path("a"), PackSettings(dry_run=True))
    assert "Nothing was written" in shown(dry)
    nothing_new = shown(summary.pack_shown(packed, Path("a"), PackSettings()))
    assert "up to date" in nothing_new
    assert "odel " not in nothing_new
    assert "codec" not in nothing_new


@pytest.mark.usefixtures("_archive")
def test_ls_lists_paths() -> None:
    """ls prints one path per line; -l adds mode, sizes, ratio, format and shape."""
    assert CliRunner().invoke(main, ["ls", "x"]).stdout == "slides\nslides/a.png\n"
    header, folder, entry = CliRunner().invoke(main, ["ls", "-l", "x"]).stdout.splitlines()
    assert header.split() == contents.LONG_HEADER.split()
    assert folder.startswith("drwxr-xr-x ")
    assert entry.split() == [
        "-rw-r--r--", "30000", "15100", "1.99", "PNG", "bytes", "100x200x3", "uint8", "+1",
        "slides/a.png",
    ]  # fmt: skip


@pytest.mark.usefixtures("_archive")
def test_ls_json() -> None:
    """ls --json is one object with all entries."""
    data = json.loads(CliRunner().invoke(main, ["ls", "--json", "x"]).stdout)
    assert [entry["path"] for entry in data["entries"]] == ["slides", "slides/a.png"]
    assert data["entries"][1]["images"][0]["bits_per_sample"] == 2.0


@pytest.mark.usefixtures("_archive")
def test_info_of_the_archive() -> None:
    """info shows totals, models, generations and tiles by codec, and has them all in JSON."""
    text = CliRunner().invoke(main, ["info", "x"]).stdout
    for part in ("1.02 MB on disk", "learned 16", "general", "000001: profile fast",
                 "tuned from general, 90 steps"):  # fmt: skip
        assert part in text
    data = json.loads(CliRunner().invoke(main, ["info", "x", "--json"]).stdout)
    promised = {
        "files", "failed", "input_bytes", "archive_bytes", "payload_bytes", "model_bytes",
        "sample_bytes", "seconds", "tiles",
    }  # fmt: skip
    assert promised <= data.keys()


@pytest.mark.usefixtures("_archive")
def test_info_of_an_entry() -> None:
    """info ENTRY shows format, fidelity, checksum, images, model and bits per sample."""
    text = " ".join(CliRunner().invoke(main, ["info", "x", "slides/a.png"]).stdout.split())
    for part in ("PNG", "bit for bit", "ab" * 32, "2 x 4 tiles", "2.0 bits per sample", "general"):
        assert part in text
    assert "heads fitted and 1 pass in 12 s: 2.667 bits per sample without it" in text
    data = json.loads(CliRunner().invoke(main, ["info", "x", "slides/a.png", "--json"]).stdout)
    assert data["adapter"]["bytes"] == 1000
    result = CliRunner().invoke(main, ["info", "x", "missing", "--json"])
    assert result.exit_code == 10
    assert json.loads(result.stdout)["error"]["kind"] == "NotFoundError"
