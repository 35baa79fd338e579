"""A vault, a host with a running agent, and on it a booted guest: the real programs, for tests of
virtual machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.testing.guest import cache_folder
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World

SETTINGS = """
[[machine]]
name = "{name}"
uuid = "{uuid}"
qmp = "{qmp}"
agent = "{agent}"
freeze_seconds = 20
"""
DISK = """[[machine.disk]]
path = "{}"
"""


class Site:
    """A vault, a host with a running agent, and on it the guest ``web1``, protected."""

    def __init__(self, world: World, place: Any) -> None:
        self.world, self.place, self.guest = world, place, place.guest
        self.folder = world.folder / "restored"
        self.folder.mkdir()
        world.start_server()
        world.login()
        world.ok("vault", "create", VAULT, "-g", GROUP)
        assert world.enroll().code == 0
        text = SETTINGS.format(
            name="web1", uuid=self.guest.uuid, qmp=self.guest.qmp, agent=self.guest.agent
        )
        text += "".join(DISK.format(path) for path in place.images)
        (world.agent_data() / "holdfast.toml").write_text(text)
        self.start_agent()
        eventually(lambda: self.seen("protectionState") == "NotProtected", "the machine is seen")
        world.ok("vm", "protect", "web1", "--policy", "EnhancedPolicy")
        words = ["storage-account", "create", "restored", "--container", HOST]
        world.ok(*words, "--path", self.folder)

    def start_agent(self, crash: str = "") -> None:
        self.world.test_mode = True  # of the agent: it may be told where to die
        appliance = str(cache_folder().with_name("appliance"))
        given = {"HOLDFAST_TEST_CRASH": crash, "HOLDFAST_APPLIANCE_DIR": appliance}
        self.world.start_agent(environment=given)

    def seen(self, name: str) -> Any:
        """What the vault says of the machine; None before it was reported."""
        rows = [one for one in self.world.ask("vm", "list") if one["name"] == "web1"]
        return rows[0]["properties"]["holdfast"][name] if rows else None

    def start_backup(self) -> str:
        """The job's id."""
        return str(self.world.ask("vm", "backup", "web1")["name"])

    def ended(self, job: str) -> dict[str, Any]:
        """What a job says of itself at its end."""
        self.world.cli("job", "wait", job)
        found: dict[str, Any] = self.world.ask("job", "show", job)["properties"]
        return found

    def back_up(self) -> dict[str, Any]:
        """What was measured on the new recovery point."""
        job = self.world.ask("vm", "backup", "web1", "--wait")["properties"]
        assert job["status"] == "Completed", job
        found: dict[str, Any] = job["holdfast"]["result"]
        return found

    def restored(self, form: str = "raw") -> dict[int, Path]:
        """Disks of the latest point as files, by LUN."""
        words = ["vm", "restore", "web1", "--recovery-point", "latest", "--disks-to", "restored"]
        job = self.world.ask(*words, "--format", form, "--wait")["properties"]
        assert job["status"] == "Completed", job
        return {one["lun"]: Path(one["path"]) for one in job["holdfast"]["result"]["disks"]}

    def truth(self) -> dict[int, bytes]:
        """Of a guest that was stopped."""
        return {lun: self.place.truth(lun) for lun in self.place.luns}

    def back_up_stopped(self) -> dict[str, Any]:
        """A backup of a moment that holds still, to compare with."""
        self.guest.shell("sync")
        self.guest.control("stop")
        return self.back_up()

    def script_ran(self) -> bool:
        """Whether the guest's pre-script has begun; its agent is busy with it."""
        return "pre-script" in self.guest.console

    def is_right(self, *, increments: bool = True) -> None:
        """The next backup is an increment, and the disks of its point are the guest's."""
        told = self.back_up_stopped()
        assert not increments or [one["full"] for one in told["disks"]] == ["", ""]
        truth = self.truth()
        self.guest.control("cont")
        files = self.restored()
        assert {lun: file.read_bytes() for lun, file in files.items()} == truth
        assert self.place.nothing_left()
        assert len(self.place.bitmaps()) == 1
        assert self.guest.patterns_hold("/mnt/b/base")
