"""A real SMTP server in this process: STARTTLS or TLS, a login, and what it was handed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from holdfast.adapters.clock import SystemClock
from holdfast.identity.certificates import ensure_certificate
from holdfast.testing.world import free_port

USER, PASSWORD = "alerts", "a password for tests"


@dataclass
class MailBox:
    """``raw``: the bytes of what was ``taken``. ``refusing``: answers that refuse the next
    messages, in order. ``port`` stays the same over ``start`` and ``stop``."""

    port: int
    ca: Path
    taken: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refusing: list[str] = field(default_factory=list)
    _controller: Any = None
    _options: dict[str, Any] = field(default_factory=dict)

    async def handle_DATA(self, _server: Any, session: Session, envelope: Envelope) -> str:
        if self.refusing:
            return self.refusing.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        mail: Any = message_from_bytes(content, policy=default)
        self.taken.append(mail)
        self.raw.append(content)
        self.receivers += envelope.rcpt_tos
        self.encrypted.append(session.ssl is not None)
        return "250 taken"

    def start(self) -> None:
        self._controller = Controller(self, "127.0.0.1", self.port, **self._options)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.taken]


def _login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and given.password == PASSWORD.encode()
    return AuthResult(success=right and given.login == USER.encode(), handled=False)


@contextmanager
def mail_server(folder: Path, *, tls: bool = False, login: bool = False) -> Iterator[MailBox]:
    """Running; with a CA of its own. STARTTLS is demanded unless ``tls`` from the start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ensure_certificate(folder, ["127.0.0.1"], SystemClock()))
    box = MailBox(free_port(), folder / "ca.pem")
    if tls:
        box._options = {"ssl_context": context}
    else:
        box._options = {"tls_context": context, "require_starttls": True}
    if login:
        box._options |= {"authenticator": _login, "auth_required": True, "auth_require_tls": True}
    box.start()
    try:
        yield box
    finally:
        box.stop()
