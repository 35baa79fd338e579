"""Which paths are protected: include paths and exclude patterns.

A pattern without a slash matches a name in any folder (``*.tmp``); one with a slash matches a whole
path from the top (``/home/*/.cache``); ``*`` and ``?`` do not cross slashes, ``**`` does. What an
excluded folder holds is not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.domain.path_text import decode_path
from holdfast.errors import UsageError

MAX_PATTERNS = 10_000


def _translate(pattern: bytes) -> bytes:
    """A glob as the source of a regular expression over bytes."""
    out, at = [], 0
    while at < len(pattern):
        if pattern[at : at + 3] == b"**/":
            out.append(rb"(?:.*/)?")
            at += 3
        elif pattern[at : at + 2] == b"**":
            out.append(rb".*")
            at += 2
        elif pattern[at : at + 1] == b"*":
            out.append(rb"[^/]*")
            at += 1
        elif pattern[at : at + 1] == b"?":
            out.append(rb"[^/]")
            at += 1
        else:
            out.append(re.escape(pattern[at : at + 1]))
            at += 1
    return b"".join(out)


def _compile(patterns: Iterable[bytes]) -> re.Pattern[bytes] | None:
    sources = [_translate(pattern) for pattern in patterns]
    return re.compile(b"|".join(sources), re.DOTALL) if sources else None


@dataclass(frozen=True, slots=True)
class Excludes:
    """Compiled exclude patterns."""

    by_name: re.Pattern[bytes] | None
    by_path: re.Pattern[bytes] | None

    def __bool__(self) -> bool:
        return self.by_name is not None or self.by_path is not None

    def match(self, folder: bytes, name: bytes) -> bool:
        """Whether ``name`` in ``folder`` (no leading slash) is excluded."""
        if self.by_name is not None and self.by_name.fullmatch(name):
            return True
        if self.by_path is None:
            return False
        path = b"/" + folder + b"/" + name if folder else b"/" + name
        return self.by_path.fullmatch(path) is not None


def compile_excludes(globs: Iterable[str]) -> Excludes:
    """Patterns as ``encode_path`` writes them. UsageError for an empty one or too many."""
    patterns = [decode_path(glob) for glob in globs]
    if len(patterns) > MAX_PATTERNS or not all(pattern.strip() for pattern in patterns):
        raise UsageError(
            "an exclude pattern is empty, or there are too many",
            code="InvalidExclude",
            hint="give patterns such as '*.tmp' or '/home/*/.cache'",
        )
    trimmed = [pattern.rstrip(b"/") or b"/" for pattern in patterns]
    return Excludes(
        _compile(pattern for pattern in trimmed if b"/" not in pattern),
        _compile(
            pattern if pattern.startswith((b"/", b"**")) else b"**/" + pattern
            for pattern in trimmed
            if b"/" in pattern
        ),
    )


def normalise_includes(paths: Iterable[str]) -> tuple[bytes, ...]:
    """Absolute include paths as bytes relative to "/", sorted. UsageError (InvalidInclude) for
    none, an empty or a relative one."""
    found: set[bytes] = set()
    for path in paths:
        raw = os.fsencode(path)
        if not raw.startswith(b"/") or b"\0" in raw:
            raise UsageError(
                f"the include path {path!r} is not absolute",
                code="InvalidInclude",
                hint="give absolute paths, e.g. --include /home",
            )
        found.add(os.path.normpath(raw).lstrip(b"/"))
    if not found:
        raise UsageError(
            "no include path is given", code="InvalidInclude", hint="give --include PATH"
        )
    return tuple(sorted(found, key=lambda path: path.replace(b"/", b"\0")))


def folders_above(includes: Iterable[bytes]) -> frozenset[bytes]:
    """The folders that lead to include paths and lie in none (no leading slashes)."""
    chosen = {path.lstrip(b"/") for path in includes}
    leading = {above for path in chosen for above in _parents(path)}
    return frozenset(path for path in leading - chosen if chosen.isdisjoint((b"", *_parents(path))))


def _parents(path: bytes) -> list[bytes]:
    """Every folder above ``path`` but the top, longest first."""
    found = []
    while path := path.rpartition(b"/")[0]:
        found.append(path)
    return found
