"""Another model answers where a run's own has failed: over real sockets, of other vendors too."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from aosctl.domain.loop_events import FellBack, Retrying
from aosctl.errors import LeaseLost
from kernels import META, apply, call, refused
from providers.dialects import DIALECTS, Dialect
from providers.wire import Entry, Wire
from talks import Stage, Talk

OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA = DIALECTS
SEVEN = ("sql_query", {"query": "select 7 as seven"})
_numbers = itertools.count(1)


@dataclass
class Spare:
    """A model on a wire of its own."""

    name: str
    dialect: Dialect
    wire: Wire

    def answers(self, *replies: Entry) -> None:
        self.wire.queue.extend(replies)

    def says(self, *words: str) -> None:
        self.answers(self.dialect.words.text(*words))


@dataclass
class Chain:
    """The stage's agent, whose model is first in a chain of models."""

    play: Stage
    first: Spare
    _open: ExitStack
    rest: list[Spare] = field(default_factory=list)

    def spare(self, dialect: Dialect, **changes: Any) -> Spare:
        """Make another model; it is a fallback once `chained`."""
        wire = self._open.enter_context(dialect.wire([]))
        made = Spare(f"spare_{next(_numbers)}", dialect, wire)
        self.apply(made, **changes)
        self.rest.append(made)
        return made

    def apply(self, one: Spare, **changes: Any) -> None:
        spec = {
            "provider": one.dialect.name,
            "baseUrl": one.wire.base_url,
            "model": "wire-1",
            "timeoutSeconds": 30,
            "capabilities": dict(one.dialect.capabilities),
            "pricing": {"inputUsdPerMtok": 10, "outputUsdPerMtok": 100},
        }
        admin = self.play.database.superuser
        call(admin, "aos_meta.apply_model", one.name, META, spec | changes)

    def chained(self, **changes: Any) -> None:
        """Let the others be fallbacks of the first, in their order."""
        self.apply(self.first, fallbacks=[one.name for one in self.rest], **changes)

    def fails(self, status: int, times: int = 1, **headers: str) -> None:
        """Let the first model's service refuse."""
        error = self.first.dialect.words.error(status, "no luck", headers=headers or None)
        self.first.answers(*[error] * times)

    def events(self, talk: Talk) -> list[dict[str, Any]]:
        rows = self.play.database.rows(
            "select data from aos_core.event_log where stream_id = %s and kind = 'model.fell_back'"
            " order by seq",
            talk.conversation.run_id,
        )
        return [row[0] for row in rows]

    def answered(self, talk: Talk) -> list[tuple[str, Decimal | None]]:
        """Return, for each answer, the model that the ledger names and what it cost."""
        return self.play.database.rows(
            "select model, cost_usd from aos_core.ledger where run_id = %s order by step",
            talk.conversation.run_id,
        )


@pytest.fixture
def chain(play: Stage) -> Iterator[Chain]:
    with ExitStack() as stack:
        wire = stack.enter_context(ANTHROPIC.wire([]))
        made = Chain(play, Spare(play.model, ANTHROPIC, wire), stack)
        yield made


def fell(talk: Talk) -> list[FellBack]:
    return [event for event in talk.events if isinstance(event, FellBack)]


@pytest.mark.parametrize(
    ("status", "times", "why"),
    [(429, 3, "rate_limit"), (529, 3, "overloaded"), (500, 3, "server"), (504, 2, "timeout"),
     (401, 1, "auth"), (404, 1, "bad_request")],
)  # fmt: skip
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.label)
def test_after_its_retries_the_next_model_answers_at_its_own_price(
    chain: Chain, dialect: Dialect, status: int, times: int, why: str
) -> None:
    spare = chain.spare(dialect)
    chain.chained(pricing={"inputUsdPerMtok": 1, "outputUsdPerMtok": 1})
    chain.fails(status, times)
    spare.says("There ", "are three.")
    talk = chain.play.talk()
    outcome = talk.send("How many?")
    assert (outcome.state, outcome.text) == ("completed", "There are three.")
    assert len(chain.first.wire.requests) == times and len(talk.retries) == times - 1
    assert [event.model for event in fell(talk)] == [spare.name]
    assert talk.events.index(fell(talk)[0]) > max(
        (n for n, e in enumerate(talk.events) if isinstance(e, Retrying)), default=-1
    )
    assert "How many?" in json.dumps(spare.wire.requests[0].body)
    spent = Decimal(20 * 10 + 5 * 100) / 10**6
    assert chain.answered(talk) == [(spare.name, spent)]
    assert talk.conversation.status().spent_usd == spent
    (event,) = chain.events(talk)
    assert (event["from"], event["to"], event["why"]) == (chain.first.name, spare.name, why)
    assert f'model "{chain.first.name}"' in event["error"]
    chain.play.assert_at_rest(talk, "completed")


