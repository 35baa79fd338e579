"""Installations for the acceptance tests: one per module, and helpers to make and compare trees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.world import World


def fill(tree: Path, seed: int = 1) -> None:
    """A small tree with what real trees have: many sizes, links, holes, odd names."""
    noise = seed.to_bytes(4, "big")
    tree.mkdir(parents=True)
    for number in range(120):
        folder = tree / f"dir-{number % 7}" / f"sub-{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}.txt").write_bytes(noise + b"line %d\n" % number * (number * 17))
    big = os.urandom(3_000_000)
    (tree / "large.bin").write_bytes(big)
    (tree / "large-copy.bin").write_bytes(big)
    (tree / "empty").touch()
    (tree / "empty-dir").mkdir()
    (tree / "link").symlink_to("large.bin")
    (tree / "dangling").symlink_to("nowhere")
    os.link(tree / "large.bin", tree / "hard-link.bin")
    with (tree / "sparse.img").open("wb") as out:
        out.truncate(50_000_000)
        out.seek(20_000_000)
        out.write(b"island" * 1000)
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9\nnew line")).write_bytes(b"odd name")
    (tree / ("n" * 255)).write_bytes(b"long name")
    os.utime(tree / "empty", ns=(1_000_000_007, 1_234_567_890_123_456_789))
    os.mkfifo(tree / "pipe")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Server, vault, agent and the item `docs` over a filled tree (``world.folder / "src"``)."""
    made = World(tmp_path_factory.mktemp("world"))
    fill(made.folder / "src")
    try:
        made.set_up(made.folder / "src")
        yield made
    finally:
        made.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """An installation in which nothing was started yet."""
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()
