"""A whole server in this process, without its network side, under a clock moved by hand, and an
agent in memory: for tests of what happens over weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.adapters.clock import SystemRandom
from holdfast.bootstrap import build
from holdfast.catalog import items, jobs, places, points
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.places import ResourceGroup
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow, vaults_due
from holdfast.services import item_life
from holdfast.services.agents import Enrolment, enrol, issue_vault_credentials
from holdfast.services.items import SavedItem, back_up_now, find_item
from holdfast.services.maintenance import ImportAsked, import_vault
from holdfast.services.recovery import RestoreAsked, restore
from holdfast.services.vaults import create_vault, export_key, get_vault
from holdfast.settings import Settings
from holdfast.testing.job_yard import YardAgent
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
GROUP, VAULT, HOST, ITEM, ANN = "rg1", "v1", "host1", "docs", "ann"
PASSPHRASE = "a long passphrase for tests"
QUICK = Settings(reserve_bytes=0, scrub_days=0, tick_seconds=0.05, pack_target_bytes=65536)


class Premises:
    """The vault ``v1``, the machine ``host1`` and its item ``docs``; ``agent.files`` is what the
    machine holds."""

    def __init__(self, folder: Path, settings: Settings = QUICK) -> None:
        self.clock = MovableClock(START)
        self.folder, self.settings = folder, settings
        self.start()
        place = ResourceGroup(self.platform.subscription_id, GROUP, GROUP, "local", {}, START)
        with self.platform.catalog.write() as connection:
            places.add_group(connection, place)
        create_vault(self.platform, GROUP, VAULT, {"location": "local", "properties": {}})
        self.agent = self.enrol()
        self.agent.start()
        self.protect()

    def start(self) -> None:
        """Open what the folder holds, as a server does at its start."""
        self.parts = build(self.folder, self.settings, self.clock, SystemRandom())
        self.platform = self.parts.platform
        self.parts.start()

    def close(self) -> None:
        self.agent.stop()
        self.parts.close()

    def lose_server(self, folder: Path) -> JobRow:
        """Let the server be lost with its catalog, and the vault be imported on an empty one below
        ``folder``, under its name; the job that did it. No agent is enrolled there yet."""
        found = self.vault
        key = export_key(self.platform, GROUP, VAULT, PASSPHRASE)
        source = str(Path(found.store_url.removeprefix("file://")) / found.id)
        self.close()
        self.folder = folder
        self.start()
        asked = ImportAsked("", source, key, PASSPHRASE, VAULT, "local")
        return self.ended(import_vault(self.platform, GROUP, asked, ANN)[1])

    def vault_folder(self, vault_id: str) -> Path:
        return self.folder / "vaults" / vault_id

    def enrol(self, host: str = HOST, *, replace: bool = False) -> YardAgent:
        """The agent of a machine that enrolled now; it does not run yet."""
        platform, vault = self.platform, self.vault
        public = Ed25519PrivateKey.generate().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        with platform.catalog.write() as connection:
            token, _ = issue_vault_credentials(
                connection, self.clock, platform.rng, vault.id, 3600, ANN
            )
        asked = Enrolment(token, host, "linux", pem, replace, "test")
        made = enrol(platform.catalog, self.clock, platform.rng, asked)
        opened = platform.vaults.open(vault.id)
        return YardAgent(self.parts.agents, made.agent, opened, platform.rng)

    @property
    def vault(self) -> VaultRow:
        return get_vault(self.platform, GROUP, VAULT)

    def item(self) -> ItemRow | None:
        with self.platform.catalog.read() as connection:
            rows = items.items_of_vault(connection, self.vault.id)
        return rows[0] if rows else None

    def points(self) -> list[PointRow]:
        """Of the item, newest first."""
        with self.platform.catalog.read() as connection:
            _, row = find_item(connection, self.vault, HOST, ITEM)
            return points.points_of_item(connection, row.id)

    def stored(self) -> set[str]:
        """Ids of the points the vault itself holds."""
        opened = self.platform.vaults.open(self.vault.id)
        opened.refresh()
        return {record.rp_id for record in opened.recovery_points()}

    # what a client asks for

    def put(self, **properties: Any) -> SavedItem:
        return item_life.put_item(self.platform, self.vault, HOST, ITEM, properties, ANN)

    def protect(self, policy: str = "DefaultPolicy") -> SavedItem:
        ours = {"includePaths": ["/srv"]}
        return self.put(policyId=policy, holdfast=ours)

    def delete(self) -> JobRow:
        return self.ended(item_life.delete_item(self.platform, self.vault, HOST, ITEM, ANN))

    def undelete(self) -> SavedItem:
        return self.put(isRehydrate=True, protectionState="ProtectionStopped", policyId="")

    def back_up(self) -> JobRow:
        return self.ended(back_up_now(self.platform, self.vault, HOST, ITEM, None, ANN))

    def restored(self, point: str = "latest") -> dict[bytes, bytes]:
        """What a restore brings back."""
        asked = RestoreAsked("", "/restored", [], "overwrite", False)
        self.agent.restored = {}
        job = self.ended(restore(self.platform, self.vault, HOST, ITEM, point, asked, ANN))
        assert job.status == "Completed", job
        return self.agent.restored

    # time and jobs

    def job(self, job_id: str) -> JobRow:
        with self.platform.catalog.read() as connection:
            return self.parts.engine.ledger.get(connection, job_id)

    def ended(self, job_id: str) -> JobRow:
        eventually(lambda: not self.job(job_id).active, f"job {job_id} ends", every=0.02)
        return self.job(job_id)

    def is_idle(self) -> bool:
        with self.platform.catalog.read() as connection:
            return not jobs.active_jobs(connection)

    def pass_days(self, days: float, step: float = 1) -> None:
        """``step`` days at a time, each with the maintenance and the backup that are due then."""
        until = self.clock.now() + timedelta(days=days)
        while self.clock.now() < until:
            self.clock.pass_time(min(timedelta(days=step), until - self.clock.now()))
            self.parts.engine.wake()
            eventually(self._is_settled, f"the work of {self.clock.now():%F}", every=0.02)

    def _is_settled(self) -> bool:
        """Nothing is due and nothing runs."""
        now = self.clock.now()
        with self.platform.catalog.read() as connection:
            due = items.items_due(connection, now, limit=1)
            waiting = vaults_due(connection, now, limit=1)
        return not due and not waiting and self.is_idle()
