"""A model asks for what it may not have, or in words that no database can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aosctl.domain.loop_events import CallRefused
from aosctl.domain.tools.base import LONGEST_RESULT, Call, Tool, ToolResult
from kernels import META, call
from providers.wire_openai import call_delta, calls, piece, stream, text, usage_piece
from talks import GRANT_SHOP, Stage, Talk

SEARCH = {"query": "lamps"}


def asked(play: Stage, talk: Talk, *wanted: tuple[str, object]) -> list[tuple[str, bool, str]]:
    """Let the model ask for these calls; the turn goes on and the model reads every result."""
    play.answer(calls(*wanted), text("So be it."))
    assert talk.send("Do it.").text == "So be it."
    play.assert_at_rest(talk, "completed")
    results = play.results(talk)
    sent = [m for m in play.wire.requests[-1].messages if m["role"] == "tool"]
    assert sorted(message["content"] for message in sent) == sorted(r[2] for r in results)
    assert {m["tool_call_id"] for m in sent} == {f"call_{n + 1}" for n in range(len(wanted))}
    return results


REFUSED: dict[str, tuple[str, object, str]] = {
    "a skill of another agent": ("send_mail", {"to": "a"}, "may not use the skill"),
    "an unknown skill": ("launch", {}, 'there is no skill "launch"'),
    "a skill without a name": ("", {}, 'there is no skill'),
    "a parameter that is missing": ("web_search", {}, 'parameter "query" is missing'),
    "a parameter of the wrong type": ("web_search", {"query": 1}, "must be of type string"),
    "a parameter that is unknown": ("web_search", SEARCH | {"n": 1}, '"n" is unknown'),
    "arguments that are a list": ("web_search", "[1]", "not a JSON object"),
    "arguments that are no JSON": ("web_search", "{query: lamps", "not a JSON object"),
    "arguments that break off": ("web_search", '{"query": "la', "not a JSON object"),
    "arguments nested 100,000 deep": ("memory_store", '{"key": "k", "value": ' + "[" * 100_000
                                      + "]" * 100_000 + "}", "not a JSON object"),
    "a number of 100,000 digits": ("memory_store", '{"key": "k", "value": ' + "9" * 100_000
                                   + "}", "not a JSON object"),
    "a number beyond all": ("memory_store", '{"key": "k", "value": 1e100000}',
                            "not a JSON object"),
    "a number that is none": ("memory_store", '{"key": "k", "value": NaN}', "not a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_call_that_may_not_run_is_a_result_that_the_model_reads(play: Stage, kind: str) -> None:
    skill, args, words = REFUSED[kind]
    talk = play.talk()
    ((_, ok, result),) = asked(play, talk, (skill, args))
    assert not ok and words in json.loads(result)["error"]
    (refused,) = [event for event in talk.events if isinstance(event, CallRefused)]
    assert words in str(refused.call.reason)


def test_thirty_calls_at_once_are_all_answered_in_order(play: Stage) -> None:
    talk = play.talk()
    wanted = [("memory_store", {"key": f"k{n}", "value": n}) for n in range(28)]
    results = asked(play, talk, *wanted, ("launch", {}), ("memory_recall", {"key": "k27"}))
    assert [ok for _, ok, _ in results].count(True) == 29
    assert '"value": 27' in results[-1][2]
    assert len(talk.results) == 29


@pytest.mark.parametrize("same", ["call_1", ""])
def test_two_calls_with_one_id_or_none_are_two_calls(play: Stage, same: str) -> None:
    talk = play.talk()
    arguments = ['{"key": "a", "value": 1}', '{"key": "b", "value": 2}']
    deltas = [
        piece(call_delta(n, id=same or None, name="memory_store", arguments=arguments[n]))
        for n in (0, 1)
    ]
    play.answer(stream(*deltas, piece(finish="tool_calls"), usage_piece()), text("Done."))
    assert talk.send("Remember.").state == "completed"
    play.assert_at_rest(talk, "completed")
    assert [ok for ok, _ in talk.results] == [True, True]
    sent = play.wire.requests[-1].messages[-3:]
    ids = [call["id"] for call in sent[0]["tool_calls"]]
    assert len(set(ids)) == 2 and all(ids)
    assert [message["tool_call_id"] for message in sent[1:]] == ids


ODD = {
    "a NUL": "null \x00 byte",
    "a lone surrogate": "half \ud83d of it",
    "a surrogate that came last": "end \udc00",
    "every control character": "".join(map(chr, range(1, 32))) + "\x7f\x9b",
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_text_of_a_person_a_model_and_a_tool_is_stored_and_goes_on(
    play: Stage, kind: str
) -> None:
    odd = ODD[kind]
    talk = play.talk(tools={"web_search": Odd({"found": odd, odd: [odd]})})
    play.answer(calls(("web_search", {"query": odd}), say=odd), text(odd), text("Fine."))
    assert talk.send(odd).state == "completed"
    assert talk.send("And now?").text == "Fine."
    play.assert_at_rest(talk, "completed")
    clean = odd.replace("\x00", "\ufffd").replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
    stored = play.messages(talk)
    assert stored[0]["blocks"][0]["text"] == clean
    assert stored[1]["blocks"][1]["args"] == {"query": clean}
    assert json.loads(play.results(talk)[0][2]) == {"found": clean, clean: [clean]}
    assert stored[3]["blocks"][0]["text"] == clean


class Odd:
    """web_search with a result of one's choice; a function is called with the arguments."""

    name = "web_search"

    def __init__(self, value: Any) -> None:
        self.value = value

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        return ToolResult(True, self.value(args) if callable(self.value) else self.value)


