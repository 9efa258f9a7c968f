"""Settings of a pack job: limits are refused with the key, the record leaves the machine out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archiver.errors import UsageError
from archiver.jobs.spec import MAX_TILE, MIN_TILE, PackSettings


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("profile", {"profile": "best"}),
        ("fidelity", {"fidelity": "lossy"}),
        ("include", {"include": ("",)}),
        ("exclude", {"exclude": ("/absolute",)}),
        ("exclude", {"exclude": ("a.tif",) * 50_000}),
        ("workers", {"workers": -1}),
        ("workers", {"workers": 1, "scheduler": "tcp://head:8786"}),
        ("tile", {"tile": MIN_TILE - 1}),
        ("tile", {"tile": MAX_TILE + 1}),
        ("adapt-steps", {"adapt_steps": -1}),
        ("adapt-seconds", {"adapt_seconds": -0.5}),
        ("adapt-seconds", {"adapt_seconds": float("nan")}),
    ],
)
def test_wrong_value_names_its_key(key: str, wrong: dict[str, Any]) -> None:
    """A wrong value is refused when the settings are made, with a message that names the key."""
    with pytest.raises(UsageError, match=f"^{key}: "):
        PackSettings(**wrong)


def test_record_is_the_same_on_every_machine() -> None:
    """What an archive records is JSON-able and does not depend on workers or scheduler."""
    here = PackSettings(include=("*.tif",), workers=0, dry_run=True, checksum=True)
    there = PackSettings(include=("*.tif",), scheduler="tcp://head:8786")
    assert here.recorded() == there.recorded()
    assert json.loads(json.dumps(here.recorded())) == here.recorded()


def test_only_fast_does_not_adapt() -> None:
    """balanced and max ask for adaptation, fast does not."""
    assert [PackSettings(profile=p).adapts for p in ("fast", "balanced", "max")] == [
        False, True, True,
    ]  # fmt: skip
