"""Loads the native core, the best one that was built and that this processor can run.

``ARCHIVER_NATIVE`` chooses another: the name of an instruction set, or ``off``.
"""

from __future__ import annotations

import ctypes
import logging
import os
from functools import lru_cache
from pathlib import Path

from archiver.errors import MachineError
from archiver.native.build import FOLDER, TARGETS, machine

log = logging.getLogger(__name__)

ENVIRONMENT = "ARCHIVER_NATIVE"
OFF = "off"


@lru_cache(maxsize=1)
def instruction_set() -> str | None:
    """Return the name of the instruction set that the core uses here; None without a core."""
    asked = os.environ.get(ENVIRONMENT)
    if asked == OFF:
        return None
    able = supported()
    if asked and asked not in able:
        log.warning("%s=%s: this machine can use %s", ENVIRONMENT, asked, ", ".join(able) or OFF)
    return asked if asked in able else next(iter(able), None)


@lru_cache(maxsize=1)
def supported() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this processor has, the best first."""
    built = [name for name in TARGETS.get(machine(), {}) if _path(name).exists()]
    if "portable" not in built:
        return ()
    library = load("portable")
    if library is None:
        return ()
    library.archiver_cpu_has.argtypes = [ctypes.c_char_p]
    return tuple(name for name in built if library.archiver_cpu_has(name.encode()))


def described() -> str:
    """Return in a few words what codes on this machine's CPU."""
    name = instruction_set()
    return name or "not there: coding is slow, JPEGs and deflate cannot be taken apart"


def usable() -> tuple[str, ...]:
    """Return the instruction sets to try, in order: the one that was asked for, or all."""
    name = instruction_set()
    if os.environ.get(ENVIRONMENT) or name is None:
        return () if name is None else (name,)
    return supported()


def required() -> ctypes.CDLL:
    """Return the core, for what has no other way; MachineError where there is none."""
    found = core()
    if found is not None:
        return found
    if os.environ.get(ENVIRONMENT) == OFF:
        raise MachineError(f"the native core is needed here, and {ENVIRONMENT}={OFF}: unset it")
    raise MachineError(
        f"the native core is needed here, and {FOLDER} has none that this machine can load: "
        "reinstall archiver with pip, whose build requirement ziglang compiles it"
    )


def core() -> ctypes.CDLL | None:
    """Return the core; None where it is not built, cannot be loaded, or is switched off."""
    name = instruction_set()
    return None if name is None else load(name)


@lru_cache(maxsize=4)
def load(name: str) -> ctypes.CDLL | None:
    """Return the core for an instruction set; None, with a warning, if it cannot be loaded."""
    try:
        return ctypes.CDLL(str(_path(name)))
    except OSError as error:
        log.warning("the native core cannot be loaded: %s", error)
        return None


def _path(name: str) -> Path:
    return FOLDER / f"{name}.so"
