"""Own the models that ship with the package: names -> model files."""

from __future__ import annotations

from importlib import resources

from archiver.errors import UsageError

SUFFIX = ".model"
DEFAULT = "mgcf-s"


def names() -> list[str]:
    """Return the names of the shipped models, the default first."""
    files = resources.files(__name__).iterdir()
    found = sorted(f.name[: -len(SUFFIX)] for f in files if f.name.endswith(SUFFIX))
    return sorted(found, key=lambda name: name != DEFAULT)


def load(name: str = DEFAULT) -> bytes:
    """Return the bytes of the model file ``name``; UsageError if there is none."""
    if name not in names():
        raise UsageError(f"no model {name!r}; this release ships: {', '.join(names())}")
    return (resources.files(__name__) / f"{name}{SUFFIX}").read_bytes()
