"""A message into the turn that is driven: the model reads it next, in the same turn."""

from __future__ import annotations

from uuid import uuid4

from aosctl.domain.loop_events import Steered
from providers.wire_openai import Reply, Request, calls, text
from talks import Stage, Talk

READ = ("sql_query", {"query": "select name from item where id = 1"})
SEARCH = ("web_search", {"query": "lamps"})
DELETE = ("sql_execute", {"statement": "delete from item where id = 301"})


def steered(talk: Talk) -> list[str]:
    return [event.message.text for event in talk.events if isinstance(event, Steered)]


def roles(request: Request) -> list[str]:
    return [message["role"] for message in request.messages[1:]]


def test_it_is_read_after_the_results_and_instead_of_the_end(play: Stage) -> None:
    """One conversation in two threads, as at a prompt: the wire asks while the turn is driven."""
    talk = play.talk(begun=False)

    def first(_request: Request) -> Reply:
        assert talk.conversation.steer("only \x00 names")
        return calls(READ, SEARCH)

    def second(request: Request) -> Reply:
        assert roles(request) == ["user", "assistant", "tool", "tool", "user"]
        assert request.messages[-1]["content"] == "only \ufffd names"
        assert talk.conversation.steer("and") and talk.conversation.steer("in French")
        return text("A lamp.")

    play.answer(first, second, text("Une lampe."))
    outcome = talk.send("What is there?")
    assert (outcome.state, outcome.turn, outcome.text) == ("completed", 1, "Une lampe.")
    assert steered(talk) == ["only \ufffd names", "and", "in French"]
    assert [m["content"] for m in play.wire.requests[-1].messages[-3:]] == [
        "A lamp.", "and", "in French",
    ]  # fmt: skip
    assert talk.said == "A lamp.Une lampe."
    play.assert_at_rest(talk, "completed")


def test_without_an_open_turn_it_says_no_and_sends_nothing(play: Stage) -> None:
    talk = play.talk(begun=False)
    assert talk.conversation.steer("too early") is False
    play.answer(text("Hello."), text("Again."))
    talk.send("Hello?")
    assert talk.conversation.steer("too late") is False
    assert talk.send("Hello!").text == "Again."
    assert [m["content"] for m in play.wire.requests[-1].messages[1:]] == [
        "Hello?", "Hello.", "Hello!",
    ]  # fmt: skip
    assert steered(talk) == []


def test_others_steer_what_waits_for_a_person_and_whoever_goes_on_reads_it(play: Stage) -> None:
    play.database.superuser.execute("insert into shop.item values (301, 'doomed')")
    talk = play.talk()
    play.answer(calls(DELETE))
    assert talk.send("Delete it.").state == "waiting"
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    assert other.conversation.steer("and say please")
    (approval,) = talk.conversation.pending_approvals()
    talk.conversation.decide(approval.approval_id, "approved")
    play.answer(text("Please."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Please."
    assert roles(play.wire.requests[-1]) == ["user", "assistant", "tool", "user"]
    play.assert_at_rest(talk, "completed")


def test_a_lost_connection_sends_it_once(play: Stage) -> None:
    talk = play.talk()

    def late(_request: Request) -> Reply:
        assert talk.conversation.steer("one")
        play.database.superuser.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where usename = 'test_developer' and datname = current_database()"
        )
        assert talk.conversation.steer("two")
        return text("Yes.")

    play.answer(late, text("Both."))
    assert talk.send("Well?").text == "Both."
    assert [m["content"] for m in play.wire.requests[-1].messages[1:]] == [
        "Well?", "Yes.", "one", "two",
    ]  # fmt: skip
    play.assert_at_rest(talk, "completed")


def test_what_was_steered_elsewhere_is_in_the_transcript_of_the_next_turn(play: Stage) -> None:
    """A process that knows the run from before reads what it did not see."""
    talk = play.talk()
    play.answer(text("One."))
    talk.send("Count.")
    other = play.talk(run=talk.conversation.run_id, worker=f"test:{uuid4()}")

    def late(_request: Request) -> Reply:
        assert talk.conversation.steer("faster")
        return text("Two.")

    play.answer(late, text("Three."), text("Four."))
    assert other.send("Go on.").text == "Three."
    assert talk.send("And?").text == "Four."
    assert [m["content"] for m in play.wire.requests[-1].messages[1:]] == [
        "Count.", "One.", "Go on.", "Two.", "faster", "Three.", "And?",
    ]  # fmt: skip
    assert steered(talk) == [] and steered(other) == ["faster"]
