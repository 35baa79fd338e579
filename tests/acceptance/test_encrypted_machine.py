"""A machine with an encrypted volume through the real programs: its key is backed up, lost, and put
back, and is in clear nowhere but in the host's key vault."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.guest import guest_folder
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World

MIB = 1024 * 1024
NEEDED = ("qemu-img", "qemu-storage-daemon")
UUID = "7d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10"
SETTINGS = """libvirt = "no"
[key_vault]
path = "{keys}"
[[machine]]
name = "web1"
uuid = "{uuid}"
qmp = "{folder}/qmp.sock"
key = "web1-volumes"
[[machine.disk]]
path = "{folder}/root.qcow2"
"""


class Keyed:
    """A vault, and a host with the machine ``web1``, which is off and protected."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.keys = world.folder / "keys"
        self.secret = os.urandom(64)
        self.place = self.keys / "web1-volumes"
        self.place.mkdir(mode=0o700, parents=True)
        self.keys.chmod(0o700)
        key = self.place / "1"
        key.touch(0o600)
        key.write_bytes(self.secret)
        image = folder / "root.qcow2"
        make = ["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(8 * MIB)]
        subprocess.run(make, check=True, timeout=60)
        world.start_server()
        world.login()
        world.ok("vault", "create", VAULT, "-g", GROUP)
        assert world.enroll().code == 0
        text = SETTINGS.format(keys=self.keys, uuid=UUID, folder=folder)
        (world.agent_data() / "holdfast.toml").write_text(text)
        world.start_agent()
        eventually(lambda: world.ask("vm", "list"), "the machine is seen", seconds=60)
        world.ok("vm", "protect", "web1", "--policy", "EnhancedPolicy")

    def item(self) -> list[str]:
        holder = f"IaasVMContainer;iaasvmcontainerv2;{GROUP};web1"
        return ["--item", f"VM;iaasvmcontainerv2;{GROUP};web1", "--container", holder]

    def show(self) -> Any:
        words = ["recovery-point", "show", "--recovery-point", "latest", *self.item()]
        return self.world.ask(*words)["properties"]

    def told(self) -> str:
        words = ["recovery-point", "show", "--recovery-point", "latest", *self.item()]
        return self.world.ok(*words).out


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)} (qemu-utils, qemu-system-common)")
    world = World(tmp_path)
    try:
        with guest_folder() as folder:
            yield Keyed(world, folder)
    finally:
        world.close()


def forms(secret: bytes) -> list[bytes]:
    """As somebody careless could have written it down."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), repr(secret)[2:-1].encode()]


def leaks(folder: Path, but: Path, secret: bytes) -> list[str]:
    """Files below ``folder`` that hold the secret in any form, ``but`` for the key vault's."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and but not in path.parents:
            data = path.read_bytes()
            found += [str(path) for form in forms(secret) if form in data]
    return found


def test_a_lost_key_comes_back_and_was_nowhere_in_clear(keyed: Keyed) -> None:
    world = keyed.world
    answers: list[Any] = [world.ask("vm", "backup", "web1", "--wait")]
    assert answers[0]["properties"]["status"] == "Completed", answers
    point = keyed.show()
    answers.append(point)
    assert point["isSourceVMEncrypted"] is True
    assert point["keyAndSecret"]["bekDetails"] == {"secretUrl": "web1-volumes/1"}
    named = {"name": "web1-volumes", "version": "1", "luns": []}
    assert point["holdfast"]["encryption"] == {"keys": [named], "keysMissing": []}
    assert "web1-volumes version 1 (all disks)" in keyed.told()
    shutil.rmtree(keyed.place)
    words = ["vm", "restore", "web1", "--recovery-point", "latest", "--new", "web2", "--wait"]
    answers.append(world.ask(*words))
    assert answers[-1]["properties"]["holdfast"]["result"]["keys"] == [named | {"added": True}]
    key = keyed.place / "1"
    assert key.read_bytes() == keyed.secret
    assert [stat.S_IMODE(path.stat().st_mode) for path in (keyed.place, key)] == [0o700, 0o600]
    answers.append(world.ask("job", "list"))
    answers += [world.ask("job", "show", job["name"]) for job in answers[-1]]
    answers.append(world.ask("vm", "list"))
    text = json.dumps(answers, ensure_ascii=False).encode()
    assert [form for form in forms(keyed.secret) if form in text] == []
    world.stop_agent(HOST)
    world.stop_server()
    assert leaks(world.folder, keyed.keys, keyed.secret) == []
    assert leaks(keyed.folder, keyed.keys, keyed.secret) == [], "beside the disks"
    canary = world.folder / "canary"
    canary.write_bytes(b"x" + keyed.secret.hex().encode())
    assert leaks(world.folder, keyed.keys, keyed.secret) == [str(canary)], "it would be seen"


def test_a_key_that_is_not_there_is_told_where_people_look(keyed: Keyed) -> None:
    shutil.rmtree(keyed.place)
    job = keyed.world.ask("vm", "backup", "web1", "--wait")["properties"]
    assert job["status"] == "CompletedWithWarnings"
    point = keyed.show()
    assert point["isSourceVMEncrypted"] is True
    assert "keyAndSecret" not in point
    assert point["holdfast"]["encryption"] == {"keys": [], "keysMissing": ["web1-volumes"]}
    assert "NOT in this point: web1-volumes" in keyed.told()
    assert "put the key there" in json.dumps(job)


def test_disks_alone_bring_the_key_when_asked_and_so_does_the_vaults_folder(
    keyed: Keyed, tmp_path: Path
) -> None:
    world = keyed.world
    world.ok("vm", "backup", "web1", "--wait")
    shutil.rmtree(keyed.place)
    (tmp_path / "disks").mkdir()
    words = ["storage-account", "create", "disks", "--container", HOST]
    world.ok(*words, "--path", tmp_path / "disks")
    words = ["vm", "restore", "web1", "--recovery-point", "latest", "--disks-to", "disks"]
    world.ok(*words, "--wait")
    assert not keyed.place.exists()
    world.ok(*words, "--keys", "--wait")
    assert (keyed.place / "1").read_bytes() == keyed.secret
    key = world.folder / "vault.key"
    world.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    alone = ["--path", world.vault_folder(), "--key", key, "--item", keyed.item()[1]]
    to = ["--recovery-point", "latest", "--to", tmp_path / "alone"]
    told = world.ok("store", "restore", *alone, *to, "--keys-to", tmp_path / "back").out
    assert "key web1-volumes, version 1," in told
    assert (tmp_path / "back" / "web1-volumes" / "1").read_bytes() == keyed.secret
