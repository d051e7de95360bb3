"""How the chat drives turns: Ctrl-C while a tool does not listen."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from aosctl.domain.conversation import Conversation
from aosctl.domain.tools.base import ToolResult
from aosctl.repl.screen import Screen
from aosctl.repl.turns import Turns
from providers.wire_openai import calls, text
from talks import Stage, until


class Deaf:
    """web_search that goes on until it is let go, whatever it is told."""

    name = "web_search"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.over = threading.Event()

    def run(self, args: Mapping[str, Any], stop: threading.Event) -> ToolResult:
        self.begun.set()
        assert self.go.wait(20)
        self.over.set()
        return ToolResult(True, {"found": "late"})


class Access:
    """Opens the same run again."""

    def __init__(self, play: Stage) -> None:
        self._play = play

    def open(self, run_id: UUID | None) -> Conversation:
        return self._play.talk(run=run_id, worker="test:2").conversation

    def revive(self) -> None:
        """Nothing to start."""


def test_turn_that_does_not_stop_is_left_and_hurts_no_later_one(play: Stage) -> None:
    deaf = Deaf()
    talk = play.talk(tools={"web_search": deaf})
    screen = Screen(io.StringIO(), io.StringIO(), styled=False)
    turns = Turns(Access(play), talk.conversation, screen)
    play.answer(calls(("web_search", {"query": "x"})))

    def interrupt() -> None:
        assert deaf.begun.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=interrupt)
    person.start()
    with pytest.raises(KeyboardInterrupt):
        turns.send("Search.")
    person.join()
    play.assert_at_rest(talk, "cancelled")

    def answered_late(_request: object) -> Any:
        deaf.go.set()
        assert deaf.over.wait(20)
        return text("Yes.")

    play.answer(answered_late)
    assert turns.send("And now?").text == "Yes."
    until(lambda: "turn" not in {thread.name for thread in threading.enumerate()}, "its end")
    play.assert_at_rest(talk, "completed")
