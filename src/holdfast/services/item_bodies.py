"""What a protected item's body says of files: paths, patterns and the speed limit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from holdfast.catalog.items import ItemRow
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.domain.work_hours import (
    FASTEST,
    SLOWEST,
    WorkHours,
    read_work_hours,
    work_hours_body,
)
from holdfast.errors import UsageError

Body = dict[str, Any]
MAX_PATHS = 1000
MAX_TEXT = 4 * 4096  # a path of bytes that all need an escape
THROTTLE, WORK_HOURS = "throttleBytesPerSecond", "workHours"


@dataclass(frozen=True, slots=True)
class FilesPart:
    """Paths and patterns are as ``encode_path`` writes them. ``throttle``: most bytes per second
    that a backup sends, but in ``work_hours``; None is no limit."""

    includes: list[str]
    excludes: list[str]
    throttle: int | None
    work_hours: WorkHours | None = None

    def properties(self, old: Body) -> Body:
        """``old`` properties of an item with throttle and work hours as they are now."""
        kept = {name: value for name, value in old.items() if name not in (THROTTLE, WORK_HOURS)}
        ours = {THROTTLE: self.throttle, WORK_HOURS: work_hours_body(self.work_hours)}
        return kept | {name: value for name, value in ours.items() if value is not None}


def read_files_part(properties: Body, old: ItemRow | None) -> FilesPart:
    """``properties.holdfast`` of a body; what is left out stays as it was. UsageError
    (InvalidInclude, InvalidThrottle, InvalidWorkHours)."""
    ours = properties.get("holdfast") or {}
    if not isinstance(ours, dict):
        raise UsageError(
            "holdfast is not an object",
            code="InvalidRequestContent",
            hint="send includePaths, excludeGlobs and throttleBytesPerSecond in it",
        )
    includes = ours.get("includePaths", old.include_paths if old else None)
    excludes = ours.get("excludeGlobs", old.exclude_globs if old else [])
    if not _texts(includes) or not _texts(excludes) or not includes:
        raise UsageError(
            "the item includes nothing",
            code="InvalidInclude",
            hint="give at least one absolute path: --include PATH",
        )
    patterns = [encode_path(decode_path(pattern)) for pattern in excludes]
    throttle = ours.get(THROTTLE, old.properties.get(THROTTLE) if old else None)
    hours = ours.get(WORK_HOURS, old.properties.get(WORK_HOURS) if old else None)
    return FilesPart(_absolute(includes), patterns, _throttle(throttle), read_work_hours(hours))


def _absolute(includes: list[str]) -> list[str]:
    paths = [decode_path(text) for text in includes]
    for path, text in zip(paths, includes, strict=True):
        if not path.startswith(b"/"):
            raise UsageError(
                f"the include path {text!r} is not absolute",
                code="InvalidInclude",
                hint="give absolute paths: --include /home",
            )
    return [encode_path(path) for path in sorted({os.path.normpath(path) for path in paths})]


def _texts(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > MAX_PATHS:
        return False
    return all(isinstance(text, str) and len(text) <= MAX_TEXT for text in value)


def _throttle(given: Any) -> int | None:
    whole = isinstance(given, int) and not isinstance(given, bool)
    if given is None or (whole and given == 0):
        return None
    if not whole or not SLOWEST <= given <= FASTEST:
        raise UsageError(
            f"{THROTTLE} is not a whole number from {SLOWEST:,} to {FASTEST:,}",
            code="InvalidThrottle",
            hint="give bytes per second, or 0 for no limit: --throttle 20MB",
        )
    return int(given)
