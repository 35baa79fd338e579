"""Alerts on their way: a real SMTP server, a real HTTPS server, and both of them failing."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.messages.mail import compose
from holdfast.adapters.messages.opening import open_channels
from holdfast.adapters.messages.webhook import Hook, WebhookChannel
from holdfast.bootstrap import Parts, build
from holdfast.catalog import alerts as alert_rows
from holdfast.catalog import outbox
from holdfast.catalog.outbox import MessageRow
from holdfast.domain.alerts import RULES, Cause
from holdfast.domain.hook_names import read_hooks
from holdfast.errors import StoreUnavailableError, UsageError
from holdfast.jobs.alerting import AlertBook, Said
from holdfast.services import alerts as service
from holdfast.services.notifier import deliver, route
from holdfast.settings import Settings
from holdfast.testing.arm_responder import Responder, responder
from holdfast.testing.catalog_rows import Estate, furnish
from holdfast.testing.mail_server import PASSWORD, USER, MailBox, mail_server
from holdfast.testing.ports import MovableClock, SeededRandom

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOOK = "/hooks/backup"
CAUSE = Cause("BackupFailure", "item", "happened")
NASTY = 'docs\r\nBcc: eve@example.org\x1b[2J "é'


@dataclass
class Desk:
    """A server's parts, with its channels handed over to the test instead of threads."""

    parts: Parts
    estate: Estate
    clock: MovableClock
    settings: Settings

    def note(self, verb: Any, subject: str = "docs", rule: str = CAUSE.rule) -> None:
        platform = self.parts.platform
        with platform.catalog.write() as connection:
            AlertBook(self.clock, platform.rng).note(
                connection,
                self.estate.vault.id,
                Cause(rule, CAUSE.about, verb),
                Said(subject, "the disk is gone [SourceMissing]", "put it back", {"jobId": "j"}),
            )

    def send(self) -> list[bool]:
        """Route and deliver once; whether each channel could send all it had."""
        channels = open_channels(self.settings)
        route(self.parts.platform, [channel.name for channel in channels])
        return [deliver(self.parts.platform, channel, "here") for channel in channels]

    def messages(self) -> list[MessageRow]:
        platform = self.parts.platform
        with platform.catalog.read() as connection:
            found = alert_rows.fired(connection, self.estate.vault.id, CAUSE.rule, CAUSE.about)
            assert found is not None
            return outbox.messages_of(connection, found.id)


def desk(folder: Path, **values: Any) -> Desk:
    settings = Settings(smtp_from="holdfast@example.org", **values)
    clock, rng = MovableClock(START), SeededRandom(3)
    parts = build(folder / "data", settings, clock, rng)
    with parts.platform.catalog.write() as connection:
        estate = furnish(connection, rng, START)
    return Desk(parts, estate, clock, settings)


@pytest.fixture
def mailed(tmp_path: Path) -> Iterator[tuple[Desk, MailBox]]:
    """With a mail server that demands STARTTLS and a login."""
    secret = tmp_path / "smtp.json"
    secret.write_text(json.dumps({"username": USER, "password": PASSWORD}))
    with mail_server(tmp_path / "mail", login=True) as box:
        made = desk(
            tmp_path,
            smtp_host="127.0.0.1",
            smtp_port=box.port,
            smtp_credentials_file=str(secret),
            alert_ca_file=str(box.ca),
            alert_emails="ann@example.org, bob@example.org",
        )
        yield made, box
        made.parts.close()


@pytest.fixture
def hooked(tmp_path: Path) -> Iterator[tuple[Desk, Responder]]:
    """With a webhook over TLS."""
    secret = tmp_path / "secret"
    secret.write_text("a shared secret\n")
    with responder(tmp_path / "hook") as server:
        made = desk(
            tmp_path,
            alert_webhook=server.url + HOOK,
            alert_webhook_secret_file=str(secret),
            alert_ca_file=str(server.ca),
        )
        yield made, server
        made.parts.close()


