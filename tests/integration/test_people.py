"""People: accounts, passwords, codes of authenticator apps, sessions, and the pages to sign in."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from holdfast.identity import passwords
from holdfast.testing.browser import Browser
from holdfast.testing.in_process import InProcess, Reply, in_process

USERS = "/providers/Holdfast.Backup/users"
TOKEN, DEVICE = "/adfs/oauth2/token", "/adfs/oauth2/devicecode"
PASSWORD, OTHER = "correct horse battery", "staple gun paper clip"
REAL = passwords._HASHER
AZ = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"


class MovedClock:
    """A clock the test moves; both kinds of time go together."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self._began = self.at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - self._began).total_seconds()

    def pass_time(self, **length: float) -> None:
        self.at += timedelta(**length)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(scope="module")
def made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of a server that was started once."""
    folder = tmp_path_factory.mktemp("people") / "server"
    with in_process(folder):
        return folder


@pytest.fixture
def server(
    tmp_path: Path, made_before: Path, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InProcess]:
    """Passwords are hashed quickly here; one test is about the costs."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(1, 64, 1))
    shutil.copytree(made_before, tmp_path / "server")
    with in_process(tmp_path / "server", clock=clock) as made:
        yield made


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, made_before: Path) -> Iterator[InProcess]:
    """One for all tests that only ask for what is refused; ann is there."""
    folder = tmp_path_factory.mktemp("steady") / "server"
    shutil.copytree(made_before, folder)
    with pytest.MonkeyPatch.context() as patch, in_process(folder, clock=MovedClock()) as made:
        patch.setattr(passwords, "_HASHER", PasswordHasher(1, 64, 1))
        make(made, made.holder("Owner", made.subscription))
        yield made


@pytest.fixture
def admin(server: InProcess) -> str:
    return server.holder("Owner", server.subscription)


def make(server: InProcess, admin: str, name: str = "ann", **more: Any) -> dict[str, Any]:
    body = {"properties": {"password": PASSWORD, **more}}
    made = server.call("PUT", f"{USERS}/{name}", body, token=admin)
    assert made.status == 201, made.content
    found: dict[str, Any] = made.json["properties"]
    return found


@pytest.fixture
def ann(server: InProcess, admin: str) -> dict[str, Any]:
    """Somebody with a password and no role."""
    return make(server, admin)


def ask(server: InProcess, grant: str, **fields: str) -> Reply:
    form = {"grant_type": grant, "client_id": AZ, **fields}
    return server.call("POST", TOKEN, urlencode(form))


def log_in(server: InProcess, name: str = "ann", password: str = PASSWORD, **more: str) -> Reply:
    return ask(server, "password", username=name, password=password, **more)


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, str(reply.json["error"])


WRONG = (400, "invalid_grant")


def test_a_person_signs_in_and_has_the_roles_they_were_given(
    server: InProcess, admin: str, ann: dict[str, Any]
) -> None:
    answer = log_in(server).json
    token = answer["access_token"]
    assert server.call("GET", "/subscriptions", token=token).json == {"value": []}
    role = {"properties": {"roleDefinitionId": "Backup Reader", "principalId": "ANN"}}
    address = (
        f"{server.subscription}/providers/Microsoft.Authorization/roleAssignments/"
        "11111111-1111-4111-8111-111111111111"
    )
    made = server.call("PUT", address, role, token=admin).json["properties"]
    assert (made["principalId"], made["principalType"]) == (ann["principalId"], "User")
    assert len(server.call("GET", "/subscriptions", token=token).json["value"]) == 1
    assert server.call("GET", USERS, token=token).code == "AuthorizationFailed"


def test_what_programs_learn_of_a_person(server: InProcess, ann: dict[str, Any]) -> None:
    """As az and MSAL read it: who signed in, the same each time, signed by the published key."""
    answer = log_in(server).json
    keys = server.call("GET", "/adfs/discovery/keys").json
    key = jwt.PyJWKSet.from_dict(keys).keys[0]
    claims = jwt.decode(
        answer["id_token"], key, algorithms=["EdDSA"], audience=AZ,
        issuer="https://localhost/adfs", options={"verify_exp": False},
    )  # fmt: skip
    assert (claims["oid"], claims["upn"]) == (ann["principalId"], "ann")
    padded = answer["client_info"] + "=" * (-len(answer["client_info"]) % 4)
    assert base64.urlsafe_b64decode(padded).decode().count(ann["principalId"]) == 1
    assert log_in(server).json["client_info"] == answer["client_info"]
    assert server.call("GET", "/tenants", token=answer["id_token"]).status == 401, "opens nothing"


