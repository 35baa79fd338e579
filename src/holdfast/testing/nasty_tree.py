"""A tree with everything that file backups get wrong, for restore-and-compare tests."""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
from pathlib import Path

from holdfast.testing.acls import remove_acl, set_acl

MAX_NAME = 255
DEEP = 60  # folders of 100 bytes each: beyond PATH_MAX
OLD_NS = 978_307_200_123_456_789
ANCIENT_NS = -1_000_000_000_000_000_001  # 1938
CAP_NET_BIND = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def build_nasty_tree(top: Path, seed: int = 1) -> None:
    """Make the tree at ``top``; what needs root is made only as root."""
    rng = random.Random(seed)
    top.mkdir()
    _names(top / "names")
    _contents(top / "contents", rng)
    _holes(top / "holes", rng)
    _links(top / "links")
    _kinds(top / "kinds")
    _rights(top / "rights")
    _xattrs(top / "xattrs")
    _times(top / "times")
    _deep(top / "deep")
    if os.geteuid() == 0:
        _roots_own(top / "root")


def _names(folder: Path) -> None:
    folder.mkdir()
    odd = [b"new\nline", b"tab\tbell\a", b"not utf-8 \xff\xfe", b" leading", b"trailing ", b"-rf"]
    odd += [b"...", b"*?[]", b"quote'\"", b"back\\slash", "ünïcødé ☃".encode(), b"\x01", b"~"]
    odd += [b"a" * MAX_NAME, "é".encode() * 127, b".holdfast-partial-looks-alike"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    Path(os.fsdecode(os.fsencode(folder) + b"/dir \xf0\n")).mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/dir \xf0\n/inside")).write_bytes(b"inside")


def _contents(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    for size in (0, 1, 4095, 4096, 131_071, 131_072, 131_073, 1_500_000, 9_000_000):
        (folder / f"random-{size}").write_bytes(rng.randbytes(size))
        (folder / f"text-{size}").write_bytes((b"holdfast %d\n" % size * size)[:size])
    (folder / "copy").write_bytes((folder / "random-1500000").read_bytes())
    (folder / "empty-folder").mkdir()
    many = folder / "many"
    many.mkdir()
    for number in range(600):
        (many / f"file-{number}").write_bytes(rng.randbytes(rng.randrange(3000)))


def _holes(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    _sparse(folder / "begins", 3_000_000, [(2_000_000, rng.randbytes(50_000))])
    _sparse(folder / "ends", 3_000_000, [(0, rng.randbytes(50_000))])
    _sparse(folder / "only", 5_000_000, [])
    pieces = [(at, rng.randbytes(300_000)) for at in range(0, 12_000_000, 3_000_000)]
    _sparse(folder / "middle", 12_000_000, pieces)
    _sparse(folder / "small", 60_000, [(50_000, b"x")])


def _sparse(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> None:
    with path.open("wb") as out:
        for at, data in pieces:
            out.seek(at)
            out.write(data)
        out.truncate(size)


def _links(folder: Path) -> None:
    folder.mkdir()
    (folder / "b").mkdir()
    for name, size in (("small", 100), ("large", 2_000_000)):
        (folder / name).write_bytes(b"l" * size)
        (folder / f"another-{name}").hardlink_to(folder / name)
        (folder / "b" / name).hardlink_to(folder / name)
    (folder / "to-file").symlink_to("small")
    (folder / "to-folder").symlink_to("b")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "long").symlink_to("x" * 4000)
    (folder / "linked-link").hardlink_to(folder / "dangling")


def _kinds(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "fifo", 0o640)


def _rights(folder: Path) -> None:
    folder.mkdir()
    for mode in (0o400, 0o444, 0o600, 0o644, 0o666, 0o755, 0o777, 0o2755, 0o4755, 0o6711):
        path = folder / f"{mode:o}"
        path.write_bytes(b"r")
        path.chmod(mode)
    for mode in (0o500, 0o555, 0o700, 0o1777, 0o2770, 0o3775):
        path = folder / f"dir-{mode:o}"
        path.mkdir()
        (path / "inside").write_bytes(b"i")
        (path / "below").mkdir()
        path.chmod(mode)


def _xattrs(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    os.setxattr(folder / "file", "user.plain", b"value")
    os.setxattr(folder / "file", "user.binary", bytes(range(256)))
    os.setxattr(folder / "file", "user.empty", b"")
    (folder / "file").chmod(0o444)
    (folder / "dir").mkdir()
    os.setxattr(folder / "dir", "user.of-a-folder", b"d")
    (folder / "acl").write_bytes(b"a")
    set_acl(folder / "acl", {1234: 6}, {99: 4})
    (folder / "acl-dir").mkdir()
    set_acl(folder / "acl-dir", {1234: 7}, {7: 5}, default=True)
    set_acl(folder / "acl-dir", {1234: 7}, {})
    (folder / "acl-dir" / "inherited").write_bytes(b"i")
    (folder / "acl-dir" / "without").write_bytes(b"w")
    remove_acl(folder / "acl-dir" / "without")
    (folder / "acl-dir" / "sub").mkdir()


def _times(folder: Path) -> None:
    folder.mkdir()
    for name, ns in (("old", OLD_NS), ("ancient", ANCIENT_NS), ("future", 4_000_000_000 * 10**9)):
        (folder / name).write_bytes(b"t")
        os.utime(folder / name, ns=(ns, ns))
        (folder / f"dir-{name}").mkdir()
        (folder / f"dir-{name}" / "inside").write_bytes(b"t")
        os.utime(folder / f"dir-{name}", ns=(ns, ns))
    (folder / "link").symlink_to("old")
    os.utime(folder / "link", ns=(OLD_NS, OLD_NS), follow_symlinks=False)
    os.utime(folder, ns=(OLD_NS, OLD_NS))


def _deep(folder: Path) -> None:
    """Made step by step: the path is too long for one call."""
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(DEEP):
        name = f"{number:02}-" + "d" * 97
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    out = os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
    os.write(out, b"the bottom")
    os.setxattr(out, "user.deep", b"down")
    os.close(out)
    os.symlink("bottom", "link", dir_fd=fd)
    os.close(fd)


def _roots_own(folder: Path) -> None:
    folder.mkdir()
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "block", stat.S_IFBLK | 0o600, os.makedev(7, 300))
    (folder / "owned").write_bytes(b"o")
    os.chown(folder / "owned", 12345, 54321)
    (folder / "suid").write_bytes(b"s")
    os.chown(folder / "suid", 12345, 54321)
    (folder / "suid").chmod(0o6755)
    (folder / "capable").write_bytes(b"c")
    os.setxattr(folder / "capable", "security.capability", CAP_NET_BIND)
    os.setxattr(folder / "owned", "trusted.ours", b"t")
    (folder / "link").symlink_to("owned")
    os.chown(folder / "link", 12345, 54321, follow_symlinks=False)
    (folder / "dir").mkdir()
    os.chown(folder / "dir", 12345, 54321)
    (folder / "dir").chmod(0o2710)
    (folder / "dir" / "inside").write_bytes(b"i")


def remove_tree(top: Path) -> None:
    """Remove a tree whose paths may be beyond PATH_MAX and whose folders may be closed."""
    subprocess.run(["chmod", "-R", "u+rwx", str(top)], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", str(top)], check=True)
