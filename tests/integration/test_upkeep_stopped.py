"""Long work of the server itself shows how far it is, can be cancelled, and goes on: an import by
being asked for again or after a restart, an expiry by the next one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.catalog import items, jobs
from holdfast.catalog.jobs import JobRow
from holdfast.cli.follow import progress_text
from holdfast.errors import ConflictError
from holdfast.jobs.progress import ServerProgress
from holdfast.services.items import back_up_now
from holdfast.services.maintenance import ImportAsked, import_vault, start
from holdfast.services.vaults import export_key
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.premises import ANN, GROUP, HOST, ITEM, PASSPHRASE, VAULT, Premises
from holdfast.testing.wait import eventually

OTHERS = ("alpha", "beta", "gamma")


class Gate:
    """Holds a job that asks for the ``number``-th time whether to stop, until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self._ask, self._left = ServerProgress.cancelled, number
        self.reached, self.opened = threading.Event(), threading.Event()
        patch.setattr(ServerProgress, "cancelled", lambda run: self._held(run))  # noqa: PLW0108

    def _held(self, progress: ServerProgress) -> bool:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            assert self.opened.wait(30)
        return self._ask(progress)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Premises]:
    """A vault with points of four items; progress is written whenever it is told."""
    monkeypatch.setattr("holdfast.jobs.progress.EVERY_SECONDS", 0.0)
    made = Premises(tmp_path / "server")
    try:
        made.back_up()
        opened = made.platform.vaults.open(made.vault.id)
        for name in OTHERS:
            LittleAgent(opened, made.platform.rng, f"Linux;{HOST}", name).back_up({b"a": b"a"})
        yield made
    finally:
        made.close()


def lose(here: Premises, folder: Path) -> ImportAsked:
    """An empty server in place of the one that had the vault; what brings the vault in."""
    found = here.vault
    key = export_key(here.platform, GROUP, VAULT, PASSPHRASE)
    source = str(Path(found.store_url.removeprefix("file://")) / found.id)
    here.close()
    here.folder = folder
    here.start()
    return ImportAsked("", source, key, PASSPHRASE, VAULT, "local")


def items_here(here: Premises) -> set[str]:
    with here.platform.catalog.read() as connection:
        return {row.friendly_name for row in items.items_of_vault(connection, here.vault.id)}


def shown(job: JobRow) -> str:
    """What somebody who follows the job reads."""
    ours = {"progress": {"phase": job.phase, **job.progress}}
    return progress_text({"properties": {"operation": job.operation, "holdfast": ours}})


def refused(here: Premises, asked: ImportAsked, group: str = GROUP) -> ConflictError:
    with pytest.raises(ConflictError) as caught:
        import_vault(here.platform, group, asked, ANN)
    assert caught.value.code == "VaultAlreadyPresent"
    return caught.value


def test_a_cancelled_import_goes_on_when_it_is_asked_for_again(
    here: Premises, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = lose(here, tmp_path / "other")
    gate = Gate(monkeypatch, 3)
    _, job = import_vault(here.platform, GROUP, asked, ANN)
    assert gate.reached.wait(30)
    assert shown(here.job(job)) == "2 of 4 items"
    assert "its import runs" in refused(here, asked).hint
    here.parts.engine.cancel(job, ANN)
    gate.opened.set()
    assert here.ended(job).status == "Cancelled"
    assert len(items_here(here)) == 2

    refused(here, asked, group="another")
    vault, again = import_vault(here.platform, GROUP, asked, ANN)
    assert (vault.name, again != job) == (VAULT, True)
    ended = here.ended(again)
    assert ended.status == "Completed"
    assert (ended.result["items"], ended.result["recoveryPoints"]) == (4, 4)
    assert items_here(here) == {ITEM, *OTHERS}
    assert "on an empty server" in refused(here, asked).hint


def test_an_import_pauses_with_the_server(
    here: Premises, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = lose(here, tmp_path / "other")
    gate = Gate(monkeypatch, 2)
    _, job = import_vault(here.platform, GROUP, asked, ANN)
    assert gate.reached.wait(30)
    stopping = threading.Thread(target=here.close)
    stopping.start()
    eventually(here.parts.engine.context.stopping, "the server is asked to stop", every=0.01)
    gate.opened.set()
    stopping.join(30)
    here.start()
    assert here.ended(job).status == "Completed"
    with here.platform.catalog.read() as connection:
        assert "paused" in [one.event for one in jobs.history_of(connection, job)]
    assert items_here(here) == {ITEM, *OTHERS}


def test_a_cancelled_expiry_drops_nothing_and_the_next_does(
    here: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = here.clock.now() + timedelta(hours=1)
    due = here.ended(back_up_now(here.platform, here.vault, HOST, ITEM, until, ANN))
    here.back_up()
    here.clock.pass_time(timedelta(hours=2))
    gate = Gate(monkeypatch, 1)
    job = start(here.platform, here.vault, "expire", ANN)
    assert gate.reached.wait(30)
    assert shown(here.job(job)) == "0 of 1 items"
    here.parts.engine.cancel(job, ANN)
    before = here.stored()
    gate.opened.set()
    assert here.ended(job).status == "Cancelled"
    assert here.stored() == before
    assert due.result["recoveryPointId"] in before
    ended = here.ended(start(here.platform, here.vault, "expire", ANN))
    assert (ended.status, ended.result["droppedPoints"]) == ("Completed", 1)
    assert here.stored() == before - {due.result["recoveryPointId"]}
