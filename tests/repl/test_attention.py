"""A long turn calls whoever may have looked away, by a clock that the test turns."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from aosctl.cli.manner import USUAL
from aosctl.domain.conversation import Conversation
from aosctl.repl.chat import LONG_SECONDS, Chat
from aosctl.repl.exchange import Place
from aosctl.repl.keys import Presses
from aosctl.repl.live import Live
from aosctl.repl.plain_prompts import PlainPrompts
from aosctl.repl.prompt import Look, Moved
from aosctl.repl.screen import Screen
from providers.wire_openai import text
from talks import Stage


class Here:
    """A chat that has arrived, with one conversation."""

    is_over = True
    manner = USUAL

    def place(self) -> Place:
        return Place("asker", "wire", "tenant")

    def access(self) -> Here:
        return self

    def revive(self) -> None:
        """Nothing has gone away."""

    def open(self, run_id: UUID | None) -> Conversation:
        raise AssertionError("there is one already")

    def ask_model(self, model: str) -> None:
        raise AssertionError(model)


@pytest.mark.parametrize(("took", "rings"), [(LONG_SECONDS + 0.1, 1), (LONG_SECONDS, 0), (0.1, 0)])
def test_the_bell_rings_after_a_long_turn(
    play: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, took: float, rings: int
) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as nobody:  # who leaves after the answer
        monkeypatch.setattr("sys.stdin", nobody)
        rung = bells(play, took)
    assert rung == rings


def bells(play: Stage, took: float) -> int:
    """Count the bells of a chat with one message, whose turn took so long."""
    play.answer(text("Here it is."))
    out = io.StringIO()
    # What was there to be taken up took no time; the message, as long as is said.
    clock = chain((0.0, 0.0, 0.0), repeat(took))
    chat = Chat(
        "asker", Here(), Screen(out, out, styled=False), PlainPrompts(out), cast(Any, None),
        play.talk().conversation, "hello\n", clock=lambda: next(clock),
    )  # fmt: skip
    assert chat.run() == 0
    assert "Here it is." in out.getvalue()
    return out.getvalue().count("\a")


class Coming(Here):
    """A chat whose connection comes with the first message."""

    is_over = False

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def open(self, run_id: UUID | None) -> Conversation:
        assert run_id is None
        return self._conversation


class Leaving(PlainPrompts):
    """A prompt that connects, as it does while a person types, and whose person leaves then."""

    footer = ""

    def message(
        self,
        typed: str,
        footer: Callable[[int], str],
        look: Look | None = None,
        *,
        at_once: bool = False,
    ) -> str | Moved:
        assert (typed, at_once) == ("", True) and look is not None and not look()
        self.footer = footer(200)
        raise EOFError


@pytest.mark.parametrize(("typed", "footer"), [("", "asker · wire · tenant"), ("hello\n", "run")])
def test_the_footer_is_of_the_run_that_began_before_there_was_a_prompt(
    play: Stage, typed: str, footer: str
) -> None:
    """A message typed while the chat was loading is sent before anything is asked for."""
    play.answer(text("Here it is."))
    out = io.StringIO()
    conversation, prompts = play.talk().conversation, Leaving(out)
    screen = Screen(out, out, styled=False)
    assert (
        Chat("asker", Coming(conversation), screen, prompts, cast(Any, None), None, typed).run()
        == 0
    )
    expected = f"{conversation.run} · " if footer == "run" else footer
    assert prompts.footer.startswith(expected) and len(expected) > len("run · ")


@pytest.mark.parametrize(("ago", "rings"), [(10.5, True), (9.5, False)])
def test_who_has_just_pressed_a_key_is_not_called(ago: float, rings: bool) -> None:
    out, now = io.StringIO(), [100.0]
    live = Live(out, styled=False)
    live.presses = Presses(lambda: now[0])
    live.presses.see()
    now[0] += ago
    live.ring_unseen("asker: completed", LONG_SECONDS)
    assert ("\a" in out.getvalue()) is rings
