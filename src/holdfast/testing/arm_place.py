"""A vault of a live server with a machine, an item and a recovery point: somewhere for tests of the
API to ask, without an agent that runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2

from holdfast.catalog import items, points
from holdfast.catalog.database import Catalog
from holdfast.testing.catalog_rows import point_of
from holdfast.testing.live_server import LiveServer
from holdfast.testing.scripted_agent import ScriptedAgent

HOST, ITEM = "Web1", "docs"


class ArmPlace:
    """The machine `Web1` protects `docs`. Its recovery point is a row no vault holds, so where
    something is deleted there must be none (``point``). ``now`` is the server's time."""

    def __init__(
        self,
        server: LiveServer,
        name: str = "v1",
        now: datetime | None = None,
        *,
        point: bool = True,
    ) -> None:
        self.server = server
        self.now = now or datetime.now(UTC)
        self.vault = server.make_vault(name)
        self.machine = ScriptedAgent(server, self.vault, HOST, self.now)
        self.item = self.named(ITEM)
        made = self.protect(ITEM)
        assert made.is_success, made.text
        self.point = self._add_point() if point else ""

    @property
    def container(self) -> str:
        return f"{self.vault}/backupFabrics/Azure/protectionContainers/Linux;{HOST}"

    @property
    def names(self) -> dict[str, str]:
        """What stands for the names in routes, so that they meet things that exist."""
        more = {"container": f"Linux;{HOST}", "item": f"FileFolder;{ITEM}", "point": self.point}
        others = {"policy": "EnhancedPolicy", "region": "local", "client": "administrator"}
        own = {"vault": self.vault.rpartition("/")[2]}
        names = {**self.server.names, **own, **more, **others}
        return {name: value for name, value in names.items() if value}

    def named(self, item: str) -> str:
        return f"{self.container}/protectedItems/FileFolder;{item}"

    def protect(
        self, item: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx2.Response:
        properties = {
            "protectedItemType": "MabFileFolderProtectedItem",
            "policyId": f"{self.vault}/backupPolicies/DefaultPolicy",
            "holdfast": {"includePaths": ["/srv"]},
            **more,
        }
        body = {"properties": properties}
        return self.server.call("PUT", self.named(item), body, headers=headers)

    def start_backup(self, item: str) -> httpx2.Response:
        """Protect an item and back it up; no agent takes the task, so it goes on."""
        assert self.protect(item).is_success
        answer = self.server.call("POST", f"{self.named(item)}/backup", {"properties": {}})
        assert answer.status_code == 202, answer.text
        return answer

    def rows(self, name: str, **query: str) -> list[dict[str, Any]]:
        """A list below the vault."""
        found = self.server.ok("GET", f"{self.vault}/{name}", **query)["value"]
        assert isinstance(found, list)
        return found

    def _add_point(self) -> str:
        vault_id = self.server.ok("GET", self.vault)["properties"]["holdfast"]["vaultId"]
        own = f"sqlite:///{self.server.data / 'catalog.sqlite'}"
        catalog = Catalog.open(self.server.environment.get("HOLDFAST_CATALOG_URL") or own)
        with catalog.write() as connection:
            point = point_of(items.items_of_vault(connection, vault_id)[0], 1, self.now)
            points.put_point(connection, point)
        catalog.close()
        return point.rp_id


def operation_of(answer: httpx2.Response) -> str:
    """The id of a started operation, taken as the Azure command line takes it."""
    return answer.headers["Azure-AsyncOperation"].split("?")[0].rpartition("/")[2]
