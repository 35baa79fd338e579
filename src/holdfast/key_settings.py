"""Which secrets of the host's key vault belong to which machine, in an agent's settings.

In ``holdfast.toml`` of the agent::

    [key_vault]
    path = "/etc/holdfast/keys"        # a folder of the agent's user alone
    [[key_vault.machine]]              # a machine of libvirt, by its name
    name = "web1"
    key = "web1-root"                  # of all its disks; or, of one of them:
    [[key_vault.machine.disk]]
    lun = 0
    key = "web1-data"                  # "web1-data/3" for version 3, not the current one

A machine that a ``[[machine]]`` table names has ``key`` there, or in its ``[[machine.disk]]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from holdfast.errors import UsageError
from holdfast.machine_settings import MAX_LUN, MachineEntry
from holdfast.ports.key_vault import read_reference


class DiskKeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key``: NAME or NAME/VERSION."""

    lun: int
    key: str


class MachineKeysEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key``: of all disks of the machine, empty for none."""

    name: str
    key: str = ""
    disk: list[DiskKeyEntry] = []


class KeyVaultEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``path``: the folder."""

    path: str
    machine: list[MachineKeysEntry] = []


class KeyNamed(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a machine. ``version``: empty for the current one; ``luns``: the disks it is for,
    none for the whole machine."""

    name: str
    version: str = ""
    luns: tuple[int, ...] = ()


def keys_by_machine(
    vault: KeyVaultEntry | None, machines: Iterable[MachineEntry]
) -> Mapping[str, tuple[KeyNamed, ...]]:
    """By a machine's name, each secret once, in order. The settings have been checked."""
    found: dict[str, dict[tuple[str, str], list[int | None]]] = {}
    for name, lun, reference in _all(vault, machines):
        known = found.setdefault(name, {}).setdefault(read_reference(reference), [])
        if lun not in known:
            known.append(lun)
    return {name: tuple(_named(secrets)) for name, secrets in found.items()}


def _named(secrets: Mapping[tuple[str, str], list[int | None]]) -> Iterator[KeyNamed]:
    for (name, version), luns in secrets.items():
        of = () if None in luns else tuple(sorted(lun for lun in luns if lun is not None))
        yield KeyNamed(name=name, version=version, luns=of)


def _all(
    vault: KeyVaultEntry | None, machines: Iterable[MachineEntry]
) -> Iterator[tuple[str, int | None, str]]:
    """(machine, disk or None, reference) for each ``key``."""
    for entry in machines:
        if entry.key:
            yield entry.name, None, entry.key
        for lun, disk in zip(entry.luns, entry.disk, strict=True):
            if disk.key:
                yield entry.name, lun, disk.key
    for one in vault.machine if vault is not None else ():
        if one.key:
            yield one.name, None, one.key
        for disk_key in one.disk:
            yield one.name, disk_key.lun, disk_key.key


def key_problems(vault: KeyVaultEntry | None, machines: Iterable[MachineEntry]) -> list[str]:
    """What is wrong with them, one sentence each; empty when nothing is."""
    found: list[str] = []
    if vault is not None and not Path(vault.path).is_absolute():
        found.append("key_vault: path must be absolute")
    held: set[tuple[str, int | None]] = set()
    for name, lun, reference in _all(vault, machines):
        if (name, lun) in held:
            of = "all disks" if lun is None else f"the disk with LUN {lun}"
            found.append(f"machine {name!r} has two keys for {of}")
        held.add((name, lun))
        if vault is None:
            found.append(f"machine {name!r} has a key, and there is no [key_vault]")
        if lun is not None and not -1 <= lun <= MAX_LUN:
            found.append(f"machine {name!r}: lun of a key must be from -1 to {MAX_LUN}")
        try:
            read_reference(reference)
        except UsageError as error:
            found.append(f"machine {name!r}: key: {error.message}")
    return found
