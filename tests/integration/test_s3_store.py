"""The S3 adapter against a real S3 service: the whole suite, and a vault that lives there."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.adapters.object_store.layers.fault import FaultStore, SeededFaults
from holdfast.adapters.object_store.layers.retry import Patience, RetryStore
from holdfast.adapters.object_store.s3_access import open_s3
from holdfast.errors import HoldfastError, StoreUnavailableError
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.object_store_suite import ObjectStoreSuite, Stand, check_names
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.servers import S3Service
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

BUCKET = "suite-tests"
PREFIXES = itertools.count()
PLATFORM_KEY = bytes(range(32))


@pytest.fixture
def service(s3_service: S3Service) -> S3Service:
    return s3_service


class FilerBypass:
    """Sees the objects as files of the service's own file view, not through S3."""

    def __init__(self, service: S3Service, prefix: str) -> None:
        self.place = urlsplit(service.filer).netloc
        self.root = f"/buckets/{BUCKET}/{prefix}/"

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.place, timeout=30)
        try:
            headers = {"Accept": "application/json"}
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _walk(self, folder: str) -> Iterator[str]:
        status, data = self._ask("GET", f"{folder}?limit=10000")
        if status != 200 or not data.startswith(b"{"):
            return
        for entry in json.loads(data)["Entries"] or ():
            path = entry["FullPath"]
            if entry["Mode"] >> 31:
                yield from self._walk(path + "/")
            else:
                yield path[len(self.root) :]

    def keys(self) -> list[str]:
        return sorted(self._walk(self.root))

    def get(self, key: str) -> bytes | None:
        status, data = self._ask("GET", self.root + key)
        return data if status == 200 else None

    def put(self, key: str, data: bytes) -> None:
        status, answer = self._ask("PUT", self.root + key, data)
        assert status in (200, 201), answer

    def leftovers(self) -> list[str]:
        _, data = self._ask("GET", f"/buckets/{BUCKET}/.uploads/?limit=100")
        return [entry["FullPath"] for entry in json.loads(data or b"{}").get("Entries") or ()]


def faulty(inner: ObjectStore) -> ObjectStore:
    faults = SeededFaults(5, 0.2, {"create", "publish", "read", "size", "delete"})
    return RetryStore(FaultStore(inner, faults), Patience(30), sleep=lambda _: None)


def run_suite(service: S3Service, wrap: Callable[[ObjectStore], ObjectStore], name: str) -> None:
    def stand() -> Stand:
        prefix = f"suite/{next(PREFIXES)}"
        stores = [wrap(open_s3(BUCKET, prefix, service.credentials)) for _ in range(2)]
        return Stand(stores[0], stores[1], FilerBypass(service, prefix))

    ObjectStoreSuite(stand).run(name)


@pytest.mark.parametrize("name", check_names())
def test_the_suite(service: S3Service, name: str) -> None:
    run_suite(service, lambda store: store, name)


@pytest.mark.parametrize("name", [name for name in check_names() if "racing" not in name])
def test_the_suite_through_faults(service: S3Service, name: str) -> None:
    run_suite(service, faulty, name)


def test_a_vault_lives_in_a_bucket(service: S3Service) -> None:
    """Create, back up, open elsewhere, restore, expire, collect: all through the shipped stack."""
    store = open_store(f"s3://{BUCKET}/vaults", service.credentials)
    clock, rng = MovableClock(), SeededRandom(1)
    ids = VaultIds(vault_id=b"S" * 16, domain_id=b"D" * 16)
    options = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=True)
    vault = Vault.create(store, PLATFORM_KEY, ids=ids, options=options, clock=clock, rng=rng)
    first = {b"a/one": rng.token(200_000), b"two": b"2" * 10}
    second = {**first, b"three": rng.token(90_000)}
    del second[b"a/one"]
    agent = LittleAgent(vault, rng)
    points = [agent.back_up(first), agent.back_up(second)]

    again = open_store(f"s3://{BUCKET}/vaults", service.credentials)
    unlock = Unlock(platform_key=PLATFORM_KEY)
    elsewhere = Vault.open(again, ids.vault_id, unlock, clock=clock, rng=SeededRandom(2))
    reader = LittleAgent(elsewhere, SeededRandom(3))
    assert [reader.restore(point.rp_id) for point in points] == [first, second]
    assert elsewhere.verify().clean

    elsewhere.expire(elsewhere.plan_expire({points[0].rp_id: "old"}))
    assert elsewhere.collect().freed_bytes > 0
    assert LittleAgent(vault, SeededRandom(4)).restore(points[1].rp_id) == second
    assert vault.verify().clean


def test_wrong_credentials_are_told(service: S3Service) -> None:
    wrong = {**service.credentials, "secret_access_key": "not-it"}
    store = open_s3(BUCKET, "x", wrong)
    for call in (
        lambda: store.read("a"),
        lambda: store.create("a", b"x"),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert caught.value.code == "StoreAccessDenied"
        assert "key" in caught.value.hint


def test_a_bucket_that_is_not_there_has_lost_nothing(service: S3Service) -> None:
    store = open_store("s3://no-such-bucket/x", service.credentials)
    for call in (lambda: store.read("a"), lambda: list(store.list())):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert caught.value.code == "StoreBucketMissing"


def test_a_service_that_does_not_answer_is_unavailable() -> None:
    with socket.socket() as silent:  # bound, not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        check_nothing_answers(f"http://127.0.0.1:{silent.getsockname()[1]}")


def check_nothing_answers(endpoint: str) -> None:
    credentials = {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b"}
    store = open_s3(BUCKET, "x", credentials)
    for call in (
        lambda: store.read("a"),
        lambda: store.read_range("a", 0, 1),
        lambda: store.size("a"),
        lambda: store.create("b", b"y"),
        lambda: list(store.list()),
        lambda: store.delete("a"),
    ):
        with pytest.raises(HoldfastError) as caught:
            call()
        assert isinstance(caught.value, StoreUnavailableError)


def test_the_service_has_room_for_a_bucket_of_every_test(service: S3Service) -> None:
    for number in range(8):
        store = open_s3(f"room-{number}", "a", service.credentials)
        store.create("key", b"content")
        assert store.read("key") == b"content"
