"""Choosing the adapter of a store address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from holdfast.adapters.object_store.layers.horizon import HorizonStore
from holdfast.adapters.object_store.layers.retry import RetryStore
from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import UsageError
from holdfast.ports.object_store import ObjectStore

_HINT = "give file:///PATH or s3://BUCKET/PREFIX"


def check_store_url(url: str) -> str:
    """The address itself; UsageError (InvalidStoreUrl) when no adapter knows it."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError("no address of a store", code="InvalidStoreUrl", hint=_HINT) from error
    if "@" in parts.netloc:
        raise UsageError(
            "the address of a store holds no credentials",
            code="InvalidStoreUrl",
            hint=f"{_HINT}, and credentials as a file",
        )
    known = False
    if not parts.query and not parts.fragment and unquote(parts.path).isprintable():
        folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        known = folder or (parts.scheme == "s3" and bool(parts.netloc))
    if not known:
        raise UsageError(f"{url!r} is no address of a store", code="InvalidStoreUrl", hint=_HINT)
    return url


def open_store(url: str, credentials: Mapping[str, str] | None = None) -> ObjectStore:
    """The store at ``url``; one over a network repeats what a passing fault spoiled. Nothing that a
    vault opened on it holds is deleted before its horizon.

    UsageError for a bad address; StoreUnavailableError."""
    parts = urlsplit(check_store_url(url))
    if parts.scheme == "file":
        local = LocalStore(Path(unquote(parts.path)))
        local.remove_leftovers()
        return HorizonStore(local)
    from holdfast.adapters.object_store.s3_access import open_s3

    remote = open_s3(parts.netloc, parts.path.strip("/"), credentials or {})
    return HorizonStore(RetryStore(remote))
