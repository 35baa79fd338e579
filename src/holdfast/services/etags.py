"""Changes that are meant for one version of a resource only (If-Match)."""

from __future__ import annotations

from holdfast.errors import ConflictError

ANY = "*"


def check_etag(if_match: str | None, etag: str | None, what: str) -> None:
    """ConflictError (PreconditionFailed) unless ``etag`` (None: the resource is not there) is one
    of those a client named."""
    if if_match is None:
        return
    wanted = {one.strip() for one in if_match.split(",")}
    if etag is not None and wanted & {ANY, etag}:
        return
    raise ConflictError(
        f"{what} is not there" if etag is None else f"{what} was changed by someone else meanwhile",
        code="PreconditionFailed",
        hint="read it again and repeat the change",
    )
