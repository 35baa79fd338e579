"""ARM paths are written in many ways; here they get the one form routes are known by.

Fixed words match in any case and doubled or trailing slashes do not count. Names are left as they
are. What no route fits is left as it is, for the answer to name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_PARTS = 40


@dataclass(slots=True)
class _Node:
    """A step of the known routes: fixed words by their lower case, and what follows any name."""

    words: dict[str, tuple[str, _Node]] = field(default_factory=dict)
    name: _Node | None = None
    is_end: bool = False


class PathForms:
    """Built from routes as sequences of fixed words (texts) and names (anything else)."""

    def __init__(self, routes: Iterable[Sequence[object]]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Sequence[object]) -> None:
        node = self._root
        for part in route:
            if isinstance(part, str):
                node = node.words.setdefault(part.lower(), (part, _Node()))[1]
            else:
                node.name = node.name or _Node()
                node = node.name
        node.is_end = True

    def normalise(self, path: str) -> str:
        """The one form of ``path``."""
        parts = [part for part in path.split("/") if part]
        fitting = self._fit(self._root, parts) if len(parts) <= MAX_PARTS else None
        return "/" + "/".join(parts if fitting is None else fitting)

    def _fit(self, node: _Node, parts: list[str]) -> list[str] | None:
        """``parts`` in the form of a route below ``node``; a fixed word goes before a name."""
        if not parts:
            return [] if node.is_end else None
        first, rest = parts[0], parts[1:]
        known = node.words.get(first.lower())
        if known is not None and (found := self._fit(known[1], rest)) is not None:
            return [known[0], *found]
        if node.name is not None and (found := self._fit(node.name, rest)) is not None:
            return [first, *found]
        return None