def test_it_answers_the_rest_of_the_turn_and_the_next_begins_with_the_first(chain: Chain) -> None:
    spare = chain.spare(OPENAI)
    chain.chained()
    chain.fails(401)
    spare.answers(OPENAI.words.calls(SEVEN, say="Let me look."), OPENAI.words.text("It is 7."))
    talk = chain.play.talk()
    assert talk.send("How many?").text == "It is 7."
    assert (len(chain.first.wire.requests), len(spare.wire.requests)) == (1, 2)
    chain.first.says("Seven, as he said.")
    assert talk.send("Sure?").text == "Seven, as he said."
    assert len(spare.wire.requests) == 2
    assert "It is 7." in json.dumps(chain.first.wire.requests[1].body)
    row = chain.play.tenant.run_row(talk.conversation.run_id)
    assert (row["answering_model"], row["is_metered"]) == (None, False)
    assert [name for name, _ in chain.answered(talk)] == [spare.name] * 2 + [chain.first.name]


def test_nothing_half_received_is_kept(chain: Chain) -> None:
    spare = chain.spare(GEMINI)
    chain.chained()
    words = chain.first.dialect.words
    chain.first.answers(*[words.calls(SEVEN, say="So far").cut(6)] * 3)
    spare.says("A lamp.")
    talk = chain.play.talk()
    assert talk.send("What?").text == "A lamp."
    assert chain.play.transcript(talk) == [("user", "What?"), ("assistant", "A lamp.")]
    assert chain.events(talk)[0]["why"] in ("truncated", "network")


def test_each_of_the_chain_is_asked_in_its_order_and_the_last_ones_error_is_told(
    chain: Chain,
) -> None:
    second, third = chain.spare(OLLAMA), chain.spare(RESPONSES)
    chain.chained()
    chain.fails(401)
    second.answers(OLLAMA.words.error(401, "no luck"))
    third.says("Here.")
    talk = chain.play.talk()
    assert talk.send("Where?").text == "Here."
    assert [event.model for event in fell(talk)] == [second.name, third.name]
    chain.fails(401)
    second.answers(OLLAMA.words.error(401, "no luck"))
    third.answers(RESPONSES.words.error(401, "no luck"))
    outcome = talk.send("And now?")
    assert outcome.state == "failed" and f'model "{third.name}"' in str(outcome.error)
    chain.play.assert_at_rest(talk, "failed")
    chain.first.says("Here again.")
    assert talk.send("Still?").text == "Here again."


def test_a_refused_request_is_nobody_elses(chain: Chain) -> None:
    spare = chain.spare(OPENAI)
    chain.chained()
    chain.fails(400)
    talk = chain.play.talk()
    assert talk.send("What?").state == "failed"
    assert not spare.wire.requests and not chain.events(talk)


def test_a_fallback_of_a_fallback_is_not_followed(chain: Chain) -> None:
    third = chain.spare(OPENAI)
    chain.rest.clear()
    chain.spare(OPENAI, fallbacks=[third.name]).answers(OPENAI.words.error(401, "no luck"))
    chain.chained()
    chain.fails(401)
    assert chain.play.talk().send("What?").state == "failed"
    assert not third.wire.requests


def test_a_conversation_that_is_too_long_goes_to_a_larger_context_alone(chain: Chain) -> None:
    chain.spare(OPENAI, contextWindow=8000)
    large = chain.spare(OPENAI, contextWindow=64000)
    chain.chained(contextWindow=8000)
    chain.first.answers(
        ANTHROPIC.words.error(400, "prompt is too long: 9000 tokens > 8000 maximum")
    )
    large.says("Long indeed.")
    talk = chain.play.talk()
    assert talk.send("All of it?").text == "Long indeed."
    assert [event.model for event in fell(talk)] == [large.name]