def raises(_args: object) -> object:
    raise RuntimeError("lost\x00 \udc00 the way")


def nested(_args: object) -> object:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


FAILING: dict[str, tuple[Any, str]] = {
    "an exception": (raises, "web_search failed: RuntimeError: lost\ufffd \ufffd the way"),
    "what is no JSON": ({"found": {1, 2}}, "no JSON"),
    "not a number": ([float("nan")], "no JSON"),
    "bytes": (b"\xff\xfe", "no JSON"),
    "a value nested 100,000 deep": (nested, "no JSON"),
    "a key that is no text": ({("a",): 1}, "no JSON"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_tool_that_misbehaves_has_failed_and_the_turn_goes_on(play: Stage, kind: str) -> None:
    value, words = FAILING[kind]
    talk = play.talk(tools={"web_search": Odd(value)})
    ((_, ok, result),) = asked(play, talk, ("web_search", SEARCH))
    assert not ok and words in json.loads(result)["error"]


def test_a_tool_that_this_worker_lacks_is_a_result(play: Stage) -> None:
    nothing: dict[str, Tool] = {"other": Odd(1)}
    ((_, ok, result),) = asked(play, play.talk(tools=nothing), ("web_search", SEARCH))
    assert not ok and "no tool" in result


def test_ten_megabytes_from_a_tool_are_cut(play: Stage) -> None:
    talk = play.talk(tools={"web_search": Odd({"found": "x" * 10_000_000})})
    ((_, ok, result),) = asked(play, talk, ("web_search", SEARCH))
    value = json.loads(result)
    assert ok and value["truncated"] and value["characters"] > 10_000_000
    assert len(result) < LONGEST_RESULT + 1000


def test_ten_megabytes_from_a_statement_are_cut(play: Stage) -> None:
    query = "select repeat('x', 1000000) from generate_series(1, 10)"
    ((_, ok, result),) = asked(play, play.talk(), ("sql_query", {"query": query}))
    assert ok and json.loads(result)["truncated"] is True and len(result) < LONGEST_RESULT


def test_ten_megabytes_from_a_person_are_stored_and_sent(play: Stage) -> None:
    play.set_model(contextWindow=10_000_000)
    talk = play.talk()
    play.answer(text("Long."), text("Fine."))
    assert talk.send("x" * 10_000_000).text == "Long."
    assert len(play.wire.requests[0].messages[1]["content"]) == 10_000_000
    assert talk.send("And now?").text == "Fine."
    play.assert_at_rest(talk, "completed")


RESULTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "a number of 30,000 digits": ("select 1e30000::numeric as n",
                                   lambda rows: len(rows[0][0]) == 30_001),
    "not a number": ("select 'NaN'::float8 as n", lambda rows: rows == [["NaN"]]),
    "a value nested 5,000 deep": (
        "select (repeat('[', 5000) || repeat(']', 5000))::json as v", lambda rows: True,
    ),
    "a name with quotes": ("""select 1 as "a"": {[,\\" """, lambda rows: rows == [[1]]),
    "no column": ("select from item where id = 1", lambda rows: rows == [[]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESULTS)
def test_whatever_a_statement_returns_reaches_the_model(play: Stage, kind: str) -> None:
    query, fits = RESULTS[kind]
    talk = play.talk()
    ((_, ok, result),) = asked(play, talk, ("sql_query", {"query": query}))
    shown = talk.results[0][1]
    assert ok, result
    assert isinstance(shown, str) or fits(shown["rows"])


def test_a_token_count_beyond_all_does_not_stop_the_turn(play: Stage) -> None:
    talk = play.talk()
    play.answer(text("Hello.", usage={"prompt_tokens": 10**30, "completion_tokens": float("inf")}))
    assert talk.send("Hello?").text == "Hello."
    play.assert_at_rest(talk, "completed")


def test_a_statement_that_takes_longer_than_its_skill_allows_is_a_result(play: Stage) -> None:
    spec = {"builtin": "sql_execute", "approval": "never", "roles": ["agent"], "sql": GRANT_SHOP}
    call(play.database.superuser, "aos_skills.apply_skill", play.tenant.id, "sql_write", META,
         spec | {"timeoutSeconds": 0.2})  # fmt: skip
    wanted = ("sql_write", {"statement": "select slowly(20, 91)"})
    ((_, ok, result),) = asked(play, play.talk(), wanted)
    assert not ok and json.loads(result)["error"].startswith("the statement took too long")
    assert not play.database.rows("select 1 from shop.item where id = 91")


def test_a_skill_that_answers_under_another_name_carries_its_own(play: Stage) -> None:
    ((skill, ok, result),) = asked(
        play,
        play.talk(),
        ("sql_write", {"statement": "update item set name = 'sofa' where id = 3"}),
    )
    assert (skill, ok) == ("sql_write", True) and json.loads(result)["row_count"] == 1
