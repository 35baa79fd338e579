"""What is not served: every other operation of the SDKs is answered in ARM's shape, and says why.

The list is complete: an operation that a newer SDK brings fails tests/house until it is covered by
a test or named here.
"""

from __future__ import annotations

import inspect
import uuid
from functools import reduce
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

from holdfast.testing.azure_sdk import Sdk, admin
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

NO_ENDPOINT = "private endpoints belong to Azure's network"
NO_GUARD = "multi-user authorisation is not part of this release"
NO_TIER = "there is no archive tier"
NO_VALIDATION = "requests are validated when they are made"
NO_MOVE = "vaults move as folders"
NO_INTENT = "intents belong to databases, which are not part of this release"
REFUSED = {
    "vaults.get_operation_result": (
        "one that is over is answered 204, which the method does not take: use get_operation_status"
    ),
    "vaults.private_link_resources.get": NO_ENDPOINT,
    "vaults.recovery_services.capabilities": NO_ENDPOINT,
    "vaults.vault_certificates.create": "machines enrol with vault credentials of ours",
    "vaults.vault_extended_info.get": "it holds keys of Azure Site Recovery",
    "vaults.vault_extended_info.create_or_update": "it holds keys of Azure Site Recovery",
    "vaults.vault_extended_info.update": "it holds keys of Azure Site Recovery",
    "backup.backup_engines.get": "backup servers of Azure (DPM) do not exist here",
    "backup.begin_bms_prepare_data_move": NO_MOVE,
    "backup.begin_bms_trigger_data_move": NO_MOVE,
    "backup.begin_move_recovery_point": NO_TIER,
    "backup.bms_prepare_data_move_operation_result.get": NO_MOVE,
    "backup.configure_source_scan.begin_execute": "there is no malware scan",
    "backup.fetch_tiering_cost.begin_post": NO_TIER,
    "backup.get_tiering_cost_operation_result.get": NO_TIER,
    "backup.tiering_cost_operation_status.get": NO_TIER,
    "backup.recovery_points_recommended_for_move.list": NO_TIER,
    "backup.get_operation_status": NO_MOVE,
    "backup.operation.validate": NO_VALIDATION,
    "backup.validate_operation.begin_trigger": NO_VALIDATION,
    "backup.validate_operation_results.get": NO_VALIDATION,
    "backup.validate_operation_statuses.get": NO_VALIDATION,
    "backup.private_endpoint.get_operation_status": NO_ENDPOINT,
    "backup.private_endpoint_connection.begin_delete": NO_ENDPOINT,
    "backup.private_endpoint_connection.begin_put": NO_ENDPOINT,
    "backup.private_endpoint_connection.get": NO_ENDPOINT,
    "backup.protection_containers.begin_register": "machines register themselves (agent enroll)",
    "backup.protection_intent.create_or_update": NO_INTENT,
    "backup.protection_intent.delete": NO_INTENT,
    "backup.protection_intent.get": NO_INTENT,
    "backup.protection_policy_operation_results.get": "policies are deleted at once",
    "backup.protection_policy_operation_statuses.get": "policies are deleted at once",
    "backup.recovery_points.begin_get_rp_extended_info": "the recovery point holds it",
    "backup.recovery_points.get_rp_extended_info_operation_result": "the recovery point holds it",
    "backup.resource_guard_proxy.delete": NO_GUARD,
    "backup.resource_guard_proxy.get": NO_GUARD,
    "backup.resource_guard_proxy.put": NO_GUARD,
    "backup.resource_guard_proxy.unlock_delete": NO_GUARD,
    "backup.security_pins.get": "there is no PIN; roles say who may delete",
}
# what az looks up of other providers and no SDK of Azure Backup has
_OF_A_GROUP = "GET /subscriptions/{sub}/resourceGroups/{group}/providers"
REFUSED_REQUESTS = {
    f"{_OF_A_GROUP}/Microsoft.ClassicStorage/storageAccounts/{{name}}": (
        "there is no classic storage; az then looks in Microsoft.Storage"
    ),
    f"{_OF_A_GROUP}/Microsoft.Network/virtualNetworks/{{name}}": "networks are the hosts' own",
}
NAMES = {
    "resource_group_name": GROUP,
    "vault_name": VAULT,
    "fabric_name": "Azure",
    "container_name": f"Linux;{HOST}",
    "protected_item_name": f"FileFolder;{ITEM}",
    "policy_name": "DefaultPolicy",
    "location": "local",
    "azure_region": "local",
    "operation_id": str(uuid.uuid4()),
}
BODIES = ("parameters", "body", "input", "certificate_request", "resource_extended_info_details")


def find(sdk: Sdk, operation: str) -> Any:
    """By ``client.group.method`` or ``client.method``."""
    return reduce(getattr, operation.split("."), sdk)


@pytest.mark.parametrize("operation", sorted(REFUSED))
def test_it_is_refused_in_arms_shape(sdk: Sdk, operation: str) -> None:
    called = find(sdk, operation)
    wanted = [
        name
        for name, one in inspect.signature(called).parameters.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    given = [{} if name in BODIES else NAMES.get(name, "some-name") for name in wanted]
    with pytest.raises(HttpResponseError) as refused:
        answer = called(*given)
        if hasattr(answer, "result"):
            answer.result()
        elif hasattr(answer, "by_page"):
            list(answer)
    assert refused.value.status_code in (400, 404, 405), refused.value
    assert refused.value.error.code
    assert refused.value.error.message


@pytest.mark.parametrize("asked", sorted(REFUSED_REQUESTS))
def test_what_other_providers_have_is_not_found(sdk: Sdk, world: World, asked: str) -> None:
    method, _, template = asked.partition(" ")
    path = template.format(sub=admin(world)["subscription_id"], group=GROUP, name="some-name")
    answer = sdk.vaults.send_request(HttpRequest(method, f"{path}?api-version=2021-04-01"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")
