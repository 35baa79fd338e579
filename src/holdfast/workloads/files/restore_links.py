"""Which restored file the hard links of a group belong to; on disk beyond a cache, never in the way
of memory, however many hard links a tree has."""

from __future__ import annotations

import sqlite3


class LinkTable:
    """Link group -> path of the member restored first. For one thread."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # private, temporary
        self._database.execute("create table links (id integer primary key, path blob)")
        self._database.execute("begin")

    def first(self, group: int) -> bytes | None:
        found = self._database.execute("select path from links where id = ?", (_signed(group),))
        row = found.fetchone()
        return None if row is None else bytes(row[0])

    def remember(self, group: int, path: bytes) -> None:
        """``path`` is now the member others are linked to."""
        statement = "insert or replace into links values (?, ?)"
        self._database.execute(statement, (_signed(group), path))

    def forget(self, group: int) -> None:
        """The member remembered was not restored."""
        self._database.execute("delete from links where id = ?", (_signed(group),))

    def close(self) -> None:
        self._database.close()


def _signed(group: int) -> int:
    return group - (1 << 64) if group >= 1 << 63 else group