def test_mail_when_it_fires_and_when_it_is_over(mailed: tuple[Desk, MailBox]) -> None:
    desk, box = mailed
    desk.note("happened")
    desk.note("happened")
    assert desk.send() == [True]
    assert sorted(box.receivers) == ["ann@example.org", "bob@example.org"]
    assert box.encrypted == [True, True]
    mail = box.taken[0]
    assert mail["Subject"] == "[Holdfast] Sev1: Backup failed: docs (v1)"
    assert mail["From"] == "holdfast@example.org"
    text = mail.get_content()
    assert "the disk is gone [SourceMissing]" in text
    assert "What to do: put it back" in text
    desk.note("over")
    assert desk.send() == [True]
    assert box.subjects()[2:] == ["[Holdfast] Resolved: Backup failed: docs (v1)"] * 2
    assert len({mail["Message-ID"] for mail in box.taken}) == 4
    assert desk.send() == [True]
    assert len(box.taken) == 4


def test_a_name_adds_no_header(mailed: tuple[Desk, MailBox]) -> None:
    desk, box = mailed
    desk.note("happened", NASTY)
    assert desk.send() == [True]
    assert sorted(box.receivers) == ["ann@example.org", "bob@example.org"]
    mail = box.taken[0]
    assert mail["Bcc"] is None
    assert mail["Subject"].endswith('docs\\r\\nBcc: eve@example.org\\x1b[2J "é (v1)')


FOLDED = {
    "no blank to break at": "x" * 190,
    "many words": "every word of it " * 11,
    "runs of blanks": "a  b   c" + " " * 70 + "d",
    "accents and blanks": "é  aa éé a  é  éé    aéa éé aéaaaéa éaéaaééaé  aaééaaééééa é",
    "no Latin letter": "日本日 xx本日日  x本x  日 本 日xx 日xx本本x 本   x日本x日本 本x",
    "four bytes each": "\U0001f600" * 60,
    "brackets and colons": '}"[ ,]a),{{,"(>)::}a) { {@a];}@:',
    "encoded already": "=?utf-8?b?w7w=?= is no ü",
}


@pytest.mark.parametrize("name", FOLDED.values(), ids=list(FOLDED))
def test_a_long_subject_arrives_as_it_was_written(mailed: tuple[Desk, MailBox], name: str) -> None:
    desk, box = mailed
    desk.note("happened", name)
    assert desk.send() == [True]
    assert box.subjects()[0] == f"[Holdfast] Sev1: Backup failed: {name} (v1)"
    head, _, _ = box.raw[0].partition(b"\r\n\r\n")
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert b"\r\nFrom: " in head, "no empty line ends the headers before"


def test_a_name_that_is_no_subject_is_cut_and_the_text_has_it(
    mailed: tuple[Desk, MailBox],
) -> None:
    desk, box = mailed
    desk.note("happened", "n" * 250)
    assert desk.send() == [True]
    assert box.subjects()[0] == f"[Holdfast] Sev1: Backup failed: {'n' * 199}… (v1)"
    assert "n" * 250 in box.taken[0].get_content()


def test_nothing_is_lost_while_the_mail_server_is_down(mailed: tuple[Desk, MailBox]) -> None:
    desk, box = mailed
    box.stop()
    desk.note("happened")
    assert desk.send() == [False]
    assert desk.send() == [False], "the second receiver's is tried next"
    waiting = desk.messages()
    assert [(one.state, one.attempts) for one in waiting] == [("Pending", 1), ("Pending", 1)]
    assert "refused" in waiting[0].last_error.lower()
    with desk.parts.platform.catalog.read() as connection:
        assert outbox.failing(connection)
        (figures,) = outbox.waiting(connection)
    assert (figures.channel, figures.count, figures.failing) == ("email", 2, 2)
    assert desk.send() == [True], "put off: nothing is due"
    box.start()
    desk.clock.pass_time(timedelta(seconds=6))
    assert desk.send() == [True]
    assert sorted(box.receivers) == ["ann@example.org", "bob@example.org"]
    assert {one.state for one in desk.messages()} == {"Sent"}


def test_a_refused_mail_is_tried_again_and_a_working_server_pulls_the_rest(
    mailed: tuple[Desk, MailBox],
) -> None:
    desk, box = mailed
    box.refusing += ["451 later"] * 2
    desk.note("happened")
    assert (desk.send(), desk.send()) == ([False], [False])
    assert "451 later" in desk.messages()[0].last_error
    desk.clock.pass_time(timedelta(seconds=6))
    assert desk.send() == [True]
    assert len(box.taken) == 2


