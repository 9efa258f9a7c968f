"""The models that ship with the package: names -> model files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from archiver.errors import FormatError, IntegrityError, UsageError

SUFFIX = ".model"
SMALLEST, SMALL, LARGE = "mgcf-xs", "mgcf-s", "mgcf"


def names() -> list[str]:
    """Return the names of the shipped models, in alphabetical order."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name[: -len(SUFFIX)] for f in files if f.name.endswith(SUFFIX))


def load(name: str) -> bytes:
    """Return the bytes of a shipped model, or of the file ``name`` if that ends in ".model".

    UsageError if there is no such model.
    """
    if name.endswith(SUFFIX):
        return _read_file(Path(name))
    if name not in names():
        raise UsageError(
            f"no model {name!r}; this release ships: {', '.join(names())}. "
            f"A model of your own is given as the path of its {SUFFIX} file"
        )
    return (resources.files(__name__) / f"{name}{SUFFIX}").read_bytes()


def _read_file(path: Path) -> bytes:
    from archiver.codec.model import model_file

    try:
        data = path.read_bytes()
        model_file.ModelFile.from_bytes(data)
    except OSError as error:
        raise UsageError(f"{path}: this model file cannot be read: {error.strerror}") from error
    except (FormatError, IntegrityError) as error:
        raise UsageError(f"{path}: {error}") from error
    return data
