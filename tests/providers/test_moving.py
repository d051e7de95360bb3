"""A conversation goes on with another provider, through what the kernel stores, and comes back."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from aosctl.messages import Call, Media, Message, Text, tool_result, user
from aosctl.providers.base import ModelRequest
from providers.dialects import DIALECTS, DOTTED, SQL, Dialect, finished
from providers.wire import Request, Wire

ASKED = "How many orders are there, and what does this show?"
PICTURE = "iVBORw0KGgo="
FOUND = {"columns": ["n"], "rows": [[3]], "row_count": 1}
FAILED = "there is no such table"


SEAL = "c2VhbA=="
pairs = pytest.mark.parametrize(
    ("first", "second"), list(permutations(DIALECTS, 2)), ids=lambda dialect: dialect.label
)


def stored(messages: list[Message]) -> tuple[Message, ...]:
    """Return the messages as they come out of the database again."""
    return tuple(Message.from_json(json.loads(json.dumps(m.to_json()))) for m in messages)


def go_on(dialect: Dialect, server: Wire, told: list[Message]) -> Request:
    """Have the model answer what was told so far; return what it was sent."""
    spec = dialect.spec(server)
    request = ModelRequest(spec, "Be brief.", stored(told), (SQL, DOTTED))
    told.append(finished(list(dialect.provider(0).stream(request))))
    return server.requests[-1]


def called(dialect: Dialect, server: Wire) -> list[Message]:
    """Begin a conversation: a picture, thinking, words, two calls, one of which fails."""
    picture = Media("image/png", f"data:image/png;base64,{PICTURE}", "chart.png")
    told = [Message("user", (Text(ASKED), picture))]
    go_on(dialect, server, told)
    one, other = told[-1].calls
    return [*told, tool_result(one, FOUND), tool_result(other, {"error": FAILED}, ok=False)]


def shown(request: Request) -> str:
    """Return what was sent as one text, as the model reads it."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [t for item in value.values() for t in texts(item)]
        if isinstance(value, list):
            return [t for item in value for t in texts(item)]
        return [str(value)]

    return "\n".join(texts(request.messages))


@pairs
def test_the_other_provider_reads_all_that_it_can_take(first: Dialect, second: Dialect) -> None:
    with first.wire([first.richest]) as here, second.wire([second.words.text("Three.")]) as there:
        told = called(first, here)
        sent = go_on(second, there, told)
    read = shown(sent)
    for text in (ASKED, PICTURE, "Looking… ä€😀", FAILED, '"row_count": 1'):
        assert read.count(text) == 1
    assert "sql_query" in read and "shop_orders" in read
    assert "Let me see." not in read and SEAL not in read
    assert told[-1].text == "Three."


@pairs
def test_who_comes_back_finds_what_only_they_understand(first: Dialect, second: Dialect) -> None:
    here_says = [first.richest, first.words.text("Yes, three.")]
    with first.wire(here_says) as here, second.wire([second.richest]) as there:
        told = called(first, here)
        go_on(second, there, told)
        told += [tool_result(call, FOUND) for call in told[-1].calls]
        sent = go_on(first, here, told)
    read = shown(sent)
    own = b"".join(first.richest.body).decode()
    assert read.count("see. 😀") == ("see. 😀" in own)
    assert read.count(SEAL) == (SEAL in own)
    assert read.count("Looking… ä€😀") == 2
    assert read.count('"row_count": 1') == 3


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("second", DIALECTS, ids=lambda dialect: dialect.label)
def test_a_picture_that_one_model_made_is_shown_to_the_next(second: Dialect, called: bool) -> None:
    """Behind the answer, and behind the results of its calls."""
    call = Call("c1", "sql_query", "{}", {})
    made = Media("image/png", f"data:image/png;base64,{PICTURE}", "picture.png")
    answer = Message("assistant", (made, *([call] if called else [])))
    results = [tool_result(call, FOUND)] if called else []
    with second.wire([second.words.text("A lamp.")]) as there:
        sent = go_on(second, there, [user("Draw."), answer, *results, user("What is it?")])
    read = shown(sent)
    assert read.count(PICTURE) == 1 and "[picture.png]" in read
    places = [read.index(one) for one in ("[picture.png]", PICTURE, "What is it?")]
    assert places == sorted(places)
    if called:
        assert read.index('"row_count": 1') < read.index(PICTURE)