def test_a_wrong_certificate_gets_no_password(mailed: tuple[Desk, MailBox], tmp_path: Path) -> None:
    desk, box = mailed
    with mail_server(tmp_path / "other") as other:
        values = {"alert_ca_file": str(other.ca)}
        changed = {name: getattr(desk.settings, name) for name in desk.settings.__struct_fields__}
        desk.settings = Settings(**(changed | values))
        desk.note("happened")
        assert desk.send() == [False]
    assert box.taken == []
    assert "CERTIFICATE_VERIFY_FAILED" in desk.messages()[0].last_error


def test_mail_over_tls_from_the_start(tmp_path: Path) -> None:
    with mail_server(tmp_path / "mail", tls=True) as box:
        made = desk(
            tmp_path,
            smtp_host="127.0.0.1",
            smtp_port=box.port,
            smtp_security="tls",
            alert_ca_file=str(box.ca),
            alert_emails="ann@example.org",
        )
        made.note("happened")
        assert made.send() == [True]
        made.parts.close()
    assert box.receivers == ["ann@example.org"]


def test_a_claim_dies_with_its_process(mailed: tuple[Desk, MailBox]) -> None:
    """What a server was sending when it was killed is sent after its next start."""
    desk, box = mailed
    desk.note("happened")
    platform = desk.parts.platform
    route(platform, ["email"])
    with platform.catalog.write() as connection:
        for row in outbox.due_messages(connection, "email", desk.clock.now()):
            outbox.claim(connection, row, "here", desk.clock.now() + timedelta(minutes=5))
    assert desk.send() == [True]
    assert box.taken == []
    with platform.catalog.write() as connection:
        assert outbox.release_claims(connection, "another server", desk.clock.now()) == 0
        assert outbox.release_claims(connection, "here", desk.clock.now()) == 2
    assert desk.send() == [True]
    assert len(box.taken) == 2


def test_one_of_two_servers_sends(mailed: tuple[Desk, MailBox]) -> None:
    desk, _ = mailed
    desk.note("happened")
    platform = desk.parts.platform
    route(platform, ["email"])
    with platform.catalog.write() as connection:
        row = outbox.due_messages(connection, "email", desk.clock.now())[0]
        until = desk.clock.now() + timedelta(minutes=5)
        taken = [outbox.claim(connection, row, name, until) for name in ("one", "two")]
    assert taken == [True, False]


def test_a_vaults_own_receivers(mailed: tuple[Desk, MailBox]) -> None:
    desk, box = mailed
    platform, vault = desk.parts.platform, desk.estate.vault
    service.put_settings(platform, vault, ["eva@example.org", "ann@example.org"], [], 1)
    desk.note("happened")
    desk.send()
    names = [f"{name}@example.org" for name in ("ann", "bob", "eva")]
    assert sorted(box.receivers) == names
    with platform.catalog.write() as connection:
        warned = Cause("BackupWarnings", "item", "happened")
        book = AlertBook(desk.clock, platform.rng)
        book.note(connection, vault.id, warned, Said("docs", "one file"))
    desk.send()
    assert sorted(box.receivers[3:]) == names[:2], "its severity is 2"
    for wrong in (["no address"], "ann@example.org", [1], ["a@b.org"] * 51):
        with pytest.raises(UsageError):
            service.put_settings(platform, vault, wrong, [], 1)


def test_a_signed_post(hooked: tuple[Desk, Responder]) -> None:
    desk, server = hooked
    server.on(f"POST {HOOK}", {"ok": True})
    desk.note("happened", NASTY)
    assert desk.send() == [True]
    (asked,) = server.requests(f"POST {HOOK}")
    data = asked.body["data"]
    assert asked.body["schemaId"] == "azureMonitorCommonAlertSchema"
    assert data["essentials"]["monitorCondition"] == "Fired"
    assert (data["essentials"]["severity"], data["essentials"]["alertRule"]) == (
        "Sev1",
        "BackupFailure",
    )
    assert data["alertContext"]["subject"] == NASTY
    stamp = asked.headers["x-holdfast-timestamp"]
    assert int(stamp) == int(START.timestamp())
    body = json.dumps(asked.body, separators=(",", ":")).encode()
    secret = b"a shared secret"
    signed = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert asked.headers["x-holdfast-signature"] == f"sha256={signed}"


