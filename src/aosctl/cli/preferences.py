"""`preferences.yaml`: a person's own default flags and aliases, apart from the contexts.

Shaped as kubectl's kuberc:

    defaults:
    - command: get
      options:
      - name: output
        default: wide
    aliases:
    - name: crew
      command: get
      prependArgs: [agents]
      options:
      - name: show-labels
        default: "true"

A flag that is typed wins over its default; an alias is no name of a verb, and stands for a verb of
aosctl, never for a program.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aosctl.cli import conflicts
from aosctl.cli.global_flags import TEXTS
from aosctl.cli.verbs import VERBS
from aosctl.config import user_folder
from aosctl.errors import AosError

if TYPE_CHECKING:
    from typing import Any

    from typer._click import Command
    from yaml.nodes import Node

    from aosctl.yaml_nodes import Reader

_ALIAS = re.compile(r"[a-z][a-z0-9-]*")
_WITH_VALUE = frozenset(spelling for _, spellings, _, _ in TEXTS for spelling in spellings)


class Option(NamedTuple):
    """A default of a flag: its long name without the dashes, and where in the file it stands."""

    name: str
    value: str
    node: Node


class Default(NamedTuple):
    """What a command of these words gets."""

    words: tuple[str, ...]
    options: tuple[Option, ...]
    node: Node


class Alias(NamedTuple):
    """What a word of one's own stands for."""

    command: Default
    before: tuple[str, ...]
    after: tuple[str, ...]


class Preferences(NamedTuple):
    """What the file says; `reader` has the words for what is wrong in it."""

    reader: Reader
    defaults: tuple[Default, ...]
    aliases: Mapping[str, Alias]


def path_of(env: Mapping[str, str]) -> Path | None:
    """Return the file: AOSCTL_PREFERENCES, else beside the config; None where that is `off`."""
    chosen = env.get("AOSCTL_PREFERENCES")
    if chosen == "off":
        return None
    return Path(chosen).expanduser() if chosen else user_folder(env) / "preferences.yaml"


def expand(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return the command line with its alias written out and the default flags in it.

    Raises AosError with file:line:column for a file that can't be read, or does not fit.
    """
    words = list(argv)
    path = path_of(env)
    place = _place_of_verb(words)
    if path is None or place is None or not os.path.lexists(path):
        return words
    preferences = _read(path)
    options: list[Option] = []
    if alias := preferences.aliases.get(words[place]):
        stands_for = alias.command
        words[place : place + 1] = [*stands_for.words, *alias.before]
        words += alias.after
        options += stands_for.options
    if words[place] not in VERBS:
        return words
    for default in preferences.defaults:
        if words[place : place + len(default.words)] == list(default.words):
            known = {option.name for option in options}
            options += [option for option in default.options if option.name not in known]
            end = place + len(default.words)
            words[end:end] = _flags(preferences.reader, default.words, options, words)
            return words
    if alias:
        end = place + len(alias.command.words)
        words[end:end] = _flags(preferences.reader, alias.command.words, options, words)
    return words


def _place_of_verb(words: Sequence[str]) -> int | None:
    """Return where the verb stands, behind global flags."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        if words[place] == "--":
            return None
        place += 2 if words[place] in _WITH_VALUE else 1
    return place if place < len(words) else None


def _flags(
    reader: Reader, command: tuple[str, ...], options: Sequence[Option], words: Sequence[str]
) -> list[str]:
    """Return those of these flags that were not typed, nor what contradicts them.

    Raises AosError for an unknown one.
    """
    typed = {word.partition("=")[0] for word in words if word.startswith("-")}
    known = {spelling: param for param in _command(command).params for spelling in param.opts}
    spelled = {other for one in typed if one in known for other in known[one].opts}
    contradicted = conflicts.excluded_by(" ".join(command), spelled)
    found: list[str] = []
    for option in options:
        param: Any = known.get(f"--{option.name}")
        if param is None:
            text = f'"aosctl {" ".join(command)}" has no flag --{option.name}'
            raise reader.error(option.node, text)
        short = tuple(spelling for spelling in param.opts if not spelling.startswith("--"))
        if typed.intersection(param.opts) or any(word.startswith(short) for word in typed if short):
            continue
        if contradicted.intersection(param.opts):
            continue
        if not param.is_flag:
            found.append(f"--{option.name}={option.value}")
        elif option.value not in ("true", "false"):
            raise reader.error(option.node, f"--{option.name} takes no value: true or false")
        elif option.value == "true":
            found.append(f"--{option.name}")
    return found


def _command(words: tuple[str, ...]) -> Command:
    from aosctl.cli.loading import load

    command = load(words[0])
    for word in words[1:]:
        command = getattr(command, "commands", {})[word]
    return command


def _read(path: Path) -> Preferences:
    """Read the file. Raises AosError; also where others may write it: it is as good as commands."""
    from aosctl.yaml_nodes import Reader, compose

    try:
        mode = path.stat()
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise AosError(f"can't read the preferences {path}: {reason}") from error
    if mode.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or mode.st_uid not in (os.geteuid(), 0):
        raise AosError(f"the preferences {path} are not yours alone to write", f"chmod go-w {path}")
    reader = Reader(path)
    root = compose(text, path)
    if root is None or reader.is_null(root):
        return Preferences(reader, (), {})
    fields = ("apiVersion", "kind", "defaults", "aliases")
    entries = reader.entries(root, fields, "the file of preferences")
    defaults = tuple(_default(reader, node) for node in _items(reader, entries.get("defaults")))
    aliases = dict(_alias(reader, node) for node in _items(reader, entries.get("aliases")))
    return Preferences(reader, defaults, aliases)


def _items(reader: Reader, node: Node | None) -> list[Node]:
    import yaml

    if node is None or reader.is_null(node):
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise reader.error(node, "this must be a list")
    return list(node.value)


def _default(reader: Reader, node: Node, *more: str) -> Default:
    entries = reader.entries(node, (*more, "command", "options"), "an entry")
    where = entries.get("command", node)
    words = tuple((reader.text(entries.get("command"), "command") or "").split())
    if not words or words[0] not in VERBS:
        raise reader.error(where, f'"{" ".join(words)}" is no verb of aosctl')
    try:
        _command(words)
    except KeyError:
        raise reader.error(where, f'"{" ".join(words)}" is no verb of aosctl') from None
    options = [_option(reader, item) for item in _items(reader, entries.get("options"))]
    return Default(words, tuple(options), node)


def _option(reader: Reader, node: Node) -> Option:
    entries = reader.entries(node, ("name", "default"), "an option")
    name, value = (reader.text(entries.get(field), field) for field in ("name", "default"))
    if not name or value is None:
        raise reader.error(node, "an option needs a name and a default")
    return Option(name.removeprefix("--"), value, node)


def _alias(reader: Reader, node: Node) -> tuple[str, Alias]:
    fields = ("name", "prependArgs", "appendArgs")
    command = _default(reader, node, *fields)
    entries = reader.entries(node, (*fields, "command", "options"), "an alias")
    name = reader.text(entries.get("name"), "name") or ""
    if name in VERBS or not _ALIAS.fullmatch(name):
        what = "is a verb of aosctl already" if name in VERBS else "is no name for an alias"
        raise reader.error(entries.get("name", node), f'"{name}" {what}')
    before, after = (
        tuple(reader.text(item, field) or "" for item in _items(reader, entries.get(field)))
        for field in ("prependArgs", "appendArgs")
    )
    return name, Alias(command, before, after)
