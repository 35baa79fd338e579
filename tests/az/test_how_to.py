"""The commands of "Use your az scripts", typed one after the other as they are written: what a
newcomer does, in a home of their own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.testing.azure_cli import Az
from holdfast.testing.azure_sdk import address, admin
from holdfast.testing.how_to import blocks, commands, filled
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, World

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-az-scripts.md"
ITEM = "newcomer"


class Newcomer:
    """A shell in an empty home. ``said``: what the page means by its words."""

    def __init__(self, world: World, az: Az, home: Path) -> None:
        self.home, self.typed = home, list[str]()
        tenant = admin(world)
        self.said = {
            "https://HOST:8443": address(world),
            "CLIENT_ID": tenant["client_id"],
            "CLIENT_SECRET": shlex.quote(tenant["client_secret"]),
            "TENANT_ID": tenant["tenant_id"],
            "Linux;HOST": f"Linux;{HOST}",
            "FileFolder;ITEM": f"FileFolder;{ITEM}",
            "-n v1 -l local": "-n their-own -l local",
            "/srv/restored": str(home / "restored"),
        }
        programs = f"{az.program.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {
            **{key: az.environment[key] for key in ("HTTPS_PROXY", "NO_PROXY")},
            "HOME": str(home),
            "PATH": programs,
            "LANG": "C.UTF-8",
        }
        self.kept = list[str]()  # what later commands go on with
        shutil.copy(world.server_data / "ca.pem", home)

    def type(self, line: str) -> str:
        """What a command prints; it must end well."""
        command = filled(line, self.said)
        done = subprocess.run(
            ["bash", "-c", "\n".join(["set -e", *self.kept, command])],
            env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if not command.startswith("az "):
            self.kept.append(command)
        self.typed.append(command)
        return done.stdout


@pytest.fixture(scope="module")
def newcomer(world: World, shell: Az, tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """After the page's first block: logged in as it says."""
    home = tmp_path_factory.mktemp("newcomer")
    source = home / "letters"
    source.mkdir()
    (source / "letter.txt").write_text("dear reader")
    world.ok("item", "protect", ITEM, "--container", HOST, "--include", source,
             "--policy", "DefaultPolicy")  # fmt: skip
    world.back_up(item=ITEM)
    made = Newcomer(world, shell, home)
    for line in commands(blocks(PAGE, "## az")[0]):
        made.type(line)
    return made


def test_the_first_commands(newcomer: Newcomer) -> None:
    lines = commands(blocks(PAGE, "## az")[2])
    said = {line.split(" -")[0]: newcomer.type(line) for line in lines}
    assert "DefaultPolicy" in said["az backup policy list"]
    assert f"Linux;{HOST}" in said["az backup container list"]
    assert f"FileFolder;{ITEM}" in said["az backup item list"]
    assert "Backup" in said["az backup job list"]


def test_what_az_does_not_do_for_folders(newcomer: Newcomer, world: World) -> None:
    """Every line of az rest; what one starts has ended before the next is typed."""
    state = ""
    for line in commands(blocks(PAGE, "## az")[3]):
        if line.endswith("# undelete"):
            world.ok("item", "disable", ITEM, "--container", HOST, "--delete-data", "--yes")
        points = len(world.points(ITEM))
        told = newcomer.type(line)
        eventually(lambda: all(job["properties"]["status"] != "InProgress" for job in world.jobs()),
                   f"{line} is done")  # fmt: skip
        if "$I/backup?" in line:
            assert len(world.points(ITEM)) == points + 1
        if "$I/recoveryPoints?" in line:
            assert told.count('"recoveryPointTime"') == points
        rows = world.ask("item", "list")
        state = next(
            row["properties"]["protectionState"] for row in rows if row["name"].endswith(ITEM)
        )
        if "# disable" in line or "# undelete" in line:
            assert state == "ProtectionStopped", line
    assert state == "Protected"
    found = next((newcomer.home / "restored").rglob("letter.txt"))
    assert found.read_text() == "dear reader"


def test_roles_are_given_and_taken(newcomer: Newcomer, world: World) -> None:
    password = newcomer.home / "password"
    password.write_text("correct horse battery")
    world.ok("user", "create", "ann", "--password-file", password)
    lines = commands(blocks(PAGE, "### Roles")[0])
    said = [newcomer.type(line) for line in lines]
    assert "ann" in next(text for line, text in zip(lines, said, strict=True) if " list " in line)
    assert world.ask("role", "assignments", "--user", "ann", "-g", "rg1", "-v", "v1") == []
