"""A store that serves another log than witnesses saw: told, read-only, accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ConflictError, IntegrityError
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.auditing import audit_log
from holdfast.vaultstore.head import Head, parse_head
from holdfast.vaultstore.log import HeadSeen
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
ONE, TWO, THREE = ({b"f": word * 2000} for word in (b"one", b"two", b"three"))


class Yard:
    """A vault on a store in memory, whose content can be kept and put back."""

    def __init__(self) -> None:
        self.store, self.clock, self.rng = MemoryStore(), MovableClock(), SeededRandom(1)
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=self.rng
        )

    def reopen(self, *seen: Head) -> Vault:
        self.vault = Vault.open(
            self.store,
            IDS.vault_id,
            Unlock(platform_key=KEY),
            clock=self.clock,
            rng=self.rng,
            accept_damage=True,
        )
        for head in seen:
            self.vault.witness(head, "the test")
        return self.vault

    @property
    def agent(self) -> LittleAgent:
        return LittleAgent(self.vault, self.rng, "Linux;a")

    def keep(self) -> dict[str, bytes]:
        return dict(self.store.objects)

    def doubt(self) -> str:
        """The code of the doubt, if there is one."""
        found = self.vault.doubt
        return found.code if found is not None else ""

    def put_back(self, kept: dict[str, bytes]) -> None:
        self.store.objects = dict(kept)

    def logs(self) -> list[str]:
        return sorted(key for key in self.store.objects if "/log/" in key and "quar" not in key)


@pytest.fixture
def yard() -> Yard:
    return Yard()


def older_head(yard: Yard) -> tuple[Head, str, str]:
    """The store goes back behind the second point: its head, the first and the lost point."""
    first = yard.agent.back_up(ONE)
    older = yard.keep()
    second = yard.agent.back_up(TWO)
    head = yard.vault.log_head
    yard.put_back(older)
    yard.reopen(head)
    return head, first.rp_id, second.rp_id


def a_fork(yard: Yard) -> tuple[Head, str, str]:
    """The store holds another branch, longer than the one that was seen."""
    first = yard.agent.back_up(ONE)
    older = yard.keep()
    second = yard.agent.back_up(TWO)
    head = yard.vault.log_head
    yard.put_back(older)
    yard.reopen()
    yard.agent.back_up(THREE)
    yard.agent.back_up(ONE)
    assert yard.vault.log_head.sequence > head.sequence
    yard.reopen(head)
    return head, first.rp_id, second.rp_id


def a_resurrected_record(yard: Yard) -> tuple[Head, str, str]:
    """Behind the newest record lies one of another branch, rightly signed."""
    first = yard.agent.back_up(ONE)
    older = yard.keep()
    second = yard.agent.back_up(TWO)
    head, newer = yard.vault.log_head, yard.keep()
    yard.put_back(older)
    yard.reopen()
    yard.agent.back_up(THREE)
    ours = yard.logs()
    cut = ours[len([key for key in older if "/log/" in key]) + 1]
    for key in [key for key in ours if key > cut]:
        yard.store.objects[key] = newer.get(key, yard.store.objects[key])
    yard.reopen(head)
    return head, first.rp_id, second.rp_id


def a_swapped_record(yard: Yard) -> tuple[Head, str, str]:
    """The second point's first record holds the bytes of an earlier one."""
    first = yard.agent.back_up(ONE)
    before = len(yard.logs())
    second = yard.agent.back_up(TWO)
    head, logs = yard.vault.log_head, yard.logs()
    yard.store.objects[logs[before]] = yard.store.objects[logs[1]]
    yard.reopen(head)
    return head, first.rp_id, second.rp_id


CASES: list[tuple[Callable[[Yard], tuple[Head, str, str]], str]] = [
    (older_head, "LogRolledBack"),
    (a_fork, "LogForked"),
    (a_resurrected_record, "LogForked"),
    (a_swapped_record, "LogDamaged"),
]


