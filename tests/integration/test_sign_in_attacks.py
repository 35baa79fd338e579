"""What somebody may try who is not let in, or not that far: at sign-in, with tokens, with codes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from argon2 import PasswordHasher
from sqlalchemy import event

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.catalog import people
from holdfast.errors import HoldfastError
from holdfast.identity import passwords
from holdfast.identity.accounts import Origin, Person
from holdfast.identity.attempts import PersonAttempts
from holdfast.identity.sign_ins import SignIns
from holdfast.testing.browser import Browser
from holdfast.testing.in_process import InProcess, Reply, in_process

USERS, CLIENTS = "/providers/Holdfast.Backup/users", "/providers/Holdfast.Backup/clients"
TOKEN, AUTHORIZE = "/adfs/oauth2/token", "/adfs/oauth2/authorize"
DEVICE_PAGE = "/adfs/oauth2/deviceauth"
PASSWORD = "correct horse battery"
REDIRECT, VERIFIER = "http://localhost:8400/", "v" * 43
WRONG = (400, "invalid_grant")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Ann has a password and no role."""
    folder = tmp_path_factory.mktemp("attacks") / "server"
    with pytest.MonkeyPatch.context() as patch, in_process(folder) as made:
        patch.setattr(passwords, "_HASHER", PasswordHasher(1, 64, 1))
        add(made, "ann")
        yield made


@pytest.fixture(scope="module")
def admin(server: InProcess) -> str:
    return server.holder("Owner", server.subscription)


def add(server: InProcess, name: str, **more: Any) -> Reply:
    body = {"properties": {"password": PASSWORD, **more}}
    owner = server.holder("Owner", server.subscription)
    return server.call("PUT", f"{USERS}/{name}", body, token=owner)


def ask(server: InProcess, grant: str, **fields: str) -> Reply:
    form = {"grant_type": grant, "client_id": "holdfast", **fields}
    return server.call("POST", TOKEN, urlencode(form))


def log_in(server: InProcess, name: str = "ann", **more: str) -> Reply:
    return ask(server, "password", **{"username": name, "password": PASSWORD, **more})


def error(reply: Reply) -> tuple[int, str]:
    return reply.status, str(reply.json["error"])


def browser(server: InProcess) -> Browser:
    def send(method: str, address: str, form: str | None, more: dict[str, str]) -> Reply:
        return server.call(method, address.removeprefix(server.url), form, headers=more)

    return Browser(send, server.url)


def authorize(**more: str) -> str:
    hashed = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()
    fields = {
        "client_id": "holdfast", "response_type": "code", "redirect_uri": REDIRECT,
        "code_challenge": hashed.rstrip("="), "code_challenge_method": "S256", **more,
    }  # fmt: skip
    return f"{AUTHORIZE}?{urlencode(fields)}"


def test_no_letters_bring_the_sign_in_down(server: InProcess) -> None:
    """Outside of ASCII where a program would send none: refused like anything wrong."""
    person = browser(server)
    person.open(DEVICE_PAGE)
    assert "did not come from this server" in person.submit(form="ü", user_code="BCDF-GHJK")
    person.open(authorize(redirect_uri="http://localhost:8400/→"))
    assert person.answer.status == 400
    person.open(authorize(code_challenge="ü"))
    person.submit(username="ann", password=PASSWORD)
    code = parse_qs(urlsplit(person.location).query)["code"][0]
    redeemed = ask(
        server, "authorization_code", code=code, redirect_uri=REDIRECT, code_verifier=VERIFIER
    )
    assert error(redeemed) == WRONG
    cookie = {"cookie": "__Host-holdfast-provider=x"}
    back = server.call("GET", "/adfs/oauth2/callback?state=%C3%BC&code=y", headers=cookie)
    assert back.status == 401


def test_an_id_token_opens_nothing_whatever_its_program_is_called(server: InProcess) -> None:
    """It is signed by the same key, and `holdfast` is the audience of access tokens."""
    answer = log_in(server).json
    assert server.call("GET", "/tenants", token=answer["access_token"]).status == 200
    refused = server.call("GET", "/tenants", token=answer["id_token"])
    assert (refused.status, refused.code) == (401, "InvalidAuthenticationToken")


def test_a_leaked_secret_is_of_no_use_once_it_is_renewed(server: InProcess, admin: str) -> None:
    """Nor are the tokens somebody got with it."""
    path = f"{CLIENTS}/leaky"
    made = server.call("PUT", path, token=admin).json["properties"]["credentials"]

    def token(secret: str) -> str:
        grant = {"client_id": made["client_id"], "client_secret": secret}
        return str(ask(server, "client_credentials", **grant).json["access_token"])

    before = token(made["client_secret"])
    assert server.call("GET", "/tenants", token=before).status == 200
    renewed = server.call("POST", f"{path}/renewSecret", token=admin).json["properties"]
    assert server.call("GET", "/tenants", token=before).status == 401
    after = token(renewed["credentials"]["client_secret"])
    assert server.call("GET", "/tenants", token=after).status == 200


