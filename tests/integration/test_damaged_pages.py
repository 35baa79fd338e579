"""A damaged page of a point's list of files: the others are restored, and the real agent's next run
sends it again."""

from __future__ import annotations

from pathlib import Path

from holdfast.testing.files_vault import FilesVault, LaterClock
from holdfast.vaultstore import layout
from holdfast.vaultstore.manifest_pages import children_of
from holdfast.workloads.files.restore import RestorePlan

FOLDERS, EACH = 12, 250


def opened_vault(folder: Path) -> FilesVault:
    """By its clock no file was changed just now, so that none is read and bundled again."""
    vault = FilesVault(folder / "vault")
    vault.clock = LaterClock()
    return vault


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def damage_middle_page(vault: FilesVault) -> int:
    """Flip a bit in a leaf page of the newest point, on disk; how many leaves there are."""
    opened, rp_id = vault.vault, vault.latest()
    root = opened.root(rp_id).file_tree.page_root
    children = children_of(opened.fetch(rp_id, [root])[0])
    assert children is not None
    session = vault.restore_session(rp_id)
    (where,) = session.locate(children[len(children) // 2].id)
    session.close()
    (path,) = (vault.folder / "store").rglob(where.pack.hex())
    data = bytearray(path.read_bytes())
    data[where.offset + 9] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return len(children)


def test_the_files_of_other_pages_are_restored_and_the_next_run_heals(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number in range(FOLDERS * EACH):
        path = source / f"folder-{number % FOLDERS:02}" / f"a-rather-long-file-name-{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    vault = opened_vault(tmp_path)
    vault.back_up(source)
    first = vault.latest()
    leaves = damage_middle_page(vault)
    assert leaves >= 3

    vault = opened_vault(tmp_path)  # in a process that has nothing in memory
    result, run = vault.restore(RestorePlan(target=tmp_path / "partly"))
    assert [one.code for one in run.findings.all()] == ["FileListDamaged"]
    all_names = names_below(source)
    came = names_below(tmp_path / "partly" / str(source).lstrip("/"))
    assert came < all_names
    assert len(came) == result.files > len(all_names) // 2
    gap = run.findings.all()[0].path.decode()
    missing = sorted(str(source / name).lstrip("/") for name in all_names - came)
    assert gap in (missing[0], str(Path(missing[0]).parent))

    opened = vault.vault
    opened.note_verified(opened.verify(), vault.clock.now())
    (step,) = opened.plan_repair().steps
    assert (step.action, step.recovery_points) == ("wait", (first,))
    assert step.files == (gap.encode() + b"...",)

    vault.back_up(source)
    assert opened.heal(vault.latest()) == 1
    assert opened.verify().damages == ()
    result, run = vault.restore(RestorePlan(target=tmp_path / "whole"), rp_id=first)
    assert run.findings.all() == ()
    assert names_below(tmp_path / "whole" / str(source).lstrip("/")) == all_names
    assert opened.health().quarantined[0].startswith(layout.PACKS)
