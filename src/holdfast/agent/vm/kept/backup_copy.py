"""The local copy of one backup, from before its point in time to its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.kept.taking import CopyTaking
from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, HoldfastError
from holdfast.ports.hypervisor import SnapshotOutcome
from holdfast.ports.vm_tasks import InstantCopy, VmBackup

log = logging.getLogger("holdfast.agent")


class BackupCopy:
    """The local copy a backup makes, or why it makes none. ``token``: of its point in time."""

    def __init__(self, copies: KeptCopies, asked: VmBackup, token: str) -> None:
        self._copies, self._kept = copies, copies.begin(asked, token)
        self.at_rest = CopyTaking(copies.images, self._kept, copies.records.put)
        self.standing = False

    def stand(self, described: Mapping[str, Any], outcome: SnapshotOutcome) -> None:
        """The point in time is there: from now on the copies outlive this process."""
        disks = self.at_rest.finish()
        if not disks:
            self._forget()
            return
        self._kept = msgspec.structs.replace(
            self._kept,
            disks=disks,
            described=dict(described),
            consistency=outcome.level.azure_name,
            reason=outcome.reason,
        )
        try:
            self._copies.records.put(self._kept)
        except OSError as error:
            self.give_up(f"it could not be noted ({error.strerror})")
            return
        self.standing = True
        self._copies.let_go(self._kept.token)

    def in_vault(self, point: str) -> None:
        """The same is in the vault as a recovery point now."""
        if self.standing:
            self._copies.heal(self._kept.token, point)

    def give_up(self, why: str = "the backup did not go on") -> None:
        """There was no point in time, or nobody wants it."""
        self.at_rest.spoil(why)
        self.at_rest.close()
        self.standing = False
        self._forget()

    def leave(self, error: BaseException, control: VmControl) -> None:
        """The backup did not come to its end. A copy outlives a transfer that failed: it is a
        recovery point of its own. One of a backup that was cancelled, or is gone on with later,
        does not."""
        failed = isinstance(error, HoldfastError) and not isinstance(error, CancelledError)
        if not failed or not self.standing:
            self.give_up()
            return
        control.finding(
            "SnapshotStands",
            "",
            f"the disks as they were stay beside the machine's as recovery point "
            f"{self._kept.token}, though they are not in the vault",
        )

    def told(self) -> InstantCopy:
        if self.standing:
            return InstantCopy(kept=True, until=self._kept.until.isoformat())
        return InstantCopy(kept=False, reason=self.at_rest.why_not)

    def _forget(self) -> None:
        """What was not whole is gone by now."""
        if self._kept.disks:
            self._copies.remove(self._kept, self.at_rest.why_not)
        else:
            log.info("no local copy of machine %s: %s", self._kept.uuid, self.at_rest.why_not)
            with suppress(OSError):
                self._copies.records.remove(self._kept.token)
        self._copies.let_go(self._kept.token)
