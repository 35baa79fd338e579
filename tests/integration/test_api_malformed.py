"""Malformed bodies at every address that takes one: each is refused with a code and a way out.

The addresses come from the routes and the faults from the structs that describe their bodies, so a
new route is covered by itself."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import httpx2
import pytest

from holdfast.arm.app import MAX_BODY
from holdfast.arm.schemas.table import DOCUMENTED, REQUESTS
from holdfast.arm.schemas.work import ContainerAsked
from holdfast.testing.api_routes import Route, all_routes
from holdfast.testing.body_faults import RAW, faults_of
from holdfast.testing.live_server import LiveServer

SOME = 29  # of hundreds of faults; tests/property draws the others without a server
TAKING = [route for route in all_routes() if route.takes_body]
DESCRIBED = {
    (method, path.replace(":str}", "}")): kind for (method, path), kind in REQUESTS.items()
}


def send(live: LiveServer, route: Route, data: bytes) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {live.token()}", "Content-Type": "application/json"}
    address = f"{route.filled(**live.names)}?api-version=1"
    return live.raw(route.method, address, content=data, headers=headers)


def assert_refused(answer: httpx2.Response, where: str, code: str = "") -> None:
    assert 400 <= answer.status_code < 500, f"{where}: {answer.status_code} {answer.text[:500]}"
    error = answer.json()["error"]
    assert error["message"], where
    assert error["hint"], where
    assert not code or error["code"] == code, f"{where}: {error}"


@pytest.mark.parametrize("route", TAKING, ids=str)
def test_what_is_no_json_object(live: LiveServer, route: Route) -> None:
    for what, data in RAW.items():
        if not data and route.path.endswith("/changestate"):
            continue  # its body is a comment, which nobody need give
        assert_refused(send(live, route, data), what, "InvalidRequestContent")
    large = b'{"properties": {"a": "' + b"x" * MAX_BODY + b'"}}'
    assert_refused(send(live, route, large), "too large", "RequestTooLarge")


@pytest.mark.parametrize("route", TAKING, ids=str)
def test_one_field_that_is_wrong(live: LiveServer, route: Route) -> None:
    kind = DESCRIBED.get((route.method, route.path), ContainerAsked)
    every = SOME if kind in DOCUMENTED else 1
    for fault in itertools.islice(faults_of(kind), 0, None, every):
        answer = send(live, route, json.dumps(fault.body).encode())
        if kind in DOCUMENTED or (route.method, route.path) not in DESCRIBED:
            assert answer.status_code < 500, f"{fault}: {answer.text}"
        else:
            assert_refused(answer, str(fault), "InvalidRequestContent")
    assert live.get(live.vault()).status_code == 200


ROUTES = {route.path.rpartition("/")[2]: route for route in TAKING if route.method == "PUT"}
NAMES = {
    "group": ("g" * 91, "ends.", "a*b"),
    "vault": ("v" * 51, "1first", "under_score", "a"),
    "policy": ("p" * 151, "ab", "with blank", "1st"),
    "item": ("FileFolder;" + "i" * 151, "FileFolder;a:b", "VM;x", "FileFolder; a"),
    "region": ("r" * 65, "-x", "ü"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NAMES for name in NAMES[kind]])
def test_names_that_cannot_be(live: LiveServer, kind: str, name: str) -> None:
    route = ROUTES[f"{{{kind}}}"]
    address = route.filled(**{**live.names, kind: name})
    default = live.ok("GET", f"{live.vault()}/backupPolicies/DefaultPolicy")["properties"]
    said = {
        "policy": default,
        "region": {"store": "memory:"},
        "item": {"protectedItemType": "MabFileFolderProtectedItem"},
    }
    body = {"location": "local", "properties": said.get(kind, {})}
    answer = live.call("PUT", address, body)
    assert_refused(answer, name, "InvalidName")
    assert answer.status_code == 400


def changed(body: Any, path: str, value: Any) -> Any:
    """A copy of ``body`` with ``value`` (None removes) at ``a.b.0.c``."""
    found = copy.deepcopy(body)
    *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    holder = found
    for word in way:
        holder = holder[word]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return found


INPUT = "UserErrorInvalidPolicyInput"
DAILY = "retentionPolicy.dailySchedule.retentionDuration"
TIMES = "schedulePolicy.scheduleRunTimes"
HOURS = "schedulePolicy.hourlySchedule"
LOG = "subProtectionPolicy.1"
LIMITS: list[tuple[str, str, Any, str]] = [
    ("DefaultPolicy", f"{DAILY}.count", 6, INPUT),
    ("DefaultPolicy", f"{DAILY}.count", 10_000, INPUT),
    ("DefaultPolicy", f"{DAILY}.count", "30", INPUT),
    ("DefaultPolicy", f"{DAILY}.durationType", "days", INPUT),
    ("DefaultPolicy", f"{DAILY}.durationType", "Weeks", INPUT),
    ("DefaultPolicy", DAILY, None, INPUT),
    ("DefaultPolicy", "retentionPolicy.dailySchedule", None, INPUT),
    ("DefaultPolicy", "retentionPolicy", None, INPUT),
    ("DefaultPolicy", "schedulePolicy", None, INPUT),
    ("DefaultPolicy", "schedulePolicy.scheduleRunFrequency", "daily", INPUT),
    ("DefaultPolicy", "schedulePolicy.scheduleRunFrequency", "Monthly", INPUT),
    ("DefaultPolicy", "schedulePolicy.schedulePolicyType", "NoSchedule", INPUT),
    ("DefaultPolicy", TIMES, [], INPUT),
    ("DefaultPolicy", TIMES, ["2026-01-01T10:15:00Z"], "InvalidScheduleTimeInSchedule"),
    ("DefaultPolicy", TIMES, ["2026-01-01T11:00:00Z"], "BackupAndRetentionTimesMismatch"),
    ("DefaultPolicy", TIMES, ["x" * 100_000], INPUT),
    ("DefaultPolicy", "timeZone", "Mars/Olympus", "UserErrorInvalidTimeZone"),
    ("DefaultPolicy", "timeZone", "x" * 100_000, "UserErrorInvalidTimeZone"),
    ("DefaultPolicy", "backupManagementType", "azureiaasvm", INPUT),
    ("DefaultPolicy", "backupManagementType", None, INPUT),
    ("DefaultPolicy", "instantRpRetentionRangeInDays", 6, "InstantRPRetentionDays"),
    ("DefaultPolicy", "instantRpRetentionRangeInDays", 0, "InstantRPRetentionDays"),
    ("EnhancedPolicy", f"{HOURS}.interval", 5, INPUT),
    ("EnhancedPolicy", f"{HOURS}.scheduleWindowDuration", 3, INPUT),
    ("EnhancedPolicy", f"{HOURS}.scheduleWindowDuration", 25, INPUT),
    ("EnhancedPolicy", f"{HOURS}.scheduleWindowStartTime", "2026-01-01T20:00:00Z", INPUT),
    ("EnhancedPolicy", "instantRpRetentionRangeInDays", 18, "InstantRPRetentionDays"),
    ("HourlyLogBackup", f"{LOG}.schedulePolicy.scheduleFrequencyInMins", 14, INPUT),
    ("HourlyLogBackup", f"{LOG}.schedulePolicy.scheduleFrequencyInMins", 1441, INPUT),
    ("HourlyLogBackup", f"{LOG}.retentionPolicy.retentionDuration.count", 6, INPUT),
    ("HourlyLogBackup", f"{LOG}.retentionPolicy.retentionDuration.count", 36, INPUT),
    ("HourlyLogBackup", f"{LOG}.policyType", "log", INPUT),
    ("HourlyLogBackup", "workLoadType", None, INPUT),
]


@pytest.mark.parametrize(
    ("policy", "at", "value", "code"),
    LIMITS,
    ids=[f"{one[1]}={str(one[2])[:20]}" for one in LIMITS],
)
def test_limits_of_policies(live: LiveServer, policy: str, at: str, value: Any, code: str) -> None:
    found = live.ok("GET", f"{live.vault()}/backupPolicies/{policy}")["properties"]
    address = f"{live.vault()}/backupPolicies/out-of-range"
    answer = live.call("PUT", address, {"properties": changed(found, at, value)})
    assert_refused(answer, at, code)
    assert answer.status_code == 400
    assert len(answer.content) < 5000, "what was sent is quoted in short"
    assert live.get(address).status_code == 404
