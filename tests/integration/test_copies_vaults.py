"""Vaults over several disks: what was committed is restored whatever one disk does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.errors import StoreUnavailableError
from holdfast.ports.copied_store import copied
from holdfast.services import alert_watch, copies
from holdfast.testing.copied_disks import made, opened
from holdfast.testing.in_process import InProcess, in_process
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
FIRST = {b"a": b"alpha" * 9000, b"b/c": b"gamma" * 20_000}
SECOND = {b"a": b"other" * 9000, b"b/d": b"delta" * 3000}


class Yard:
    """A vault over three disks; ``reopen`` is a new process."""

    def __init__(self) -> None:
        self.disks, self.rng = made(), SeededRandom(3)
        self.store = opened(self.disks)
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=MovableClock(), rng=self.rng
        )

    def reopen(self) -> Vault:
        self.store = opened(self.disks)
        self.vault = Vault.open(
            self.store,
            IDS.vault_id,
            Unlock(platform_key=KEY),
            clock=MovableClock(),
            rng=self.rng,
            accept_damage=True,
        )
        return self.vault

    @property
    def agent(self) -> LittleAgent:
        return LittleAgent(self.vault, self.rng)


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("late", [2, 3])
def test_a_point_is_restored_without_any_one_disk(lost: int, late: int) -> None:
    yard = Yard()
    yard.store.settle()
    yard.disks[late - 1].refuses = lambda method, _: method in ("create", "upload", "publish")
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[lost - 1].away = True
    yard.reopen()
    yard.disks[late - 1].refuses = lambda _method, _key: False
    if lost != 1:
        assert yard.agent.restore(rp_id) == FIRST
        return
    assert {name for name, _ in yard.vault.file_tree(rp_id).walk()} >= {b"b"}
    with pytest.raises(StoreUnavailableError):
        yard.agent.back_up(SECOND)
    yard.store.fail_over(2)
    second = yard.agent.back_up(SECOND).rp_id
    yard.disks[0].away = False
    yard.reopen()
    assert (yard.agent.restore(rp_id), yard.agent.restore(second)) == (FIRST, SECOND)
    assert yard.vault.doubt is None


@pytest.mark.parametrize("liar", [1, 2, 3])
def test_a_restore_from_disks_of_which_one_lies_is_right_and_names_it(liar: int) -> None:
    yard = Yard()
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[liar - 1].lies = True
    yard.reopen()
    assert all(yard.agent.restore(rp_id) == FIRST for _ in range(3))
    assert not yard.vault.verify().damages
    wrong = [member.wrong for member in yard.store.members()]
    assert wrong[liar - 1] == sum(wrong) > 0


@pytest.mark.parametrize("room", ["packs", "log", "tables", "refsets"])
def test_damage_on_one_disk_is_mended_from_the_others(room: str) -> None:
    yard = Yard()
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    held = yard.disks[1].memory.objects
    keys = [key for key in held if f"/{room}/" in key]
    sound = {key: held[key] for key in keys}
    for key in keys:
        held[key] = b"\x55" + held[key][1:-1] + b"\x55"
    yard.reopen()
    assert yard.agent.restore(rp_id) == FIRST
    assert not yard.vault.scrub().damages
    yard.store.catch_up(0, lambda: False)
    assert {key: held[key] for key in keys} == sound
    assert len(yard.disks[1].aside) == len(keys) > 0


def test_what_was_collected_while_a_disk_was_away_stays_away() -> None:
    yard = Yard()
    old = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[2].away = True
    new = yard.agent.back_up(SECOND).rp_id
    packs = {key for key in yard.disks[2].objects if "/packs/" in key}
    yard.vault.expire(yard.vault.plan_expire({old: "a test"}))
    assert yard.vault.collect().freed_bytes > 0
    left = {key for key in yard.disks[0].objects if "/packs/" in key}
    assert packs - left, "nothing of the first point is left"
    yard.disks[2].away = False
    yard.reopen()
    yard.store.catch_up(0, lambda: False)
    assert yard.disks[2].objects == yard.disks[0].objects
    assert {key for key in yard.disks[2].objects if "/packs/" in key} == left
    assert yard.agent.restore(new) == SECOND


NUMBERS = count(1)
REGIONS = "/providers/Holdfast.Backup/regions/"


class Place:
    """A region over three folders and a vault in it, both called ``name``, on a server."""

    def __init__(self, app: InProcess, folder: Path, name: str) -> None:
        self.app = app
        self.name, self.region = name, REGIONS + name
        self.roots = [folder / f"disk{number}" for number in (1, 2, 3)]
        self.urls = [root.as_uri() for root in self.roots]
        self.token = app.holder("Owner", app.subscription)

    def ask(self, method: str, path: str, asked: Any = None) -> Any:
        body = None if asked is None else {"location": self.name, "properties": asked}
        return self.app.call(method, path, body, token=self.token)

    def begin(self) -> None:
        assert self.ask("PUT", self.region, {"store": " ".join(self.urls)}).status == 200
        group = f"{self.app.subscription}/resourceGroups/{self.name}"
        assert self.ask("PUT", group, {}).status in (200, 201)
        assert self.ask("PUT", self.app.vault(self.name, self.name), {}).status in (200, 201)

    @property
    def ours(self) -> Any:
        return self.ask("GET", self.app.vault(self.name, self.name)).json["properties"]["holdfast"]

    @property
    def alerts(self) -> set[str]:
        platform = self.app.parts.platform
        alert_watch.look(platform, platform.now())
        path = f"{self.app.subscription}/providers/Microsoft.AlertsManagement/alerts"
        found = self.ask("GET", path).json["value"]
        fired = [one["properties"]["essentials"] for one in found]
        standing = [one for one in fired if one["monitorCondition"] == "Fired"]
        return {one["alertRule"] for one in standing if f"/{self.name}" in str(one)}

    def catch_up(self) -> int:
        return copies.catch_up(self.app.parts.platform, lambda: False)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("copies") / "server") as made_app:
        yield made_app


@pytest.fixture
def place(app: InProcess, tmp_path: Path) -> Place:
    found = Place(app, tmp_path, f"safe{next(NUMBERS)}")
    found.begin()
    return found


def _away(root: Path) -> Callable[[], Path]:
    """Unmount a disk; what is returned mounts it again."""
    there = root.with_name(root.name + "-away")
    root.rename(there)
    return lambda: there.rename(root)


def test_a_region_tells_of_its_disks_and_a_vault_of_its_copies(place: Place) -> None:
    disks = place.ask("GET", place.region).json["properties"]["disks"]
    assert [(disk["store"], disk["decides"]) for disk in disks] == [
        (url, number == 0) for number, url in enumerate(place.urls)
    ]
    place.catch_up()
    ours = place.ours
    assert (ours["copies"]["count"], ours["copies"]["bytesWithFewer"]) == (3, 0)
    assert any("one device" in text for text in ours["warnings"])
    assert "CopiesMissing" not in place.alerts
    back = _away(place.roots[2])
    ours = place.ours
    assert ours["copies"]["bytesWithFewer"] > 0
    assert any(place.urls[2] in text and "is missing" in text for text in ours["warnings"])
    assert "CopiesMissing" in place.alerts
    assert not place.roots[2].exists(), "nothing begins where a disk is not mounted"
    back()


def test_a_lost_disk_is_replaced_by_an_empty_one_on_request_only(place: Place) -> None:
    place.catch_up()
    _away(place.roots[2])
    place.roots[2].mkdir()
    place.catch_up()
    assert not any(place.roots[2].iterdir())
    other = place.ask("POST", place.region + "/adoptDisk", {"store": "file:///elsewhere"})
    assert other.code == "StoreNotInRegion"
    assert place.ask("POST", place.region + "/adoptDisk", {}).code == "InvalidParameter"
    assert (
        place.ask("POST", place.region + "/adoptDisk", {"store": place.urls[1]}).code
        == "CopyPresent"
    )
    assert place.ask("POST", place.region + "/adoptDisk", {"store": place.urls[2]}).status == 200
    assert place.catch_up() > 0
    assert place.ours["copies"]["bytesWithFewer"] == 0


def test_another_disk_decides_on_request(place: Place) -> None:
    place.catch_up()
    _away(place.roots[0])
    warned = place.ours["warnings"]
    assert any("nothing can be written" in text for text in warned)
    refused = place.ask("PUT", place.app.vault("v2", place.name), {})
    assert refused.code == "CopiesHomeMissing"
    shown = place.ask("POST", place.region + "/failOver", {"store": place.urls[1]}).json
    assert [disk["decides"] for disk in shown["properties"]["disks"]] == [False, True, False]
    assert place.ask("PUT", place.app.vault("v2", place.name), {}).status in (200, 201)


def test_a_store_in_use_is_no_copy_of_another(place: Place, tmp_path: Path) -> None:
    local = place.ask("GET", "/providers/Holdfast.Backup/regions/local").json["properties"]["store"]
    new = (tmp_path / "new").as_uri()
    taken = place.ask("PUT", place.region + "2", {"store": f"{local} {new}"})
    assert taken.code == "RegionInUse"
    assert place.ask("PUT", place.region + "2", {"store": f"{new} {new}"}).code == "InvalidStoreUrl"
    member = place.ask("PUT", place.region + "2", {"store": f"{place.urls[1]} {new}"})
    assert member.code == "CopyOfAnotherSet"
    alone = place.ask("PUT", place.region + "2", {"store": place.urls[1]})
    assert alone.code == "StoreUnusable"
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").write_text("else")
    held = place.ask("PUT", place.region + "2", {"store": f"{new} {full.as_uri()}"})
    assert held.code == "CopyNotEmpty"


def test_a_blank_in_a_path_divides_no_address(place: Place, tmp_path: Path) -> None:
    """The first word of the path was taken for a store of another region."""
    first, other = (tmp_path / "a").as_uri(), f"file://{tmp_path}/a b"
    assert place.ask("PUT", place.region + "3", {"store": first}).status in (200, 201)
    made = place.ask("PUT", place.region + "4", {"store": other})
    assert made.status in (200, 201), made.code
    assert "disks" not in place.ask("GET", place.region + "4").json["properties"]
    assert (tmp_path / "a b").is_dir()


def test_one_disk_alone_restores(place: Place) -> None:
    """What `holdfast store restore` reads: the folder of the last disk."""
    place.catch_up()
    vault_id = place.ours["vaultId"]
    alone = open_store(place.urls[2])
    several = copied(open_store(" ".join(place.urls)))
    assert several is not None
    keys = [info.key for info in several.list(f"{vault_id}/")]
    assert keys
    assert {key: alone.read(key) for key in keys} == {key: several.read(key) for key in keys}
