"""Whole turns over the openai provider: what is sent, what is stored, what it costs."""

from __future__ import annotations

import json
from decimal import Decimal

from kernels import call
from providers.wire_openai import calls, text
from talks import Stage, Talk, beside, until

ONE_ROW = {"query": "select id, name from item where id = 1"}


def test_a_turn_with_parallel_calls_is_stored_as_it_was_sent(play: Stage) -> None:
    talk = play.talk()
    play.answer(
        calls(("sql_query", ONE_ROW), ("web_search", {"query": "lamps"}), say="Let me look."),
        text("It is ", "a lamp."),
    )
    outcome = talk.send("What is item 1?")
    assert (outcome.state, outcome.text, outcome.turn) == ("completed", "It is a lamp.", 1)
    assert talk.said == "Let me look.It is a lamp."
    rows, search = talk.results
    assert rows == (True, {"columns": ["id", "name"], "row_count": 1, "rows": [[1, "lamp"]],
                           "truncated": False})  # fmt: skip
    assert search[0] is False and "not configured" in search[1]["error"]
    assert [role for role, _ in play.transcript(talk)] == [
        "user", "assistant", "tool", "tool", "assistant",
    ]  # fmt: skip
    play.assert_at_rest(talk, "completed")


def test_the_model_is_sent_the_prompt_the_history_once_and_the_stored_results(
    play: Stage,
) -> None:
    talk = play.talk()
    play.answer(calls(("sql_query", ONE_ROW)), text("A lamp."), text("Yes, sure."))
    talk.send("What is item 1?")
    talk.send("Are you sure?")
    first, second, third = play.wire.requests
    assert first.messages == [
        {"role": "system", "content": "You answer."},
        {"role": "user", "content": "What is item 1?"},
    ]
    stored = play.results(talk)[0][2]
    assert second.messages == [
        *first.messages,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "sql_query", "arguments": json.dumps(ONE_ROW)},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": stored},
    ]
    assert third.messages == [
        *second.messages,
        {"role": "assistant", "content": "A lamp."},
        {"role": "user", "content": "Are you sure?"},
    ]
    names = [tool["function"]["name"] for tool in first.body["tools"]]
    assert names == ["memory_recall", "memory_store", "sql_execute", "sql_query", "sql_write",
                     "web_search"]  # fmt: skip


def test_numbers_reach_the_model_as_the_database_wrote_them(play: Stage) -> None:
    talk = play.talk()
    exact = "select 9.90 as price, 12345678901234567890.125 as big, 1e6::float8 as million"
    play.answer(calls(("sql_query", {"query": exact})), text("So it is."))
    assert talk.send("What does it cost?").state == "completed"
    sent = play.wire.requests[1].messages[-1]["content"]
    assert "9.90" in sent and "12345678901234567890.125" in sent
    assert sent == play.results(talk)[0][2]


def test_another_process_goes_on_from_the_same_transcript(play: Stage) -> None:
    talk = play.talk()
    play.answer(
        calls(("sql_query", ONE_ROW), ("no_such", {})), text("A lamp."), text("Yes."), text("No.")
    )
    talk.send("What is item 1?")
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    other.send("Are you sure?")
    again = play.wire.requests[-1].messages
    assert again[: len(play.wire.requests[1].messages)] == play.wire.requests[1].messages
    assert [message["role"] for message in again] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "user",
    ]  # fmt: skip
    talk.send("Is it not?")  # the first process reads what the other one added
    last = play.wire.requests[-1].messages
    assert last[: len(again)] == again and len(last) == len(again) + 2


def test_usage_and_price_are_booked_with_the_answer(play: Stage) -> None:
    talk = play.talk()
    play.answer(calls(("web_search", {"query": "x"})), text("Nothing found."))
    talk.send("Search.")
    status = talk.conversation.status()
    assert (status.input_tokens, status.output_tokens, status.context_tokens) == (40, 10, 25)
    assert status.spent_usd == Decimal(40 * 1 + 10 * 2) / 10**6


def test_no_transaction_is_open_and_no_lock_held_while_the_model_thinks(play: Stage) -> None:
    talk = play.talk()
    whole = calls(("sql_query", ONE_ROW))
    play.answer(whole, text("It is a lamp.").stall(2))
    with beside(lambda: talk.send("What is item 1?")):
        until(lambda: talk.said, "the answer's beginning")
        ours = (
            "select pid from pg_stat_activity where datname = current_database()"
            " and application_name like 'aosctl/%%' and usename <> 'aos_superuser'"
        )
        assert len(play.database.rows(ours)) >= 3  # person, worker, SQL
        assert play.database.rows(
            f"select state from pg_stat_activity where pid in ({ours})"  # noqa: S608 - constant
            " and (state <> 'idle' or xact_start is not null or backend_xmin is not null)"
        ) == []  # fmt: skip
        assert (
            play.database.rows(f"select locktype from pg_locks where pid in ({ours})") == []  # noqa: S608 - constant
        )
        talk.stop.set()
    play.assert_at_rest(talk, "cancelled")


def limited_to(play: Stage, usd: str) -> Talk:
    """Open a conversation whose run may cost so much; the model has 2 $/M for its answers."""
    talk = play.talk(beat_seconds=600)
    raise_limit(play, talk, usd)
    return talk


def raise_limit(play: Stage, talk: Talk, usd: str) -> None:
    run = talk.conversation.run_id
    call(play.tenant.person, "aos_agent.resume_run", play.tenant.id, run, p_max_usd=Decimal(usd))


def test_each_answer_may_be_as_long_as_the_runs_money_pays_for(play: Stage) -> None:
    play.set_model(maxOutputTokens=100_000)
    talk = limited_to(play, "0.01")
    play.answer(
        calls(("sql_query", ONE_ROW)),
        text("A lamp.", usage={"prompt_tokens": 1000, "completion_tokens": 1500}),
        text("Yes."),
        text("Sure."),
    )
    talk.send("What is item 1?")
    talk.send("Are you sure?")
    raise_limit(play, talk, "1")
    talk.send("Really?")
    allowed = [request.body["max_tokens"] for request in play.wire.requests]
    assert allowed[0] == (10_000 - 2000) / 2
    assert 3970 < allowed[1] < allowed[0]
    assert allowed[2] == (10_000 - 30 - 4000 - 4500) // 2
    assert allowed[3] == 100_000
    play.assert_at_rest(talk, "completed")


def test_a_question_that_the_money_does_not_pay_for_is_not_asked(play: Stage) -> None:
    talk = limited_to(play, "0.01")
    outcome = talk.send("x" * 60_000)
    assert (outcome.state, play.wire.requests) == ("limited", [])
    reason = talk.conversation.status().error or ""
    assert reason.startswith("budget: $0.0000 spent of $0.01, and the next answer takes at least")
    assert talk.resume() is None
    raise_limit(play, talk, "1")
    play.answer(text("I see."))
    resumed = talk.resume()
    assert resumed is not None and resumed.text == "I see."
