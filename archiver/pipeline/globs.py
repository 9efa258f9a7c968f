"""How globs match paths inside a tree, for packing, listing and unpacking alike.

*.tif              a name without "/" matches at any depth
slides/*.tif       with "/", it matches from the top; * and ? stop at "/"
slides/**          ** crosses "/"
a[1].tif           a path matches itself, whatever characters it has
slides             a pattern that matches a directory matches all that is below it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def matches(pattern: str, path: str) -> bool:
    """Whether ``pattern`` matches ``path`` or one of the directories above it."""
    return pattern == path or _compiled(pattern).fullmatch(path) is not None


def any_of(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a test for paths that at least one of ``patterns`` matches."""
    return lambda path: any(matches(pattern, path) for pattern in patterns)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    text = pattern.rstrip("/")
    body = "".join(_translate(token) for token in _TOKEN.findall(text))
    prefix = "" if "/" in text else "(?:.*/)?"
    return re.compile(f"{prefix}{body}(?:/.*)?", re.DOTALL)


def _translate(token: str) -> str:
    if token == "**/":
        return "(?:.*/)?"
    if token == "**":
        return ".*"
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) > 2 and token[0] == "[":
        members = token[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
        return f"[^/{members[1:]}]" if members[0] == "!" else f"[{members}]"
    return re.escape(token)
