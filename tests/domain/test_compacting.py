"""A conversation that is summed up: what its model is asked afterwards, here and by others."""

from __future__ import annotations

import threading

from aosctl.domain.loop_events import Outcome
from aosctl.messages import user
from providers.wire_openai import text
from talks import Stage, Talk


def asked(play: Stage) -> list[str]:
    """Return what the model read last: the texts of its messages, without the persona's."""
    return [str(m["content"]) for m in play.wire.requests[-1].messages[1:]]


def sum_up(talk: Talk) -> Outcome:
    with talk.conversation.summing_up():
        return talk.send("sum up")


def test_here_and_in_a_worker_that_knew_the_run_the_summary_is_read(play: Stage) -> None:
    play.answer(*map(text, ("one", "two", "elsewhere", "in short", "three", "four")))
    talk = play.talk()
    talk.send(f"first{' word' * 300}")
    talk.send("second")
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    other.send("third")
    assert asked(play)[-1] == "third" and len(asked(play)) == 5
    assert talk.conversation.check_compactable().last_step == 6
    assert "tools" in play.wire.requests[-1].body
    assert sum_up(talk).state == "completed"
    assert "tools" not in play.wire.requests[-1].body
    done = talk.conversation.compact()
    assert (done.first_step, done.last_step) == (1, 6)
    talk.send("fourth")
    assert asked(play) == ["sum up", "in short", "fourth"]
    assert "tools" in play.wire.requests[-1].body
    other.send("fifth")
    assert asked(play) == ["sum up", "in short", "fourth", "three", "fifth"]
    assert [said for _, said in play.transcript(talk)][:2] == [f"first{' word' * 300}", "one"]
    play.assert_at_rest(talk, "completed")


def test_what_strangers_wrote_in_a_message_marks_the_run(play: Stage) -> None:
    play.answer(text("one"))
    talk = play.talk(begun=False)
    message = user("typed", " attached", untrusted="@notes.txt")
    outcome = talk.conversation.send(message, talk.events.append, threading.Event())
    assert outcome.state == "completed"
    assert play.tenant.run_row(talk.conversation.run_id)["taint"] == "@notes.txt, step 1"
    assert asked(play) == ["typed attached"]