def test_what_a_model_sealed_goes_back_to_it_alone(chain: Chain) -> None:
    spare = chain.spare(OPENAI)
    chain.chained()
    chain.first.answers(ANTHROPIC.richest, ANTHROPIC.words.text("A lamp."))
    talk = chain.play.talk()
    assert talk.send("What is item 1?").text == "A lamp."
    chain.fails(401)
    spare.says("Yes.")
    assert talk.send("Sure?").text == "Yes."
    chain.first.says("Quite.")
    assert talk.send("Really?").text == "Quite."
    mine, others = chain.first.wire.requests[-1], spare.wire.requests[0]
    assert "c2VhbA==" in json.dumps(mine.body)
    assert "c2VhbA==" not in json.dumps(others.body) and "A lamp." in json.dumps(others.body)


def test_a_fallback_that_the_money_does_not_pay_for_is_passed_over(chain: Chain) -> None:
    dear = chain.spare(OPENAI, pricing={"inputUsdPerMtok": 1000, "outputUsdPerMtok": 10000})
    cheap = chain.spare(OPENAI, pricing={"inputUsdPerMtok": 2, "outputUsdPerMtok": 20})
    chain.chained()
    talk = limited(chain, 0.05)
    chain.fails(401)
    cheap.says("Cheap.")
    assert talk.send("How much?").text == "Cheap."
    assert not dear.wire.requests and [event.model for event in fell(talk)] == [cheap.name]
    # The answer may be as long as the money pays for at the price of who is asked.
    sent = cheap.wire.requests[0].body
    left = Decimal("0.05") - Decimal(2 * 2000) / 10**6
    assert 256 <= sent["max_tokens"] <= left * 10**6 / 20


def limited(chain: Chain, usd: float) -> Talk:
    """Begin a run that may cost so much."""
    talk = chain.play.talk()
    chain.play.database.superuser.execute(
        "update aos_core.run set max_usd = %s where run_id = %s", (usd, talk.conversation.run_id)
    )
    return talk


def test_a_shared_budget_pays_for_the_fallback_before_it_is_asked(chain: Chain) -> None:
    """What was reserved for a cheap model does not pay for a dear one."""
    spare = chain.spare(OPENAI, pricing={"inputUsdPerMtok": 100, "outputUsdPerMtok": 1000})
    chain.chained(pricing={"inputUsdPerMtok": 1, "outputUsdPerMtok": 1})
    tenant = chain.play.tenant
    apply(chain.play.database.superuser, "aos_core.apply_budget", tenant.id, "day", {
        "scope": "tenant", "period": "day", "limits": {"maxUsd": 0.1}
    })  # fmt: skip
    chain.fails(401)
    talk = chain.play.talk()
    outcome = talk.send("How much?")
    assert outcome.state == "limited" and not spare.wire.requests
    assert 'budget "day"' in str(chain.play.state(talk)[2])
    apply(chain.play.database.superuser, "aos_core.apply_budget", tenant.id, "day", {
        "scope": "tenant", "period": "day", "limits": {"maxUsd": 2}
    })  # fmt: skip
    seen: list[Any] = []

    def reserved(_request: Any) -> Any:
        seen.append(chain.play.database.value(
            "select reserved_usd from aos_core.budget_usage where tenant_id = %s", tenant.id
        ))  # fmt: skip
        return OPENAI.words.text("Dear.")

    spare.answers(reserved)
    done = talk.resume()
    assert done is not None and done.text == "Dear."
    assert seen[0] >= Decimal(2000 * 100 + 256 * 1000) / 10**6
    assert talk.conversation.status().spent_usd == Decimal(20 * 100 + 5 * 1000) / 10**6
    chain.play.assert_at_rest(talk, "completed")