def test_who_is_there_cannot_be_told_from_failures(
    server: InProcess, admin: str, ann: dict[str, Any]
) -> None:
    make(server, admin, "gone")
    server.call("DELETE", f"{USERS}/gone", token=admin)
    made = server.call("PUT", "/providers/Holdfast.Backup/clients/robot", token=admin)
    robot = made.json["properties"]["credentials"]
    answers = [
        log_in(server, "ann", "wrong"), log_in(server, "nobody", PASSWORD),
        log_in(server, "gone"), log_in(server, robot["client_id"], robot["client_secret"]),
        log_in(server, ann["principalId"]), log_in(server, "", ""), log_in(server, "ann", ""),
        log_in(server, "ann", "x" * 5000),
    ]  # fmt: skip
    assert {(one.status, one.content) for one in answers} == {(400, answers[0].content)}, (
        "one answer for all"
    )
    secret = ask(server, "client_credentials", client_id=ann["principalId"], client_secret=PASSWORD)
    assert error(secret) == (401, "invalid_client")


def test_guessing_is_slow_for_strangers_and_locks_nobody_out(
    server: InProcess, clock: MovedClock, ann: dict[str, Any]
) -> None:
    accounts = server.parts.platform.people.accounts
    assert log_in(server).status == 200
    for _ in range(10):
        assert error(log_in(server, password="guess")) == WRONG
    assert log_in(server).status == 429, "ten failures a minute from one address"
    assert log_in(server, "nobody", "guess").status == 400, "others go on"
    clock.pass_time(seconds=61)
    assert log_in(server).status == 200
    for number in range(30):
        accounts.attempts.failed("ann", f"10.0.0.{number}")
    with pytest.raises(Exception, match="too many"):
        accounts.attempts.check("ann", "10.0.1.1")
    assert log_in(server).status == 200, "from where she signed in before she still may"
    clock.pass_time(minutes=16)
    accounts.attempts.check("ann", "10.0.1.1")


def code_of(secret: str, at: datetime) -> str:
    """What an authenticator app shows."""
    maker = TOTP(base64.b32decode(secret), 6, SHA1(), 30, enforce_key_length=False)
    return maker.generate(int(at.timestamp())).decode()


@pytest.fixture
def secret(server: InProcess, admin: str, ann: dict[str, Any]) -> str:
    """Ann's authenticator app."""
    body = server.call("POST", f"{USERS}/ann/enableTotp", token=admin).json
    found: str = body["properties"]["totp"]["secret"]
    assert f"secret={found}" in body["properties"]["totp"]["address"]
    listed = server.call("GET", f"{USERS}/ann", token=admin)
    assert listed.json["properties"]["hasTotp"] is True
    assert found.encode() not in listed.content
    return found


def test_a_code_counts_once_and_for_a_minute(
    server: InProcess, clock: MovedClock, secret: str
) -> None:
    assert error(log_in(server)) == (400, "interaction_required")
    assert error(log_in(server, password="wrong")) == WRONG, "a code is asked of the right only"
    code = code_of(secret, clock.at)
    assert log_in(server, totp=code).status == 200
    assert error(log_in(server, totp=code)) == WRONG, "seen over her shoulder"
    early = code_of(secret, clock.at + timedelta(seconds=30))
    assert log_in(server, totp=f"{early[:3]} {early[3:]}").status == 200, "her clock is ahead"
    clock.pass_time(minutes=5)
    old = code_of(secret, clock.at - timedelta(minutes=2))
    assert error(log_in(server, totp=old)) == WRONG


def test_wrong_codes_lock_the_account(
    server: InProcess, admin: str, clock: MovedClock, secret: str
) -> None:
    right = code_of(secret, clock.at)
    wrong = f"{(int(right) + 1) % 1_000_000:06}"
    for _ in range(5):
        assert error(log_in(server, totp=wrong)) == WRONG
    clock.pass_time(minutes=2)
    assert error(log_in(server, totp=code_of(secret, clock.at))) == (429, "AccountLocked")
    server.call("POST", f"{USERS}/ann/unlock", token=admin)
    assert log_in(server, totp=code_of(secret, clock.at)).status == 200
    server.call("POST", f"{USERS}/ann/disableTotp", token=admin)
    assert log_in(server).status == 200