@pytest.mark.parametrize(("spoil", "code"), CASES)
def test_another_log_is_named_and_takes_nothing_while_restores_go_on(
    yard: Yard, spoil: Callable[[Yard], tuple[Head, str, str]], code: str
) -> None:
    _, kept, _ = spoil(yard)
    assert yard.doubt() == code
    before = yard.keep()
    for write in (
        lambda: yard.agent.back_up(THREE),
        lambda: yard.vault.expire(yard.vault.plan_expire({kept: "asked"}, explicit=True)),
        yard.vault.collect,
        lambda: yard.vault.export_key("correct horse"),
        yard.vault.confirm_clock,
    ):
        with pytest.raises(IntegrityError) as refused:
            write()
        assert refused.value.code == code
        assert "accept-head" in refused.value.hint
    assert yard.agent.restore(kept) == ONE
    assert yard.keep() == before, "a restore writes nothing either"


@pytest.mark.parametrize("spoil", [case[0] for case in CASES])
def test_an_accepted_head_goes_on_under_a_higher_term_and_names_what_is_lost(
    yard: Yard, spoil: Callable[[Yard], tuple[Head, str, str]]
) -> None:
    head, kept, lost = spoil(yard)
    seen = HeadSeen(sequence=head.sequence, term=head.term, hash=head.hash, by="the test")
    plan = yard.vault.plan_accept_head([seen], [kept, lost])
    assert (plan.lost, plan.term) == ((lost,), 2)
    grant = yard.vault.begin_session("restore", "Linux;a", "i", b"R" * 16, pins=[kept])
    before = yard.keep()
    assert yard.keep() == before, "a plan changes nothing"
    accepted = yard.vault.accept_head(plan)
    assert accepted.term == 2
    assert yard.vault.doubt is None
    assert [one.session_id for one in yard.vault.open_sessions()].count(grant.session_id) == 1
    third = yard.agent.back_up(THREE)
    yard.reopen(head, accepted)
    assert yard.vault.doubt is None, "a stale witness accepts the higher term"
    assert yard.agent.restore(kept) == ONE
    assert yard.agent.restore(third.rp_id) == THREE
    with pytest.raises(ConflictError) as nothing:
        yard.vault.plan_accept_head([seen], [])
    assert nothing.value.code == "HeadNotInDoubt"
    newest = yard.vault.log_head
    yard.put_back(before)
    yard.reopen(newest)
    assert yard.vault.doubt is not None, "what was given up does not come back unseen"


def test_a_running_vault_notices_and_goes_on_when_the_newest_is_back(yard: Yard) -> None:
    yard.agent.back_up(ONE)
    older = yard.keep()
    point = yard.agent.back_up(TWO)
    newest = yard.keep()
    assert not yard.vault.look_at_head()
    yard.put_back(older)
    assert yard.vault.look_at_head()
    assert yard.doubt() == "LogCut"
    yard.put_back(newest)
    yard.vault.look_at_head()
    assert not yard.doubt()
    assert yard.agent.restore(point.rp_id) == TWO
    swapped = yard.logs()
    yard.store.objects[swapped[-1]] = yard.store.objects[swapped[-2]]
    yard.vault.look_at_head()
    assert yard.doubt() == "LogForked"
    with pytest.raises(IntegrityError):
        yard.vault.collect()


def test_a_vault_in_doubt_tells_when_its_store_is_mended(yard: Yard) -> None:
    yard.agent.back_up(ONE)
    older = yard.keep()
    yard.agent.back_up(TWO)
    newest, head = yard.keep(), yard.vault.log_head
    yard.put_back(older)
    yard.reopen(head)
    assert not yard.vault.look_at_head(), "nothing changed"
    yard.put_back(newest)
    assert yard.vault.look_at_head()
    assert yard.reopen(head).doubt is None


def test_a_witness_of_an_agent_cannot_be_made_up(yard: Yard) -> None:
    token = yard.vault.witness_token()
    assert yard.vault.read_witness(token) == yard.vault.log_head
    for at in range(len(token)):
        forged = bytearray(token)
        forged[at] ^= 1
        assert yard.vault.read_witness(bytes(forged)) is None
    assert yard.vault.read_witness(b"") is None