def test_the_rate_of_each_model_counts_for_itself(
    chain: Chain, clock: Callable[[str], None]
) -> None:
    spare = chain.spare(OPENAI, rateLimit={"requestsPerMinute": 1})
    chain.chained(rateLimit={"requestsPerMinute": 5})
    past = chain.play.database.value("select extract(second from aos_core.now())::float8")
    clock(f"{-past} seconds")  # a minute begins, and does not end meanwhile
    chain.fails(401, 2)
    spare.says("Once.")
    assert chain.play.talk().send("One?").text == "Once."
    talk = chain.play.talk()
    assert talk.send("Two?").state == "queued"
    assert len(spare.wire.requests) == 1
    assert f'rate: model "{spare.name}" takes 1 requests' in str(chain.play.state(talk)[2])
    taken = dict(chain.play.database.rows(
        "select m.model_name, array[x.requests, x.tokens] from aos_meta.model_rate x"
        " join aos_meta.llm_model_registry m using (model_id) where m.model_name = any (%s)",
        [chain.first.name, spare.name],
    ))  # fmt: skip
    # Who has answered nothing has taken no tokens; the spare's are those of its one answer.
    assert taken == {chain.first.name: [2, 0], spare.name: [1, 25]}


def test_who_takes_a_turn_over_asks_the_model_that_answers_it(chain: Chain) -> None:
    """Though what it knows of the run names the first."""
    spare = chain.spare(OPENAI)
    chain.chained()
    chain.first.says("Hello.")
    first = chain.play.talk()
    assert first.send("Hello?").text == "Hello."
    run = first.conversation.run_id
    tenant = chain.play.tenant
    tenant.open(run, "And now?")
    lease = tenant.claim(run=run)
    fallen = call(
        tenant.worker, "aos_agent.fall_back", tenant.id, lease["turn_id"], lease["lease"],
        chain.first.name, "auth", "no luck",
    )  # fmt: skip
    assert (fallen["model"], fallen["next"]) == (spare.name, "model")
    call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
    spare.says("Now.")
    done = first.resume()
    assert done is not None and done.text == "Now."
    assert len(chain.first.wire.requests) == 1


def test_who_was_taken_over_in_the_middle_asks_who_answers_now(
    chain: Chain, clock: Callable[[str], None]
) -> None:
    """Though it knows every step, and has an answer of the first in its hands."""
    spare = chain.spare(OPENAI)
    chain.chained()
    chain.first.says("Hello.")
    first, tenant = chain.play.talk(), chain.play.tenant
    first.send("Hello?")

    def taken_over(_request: Any) -> Any:
        clock("10 minutes")
        lease = tenant.claim(run=first.conversation.run_id)
        given = tenant.id, lease["turn_id"], lease["lease"]
        call(tenant.worker, "aos_agent.fall_back", *given, chain.first.name, "auth", "no luck")
        call(tenant.worker, "aos_agent.release_turn", *given)
        return ANTHROPIC.words.text("Too late.")

    chain.first.answers(taken_over)
    with pytest.raises(LeaseLost):
        first.send("And now?")
    spare.says("Now.")
    done = first.resume()
    assert done is not None and done.text == "Now."
    assert [name for name, _ in chain.answered(first)] == [chain.first.name, spare.name]


