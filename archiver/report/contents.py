"""The look of an archive's contents: `ls`, `info`, and one entry in detail."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from archiver.native import library
from archiver.report.text import (
    archive_size_text,
    facts_table,
    printable,
    ratio_text,
    size_text,
    tiles_text,
)

if TYPE_CHECKING:
    from archiver.archive.stored import StoredModel
    from archiver.codec.model.adapter_record import AdapterRecord
    from archiver.pipeline import Entry, ImageInfo, OpenArchive, Totals

LONG_HEADER = (
    f"{'mode':10}  {'size':>12}  {'stored':>12}  {'ratio':>6}  "
    f"{'format':9}  {'fidelity':8}  {'shape':20}  path"
)


def entry_line(entry: Entry) -> str:
    """Return one line of `ls -l`."""
    is_file = entry.kind == "file"
    return (
        f"{_mode_text(entry)}  {entry.size:>12}  {entry.stored_bytes:>12}  "
        f"{ratio_text(entry.size, entry.stored_bytes):>6}  {entry.format if is_file else '-':9}  "
        f"{entry.fidelity if is_file else '-':8}  {_shape_text(entry.images):20}  "
        f"{printable(entry.path)}"
    )


def entry_json(entry: Entry) -> dict[str, object]:
    """Return what the manifest knows about one entry."""
    return {
        "path": entry.path,
        "kind": entry.kind,
        "mode": entry.mode,
        "mtime_ns": entry.mtime_ns,
        "link": entry.link,
        "sparse": entry.is_sparse,
        "size": entry.size,
        "stored_bytes": entry.stored_bytes,
        "format": entry.format,
        "fidelity": entry.fidelity,
        "note": entry.note,
        "sha256": entry.sha256,
        "images": [_image_json(image) for image in entry.images],
    }


def entry_in_full_json(entry: Entry) -> dict[str, object]:
    """Return everything about one entry, and what its payloads tell."""
    return {**entry_json(entry), "adapter": _adapter_json(entry)}


def entry_shown(entry: Entry) -> RenderableType:
    """Return everything about one entry, for people."""
    ratio = ratio_text(entry.size, entry.stored_bytes)
    facts = [
        ("Path", printable(entry.path)),
        ("Kind", f"{entry.kind}, {_mode_text(entry)}"),
        ("Size", f"{entry.size} bytes, stored in {entry.stored_bytes} (ratio {ratio})"),
    ]
    if entry.kind == "file":
        facts += [("Format", entry.format), ("Restores", _restores(entry.fidelity))]
    if entry.note:
        facts.append(("Kept as is", entry.note))
    if entry.sha256:
        facts.append(("SHA-256", entry.sha256))
    for page, image in enumerate(entry.images):
        facts.append((f"Image {page}", _image_text(image)))
    if entry.adapter_record is not None:
        facts.append(("Adapter", _adapter_text(entry, entry.adapter_record)))
    return facts_table(facts)


def archive_json(path: Path, archive: OpenArchive) -> dict[str, object]:
    """Return everything about an archive as a whole."""
    return {
        "archive": str(path),
        **_totals_json(archive.totals()),
        "models": [
            {
                "name": model.name,
                "sha256": model.sha256,
                "size": model.size,
                "base": model.base or None,
                "fault": model.fault or None,
                "card": dict(model.card),
            }
            for model in archive.models
        ],
        "generations": [dict(generation) for generation in archive.generations],
    }


def archive_shown(path: Path, archive: OpenArchive) -> RenderableType:
    """Return everything about an archive as a whole, for people."""
    totals = archive.totals()
    ratio = ratio_text(totals.input_bytes, totals.archive_bytes)
    size = archive_size_text(totals.archive_bytes, totals.payload_bytes, totals.model_bytes)
    facts = [
        ("Archive", printable(str(path))),
        ("Entries", f"{totals.files} files, {totals.directories} directories, "
                    f"{totals.symlinks} symbolic links; {totals.objects} different contents"),
        ("Input", f"{size_text(totals.input_bytes)} in files"),
        ("Size", f"{size}, ratio {ratio}"),
        ("Samples", f"{size_text(totals.sample_bytes)} uncompressed"),
        ("Tiles by codec", tiles_text(totals.tiles)),
    ]  # fmt: skip
    for model in archive.models:
        facts.append(("Model", _model_text(model, archive.models)))
    for generation in archive.generations:
        facts.append(("Generation", _generation_text(generation)))
    facts.append(("Native core here", library.described()))
    return facts_table(facts)


def _model_text(model: StoredModel, models: Sequence[StoredModel]) -> str:
    """Return name, size and digest of a model; of an archive model also what it was made of."""
    text = f"{printable(model.name)}, {size_text(model.size)}, {model.sha256}"
    if model.fault:
        return f"{text}; cannot be read"
    if not model.base:
        return text
    names = [other.name for other in models if other.sha256 == model.base]
    text += f"; tuned from {printable(names[0]) if names else model.base}"
    steps, bits, before = (model.card.get(key) for key in ("steps", "bits", "base_bits"))
    if isinstance(bits, float | int) and isinstance(before, float | int):
        text += (
            f", {steps} steps: {bits:.3f} bits per sample of files held out, {before:.3f} before"
        )
    return text


def _totals_json(totals: Totals) -> dict[str, object]:
    return {
        "files": totals.files,
        "directories": totals.directories,
        "symlinks": totals.symlinks,
        "objects": totals.objects,
        "failed": totals.failed,
        "input_bytes": totals.input_bytes,
        "archive_bytes": totals.archive_bytes,
        "payload_bytes": totals.payload_bytes,
        "model_bytes": totals.model_bytes,
        "sample_bytes": totals.sample_bytes,
        "seconds": round(totals.seconds, 3),
        "tiles": dict(totals.tiles),
    }


def _image_json(image: ImageInfo) -> dict[str, object]:
    return {
        "height": image.height,
        "width": image.width,
        "channels": image.channels,
        "dtype": image.dtype,
        "bit_depth": image.bit_depth,
        "tile_height": image.tile_height,
        "tile_width": image.tile_width,
        "sample_bytes": image.sample_bytes,
        "stored_bytes": image.stored_bytes,
        "models": list(image.models),
        "tiles": dict(image.tiles),
        "bits_per_sample": _bits_per_sample(image),
    }


def _image_text(image: ImageInfo) -> str:
    rows = -(-image.height // image.tile_height)
    columns = -(-image.width // image.tile_width)
    shape = f"{image.height} x {image.width} x {image.channels}"
    model = f", model {', '.join(image.models)}" if image.models else ""
    return (
        f"{shape} {image.dtype}, {image.bit_depth} bits; {rows} x {columns} tiles of "
        f"{image.tile_height} x {image.tile_width}: {tiles_text(image.tiles)}; "
        f"{_bits_per_sample(image)} bits per sample{model}"
    )


def _adapter_json(entry: Entry) -> dict[str, object] | None:
    record = entry.adapter_record
    if record is None:
        return None
    return {
        "bytes": len(record.adapter),
        "bits_per_sample_before": _rate(record.before, entry),
        "bits_per_sample": _rate(_adapted_bytes(entry, record), entry),
        "passes": record.n_passes,
        "seconds": round(record.seconds, 3),
        "rates": list(record.rates),
    }


def _adapter_text(entry: Entry, record: AdapterRecord) -> str:
    after = _adapted_bytes(entry, record)
    passes = f"{record.n_passes} pass{'' if record.n_passes == 1 else 'es'}"
    return (
        f"{size_text(len(record.adapter))}, heads fitted"
        + (f" and {passes}" if record.n_passes else "")
        + f" in {record.seconds:.0f} s: {_rate(record.before, entry)} bits per sample without it, "
        f"{_rate(after, entry)} with it, its own bytes included "
        f"({100 * (after / max(1, record.before) - 1):+.1f} %)"
    )


def _adapted_bytes(entry: Entry, record: AdapterRecord) -> int:
    """Return what all tiles and the adapter take."""
    return sum(image.stored_bytes for image in entry.images) + len(record.to_bytes())


def _rate(n_bytes: int, entry: Entry) -> float:
    n_samples = sum(i.height * i.width * i.channels for i in entry.images)
    return round(8 * n_bytes / max(1, n_samples), 3)


def _bits_per_sample(image: ImageInfo) -> float:
    n_samples = image.height * image.width * image.channels
    return round(8 * image.stored_bytes / n_samples, 3) if n_samples else 0.0


def _generation_text(generation: Mapping[str, object]) -> str:
    settings = generation.get("settings")
    words = settings.items() if isinstance(settings, Mapping) else ()
    said = [(key.replace("_", " "), value) for key, value in words]
    shown = ", ".join(f"{key} {value}" for key, value in said if value not in (None, [], ""))
    return f"{generation.get('name')}: {shown}" if shown else str(generation.get("name"))


def _mode_text(entry: Entry) -> str:
    kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    return stat.filemode(kinds.get(entry.kind, 0) | stat.S_IMODE(entry.mode))


def _shape_text(images: Sequence[ImageInfo]) -> str:
    if not images:
        return "-"
    first = images[0]
    pages = f" +{len(images) - 1}" if len(images) > 1 else ""
    return f"{first.height}x{first.width}x{first.channels} {first.dtype}{pages}"


def _restores(fidelity: str) -> str:
    words = {"bytes": "the same file, bit for bit", "samples": "all samples and metadata"}
    return f"{words.get(fidelity, fidelity)} (fidelity {fidelity})"
