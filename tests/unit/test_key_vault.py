"""The key vault in a folder: what it keeps, whom it lets read, and what it refuses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.adapters.key_vault import FolderKeyVault
from holdfast.errors import HoldfastError
from holdfast.ports.key_vault import MAX_SECRET, read_reference

KEY, OTHER = b"\x00key\n" * 9, b"another key"


@pytest.fixture
def vault(tmp_path: Path) -> FolderKeyVault:
    return FolderKeyVault(tmp_path / "keys")


@contextmanager
def refused(code: str) -> Iterator[list[HoldfastError]]:
    found: list[HoldfastError] = []
    with pytest.raises(HoldfastError) as raised:
        yield found
    found.append(raised.value)
    assert (raised.value.code, bool(raised.value.hint)) == (code, True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_put_is_got_and_the_agents_alone(vault: FolderKeyVault, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put = vault.put("web1-root", KEY)
    finally:
        os.umask(before)
    assert vault.get("web1-root") == put == vault.get("web1-root", "1")
    assert (put.value, put.version) == (KEY, "1")
    folder = tmp_path / "keys"
    modes = [mode(folder), mode(folder / "web1-root"), mode(folder / "web1-root" / "1")]
    assert modes == [0o700, 0o700, 0o600]
    assert [path.name for path in (folder / "web1-root").iterdir()] == ["1"]
    assert (vault.names(), vault.versions("web1-root")) == (["web1-root"], ["1"])


def test_a_version_is_never_overwritten(vault: FolderKeyVault) -> None:
    assert vault.put("k", KEY, "3").version == "3", "the one asked for, which is free"
    assert vault.put("k", KEY).version == "3", "what is there already is not put again"
    assert vault.put("k", OTHER, "3").version == "4", "3 is another key's"
    assert vault.put("k", b"third", "1").version == "1"
    assert vault.versions("k") == ["1", "3", "4"]
    assert [vault.get("k", one).value for one in ("1", "3", "4")] == [b"third", KEY, OTHER]
    assert vault.get("k").value == OTHER, "the highest is current"


def test_versions_are_numbers_not_texts(vault: FolderKeyVault) -> None:
    vault.put("k", KEY, "9")
    assert vault.put("k", OTHER, "10").version == "10"
    assert vault.get("k").version == "10"


def test_what_is_not_there(vault: FolderKeyVault, tmp_path: Path) -> None:
    assert (vault.names(), vault.versions("k")) == ([], [])
    with refused("SecretNotFound"):
        vault.get("k")
    assert not (tmp_path / "keys").exists(), "nothing is made by looking"
    vault.put("k", KEY)
    with refused("SecretNotFound"):
        vault.get("k", "2")
    (tmp_path / "keys" / "k" / "1").unlink()
    with refused("SecretNotFound"):
        vault.get("k")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../k", "a/b", "/k", ".partial", "a.b", "-k", "k\n", "k\0", "größe", "k" * 128],
)
def test_odd_names_lead_nowhere(vault: FolderKeyVault, tmp_path: Path, name: str) -> None:
    (tmp_path / "k").mkdir(mode=0o700)
    with refused("SecretNameRefused"):
        vault.put(name, KEY)
    with refused("SecretNameRefused"):
        vault.get(name)
    assert [path.name for path in tmp_path.rglob("*")] == ["k"]


@pytest.mark.parametrize("version", ["0", "01", "../1", "a", "1\n", "-1", "1" * 10])
def test_odd_versions_lead_nowhere(vault: FolderKeyVault, version: str) -> None:
    vault.put("k", KEY)
    with refused("SecretNameRefused"):
        vault.get("k", version)
    with refused("SecretNameRefused"):
        read_reference(f"k/{version}")


def test_references() -> None:
    assert read_reference("web1-root") == ("web1-root", "")
    assert read_reference("web1-root/12") == ("web1-root", "12")
    with refused("SecretNameRefused"):
        read_reference("web1-root/")


@pytest.mark.parametrize(
    ("place", "bits"),
    [(".", 0o750), (".", 0o701), ("k", 0o710), ("k/1", 0o640), ("k/1", 0o604), ("k/1", 0o620)],
)
def test_what_others_may_reach_is_refused(
    vault: FolderKeyVault, tmp_path: Path, place: str, bits: int
) -> None:
    vault.put("k", KEY)
    (tmp_path / "keys" / place).chmod(bits)
    with refused("KeyVaultUnsafe") as found:
        vault.get("k")
    assert "chmod" not in found[0].message
    assert f"{bits:04o}" in found[0].message
    with refused("KeyVaultUnsafe"):
        vault.put("k", OTHER)
    assert [path.name for path in (tmp_path / "keys" / "k").iterdir()] == ["1"]


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to another user")
@pytest.mark.parametrize("place", [".", "k", "k/1"])
def test_what_another_user_owns_is_refused(
    vault: FolderKeyVault, tmp_path: Path, place: str
) -> None:
    vault.put("k", KEY)
    os.chown(tmp_path / "keys" / place, 65534, 65534)
    with refused("KeyVaultUnsafe"):
        vault.get("k")


@pytest.mark.parametrize("place", [".", "k", "k/1"])
def test_links_are_not_followed(vault: FolderKeyVault, tmp_path: Path, place: str) -> None:
    vault.put("k", KEY)
    path = tmp_path / "keys" / place
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with refused("KeyVaultUnreadable"):
        vault.get("k")
    with pytest.raises(HoldfastError):
        vault.put("k", OTHER)
    assert sorted(tmp_path.rglob("2")) == []


def test_a_pipe_is_no_key_and_nobody_waits_for_it(vault: FolderKeyVault, tmp_path: Path) -> None:
    vault.put("k", KEY)
    os.mkfifo(tmp_path / "keys" / "k" / "2", 0o600)
    with refused("KeyVaultUnsafe"):
        vault.get("k")


@pytest.mark.parametrize("value", [b"", b"x" * (MAX_SECRET + 1)])
def test_no_key_has_that_size(vault: FolderKeyVault, tmp_path: Path, value: bytes) -> None:
    with refused("SecretRefused"):
        vault.put("k", value)
    vault.put("k", KEY)
    (tmp_path / "keys" / "k" / "1").write_bytes(value)
    with refused("SecretRefused"):
        vault.get("k")


def test_what_an_interrupted_run_left_is_no_version(vault: FolderKeyVault, tmp_path: Path) -> None:
    vault.put("k", KEY)
    left = tmp_path / "keys" / "k" / ".partial"
    left.write_bytes(b"half")
    assert vault.versions("k") == ["1"]
    assert vault.put("k", OTHER).version == "2"
    assert not left.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with refused("KeyVaultUnwritable"):
        FolderKeyVault(tmp_path / "none" / "keys").put("k", KEY)


def test_no_text_of_a_secret_shows_its_value(vault: FolderKeyVault) -> None:
    assert "another" not in repr(vault.put("k", OTHER)) + str(vault.get("k"))
