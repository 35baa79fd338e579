"""Going on with a log that is in doubt, because a person says so.

Records that cannot be read, or do not continue the log, are moved aside (``quarantine/log/``), the
last first: killed half way, the log is as doubtful as before and the same is done again. Then one
record accepts the head under a term higher than any witness has seen, which puts their heads out of
force.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.errors import ConflictError, ObjectMissingError
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.chain import create_or_find
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.records import hash_object


class AcceptHeadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``head``: where the log goes on, under ``term``. ``doubt``: what is accepted, as (code,
    message). ``set_aside``: names of records that are moved to quarantine. ``lost``: ids of
    recovery points known to have been made that the log does not hold."""

    head: Head
    term: int
    doubt: tuple[str, str]
    witnessed: tuple[log.HeadSeen, ...]
    set_aside: tuple[str, ...]
    lost: tuple[str, ...]


def plan_accept_head(
    core: VaultCore, witnessed: Sequence[log.HeadSeen], lost: Sequence[str]
) -> AcceptHeadPlan:
    """What accepting the head would give up. ConflictError (HeadNotInDoubt)."""
    with core.lock:
        doubt = core.chain.doubt
        if doubt is None:
            raise _nothing_to_accept()
        here = core.chain.head
        against = [seen for seen in witnessed if seen.term >= here.term and not _holds(core, seen)]
        return AcceptHeadPlan(
            head=here,
            term=1 + max([here.term, *(seen.term for seen in witnessed)]),
            doubt=(doubt.code, doubt.message),
            witnessed=tuple(against),
            set_aside=tuple(_records_after(core, here.sequence)),
            lost=tuple(rp_id for rp_id in lost if rp_id not in core.state.points),
        )


def _nothing_to_accept() -> ConflictError:
    return ConflictError(
        "the vault's log is in no doubt: there is no head to accept",
        code="HeadNotInDoubt",
        hint="See the vault: holdfast vault show NAME",
    )


def _holds(core: VaultCore, seen: log.HeadSeen) -> bool:
    within = seen.sequence <= core.state.sequence
    return within and core.chain.hash_at(seen.sequence, seen.hash) == seen.hash


def _records_after(core: VaultCore, sequence: int) -> list[str]:
    """Names of the log objects behind the last usable record, which nobody may have appended."""
    if core.chain.damage is None:
        return []
    after = layout.log_key(sequence)
    return [info.key for info in core.objects.list(layout.LOG, after)]


def accept_head(core: VaultCore, plan: AcceptHeadPlan) -> Head:
    """Carry a plan out; the head of the new term. ConflictError (HeadMoved) when the log is not
    what the plan was made of any more, HeadNotInDoubt when somebody else did it."""
    with core.lock:
        chain = core.chain
        if chain.doubt is None:
            raise _nothing_to_accept()
        if chain.head != plan.head:
            raise ConflictError(
                f"the log moved to record {chain.head.sequence} since the plan was made",
                code="HeadMoved",
                hint="Look at the plan again: holdfast vault accept-head NAME --plan",
                retry="same",
            )
        for key in reversed(_records_after(core, plan.head.sequence)):
            _set_aside(core, key)
        accepted = log.HeadAccepted(term=plan.term, witnessed=plan.witnessed, lost=plan.lost)
        # restores that run read what only their session's record keeps from a collect
        restores = [entry.opened for entry in core.unlogged.values()]
        core.accept(lambda _state: (accepted, *restores))
        core.unlogged.clear()
        return chain.head


def _set_aside(core: VaultCore, key: str) -> None:
    try:
        data = core.objects.read(key)
    except ObjectMissingError:
        return
    name = f"{layout.QUARANTINE}{key}-{hash_object(data).hex()[:16]}"
    create_or_find(core.objects, name, data)
    core.objects.delete(key)