def test_the_last_owner_stays(tmp_path: Path) -> None:
    """Owners of everything, that is; and somebody whose login has ended is none."""
    with in_process(tmp_path / "server") as server:
        auth = f"{server.subscription}/providers/Microsoft.Authorization/roleAssignments"
        clients, first = [], server.holder("Owner", server.subscription)
        for number in (1, 2):
            made = server.call("PUT", f"{CLIENTS}/owner{number}", token=first)
            clients.append(made.json["properties"]["credentials"])
            role = {"roleDefinitionId": "Owner", "principalId": clients[-1]["client_id"]}
            path = f"{auth}/0000000{number}-0000-4000-8000-000000000000"
            assert server.call("PUT", path, {"properties": role}, token=first).status == 201
        one, two = (
            ask(server, "client_credentials", **only(made, "client_id", "client_secret")).json[
                "access_token"
            ]
            for made in clients
        )
        ids = {row["properties"]["principalName"]: row["name"] for row in
               server.call("GET", auth, token=one).json["value"]}  # fmt: skip
        assert server.call("DELETE", f"{CLIENTS}/administrator", token=one).status == 200
        others = [name for name in ids if name.startswith("Owner at") or name == "owner2"]
        for name in others:
            assert server.call("DELETE", f"{auth}/{ids[name]}", token=one).status == 200
        assert server.call("GET", CLIENTS, token=two).status == 403
        refused = server.call("DELETE", f"{auth}/{ids['owner1']}", token=one)
        assert (refused.status, refused.code) == (412, "CannotDeleteLastRbacAdminAssignment")
        assert server.call("GET", CLIENTS, token=one).status == 200
        role = {"roleDefinitionId": "Owner", "principalId": "owner2"}
        path = f"{auth}/00000003-0000-4000-8000-000000000000"
        assert server.call("PUT", path, {"properties": role}, token=one).status == 201
        assert server.call("DELETE", f"{auth}/{ids['owner1']}", token=one).status == 200
        assert server.call("GET", CLIENTS, token=two).status == 200


def only(body: dict[str, str], *names: str) -> dict[str, str]:
    return {name: body[name] for name in names}


def test_nobody_is_called_like_somebody_elses_id(server: InProcess, admin: str) -> None:
    """Names are looked up before ids."""
    ann = server.call("GET", f"{USERS}/ann", token=admin).json["properties"]["principalId"]
    assert add(server, ann).code == "InvalidName"
    assert server.call("PUT", f"{CLIENTS}/{ann}", token=admin).code == "InvalidName"


def test_a_failure_costs_a_stranger_as_many_writes_as_somebody(server: InProcess) -> None:
    """A write to disk takes longer than hashes differ: its absence would tell who is there."""
    writes: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE")):
            writes.append(statement)

    engine = server.parts.platform.catalog.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        assert error(log_in(server, "nobody", password="guess")) == WRONG  # makes its row
        counts = []
        for name in ("ann", "nobody", "somebody else"):
            writes.clear()
            assert error(log_in(server, name, password="guess")) == WRONG
            counts.append(len(writes))
        assert len(set(counts)) == 1, counts
    finally:
        event.remove(engine, "before_cursor_execute", count)


def test_codes_guessed_at_the_same_time_lock_the_account(server: InProcess, admin: str) -> None:
    """Each guess was let through that began before the fifth was counted."""
    assert add(server, "tom").status == 201
    server.call("POST", f"{USERS}/tom/enableTotp", token=admin)
    accounts = server.parts.platform.people.accounts
    origin = Origin("10.1.1.1", "", "password")
    with server.parts.platform.catalog.read() as connection:
        user = people.user_named(connection, "tom")
    assert user is not None
    stale = Person("tom", user)  # as every one of them has read it
    codes = []
    for number in range(6):
        with pytest.raises(HoldfastError) as refused:
            accounts._check_code(stale, f"{number:06}")
        codes.append(refused.value.code)
    assert codes == ["invalid_grant"] * 5 + ["AccountLocked"]
    with pytest.raises(HoldfastError) as late:
        accounts.prove("tom", PASSWORD, "000000", origin)
    assert late.value.code == "AccountLocked"


def test_a_code_settled_meanwhile_is_not_said_to_be_let_in(server: InProcess) -> None:
    sign_ins = server.parts.platform.people.sign_ins
    device = sign_ins.start_device("holdfast", "10.2.2.2")
    row = sign_ins.waiting(device.user_code, "10.2.2.2")
    sign_ins.settle(row, None)
    with pytest.raises(HoldfastError) as refused:
        sign_ins.settle(row, "somebody")
    assert refused.value.code == "UserCodeUnknown"


def test_a_network_of_ipv6_counts_as_one_machine() -> None:
    attempts = PersonAttempts(SystemClock())
    for number in range(10):
        attempts.failed("ann", f"2001:db8::1:{number}")
    with pytest.raises(HoldfastError, match="too many"):
        attempts.check("ann", "2001:db8::2:1")
    attempts.check("ann", "2001:db8:0:1::1")
    attempts.check("ann", "::ffff:10.0.0.1")
    sign_ins = SignIns(cast(Any, None), SystemClock(), SystemRandom())
    for number in range(60):
        sign_ins._count_start(f"2001:db8::1:{number}")
    with pytest.raises(HoldfastError, match="too many"):
        sign_ins._count_start("2001:db8::2:1")
