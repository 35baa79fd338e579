"""A small TLS server that answers what a test tells it to: the other side of the command line."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from holdfast.adapters.clock import SystemClock
from holdfast.identity.certificates import ensure_certificate

TOKEN = "/adfs/oauth2/token"
Reply = tuple[int, Any, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: dict[str, str]


@dataclass
class Responder:
    """``replies``: "METHOD path" -> replies in order, the last one again and again."""

    url: str = ""
    ca: Path = Path()
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(
        self, what: str, body: Any = None, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Queue a reply. A text body is sent as it is."""
        self.replies.setdefault(what, []).append((status, body, headers or {}))

    def refuse(self, what: str, status: int, code: str, message: str, hint: str = "") -> None:
        """Queue an error in ARM's shape."""
        self.on(what, {"error": {"code": code, "message": message, "hint": hint}}, status)

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        queue = self.replies.get(f"{asked.method} {asked.path}")
        if not queue:
            what = f"{asked.method} {asked.path}"
            return 404, {"error": {"code": "NotPrepared", "message": what}}, {}
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def requests(self, what: str) -> list[Asked]:
        return [one for one in self.asked if f"{one.method} {one.path}" == what]


def _handler(answer: Callable[[Asked], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written apart

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            is_json = "json" in (self.headers.get("Content-Type") or "")
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                unquote(parts.path),
                parse_qs(parts.query),
                json.loads(raw) if is_json and raw else raw.decode(),
                {key.lower(): value for key, value in self.headers.items()},
            )
            status, body, headers = answer(asked)
            data = b"" if body is None else body if isinstance(body, bytes) else _encoded(body)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


def _encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@contextmanager
def responder(folder: Path) -> Iterator[Responder]:
    """A responder with its own CA (``ca``), logging everyone in with the secret "secret"."""
    found = Responder()
    pem = ensure_certificate(folder, ["127.0.0.1"], SystemClock())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def answer(asked: Asked) -> Reply:
        if asked.path != TOKEN or TOKEN in found.replies:
            return found.answer(asked)
        found.asked.append(asked)
        if "client_secret=secret" not in asked.body:
            said = {
                "code": "invalid_client",
                "message": "wrong secret",
                "hint": "ask for a new one",
            }
            return 401, {"error": "invalid_client", "holdfast": said}, {}
        number = sum(one.path == TOKEN for one in found.asked)
        return 200, {"access_token": f"token-{number}", "expires_in": 3600}, {}

    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    found.url, found.ca = f"https://127.0.0.1:{server.server_port}", folder / "ca.pem"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
