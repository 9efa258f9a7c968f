"""The words that say why a file is kept as it is: the same for the same content, always.

What libraries say of damaged content may hold the address of an object, the members of a set in
any order, or the path of the file: none of these may reach an archive.
"""

from __future__ import annotations

import re

from archiver.errors import ArchiverError
from archiver.sources.contract import Unsupported

_MOST = 120  # characters of what a library says
_LONGEST = 300  # of a note: what is said may quote the file
_OBJECT = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")
_MEMBERS = re.compile(r"\{[^{}]*\}")


def of(error: Exception, format: str, path: str) -> str:
    """Return why a file of a format cannot be rebuilt."""
    told = steady(str(error), path)
    if not isinstance(error, Unsupported):
        kind = "cannot rebuild" if isinstance(error, ArchiverError) else "damaged or unusual"
        return f"{format}: {kind} ({type(error).__name__}: {told[:_MOST]})"
    return (told if ":" in told else f"{format}: {told}")[:_LONGEST]  # of what several share


def steady(text: str, path: str) -> str:
    """Return a text on one line, without what differs from one run or place to the next."""
    text = text.replace(path, "the file")
    text = _ADDRESS.sub("0x...", _OBJECT.sub("<object>", text))
    return " ".join(_MEMBERS.sub("{...}", text).split())
