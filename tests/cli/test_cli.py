"""The command line: flags become settings, results keep their stream, errors their exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import archiver.jobs
from archiver import errors
from archiver.cli import EXIT_CODES, main, options
from archiver.jobs.events import (
    ArchiveModel,
    Committed,
    FileDone,
    FileFailed,
    FormatTotals,
    Kept,
    ModelTotals,
    Notice,
    Planned,
    Summary,
    UnpackSummary,
    VerifySummary,
)
from archiver.jobs.spec import PackSettings

FAILED = FileFailed("broken.tif", "cannot be read: permission denied")
PACKED = Summary(
    archive=Path("scans.archive"), generation=1, model="general", files=3, unchanged=1,
    failures=(), input_bytes=3_000_000, sample_bytes=9_000_000, archive_bytes=2_500_000,
    payload_bytes=1_500_000, model_bytes=1_000_000, seconds=12.3456,
    tiles={"learned": 40, "constant": 2},
    formats=(FormatTotals("PNG", 1, 2_000_000, 1_000_000), FormatTotals("other", 1, 100, 50)),
    kept=(Kept("not an image", 1, 100, "notes.txt"),),
)  # fmt: skip
VERIFIED = VerifySummary(Path("scans.archive"), "files", 3, 42, 2_500_000, (), 9.0)
UNPACKED = UnpackSummary(Path("out"), 3, (), 3_000_000, 5.0)
PROBLEM = SimpleNamespace(
    where="shards/ab",
    expected="CRC-32C 1",
    found="2",
    advice="restore the shard",
    entries=["a.png"],
    verdict=errors.Verdict.DAMAGED,
)
COMMANDS = sorted(main.commands)


class FakeRun(ModuleType):
    """Stands in for archiver.jobs.run: keeps what it was called with, answers what it is told."""

    def __init__(self) -> None:
        super().__init__("archiver.jobs.run")
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.summary: object = PACKED
        self.error: BaseException | None = None
        self.pack = self.verify = self.unpack = self._answer

    def _answer(self, *args: Any, **kwargs: Any) -> object:
        on_event = kwargs.pop("on_event", None) or args[-1]
        self.calls.append((tuple(arg for arg in args if arg is not on_event), kwargs))
        if self.error:
            raise self.error
        for event in (Planned(2, 300, 1), FileDone("a.png", 200, 100, 400), FAILED):
            on_event(event)
        on_event(Notice("no GPU here: using the CPU"))
        on_event(Committed(1))
        return self.summary


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """Replace the jobs behind the commands."""
    fake = FakeRun()
    monkeypatch.setitem(sys.modules, "archiver.jobs.run", fake)
    monkeypatch.setattr(archiver.jobs, "run", fake, raising=False)
    return fake


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call the command line in a folder that has a directory `scans`."""
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, list(args))


def test_pack_takes_all_defaults(cli: Callable[..., Result], run: FakeRun) -> None:
    """Without options, pack uses the default settings and the archive beside SOURCE."""
    assert cli("pack", "scans").exit_code == 0
    assert run.calls == [((Path("scans"), Path("scans.archive"), PackSettings()), {})]


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--profile", "fast"], {"profile": "fast"}),
        (["--model", "histology"], {"model": "histology"}),
        (["--fidelity", "samples"], {"fidelity": "samples"}),
        (["--include", "*.tif", "--include", "b/**"], {"include": ("*.tif", "b/**")}),
        (["--exclude", "*.tmp"], {"exclude": ("*.tmp",)}),
        (["--workers", "0"], {"workers": 0}),
        (["--scheduler", "tcp://head:8786"], {"scheduler": "tcp://head:8786"}),
        (["--tile", "128"], {"tile": 128}),
        (["--adapt-steps", "50"], {"adapt_steps": 50}),
        (["--adapt-seconds", "1.5"], {"adapt_seconds": 1.5}),
        (["--checksum"], {"checksum": True}),
        (["--keep-deleted"], {"keep_deleted": True}),
        (["--allow-empty"], {"allow_empty": True}),
        (["--dry-run"], {"dry_run": True}),
    ],
)
def test_pack_flag_becomes_setting(
    cli: Callable[..., Result], run: FakeRun, flags: list[str], changed: dict[str, Any]
) -> None:
    """Each flag of pack changes just its own setting."""
    assert cli("pack", "scans", "other.archive", *flags).exit_code == 0
    expected = replace(PackSettings(), **changed)
    assert run.calls == [((Path("scans"), Path("other.archive"), expected), {})]


