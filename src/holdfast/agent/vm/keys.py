"""Keys of guests' encrypted volumes: a backup takes them along, a restore puts them back."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, HoldfastError, IntegrityError
from holdfast.key_settings import KeyNamed
from holdfast.ports.key_vault import KeyVault, Secret
from holdfast.ports.vm_tasks import KeyRestored, VmRestore
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.machine_keys import MachineKey
from holdfast.vaultstore.root import Finding
from holdfast.workloads.vm.disks.keys import holds_keys, read_keys
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.values import KeysInput

log = logging.getLogger("holdfast.agent")
NOT_BACKED_UP, NOT_RESTORED = "KeyNotBackedUp", "KeyNotRestored"
BECAME_CURRENT, NOT_CURRENT = "KeyBecameCurrent", "KeyNotCurrent"


@dataclass(frozen=True, slots=True)
class HostKeys:
    """``vault``: None on a host without one. ``by_machine``: whose secrets are which, by name."""

    vault: KeyVault | None = None
    by_machine: Mapping[str, Sequence[KeyNamed]] = field(default_factory=dict)

    def take(self, machine: str, luns: Collection[int]) -> KeysInput | None:
        """Of the disks that are backed up; None of a machine that has none. What cannot be had is
        found, not raised."""
        wanted = [
            one
            for one in self.by_machine.get(machine, ())
            if not one.luns or not set(one.luns).isdisjoint(luns)
        ]
        if self.vault is None or not wanted:
            return None
        keys, missing, findings = [], [], []
        for one in wanted:
            try:
                keys.append(_taken(self.vault, one))
            except HoldfastError as error:
                log.warning("the key %s of %s is not backed up: %s", one.name, machine, error)
                missing.append(one.name)
                findings.append(_not_taken(one.name, error))
        return KeysInput(keys=tuple(keys), missing=tuple(missing), findings=tuple(findings))


def _taken(vault: KeyVault, one: KeyNamed) -> MachineKey:
    found = vault.get(one.name, one.version)
    return MachineKey(name=found.name, version=found.version, luns=one.luns, value=found.value)


def _not_taken(name: str, error: HoldfastError) -> Finding:
    told = f"the key {name} is not in this recovery point: {error.message}. To mend it: "
    told += f"{error.hint}; then back the machine up again"
    return Finding(code=NOT_BACKED_UP, path=name.encode(), message=told)


def put_back(
    host: HostKeys,
    asked: VmRestore,
    point: MachinePoint,
    grant: SessionGrant,
    control: VmControl,
    *,
    in_place: bool = False,
) -> tuple[KeyRestored, ...]:
    """Into the host's key vault, when that is asked for and the point has keys: those of the disks
    that are restored. ``in_place``: the machine itself uses them again. What does not work is
    found, and the disks count all the same."""
    if not asked.restore_keys or not holds_keys(point.root):
        return ()
    if host.vault is None:
        why = "this host has no key vault: name one in the agent's holdfast.toml ([key_vault])"
        control.finding(NOT_RESTORED, "", f"the machine's keys were not put back: {why}")
        return ()
    try:
        held = read_keys(point.root, point.source.pages, grant.keys_key, grant.vault_id)
    except IntegrityError as error:
        told = f"the machine's keys were not put back: {error.message}; {error.hint}"
        control.finding(NOT_RESTORED, "", told)
        return ()
    luns = asked.luns or [disk.lun for disk in point.disks]
    keys = [key for key in held if not key.luns or not set(key.luns).isdisjoint(luns)]
    found = [_put(host.vault, key, control) for key in keys]
    done = tuple(one for one in found if one is not None)
    for one in done if in_place else ():
        with suppress(HoldfastError):  # it was put there: this is a hint
            _tell_use(host, asked.name, one, control)
    return done


def _put(vault: KeyVault, key: MachineKey, control: VmControl) -> KeyRestored | None:
    try:
        before = vault.versions(key.name)
        secret = vault.put(key.name, key.value, key.version)
    except CancelledError:
        raise
    except HoldfastError as error:
        told = f"the key {key.name} was not put back: {error.message}; {error.hint}"
        control.finding(NOT_RESTORED, key.name, told)
        return None
    added = secret.version not in before
    if added and before and int(secret.version) > int(before[-1]):
        _tell_current(secret, before[-1], control)
    log.info("the key %s is in the key vault as version %s", secret.name, secret.version)
    return KeyRestored(name=secret.name, version=secret.version, luns=key.luns, added=added)


def _tell_current(secret: Secret, before: str, control: VmControl) -> None:
    control.finding(
        BECAME_CURRENT,
        secret.name,
        f"the key of the recovery point was put back as version {secret.version} of {secret.name}, "
        f"which is now its current version; a machine that goes on with version {before} must say "
        f'so in the agent\'s holdfast.toml: key = "{secret.name}/{before}"',
    )


def _tell_use(host: HostKeys, machine: str, one: KeyRestored, control: VmControl) -> None:
    """Whether the next backup of the machine takes the key its disks have now."""
    named = [key for key in host.by_machine.get(machine, ()) if key.name == one.name]
    versions = host.vault.versions(one.name) if host.vault is not None else []
    current = versions[-1] if versions else ""
    if any((key.version or current) == one.version for key in named):
        return
    control.finding(
        NOT_CURRENT,
        one.name,
        f"the disks that were put back open with version {one.version} of {one.name}, and the "
        f'agent\'s settings name another: say key = "{one.name}/{one.version}" for {machine} in '
        "its holdfast.toml, or its next backup takes the wrong key along",
    )
