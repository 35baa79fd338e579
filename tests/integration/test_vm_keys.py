"""Keys of encrypted volumes through the agent's executor: a machine that is off, real images, a
real storage daemon, a vault in this process."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast.adapters.clock import SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.adapters.key_vault import FolderKeyVault
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm.keys import HostKeys
from holdfast.agent.vm.recovery import NoHypervisor
from holdfast.agent.vm_work import VmControl
from holdfast.errors import IntegrityError
from holdfast.key_settings import KeyNamed, KeyVaultEntry, keys_by_machine
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.vm_tasks import (
    DiskAsked,
    DiskFiles,
    KeyRestored,
    NewMachine,
    ReplaceDisks,
    VmBackedUp,
    VmBackup,
    VmRestore,
    VmRestored,
)
from holdfast.settings import FILE_NAME, load_agent_settings
from holdfast.testing.disks_vault import CONTAINER, MACHINE, DisksVault
from holdfast.testing.files_vault import PASSPHRASE, PLATFORM_KEY, DirectSession
from holdfast.testing.guest import guest_folder
from holdfast.vaultstore.manifest_stream import read_stream
from holdfast.vaultstore.reader import VaultReader
from holdfast.vaultstore.values import Unlock
from holdfast.workloads.vm.disks.keys import holds_keys, read_keys
from holdfast.workloads.vm.disks.standalone import restore_keys

MIB = 1024 * 1024
NEEDED = ("qemu-img", "qemu-storage-daemon")
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, timeout=120
    )


class Host:
    """A host with a machine that is off, of two raw disks, and a key vault."""

    def __init__(self, folder: Path, vault: Path, where: Path) -> None:
        self.images = [folder / "root.img", folder / "data.img"]
        for path in self.images:
            with path.open("wb") as file:
                file.write(os.urandom(MIB))
                file.truncate(32 * MIB)
        self.vault, self.folder = DisksVault(vault), folder
        self.where = where
        self.keys = FolderKeyVault(where)
        self.secret = os.urandom(64)
        self.control = VmControl(lambda: False)
        self.name({-1: "web1-root", 0: "web1-data"})

    def name(self, keys: dict[int, str]) -> None:
        """The agent starts with these keys in its settings."""
        disks = [
            MachineDisk(path=str(path), format="raw", key=keys.get(at - 1, ""))
            for at, path in enumerate(self.images)
        ]
        uuid = getattr(self, "uuid", str(uuid4()))
        self.uuid = uuid
        qmp = str(self.folder / "qmp.sock")
        entry = MachineEntry(name="web1", uuid=uuid, qmp=qmp, disk=disks)
        named = keys_by_machine(KeyVaultEntry(path=str(self.where)), [entry])
        hypervisor = QemuHypervisor([entry], self.folder / "agent")
        clock, files = self.vault.files.clock, SystemDiskFiles()
        self.executor = VmExecutor(
            hypervisor, files, clock, SystemRandom(), "host1", keys=HostKeys(self.keys, named)
        )

    def back_up(self) -> VmBackedUp:
        disks = (DiskAsked(lun=-1, name="os-disk"), DiskAsked(lun=0, name="data-disk-0"))
        session = self.vault.session()
        self.control = VmControl(lambda: False)
        try:
            asked = VmBackup(uuid=self.uuid, name="web1", disks=disks)
            return self.executor.back_up(asked, session, self.control)
        finally:
            session.close()

    def restore(
        self,
        target: DiskFiles | NewMachine | ReplaceDisks,
        *luns: int,
        keys: bool = True,
    ) -> VmRestored:
        point, job_id = self.vault.latest(), self.vault.files.job_id()
        grant = self.vault.vault.begin_session(
            "restore", CONTAINER, MACHINE, job_id, pins=[point], with_keys=keys
        )
        session = DirectSession(self.vault.vault, grant, self.vault.files.clock)
        asked = VmRestore(
            recovery_point_id=point,
            uuid=self.uuid,
            name="web1",
            target=target,
            luns=luns,
            restore_keys=keys,
        )
        self.control = VmControl(lambda: False)
        done = self.executor.restore(asked, session, self.control)
        assert isinstance(done, VmRestored)
        return done

    def found(self) -> list[tuple[str, bytes]]:
        return [(one.code, one.path) for one in self.control.findings.all()]

    def kept(self) -> dict[str, bytes]:
        """All files of the key vault."""
        files = [path for path in self.where.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.where)): path.read_bytes() for path in files}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)} (qemu-utils, qemu-system-common)")
    with guest_folder() as folder:
        yield Host(folder, tmp_path / "vault", tmp_path / "keys")


@pytest.fixture
def keyed(host: Host) -> Host:
    """With a key for each disk."""
    host.keys.put("web1-root", host.secret)
    host.keys.put("web1-data", b"key of the data", "4")
    return host


def test_a_luks_volume_opens_with_the_key_that_came_back(host: Host, tmp_path: Path) -> None:
    program = shutil.which("cryptsetup", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("needs cryptsetup (cryptsetup-bin)")
    host.keys.put("web1-root", os.urandom(64))
    host.keys.put("web1-data", host.secret)
    key = host.where / "web1-data" / "1"
    quick = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key)
    made = run(program, "luksFormat", "--batch-mode", "--type", "luks2", *quick, host.images[1])
    assert made.returncode == 0, made
    opens = (program, "open", "--test-passphrase", "--key-file")
    host.back_up()
    assert host.found() == []
    shutil.rmtree(host.where)
    done = host.restore(NewMachine(name="web2", folder=str(tmp_path)))
    restored = next(disk.path for disk in done.disks if disk.lun == 0)
    assert run(program, "isLuks", restored).returncode == 0
    assert run(*opens, host.where / "web1-data" / "1", restored).returncode == 0
    wrong = run(*opens, host.where / "web1-root" / "1", restored)
    assert wrong.returncode != 0, "the other disk's key opens nothing"


def test_keys_come_back_as_they_were_and_the_definition_names_them(
    keyed: Host, tmp_path: Path
) -> None:
    before = keyed.kept()
    keyed.back_up()
    shutil.rmtree(keyed.where)
    done = keyed.restore(NewMachine(name="web2", folder=str(tmp_path)))
    assert keyed.kept() == before
    modes = {stat.S_IMODE(path.stat().st_mode) for path in keyed.where.rglob("*")}
    assert modes == {0o700, 0o600}
    assert stat.S_IMODE(keyed.where.stat().st_mode) == 0o700
    assert done.keys == (
        KeyRestored(name="web1-root", version="1", luns=(-1,), added=True),
        KeyRestored(name="web1-data", version="4", luns=(0,), added=True),
    )
    settings = (Path(done.definition).parent / "machine.toml").read_text()
    vault = f'[key_vault]\npath = "{keyed.where}"\n'
    (tmp_path / FILE_NAME).write_text(vault + settings)
    loaded = load_agent_settings(tmp_path, {})
    assert keys_by_machine(loaded.key_vault, loaded.machine) == {
        "web2": (
            KeyNamed(name="web1-root", version="1", luns=(-1,)),
            KeyNamed(name="web1-data", version="4", luns=(0,)),
        )
    }
    again = keyed.restore(NewMachine(name="web3", folder=str(tmp_path)))
    assert [one.added for one in again.keys] == [False, False]
    assert (keyed.kept(), keyed.found()) == (before, [("NetworkNotRestored", b"")])


def test_who_reads_the_point_sees_no_key(keyed: Host) -> None:
    """A restore session as every reader has one, and all that the point's streams hold."""
    keyed.back_up()
    point = keyed.vault.open()
    assert holds_keys(point.root)
    for stream in point.root.streams:
        if stream.kind == "byte-stream":
            data = read_stream(stream, point.source.pages, MIB)
            assert keyed.secret not in data
            assert b"key of the data" not in data
    described = point.machine()
    assert described["keys"] == [
        {"name": "web1-root", "version": "1", "luns": [-1]},
        {"name": "web1-data", "version": "4", "luns": [0]},
    ]
    with pytest.raises(IntegrityError):
        read_keys(point.root, point.source.pages, b"", b"V" * 16)
    grant = keyed.vault.session().grant
    assert grant.keys_key == b"", "a backup's session puts no keys back"


