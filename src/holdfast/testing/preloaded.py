"""Loads every module of the programs; tests fork their programs from a process that did."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil

import holdfast.agent
import holdfast.cli
import holdfast.server

LATE = (  # what the server's libraries load while it starts
    "cryptography.hazmat.backends.openssl.backend",
    "dbos._sys_db_sqlite",
    "litestar.exceptions.responses",
    "litestar.middleware._internal.exceptions",
    "litestar.plugins.attrs",
    "litestar.plugins.pydantic",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)

for _name in LATE:
    with contextlib.suppress(ImportError):  # some are of a platform or an extra
        importlib.import_module(_name)
for _room in (holdfast.cli, holdfast.agent):
    for _found in pkgutil.iter_modules(_room.__path__):
        importlib.import_module(f"{_room.__name__}.{_found.name}")
