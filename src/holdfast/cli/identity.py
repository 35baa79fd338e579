"""holdfast identity exec: lend this login to one command, as a managed identity.

The command and what it starts find an address and a secret in their environment; azure-identity's
ManagedIdentityCredential and `az login --identity` ask there for tokens. Only who has that secret
is answered: other users of the machine reach the port and get nothing.
"""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.cli.api import Api
from holdfast.cli.profile import config_dir
from holdfast.errors import HoldfastError

PATH = "/metadata/identity/oauth2/token"
SECRET_BYTES = 32
Token = Callable[[], tuple[str, float]]


@click.group()
def command() -> None:
    """Lend this login to a command, as a managed identity.

    \b
    Example:
      holdfast identity exec az login --identity
    """


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(words: tuple[str, ...]) -> int:
    """Run a command whose Azure tools log in as you, without a secret in any file.

    It ends when the command ends, with its exit code.

    \b
    Example:
      holdfast identity exec az login --identity
      holdfast identity exec python report.py
    """
    api, secret, one = Api(), SystemRandom().token(SECRET_BYTES).hex(), threading.Lock()

    def token() -> tuple[str, float]:
        with one:  # a session's refresh token is good for one use
            return api.lend_token()

    token()  # a login that has ended is told before the command starts
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(token, secret))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}{PATH}"
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": _bundle(api.profile.ca),
        "IDENTITY_ENDPOINT": address,
        "IDENTITY_HEADER": secret,
    }
    try:
        return subprocess.run(words, env=environment, check=False).returncode
    finally:
        server.shutdown()
        server.server_close()


def _bundle(ca: str) -> str:
    """The caller's own file of CAs when it holds the server's; else the server's CA alone."""
    given = os.environ.get("REQUESTS_CA_BUNDLE", "")
    with suppress(OSError, UnicodeDecodeError):
        if given and ca.strip() in Path(given).read_text():
            return given
    return str(config_dir() / "ca.pem")


def _handler(token: Token, secret: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("X-IDENTITY-HEADER") or ""
            parts = urlsplit(self.path)
            if not hmac.compare_digest(given.encode(), secret.encode()):
                self._answer(401, {"error": "unauthorized_client"})
            elif parts.path != PATH:
                self._answer(404, {"error": "not_found"})
            else:
                self._token(parse_qs(parts.query).get("resource", [""])[0])

        def _token(self, resource: str) -> None:
            try:
                access, seconds = token()
            except HoldfastError as error:
                self._answer(400, {"error": error.code, "error_description": error.message})
                return
            until = str(int(SystemClock().now().timestamp() + seconds))  # clients want a text
            self._answer(200, {"access_token": access, "expires_on": until,
                               "token_type": "Bearer", "resource": resource})  # fmt: skip

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the command's output is its own."""

    return Handler
