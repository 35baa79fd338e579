"""How often a day, as the operator set it; and changes that are meant for one version only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from holdfast.testing.arm_place import ArmPlace
from holdfast.testing.live_server import LiveServer, live_server

EVENING = datetime(2026, 3, 2, 23, 59, tzinfo=UTC)
FEW = {
    "HOLDFAST_RESERVE_BYTES": "0",
    "HOLDFAST_AGENT_WAIT_SECONDS": "2000000",
    "HOLDFAST_MAX_POLICY_CHANGES_A_DAY": "2",
    "HOLDFAST_MAX_PROTECTION_CHANGES_A_DAY": "4",
    "HOLDFAST_MAX_BACKUPS_A_DAY": "1",
    "HOLDFAST_MAX_RESTORES_A_DAY": "1",
}


class Place(ArmPlace):
    """A server under a moved clock."""

    def __init__(self, server: LiveServer, clock: Path) -> None:
        super().__init__(server, now=EVENING)
        self.clock = clock

    def pass_midnight(self) -> None:
        staged = self.clock.with_suffix(".new")
        staged.write_text((EVENING + timedelta(minutes=2)).isoformat())
        staged.replace(self.clock)


def put_policy(place: ArmPlace, name: str, etag: str = "") -> httpx2.Response:
    found = place.server.ok("GET", f"{place.vault}/backupPolicies/DefaultPolicy")["properties"]
    address = f"{place.vault}/backupPolicies/{name}"
    return place.server.call("PUT", address, {"properties": found}, headers=matching(etag))


def matching(etag: str) -> dict[str, str]:
    return {"If-Match": etag} if etag else {}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("rates")
    clock = folder / "clock"
    clock.write_text(EVENING.isoformat())
    environment = {**FEW, "HOLDFAST_TEST_CLOCK": str(clock)}
    with live_server(folder / "server", environment, test_mode=True) as server:
        yield Place(server, clock)


def used_up(answer: httpx2.Response, setting: str) -> None:
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert error["code"] == "CloudDosAbsoluteLimitReached"
    assert setting in error["hint"]
    assert 0 < int(answer.headers["Retry-After"]) <= 60, "until midnight, a minute away"


def test_one_too_many_a_day_waits_for_midnight(limited: Place) -> None:
    assert put_policy(limited, "first").status_code == 200
    wrong = f"{limited.vault}/backupPolicies/wrong"
    for _ in range(3):
        assert limited.server.call("PUT", wrong, {"properties": {}}).status_code == 400
    assert put_policy(limited, "first").status_code == 200, "what was refused does not count"
    used_up(put_policy(limited, "second"), "max_policy_changes_a_day")
    for name in ("one", "two", "one"):
        assert limited.protect(name).is_success
    other = limited.server.call("POST", f"{limited.named('two')}/backup", {"properties": {}})
    assert other.status_code == 202, "of each item"
    used_up(limited.protect("three"), "max_protection_changes_a_day")
    assert limited.server.get(limited.named("three")).status_code == 404, "nothing was done"
    assert limited.server.call("DELETE", limited.named("one")).is_success
    back = {"protectedItemType": "MabFileFolderProtectedItem", "isRehydrate": True}
    back |= {"protectionState": "ProtectionStopped", "policyId": ""}
    undeleted = limited.server.call("PUT", limited.named("one"), {"properties": back})
    assert undeleted.is_success, "what was deleted comes back in any number"
    started = limited.server.call("POST", f"{limited.item}/backup", {"properties": {}})
    assert started.status_code == 202
    again = limited.server.call("POST", f"{limited.item}/backup", {"properties": {}})
    used_up(again, "max_backups_a_day")
    restore = f"{limited.item}/recoveryPoints/{limited.point}/restore"
    body = {"properties": {"targetDirectory": "/srv/back"}}
    assert limited.server.call("POST", restore, body).status_code == 202
    used_up(limited.server.call("POST", restore, body), "max_restores_a_day")
    limited.pass_midnight()
    assert put_policy(limited, "second").status_code == 200
    assert limited.protect("three").is_success
    assert limited.server.call("POST", restore, body).status_code == 202


def changed(place: ArmPlace, kind: str, etag: str) -> httpx2.Response:
    if kind == "policy":
        return put_policy(place, "versioned", etag)
    if kind == "item":
        return place.protect("versioned", matching(etag))
    if kind == "vault":
        return place.server.call("PATCH", place.vault, {"tags": {}}, headers=matching(etag))
    config = f"{place.vault}/backupconfig/vaultconfig"
    body = {"properties": {"softDeleteFeatureState": "Disabled"}}
    return place.server.call("PATCH", config, body, headers=matching(etag))


def version(place: ArmPlace, kind: str, answer: httpx2.Response) -> str:
    """An item's change is answered without the item."""
    shown = place.server.ok("GET", place.named("versioned")) if kind == "item" else answer.json()
    return str(shown.get("eTag") or shown["etag"])


@pytest.mark.parametrize("kind", ["policy", "item", "vault", "configuration"])
def test_a_change_for_another_version_is_refused(place: ArmPlace, kind: str) -> None:
    if kind in ("policy", "item"):
        early = changed(place, kind, "*")
        assert early.status_code == 412, "it is not there yet"
    made = changed(place, kind, "")
    assert made.is_success, made.text
    etag = version(place, kind, made)
    assert changed(place, kind, etag).is_success
    stale = changed(place, kind, 'W/"another"')
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "PreconditionFailed")
    assert changed(place, kind, "*").is_success
    both = f'W/"another", {version(place, kind, changed(place, kind, ""))}'
    assert changed(place, kind, both).is_success
