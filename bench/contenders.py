"""The competitors of the files benchmark, each behind the same four verbs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from measure import Measurement, measure, tree_bytes

HOLDFAST = Path(sys.executable).with_name("holdfast")


class ContenderFailed(SystemExit):
    """A command of a contender that ended badly; uncaught, it ends the benchmark."""


class Contender:
    """A backup tool at work in a folder of its own for one round. ``program``: its command."""

    name = "?"
    incremental = True
    program = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.log = folder / "output.log"
        self.environment = dict(os.environ)

    def set_up(self, source: Path) -> None: ...

    def back_up(self, source: Path) -> Measurement:
        raise AssertionError(self.name)

    def restore(self, target: Path) -> Measurement:
        raise AssertionError(self.name)

    def restored_tree(self, target: Path, source: Path) -> Path:
        return target / str(source).lstrip("/")

    def stored_bytes(self) -> int:
        return tree_bytes(self.folder / "repository")

    def check(self) -> dict[str, bool]:
        """Checks of the store after the round: what was checked -> whether it held."""
        return {}

    def tear_down(self) -> None: ...

    def run(self, *words: str, servants: dict[str, int] | None = None) -> Measurement:
        result = measure(words, environment=self.environment, log=self.log, servants=servants)
        if result.exit_code not in (0, 3):
            told = f"{self.name}: {words[0:3]} ended with {result.exit_code}: {self.log}"
            raise ContenderFailed(told)
        return result


class Restic(Contender):
    name = program = "restic"

    def set_up(self, source: Path) -> None:
        self.environment["RESTIC_PASSWORD"] = "benchmark"
        self.environment["RESTIC_CACHE_DIR"] = str(self.folder / "cache")
        self.environment["RESTIC_REPOSITORY"] = str(self.folder / "repository")
        self.run(self.program, "init")

    def back_up(self, source: Path) -> Measurement:
        return self.run(self.program, "backup", "--quiet", str(source))

    def restore(self, target: Path) -> Measurement:
        return self.run(self.program, "restore", "--quiet", "latest", "--target", str(target))


class Borg(Contender):
    name = program = "borg"
    count = 0
    create_options: tuple[str, ...] = ()
    extract_options: tuple[str, ...] = ()

    def set_up(self, source: Path) -> None:
        self.environment["BORG_PASSPHRASE"] = "benchmark"
        self.environment["BORG_BASE_DIR"] = str(self.folder / "base")
        self.environment["BORG_REPO"] = str(self.folder / "repository")
        self.run(self.program, "init", "--encryption=repokey-blake2")

    def back_up(self, source: Path) -> Measurement:
        self.count += 1
        archive = f"::point-{self.count}"
        return self.run(self.program, "create", *self.create_options, archive, str(source))

    def restore(self, target: Path) -> Measurement:
        return self.extract(target)

    def extract(self, target: Path, *paths: str) -> Measurement:
        """Of the newest archive into ``target``: everything, or the ``paths``."""
        target.mkdir(parents=True)
        script = 'cd "$1" && shift && exec "$@"'
        words = [self.program, "extract", *self.extract_options, f"::point-{self.count}", *paths]
        return self.run("sh", "-c", script, "sh", str(target), *words)


class TarZstd(Contender):
    name = "tar | zstd -3 -T0"
    incremental = False
    threads = 0
    tar_options = ""

    def set_up(self, source: Path) -> None:
        (self.folder / "repository").mkdir()
        self.archive = self.folder / "repository" / "archive.tar.zst"

    def back_up(self, source: Path) -> Measurement:
        script = f'tar -C / {self.tar_options} -cf - "$1" | '
        script += f'zstd -q -3 -T{self.threads} -f -o "$2" && sync "$2"'
        return self.run("sh", "-c", script, "sh", str(source).lstrip("/"), str(self.archive))

    def restore(self, target: Path) -> Measurement:
        target.mkdir(parents=True)
        script = 'zstd -q -d -c "$2" | tar -C "$1" -xpf - && sync -f "$1"'
        return self.run("sh", "-c", script, "sh", str(target), str(self.archive))


class Holdfast(Contender):
    """Server and agent as two processes, TLS on loopback, product defaults."""

    name = "holdfast"
    host = "bench-machine"

    def set_up(self, source: Path) -> None:
        self.start_programs()
        self.cli("item", "protect", "tree", "--container", self.host, "--include", str(source),
                 "--policy", "DefaultPolicy")  # fmt: skip

    def start_programs(self, settings: str = "") -> None:
        """A server with a vault, and an agent with these settings."""
        self.environment |= {
            "HOLDFAST_CONFIG_DIR": str(self.folder / "profile"),
            "HOLDFAST_GROUP": "bench",
            "HOLDFAST_VAULT": "bench-vault",
            "HOLDFAST_PASSPHRASE": "benchmark passphrase",
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        data, agent = self.folder / "server", self.folder / "agent"
        self.server = self._start(
            "server", "start", "--data", str(data), f"--listen=127.0.0.1:{port}"
        )
        self._wait_for(port)
        self.cli("login", f"--server=https://127.0.0.1:{port}", f"--ca={data / 'ca.pem'}",
                 f"--credentials={data / 'admin.json'}")  # fmt: skip
        self.cli("vault", "create", "bench-vault", "-g", "bench")
        credentials = self.folder / "vault-credentials.json"
        self.cli("vault", "credentials", "bench-vault", "-g", "bench", "-o", str(credentials))
        self.cli("agent", "enroll", "--credentials", str(credentials), "--data", str(agent),
                 "--name", self.host)  # fmt: skip
        if settings:
            (agent / "holdfast.toml").write_text(settings)
        self.agent = self._start("agent", "start", "--data", str(agent))

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [str(HOLDFAST), *words], env=self.environment, stdout=out, stderr=out
            )

    def _wait_for(self, port: int) -> None:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"holdfast: the server did not start: {self.log}")

    def cli(self, *words: str) -> Measurement:
        servants = {"server": self.server.pid}
        if hasattr(self, "agent"):
            servants["agent"] = self.agent.pid
        return self.run(str(HOLDFAST), *words, servants=servants)

    def back_up(self, source: Path) -> Measurement:
        return self.on_item("backup", "now", "--wait")

    def restore(self, target: Path) -> Measurement:
        return self.on_item("restore", "--recovery-point", "latest", "--to", str(target), "--wait")

    def on_item(self, *words: str) -> Measurement:
        """A command about the protected tree."""
        return self.cli(*words, "--item", "tree", "--container", self.host)

    def stored_bytes(self) -> int:
        return tree_bytes(self.folder / "server" / "vaults") - self._reserve_bytes()

    def _reserve_bytes(self) -> int:
        reserves = (self.folder / "server" / "vaults").glob("*/reserve/*")
        return sum(path.stat().st_size for path in reserves)

    def check(self) -> dict[str, bool]:
        key = self.folder / "vault.key"
        self.cli("vault", "export-key", "bench-vault", "-g", "bench", "-o", str(key))
        verified = self.cli("vault", "verify", "bench-vault", "-g", "bench")
        vault = next((self.folder / "server" / "vaults").glob("*/descriptor")).parent
        decoder = Path(__file__).parents[1] / "tools" / "vault_decoder.py"
        listing = subprocess.run(
            [sys.executable, str(decoder), "list", "--path", str(vault), "--key", str(key)],
            env=self.environment, check=False, capture_output=True,
        )  # fmt: skip
        return {"vault verify": verified.exit_code == 0, "decoder lists": listing.returncode == 0}

    def decode(self, target: Path) -> bool:
        """Restore the newest point with the independent decoder."""
        vault = next((self.folder / "server" / "vaults").glob("*/descriptor")).parent
        decoder = Path(__file__).parents[1] / "tools" / "vault_decoder.py"
        done = subprocess.run(
            [sys.executable, str(decoder), "restore", "--path", str(vault),
             "--key", str(self.folder / "vault.key"), "--recovery-point", "latest",
             "--to", str(target)],
            env=self.environment, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def tear_down(self) -> None:
        for process in (getattr(self, name, None) for name in ("agent", "server")):
            if process is None:
                continue  # it was never started
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


CONTENDERS: list[type[Contender]] = [Holdfast, Restic, Borg, TarZstd]


def missing_programs() -> list[str]:
    return [name for name in ("restic", "borg", "tar", "zstd") if shutil.which(name) is None]


def machine_facts() -> dict[str, str]:
    """Versions of what was measured, and the number of cores."""

    def first_line(*words: str) -> str:
        if shutil.which(words[0]) is None:
            return "not installed"
        done = subprocess.run(words, capture_output=True, check=False, text=True)
        return done.stdout.splitlines()[0] if done.stdout else "?"

    return {
        "cores": str(os.cpu_count()),
        "restic": first_line("restic", "version"),
        "borg": first_line("borg", "--version"),
        "tar": first_line("tar", "--version"),
        "zstd": first_line("zstd", "--version"),
        "holdfast": first_line(str(HOLDFAST), "--version"),
        "python": json.dumps(sys.version.split()[0]),
    }
