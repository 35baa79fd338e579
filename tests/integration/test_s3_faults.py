"""The S3 adapter against a service that answers as services do on bad days."""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from holdfast.adapters.object_store.layers.retry import RetryStore
from holdfast.adapters.object_store.s3_access import ENVIRONMENT, open_s3
from holdfast.errors import (
    HoldfastError,
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.object_store_suite import expect, send

SECRET = "never-to-be-seen"
Answer = tuple[int, bytes, dict[str, str]]
Fault = Callable[["Asked"], Answer | None]


@dataclass
class Asked:
    """A request. ``drop`` ends the connection without an answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    drop: bool = False


@dataclass
class Service:
    """Keeps objects by path; ``faults`` are asked first, each for one request."""

    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    endpoint: str = ""

    def answer(self, request: Asked) -> Answer:
        self.asked.append(request)
        if self.faults:
            made = self.faults.pop(0)(request)
            if made is not None:
                return made
        return self.serve(request)

    def serve(self, request: Asked) -> Answer:
        path = request.path
        if request.method == "PUT":
            if path in self.objects:
                return refusal(412, "PreconditionFailed")
            self.objects[path] = request.body
            return 200, b"", {"ETag": '"1"'}
        data = self.objects.get(path)
        if data is None:
            return refusal(404, "NoSuchKey")
        common = {"ETag": '"1"', "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}
        span = request.headers.get("range")
        if span is None:
            return 200, data, common
        first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
        if first >= len(data):
            return refusal(416, "InvalidRange")
        part = data[first : last + 1]
        place = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return 206, part, {**common, "Content-Range": place}

    def open(self) -> ObjectStore:
        return open_s3(
            "bucket",
            "at",
            {"access_key_id": "key", "secret_access_key": SECRET, "endpoint": self.endpoint},
        )


def refusal(status: int, code: str) -> Answer:
    return status, f"<Error><Code>{code}</Code></Error>".encode(), {}


@contextmanager
def running() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Asked(self.command, self.path, headers, body)
            status, data, extra = service.answer(request)
            if request.drop:
                self.close_connection = True
                return
            self.send_response(status)
            length = extra.pop("Content-Length", str(len(data)))
            for name, value in {**extra, "Content-Length": length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            if length != str(len(data)):
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with running() as started:
        yield started


def always(status: int, code: str) -> Fault:
    return lambda _: refusal(status, code)


def lost_reply(service: Service) -> Fault:
    """The request takes effect; its answer does not arrive."""

    def fault(request: Asked) -> Answer:
        service.serve(request)
        request.drop = True
        return 200, b"", {}

    return fault


def writes(store: ObjectStore) -> list[Callable[[], None]]:
    return [partial(store.create, "a", b"data"), partial(send, store, "a", b"data")]


@pytest.mark.parametrize("how", [0, 1])
def test_a_create_is_conditional_and_its_bytes_are_vouched_for(service: Service, how: int) -> None:
    store = service.open()
    writes(store)[how]()
    (put,) = service.asked
    assert (put.method, put.path) == ("PUT", "/bucket/at/a")
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-amz-content-sha256"] == hashlib.sha256(b"data").hexdigest()
    expect(ObjectExistsError, writes(store)[how])


@pytest.mark.parametrize("how", [0, 1])
def test_others_at_the_same_key_are_no_proof_that_it_exists(service: Service, how: int) -> None:
    store = service.open()
    service.faults = [always(409, "ConditionalRequestConflict")]
    expect(StoreUnavailableError, writes(store)[how])
    service.faults = [always(409, "ConditionalRequestConflict")]
    writes(RetryStore(store, sleep=lambda _: None))[how]()
    assert service.objects == {"/bucket/at/a": b"data"}


@pytest.mark.parametrize("how", [0, 1])
def test_a_lost_reply_is_resolved(service: Service, how: int) -> None:
    store = service.open()
    service.faults = [lost_reply(service)]
    expect(StoreUnavailableError, writes(store)[how])
    service.objects.clear()
    service.faults = [lost_reply(service), always(503, "SlowDown"), always(500, "InternalError")]
    writes(RetryStore(store, sleep=lambda _: None))[how]()
    assert service.objects == {"/bucket/at/a": b"data"}
    assert not service.faults


@pytest.mark.parametrize("how", [0, 1])
@pytest.mark.parametrize(("status", "code"), [(507, ""), (403, "QuotaExceeded")])
def test_a_full_service_is_told(service: Service, how: int, status: int, code: str) -> None:
    service.faults = [always(status, code)]
    expect(StoreFullError, writes(service.open())[how], "StoreFull")
    assert service.objects == {}


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [(403, "AccessDenied", "StoreAccessDenied"), (404, "NoSuchBucket", "StoreBucketMissing")],
)
def test_what_waits_for_a_person_is_not_repeated(
    service: Service, status: int, word: str, code: str
) -> None:
    slept: list[float] = []
    store = RetryStore(service.open(), sleep=slept.append)
    calls: list[Callable[[], object]] = [
        *writes(store),
        lambda: store.read("a"),
        lambda: store.read_range("a", 0, 1),
        lambda: list(store.list()),
    ]
    for call in calls:
        service.faults = [always(status, word)] * 4
        expect(StoreUnavailableError, call, code)
        assert len(service.faults) >= 2
    assert slept == []


def cut_short(request: Asked) -> Answer:
    return 200, b"da", {"Content-Length": "4", "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}


def range_ignored(request: Asked) -> Answer:
    return 200, b"data", {"ETag": '"1"', "Last-Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}


def other_range(request: Asked) -> Answer:
    _, _, headers = range_ignored(request)
    return 206, b"da", {**headers, "Content-Range": "bytes 0-1/4"}


@pytest.mark.parametrize("fault", [cut_short, range_ignored, other_range])
def test_a_range_is_these_bytes_or_an_error(service: Service, fault: Fault) -> None:
    service.objects["/bucket/at/a"] = b"data"
    store = service.open()
    service.faults = [fault]
    expect(StoreUnavailableError, lambda: store.read_range("a", 1, 2))
    assert RetryStore(store).read_range("a", 1, 2) == b"at"
    service.faults = [cut_short]
    expect(StoreUnavailableError, lambda: store.read("a"))
    expect(IntegrityError, lambda: store.read_range("a", 1, 9), "ObjectTruncated")
    expect(ObjectMissingError, lambda: store.read("b"))


def test_the_environment_moves_no_store(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library below would follow any of these."""
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_SESSION_TOKEN": "of-somebody-else",
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_UNSIGNED_PAYLOAD": "true",
    }.items():
        monkeypatch.setenv(name, value)
    service.open().create("a", b"data")
    (put,) = service.asked
    assert "key/" in put.headers["authorization"]
    assert "x-amz-security-token" not in put.headers
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"


