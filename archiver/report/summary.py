"""The look of the summaries of pack, verify and unpack."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archiver.errors import Verdict
from archiver.jobs.events import (
    ArchiveModel,
    FileFailed,
    ModelTotals,
    Summary,
    UnpackSummary,
    VerifySummary,
)
from archiver.jobs.spec import PackSettings
from archiver.report.text import (
    MAX_LISTED,
    archive_size_text,
    facts_table,
    more,
    plural,
    printable,
    ratio_text,
    size_text,
    some,
    tiles_text,
)

if TYPE_CHECKING:
    from archiver.archive.check import Problem


def pack_json(summary: Summary, settings: PackSettings) -> dict[str, object]:
    """Return everything about a pack job."""
    return {
        "archive": str(summary.archive),
        "generation": summary.generation,
        "profile": settings.profile,
        "archive_model": _archive_model_json(summary.archive_model),
        "model": summary.model,
        "dry_run": settings.dry_run,
        "files": summary.files,
        "unchanged": summary.unchanged,
        "removed": summary.removed,
        "failed": len(summary.failures),
        "failures": [asdict(failure) for failure in summary.failures],
        "input_bytes": summary.input_bytes,
        "sample_bytes": summary.sample_bytes,
        "archive_bytes": summary.archive_bytes,
        "payload_bytes": summary.payload_bytes,
        "model_bytes": summary.model_bytes,
        "seconds": round(summary.seconds, 3),
        "tiles": dict(summary.tiles),
        "models": [asdict(model) for model in summary.models],
        "formats": [asdict(totals) for totals in summary.formats],
        "kept": [asdict(kept) for kept in summary.kept],
    }


def _archive_model_json(tuned: ArchiveModel | None) -> dict[str, object]:
    """Return which archive models were tuned or used again, and why."""
    if tuned is None:
        return {}
    new = tuned.models[len(tuned.models) - tuned.made :]
    return {
        "reason": tuned.reason,
        "new_models": [sha256.hex() for sha256 in new],
        "reused_models": tuned.reused,
        **tuned.facts,
    }


def pack_shown(summary: Summary, source: Path, settings: PackSettings) -> RenderableType:
    """Return the closing table of a pack job, and what to do next."""
    if settings.dry_run:
        return _dry_run_shown(summary, source)
    return Group(
        _pack_heading(summary, source),
        *([_format_table(summary)] if summary.formats else []),
        facts_table(_pack_facts(summary)),
        *_failures(summary.failures),
        Text(f"\nNext: archiver verify {_quoted(summary.archive)}"),
    )


def _dry_run_shown(summary: Summary, source: Path) -> RenderableType:
    removed = f", {plural(summary.removed, 'path')} removed" if summary.removed else ""
    return Text(
        f"Would pack {plural(summary.files - summary.unchanged, 'file')} of "
        f"{printable(str(source))} into {printable(str(summary.archive))} "
        f"({size_text(summary.input_bytes)} in all, {summary.unchanged} unchanged"
        f"{removed}). "
        "Nothing was written."
    )


def _pack_heading(summary: Summary, source: Path) -> Text:
    where = printable(str(summary.archive))
    if summary.generation is None and summary.failures:
        return Text(f"Nothing was added to {where}: {plural(len(summary.failures), 'file')} failed")
    if summary.generation is None:
        return Text(f"Nothing new in {printable(str(source))}: {where} is up to date")
    done = f"Packed {printable(str(source))} into {where}"
    return Text(f"{done}: generation {summary.generation}, in {summary.seconds:.0f} s")


def _format_table(summary: Summary) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_footer=True,
        caption="ratio = input / stored",
        caption_justify="left",
    )
    files = sum(totals.files for totals in summary.formats)
    original = sum(totals.input_bytes for totals in summary.formats)
    stored = sum(totals.stored_bytes for totals in summary.formats)
    table.add_column("Format", footer="All")
    for header, footer in (
        ("Files", str(files)),
        ("Input", size_text(original)),
        ("Stored", size_text(stored)),
        ("Ratio", ratio_text(original, stored)),
    ):
        table.add_column(header, footer=footer, justify="right", no_wrap=True)
    for totals in summary.formats:
        table.add_row(
            totals.name,
            str(totals.files),
            size_text(totals.input_bytes),
            size_text(totals.stored_bytes),
            ratio_text(totals.input_bytes, totals.stored_bytes),
        )
    return table


def _pack_facts(summary: Summary) -> list[tuple[str, str]]:
    size = archive_size_text(summary.archive_bytes, summary.payload_bytes, summary.model_bytes)
    facts = [("Archive", size)]
    if summary.tiles:
        facts += _coding_facts(summary)
    if summary.unchanged:
        facts.append(("Unchanged", f"{plural(summary.unchanged, 'file')}, already in the archive"))
    if summary.removed:
        facts.append(("Removed", _removed_text(summary)))
    for kept in summary.kept:
        size = f"{plural(kept.files, 'file')}, {size_text(kept.input_bytes)}"
        facts.append(("Kept as is", f"{size}: {kept.reason} (e.g. {printable(kept.example)})"))
    return facts


def _coding_facts(summary: Summary) -> list[tuple[str, str]]:
    """Return how the files of this job were coded."""
    facts = [
        ("Samples", f"{size_text(summary.sample_bytes)} uncompressed"),
        *([("Base model", summary.model)] if summary.model else []),
        ("Tiles by codec", tiles_text(summary.tiles)),
    ]
    facts += [("Model", _model_text(model)) for model in summary.models]
    if summary.archive_model is not None:
        facts.append(("Archive model", _archive_model_text(summary.archive_model)))
    return facts


def _removed_text(summary: Summary) -> str:
    before = f"; `--generation {summary.generation - 1}` has them" if summary.generation else ""
    return f"{plural(summary.removed, 'path')} that the source no longer has{before}"


def _model_text(model: ModelTotals) -> str:
    used = f"{plural(model.tiles, 'tile')}, {size_text(model.stored_bytes)}"
    return f"{printable(model.name)} ({size_text(model.size)}): {used}"


def _archive_model_text(tuned: ArchiveModel) -> str:
    """Say why there is an archive model or not, and what it saved on files it was not tuned on."""
    facts = tuned.facts
    if "tuned_bytes" not in facts or not facts["known_bytes"]:
        return tuned.reason
    gain = 100 * (1 - facts["tuned_bytes"] / facts["known_bytes"])
    size = size_text(int(facts["model_bytes"]))
    how = f"{facts['steps']:.0f} steps, {facts['tune_seconds']:.0f} s"
    return f"{tuned.reason}: {gain:.1f} % of files held out, for {size}; {how}"


def verify_json(summary: VerifySummary) -> dict[str, object]:
    """Return everything about a verification."""
    return {
        "archive": str(summary.archive),
        "depth": summary.depth,
        "files": summary.files,
        "tiles": summary.tiles,
        "archive_bytes": summary.archive_bytes,
        "seconds": round(summary.seconds, 3),
        "verdict": _verdict(summary),
        "problems": [_problem_json(problem) for problem in summary.problems],
    }


def verify_shown(summary: VerifySummary) -> RenderableType:
    """Return what a verification found, in words."""
    checked = (
        f"{printable(str(summary.archive))}: {plural(summary.files, 'file')}, "
        f"{size_text(summary.archive_bytes)}, depth {summary.depth}, {summary.seconds:.0f} s"
    )
    if not summary.problems:
        return Text(f"{checked}\nNo problems: {_MEANING[summary.depth]}.")
    lines = [_problem_text(problem) for problem in summary.problems[:MAX_LISTED]]
    unchecked = sum(problem.verdict == Verdict.UNCHECKED for problem in summary.problems)
    counts = plural(len(summary.problems) - unchecked, "problem")
    if unchecked:
        counts = f"{counts}, {unchecked} that could not be checked (not known to be damaged)"
    head = f"{checked}\n{counts}:\n"
    return Text("\n".join([head, *lines, *more(len(summary.problems))]))


def _verdict(summary: VerifySummary) -> str:
    """Return the verdict on the archive in a word or two: the worst of its problems."""
    verdicts = {problem.verdict for problem in summary.problems}
    order = (Verdict.DAMAGED, Verdict.UNCHECKED)
    return next((str(verdict) for verdict in order if verdict in verdicts), "good")


def _problem_json(problem: Problem) -> dict[str, object]:
    return {
        "verdict": problem.verdict,
        "where": problem.where,
        "expected": problem.expected,
        "found": problem.found,
        "advice": problem.advice,
        "entries": list(problem.entries),
    }


def _problem_text(problem: Problem) -> str:
    return (
        f"{problem.verdict}: {printable(problem.where)}\n"
        f"  expected {problem.expected}\n  found    {problem.found}\n"
        f"  affects  {some(problem.entries)}\n  do       {problem.advice}"
    )


_MEANING = {
    "structure": "manifest, models and shards match their checksums (nothing was decoded)",
    "samples": "every tile decodes to the samples that were packed",
    "files": "every file can be restored bit for bit",
}


def unpack_json(summary: UnpackSummary) -> dict[str, object]:
    """Return everything about an unpack job."""
    return {
        "dest": str(summary.dest),
        "files": summary.files,
        "failed": len(summary.failures),
        "failures": [asdict(failure) for failure in summary.failures],
        "output_bytes": summary.output_bytes,
        "seconds": round(summary.seconds, 3),
    }


def unpack_shown(summary: UnpackSummary) -> RenderableType:
    """Return what an unpack job wrote, in words."""
    done = (
        f"{plural(summary.files, 'file')}, {size_text(summary.output_bytes)} "
        f"in {printable(str(summary.dest))}, {summary.seconds:.0f} s; each matches its checksum"
    )
    return Group(Text(done), *_failures(summary.failures))


def _failures(failures: Sequence[FileFailed]) -> list[Text]:
    if not failures:
        return []
    lines = [f"  {_told(f)}: {printable(f.message)}" for f in failures[:MAX_LISTED]]
    head = f"\n{plural(len(failures), 'file')} failed:"
    return [Text("\n".join([head, *lines, *more(len(failures))]))]


def _told(failure: FileFailed) -> str:
    verdict = "" if failure.verdict == Verdict.FAILED else f" ({failure.verdict})"
    return f"{printable(failure.path)}{verdict}"


def _quoted(path: Path) -> str:
    return shlex.quote(printable(str(path)))
