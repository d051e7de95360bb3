"""E52 to E56: what models, tools and the database say does nothing to a terminal.

Here a person talks with an agent whose every word is an attack, and takes the data away. What each
command prints of such a tenant, `cli/test_hygiene_grid.py` tells: at a terminal, in a pipe.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from command import AOSCTL
from hostile import ATTACKS, EVERYTHING, FORGED, World
from terminal import CTRL_D, Terminal


def test_no_word_of_an_answer_gets_through(world: World) -> None:
    with Terminal(world.env(), "chat", "hostile", seconds=90) as chat:
        chat.prompt()
        chat.say("hello")
        chat.stands("THE END")
        chat.ready()
        chat.type(CTRL_D)
        chat.status()
    assert [name for name, (_, evil) in ATTACKS.items() if re.search(evil, chat.raw)] == []
    shown = chat.raw.replace("\\", "")
    assert "<E52 clear></E52 clear>" in shown, "the control: it is this text that was shown"


def test_what_is_taken_away_is_the_same_text_and_harmless_to_print(
    world: World, tmp_path: Path
) -> None:
    """In a pipe and a file too, which somebody prints one day."""
    env = world.env()
    file = tmp_path / "acme.jsonl"
    for words in (["export", "tenant", "acme", "-o", str(file)], ["audit", "export"]):
        done = subprocess.run([AOSCTL, *words], env=env, capture_output=True, check=True)
        text = (done.stdout or file.read_bytes()).decode()
        assert {char for char in text if not char.isprintable() and char != "\n"} == set()
        assert any(EVERYTHING in one for line in text.splitlines() for one in texts(line))
    verify = [AOSCTL, "audit", "verify", "-f", "-"]
    assert subprocess.run(verify, env=env, input=done.stdout, check=False).returncode == 0


def texts(line: str) -> list[str]:
    """Return every text in a line of JSON, and in those that are JSON themselves."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                look(each)
        elif isinstance(value, str):
            found.append(value)
            if value.startswith("{"):
                look(json.loads(value))

    look(json.loads(line))
    return found


def test_the_search_finds_what_a_terminal_would_get(tmp_path: Path) -> None:
    """The control: the same texts, printed by a program that does not clean them."""
    script = tmp_path / "print.py"
    script.write_text(f"import sys\nsys.stdout.write({EVERYTHING + chr(10) + FORGED!r})\n")
    child = pexpect.spawn(sys.executable, [str(script)], encoding="utf-8", timeout=30)
    child.expect(pexpect.EOF)
    raw = child.before
    child.close()
    missed = [name for name, (_, evil) in ATTACKS.items() if not re.search(evil, raw)]
    assert missed == ["E56 markup"], "markup is for those who draw pages"
    assert re.search("^Status:  approved", raw.replace("\r\n", "\n"), re.MULTILINE)
