"""A vault over three disks loses one while a server and an agent run."""

from __future__ import annotations

import shutil
from pathlib import Path

from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, ITEM, VAULT, World


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_any_disk_is_lost_replaced_and_filled(bare: World) -> None:
    roots = [bare.folder / f"disk{number}" for number in (1, 2, 3)]
    urls = [root.as_uri() for root in roots]
    source = bare.folder / "src"
    source.mkdir()
    (source / "first").write_text("one" * 50_000)
    bare.start_server(environment={"HOLDFAST_ALERT_CHECK_SECONDS": "1"})
    bare.login()
    stores = [word for url in urls for word in ("--store", url)]
    assert "disk3" in bare.ok("region", "create", "safe", *stores).out
    bare.ok("vault", "create", VAULT, "-g", GROUP, "-l", "safe")
    bare.enroll()
    bare.start_agent()
    bare.protect(source)
    bare.back_up()
    roots[0].rename(bare.folder / "lost")  # the one that decides
    shown = bare.ok("vault", "show", VAULT, "-g", GROUP)
    assert f"{urls[0]} is missing" in shown.err
    bare.ok("region", "fail-over", "safe", "--store", urls[1])
    again = bare.cli("region", "fail-over", "safe", "--store", urls[1], "--accept-loss")
    assert "CopyIsHome" in again.out + again.err
    (source / "second").write_text("two" * 50_000)
    bare.back_up()
    bare.restore(bare.folder / "to")
    assert _files(bare.folder / "to" / str(source).lstrip("/")) == _files(source)
    roots[0].mkdir()
    assert ", decides" in bare.ok("region", "adopt-disk", "safe", "--store", urls[0]).out
    key = bare.folder / "safe.key"
    bare.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    (vault,) = roots[1].glob("*-*-*")
    eventually(lambda: _files(roots[0] / vault.name) == _files(vault), "the new disk is filled")
    assert bare.stop_server() == 0
    for root in roots[1:]:
        shutil.rmtree(root)
    to = ("--item", ITEM, "--recovery-point", "latest", "--to", bare.folder / "alone")
    bare.ok("store", "restore", "--path", roots[0] / vault.name, "--key", key, *to)
    assert _files(bare.folder / "alone" / str(source).lstrip("/")) == _files(source)
