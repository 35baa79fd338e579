"""Choosing the adapter of a store address.

Several addresses with a space between them are one store that keeps a copy in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from holdfast.adapters.object_store.copies.alone import ReadOnlyStore
from holdfast.adapters.object_store.copies.changing import make_set
from holdfast.adapters.object_store.copies.marks import MEMBER, read_mark
from holdfast.adapters.object_store.copies.member import Member
from holdfast.adapters.object_store.copies.store import CopiesStore
from holdfast.adapters.object_store.layers.horizon import HorizonStore
from holdfast.adapters.object_store.layers.retry import RetryStore
from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import StoreUnavailableError, UsageError
from holdfast.ports.copied_store import addresses_of
from holdfast.ports.object_store import ObjectStore

_HINT = "give file:///PATH or s3://BUCKET/PREFIX"


def check_store_url(url: str) -> str:
    """The address itself; UsageError (InvalidStoreUrl) when no adapter knows it."""
    found = addresses_of(url)
    if len(set(found)) < len(found):
        raise UsageError("an address is given twice", code="InvalidStoreUrl", hint=_HINT)
    for one in found:
        _check_address(one)
    return url


def _check_address(url: str) -> None:
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


def open_store(url: str, credentials: Mapping[str, str] | None = None) -> ObjectStore:
    """The store at ``url``; one over a network repeats what a passing fault spoiled. A set of
    copies opens with the members that are there. Nothing that a vault opened on it holds is deleted
    before its horizon.

    UsageError for a bad address; StoreUnavailableError."""
    found = addresses_of(check_store_url(url))
    if len(found) > 1:
        members = [
            Member(
                number,
                address,
                partial(_open_member, address, credentials),
                partial(_open_one, address, credentials),
            )
            for number, address in enumerate(found, 1)
        ]
        return HorizonStore(CopiesStore(members))
    store = _open_one(url, credentials)
    alone = store.traits.local_path is not None and read_mark(store) is not None
    return ReadOnlyStore(store) if alone else HorizonStore(store)


def make_store(url: str, credentials: Mapping[str, str] | None = None) -> None:
    """Make the stores of a set of copies its members; nothing for a single address. UsageError,
    ConflictError (CopyNotEmpty, CopyOfAnotherSet), StoreUnavailableError."""
    found = addresses_of(check_store_url(url))
    if len(found) > 1:
        make_set([(address, _open_one(address, credentials)) for address in found])


def _open_one(url: str, credentials: Mapping[str, str] | None) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme == "file":
        local = LocalStore(Path(unquote(parts.path)))
        local.remove_leftovers()
        return local
    from holdfast.adapters.object_store.s3_access import open_s3

    return RetryStore(open_s3(parts.netloc, parts.path.strip("/"), credentials or {}))


def _open_member(url: str, credentials: Mapping[str, str] | None) -> ObjectStore:
    """As ``_open_one``, and no folder is made: where a disk is not mounted nothing begins."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not (Path(unquote(parts.path)) / MEMBER).is_file():
        raise StoreUnavailableError(
            "it is no member of a set of copies: its disk is not mounted, or is new",
            code="CopyUnmarked",
            hint="mount the disk; take a new one in with holdfast region adopt-disk",
        )
    return _open_one(url, credentials)