def test_every_kind_of_alert_goes_out_both_ways(tmp_path: Path) -> None:
    """Under what an operator sets at the least: no kind is below the severity that is sent."""
    with mail_server(tmp_path / "mail") as box, responder(tmp_path / "hook") as server:
        server.on(f"POST {HOOK}", {})
        trust = tmp_path / "both.pem"
        trust.write_bytes(Path(box.ca).read_bytes() + Path(server.ca).read_bytes())
        made = desk(
            tmp_path,
            smtp_host="127.0.0.1",
            smtp_port=box.port,
            alert_emails="ann@example.org",
            alert_webhook=server.url + HOOK,
            alert_ca_file=str(trust),
        )
        for name in RULES:
            made.note("happened", rule=name)
        assert made.send() == [True, True]
        rules = RULES.values()
        assert sorted(box.subjects()) == sorted(
            f"[Holdfast] Sev{one.severity}: {one.title}: docs (v1)" for one in rules
        )
        sent = [one.body["data"]["essentials"] for one in server.requests(f"POST {HOOK}")]
        assert {(one["alertRule"], one["severity"]) for one in sent} == {
            (one.name, f"Sev{one.severity}") for one in rules
        }
        assert len(sent) == len(RULES)
        made.parts.close()


def test_a_failing_hook_is_tried_again_under_the_same_key(hooked: tuple[Desk, Responder]) -> None:
    desk, server = hooked
    server.on(f"POST {HOOK}", "down", 503)
    server.on(f"POST {HOOK}", {}, 202)
    desk.note("happened")
    assert desk.send() == [False]
    assert "answered 503" in desk.messages()[0].last_error
    desk.clock.pass_time(timedelta(seconds=6))
    assert desk.send() == [True]
    keys = {one.headers["x-holdfast-delivery"] for one in server.requests(f"POST {HOOK}")}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("location", "reached"),
    [("/moved", True), ("https://elsewhere.invalid/moved", False), ("http://127.0.0.1/", False)],
)
def test_redirects_stay_on_the_host(
    hooked: tuple[Desk, Responder], location: str, reached: bool
) -> None:
    desk, server = hooked
    server.on(f"POST {HOOK}", None, 307, {"Location": location})
    server.on("POST /moved", {})
    desk.note("happened")
    assert desk.send() == [reached]
    assert bool(server.requests("POST /moved")) is reached


def test_a_hook_that_redirects_for_ever_ends(hooked: tuple[Desk, Responder]) -> None:
    desk, server = hooked
    server.on(f"POST {HOOK}", None, 308, {"Location": HOOK})
    desk.note("happened")
    assert desk.send() == [False]
    assert len(server.requests(f"POST {HOOK}")) == 4


def test_a_huge_answer_is_not_read(hooked: tuple[Desk, Responder]) -> None:
    desk, server = hooked
    server.on(f"POST {HOOK}", "x" * 50_000_000)
    desk.note("happened")
    assert desk.send() == [True]


def test_an_unknown_authority_is_refused(hooked: tuple[Desk, Responder]) -> None:
    _, server = hooked
    message = {"event": "fired", "message": "m", "firedAt": "", "at": "", "alertId": "a"}
    more = ("rule", "severity", "title", "category", "vault", "resourceGroup", "subject", "hint")
    whole = {**message, **dict.fromkeys(more, ""), "details": {}}
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        WebhookChannel(Hook(b""), {}).send(server.url + HOOK, "k", START, whole)
    assert server.asked == []


@pytest.fixture
def teams(tmp_path: Path) -> Iterator[tuple[Desk, Responder]]:
    """With two webhooks that vaults may be given, and none for all."""
    with responder(tmp_path / "hook") as server:
        named = f"team-a={server.url}/hooks/a, team-b={server.url}/hooks/b"
        made = desk(tmp_path, alert_webhooks=named, alert_ca_file=str(server.ca))
        yield made, server
        made.parts.close()


def test_a_vault_is_given_webhooks_by_name_and_nobody_reads_where_they_lead(
    teams: tuple[Desk, Responder],
) -> None:
    desk, server = teams
    server.on("POST /hooks/a", {})
    desk.note("happened", "before")
    desk.note("over")
    platform, vault = desk.parts.platform, desk.estate.vault
    assert desk.send() == [True]
    assert server.asked == [], "no vault has named one"
    service.put_settings(platform, vault, [], ["team-a", "team-a"], 1)
    desk.note("happened")
    assert desk.send() == [True]
    assert [one.body["data"]["alertContext"]["subject"] for one in server.asked] == ["docs"]
    (sent,) = desk.messages()
    assert (sent.channel, sent.target, sent.state) == ("webhook", "team-a", "Sent")
    for wrong in (["team-c"], [server.url + "/hooks/a"], ["server"], "team-a", [1]):
        with pytest.raises(UsageError) as refused:
            service.put_settings(platform, vault, [], wrong, 1)
        assert refused.value.code == "InvalidAlertSettings"


