"""What is typed while the agent answers waits, and goes as soon as a message is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from aosctl.repl.live import Live
from aosctl.repl.prompt import Moved


class Hurried(Live):
    """A chat's prompt without a terminal; `meanwhile` happens as a question is about to stand."""

    def __init__(self, meanwhile: Callable[[Live], None] = lambda _live: None) -> None:
        self.printed = io.StringIO()
        super().__init__(self.printed)
        self._meanwhile = meanwhile

    def prepare(self) -> None:
        """Let a key come between the end of a turn and the prompt."""
        self._meanwhile(self)

    def open(self) -> None:
        """Nothing is drawn."""

    def ask(self) -> str | Moved:
        """Ask for a message; Moved where none is there."""
        return self.message("", lambda _width: "", look=lambda: True)


def test_a_message_is_sent_that_was_queued_in_the_last_moment() -> None:
    """Enter came when the turn was over and its prompt not drawn yet: nobody looks again."""
    live = Hurried(lambda live: live.state.queue.append("How do I speed up a join?"))
    assert live.ask() == "How do I speed up a join?"
    assert live.printed.getvalue() == "> How do I speed up a join?\n"
    assert (live.state.queue, live.state.mode) == ([], "busy")


def test_the_queue_goes_one_by_one_and_before_what_comes_later() -> None:
    live = Hurried()
    live.enqueue("first")
    live.enqueue("second")
    assert [live.ask(), live.ask(), live.ask()] == ["first", "second", Moved("")]


@pytest.mark.parametrize(
    ("mode", "left"), [("idle", []), ("busy", ["too late"]), ("key", ["too late"])]
)
def test_a_text_that_no_turn_takes_any_more_is_sent_where_a_message_is_asked_for(
    mode: str, left: list[str]
) -> None:
    """Alt-s and /steer find out in a thread of their own that the turn has ended."""
    live = Hurried()
    live.state.mode = mode  # type: ignore[assignment]
    live.enqueue("too late")
    assert live.state.queue == left
    assert live.printed.getvalue() == ("" if left else "> too late\n")
