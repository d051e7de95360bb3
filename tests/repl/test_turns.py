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

from aosctl.db.person import PersonClient
from aosctl.domain.conversation import Conversation
from aosctl.domain.tools.base import Call, ToolResult
from aosctl.errors import DatabaseUnavailable
from aosctl.repl.screen import Screen
from aosctl.repl.turns import Turns
from providers.wire_openai import calls, text
from talks import Stage, give_helper, until


class Deaf:
    """web_search that goes on until it is let go, whatever it is told."""

    name = "web_search"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.over = threading.Event()

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        self.begun.set()
        assert self.go.wait(20)
        self.over.set()
        return ToolResult(True, {"found": "late"})


class Access:
    """Opens the same run again, or a new one."""

    def __init__(self, play: Stage) -> None:
        self._play = play

    def open(self, run_id: UUID | None) -> Conversation:
        return self._play.talk(run=run_id, worker="test:2", begun=False).conversation

    def revive(self) -> None:
        """Nothing to start."""


@pytest.mark.parametrize("begun", [True, False], ids=["", "with its run"])
def test_turn_that_does_not_stop_is_left_and_hurts_no_later_one(play: Stage, begun: bool) -> None:
    deaf = Deaf()
    talk = play.talk(tools={"web_search": deaf}, begun=begun)
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


@pytest.mark.parametrize("arrives", [True, False])
def test_the_first_message_of_a_run_is_found_again_or_was_never_sent(
    play: Stage, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """Its acknowledgement is lost for longer than the call is repeated."""
    talk = play.talk(begun=False)
    turns = Turns(Access(play), talk.conversation, Screen(None, io.StringIO(), styled=False))
    count = "select count(*) from aos_core.run"
    before, open_run = play.database.value(count), PersonClient.open_run

    def lose(self: PersonClient, *args: Any) -> Any:
        if arrives:
            new, message, key, _worker, context, _seconds = args
            open_run(self, new, message, key, "somebody else's", context, 1)
        raise DatabaseUnavailable("the reply was lost")

    monkeypatch.setattr(PersonClient, "open_run", lose)
    if arrives:
        play.answer(text("Yes."))
        assert turns.send("Are you there?").text == "Yes."
        play.assert_at_rest(talk, "completed")
        assert talk.conversation.run == talk.conversation.status().run
    else:
        with pytest.raises(DatabaseUnavailable, match="the reply was lost"):
            turns.send("Are you there?")
        assert talk.conversation.run_id is None and not talk.conversation.run
    assert play.database.value(count) - before == arrives


def test_helpers_that_end_between_two_looks_are_no_reason_to_stop(
    play: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker ends what the turn waits for after the chat has read that it waits."""
    give_helper(play)
    talk = play.talk()
    worker = play.talk(run=talk.conversation.run_id, worker="test:worker", begun=False)
    out = io.StringIO()
    turns = Turns(Access(play), talk.conversation, Screen(out, io.StringIO(), styled=False))
    play.answer(calls(("ask_helper", {"task": "look"})), text("Found."), text("All done."))

    def help(*_: object) -> bool:
        assert worker.conversation.help(worker.events.append, worker.stop)
        return False

    monkeypatch.setattr(talk.conversation, "help", help)
    assert turns.send("Go.").text == "All done."
    play.assert_at_rest(talk, "completed")