def test_the_next_turn_is_the_firsts_and_at_its_price_under_a_budget_too(chain: Chain) -> None:
    """Where each of the run's turns is metered anyway."""
    spare = chain.spare(OPENAI)
    chain.chained(pricing={"inputUsdPerMtok": 1, "outputUsdPerMtok": 1})
    apply(chain.play.database.superuser, "aos_core.apply_budget", chain.play.tenant.id, "wide", {
        "scope": "tenant", "period": "day", "limits": {"maxUsd": 100}
    })  # fmt: skip
    chain.fails(401)
    spare.says("Here.")
    talk = chain.play.talk()
    assert talk.send("Who?").text == "Here."
    chain.first.says("Me.")
    assert talk.send("And now?").text == "Me."
    assert chain.answered(talk) == [
        (spare.name, Decimal(20 * 10 + 5 * 100) / 10**6),
        (chain.first.name, Decimal(25) / 10**6),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_long_wait_is_waited_for_in_the_queue_where_nobody_sits(
    chain: Chain, known: bool
) -> None:
    chain.chained()
    chain.fails(429, 1, **({"retry-after": "300"} if known else {}))
    chain.fails(429, 2)
    talk = chain.play.talk()
    assert talk.send("Hm?").state == "failed"  # somebody sits there
    loop = talk.conversation._loop
    patient = type(loop)(
        talk.worker, loop._provider_for, {}, loop._heart, loop._pause, rest=threading.Event()
    )
    run = talk.conversation.run_id
    chain.first.wire.queue.clear()
    chain.fails(429, 1, **({"retry-after": "300"} if known else {}))
    chain.fails(429, 2)
    chain.play.tenant.open(run, "And now?")
    lease = talk.worker.claim(chain.play.tenant.id, run)
    assert lease is not None
    outcome = patient.drive(lease, talk.events.append, threading.Event())
    assert outcome.state == ("queued" if known else "failed")
    if known:
        seconds, error = chain.play.database.rows(
            "select extract(epoch from q.ready_at - aos_core.now()), t.error"
            " from aos_core.turn_queue q join aos_core.turn t using (tenant_id, turn_id)"
            " where q.run_id = %s", run,
        )[0]  # fmt: skip
        assert 200 < seconds <= 300 and error.startswith("service: model")


def test_no_worker_chooses_who_answers(chain: Chain) -> None:
    """It says what has failed; the kernel, who is next."""
    spare, stranger = chain.spare(OPENAI), chain.spare(OPENAI)
    chain.rest.remove(stranger)
    chain.chained()
    tenant = chain.play.tenant
    run = tenant.start_run("asker")
    tenant.open(run, "Hello?")
    lease = tenant.claim(run=run)

    def fall_back(model: str, token: str = lease["lease"], kind: str = "auth") -> Any:
        return call(
            tenant.worker, "aos_agent.fall_back", tenant.id, lease["turn_id"], token, model, kind,
            "no luck",
        )  # fmt: skip

    assert fall_back(stranger.name)["model"] == chain.first.name  # who is asked
    with refused("AO003"):
        fall_back(chain.first.name, token=str(uuid4()))
    assert fall_back(chain.first.name)["model"] == spare.name
    assert fall_back(chain.first.name)["model"] == spare.name  # the reply was lost
    said = {"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": "Hi."}]}
    answer = tenant.respond(
        lease, {**said, "origin": {"provider": "x", "api": "x", "model": stranger.name}},
        p_usage={"in": 1000, "out": 0},
    )  # fmt: skip
    assert Decimal(str(answer["cost_usd"])) == Decimal(1000 * 10) / 10**6  # the spare's price
    assert chain.play.database.rows("select model from aos_core.ledger where run_id = %s", run) == [
        (spare.name,)
    ]


def test_a_turn_with_open_calls_has_no_other_model(chain: Chain) -> None:
    chain.spare(OPENAI)
    chain.chained()
    asked = chain.play.tenant.asked("sql_query", {"query": "select 1"}, "asker")
    with refused("AO002", "without a result"):
        call(
            chain.play.tenant.worker, "aos_agent.fall_back", chain.play.tenant.id,
            asked.lease["turn_id"], asked.lease["lease"], chain.first.name, "auth", "x",
        )  # fmt: skip


def test_one_that_is_not_active_is_passed_over(chain: Chain) -> None:
    idle, active = chain.spare(OPENAI, active=False), chain.spare(OPENAI)
    chain.chained()
    chain.fails(401)
    active.says("Here.")
    talk = chain.play.talk()
    assert talk.send("Who?").text == "Here."
    assert not idle.wire.requests and [event.model for event in fell(talk)] == [active.name]


def test_one_that_what_was_said_does_not_fit_into_is_passed_over(chain: Chain) -> None:
    small, large = chain.spare(OPENAI, contextWindow=4096), chain.spare(OPENAI)
    chain.chained()
    long = ANTHROPIC.words.text("So far.", usage={"input_tokens": 5000, "output_tokens": 10})
    chain.first.answers(long)
    talk = chain.play.talk()
    assert talk.send("Well?").text == "So far."
    chain.fails(401)
    large.says("Further.")
    assert talk.send("And?").text == "Further."
    assert not small.wire.requests and [event.model for event in fell(talk)] == [large.name]
