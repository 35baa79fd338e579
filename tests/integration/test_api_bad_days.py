"""What goes wrong in time, with machines and with stores, as a client of the API is told it: a
status, a code, what happened and what to do; and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.adapters.clock import SystemRandom
from holdfast.adapters.object_store.local import LocalStore
from holdfast.catalog.identifiers import id_bytes
from holdfast.testing.arm_place import HOST, ITEM, ArmPlace
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.ports import MovableClock
from holdfast.testing.scripted_agent import AGENTS, ScriptedAgent
from holdfast.testing.wait import eventually
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ENVIRONMENT = {
    "HOLDFAST_RESERVE_BYTES": "0",
    "HOLDFAST_TICK_SECONDS": "0.1",
    "HOLDFAST_AGENT_WAIT_SECONDS": "60",
}


class Days:
    """A server whose clock is moved, and places in it."""

    def __init__(self, server: LiveServer, clock: Path) -> None:
        self.server, self.clock, self.now = server, clock, START

    def set_clock(self, now: datetime) -> None:
        self.now = now
        staged = self.clock.with_suffix(".new")
        staged.write_text(now.isoformat())
        staged.replace(self.clock)

    def pass_time(self, by: timedelta) -> None:
        self.set_clock(self.now + by)

    def ask(self, vault: str, what: str) -> httpx2.Response:
        """An upkeep of a vault."""
        return self.server.call("POST", f"{vault}/providers/Holdfast.Backup/{what}", {})

    def job_of(self, vault: str, answer: httpx2.Response) -> dict[str, Any]:
        """The ended job behind an answer."""
        job = self.server.finish(answer)["properties"]["jobId"]
        found = self.server.ok("GET", f"{vault}/backupJobs/{job}")["properties"]
        result: dict[str, Any] = found
        return result

    def folder(self, vault: str) -> Path:
        ours = self.server.ok("GET", vault)["properties"]["holdfast"]
        return self.server.data / "vaults" / str(ours["vaultId"])


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    folder = tmp_path_factory.mktemp("days")
    clock = folder / "clock"
    clock.write_text(START.isoformat())
    environment = {**ENVIRONMENT, "HOLDFAST_TEST_CLOCK": str(clock)}
    with live_server(folder / "server", environment, test_mode=True) as server:
        yield Days(server, clock)


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    """What to do about it."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert error["message"]
    assert "Traceback" not in answer.text
    return str(error["hint"])


def told(job: dict[str, Any], code: str) -> str:
    """What to do about a job that failed of ``code``."""
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", code), job
    (error,) = job["errorDetails"]
    assert error["errorString"]
    return str(error["recommendations"][0])


def enrol(days: Days, token: str, host: str) -> httpx2.Response:
    public = Ed25519PrivateKey.generate().public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    body = {
        "vaultCredentials": token,
        "host": host,
        "platform": "linux",
        "publicKeyPem": text,
    }
    return days.server.raw("POST", f"{AGENTS}/enroll", json=body)


def credentials(days: Days, vault: str, seconds: int) -> str:
    asked = f"{vault}/providers/Holdfast.Backup/createVaultCredentials"
    made = days.server.ok("POST", asked, {"properties": {"expiresInSeconds": seconds}})
    return str(made["properties"]["credentials"]["token"])


def machines(days: Days, vault: str) -> set[str]:
    rows = days.server.ok("GET", f"{vault}/backupProtectionContainers")["value"]
    return {str(row["name"]) for row in rows}


def test_expired_vault_credentials(days: Days) -> None:
    vault = days.server.make_vault("late")
    token = credentials(days, vault, 60)
    days.pass_time(timedelta(seconds=61))
    hint = refused(enrol(days, token, "web1"), 401, "VaultCredentialsExpired")
    assert "holdfast vault credentials" in hint
    assert machines(days, vault) == set()


def test_a_second_machine_of_a_name(days: Days) -> None:
    vault = days.server.make_vault("twice")
    first = ScriptedAgent(days.server, vault, "web1", days.now)
    second = enrol(days, credentials(days, vault, 3600), "WEB1")
    assert "--replace" in refused(second, 409, "ContainerAlreadyRegistered")
    assert machines(days, vault) == {"Linux;web1"}
    assert first.log_in().status_code == 200, "the first is what it was"


