"""Alerts by mail: SMTP with STARTTLS or TLS from the start."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any, Literal

from holdfast.adapters.messages import not_sent

SECONDS = 20.0
LINE_CHARS = 76  # of an encoded header, and what fits into one line as it is
NAME_CHARS = 200  # of a name in a subject; the text has all of it
Security = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True)
class MailServer:
    """``ca_file``: who signed its certificate; "" for the machine's own list."""

    host: str
    port: int
    security: Security
    sender: str
    username: str = ""
    password: str = ""
    ca_file: str = ""


class MailChannel:
    """One connection per message: alerts are few."""

    name = "email"
    shared = True

    def __init__(self, server: MailServer) -> None:
        self._server = server

    def send(self, target: str, key: str, at: datetime, message: Mapping[str, Any]) -> None:
        mail = compose(self._server.sender, target, key, at, message)
        where = f"mail server {self._server.host}:{self._server.port}"
        try:
            with self._connect() as smtp:
                if self._server.username:
                    smtp.login(self._server.username, self._server.password)
                smtp.send_message(mail, self._server.sender, [target])
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            why = f"{code} {said.decode(errors='replace')}"
            raise not_sent(where, why, "ReceiverRefused") from error
        except smtplib.SMTPResponseException as error:
            text = error.smtp_error
            shown = text.decode(errors="replace") if isinstance(text, bytes) else text
            raise not_sent(where, f"{error.smtp_code} {shown}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise not_sent(where, error or type(error).__name__) from error

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        if server.security == "tls":
            return smtplib.SMTP_SSL(
                server.host, server.port, "localhost", timeout=SECONDS, context=self._context()
            )
        smtp = smtplib.SMTP(server.host, server.port, "localhost", timeout=SECONDS)
        try:
            if server.security == "starttls":
                smtp.starttls(context=self._context())
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._server.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class _Whole(EmailPolicy):
    """Subjects arrive as they were written. The library's own folding of them loses blanks between
    the words it encodes, and may put nothing into the first line."""

    def fold(self, name: str, value: str) -> str:
        if name.lower() != "subject":
            return str(super().fold(name, value))
        short = len(f"{name}: {value}") <= LINE_CHARS and value.isascii() and "=?" not in value
        shown = value if short else self._encoded(name, value)
        return f"{name}: {shown}{self.linesep}"

    def fold_binary(self, name: str, value: str) -> bytes:
        if name.lower() != "subject":
            return super().fold_binary(name, value)
        return self.fold(name, value).encode("ascii")

    def _encoded(self, name: str, value: str) -> str:
        """All of it, so that no blank is a border's."""
        return Header(str(value), "utf-8", LINE_CHARS, header_name=name).encode(
            linesep=self.linesep
        )


def compose(
    sender: str, target: str, key: str, at: datetime, message: Mapping[str, Any]
) -> EmailMessage:
    """The mail. Names of items may hold anything; nothing of them ends a header."""
    over = message["event"] == "resolved"
    head = f"{'Resolved' if over else message['severity']}: {message['title']}"
    mail = EmailMessage(policy=_Whole())
    subject = f"[Holdfast] {head}: {_name(message)} ({message['vault']})"
    # a header is decoded when it is set, and a name may look encoded
    mail["Subject"] = Header(subject, "utf-8").encode(maxlinelen=0)
    mail["From"] = sender
    mail["To"] = target
    mail["Date"] = at
    mail["Message-ID"] = f"<{key}@holdfast.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Holdfast-Alert"] = str(message["alertId"])
    mail.set_content(_text(message))
    return mail


def _text(message: Mapping[str, Any]) -> str:
    over = message["event"] == "resolved"
    lines = [
        f"{message['title']}: {_line(str(message['subject']))}",
        "",
        ("resolved: " if over else "") + _line(str(message["message"])),
    ]
    if message["hint"]:
        lines += ["", f"What to do: {_line(str(message['hint']))}"]
    lines += [
        "",
        f"vault: {message['vault']} (resource group {message['resourceGroup']})",
        f"severity: {message['severity']}, rule: {message['rule']}",
        f"fired at: {message['firedAt']}",
    ]
    lines += [f"resolved at: {message['at']}"] if over else []
    lines += [f"alert: holdfast alert show {message['alertId']}"]
    return "\n".join(lines) + "\n"


def _name(message: Mapping[str, Any]) -> str:
    name = _line(str(message["subject"]))
    return name if len(name) <= NAME_CHARS else f"{name[: NAME_CHARS - 1]}…"


def _line(text: str) -> str:
    """One line of printable text."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)[:4000]
