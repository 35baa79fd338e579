"""The requests that Azure's own description gives as examples are taken, or refused for a reason
that is written down here; with one thing wrong each, they are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.contract import Contract, Operation, Schema
from holdfast.testing.contract_faults import Fault, faults
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_farm import Farm, vm_farm

NO_ARCHIVE = (400, "UserErrorNotSupported")
# what is not served, by operation: the answer says so
NOT_SERVED: dict[str, str] = {
    "VaultCertificates_Create": "agents enrol with credentials of ours, not with certificates",
    "RecoveryServices_Capabilities": "there are no private endpoints whose DNS zones to tell",
    "VaultExtendedInfo_CreateOrUpdate": "keys of site recovery; there is none",
    "VaultExtendedInfo_Update": "keys of site recovery; there is none",
    "ProtectionIntent_CreateOrUpdate": "intents are of databases",
    "MoveRecoveryPoint": "there is no archive tier",
    "RecoveryPointsRecommendedForMove_List": "there is no archive tier",
    "FetchTieringCost_Post": "there is no archive tier",
    "ResourceGuardProxy_Put": "multi-user authorisation is not part of this release",
    "ResourceGuardProxy_UnlockDelete": "multi-user authorisation is not part of this release",
    "ValidateOperation_Trigger": "a restore is checked when it is asked for",
    "Operation_Validate": "a restore is checked when it is asked for",
    "BMSPrepareDataMove": "vaults are moved with their folder or bucket",
    "BMSTriggerDataMove": "vaults are moved with their folder or bucket",
    "PrivateEndpointConnection_Put": "there are no private endpoints",
}
# what is served and refused, by example
REFUSED: dict[str, tuple[int, str, str]] = {
    "BackupResourceEncryptionConfig_Put": (
        *(400, "UserErrorNotSupported"),
        "keys of customers are not used",
    ),
    **dict.fromkeys(
        (
            "PUTVault_WithCMK",
            "PUTVault_ResourceGuardEnabled",
            "PATCHVault_WithCMK",
            "PATCHVault_WithCMK3",
        ),
        (400, "UserErrorNotSupported", "keys of customers are not used"),
    ),
    "ProtectionContainers_Register": (
        *(400, "UserErrorNotSupported"),
        "machines register themselves",
    ),
    "TriggerRestore_ALR_IaasVMRestoreWithRehydrationRequest": (*NO_ARCHIVE, "no archive tier"),
    "TriggerRestore_RestoreDisks_IaasVMRestoreWithRehydrationRequest": (
        *NO_ARCHIVE,
        "no archive tier",
    ),
    "TriggerRestore_RestoreDisks_IaasVMRestoreRequest_IdentityBasedRestoreDetails": (
        *(400, "StorageAccountRequired"),
        "a folder of a host is named as a storage account; managed identities reach none",
    ),
    "ProtectionPolicies_CreateOrUpdate_Simple": (
        *(400, "UserErrorInvalidPolicyInput"),
        "the example keeps a day; Azure's own limit is seven",
    ),
    "IaaS_v2_hourly": (
        *(400, "InstantRPRetentionDays"),
        "the example keeps snapshots for 30 days; with its schedule Azure's limit is 17",
    ),
    "IaaS_v2_daily": (
        *(400, "BackupAndRetentionTimesMismatch"),
        "the example's retention times are not those of its schedule",
    ),
}
# words that clients write in letters of their own
ANY_CASE = ("identity.type",)
CONTRACT = Contract(Path(__file__).parents[1] / "facts" / "recovery_services.json")


def _named() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for one in CONTRACT.examples:
        name = one["example"]
        found[f"{name}-{len(found)}" if name in found else name] = one
    return found


EXAMPLES = _named()
SERVED = [name for name, one in EXAMPLES.items() if one["operation"] not in NOT_SERVED]


@pytest.fixture(scope="module")
def site(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A vault of its own, with an account to restore to."""
    folder = tmp_path_factory.mktemp("examples")
    with vm_farm(live, folder, "examples") as made:
        made.spot.protect("web")
        (folder / "disks").mkdir()
        made.account("examples", folder / "disks")
        yield made


@pytest.fixture(scope="module")
def point(site: Farm) -> str:
    return site.back_up("web")


def names_of(site: Farm, point: str, number: int) -> dict[str, str]:
    """What stands for the names in addresses and bodies, by the word they are named with."""
    spot, admin = site.spot, site.server.admin
    return {
        **dict.fromkeys(("subscriptionid", "subscriptions"), admin["subscription_id"]),
        **dict.fromkeys(("resourcegroupname", "resourcegroups"), spot.group),
        **dict.fromkeys(("vaultname", "vaults", "storageaccounts"), "examples"),
        **dict.fromkeys(("fabricname", "backupfabrics"), "Azure"),
        "containername": spot.container("web").rpartition("/")[2],
        "protecteditemname": spot.item("web").rpartition("/")[2],
        **dict.fromkeys(("recoverypointid", "recoverypoints"), point),
        **dict.fromkeys(("location", "azureregion", "region"), "local"),
        "policyname": f"example-{number}",
        "backuppolicies": "DefaultPolicy",
        "virtualmachines": "web",
    }


def filled(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1].lower(), f"a-{found[1]}"), text)


def asked(site: Farm, point: str, name: str) -> tuple[Operation, str, Any]:
    """The operation, its address and its body, with names of what is there."""
    one = EXAMPLES[name]
    operation = CONTRACT.operations[one["operation"]]
    names = names_of(site, point, list(EXAMPLES).index(name))
    body = json.loads(filled(json.dumps(one["body"]), names))
    if (body.get("properties") or {}).get("recoveryType") == "AlternateLocation":
        wanted = f"copy-{names['policyname']}"
        body["properties"]["targetVirtualMachineId"] = site.spot.resource(wanted)
    return operation, filled(operation.facts["path"], names), body


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_taken_or_refused_for_a_reason(site: Farm, point: str, name: str) -> None:
    operation, path, body = asked(site, point, name)
    if "protectedItems" in path and name != "ConfigureProtection":
        site.spot.protect("web")
    answer = site.server.call(operation.facts["method"], path, body)
    if operation.id in NOT_SERVED:
        assert answer.status_code in (404, 405), answer.text
        assert answer.json()["error"]["hint"]
    elif name in REFUSED:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == REFUSED[name][:2], error
    else:
        assert answer.is_success, answer.text


def wrong_ones(name: str) -> list[str]:
    """The faults of an example that no example of the same operation before it has."""
    seen: set[str] = set()
    for other, one in EXAMPLES.items():
        operation = CONTRACT.operations[one["operation"]]
        if one["operation"] == EXAMPLES[name]["operation"]:
            found = [str(fault) for fault in faults(operation, one["body"], seen)]
            if other == name:
                return found
    return []


@pytest.mark.parametrize("name", SERVED)
def test_an_example_with_one_thing_wrong_is_refused(site: Farm, point: str, name: str) -> None:
    operation, path, body = asked(site, point, name)
    new = set(wrong_ones(name))
    if "protectedItems" in path:
        site.spot.protect("web")
    for fault in faults(operation, body, set()):
        if str(fault) in new and not _is_free(fault):
            answer = site.server.call(operation.facts["method"], path, fault.body)
            assert 400 <= answer.status_code < 500, f"{fault}: {answer.status_code}"
            error = answer.json()["error"]
            assert error["code"], fault
            assert error["message"], fault
            assert error["hint"], fault


def _is_free(fault: Fault) -> bool:
    return fault.at in ANY_CASE and fault.what == "is a word in the wrong case"