def test_only_a_restore_that_puts_keys_back_is_granted_what_opens_them(keyed: Host) -> None:
    keyed.back_up()
    pins = [keyed.vault.latest()]
    granted = [
        keyed.vault.vault.begin_session(
            "restore", CONTAINER, MACHINE, keyed.vault.files.job_id(), pins=pins, with_keys=asked
        )
        for asked in (False, True)
    ]
    assert [len(grant.keys_key) for grant in granted] == [0, 32]
    assert [grant.session_key for grant in granted] == [b"", b""]


def test_without_being_asked_no_key_is_put(keyed: Host, tmp_path: Path) -> None:
    keyed.back_up()
    shutil.rmtree(keyed.where)
    done = keyed.restore(DiskFiles(folder=str(tmp_path)), keys=False)
    assert (done.keys, keyed.where.exists(), len(done.disks)) == ((), False, 2)
    done = keyed.restore(DiskFiles(folder=str(tmp_path)))
    assert len(done.keys) == len(keyed.kept()) == 2


def test_only_keys_of_the_disks_that_are_restored_are_put(keyed: Host, tmp_path: Path) -> None:
    keyed.back_up()
    shutil.rmtree(keyed.where)
    keyed.restore(DiskFiles(folder=str(tmp_path)), 0)
    assert keyed.kept() == {"web1-data/4": b"key of the data"}


