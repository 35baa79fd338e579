"""Sign-in at an OpenID provider: a conforming one in a process of its own, and one that lies."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from holdfast.settings import Settings
from holdfast.testing.browser import Browser
from holdfast.testing.in_process import InProcess, Reply, in_process
from holdfast.testing.openid_provider import openid_provider, sign_in_there

USERS, OURS = "/providers/Holdfast.Backup/users", "holdfast-at-provider"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """oidc-provider-mock with the people ann and bob; its issuer."""
    with openid_provider("ann", "bob") as issuer:
        yield issuer


def settings(issuer: str, folder: Path, **more: Any) -> Settings:
    secret = folder / "secret"
    secret.write_text("our secret\n")
    return Settings(
        reserve_bytes=0, oidc_issuer=issuer, oidc_client_id=OURS, oidc_name="The Office",
        oidc_client_secret_file=str(secret), **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("external")
    with in_process(folder / "server", settings(provider, folder)) as made:
        yield made


@pytest.fixture(scope="module")
def admin(server: InProcess) -> str:
    return server.holder("Owner", server.subscription)


def make(server: InProcess, admin: str, name: str, **properties: Any) -> Reply:
    return server.call("PUT", f"{USERS}/{name}", {"properties": properties}, token=admin)


def browser(server: InProcess) -> Browser:
    def send(method: str, address: str, form: str | None, more: dict[str, str]) -> Reply:
        return server.call(method, address.removeprefix(server.url), form, headers=more)

    return Browser(send, server.url)


def start(server: InProcess) -> tuple[dict[str, Any], Browser]:
    """A program waits, and somebody is at the page that shows who asks."""
    form = urlencode({"client_id": "holdfast"})
    device = server.call("POST", "/adfs/oauth2/devicecode", form).json
    person = browser(server)
    person.open("/adfs/oauth2/deviceauth")
    assert "Sign in with The Office" in person.submit(user_code=device["user_code"])
    return device, person


def leave(person: Browser, **fields: str) -> str:
    """Press the provider's button: the second form. Where the browser goes."""
    form = {"form": person.fields["form"], **fields}
    person.post("/adfs/oauth2/external", form)
    return person.links[0]


def poll(server: InProcess, device: dict[str, Any]) -> Reply:
    form = {"grant_type": DEVICE, "client_id": "holdfast", "device_code": device["device_code"]}
    return server.call("POST", "/adfs/oauth2/token", urlencode(form))


def sign_in(server: InProcess, sub: str) -> tuple[str, Reply]:
    """All of it by device code; the last page's text and the program's answer."""
    device, person = start(server)
    back = sign_in_there(leave(person, user_code=device["user_code"]), sub)
    return person.open(back), poll(server, device)


def test_an_account_is_linked_at_the_first_sign_in(server: InProcess, admin: str) -> None:
    assert make(server, admin, "ann", external=True).status == 201
    told, answer = sign_in(server, "ann-1")
    assert "goes on as ann" in told
    assert server.call("GET", "/tenants", token=answer.json["access_token"]).status == 200
    shown = server.call("GET", f"{USERS}/ann", token=admin).json["properties"]
    assert shown["provider"]["subject"] == "ann-1"
    assert not shown["hasPassword"]
    told, _ = sign_in(server, "ann-1")
    assert "goes on as ann" in told, "by the subject from now on"
    rows = server.call("GET", "/providers/Holdfast.Backup/audit", token=admin).json["value"]
    signed = [one["properties"] for one in rows if one["properties"]["operation"] == "SIGN-IN"]
    assert signed[0]["details"] == {"way": "provider"}


def test_nobody_gets_in_without_an_account_made_for_them(server: InProcess, admin: str) -> None:
    """Not by a name that is somebody else's here, nor by one linked to another subject."""
    told, answer = sign_in(server, "stranger")
    assert "of the provider" in told
    assert answer.json["error"] == "authorization_pending"
    assert make(server, admin, "bob", password="correct horse battery").status == 201
    told, answer = sign_in(server, "bob-1")
    assert "nobody here is bob of the provider" in told.lower()
    server.call("DELETE", f"{USERS}/bob", token=admin)
    assert make(server, admin, "bob", provider={"subject": "bob-2"}).status == 201
    told, _ = sign_in(server, "bob-1")
    assert "nobody here is bob" in told.lower()
    server.call("DELETE", f"{USERS}/bob", token=admin)
    assert make(server, admin, "robert", provider={"subject": "bob-1"}).status == 201
    told, _ = sign_in(server, "bob-1")
    assert "goes on as robert" in told


def test_a_password_does_not_open_such_an_account(server: InProcess, admin: str) -> None:
    make(server, admin, "eve", external=True)
    for password in ("", "correct horse battery"):
        form = {"grant_type": "password", "client_id": "x", "username": "eve", "password": password}
        answer = server.call("POST", "/adfs/oauth2/token", urlencode(form))
        assert answer.json["error"] == "invalid_grant"


def test_passwords_and_second_factors_of_such_an_account_are_the_providers(
    server: InProcess, admin: str
) -> None:
    """Asking for a code here would ask nobody for it: the provider lets them in."""
    make(server, admin, "ian", external=True)
    body = {"properties": {"password": "correct horse battery"}}
    for change in ("setPassword", "enableTotp"):
        refused = server.call("POST", f"{USERS}/ian/{change}", body, token=admin)
        assert (refused.status, refused.code) == (409, "ProviderSignsIn")


