"""What is typed before there is a prompt reaches it as it was typed."""

from __future__ import annotations

import os
import pty
import select
import termios
from collections.abc import Iterator
from contextlib import closing

import pytest

from aosctl.repl.keyboard import Keyboard
from terminal import PATIENCE_SECONDS


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A terminal as a shell leaves it: the person's end, and the one that is stdin."""
    person, ours = pty.openpty()
    with open(ours, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield person, ours
    os.close(person)


@pytest.mark.parametrize("stays", [True, False])
def test_enter_stays_enter_until_the_prompt_is_drawn(ends: tuple[int, int], stays: bool) -> None:
    """In between it would be Ctrl-J, a new line of the same message, and stand on the screen."""
    person, ours = ends
    before = termios.tcgetattr(ours)
    with Keyboard() as keyboard:
        os.write(person, b"first\r")
        assert select.select([ours], [], [], PATIENCE_SECONDS)[0]
        keyboard.stays = stays
    with closing(keyboard):
        assert keyboard.typed == "first\n"
        os.write(person, b"second\r")
        assert os.read(ours, 100) == (b"second\r" if stays else b"second\n")
        os.write(ours, b"|")
        assert seen_by(person) == ("|" if stays else "second\r\n|")
    assert termios.tcgetattr(ours) == before


def test_a_failure_leaves_the_terminal_as_it_was(ends: tuple[int, int]) -> None:
    before = termios.tcgetattr(ends[1])
    with pytest.raises(ZeroDivisionError), Keyboard() as keyboard:
        keyboard.stays = True
        raise ZeroDivisionError
    assert termios.tcgetattr(ends[1]) == before


def seen_by(person: int) -> str:
    """Return what stands on the screen, up to the bar."""
    seen = b""
    while not seen.endswith(b"|"):
        seen += os.read(person, 100)
    return seen.decode()
