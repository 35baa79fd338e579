"""What a backup of files keeps to and says, seen from the command line: speed, names, findings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.domain.path_text import decode_path
from holdfast.testing.world import HOST, World


def test_a_throttled_backup_takes_the_time_its_bytes_need(world: World, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(1_500_000))
    rate = 1_000_000
    words = ("item", "protect", "slow", "--container", HOST, "--policy", "DefaultPolicy")
    world.ok(*words, "--include", tmp_path, "--throttle", "1MB")
    shown = world.ok("item", "show", "slow", "--container", HOST).out
    assert "throttle: 1.0 MB/s" in shown
    began = time.monotonic()
    world.back_up(item="slow")
    took = time.monotonic() - began
    sent = world.points("slow")[0]["properties"]["holdfast"]["transferredBytes"]
    assert sent > 1_500_000
    assert took >= sent / rate
    world.ok("item", "update", "slow", "--container", HOST, "--throttle", "none")
    item = world.ask("item", "show", "slow", "--container", HOST)
    assert item["properties"]["holdfast"]["throttleBytesPerSecond"] is None


WRITER = """
import os, select, sys
end = -1_000_000
with open(sys.argv[1], "r+b", buffering=0) as out:
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        out.seek(end, os.SEEK_END)
        out.write(os.urandom(4096))
"""


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Another process writes into the end of the file, again and again."""
    words = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as writer:
        try:
            yield
        finally:
            assert writer.stdin is not None
            writer.stdin.close()
            assert writer.wait(30) == 0


def test_a_file_another_process_writes_to_is_a_finding_and_is_made_good(
    world: World, tmp_path: Path
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "quiet").write_bytes(b"quiet" * 50_000)
    content = os.urandom(40_000_000)
    (source / "busy").write_bytes(content)
    words = ("item", "protect", "busy", "--container", HOST, "--policy", "DefaultPolicy")
    world.ok(*words, "--include", source, "--throttle", "50MB")  # so that reading takes a while
    with written_to(source / "busy"):
        assert world.back_up(item="busy").code == 3
    job = world.jobs()[0]["name"]
    shown = world.ask("job", "show", job)["properties"]
    assert shown["status"] == "CompletedWithWarnings"
    told = [(one["code"], one["path"]) for one in shown["holdfast"]["findings"]]
    assert told == [("FileChanged", f"{source}/busy")]
    assert f"FileChanged: {source}/busy" in world.ok("job", "show", job).out
    point = world.points("busy")[0]
    assert point["properties"]["holdfast"]["findingsCount"] == 1

    world.restore(tmp_path / "first", item="busy")
    kept = tmp_path / "first" / str(source).lstrip("/")
    assert (kept / "quiet").read_bytes() == b"quiet" * 50_000
    restored = (kept / "busy").read_bytes()
    assert len(restored) == len(content)
    assert restored[:-1_000_000] == content[:-1_000_000], "what nobody wrote to is whole"

    world.ok("item", "update", "busy", "--container", HOST, "--throttle", "none")
    assert world.back_up(item="busy").code == 0
    world.restore(tmp_path / "second", item="busy")
    for name in ("quiet", "busy"):
        kept = tmp_path / "second" / str(source / name).lstrip("/")
        assert kept.read_bytes() == (source / name).read_bytes()


def _bytes(path: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(path) + b"/" + name))


def test_names_that_are_not_utf_8_can_be_chosen(world: World, tmp_path: Path) -> None:
    """A name of bytes, and the name that spells the same with letters, stay two names."""
    top = _bytes(tmp_path, b"t\xe9op")
    for folder in (b"d\xffir", b"d\\xffir", b"back\\slash"):
        _bytes(top, folder).mkdir(parents=True)
        for name in (b"a\xffb", b"a\\xffb", b"new\nline", b"skip\xff.tmp"):
            _bytes(top, folder + b"/" + name).write_bytes(folder + b": " + name)
    at = ("--item", "bytes", "--container", HOST)
    words = ("item", "protect", "bytes", "--container", HOST, "--policy", "DefaultPolicy")
    world.ok(*words, "--include", top, "--exclude", "skip\\xff.*", "--exclude", "back\\slash")
    text = f"{tmp_path}/t\\xe9op"
    ours = world.ask("item", "show", "bytes", "--container", HOST)["properties"]["holdfast"]
    assert (ours["includePaths"], ours["excludeGlobs"]) == (
        [text],
        ["skip\\xff.*", "back\\\\slash"],
    )
    world.back_up(item="bytes")
    browse = ("recovery-point", "browse", "--recovery-point", "latest", *at)
    listed = {row["path"] for row in world.ask(*browse, text)}
    assert listed == {text + "/d\\xffir", text + "/d\\\\xffir"}
    inside = {row["path"] for row in world.ask(*browse, text + "/d\\xffir")}
    assert {path.rpartition("/")[2] for path in inside} == {"a\\xffb", "a\\\\xffb", "new\\x0aline"}
    assert "new\\x0aline" in world.ok(*browse, text + "/d\\xffir").out
    assert {row["path"] for row in world.ask(*browse, _bytes(top, b"d\xffir"))} == inside
    missing = world.cli(*browse, text + "/\\xfe")
    assert (missing.code, "PathNotFound" in missing.err) == (1, True)

    for number, chosen in enumerate(sorted(inside)):
        target = _bytes(tmp_path, b"out\xff%d" % number)
        done = world.restore(target, "--path", chosen, item="bytes")
        assert done.code == 0, done
        files = [path for path in target.rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in files] == [
            b"d\xffir: " + os.fsencode(files[0].name),
        ]
        assert os.fsencode(files[0]) == os.fsencode(target) + decode_path(chosen)


def test_a_finding_names_its_path_by_bytes(world: World, tmp_path: Path) -> None:
    """And what is gone is refused by a name that can be read, not with a traceback."""
    odd = _bytes(tmp_path, b"s\xffock")
    odd.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(odd / "here"))
        words = ("item", "protect", "odd", "--container", HOST, "--policy", "DefaultPolicy")
        world.ok(*words, "--include", odd)
        assert world.back_up(item="odd").code == 3
    found = world.jobs()[0]["name"]
    shown = world.ask("job", "show", found)["properties"]["holdfast"]["findings"]
    assert [(one["code"], one["path"]) for one in shown] == [
        ("SocketSkipped", f"{tmp_path}/s\\xffock/here")
    ]
    (odd / "here").unlink()
    odd.rmdir()
    gone = world.cli("backup", "now", "--item", "odd", "--container", HOST, "--wait")
    assert gone.code == 1
    assert "SourcePathMissing" in gone.err and "s\\xffock" in gone.err
    assert "Traceback" not in world.log(HOST)