def test_credentials_of_the_environment_are_for_who_gives_none(service: Service) -> None:
    given = dict(zip(ENVIRONMENT.values(), ("me", SECRET, "t", service.endpoint, "x"), strict=True))
    open_s3("bucket", "", {}, given).create("a", b"data")
    assert "me/" in service.asked[0].headers["authorization"]
    assert "/x/s3/" in service.asked[0].headers["authorization"]
    with pytest.raises(UsageError) as caught:
        open_s3("bucket", "", {"endpoint": service.endpoint}, given)
    assert caught.value.code == "InvalidStoreCredentials"


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret_access_key": ""},
        {"access_key_id": ""},
        {"secret": "x"},
        {"endpoint": "http://example.org"},
        {"endpoint": "example.org"},
        {"endpoint": "ftp://example.org"},
        {"endpoint": "https://user:word@example.org"},
        {"endpoint": "https://[::1"},
        {"region": 7},
    ],
)
def test_credentials_that_cannot_be_used_are_named(wrong: dict[str, str]) -> None:
    good = {"access_key_id": "key", "secret_access_key": SECRET}
    with pytest.raises(UsageError) as caught:
        open_s3("bucket", "", {**good, **wrong})
    assert caught.value.code == "InvalidStoreCredentials"
    assert SECRET not in str(caught.value)
    assert "word" not in str(caught.value)


def test_secrets_are_not_shown(service: Service) -> None:
    store = service.open()
    service.faults = [always(403, "SignatureDoesNotMatch")]
    with pytest.raises(HoldfastError) as caught:
        store.read("a")
    seen = [repr(store), str(vars(store)), str(caught.value), str(caught.value.__cause__)]
    assert SECRET not in "".join(seen)


@pytest.mark.parametrize("bad", ["full", "closed"])
def test_a_spool_that_takes_nothing_sends_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    def spool(buffering: int) -> io.FileIO:
        if bad == "closed":
            raise PermissionError(13, "Permission denied")
        return io.FileIO("/dev/full", "r+")

    monkeypatch.setattr(tempfile, "TemporaryFile", spool)
    store = service.open()
    with pytest.raises((StoreFullError, StoreUnavailableError)) as caught:
        send(store, "a", b"data")
    assert caught.value.hint
    assert caught.value.code == ("SpoolFull" if bad == "full" else "StoreUnavailable")
    assert service.asked == []