@pytest.mark.parametrize("change", ["setPassword", "endSessions", "enableTotp", "delete"])
def test_every_token_ends_when_an_account_changes(
    server: InProcess, admin: str, ann: dict[str, Any], change: str
) -> None:
    answer = log_in(server).json
    assert server.call("GET", "/tenants", token=answer["access_token"]).status == 200
    if change == "delete":
        assert server.call("DELETE", f"{USERS}/ann", token=admin).status == 200
    else:
        body = {"properties": {"password": OTHER}}
        assert server.call("POST", f"{USERS}/ann/{change}", body, token=admin).status == 200
    assert server.call("GET", "/tenants", token=answer["access_token"]).status == 401
    assert error(ask(server, "refresh_token", refresh_token=answer["refresh_token"])) == WRONG
    expected = {"setPassword": 400, "endSessions": 200, "enableTotp": 400, "delete": 400}
    assert log_in(server).status == expected[change]
    if change == "delete":
        assert make(server, admin)["principalId"] != ann["principalId"], "the name is free again"


def test_a_person_changes_their_own_password(
    server: InProcess, admin: str, ann: dict[str, Any]
) -> None:
    token = log_in(server).json["access_token"]
    address = "/providers/Holdfast.Backup/changePassword"

    def change(old: str, new: str) -> Reply:
        return server.call("POST", address, {"properties": {"old": old, "new": new}}, token=token)

    assert change("wrong", OTHER).code == "WrongPassword"
    assert change(PASSWORD, "short").code == "PasswordTooWeak"
    assert change(PASSWORD, OTHER).status == 200
    assert error(log_in(server)) == WRONG
    assert log_in(server, password=OTHER).status == 200
    wrong = {"properties": {"old": "x", "new": OTHER}}
    assert server.call("POST", address, wrong, token=admin).status == 404, "a client has none"


def test_refresh_tokens_change_and_a_stolen_one_ends_the_session(
    server: InProcess, clock: MovedClock, ann: dict[str, Any]
) -> None:
    def follow(token: str, **more: str) -> Reply:
        return ask(server, "refresh_token", refresh_token=token, **more)

    first = log_in(server).json["refresh_token"]
    second = follow(first).json["refresh_token"]
    assert second != first
    assert follow(first).status == 200, "two programs at the same moment"
    clock.pass_time(minutes=2)
    third = follow(second).json["refresh_token"]
    assert error(follow(first)) == WRONG, "an old one: somebody has a copy"
    assert error(follow(third)) == WRONG, "so nobody goes on"
    other = log_in(server).json["refresh_token"]
    assert error(follow(other, client_id="another program")) == WRONG
    kept = log_in(server).json["refresh_token"]
    clock.pass_time(days=29)
    kept = follow(kept).json["refresh_token"]
    clock.pass_time(days=31)
    assert error(follow(kept)) == WRONG, "not used for a month"
    ended = log_in(server).json["refresh_token"]
    assert server.call("POST", "/adfs/oauth2/revoke", urlencode({"token": ended})).status == 200
    assert error(follow(ended)) == WRONG
    stored = (server.parts.platform.data / "catalog.sqlite").read_bytes()
    assert ended.encode() not in stored
    assert PASSWORD.encode() not in stored


@pytest.mark.parametrize(
    ("name", "properties", "code"),
    [
        ("bob", {"password": "short"}, "PasswordTooWeak"),
        ("bob", {"password": "a" * 40}, "PasswordTooWeak"),
        ("bob", {}, "InvalidRequestContent"),
        ("bob", {"external": True}, "ProviderMissing"),
        ("b ob", {"password": PASSWORD}, "InvalidName"),
        ("ANN", {"password": PASSWORD}, "UserExists"),
    ],
)
def test_accounts_that_are_refused(
    steady: InProcess, name: str, properties: dict[str, Any], code: str
) -> None:
    path, owner = f"{USERS}/{name}", steady.holder("Owner", steady.subscription)
    assert steady.call("PUT", path, {"properties": properties}, token=owner).code == code


def test_sign_ins_are_in_the_audit_record(
    server: InProcess, admin: str, ann: dict[str, Any]
) -> None:
    log_in(server, password="wrong")
    log_in(server, "nobody", "wrong")
    log_in(server)
    rows = server.call("GET", "/providers/Holdfast.Backup/audit", token=admin).json["value"]
    found = [one["properties"] for one in rows if one["properties"]["operation"] == "SIGN-IN"]
    assert [(one["principalName"], one["status"], one["resultCode"]) for one in found] == [
        ("ann", 200, ""), ("ann", 401, "invalid_grant")
    ]  # fmt: skip
    assert {one["clientAddress"] for one in found} == {"127.0.0.1"}