def test_a_plan_made_before_the_log_moved_is_refused(yard: Yard) -> None:
    head, _, _ = older_head(yard)
    seen = HeadSeen(sequence=head.sequence, term=head.term, hash=head.hash, by="the test")
    plan = yard.vault.plan_accept_head([seen], [])
    yard.vault.accept_head(plan)
    yard.vault.witness(Head(sequence=99, term=5, hash=b"x" * 32), "another")
    with pytest.raises(ConflictError) as moved:
        yard.vault.accept_head(plan)
    assert moved.value.code == "HeadMoved"


@pytest.mark.parametrize("crash", range(1, 7))
def test_accepting_a_damaged_log_can_be_cut_off_anywhere(yard: Yard, crash: int) -> None:
    head, kept, _ = a_swapped_record(yard)
    seen = HeadSeen(sequence=head.sequence, term=head.term, hash=head.hash, by="the test")
    create, delete, left = yard.store.create, yard.store.delete, [crash]

    def counted(work: Callable[..., None]) -> Callable[..., None]:
        def run(*args: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            work(*args)

        return run

    yard.store.create, yard.store.delete = counted(create), counted(delete)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        yard.vault.accept_head(yard.vault.plan_accept_head([seen], []))
    yard.store.create, yard.store.delete = create, delete  # type: ignore[method-assign]
    assert yard.reopen(head).doubt is not None
    assert yard.agent.restore(kept) == ONE
    yard.vault.accept_head(yard.vault.plan_accept_head([seen], []))
    assert yard.reopen(head).doubt is None
    assert yard.agent.restore(kept) == ONE


def test_heads_are_read_as_they_are_shown() -> None:
    head = Head(sequence=12, term=1, hash=b"h" * 32)
    assert parse_head(head.text) == Head(sequence=12, term=0, hash=head.hash)
    assert parse_head("7") == Head(sequence=7, term=0, hash=b"")


def test_an_audit_tells_what_came_and_went_since_a_head(yard: Yard) -> None:
    first = yard.agent.back_up(ONE)
    since = yard.vault.log_head
    second = yard.agent.back_up(TWO)
    yard.vault.expire(yard.vault.plan_expire({first.rp_id: "3 days are over"}))
    yard.vault.collect()
    found = yard.vault.audit(parse_head(since.text))
    assert found.complete
    assert found.head == yard.vault.log_head
    named = {change.what: change for change in found.changes}
    assert named["recovery point added"].names == (second.rp_id,)
    assert named["recovery point expired"].names == (first.rp_id,)
    assert named["recovery point expired"].reason == "3 days are over"
    assert set(named["packs swept"].names) == set(named["packs condemned"].names)
    assert named["packs swept"].size is None, "they were added before"
    assert named["packs added"].size
    assert found.totals["packs swept"] == len(named["packs swept"].names)
    parts, at = [], parse_head("0")
    while not parts or not parts[-1].complete:
        parts.append(audit_log(yard.vault._core, at, most=3))
        at = parts[-1].head
    assert sum(part.records for part in parts) == yard.vault.log_head.sequence
    whole = yard.vault.audit(parse_head("0"))
    joined = [(one.what, one.names) for part in parts for one in part.changes]
    assert joined == [(one.what, one.names) for one in whole.changes]


def test_an_audit_finds_what_was_left_out_exchanged_or_cut_off(yard: Yard) -> None:
    yard.agent.back_up(ONE)
    since = yard.vault.log_head
    yard.agent.back_up(TWO)
    whole, logs = yard.keep(), yard.logs()
    other = Head(sequence=since.sequence, term=1, hash=b"x" * 32)
    beyond = Head(sequence=99, term=1, hash=b"x" * 32)
    for asked, code in ((other, "LogForked"), (beyond, "LogRolledBack")):
        with pytest.raises(IntegrityError) as told:
            yard.vault.audit(asked)
        assert told.value.code == code
    for spoil in (b"", whole[logs[0]], None):
        yard.put_back(whole)
        if spoil is None:
            del yard.store.objects[logs[since.sequence + 1]]
        else:
            yard.store.objects[logs[since.sequence + 1]] = spoil
        with pytest.raises(IntegrityError) as damaged:
            yard.vault.audit(since)
        assert damaged.value.code == "LogDamaged"
        assert logs[since.sequence + 1][-16:] in damaged.value.message
