"""Every command, and every flag of it in each spelling, is run as a process by some test."""

from __future__ import annotations

from pathlib import Path

import pytest

from aosctl.cli.completion_scripts import entries
from command_lines import used_flags

TESTS = Path(__file__).parents[1]
ENTRIES = {entry.words: entry for entry in entries()}
TREE = {words: frozenset(name for name, _ in entry.commands) for words, entry in ENTRIES.items()}
SHARED = {flag.help for flag in ENTRIES[()].flags}
"""The global flags and --help: one parser reads them for all, and test_frame tries that."""


@pytest.fixture(scope="module")
def used() -> dict[tuple[str, ...], set[str]]:
    return used_flags(TESTS, TREE)


def test_every_command_is_run(used: dict[tuple[str, ...], set[str]]) -> None:
    left_out = [" ".join(("aosctl", *words)) for words in ENTRIES if words not in used]
    assert not left_out, "no test runs " + "; ".join(left_out)


def test_every_flag_is_given(used: dict[tuple[str, ...], set[str]]) -> None:
    left_out = [
        f"aosctl {' '.join(words)} {spelling}".replace("  ", " ")
        for words, entry in ENTRIES.items()
        for flag in entry.flags
        for spelling in flag.spellings
        if spelling not in used.get(words, set()) and (not words or flag.help not in SHARED)
    ]
    assert not left_out, f"no test runs these {len(left_out)}:\n" + "\n".join(left_out)


def test_the_reading_tells_one_command_from_another(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "LINES = ['--wide', 'x']\n"
        "def test_a(aosctl: Aosctl):\n"
        "    aosctl('-q', 'get', 'agents', '-owide', '--sort-by=x', '--', '--not-this')\n"
        "    aosctl(*f'db status --o{1}'.split())\n"
        "    aosctl('ps', *LINES)\n"
    )
    found = used_flags(tmp_path, TREE)
    assert found[("get",)] >= {"-q", "-o", "--sort-by"} and "--not-this" not in found[("get",)]
    assert "--wide" in found[("ps",)] and "--wide" not in found[("get",)]
    assert ("db", "status") in found and ("kill",) not in found