# device code


def browser(server: InProcess, origin: str = "https://localhost") -> Browser:
    def send(method: str, address: str, form: str | None, more: dict[str, str]) -> Reply:
        path = address.removeprefix(server.url)
        return server.call(method, path, form, headers=more)

    return Browser(send, origin)


def start(server: InProcess) -> dict[str, Any]:
    answer = server.call("POST", DEVICE, urlencode({"client_id": AZ, "scope": "openid"}))
    found: dict[str, Any] = answer.json
    assert found["user_code"] in found["message"]
    return found


def poll(server: InProcess, device: dict[str, Any], **more: str) -> Reply:
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    return ask(server, grant, device_code=device["device_code"], **more)


def test_signing_in_by_device_code(
    server: InProcess, clock: MovedClock, ann: dict[str, Any]
) -> None:
    device = start(server)
    assert error(poll(server, device)) == (400, "authorization_pending")
    assert error(poll(server, device)) == (400, "slow_down")
    clock.pass_time(seconds=2)
    person = browser(server)
    person.open(device["verification_uri"])
    shown = person.submit(user_code=device["user_code"].lower())
    assert "Azure CLI" in shown and "127.0.0.1" in shown, "who asks"
    assert error(poll(server, device)) == (400, "authorization_pending"), "a code alone is nothing"
    refused = person.submit("allow", username="ann", password="wrong")
    assert "is wrong" in refused and person.fields["password"] == ""
    assert "goes on as ann" in person.submit("allow", username="ann", password=PASSWORD)
    clock.pass_time(seconds=2)
    assert error(poll(server, device, client_id="another")) == (400, "expired_token")
    answer = poll(server, device)
    assert server.call("GET", "/tenants", token=answer.json["access_token"]).status == 200
    assert error(poll(server, device)) == (400, "expired_token"), "works once"
    person.open(device["verification_uri"])
    assert "no sign-in of that code" in person.submit(user_code=device["user_code"])


def test_a_device_code_can_be_refused_and_ends(
    server: InProcess, clock: MovedClock, ann: dict[str, Any]
) -> None:
    device, person = start(server), browser(server)
    person.open(f"/adfs/oauth2/deviceauth?user_code={device['user_code']}")
    assert person.fields["user_code"] == device["user_code"]
    person.submit()
    assert "not let in" in person.submit("deny")
    assert error(poll(server, device)) == (400, "access_denied")
    device = start(server)
    clock.pass_time(minutes=16)
    assert error(poll(server, device)) == (400, "expired_token")
    person.open("/adfs/oauth2/deviceauth")
    assert "no sign-in of that code" in person.submit(user_code=device["user_code"])


def test_a_device_code_asks_for_the_second_factor(
    server: InProcess, clock: MovedClock, secret: str
) -> None:
    device, person = start(server), browser(server)
    person.open("/adfs/oauth2/deviceauth")
    person.submit(user_code=device["user_code"])
    told = person.submit("allow", username="ann", password=PASSWORD)
    assert "needs a code" in told and "az login" not in told
    code = code_of(secret, clock.at)
    assert "goes on as ann" in person.submit("allow", password=PASSWORD, totp=code)
    assert poll(server, device).status == 200


def test_pages_take_a_person_by_the_hand(server: InProcess, ann: dict[str, Any]) -> None:
    """Each step has an address, so that the browser's way back sends no form again; the focus is
    where one goes on, with what went wrong; refusing needs no field."""
    device, person = start(server), browser(server)
    person.open("/adfs/oauth2/deviceauth")
    form = {"form": person.fields["form"], "user_code": device["user_code"].lower()}
    person.post("/adfs/oauth2/deviceauth", form)
    there = f"/adfs/oauth2/deviceauth?user_code={device['user_code']}"
    assert (person.answer.status, person.location) == (303, there)
    assert device["user_code"] in person.open(there), "to be compared with the program's"
    assert b'<input autofocus aria-describedby="told" name="username"' in person.answer.content
    assert b'value="deny" formnovalidate' in person.answer.content
    told = person.submit("allow", username="ann", password="wrong")
    assert "is wrong. Check them" in told
    assert b'role="alert" id="told"' in person.answer.content
    assert b'<input autofocus aria-describedby="told" name="password"' in person.answer.content


