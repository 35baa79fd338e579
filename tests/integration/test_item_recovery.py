"""A recovery point opened for reading on an operator's machine: what its password opens, and how
long. The script that uses it is run in tests/az."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from holdfast.testing.live_server import LiveServer
from holdfast.testing.raw_vms import RawVms
from holdfast.testing.vm_farm import WEB, Farm, vm_farm

MIB = 1 << 20
SYSTEM = (
    os.urandom(MIB) + bytes(5 * MIB) + os.urandom(MIB) + b"end of the disk, padded" + bytes(489)
)


@pytest.fixture(scope="module")
def farm(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("open")
    image = folder / "system.raw"
    image.write_bytes(SYSTEM)
    vms = RawVms(folder / "host", WEB, "web", {-1: image})
    with vm_farm(live, folder / "host", "open", vms) as made:
        made.spot.protect("web")
        made.back_up("web")
        yield made


class Opened:
    """A point opened by one person, with the script's view of it."""

    def __init__(self, farm: Farm) -> None:
        self.farm, self.server = farm, farm.server
        self.point = self.latest()
        self.address = f"{farm.spot.item('web')}/recoveryPoints/{self.point}"
        asked = {"objectType": "IaasVMILRRegistrationRequest", "recoveryPointId": self.point}
        path = f"{self.address}/provisionInstantItemRecovery"
        answer = self.server.call("POST", path, {"properties": asked})
        assert answer.status_code == 202, answer.text
        self.operation = answer.headers["Azure-AsyncOperation"].split("?")[0].rpartition("/")[2]
        (self.script,) = self.server.ok(
            "POST", f"{self.address}/listInstantItemRecoveryOperationResult", self.asked()
        )["clientScripts"]
        name = self.script["scriptNameSuffix"]
        self.id = str(UUID(name[-47:-15]))
        self.password = name[-15:]

    def asked(self) -> dict[str, str]:
        return {"provisionInstantItemRecoveryOperationId": self.operation}

    def latest(self) -> str:
        address = f"{self.farm.spot.item('web')}/recoveryPoints"
        return str(self.server.ok("GET", address)["value"][0]["name"])

    def get(self, path: str = "", password: str = "", **query: str) -> httpx2.Response:
        where = f"{self.server.url}/providers/Holdfast.Backup/itemRecoveries/{self.id}{path}"
        headers = {"Authorization": f"Bearer {password or self.password}"}
        ca = str(self.server.data / "ca.pem")

        tls = ssl.create_default_context(cafile=ca)
        return httpx2.get(
            where,
            params={"api-version": "1", **query},
            headers=headers,
            verify=tls,
            trust_env=False,
        )

    def read(self, offset: int, length: int, lun: int = -1) -> bytes:
        answer = self.get(f"/disks/{lun}", offset=str(offset), length=str(length))
        assert answer.status_code in (200, 204), answer.text
        return bytes(length) if answer.status_code == 204 else answer.content

    def is_active(self) -> bool:
        found: Any = self.farm.point("web", self.point)["isInstantIlrSessionActive"]
        return bool(found)


def test_what_the_password_opens(farm: Farm) -> None:
    opened = Opened(farm)
    told = opened.get().json()["properties"]
    assert told["virtualMachine"] == "web"
    assert told["disks"] == [{"lun": -1, "name": "osdisk", "sizeBytes": len(SYSTEM)}]
    for offset, length in ((0, MIB), (MIB - 5, 10), (2 * MIB, MIB), (len(SYSTEM) - 512, 512)):
        assert opened.read(offset, length) == SYSTEM[offset : offset + length], offset
    assert opened.get("/disks/-1", offset=str(2 * MIB), length=str(MIB)).status_code == 204
    for query in (
        {"offset": str(len(SYSTEM)), "length": "1"},
        {"offset": "0", "length": "0"},
        {"offset": "0", "length": str(5 * MIB)},
        {"offset": "-1", "length": "1"},
    ):
        assert opened.get("/disks/-1", **query).json()["error"]["code"] == "InvalidRange", query
    unknown = opened.get("/disks/7", offset="0", length="1")
    assert unknown.json()["error"]["code"] == "DiskNotFound"


def test_the_script_holds_no_password(farm: Farm) -> None:
    opened = Opened(farm)
    script = base64.b64decode(opened.script["scriptContent"]).decode()
    compile(script, "mount.py", "exec")
    assert opened.password not in script
    assert opened.id in script and "BEGIN CERTIFICATE" in script
    assert (opened.script["osType"], opened.script["scriptExtension"]) == ("Linux", ".py")


def test_it_opens_nothing_else(farm: Farm) -> None:
    opened, other = Opened(farm), Opened(farm)
    assert opened.password != other.password
    for password in (other.password, "x" * 15, "\xe4"):
        try:
            refused = opened.get(password=password)
        except UnicodeEncodeError:
            continue
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "RecoveryNotOpen"
    headers = {"Authorization": f"Bearer {opened.password}"}
    vault = f"{farm.server.url}{farm.spot.vault}"

    tls = ssl.create_default_context(cafile=str(farm.server.data / "ca.pem"))
    answer = httpx2.get(
        vault, params={"api-version": "1"}, headers=headers, verify=tls, trust_env=False
    )
    assert answer.status_code == 401


def test_it_ends_when_it_is_revoked(farm: Farm) -> None:
    opened = Opened(farm)
    assert opened.is_active()
    answer = farm.server.call("POST", f"{opened.address}/revokeInstantItemRecovery", {})
    assert farm.server.finish(answer)["status"] == "Succeeded"
    assert not opened.is_active()
    assert opened.get().json()["error"]["code"] == "RecoveryNotOpen"
    assert Opened(farm).get().status_code == 200, "opened again, with another password"
