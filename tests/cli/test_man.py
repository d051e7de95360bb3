"""`aosctl man`: pages of every command, in roff that formatters take without a word."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aosctl.cli.completion_scripts import entries
from command import AOSCTL, Aosctl

MACROS = {".TH", ".SH", ".PP", ".TP", ".B", ".BR", ".nf", ".fi"}
ESCAPE = re.compile(r"\\(?:-|e|&|\(ga|\(ha|\(ti|\(dq|\[u[0-9A-F]{4,6}\])")
FORMATTERS = {
    "groff": ["groff", "-man", "-Tutf8", "-ww", "-z"],
    "mandoc": ["mandoc", "-man", "-Tlint", "-Wwarning"],
}
PRESENT = [name for name in FORMATTERS if shutil.which(name)]
"""The formatters of this machine; the parser below is always there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man")
    done = subprocess.run(
        [AOSCTL, "man", made], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    pages = sorted(made.joinpath("man1").iterdir())
    assert sorted(done.stdout.splitlines()) == list(map(str, pages))
    return made / "man1"


def words(text: str) -> str:
    """Return what a reader sees of roff text: escapes resolved, requests gone."""
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda found: chr(int(found[1], 16)), text)
    for escape, character in (
        ("\\(dq", '"'), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\-", "-"), ("\\&", ""),
        ("\\e", "\\"),
    ):  # fmt: skip
        text = text.replace(escape, character)
    return text


def test_every_command_has_a_page_with_its_flags(folder: Path) -> None:
    tree = entries()
    shared = {flag.help for flag in tree[0].flags}  # told on the page of aosctl itself
    names = {"-".join(("aosctl", *entry.words)) + ".1" for entry in tree}
    assert {path.name for path in folder.iterdir()} == names
    for entry in tree:
        text = words((folder / ("-".join(("aosctl", *entry.words)) + ".1")).read_text())
        for flag in entry.flags:
            told_here = flag.spellings[-1] != "--help" and not entry.words
            if told_here or flag.help not in shared:
                assert all(spelling in text for spelling in flag.spellings), (entry.words, flag)
        for name, told in entry.commands:
            assert "-".join(("aosctl", *entry.words, name)) + "(1)" in text
            assert told in text


def test_a_page_says_what_help_says_of_arguments(folder: Path) -> None:
    page = words((folder / "aosctl-auth-can-i.1").read_text())
    assert '.SH ARGUMENTS\n.TP\n.B "VERB"\nget, apply, ' in page
    for bare in ("aosctl-fork.1", "aosctl-get.1"):  # nothing but their names
        assert "ARGUMENTS" not in (folder / bare).read_text()


def test_the_pages_are_roff_and_nothing_else(folder: Path) -> None:
    for path in folder.iterdir():
        filled = True
        for line in path.read_text(encoding="ascii").splitlines():
            assert "\\" not in ESCAPE.sub("", line), (path.name, line)
            assert not line.startswith("'"), (path.name, line)
            if line.startswith("."):
                macro = line.split()[0]
                assert macro in MACROS, (path.name, line)
                if macro in (".nf", ".fi"):
                    assert filled == (macro == ".nf"), (path.name, line)
                    filled = macro == ".fi"
        assert filled, path.name
        assert path.read_text().startswith(f'.TH "{path.stem.upper()}"'.replace("-", "\\-"))


@pytest.mark.parametrize("name", PRESENT)
def test_a_formatter_has_nothing_to_say(name: str, folder: Path) -> None:
    for path in folder.iterdir():
        done = subprocess.run(
            [*FORMATTERS[name], path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), path.name


def test_examples_keep_their_lines(folder: Path) -> None:
    text = words((folder / "aosctl-get.1").read_text())
    assert "\n  aosctl get persona pg_expert -o yaml\n" in text.partition(".SH EXAMPLES")[2]


def test_a_folder_that_can_not_be_made_is_said(aosctl: Aosctl) -> None:
    done = aosctl("man", "/dev/null")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: can't write /dev/null/man1: Not a directory\n"