def test_forms_of_other_sites_are_refused(server: InProcess, ann: dict[str, Any]) -> None:
    device, told = start(server), "did not come from this server"
    person = browser(server)
    person.open("/adfs/oauth2/deviceauth")
    person.submit(user_code=device["user_code"])
    person.cookies.clear()
    assert told in person.submit("allow", username="ann", password=PASSWORD)
    other = browser(server, origin="https://evil.example")
    other.open("/adfs/oauth2/deviceauth")
    assert told in other.submit(
        user_code=device["user_code"], decision="allow", username="ann", password=PASSWORD
    )
    assert error(poll(server, device)) == (400, "authorization_pending")


def test_pages_are_sent_under_strict_headers(steady: InProcess) -> None:
    person = browser(steady)
    person.open("/adfs/oauth2/deviceauth?user_code=%22%3E%3Cscript%3E")
    headers = person.answer.headers
    assert b"<script" not in person.answer.content
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")
    assert headers["referrer-policy"] == "same-origin"
    cookie = headers["set-cookie"].lower()
    assert cookie.startswith("__host-")
    for word in ("secure", "httponly", "samesite=strict", "path=/"):
        assert word in cookie
    assert "domain" not in cookie


# authorization code


def authorize(verifier: str, **more: str) -> str:
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode()
    fields = {
        "client_id": AZ, "response_type": "code", "redirect_uri": "http://localhost:8400/",
        "code_challenge": hashed.rstrip("="), "code_challenge_method": "S256", "state": "s 1",
        "nonce": "n1", **more,
    }  # fmt: skip
    return f"/adfs/oauth2/authorize?{urlencode(fields)}"


VERIFIER = "v" * 43


def redeem(server: InProcess, code: str, **more: str) -> Reply:
    fields = {"redirect_uri": "http://localhost:8400/", "code_verifier": VERIFIER, **more}
    return ask(server, "authorization_code", code=code, **fields)


def test_signing_in_by_a_browser_on_the_same_machine(
    server: InProcess, ann: dict[str, Any]
) -> None:
    person = browser(server)
    person.open(authorize(VERIFIER))
    assert (
        "form-action 'self' http://localhost:8400"
        in (person.answer.headers["content-security-policy"])
    )
    person.submit(username="ann", password=PASSWORD)
    query = parse_qs(urlsplit(person.location).query)
    assert person.location.startswith("http://localhost:8400/?")
    assert query["state"] == ["s 1"]
    answer = redeem(server, query["code"][0])
    claims = jwt.decode(answer.json["id_token"], options={"verify_signature": False})
    assert claims["nonce"] == "n1"
    assert error(redeem(server, query["code"][0])) == WRONG, "works once"


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 43},
        {"client_id": "another"},
        {"redirect_uri": "http://localhost:9/"},
    ],
)
def test_a_code_is_for_the_program_that_asked(steady: InProcess, wrong: dict[str, str]) -> None:
    person = browser(steady)
    person.open(authorize(VERIFIER, response_mode="form_post"))
    person.submit(username="ann", password=PASSWORD)
    assert person.action == "http://localhost:8400/"
    assert "script-src 'sha256-" in person.answer.headers["content-security-policy"]
    code = person.fields["code"]
    assert error(redeem(steady, code, **wrong)) == WRONG
    assert error(redeem(steady, code)) == WRONG, "one wrong try ends it"


@pytest.mark.parametrize(
    "more",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://localhost.evil.example/"},
        {"redirect_uri": "http://localhost@evil.example/"},
        {"redirect_uri": "http://localhost:8400/;script-src *"},
        {"redirect_uri": "javascript:alert(1)"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"response_type": "token"},
        {"client_id": ""},
    ],
)
def test_requests_that_would_send_a_code_elsewhere(steady: InProcess, more: dict[str, str]) -> None:
    person = browser(steady)
    assert "cannot go on" in person.open(authorize(VERIFIER, **more))
    assert person.answer.status == 400
    assert person.location == ""


def kept(server: InProcess) -> str:
    with server.parts.platform.catalog.read() as connection:
        (found,) = connection.exec_driver_sql("select password_hash from hf_users").scalars()
    return str(found)


def test_passwords_are_hashed_by_argon2id_with_todays_costs(
    server: InProcess, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again at the next sign-in when they were hashed with others."""
    assert kept(server).startswith("$argon2id$v=19$m=64,t=1,p=1$")
    monkeypatch.setattr(passwords, "_HASHER", REAL)
    assert log_in(server).status == 200
    assert kept(server).startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert log_in(server).status == 200
