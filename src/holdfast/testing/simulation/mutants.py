"""Sabotage of the vault, each in one place that must not be missing. A simulation worth its time
notices every one of them."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from holdfast.adapters.object_store.local import LocalStore, LocalUpload
from holdfast.adapters.object_store.local_names import LastingNames
from holdfast.errors import HoldfastError, ObjectExistsError, StoreUnavailableError
from holdfast.ports.object_store import ObjectInfo, ObjectStore
from holdfast.testing.simulation.run import Outcome, simulate
from holdfast.vaultstore import (
    chain,
    collect,
    commit,
    core,
    expire,
    group,
    holding,
    ingest,
    layout,
    liveness,
    locking,
    log,
    moving,
    orphans,
    records,
    references,
    refset,
    rewriter,
    session,
    transitions,
)
from holdfast.vaultstore.state import LogState, PackEntry
from holdfast.vaultstore.vaultclock import VaultClock

Patches = list[tuple[object, str, object]]


def no_fence() -> Patches:
    """Sweep without waiting for sessions."""
    return [(LogState, "fence_of", lambda _self, _at: [])]


def no_pins() -> Patches:
    """Count only live points as needed, and not those that a session pins."""
    return [
        (module, "needed_points", lambda state: dict(state.points))
        for module in (liveness, collect)
    ]


def no_fence_and_no_pins() -> Patches:
    """Sweep without waiting for sessions, and forget what they pin."""
    return no_fence() + no_pins()


def log_read_first() -> Patches:
    """Look for orphans in a listing that is newer than the log that was read."""

    def find(of: core.VaultCore, torn: orphans.Torn) -> orphans.Leftovers:
        of.refresh()
        state = of.state
        listed = [info for room in orphans._ROOMS for info in of.objects.list(room)]
        return orphans.judge(of, state, listed, torn)

    return [(collect, "find_orphans", find)]


def orphans_of_open_sessions() -> Patches:
    """Delete what no record names yet, though its session may still name it."""
    real = orphans.judge

    def judge(
        of: core.VaultCore, state: LogState, listed: list[ObjectInfo], torn: orphans.Torn
    ) -> orphans.Leftovers:
        return real(of, replace(state, sessions={}), listed, torn)

    return [(orphans, "judge", judge)]


def taken_is_mine() -> Patches:
    """Take any object of the key for one's own."""

    def create(store: ObjectStore, key: str, data: bytes) -> bool:
        with contextlib.suppress(ObjectExistsError):
            store.create(key, data)
        return True

    return [(chain, "create_or_find", create)]


def unclear_is_done() -> Patches:
    """Take a write whose outcome is unknown for one that succeeded."""

    def create(store: ObjectStore, key: str, data: bytes) -> bool:
        try:
            store.create(key, data)
        except ObjectExistsError:
            return store.read(key) == data
        except StoreUnavailableError:
            return True
        return True

    return [(chain, "create_or_find", create)]


def torn_is_whole() -> Patches:
    """Do not compare what a write that broke off left."""

    def create(store: ObjectStore, key: str, data: bytes) -> None:
        chain.create_or_find(store, key, data)

    return [(module, "create_own", create) for module in (session, ingest, commit)]


def record_before_refset() -> Patches:
    """Commit first and write the refset after."""
    real = commit.Commits.commit

    def committing(self: commit.Commits, *args: Any) -> object:
        waiting: list[tuple[ObjectStore, str, bytes]] = []

        def later(store: ObjectStore, key: str, data: bytes) -> None:
            waiting.append((store, key, data))

        with patch.object(commit, "create_own", later):
            record = real(self, *args)
        for store, key, data in waiting:
            chain.create_own(store, key, data)
        return record

    return [(commit.Commits, "commit", committing)]


def record_before_table() -> Patches:
    """Add packs to the log first and write their table after, if at all."""

    def never(_store: ObjectStore, _key: str, _data: bytes) -> None:
        return None

    return [(ingest, "create_own", never)]


