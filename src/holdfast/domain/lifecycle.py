"""States of jobs and protected items, and which may follow which."""

from __future__ import annotations

from typing import Literal

from holdfast.errors import ConflictError, UsageError

JobStatus = Literal[
    "InProgress", "Cancelling", "Cancelled", "Completed", "CompletedWithWarnings", "Failed"
]
ItemState = Literal[
    "IRPending", "Protected", "ProtectionError", "ProtectionStopped", "BackupsSuspended"
]
SOFT_DELETED = "SoftDeleted"  # shown by Azure as ProtectionStopped with a date of deletion
CONTAINER_SOFT_DELETED = "SoftDeleted"  # registration status of a machine whose items are
ENDED: frozenset[str] = frozenset({"Cancelled", "Completed", "CompletedWithWarnings", "Failed"})
SUCCEEDED: frozenset[str] = frozenset({"Completed", "CompletedWithWarnings"})
CANCELLABLE: frozenset[str] = frozenset(
    {"Backup", "Restore", "Verify", "Expire", "Collect", "Import"}
)
RUNNING: frozenset[str] = frozenset({"IRPending", "Protected", "ProtectionError"})
NEVER_ASKED: frozenset[str] = frozenset({"ProtectionPaused", "Invalid"})
STOPPED: frozenset[str] = frozenset({"ProtectionStopped", "BackupsSuspended"})

_NEXT_STATUS: dict[str, frozenset[str]] = {
    "InProgress": ENDED | {"Cancelling"},
    "Cancelling": ENDED,
}
_NEXT_STATE: dict[str, frozenset[str]] = {
    "IRPending": frozenset({"Protected", "ProtectionError"}) | STOPPED,
    "Protected": frozenset({"ProtectionError"}) | STOPPED,
    "ProtectionError": frozenset({"Protected"}) | STOPPED,
    "BackupsSuspended": frozenset({"IRPending", "Protected", "ProtectionStopped"}),
    "ProtectionStopped": frozenset({"IRPending", "Protected"}),
    SOFT_DELETED: frozenset({"ProtectionStopped"}),
}


def check_job_step(before: str, after: str) -> None:
    """ConflictError (JobEnded) when a job may not go from ``before`` to ``after``."""
    if before != after and after not in _NEXT_STATUS.get(before, frozenset()):
        raise ConflictError(
            f"a job that is {before} cannot become {after}",
            code="JobEnded",
            hint="look at it: holdfast job show ID",
        )


def may_cancel(operation: str, status: str) -> bool:
    return operation in CANCELLABLE and status == "InProgress"


def check_item_step(before: str, after: str) -> None:
    """ConflictError (UserErrorInvalidProtectionState) when an item may not go from ``before`` to
    ``after``. Suspending needs a policy, so stopped protection is resumed first; deleted data
    (UserErrorItemSoftDeleted) is undeleted first. Deleting is possible from every state."""
    if after == SOFT_DELETED:
        return
    if before == SOFT_DELETED and after not in _NEXT_STATE[before]:
        raise soft_deleted("the item")
    if before != after and after not in _NEXT_STATE.get(before, frozenset()):
        raise ConflictError(
            f"an item that is {before} cannot become {after}",
            code="UserErrorInvalidProtectionState",
            hint="resume it with a policy first: holdfast item resume NAME --policy P",
        )


def check_asked_state(state: str | None) -> None:
    """UsageError (UserErrorNotSupported) for a state that Azure has a word for and no item here
    goes into: who asks for a pause must not go on being backed up without a word."""
    if state in NEVER_ASKED:
        raise UsageError(
            f"protection of an item cannot be made {state}",
            code="UserErrorNotSupported",
            hint="send ProtectionStopped (nothing expires), BackupsSuspended (the policy goes on "
            "expiring), or a policyId alone to protect it",
        )


def soft_deleted(name: str) -> ConflictError:
    """Why nothing but an undeletion is possible."""
    return ConflictError(
        f"the data of {name} was deleted and is kept for a while only",
        code="UserErrorItemSoftDeleted",
        hint="bring it back first: holdfast item undelete NAME",
    )


def resumed_state(has_points: bool) -> ItemState:
    """The state of an item that is given a policy again."""
    return "Protected" if has_points else "IRPending"


def backups_run(protection_state: str) -> bool:
    """Whether scheduled and on-demand backups of an item may start."""
    return protection_state in RUNNING