def test_an_agent_that_is_offline(days: Days) -> None:
    place = ArmPlace(days.server, "away", days.now, point=False)
    started = place.start_backup(ITEM)
    job = days.server.finish(started)["properties"]["jobId"]
    address = f"{place.vault}/backupJobs/{job}"

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = days.server.ok("GET", address)["properties"]
        return found

    waits = f"waiting for the agent on {HOST}"
    eventually(lambda: shown()["holdfast"]["detail"] == waits, "it says what it waits for")
    assert shown()["status"] == "InProgress"
    days.pass_time(timedelta(seconds=61))
    eventually(lambda: shown()["status"] != "InProgress", "it gives up")
    assert "holdfast agent start" in told(shown(), "AgentOffline")


@pytest.mark.parametrize("code", ["StoreFull", "SpoolFull"])
def test_a_full_disk_is_told_while_the_job_is_tried_again(days: Days, code: str) -> None:
    place = ArmPlace(days.server, code.lower(), days.now, point=False)
    started = place.start_backup(ITEM)

    def shown() -> dict[str, Any]:
        (row,) = place.rows("backupJobs", **{"$filter": "operation eq 'Backup'"})
        found: dict[str, Any] = row["properties"]
        return found

    def phase() -> str:
        return str(shown()["holdfast"]["progress"]["phase"])

    taken: list[Any] = []

    def take() -> bool:
        taken.append(place.machine.next_task())
        return taken[-1] is not None

    eventually(take, "the first attempt")
    place.machine.fail(taken[-1], code)
    eventually(lambda: phase() == "Retrying", "it is to be tried again")
    found = shown()
    assert (found["status"], found["holdfast"]["errorCode"]) == ("InProgress", code)
    (error,) = found["errorDetails"]
    assert (error["errorString"], error["recommendations"]) == ("it is gone", ["bring it back"])
    address = started.headers["Azure-AsyncOperation"]
    bearer = {"Authorization": f"Bearer {days.server.token()}"}
    operation = days.server.raw("GET", address, headers=bearer)
    assert operation.json().get("error") is None, "pollers take an error for the end"
    days.pass_time(timedelta(seconds=11))
    eventually(take, "the next attempt")
    eventually(lambda: "errorDetails" not in shown(), "it works again")
    place.machine.fail(taken[-1])
    eventually(lambda: shown()["status"] == "Failed", "what never passes ends it")
    assert told(shown(), "SourcePathMissing") == "bring it back"


def test_a_damaged_vault(days: Days) -> None:
    server = days.server
    vault = server.make_vault("damaged")
    folder = days.folder(vault)
    server.stop()
    point = make_point(days, folder)
    server.start()
    pack = max(folder.glob("packs/*/*"), key=lambda path: path.stat().st_size)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    job = days.job_of(vault, days.ask(vault, "verify"))
    assert "copy of the store" in told(job, "VaultDamaged")
    (found,) = job["holdfast"]["findings"]
    assert pack.name in found["path"]
    assert point in found["message"], "the points that need it are named"
    pack.write_bytes(whole)
    assert days.job_of(vault, days.ask(vault, "verify"))["status"] == "Completed"


def make_point(days: Days, folder: Path) -> str:
    """A recovery point in a vault of a server that is stopped."""
    key = (days.server.data / "keys" / "platform.key").read_bytes()
    rng, store = SystemRandom(), LocalStore(folder.parent)
    opened = Vault.open(
        store,
        id_bytes(folder.name),
        Unlock(platform_key=key),
        clock=MovableClock(days.now),
        rng=rng,
    )
    record = LittleAgent(opened, rng).back_up({b"a": rng.token(30_000)}, time=days.now)
    opened.close()
    return record.rp_id


def test_a_moved_vault(days: Days) -> None:
    vault = days.server.make_vault("moved")
    folder = days.folder(vault)
    folder.rename(folder.with_name("elsewhere"))
    for what in ("expire", "collect", "verify"):
        assert told(days.job_of(vault, days.ask(vault, what)), "VaultStoreMissing")
    assert not folder.exists(), "it is not made anew"
    folder.with_name("elsewhere").rename(folder)
    assert days.job_of(vault, days.ask(vault, "verify"))["status"] == "Completed"


@pytest.mark.parametrize("by", [timedelta(days=-2), timedelta(days=4000)], ids=["back", "ahead"])
def test_a_clock_that_is_wrong(days: Days, by: timedelta) -> None:
    right = days.now
    vault = days.server.make_vault(f"clock-{by.days}")
    days.set_clock(right + by)
    for what in ("expire", "collect"):
        assert "confirm-clock" in refused(days.ask(vault, what), 409, "ClockUntrusted")
    if by > timedelta(0):
        days.server.ok("POST", f"{vault}/providers/Holdfast.Backup/confirmClock", {})
    else:
        days.set_clock(right)
    for what in ("expire", "collect"):
        assert days.job_of(vault, days.ask(vault, what))["status"] == "Completed"