def old_decision() -> Patches:
    """After a lost race for a record, create the next with what was decided for the lost one."""
    real = chain.Chain.append

    def append(self: chain.Chain, build: chain.Build, stamp: Callable[[LogState], int]) -> LogState:
        decided: list[Sequence[log.Operation]] = []

        def once(state: LogState) -> Sequence[log.Operation]:
            if not decided:
                decided.append(build(state))
            return decided[0]

        return real(self, once, stamp)

    return [(chain.Chain, "append", append)]


def told_too_early() -> Patches:
    """Tell those who share a record that it is there before it is."""
    real = group.composed

    def early(
        state: LogState, batch: Sequence[group.Member]
    ) -> tuple[list[group.Member], tuple[log.Operation, ...]]:
        heard, operations = real(state, batch)
        after = group._extended(state, state, operations)
        for member in heard:
            member.settle(after)
        return heard, operations

    return [(group, "composed", early)]


def condemned_unseen() -> Patches:
    """Do not look whether points made since the plan need what is condemned."""
    return [(collect, "packs_touched", lambda *_args: set())]


def condemned_is_usable() -> Patches:
    """Let chunks of condemned packs answer present."""
    real = core.VaultCore.sync

    def sync(self: core.VaultCore) -> None:
        real(self)
        for entry in self.state.packs.values():
            self.usable[entry.ordinal] = True

    return [(core.VaultCore, "sync", sync)]


def pages_unchecked() -> Patches:
    """Commit a point though some of what its pages refer to is not there."""
    real = references.Resolver._resolve

    def resolve(
        self: references.Resolver, ids: Any, kinds: tuple[int, ...], container: str | None
    ) -> tuple[Any, npt.NDArray[np.int64]]:
        ids, ordinals = real(self, ids, kinds, container)
        if kinds == references._CONTENT:
            return ids[ordinals >= 0], ordinals[ordinals >= 0]
        return ids, ordinals

    return [(references.Resolver, "_resolve", resolve)]


def unreadable_is_empty() -> Patches:
    """Take a refset that cannot be read for one that needs nothing."""

    def refsets(of: core.VaultCore, points: Any) -> Iterator[refset.Ordinals]:
        for point in points:
            with suppress(HoldfastError):
                yield of.refset_of(point)

    return [(liveness, "refsets_of", refsets)]


def one_job_twice() -> Patches:
    """Do not look whether the job has made its point already."""
    return [(commit.Commits, "_known", staticmethod(lambda _state, _entry: None))]


def older_head() -> Patches:
    """Open the vault at what a listing shows, and take the first absent record for its end."""

    def following(
        self: records.Records, state: LogState, _last: int
    ) -> tuple[log.LogRecord, bytes] | None:
        try:
            data = self._store.read(layout.log_key(state.sequence + 1))
        except HoldfastError:
            return None
        return self._seal.open_record(data), records.hash_object(data)

    return [(records.Records, "following", following)]


def condemned_before_moved() -> Patches:
    """Condemn packs that are to be rewritten before their frames lie elsewhere."""
    real = rewriter.Rewriter.run

    def run(self: rewriter.Rewriter, packs: Any, *others: Any) -> object:
        def condemning(state: LogState) -> Sequence[log.Operation]:
            there = [state.packs.get(pack_id) for pack_id in packs]
            left = tuple(one.pack.pack_id for one in there if one and one.condemned_at is None)
            return (log.PacksCondemned(packs=left),) if left else ()

        self._core.append(condemning)
        return real(self, packs, *others)

    return [(rewriter.Rewriter, "run", run)]


def moved_before_written() -> Patches:
    """Say that frames lie in a new pack before that is durable, if it ever is."""
    return [(moving, "publish_or_find", lambda *_args: None)]


def moved_unread() -> Patches:
    """Copy frames without looking whether they were read well."""
    return [(moving, "open_frame", lambda *_args: b""), (moving, "check_id", lambda *_args: None)]


def birth_keys_forgotten() -> Patches:
    """Drop the keys of a session with its own last pack, though frames of it lie elsewhere."""
    return [(PackEntry, "sealers", property(lambda self: [self.pack.session_id]))]


