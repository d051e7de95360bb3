"""The command lines that the tests run, read from their source: what a part of a run leaves out
counts too.

A line is a call's arguments, a list or tuple of words, or a text that is split at its blanks; it
belongs to the verb that its first words name. Where a call takes words from elsewhere (`*words`),
the flags that stand in the same function, above it, or in a list of its module that it names are
its own.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Tree = Mapping[tuple[str, ...], frozenset[str]]
"""What stands below the words of a command: `("db",)` has `install`, and others."""
_OTHER = "\0"
"""A word that only the running test knows."""


def used_flags(folder: Path, tree: Tree) -> dict[tuple[str, ...], set[str]]:
    """Return the flags that the tests of `folder` give to each command; `()` is aosctl itself."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if not _starts_processes(module):
            continue
        lists = _lists_of(module)
        for part in module.body:
            opened: set[tuple[str, ...]] = set()
            for line, open_ended in _lines(part):
                command, words = _command(line, tree)
                if command is not None:
                    found[command] |= _flags(words)
                    opened |= {command} if open_ended else set()
            loose = _loose(part, lists) if opened else set()
            for command in opened:
                found[command] |= loose
    return found


def _starts_processes(module: ast.Module) -> bool:
    """Tell whether a test file runs the command: it has the runner, or the program's path."""
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    return bool(names & {"AOSCTL", "Aosctl", "Terminal", "modules_of"})


def _lists_of(module: ast.Module) -> dict[str, ast.expr]:
    """Return the module's own lists of words, by their names."""
    found: dict[str, ast.expr] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def _lines(part: ast.AST) -> Iterator[tuple[list[str], bool]]:
    """Yield each line of a function or statement, and whether words come from elsewhere."""
    for node in ast.walk(part):
        if isinstance(node, ast.Call):
            yield _words(node.args)
        elif isinstance(node, ast.List | ast.Tuple):
            yield _words(node.elts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.split(), False
        elif isinstance(node, ast.JoinedStr):
            yield _text(node).split(), False


def _words(nodes: Sequence[ast.expr]) -> tuple[list[str], bool]:
    """Return the words that stand there; a word that is put together keeps what is known."""
    words: list[str] = []
    open_ended = False
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            words.append(_text(node))
        elif isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple | ast.List):
            more, opened = _words(node.value.elts)
            words += more
            open_ended |= opened
        elif isinstance(node, ast.Starred):
            open_ended = True
        else:
            words.append(_OTHER)
            open_ended |= isinstance(node, ast.Name)
    return words, open_ended


def _text(node: ast.JoinedStr) -> str:
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else _OTHER for part in node.values
    )


def _command(line: list[str], tree: Tree) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return the command that a line runs, None where it is none, and the words after it."""
    rest = line
    while rest and rest[0] == _OTHER:  # what a helper is given before the words
        rest = rest[1:]
    before: list[str] = []
    while rest and rest[0].startswith("-"):  # global flags, with or without a value
        taken = 1 if len(rest) < 2 or rest[1] in tree[()] or rest[1].startswith("-") else 2
        before += rest[:taken]
        rest = rest[taken:]
    command: tuple[str, ...] = ()
    while rest and rest[0] in tree[command]:
        command = (*command, rest[0])
        rest = rest[1:]
    if not command:
        return ((), before) if line and line[0].startswith("-") else (None, [])
    return command, before + rest


def _flags(words: Sequence[str]) -> set[str]:
    """Return the flags among words: `--output=json` and `-ojson` are `--output` and `-o`."""
    found: set[str] = set()
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            found.add(word.partition("=")[0])
        elif word.startswith("-") and word[1:2].isalpha():
            found.add(word[:2])
            if len(word) > 2 and word[1:].isalpha():
                found |= {f"-{letter}" for letter in word[1:]}
    return found


def _loose(part: ast.AST, lists: Mapping[str, ast.expr]) -> set[str]:
    """Return every flag that stands in a function, in what decorates it, and in what it names."""
    named = [lists[n.id] for n in ast.walk(part) if isinstance(n, ast.Name) and n.id in lists]
    texts = [
        word
        for piece in (part, *named)
        for node in ast.walk(piece)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in node.value.split()
    ]
    return _flags([text for text in texts if text != "--"])
