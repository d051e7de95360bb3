"""Plug-ins: `aosctl foo` runs an `aosctl-foo` of PATH, by kubectl's rules.

Source of the rules: pkg/cmd/plugin.go of kubectl 1.33.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from aosctl.errors import AosError, UsageError

PREFIX = "aosctl-"
_LONGEST = 8
"""Of how many words the name of a plug-in is looked for."""


def hand_over(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Become the plug-in that the command line names; return where there is none.

    Raises AosError when it can't run.
    """
    if found := find(argv, env):
        _become(*found, env)


def find(argv: Sequence[str], env: Mapping[str, str]) -> tuple[Path, Sequence[str]] | None:
    """Return the plug-in that the command line names, with what is left for it; None for none.

    The longest name counts: `aosctl foo bar` runs `aosctl-foo-bar`, else `aosctl-foo bar`. A dash
    within a word stands as an underscore in the file's name.
    """
    words: list[str] = []
    for word in argv[:_LONGEST]:
        if word.startswith("-") or "/" in word or "\0" in word:
            break
        words.append(word.replace("-", "_"))
    for length in range(len(words), 0, -1):
        path = _which(PREFIX + "-".join(words[:length]), env)
        if path is not None:
            return path, argv[length:]
    return None


def refuse_flags_before(argv: Sequence[str], typed: str, env: Mapping[str, str]) -> None:
    """Refuse `aosctl -n acme foo`: a plug-in reads its flags itself, after its name."""
    if argv[:1] != [typed] and _which(PREFIX + typed.replace("-", "_"), env):
        raise UsageError(
            f"flags cannot be placed before plugin name: {argv[0]}", f"aosctl {typed} {argv[0]} …"
        )


def installed(env: Mapping[str, str]) -> Iterator[Path]:
    """Yield every file of PATH that bears the name of a plug-in, in the order of PATH."""
    for folder in _folders(env):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (folder / name for name in names if name.startswith(PREFIX))


def verbs(env: Mapping[str, str]) -> list[str]:
    """Return the words that plug-ins add, as they are typed."""
    names = [path.name.removeprefix(PREFIX) for path in installed(env) if is_runnable(path)]
    return [name.replace("-", " ").replace("_", "-") for name in dict.fromkeys(names)]


def unready(typed: str, env: Mapping[str, str]) -> str | None:
    """Return what a plug-in of this name lacks to be one; None where there is none."""
    for path in installed(env):
        if path.name == PREFIX + typed.replace("-", "_") and path.is_file():
            return f"{path} is not executable: chmod +x {path}"
    return None


def _folders(env: Mapping[str, str]) -> list[Path]:
    """Return the folders of PATH; one that depends on where one stands is none of them."""
    folders = dict.fromkeys(env.get("PATH", os.defpath).split(os.pathsep))
    return [Path(folder) for folder in folders if folder.startswith("/")]


def _which(name: str, env: Mapping[str, str]) -> Path | None:
    paths = (folder / name for folder in _folders(env))
    return next((path for path in paths if is_runnable(path)), None)


def is_runnable(path: Path) -> bool:
    """Tell whether this user may execute a file."""
    return path.is_file() and os.access(path, os.X_OK)


def _become(path: Path, arguments: Sequence[str], env: Mapping[str, str]) -> None:
    try:
        os.execve(path, [str(path), *arguments], dict(env))  # noqa: S606 - what the user typed
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AosError(
            f"can't run the plug-in {path}: {reason}",
            "its first line says what runs it: #!/bin/sh, #!/usr/bin/env python3",
        ) from error