def test_a_missing_key_is_found_and_the_disks_are_backed_up(keyed: Host, tmp_path: Path) -> None:
    shutil.rmtree(keyed.where / "web1-root")
    (keyed.where / "web1-data" / "4").chmod(0o644)
    done = keyed.back_up()
    assert len(done.disks) == 2
    assert keyed.found() == [("KeyNotBackedUp", b"web1-root"), ("KeyNotBackedUp", b"web1-data")]
    told = [one.message for one in keyed.control.findings.all()]
    assert "put the key there" in told[0]
    assert "mode 0600" in told[1]
    point = keyed.vault.open()
    assert (holds_keys(point.root), point.machine()["keys"]) == (False, [])
    assert [one.code for one in point.root.findings] == ["KeyNotBackedUp"] * 2
    restored = keyed.restore(DiskFiles(folder=str(tmp_path), format="raw"))
    for disk, image in zip(restored.disks, keyed.images, strict=True):
        assert Path(disk.path).read_bytes() == image.read_bytes()


def test_of_two_keys_the_one_that_is_there_is_taken(keyed: Host, tmp_path: Path) -> None:
    shutil.rmtree(keyed.where / "web1-root")
    keyed.back_up()
    shutil.rmtree(keyed.where)
    keyed.restore(NewMachine(name="web2", folder=str(tmp_path)))
    assert keyed.kept() == {"web1-data/4": b"key of the data"}


def test_another_key_of_that_name_stays(keyed: Host, tmp_path: Path) -> None:
    keyed.back_up()
    shutil.rmtree(keyed.where)
    keyed.keys.put("web1-data", b"a new key", "4")
    done = keyed.restore(NewMachine(name="web2", folder=str(tmp_path)))
    assert [(one.name, one.version) for one in done.keys] == [
        ("web1-root", "1"),
        ("web1-data", "5"),
    ]
    assert keyed.keys.get("web1-data", "4").value == b"a new key"
    assert keyed.keys.get("web1-data", "5").value == b"key of the data"
    assert ("KeyBecameCurrent", b"web1-data") in keyed.found()


def test_in_place_says_when_the_next_backup_would_take_another_key(keyed: Host) -> None:
    keyed.back_up()
    keyed.keys.put("web1-data", b"the key since yesterday")
    done = keyed.restore(ReplaceDisks())
    assert [(one.version, one.added) for one in done.keys] == [("1", False), ("4", False)]
    assert keyed.found() == [("KeyNotCurrent", b"web1-data")]
    keyed.name({-1: "web1-root", 0: "web1-data/4"})
    keyed.restore(ReplaceDisks())
    assert keyed.found() == [], "as its hint says"


def test_a_host_without_a_key_vault_restores_the_disks_and_says_so(
    keyed: Host, tmp_path: Path
) -> None:
    keyed.back_up()
    clock, files = keyed.vault.files.clock, SystemDiskFiles()
    keyed.executor = VmExecutor(NoHypervisor(), files, clock, SystemRandom(), "host2")
    done = keyed.restore(NewMachine(name="web2", folder=str(tmp_path)))
    assert (len(done.disks), done.keys) == (2, ())
    assert ("KeyNotRestored", b"") in keyed.found()


def test_from_the_vaults_folder_and_the_exported_key_alone(keyed: Host, tmp_path: Path) -> None:
    before = keyed.kept()
    keyed.back_up()
    keyed.back_up()
    reader = VaultReader.open(keyed.vault.files.store, Unlock(platform_key=PLATFORM_KEY))
    record = reader.recovery_point(keyed.vault.latest())
    put = restore_keys(reader, record, FolderKeyVault(tmp_path / "back"))
    assert {f"{one.name}/{one.version}": one.value for one in put} == before
    exported, words = tmp_path / "vault.key", tmp_path / "passphrase"
    exported.write_bytes(keyed.vault.vault.export_key(PASSPHRASE))
    words.write_text(PASSPHRASE)
    (folder,) = (path.parent for path in (tmp_path / "vault" / "store").glob("*/descriptor"))
    told = ("--path", folder, "--key", exported, "--passphrase-file", words)
    to = ("--to", tmp_path / "disks", "--keys", tmp_path / "decoded")
    (tmp_path / "disks").mkdir()
    done = run(sys.executable, DECODER, "restore", *told, *to)
    assert done.returncode == 0, done
    for name, value in before.items():
        path = tmp_path / "decoded" / name
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (value, 0o600)
    assert (tmp_path / "disks" / "disk-0.raw").read_bytes() == keyed.images[1].read_bytes()
