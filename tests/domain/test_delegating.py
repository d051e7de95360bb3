"""A turn that hands work on, driven in one process over a real model's wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aosctl.domain.loop_events import CallEnded, Delegated, Helping, TextDelta
from providers.wire_openai import Reply, Request, calls, error, text
from talks import Stage, Talk, give_helper

TASK = ("ask_helper", {"task": "look around"})


@pytest.fixture
def team(play: Stage) -> Stage:
    """The agent `asker` may ask `helper`; the same wire answers both."""
    give_helper(play)
    return play


def help_once(talk: Talk) -> bool:
    return talk.conversation.help(talk.events.append, talk.stop)


def test_the_process_of_a_turn_drives_whom_it_asks(team: Stage) -> None:
    talk = team.talk()
    team.answer(calls(TASK, TASK), text("Found one."), text("Found two."), text("All done."))
    assert talk.send("Go.").state == "waiting"
    assert [e.agent for e in talk.events if isinstance(e, Delegated)] == ["helper"] * 2
    assert not any(isinstance(e, CallEnded) for e in talk.events)
    assert talk.resume() is None  # nothing to drive but the children
    assert help_once(talk) and help_once(talk) and not help_once(talk)
    outcome = talk.resume()
    assert outcome is not None and (outcome.state, outcome.text) == ("completed", "All done.")
    _, one, two, last = team.wire.requests
    assert one.messages == two.messages == [
        {"role": "system", "content": "You help."}, {"role": "user", "content": "look around"},
    ]  # fmt: skip
    answers = [json.loads(m["content"])["answer"] for m in last.messages if m["role"] == "tool"]
    assert answers == ["Found one.", "Found two."]
    assert talk.said == "All done."  # a child's words are not this run's
    assert any(isinstance(e, Helping) for e in talk.events)
    team.assert_at_rest(talk, "completed")


def test_a_child_whose_model_fails_is_a_failed_result(team: Stage) -> None:
    talk = team.talk()
    team.answer(calls(TASK), error(401), text("Then without."))
    talk.send("Go.")
    assert help_once(talk)
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Then without."
    ((skill, ok, said),) = team.results(talk)
    assert (skill, ok) == ("ask_helper", False) and "did not finish" in said


def test_ctrl_c_in_a_child_ends_the_turn_and_keeps_the_run(team: Stage) -> None:
    talk = team.talk()

    def interrupt(_request: Request) -> Reply:
        talk.stop.set()
        return text("Too ", "late.")

    team.answer(calls(TASK), interrupt)
    talk.send("Go.")
    assert help_once(talk)
    row = talk.conversation.status()
    assert (row.run_state, row.turn_state, row.children) == ("active", "cancelled", None)
    assert not any(isinstance(e, TextDelta) for e in talk.events)


def test_a_turn_that_another_ended_is_none_that_we_have_answered(
    team: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to a call is lost, and the call repeated when others have ended the whole turn."""
    talk = team.talk()
    other = team.talk(run=talk.conversation.run_id, worker="test:other", begun=False)
    team.answer(calls(TASK), text("Found."), text("All done."))
    execute = talk.worker.execute_call

    def lose(*args: Any) -> Any:
        execute(*args)
        assert help_once(other)
        assert (ended := other.resume()) is not None and ended.state == "completed"
        return execute(*args)

    monkeypatch.setattr(talk.worker, "execute_call", lose)
    assert talk.send("Go.").state == "queued"
    assert talk.said == "" and other.said == "All done."
