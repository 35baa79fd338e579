"""Which commands and options tests type, read from their source.

A function types a command when the command's words stand one after another in a call, tuple or list
of it, of a constant it names or of a helper it calls. An option beside a command's words is that
command's; any other option is of every command the function types.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from holdfast.cli.main import root

Command = tuple[str, ...]
Typed = dict[Command, set[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def commands() -> dict[Command, list[list[str]]]:
    """Every command of the program and its options, each with all its spellings."""
    return dict(_leaves(root, ()))


def _leaves(found: click.Command, words: Command) -> Iterator[tuple[Command, list[list[str]]]]:
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            assert below is not None
            yield from _leaves(below, (*words, name))
        return
    options = [one for one in found.params if isinstance(one, click.Option)]
    yield words, [[*one.opts, *one.secondary_opts] for one in options]


def typed_in(files: Iterable[Path], helpers: Path) -> Typed:
    """What the test functions in ``files`` type; ``helpers`` holds methods they call."""
    known = _by_first_word(commands())
    shared = {one.name: _Part(one, known) for one in _functions(ast.parse(helpers.read_text()))}
    found: Typed = {}
    for file in files:
        module = ast.parse(file.read_text())
        parts = {name: _Part(tree, known) for name, tree in _constants(module).items()}
        parts |= {one.name: _Part(one, known) for one in _functions(module)}
        for name in parts:
            if name.startswith("test_"):
                for command, options in _reached(name, {**shared, **parts}).items():
                    found.setdefault(command, set()).update(options)
    return found


def _by_first_word(found: Iterable[Command]) -> dict[str, list[Command]]:
    first: dict[str, list[Command]] = {}
    for command in found:
        first.setdefault(command[0], []).append(command)
    return first


def _functions(tree: ast.AST) -> list[Function]:
    return [one for one in ast.walk(tree) if isinstance(one, Function)]


def _constants(module: ast.Module) -> dict[str, ast.AST]:
    """The values of a module's names."""
    return {
        target.id: line.value
        for line in module.body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    }


def _reached(start: str, parts: dict[str, _Part]) -> Typed:
    """What a function types itself, by the constants it names and by the helpers it calls."""
    seen, waiting = {start}, [start]
    typed: Typed = {}
    loose: set[str] = set()
    while waiting:
        part = parts[waiting.pop()]
        loose |= part.loose
        for command, options in part.typed.items():
            typed.setdefault(command, set()).update(options)
        new = (part.names & parts.keys()) - seen
        seen |= new
        waiting += new
    for options in typed.values():
        options |= loose
    return typed


class _Part:
    """What one function or constant types by itself, its other options, and the names in it."""

    def __init__(self, tree: ast.AST, known: dict[str, list[Command]]) -> None:
        self._known = known
        self.typed: Typed = {}
        self.loose: set[str] = set()
        self.names: set[str] = set()
        for one in ast.walk(tree):
            if isinstance(one, ast.Name):
                self.names.add(one.id)
            elif isinstance(one, ast.Attribute):
                self.names.add(one.attr)
            elif isinstance(one, ast.Constant) and isinstance(one.value, str):
                self.loose |= _flags([one.value])
            elif isinstance(one, ast.Call):
                self._read([one.func, *one.args])
            elif isinstance(one, ast.Tuple | ast.List | ast.Set):
                self._read(one.elts)

    def _read(self, parts: list[ast.expr]) -> None:
        words = [text for part in parts for text in _texts(part)]
        for at, word in enumerate(words):
            for command in self._known.get(word, ()):
                if tuple(words[at : at + len(command)]) == command:
                    self.typed.setdefault(command, set()).update(_flags(words))


def _texts(part: ast.expr) -> list[str]:
    """The words of one element; "" for one that is known only when it runs."""
    if isinstance(part, ast.Starred) and isinstance(part.value, ast.Tuple | ast.List):
        return [text for one in part.value.elts for text in _texts(one)]
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return [part.value]
    return [""]


def _flags(words: Iterable[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
