"""Plug-ins: kubectl's rules, and nothing that runs what the user did not mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from command import Aosctl

Program = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of programs that stands first in PATH."""
    made = tmp_path / "bin"
    made.mkdir()
    return made


@pytest.fixture
def program(folder: Path) -> Program:
    """Make a program that prints its name and its arguments, one a line."""

    def make(name: str, *, at: Path = folder, mode: int = 0o755, status: int = 0) -> Path:
        at.mkdir(exist_ok=True)
        path = at / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\nexit {status}\n')
        path.chmod(mode)
        return path

    return make


def path_of(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def test_a_program_of_path_is_a_verb(aosctl: Aosctl, folder: Path, program: Program) -> None:
    program("aosctl-hello", status=7)
    done = aosctl("hello", "a b", "--flag", "-n", "x", PATH=path_of(folder))
    assert (done.status, done.err) == (7, "")
    assert done.out.splitlines() == ["aosctl-hello", "a b", "--flag", "-n", "x"]


def test_the_longest_name_counts_and_dashes_are_underscores(
    aosctl: Aosctl, folder: Path, program: Program
) -> None:
    for name in ("aosctl-foo", "aosctl-foo-bar", "aosctl-foo-bar_baz"):
        program(name)
    for words, said in (
        (["foo", "x"], ["aosctl-foo", "x"]),
        (["foo", "bar", "x"], ["aosctl-foo-bar", "x"]),
        (["foo", "bar-baz", "bar"], ["aosctl-foo-bar_baz", "bar"]),
        (["foo", "--x", "bar"], ["aosctl-foo", "--x", "bar"]),
        (["help", "foo"], ["aosctl-foo", "--help"]),
    ):
        assert aosctl(*words, PATH=path_of(folder)).out.splitlines() == said


def test_standard_input_and_the_environment_go_on(aosctl: Aosctl, folder: Path) -> None:
    path = folder / "aosctl-cat"
    path.write_text('#!/bin/sh\necho "$AOSCTL_TENANT"; cat\n')
    path.chmod(0o755)
    done = aosctl("cat", stdin="in\n", PATH=path_of(folder), AOSCTL_TENANT="acme")
    assert (done.status, done.out, done.err) == (0, "acme\nin\n", "")


# Attacks


@pytest.mark.parametrize("words", [["version"], ["get", "agents"], ["help"], ["config", "view"]])
def test_a_plug_in_never_takes_the_place_of_a_verb(
    aosctl: Aosctl, folder: Path, program: Program, words: list[str]
) -> None:
    for name in ("-".join(["aosctl", *words]), f"aosctl-{words[0]}"):
        program(name)
    settings = {"AOSCTL_DSN": "host=/nowhere", "PGCONNECT_TIMEOUT": "1"}
    assert "aosctl-" not in aosctl(*words, PATH=path_of(folder), **settings).out.splitlines()[:1]


def test_what_is_not_in_a_folder_of_path_is_not_run(
    aosctl: Aosctl, folder: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    program("aosctl-evil", at=here)
    program("aosctl-data", mode=0o644)
    (here / "aosctl-..").mkdir()
    program("x", at=here / "aosctl-..")
    monkeypatch.chdir(here)
    for path in ("", ".", "here:.", ":" + str(folder), path_of(folder)):
        for word in ("evil", "data", "../x", "./aosctl-evil"):
            done = aosctl(word, PATH=path)
            assert (done.status, done.out) == (2, ""), (path, word)
            assert done.err.startswith(f'error: unknown command "{word}" for "aosctl"\n')
    assert aosctl("evil", PATH=path_of(here)).out == "aosctl-evil\n"  # it would run


def test_flags_before_a_plug_in_are_refused(aosctl: Aosctl, folder: Path, program: Program) -> None:
    program("aosctl-hello")
    done = aosctl("-n", "acme", "hello", PATH=path_of(folder))
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: flags cannot be placed before plugin name: -n\nhint: aosctl hello -n …\n"
    )


def test_what_can_not_run_is_said(aosctl: Aosctl, folder: Path) -> None:
    path = folder / "aosctl-broken"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    done = aosctl("broken", PATH=path_of(folder))
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"error: can't run the plug-in {path}: Exec format error\n"
        "hint: its first line says what runs it: #!/bin/sh, #!/usr/bin/env python3\n"
    )
    path.chmod(0o644)
    done = aosctl("broken", PATH=path_of(folder))
    assert (done.status, done.out) == (2, "")
    assert done.err.endswith(f"hint: {path} is not executable: chmod +x {path}\n")


def test_a_slip_of_the_fingers_finds_a_plug_in_too(
    aosctl: Aosctl, folder: Path, program: Program
) -> None:
    program("aosctl-hello_you")
    done = aosctl("helo-you", PATH=path_of(folder))
    assert done.err.endswith("\n\nDid you mean this?\n\thello-you\n")


# The list


def test_the_list_names_them_and_warns(
    aosctl: Aosctl, folder: Path, program: Program, tmp_path: Path
) -> None:
    done = aosctl("plugin", "list", PATH="/nowhere")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: unable to find any aosctl plugins in your PATH\n"
    hello = program("aosctl-hello")
    done = aosctl("plugin", "list", PATH=str(folder))
    assert (done.status, done.err) == (0, "")
    assert done.out == f"The following compatible plugins are available:\n\n{hello}\n"
    other = tmp_path / "other"
    shadowed = program("aosctl-hello", at=other)
    verb = program("aosctl-get", at=other)
    plain = program("aosctl-plain", at=other, mode=0o644)
    done = aosctl("plugin", "list", PATH=f"{folder}:{other}")
    assert done.status == 1
    assert done.out.splitlines()[2:] == list(map(str, [hello, verb, shadowed, plain]))
    assert done.err == (
        f'  - warning: {verb} is never run: "aosctl get" is a command of its own\n'
        f"  - warning: {shadowed} is overshadowed by a similarly named plugin: {hello}\n"
        f"  - warning: {plain} identified as an aosctl plugin, but it is not executable\n"
        "error: 3 plugin warnings were found\n"
    )
    names = aosctl("plugin", "list", "--name-only", PATH=str(folder)).out
    assert names.endswith("available:\n\naosctl-hello\n")


def test_a_hostile_name_in_the_list_moves_no_cursor(
    aosctl: Aosctl, folder: Path, program: Program
) -> None:
    path = folder / "aosctl-a\x1b[2Jb"
    path.write_text("")
    done = aosctl("plugin", "list", PATH=str(folder))
    assert "\x1b" not in done.out + done.err
    assert "aosctl-a\\u001b[2Jb" in done.out
