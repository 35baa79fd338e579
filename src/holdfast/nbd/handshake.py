"""The client's side of the handshake: fixed newstyle, structured replies, contexts, GO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from holdfast.nbd import wire
from holdfast.nbd.failures import NbdProtocolError, NbdRefusedError, printable
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import BlockSizes, ExportFlag, Option, OptionReply, WireError

MAX_REPLIES = 64  # to one option
CHECK_SERVER = "check that the address is that of the program that serves the disk"


@dataclass(frozen=True, slots=True)
class Terms:
    """What client and server agreed on. ``contexts``: name of each granted context by its id."""

    size: int
    flags: int
    sizes: BlockSizes
    structured: bool
    contexts: Mapping[int, str]

    @property
    def read_only(self) -> bool:
        return bool(self.flags & ExportFlag.READ_ONLY)


def shake_hands(stream: Stream, where: str, export: str, contexts: Sequence[str]) -> Terms:
    """Agree on ``export``. Contexts the server does not have are not granted, and that is no
    error. NbdRefusedError, NbdProtocolError; ConnectionError and TimeoutError of the stream."""
    try:
        return _Handshake(stream, where, export.encode()).run(contexts)
    except WireError as error:
        raise NbdProtocolError(
            f"{where} answers the handshake wrongly: {error}", hint=CHECK_SERVER
        ) from error


class _Handshake:
    def __init__(self, stream: Stream, where: str, export: bytes) -> None:
        self._stream = stream
        self._where = where
        self._export = export

    def run(self, contexts: Sequence[str]) -> Terms:
        offered = wire.parse_greeting(self._stream.receive(wire.GREETING.size))
        wanted = wire.HandshakeFlag.FIXED_NEWSTYLE | wire.HandshakeFlag.NO_ZEROES
        self._stream.send(wire.CLIENT_FLAGS.pack(offered & wanted))
        structured = self._ask_structured()
        granted = self._ask_contexts(contexts) if structured and contexts else {}
        (size, flags), sizes = self._go()
        if not flags & ExportFlag.HAS_FLAGS:
            flags = 0
        return Terms(size, flags, sizes, structured, granted)

    def _ask_structured(self) -> bool:
        self._stream.send(wire.pack_option(Option.STRUCTURED_REPLY))
        kind, _ = self._reply(Option.STRUCTURED_REPLY)
        return kind == OptionReply.ACK

    def _ask_contexts(self, contexts: Sequence[str]) -> dict[int, str]:
        query = wire.pack_meta_query(self._export, [name.encode() for name in contexts])
        granted: dict[int, str] = {}
        self._stream.send(wire.pack_option(Option.SET_META_CONTEXT, query))
        for kind, data in self._replies(Option.SET_META_CONTEXT):
            if kind == OptionReply.ERR_UNSUP:
                return {}
            self._check(kind, data, OptionReply.META_CONTEXT)
            number, name = wire.parse_meta_context(data)
            if name not in contexts or number in granted or name in granted.values():
                raise WireError(f"it grants a context nobody asked for: {printable(data[4:])}")
            granted[number] = name
        return granted

    def _go(self) -> tuple[tuple[int, int], BlockSizes]:
        about, sizes = None, BlockSizes()
        request = wire.pack_go(self._export, [wire.Info.BLOCK_SIZE])
        self._stream.send(wire.pack_option(Option.GO, request))
        for kind, data in self._replies(Option.GO):
            self._check(kind, data, OptionReply.INFO)
            found = wire.parse_info(data)
            if isinstance(found, BlockSizes):
                sizes = found
            elif found is not None:
                about = found
        if about is None:
            raise WireError("it does not tell the export's size")
        return about, sizes

    def _replies(self, option: int) -> Iterator[tuple[int, bytes]]:
        """Everything before the ACK; an error is the last one."""
        for _ in range(MAX_REPLIES):
            kind, data = self._reply(option)
            if kind == OptionReply.ACK:
                return
            yield kind, data
            if kind & wire.ERROR_BIT:
                return
        raise WireError("it replies to an option without end")

    def _reply(self, option: int) -> tuple[int, bytes]:
        head = self._stream.receive(wire.OPTION_REPLY.size)
        kind, length = wire.parse_option_reply(head, option)
        return kind, self._stream.receive(length)

    def _check(self, kind: int, data: bytes, awaited: OptionReply) -> None:
        if kind == awaited:
            return
        if not kind & wire.ERROR_BIT:
            raise WireError(f"a reply of type {kind}")
        export = printable(self._export)
        said = f" ({printable(data)})" if data else ""
        if kind == OptionReply.ERR_UNKNOWN:
            raise NbdRefusedError(
                f"{self._where} serves no disk named '{export}'{said}",
                code="NbdExportMissing",
                hint="check the name of the export; the server may have stopped serving it",
            )
        if kind == OptionReply.ERR_TLS_REQD:
            raise NbdRefusedError(
                f"{self._where} wants TLS",
                code="NbdNeedsTls",
                hint="serve the disk on a socket file in a private folder, without TLS",
            )
        reason = kind - wire.ERROR_BIT
        raise NbdRefusedError(
            f"{self._where} refuses to serve '{export}' (reason {reason}){said}",
            code="NbdRefused",
            hint="see the log of the program that serves the disk",
        )
