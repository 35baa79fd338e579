"""What the OpenAPI document promises, held against a running server by requests made from it: no
request makes a defect, and an answer has the shape described."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from holdfast.arm.app import description
from holdfast.testing.arm_place import ArmPlace
from holdfast.testing.live_server import live_server
from holdfast.testing.vm_place import machine

QUICK = {"HOLDFAST_RESERVE_BYTES": "0"}
EXAMPLES = int(os.environ.get("HOLDFAST_TEST_EXAMPLES", "3"))  # of each operation
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
NAMES = {"machine": "web"}  # what exists beside what every place has
LEFT_OUT = ("/oauth2/",)  # each wrong secret takes its time, by intent


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArmPlace]:
    """A server of its own: what is sent to it is up to chance. One host reports a machine."""
    with live_server(tmp_path_factory.mktemp("described") / "server", QUICK) as server:
        place = ArmPlace(server, point=False)
        assert place.machine.report(machine(NAMES["machine"])).is_success
        yield place


def operations() -> dict[str, Any]:
    schema = schemathesis.openapi.from_dict(json.loads(description()))
    found = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if not any(word in operation.path for word in LEFT_OUT):
            found[f"{operation.method.upper()} {operation.path}"] = operation
    return found


OPERATIONS = operations()


def aimed(case: Any, target: ArmPlace) -> None:
    """Names of what exists in place of drawn ones, but for the last of what would be removed."""
    names = list(case.path_parameters)
    if case.method == "DELETE":
        names = names[:-1]
    known = {**target.names, **NAMES}
    for name in names:
        case.path_parameters[name] = known.get(name, case.path_parameters[name])


@pytest.mark.parametrize("name", sorted(OPERATIONS), ids=str)
def test_requests_made_from_the_description(target: ArmPlace, name: str) -> None:
    operation = OPERATIONS[name]
    headers = {"Authorization": f"Bearer {target.server.token()}"}

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        aimed(case, target)
        response = case.call(
            base_url=target.server.url, headers=headers, verify=str(target.server.ca)
        )
        assert response.status_code < 500, f"{case.as_curl_command()}\n{response.text}"
        operation.validate_response(response)

    check()
