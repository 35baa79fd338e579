"""Sessions: who may write to or read from a vault, and what must stay readable meanwhile.

A session is opened by an object and then by a log record. The record is what counts: it is checked
against the head it is appended to, so its pins are live at that point of the log, and a collect
that condemns later waits for the session's end. (The fence reads open sessions from the log and
not from a listing of objects: a stale listing cannot hide a session.) The object exists before the
record, so that whoever looks at the store alone sees who may be writing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.errors import IntegrityError, ObjectMissingError, StoreFullError
from holdfast.vaultstore import keys, layout, log
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.grant import ParentPoint, SessionGrant
from holdfast.vaultstore.machine_keys import wrapping_key
from holdfast.vaultstore.reserve import append_freeing
from holdfast.vaultstore.state import LogState, SessionEntry
from holdfast.vaultstore.values import OpenSession, SessionKind, VaultOptions

LOW_SPACE_PACKS = 2  # a backup needs room for at least so many packs to begin


class SessionAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a session, and for what. Also the body of the session's object."""

    kind: SessionKind
    container: str
    item_key: str
    job_id: bytes
    attempt: int
    pins: tuple[str, ...]


class Sessions:
    """Opens and ends sessions of one vault."""

    def __init__(self, core: VaultCore, options: VaultOptions) -> None:
        self._core = core
        self._options = options

    def begin(self, asked: SessionAsked, *, with_keys: bool = False) -> SessionGrant:
        """Open a session. ``with_keys``: a restore that puts keys of its machine back.
        NotFoundError for a pin that is not live, StoreFullError."""
        core = self._core
        writes = asked.kind in ("backup", "rewrite")
        if asked.kind == "backup":
            self._require_space()
        session_id = core.rng.token(16)
        session_key = core.rng.token(keys.KEY_BYTES) if writes else b""
        wrapped = self._wrap(session_id, asked.container, session_key) if writes else b""
        opening = log.SessionOpened(
            session_id=session_id,
            kind=asked.kind,
            container=asked.container,
            item_key=asked.item_key,
            job_id=asked.job_id,
            attempt=asked.attempt,
            pins=asked.pins,
            parent="",
            epoch=core.rings.domain.epoch if writes else 0,
            wrapped_key=wrapped,
        )
        state, entry = self._opened(asked, opening)
        grant = self._grant(state, entry.opened, session_key)
        if not with_keys or asked.kind != "restore":
            return grant
        return msgspec.structs.replace(grant, keys_key=self._keys_key(asked.pins[0]))

    def _opened(
        self, asked: SessionAsked, opening: log.SessionOpened
    ) -> tuple[LogState, SessionEntry]:
        """The session, by record, and the state after it. While the log is in doubt a restore has
        one that is in no record: nothing is condemned or swept then, so nothing it reads can go."""
        core = self._core

        def beginning(now: LogState) -> Sequence[log.Operation]:
            known = opening.session_id in now.sessions
            return () if known else (self._with_parent(now, opening),)

        try:
            self._announce(asked, opening.session_id)
            state = core.share(beginning)
        except IntegrityError:
            with core.lock:
                if asked.kind != "restore" or core.chain.doubt is None:
                    raise
                state = core.state
                entry = SessionEntry(self._with_parent(state, opening), state.sequence)
                core.unlogged[opening.session_id] = entry
            return state, entry
        return state, state.sessions[opening.session_id]

    def _announce(self, asked: SessionAsked, session_id: bytes) -> None:
        core = self._core
        core.refuse_in_doubt()
        body = core.seal.seal(ObjectKind.SESSION, msgspec.msgpack.encode(asked))
        create_own(core.objects, layout.session_key(session_id), body)

    def _keys_key(self, rp_id: str) -> bytes:
        """Empty when the session that made the point sent nothing: then it sent no keys."""
        with self._core.lock:
            made_by = self._core.point(rp_id).op.session_id
            try:
                return wrapping_key(self._core.session_key(made_by))
            except ObjectMissingError:
                return b""

    def _with_parent(self, state: LogState, opening: log.SessionOpened) -> log.SessionOpened:
        for rp_id in opening.pins:
            self._core.point(rp_id)
        if opening.kind != "backup":
            return opening
        parent = state.newest(opening.item_key)
        pins = tuple(dict.fromkeys((*opening.pins, parent))) if parent else opening.pins
        return msgspec.structs.replace(opening, parent=parent, pins=pins)

    def _wrap(self, session_id: bytes, container: str, session_key: bytes) -> bytes:
        core = self._core
        return keys.wrap_session_key(
            core.rings.domain, core.vault_id, session_id, container, session_key, core.rng
        )

    def _grant(
        self, state: LogState, opened: log.SessionOpened, session_key: bytes
    ) -> SessionGrant:
        domain = self._core.rings.domain
        parent = state.points.get(opened.parent)
        read = state.points[opened.pins[0]].op.root_id if opened.kind == "restore" else b""
        return SessionGrant(
            vault_id=state.vault_id,
            domain_id=state.domain_id,
            session_id=opened.session_id,
            epoch=opened.epoch,
            wrapped_session_key=opened.wrapped_key,
            session_key=session_key,
            id_keys=domain.id_keys,
            chunker_seed=domain.chunker_seed if session_key else 0,
            pack_target_bytes=self._options.pack_target_bytes,
            zstd_level=self._options.zstd_level,
            parent=ParentPoint(rp_id=opened.parent, root_id=parent.op.root_id) if parent else None,
            container_is_empty=self._is_empty(state, opened),
            root_id=read,
        )

    @staticmethod
    def _is_empty(state: LogState, opened: log.SessionOpened) -> bool:
        """Whether nothing of the container is in the vault, nor may join from another session."""
        others = (
            entry.opened.container
            for session_id, entry in state.sessions.items()
            if session_id != opened.session_id and entry.opened.kind == "backup"
        )
        return opened.container not in state.containers and opened.container not in others

    def _require_space(self) -> None:
        free = self._core.objects.free_bytes()
        needed = LOW_SPACE_PACKS * self._options.pack_target_bytes
        if free is not None and free < needed:
            raise StoreFullError(
                f"the store has {free} bytes left; a backup needs at least {needed}",
                hint="Free space or let retention and collect free it; restores go on.",
            )

    def end(self, session_id: bytes, reason: str = "") -> None:
        """Close (or with a reason revoke) a session by record; nothing when it has ended. While the
        log is in doubt a session of its records stays open: whoever may append ends it later."""
        if self._core.unlogged.pop(session_id, None) is not None:
            return
        if self._core.chain.doubt is not None:
            return

        def closing(state: LogState) -> Sequence[log.Operation]:
            if session_id not in state.sessions:
                return ()
            return (log.SessionClosed(session_id=session_id, reason=reason),)

        append_freeing(self._core, closing, shared=True)

    def open_sessions(self) -> list[OpenSession]:
        with self._core.lock:
            entries = self._core.state.sessions.values()
            return [
                OpenSession(
                    session_id=entry.opened.session_id,
                    kind=entry.opened.kind,  # type: ignore[arg-type]
                    container=entry.opened.container,
                    item_key=entry.opened.item_key,
                    job_id=entry.opened.job_id,
                    attempt=entry.opened.attempt,
                    opened_sequence=entry.sequence,
                    pins=entry.opened.pins,
                    committed=entry.committed,
                )
                for entry in entries
            ]