@pytest.mark.parametrize(
    "flags",
    [
        ["--no-such-option"],
        ["--tile", "1"],
        ["--adapt-steps", "-1"],
        ["--adapt-seconds", "nan"],
        ["--workers", "-1"],
        ["--workers", "2", "--scheduler", "tcp://head:8786"],
        ["--include", "/absolute"],
        ["--profile", "fastest"],
    ],
)
def test_wrong_option_exits_with_2(
    cli: Callable[..., Result], run: FakeRun, flags: list[str]
) -> None:
    """A wrong option is refused before any work, with exit code 2, and as JSON if asked."""
    refused = cli("pack", "scans", *flags)
    assert (refused.exit_code, refused.stdout) == (2, "")
    for args in (["scans", *flags, "--json"], ["--json", *flags, "scans"]):
        refused = cli("pack", *args)
        error = json.loads(refused.stdout)["error"]
        assert (refused.exit_code, error["exit_code"], error["kind"]) == (2, 2, "UsageError")
        assert error["message"] in refused.stderr.replace("\n", " ")
    assert run.calls == []


def test_option_default_from_environment(
    cli: Callable[..., Result], run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARCHIVER_PACK_WORKERS is the default of `pack --workers`."""
    monkeypatch.setenv("ARCHIVER_PACK_WORKERS", "3")
    cli("pack", "scans")
    assert run.calls[0][0][2] == PackSettings(workers=3)


def test_verify_and_unpack_call(cli: Callable[..., Result], run: FakeRun) -> None:
    """verify and unpack hand over archive, depth, destination and patterns."""
    run.summary = VERIFIED
    assert cli("verify", "scans.archive", "--depth", "samples").exit_code == 0
    run.summary = UNPACKED
    assert cli("unpack", "scans.archive", "out", "*.png", "b/*").exit_code == 0
    assert cli("unpack", "scans.archive", "out", "--generation", "3").exit_code == 0
    verified, unpacked, earlier = run.calls
    assert earlier[1]["generation"] == 3
    assert verified == (
        (Path("scans.archive"),),
        {"depth": "samples", "workers": None, "scheduler": None},
    )
    assert unpacked == (
        (Path("scans.archive"), Path("out"), ("*.png", "b/*")),
        {"generation": None, "workers": None, "scheduler": None},
    )
    run.summary = VERIFIED
    assert cli("verify", "scans.archive", "--workers", "3").exit_code == 0
    run.summary = UNPACKED
    assert cli("unpack", "scans.archive", "out", "--scheduler", "tcp://head:8786").exit_code == 0
    verified, unpacked = run.calls[3:]
    assert verified[1] == {"depth": "files", "workers": 3, "scheduler": None}
    assert unpacked[1]["scheduler"] == "tcp://head:8786"


@pytest.mark.parametrize(
    ("command", "summary"), [("pack", PACKED), ("verify", VERIFIED), ("unpack", UNPACKED)]
)
@pytest.mark.parametrize("flags", [[], ["-q"]])
def test_json_is_one_object_alone(
    cli: Callable[..., Result], run: FakeRun, command: str, summary: object, flags: list[str]
) -> None:
    """With --json, stdout is one JSON object, whatever happens on the way."""
    run.summary = summary
    args = ["scans", "out"] if command == "unpack" else ["scans"]
    result = cli(command, *args, "--json", *flags)
    assert isinstance(json.loads(result.stdout), dict)
    assert "broken.tif" in result.stderr
    assert ("no GPU here" in result.stderr) == (not flags)


def test_pack_json_carries_the_promised_fields(cli: Callable[..., Result], run: FakeRun) -> None:
    """pack --json has the counts, sizes and times that the manual promises."""
    run.summary = replace(PACKED, failures=(FAILED,))
    data = json.loads(cli("pack", "scans", "--json").stdout)
    expected = {
        "files": 3, "failed": 1, "input_bytes": 3_000_000, "archive_bytes": 2_500_000,
        "payload_bytes": 1_500_000, "model_bytes": 1_000_000, "sample_bytes": 9_000_000,
        "seconds": 12.346, "tiles": {"learned": 40, "constant": 2},
    }  # fmt: skip
    assert expected.items() <= data.items()


def test_archive_model_is_reported(cli: Callable[..., Result], run: FakeRun) -> None:
    """Models with their tiles and bytes, and what the archive model saved, or why there is none."""
    figures = {
        "pixels": 1e6, "known_bytes": 1000.0, "tuned_bytes": 900.0, "model_bytes": 50,
        "saved_bytes": 50, "steps": 80, "tune_seconds": 12.0,
    }  # fmt: skip
    run.summary = replace(
        PACKED,
        models=(ModelTotals("mgcf-archive", "ab" * 32, 50, 40, 900),),
        archive_model=ArchiveModel("it pays", (b"b", b"\xab" * 32), 1, 0, figures),
    )
    shown = " ".join(cli("pack", "scans").stdout.split())
    for part in ("mgcf-archive (50 B): 40 tiles, 900 B", "it pays: 10.0 % of files held out"):
        assert part in shown
    data = json.loads(cli("pack", "scans", "--json").stdout)
    assert data["archive_model"]["new_models"] == ["ab" * 32]
    assert data["archive_model"]["steps"] == 80
    assert data["models"][0]["tiles"] == 40
    run.summary = replace(PACKED, archive_model=ArchiveModel("too little data"))
    assert "too little data" in cli("pack", "scans").stdout


def test_pack_table_reads_well(cli: Callable[..., Result], run: FakeRun) -> None:
    """The closing table names formats, ratios, codecs, what was kept and the next command."""
    shown = cli("pack", "scans").stdout
    for part in ("PNG", "2.00 MB", "learned 40", "not an image", "notes.txt", "Next: archiver ver"):
        assert part in shown


def test_quiet_prints_nothing_when_all_is_well(cli: Callable[..., Result], run: FakeRun) -> None:
    """-q leaves only errors: a failed file is one, a summary is not."""
    result = cli("pack", "scans", "-q")
    assert result.stdout == ""
    assert result.stderr == "failed: broken.tif: cannot be read: permission denied\n"


def test_failed_files_exit_with_3(cli: Callable[..., Result], run: FakeRun) -> None:
    """Files that could not be read are listed and make exit code 3."""
    run.summary = replace(PACKED, failures=(FAILED,))
    result = cli("pack", "scans")
    assert result.exit_code == 3
    assert "1 file failed" in result.stdout


def test_damage_exits_with_12(cli: Callable[..., Result], run: FakeRun) -> None:
    """Damage is shown with what it hits and what to do, even when quiet, and is exit code 12."""
    run.summary = replace(VERIFIED, problems=(PROBLEM,))
    result = cli("verify", "scans.archive", "-q")
    assert result.exit_code == 12
    for part in ("shards/ab", "CRC-32C 1", "a.png", "restore the shard"):
        assert part in result.stdout
    run.summary = replace(UNPACKED, failures=(replace(FAILED, verdict=errors.Verdict.DAMAGED),))
    assert cli("unpack", "scans.archive", "out").exit_code == 12


def test_what_was_not_checked_is_not_damage(cli: Callable[..., Result], run: FakeRun) -> None:
    """What a machine could not check or write has its own exit codes; damage outweighs both."""
    unchecked = SimpleNamespace(**vars(PROBLEM) | {"verdict": errors.Verdict.UNCHECKED})
    run.summary = replace(VERIFIED, problems=(unchecked,))
    result = cli("verify", "scans.archive", "--json")
    assert result.exit_code == 15
    data = json.loads(result.stdout)
    assert data["verdict"] == data["problems"][0]["verdict"] == "could not be checked"
    shown = cli("verify", "scans.archive").stdout
    assert "could not be checked (not known to be damaged)" in shown
    run.summary = replace(VERIFIED, problems=(unchecked, PROBLEM))
    assert cli("verify", "scans.archive").exit_code == 12
    failures = [replace(FAILED, verdict=verdict) for verdict in errors.Verdict]
    codes = {}
    for failure in failures:
        run.summary = replace(UNPACKED, failures=(failure,))
        codes[failure.verdict] = cli("unpack", "scans.archive", "out").exit_code
    assert codes == {"failed": 3, "damaged": 12, "could not be checked": 15,
                     "could not be written": 16}  # fmt: skip
    run.summary = replace(UNPACKED, failures=tuple(failures))
    result = cli("unpack", "scans.archive", "out", "--json")
    assert result.exit_code == 12
    assert [f["verdict"] for f in json.loads(result.stdout)["failures"]] == list(errors.Verdict)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ArchiverError("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.SourceError("x"), 3),
        (errors.NotFoundError("x"), 10),
        (errors.FormatError("x"), 11),
        (errors.IntegrityError("x"), 12),
        (errors.LockedError("x"), 13),
        (errors.ParityError("x"), 14),
        (errors.MachineError("x"), 15),
        (errors.DestinationError("x"), 16),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_becomes_exit_code(
    cli: Callable[..., Result], run: FakeRun, error: BaseException, code: int
) -> None:
    """Every error has its exit code, its message on stderr, and its JSON on stdout if asked."""
    run.error = error
    result = cli("pack", "scans", "--json")
    assert result.exit_code == code
    assert code in EXIT_CODES
    if isinstance(error, Exception):
        said = error.strerror if isinstance(error, OSError) else str(error)
        assert f"error: {said}" in result.stderr
        assert json.loads(result.stdout)["error"]["exit_code"] == code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_teaches(cli: Callable[..., Result], command: str) -> None:
    """The help of every command explains it and shows examples of it."""
    shown = cli(command, "--help").stdout
    assert "Examples:" in shown
    assert f"archiver {command} " in shown
    assert "--json" in shown


def test_help_has_the_exit_codes(cli: Callable[..., Result]) -> None:
    """`archiver --help` lists every exit code."""
    shown = cli("--help").stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in shown


def test_archive_beside_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default archive is SOURCE's name + .archive beside it, also for `.`."""
    monkeypatch.chdir(tmp_path)
    assert options.archive_beside(Path("a/histo.v1")) == Path("a/histo.v1.archive")
    assert options.archive_beside(Path()) == tmp_path.with_name(tmp_path.name + ".archive")
    with pytest.raises(errors.UsageError):
        options.archive_beside(Path("/"))


def test_archive_here(tmp_path: Path) -> None:
    """verify finds the archive at or in the current directory, and asks if there are several."""
    with pytest.raises(errors.NotFoundError):
        options.archive_here(tmp_path)
    for name in ("a.archive", "b.archive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_text("{}")
        assert options.archive_here(tmp_path / name) == tmp_path / name
        if name == "a.archive":
            assert options.archive_here(tmp_path) == tmp_path / name
    with pytest.raises(errors.UsageError, match=r"a\.archive, b\.archive"):
        options.archive_here(tmp_path)
