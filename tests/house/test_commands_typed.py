"""Every command of the program, with each of its options, is typed by some test against a real
server or a real vault. A new command or option needs such a test."""

from __future__ import annotations

from pathlib import Path

from holdfast.testing.typed_commands import commands, typed_in

ROOT = Path(__file__).parents[2]
ROOMS = ("acceptance", "integration", "recovery", "vm", "az")
HELPERS = ROOT / "src/holdfast/testing/world.py"
# Said once for all commands (cli/options.py); that one takes them is seen with any of them.
SHARED = {"-g", "-v", "-o"}
# Commands and options that no such test can type, each with the reason.
EXCEPTIONS: dict[str, str] = {}


def test_every_command_and_option_is_typed_by_some_test() -> None:
    files = [path for room in ROOMS for path in (ROOT / "tests" / room).glob("test_*.py")]
    typed = typed_in(files, HELPERS)
    everywhere = set().union(*typed.values())
    assert everywhere >= SHARED
    missing = set()
    for command, options in commands().items():
        name = " ".join(command)
        if command not in typed:
            missing.add(name)
            continue
        for spellings in options:
            if not typed[command] & set(spellings) and not SHARED & set(spellings):
                missing.add(f"{name} {spellings[0]}")
    assert sorted(missing - set(EXCEPTIONS)) == [], "type it in a test, see tests/acceptance"
    assert set(EXCEPTIONS) <= missing, "these are typed now: drop them from EXCEPTIONS"


def test_the_reader_sees_what_is_typed_and_what_is_not(tmp_path: Path) -> None:
    room = tmp_path / "test_room.py"
    room.write_text(
        "ONE = ('vault', 'show', 'v1')\n"
        "def helper(world): world.ok('job', 'wait', 'x')\n"
        "def test_it(world):\n"
        "    world.ok(*ONE)\n"
        "    helper(world)\n"
        "    words = ('policy', 'list')\n"
        "    world.ok('vault', 'expire', 'v1', '--plan')\n"
        "    world.ok('vault', 'collect', 'v1')\n"
        "def not_a_test(world): world.ok('region', 'list')\n"
    )
    found = typed_in([room], HELPERS)
    assert set(found) == {
        ("vault", "show"), ("job", "wait"), ("policy", "list"), ("vault", "expire"),
        ("vault", "collect"),
    }  # fmt: skip
    assert "--plan" in found["vault", "expire"]
