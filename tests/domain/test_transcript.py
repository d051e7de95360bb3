"""What a worker knows of a run: the size of its next question, without reading it all each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.domain import transcript as transcripts
from aosctl.domain.sizes import tokens_of
from aosctl.domain.transcript import Transcript
from aosctl.messages import Message, Text, Usage, user
from kernels import META, apply, call
from talks import Stage

COUNTED = st.builds(
    Usage, input=st.integers(0, 50), cache_read=st.integers(0, 5), output=st.integers(0, 500)
)
SAID = st.builds(
    Message,
    st.sampled_from(["user", "assistant"]),
    st.text(max_size=300).map(lambda text: (Text(text),)),
    usage=st.none() | COUNTED,
    is_summary=st.sampled_from([False, False, False, True]),
)
FORGET = "forget"


def tokens_by_reading(known: Transcript) -> int:
    """Estimate the next question anew, from all messages."""
    sizes = [tokens_of(message) for message in known.messages]
    everything = known.fixed_tokens + sum(sizes)
    summaries = [
        step for step, one in zip(known.steps, known.messages, strict=True) if one.is_summary
    ]
    since = 0
    for step, one, size in reversed(list(zip(known.steps, known.messages, sizes, strict=True))):
        if step <= max(summaries, default=0):
            break
        if one.usage is not None and one.usage.prompt:
            return max(one.usage.total + since, everything // 2)
        since += size
    return everything


@given(st.lists(SAID | st.just(FORGET), max_size=12), st.integers(0, 12))
def test_the_estimate_is_that_of_reading_all_messages(said: list[Any], summary_step: int) -> None:
    known = Transcript(fixed_tokens=100)
    for step, one in enumerate(said, 1):
        if one == FORGET:
            # Read anew: a summary stands first, whatever its step, and what was kept after it.
            old = list(zip(known.steps, known.messages, strict=True))[-3:]
            known.forget()
            assert known.tokens == known.everything == 100
            known._append(step + summary_step, replace(user("summary"), is_summary=True))
            for kept_step, kept in old:
                known._append(kept_step, kept)
        else:
            known._append(step * 2, one)
        assert known.tokens == tokens_by_reading(known)
        assert known.everything == 100 + sum(known.sizes)


class Counting(list[Any]):
    """A list that counts how often it is looked into."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)


def test_estimating_looks_into_no_message() -> None:
    known = Transcript(messages=Counting(), steps=Counting(), sizes=Counting())
    for step in range(1, 500):
        known.add(step, user(f"message {step}"))
        assert known.tokens > 0 and known.everything > 0
    assert [each.looks for each in (known.messages, known.steps, known.sizes)] == [0, 0, 0]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Count the calls of a function that transcripts use; returns what it was called with."""

    def count(name: str) -> list[Any]:
        calls: list[Any] = []
        real = getattr(transcripts, name)

        def counting(given: Any) -> Any:
            calls.append(given)
            return real(given)

        monkeypatch.setattr(transcripts, name, counting)
        return calls

    return count


def test_a_long_turn_sizes_its_tools_and_each_message_once(
    play: Stage, counted: Callable[[str], list[Any]]
) -> None:
    steps = 12
    script = [
        {"calls": [{"name": "sql_query", "args": {"query": f"select {number}"}}]}
        for number in range(steps)
    ]
    admin = play.database.superuser
    call(admin, "aos_meta.apply_model", play.model, META, {
        "provider": "script", "script": [*script, {"text": "done"}],
        "pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 2},
    })  # fmt: skip
    # What is left of a budget is read with the context before each question.
    apply(admin, "aos_core.apply_budget", play.tenant.id, "all", {
        "scope": "tenant", "period": "day", "limits": {"maxUsd": 1000},
    })  # fmt: skip
    tools, messages = counted("tools_tokens"), counted("tokens_of")
    reads = counted("model_spec")
    talk = play.talk()
    assert talk.send("count").text == "done"
    asked = 2 * steps + 2
    assert len(reads) > steps, "the context was read for each question"
    assert (len(tools), len(messages)) == (1, asked)
    # Other tools are sized anew.
    apply(admin, "aos_agent.apply_agent", play.tenant.id, "asker", {
        "persona": "asker", "skills": ["sql_query", "memory_store"],
    })  # fmt: skip
    talk.send("again")
    assert len(tools) == 2
