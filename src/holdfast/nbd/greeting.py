"""The server's side of the handshake."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.nbd import wire
from holdfast.nbd.exports import Export, ExportTable
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import ExportFlag, HandshakeFlag, Info, Option, OptionReply, WireError

MAX_OPTIONS = 256  # of one client
CONTEXT_ID = 1  # of base:allocation
PREFERRED_BLOCK = 64 * 1024
FLAGS = (
    ExportFlag.HAS_FLAGS
    | ExportFlag.READ_ONLY
    | ExportFlag.SEND_FLUSH
    | ExportFlag.SEND_DF
    | ExportFlag.CAN_MULTI_CONN
)
CLIENT_MAY = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a client and this server agreed on."""

    export: Export
    structured: bool
    allocation: bool


def greet(stream: Stream, exports: ExportTable, *, listed: bool) -> Agreement | None:
    """Agree on an export; None when the client leaves. ``listed``: whether clients are told which
    exports there are. WireError when it is no NBD client; OSError."""
    return _Greeting(stream, exports, listed).run()


class _Greeting:
    def __init__(self, stream: Stream, exports: ExportTable, listed: bool) -> None:
        self._stream = stream
        self._exports = exports
        self._listed = listed
        self._zeroes = True
        self._structured = False
        self._context_of: str | None = None

    def run(self) -> Agreement | None:
        greeting = (wire.GREETING_MAGIC, wire.OPTION_MAGIC, CLIENT_MAY)
        self._stream.send(wire.GREETING.pack(*greeting))
        (flags,) = wire.CLIENT_FLAGS.unpack(self._stream.receive(wire.CLIENT_FLAGS.size))
        if flags & ~int(CLIENT_MAY) or not flags & HandshakeFlag.FIXED_NEWSTYLE:
            raise WireError("the client does not speak fixed newstyle NBD")
        self._zeroes = not flags & HandshakeFlag.NO_ZEROES
        for _ in range(MAX_OPTIONS):
            option, length = wire.parse_option(self._stream.receive(wire.OPTION.size))
            if length > wire.MAX_OPTION:
                raise WireError(f"an option of {length:,} bytes")
            data = self._stream.receive(length)
            if option == Option.ABORT:
                self._reply(option, OptionReply.ACK)
                return None
            if option == Option.EXPORT_NAME:
                return self._old_way(data)
            export = self._answer(option, data)
            if export is not None:
                return self._agreed(export)
        raise WireError("options without end")

    def _answer(self, option: int, data: bytes) -> Export | None:
        """Answer one option; the export once the client chose it."""
        try:
            if option in (Option.INFO, Option.GO):
                export = self._describe(option, data)
                return export if option == Option.GO else None
            if option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
                self._contexts(option, data)
            elif option == Option.LIST:
                self._list(option, data)
            elif option == Option.STRUCTURED_REPLY:
                _check_empty(data)
                self._structured = True
                self._reply(option, OptionReply.ACK)
            else:
                self._reply(option, OptionReply.ERR_UNSUP)
        except WireError as error:
            self._reply(option, OptionReply.ERR_INVALID, str(error).encode())
        return None

    def _old_way(self, data: bytes) -> Agreement:
        """EXPORT_NAME has no reply for errors: the connection ends."""
        try:
            export = self._exports.find(data.decode())
        except UnicodeDecodeError as error:
            raise WireError("an export name is not UTF-8") from error
        if export is None:
            raise WireError("the client wants an export that is not served")
        padding = bytes(124) if self._zeroes else b""
        self._stream.send(wire.EXPORT_SIZE.pack(export.size, FLAGS), padding)
        return self._agreed(export)

    def _agreed(self, export: Export) -> Agreement:
        allocation = self._structured and self._context_of == export.name
        return Agreement(export, self._structured, allocation)

    def _describe(self, option: int, data: bytes) -> Export | None:
        name, infos = wire.parse_go(data)
        export = self._find(option, name)
        if export is None:
            return None
        about = wire.INFO_EXPORT.pack(Info.EXPORT, export.size, FLAGS)
        self._reply(option, OptionReply.INFO, about)
        if Info.DESCRIPTION in infos and export.description:
            text = Info.DESCRIPTION.to_bytes(2, "big") + export.description.encode()
            self._reply(option, OptionReply.INFO, text[: 2 + wire.MAX_NAME])
        sizes = wire.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, 1, PREFERRED_BLOCK, wire.MAX_REQUEST)
        self._reply(option, OptionReply.INFO, sizes)
        self._reply(option, OptionReply.ACK)
        return export

    def _find(self, option: int, name: str) -> Export | None:
        export = self._exports.find(name)
        if export is None:
            self._reply(option, OptionReply.ERR_UNKNOWN, b"no such export")
        return export

    def _contexts(self, option: int, data: bytes) -> None:
        name, queries = wire.parse_meta_query(data)
        setting = option == Option.SET_META_CONTEXT
        if setting:
            self._context_of = None
        if not self._structured:
            raise WireError("metadata contexts need structured replies")
        if self._find(option, name) is None:
            return
        if wire.ALLOCATION in queries or (not setting and (not queries or "base:" in queries)):
            number = CONTEXT_ID if setting else 0
            granted = wire.U32.pack(number) + wire.ALLOCATION.encode()
            self._reply(option, OptionReply.META_CONTEXT, granted)
            if setting:
                self._context_of = name
        self._reply(option, OptionReply.ACK)

    def _list(self, option: int, data: bytes) -> None:
        _check_empty(data)
        if not self._listed:
            self._reply(option, OptionReply.ERR_POLICY, b"exports are not listed here")
            return
        for export in self._exports.all():
            self._reply(option, OptionReply.SERVER, wire.pack_name(export.name.encode()))
        self._reply(option, OptionReply.ACK)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._stream.send(wire.pack_option_reply(option, kind, data))


def _check_empty(data: bytes) -> None:
    if data:
        raise WireError("an option with data it should not have")