class _Blind:
    """The rules of horizons, but for the one that says whether one is still ahead."""

    def __getattr__(self, name: str) -> Any:
        return getattr(locking, name)

    def is_locked(self, _until_ns: int, _state: LogState) -> bool:
        return False


def no_horizons() -> Patches:
    """Look at no horizon: expire, collect, the log and the store let go at once."""
    blind = [(module, "locking", _Blind()) for module in (expire, collect, transitions)]
    return [*blind, (locking, "horizon_of", lambda _state, _key: 0)]


def swept_unlooked() -> Patches:
    """Sweep what is past its fence, whatever its horizon; only the store and the log still know."""
    return [(collect, "locking", _Blind())]


def points_locked_alone() -> Patches:
    """Lock a point, and not the packs it needs."""
    return [(module, "locking_these", lambda *_args: []) for module in (commit, holding)]


def any_clock_unlocks() -> Patches:
    """Go by the server's clock, whether it is trusted or not."""

    def stamp(self: VaultClock, head_ns: int) -> int:
        return max(self.now_ns(), head_ns)

    return [(VaultClock, "stamp_ns", stamp)]


def no_file_sync() -> Patches:
    """Give an object its name before its bytes are on the disk."""

    def publish(self: LocalUpload) -> None:
        if self._writer is not None:
            self._writer.finish()
        self._store.link(self._path, self._key)
        self.abort()

    return [(LocalUpload, "publish", publish)]


def no_folder_sync() -> Patches:
    """Tell that an object is there before its name is on the disk."""
    return [(LocalStore, "_sync", lambda _self, _folder: None)]


def seen_is_lasting() -> Patches:
    """Tell of a name that another process made though its folder may not be synced."""
    return [(LastingNames, "seen", lambda _self, _path: None)]


MUTANTS: dict[str, Callable[[], Patches]] = {
    made.__name__: made
    for made in (
        no_fence,
        no_pins,
        no_fence_and_no_pins,
        log_read_first,
        orphans_of_open_sessions,
        taken_is_mine,
        unclear_is_done,
        torn_is_whole,
        record_before_refset,
        record_before_table,
        old_decision,
        told_too_early,
        condemned_unseen,
        condemned_is_usable,
        pages_unchecked,
        unreadable_is_empty,
        one_job_twice,
        older_head,
        condemned_before_moved,
        moved_before_written,
        moved_unread,
        birth_keys_forgotten,
        no_horizons,
        swept_unlooked,
        points_locked_alone,
        any_clock_unlocks,
        no_file_sync,
        no_folder_sync,
        seen_is_lasting,
    )
}


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    """A vault with this mutant."""
    with ExitStack() as stack:
        for owner, attribute, value in MUTANTS[name]():
            change: AbstractContextManager[object] = patch.object(owner, attribute, value)
            stack.enter_context(change)
        yield


def noticed(name: str, seeds: Sequence[int]) -> Outcome | None:
    """The first seed that fails under this mutant."""
    with sabotaged(name):
        outcomes = (simulate(seed) for seed in seeds)
        return next((outcome for outcome in outcomes if outcome.failure), None)


def hunt(
    names: Sequence[str], seeds: Sequence[int], count: int, say: Callable[[str], None]
) -> list[str]:
    """Try each mutant; the names of those that survive all seeds."""
    survived = []
    with multiprocessing.get_context("spawn").Pool(min(count, len(names))) as pool:
        for name, how in pool.imap_unordered(_hunted, [(name, seeds) for name in names]):
            text = (MUTANTS[name].__doc__ or "").strip()
            if not how:
                survived.append(name)
            say(f"{name} ({text}) {how or 'SURVIVED'}")
    return survived


def _hunted(asked: tuple[str, Sequence[int]]) -> tuple[str, str]:
    """How a mutant was noticed, if it was."""
    name, seeds = asked
    found = noticed(name, seeds)
    if found is None:
        return name, ""
    return name, f"noticed by seed {found.seed}: {found.failure.splitlines()[-1][:160]}"