def test_sign_ins_that_lead_nowhere_are_not_begun(server: InProcess) -> None:
    """Each is a row for a quarter of an hour, and anybody may ask for one."""
    _, person = start(server)
    for fields in ({"user_code": "BCDF-GHJK"}, {"user_code": "", "query": "client_id=az"}):
        assert "cannot go on" in person.post(
            "/adfs/oauth2/external", {"form": person.fields["form"], **fields}
        )
        person.open("/adfs/oauth2/deviceauth")


def test_it_ends_in_the_browser_it_started_in(server: InProcess, admin: str) -> None:
    make(server, admin, "fay", provider={"subject": "fay-1"})
    device, person = start(server)
    back = sign_in_there(leave(person, user_code=device["user_code"]), "fay-1")
    assert "cannot go on" in browser(server).open(back), "somebody else's browser"
    assert "goes on as fay" in person.open(back)
    assert "cannot go on" in person.open(back), "works once"
    lured = browser(server)
    lured.post("/adfs/oauth2/external", {"user_code": device["user_code"]})
    assert lured.links == [], "no other site's form starts it"


def test_the_browser_of_the_same_machine_by_the_provider(server: InProcess, admin: str) -> None:
    make(server, admin, "gus", provider={"subject": "gus-1"})
    verifier = "v" * 43
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode()
    query = urlencode({
        "client_id": "az", "response_type": "code", "redirect_uri": "http://localhost:8400/",
        "code_challenge": hashed.rstrip("="), "code_challenge_method": "S256", "state": "a b&c",
    })  # fmt: skip
    person = browser(server)
    person.open(f"/adfs/oauth2/authorize?{query}")
    person.open(sign_in_there(leave(person, query=person.fields["query"]), "gus-1"))
    brought = parse_qs(urlsplit(person.location).query)
    assert brought["state"] == ["a b&c"]
    form = {
        "grant_type": "authorization_code", "client_id": "az", "code": brought["code"][0],
        "redirect_uri": "http://localhost:8400/", "code_verifier": verifier,
    }  # fmt: skip
    answer = server.call("POST", "/adfs/oauth2/token", urlencode(form))
    claims = jwt.decode(answer.json["id_token"], options={"verify_signature": False})
    assert claims["upn"] == "gus"


# a provider that lies


class Liar:
    """Answers the code with whatever id token a test made; checks PKCE as a provider must."""

    def __init__(self) -> None:
        self.rsa, self.stranger = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.asked: dict[str, str] = {}
        self.claims: dict[str, Any] = {}
        self.key, self.algorithm, self.kid = self.rsa, "RS256", "one"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, path: str, body: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys"}  # fmt: skip
        if path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key()))
            return {"keys": [key | {"kid": "one", "use": "sig", "alg": "RS256"}]}
        form = {key: one[0] for key, one in parse_qs(body).items()}
        hashed = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).decode().rstrip("=")
        assert challenge == self.asked["code_challenge"]
        return {"id_token": self.token()}

    def token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": OURS, "sub": "liz-1", "nonce": self.asked["nonce"],
                  "iat": now, "exp": now + 60, "preferred_username": "liz"}  # fmt: skip
        kept = {key: one for key, one in (claims | self.claims).items() if one is not None}
        return jwt.encode(kept, self.key, self.algorithm, headers={"kid": self.kid})


def _handler(liar: Liar) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            data = json.dumps(liar.answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    made = Liar()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def trusting(liar: Liar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("liar")
    with in_process(folder / "server", settings(liar.issuer, folder)) as made:
        owner = made.holder("Owner", made.subscription)
        assert make(made, owner, "liz", provider={"subject": "liz-1"}).status == 201
        yield made


NOW = int(time.time())
LIES: dict[str, dict[str, Any]] = {
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "for another client": {"claims": {"aud": "another"}},
    "for several, not saying whom": {"claims": {"aud": [OURS, "another"]}},
    "asked for by another": {"claims": {"azp": "another"}},
    "another sign-in": {"claims": {"nonce": "old"}},
    "no nonce": {"claims": {"nonce": None}},
    "over": {"claims": {"exp": NOW - 3600, "iat": NOW - 3660}},
    "old": {"claims": {"iat": NOW - 7200}},
    "endless": {"claims": {"exp": None}},
    "nobody": {"claims": {"sub": None}},
    "in letters no text of ours has": {"claims": {"nonce": "ü"}},
    "signed by a stranger": {"stranger": True},
    "signed by an unknown key": {"kid": "two"},
    "not signed": {"key": None, "algorithm": "none"},
    "signed by what is no secret": {"key": "a text that everybody may know, long enough",
                                    "algorithm": "HS256"},
}  # fmt: skip


def told_by(trusting: InProcess, liar: Liar, **lie: Any) -> str:
    """The last page of a sign-in in which the provider told ``lie``."""
    liar.claims, liar.kid = lie.get("claims", {}), lie.get("kid", "one")
    liar.key = lie.get("key", liar.stranger if lie.get("stranger") else liar.rsa)
    liar.algorithm = lie.get("algorithm", "RS256")
    device, person = start(trusting)
    address = leave(person, user_code=device["user_code"])
    liar.asked = {key: one[0] for key, one in parse_qs(urlsplit(address).query).items()}
    return person.open(
        f"/adfs/oauth2/callback?{urlencode({'state': liar.asked['state'], 'code': 'c'})}"
    )


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_is_not_for_this_sign_in(
    trusting: InProcess, liar: Liar, lie: str
) -> None:
    assert "id token is not" in told_by(trusting, liar, **LIES[lie])


def test_the_truth_is_believed(trusting: InProcess, liar: Liar) -> None:
    assert "goes on as liz" in told_by(trusting, liar)
    both = {"aud": [OURS, "another"], "azp": OURS}
    assert "goes on as liz" in told_by(trusting, liar, claims=both)