def test_a_webhook_that_is_down_holds_up_no_other(teams: tuple[Desk, Responder]) -> None:
    desk, server = teams
    server.on("POST /hooks/a", "down", 503)
    server.on("POST /hooks/b", {})
    platform, vault = desk.parts.platform, desk.estate.vault
    service.put_settings(platform, vault, [], ["team-a"], 1)
    for _ in range(60):
        desk.note("happened")
        desk.note("over")
    while route(platform, ["webhook"]):
        pass
    service.put_settings(platform, vault, [], ["team-b"], 1)
    desk.note("happened")
    assert desk.send() == [False]
    assert len(server.requests("POST /hooks/a")) == 1, "one in vain is enough for a round"
    assert len(server.requests("POST /hooks/b")) == 1


def test_a_webhook_the_settings_lost_is_told_about(teams: tuple[Desk, Responder]) -> None:
    desk, server = teams
    server.on("POST /hooks/b", {})
    service.put_settings(desk.parts.platform, desk.estate.vault, [], ["team-a", "team-b"], 1)
    desk.note("happened")
    desk.settings = Settings(
        alert_webhooks=f"team-b={server.url}/hooks/b", alert_ca_file=str(server.ca)
    )
    assert desk.send() == [False]
    assert len(server.asked) == 1
    (lost,) = [one for one in desk.messages() if one.state == "Pending"]
    assert "the server's settings have none of this name" in lost.last_error


@pytest.mark.parametrize(
    "text",
    ["https://example.org/", "a=http://example.org/", "server=https://a.org/", "a=https://",
     "A=https://a.org/", "a=https://a.org/,a=https://b.org/", "a=https://u:p@a.org/", "a=https://["],
)  # fmt: skip
def test_webhooks_that_cannot_be_meant_stop_the_start(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_hooks(text)
    assert refused.value.code == "InvalidSettings"


def test_only_what_is_urgent_is_sent(tmp_path: Path) -> None:
    with responder(tmp_path / "hook") as server:
        server.on(f"POST {HOOK}", {})
        made = desk(
            tmp_path,
            alert_webhook=server.url + HOOK,
            alert_ca_file=str(server.ca),
            alert_severity=0,
        )
        made.note("happened")
        assert made.send() == [True]
        assert server.asked == []
        made.parts.close()


def test_what_nobody_takes_is_given_up_after_a_week_and_counted(
    mailed: tuple[Desk, MailBox],
) -> None:
    desk, box = mailed
    box.stop()
    desk.note("happened")
    assert desk.send() == [False]
    desk.clock.pass_time(timedelta(days=8))
    desk.parts.notifier._tidy()
    with desk.parts.platform.catalog.read() as connection:
        assert outbox.ended_counts(connection) == [("email", "GivenUp", 2)]
        assert not outbox.failing(connection)


def test_files_of_secrets_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    empty, wrong = tmp_path / "empty", tmp_path / "wrong"
    empty.touch()
    wrong.write_text('{"user": 1}')
    hook = {"alert_webhook": "https://example.org/"}
    mail = {"smtp_host": "mail", "smtp_from": "a@b.org"}
    for settings in (
        Settings(**hook, alert_webhook_secret_file=str(empty)),
        Settings(**hook, alert_webhook_secret_file=str(tmp_path / "none")),
        Settings(**mail, smtp_credentials_file=str(wrong)),
        Settings(**hook, alert_ca_file=str(empty)),
    ):
        with pytest.raises(UsageError) as refused:
            open_channels(settings)
        assert refused.value.code == "InvalidSettings"


def test_a_mail_of_a_resolved_alert_says_when() -> None:
    message = {
        "event": "resolved",
        "severity": "Sev1",
        "title": "Backup failed",
        "subject": "docs",
        "vault": "v1",
        "resourceGroup": "rg1",
        "alertId": "a1",
        "message": "Backup of docs: Completed",
        "hint": "",
        "rule": "BackupFailure",
        "firedAt": "2026-03-01",
        "at": "2026-03-02",
    }
    mail = compose("a@b.org", "c@d.org", "key", START, message)
    assert "resolved at: 2026-03-02" in mail.get_content()
    assert "What to do" not in mail.get_content()
