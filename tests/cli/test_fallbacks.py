"""Fallbacks as a person meets them: in the files, in `run`, in the chat, and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from command import Aosctl
from providers.dialects import DIALECTS
from providers.wire import Wire
from terminal import Terminal

OPENAI, _, ANTHROPIC, *_ = DIALECTS
KEYS = {"FIRST_KEY": "k-first-12345", "SPARE_KEY": "k-spare-12345"}
MODEL = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: {name}}}
spec:
  provider: {provider}
  model: wire-1
  baseUrl: {url}
  apiKeyEnv: {key}
  retry: {{attempts: 2, maxDelaySeconds: 0}}
  pricing: {{inputUsdPerMtok: {usd}, outputUsdPerMtok: {usd}}}
"""
AGENT = """\
---
apiVersion: aos/v1
kind: Persona
metadata: {name: chained, tenant: tech_corp}
spec: {model: chained-first, systemPrompt: You know SQL.}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: chained, tenant: tech_corp}
spec: {persona: chained, skills: [sql_query]}
"""


@dataclass
class Two:
    """A model whose service refuses, and its fallback."""

    aosctl: Aosctl
    first: Wire
    spare: Wire


@pytest.fixture
def two(here: Aosctl) -> Iterator[Two]:
    with OPENAI.wire([]) as first, ANTHROPIC.wire([]) as spare:
        chain = MODEL.format(
            name="chained-first", provider="openai", url=first.base_url, key="FIRST_KEY", usd=1000
        )
        other = MODEL.format(
            name="chained-spare", provider="anthropic", url=spare.base_url, key="SPARE_KEY",
            usd=10000,
        )  # fmt: skip
        text = f"{chain}  fallbacks: [chained-spare]\n---\n{other}{AGENT}"
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err
        yield Two(partial(here, **KEYS), first, spare)


def test_a_run_is_answered_by_the_fallback_and_everything_says_so(two: Two) -> None:
    refused = OPENAI.words.error(429, "slow down", headers={"Retry-After": "0"})
    two.first.queue.extend([refused, refused])
    two.spare.queue.append(ANTHROPIC.words.text("It is ", "7."))
    done = two.aosctl("run", "chained", "how many?", "-o", "json")
    result = json.loads(done.out)
    assert (done.status, result["result"]) == (0, "It is 7.")
    assert result["costUsd"] == pytest.approx(25 * 10000 / 10**6)
    assert len(two.first.requests) == 2 and len(two.spare.requests) == 1
    assert two.spare.requests[0].headers["authorization"].endswith(KEYS["SPARE_KEY"])
    assert KEYS["FIRST_KEY"] not in json.dumps(dict(two.spare.requests[0].headers))
    told = 'model "chained-first": too many requests or tokens (HTTP 429): slow down'
    assert f'{told}; asking "chained-spare" instead' in done.err
    run = result["run"]
    logs = two.aosctl("logs", run).out
    assert f"model chained-spare answers for chained-first: {told}" in logs
    assert "chained-first: model" in two.aosctl("trace", run).out
    (event,) = [
        json.loads(line)["data"]
        for line in two.aosctl("logs", run, "-o", "json").out.splitlines()
        if json.loads(line)["kind"] == "model.fell_back"
    ]
    assert (event["from"], event["to"], event["why"]) == (
        "chained-first", "chained-spare", "rate_limit",
    )  # fmt: skip
    assert "chained-spare" in two.aosctl("cost", "--by", "model").out
    assert "model.fell_back" in two.aosctl("events", "--types", "model.fell_back").out


def test_the_stream_of_a_run_names_the_fallback(two: Two) -> None:
    two.first.queue.append(OPENAI.words.error(401, "who are you"))
    two.spare.queue.append(ANTHROPIC.words.text("It is 7."))
    done = two.aosctl("run", "chained", "how many?", "-o", "stream-json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    (said,) = [line for line in lines if line["type"] == "error"]
    assert said["fallback"] == "chained-spare" and "refused the key" in said["error"]
    assert lines[-1]["result"] == "It is 7."


def test_the_chat_says_in_one_line_who_answers(
    two: Two, shop: dict[str, str], tmp_path: Path
) -> None:
    two.first.queue.append(OPENAI.words.error(401, "who are you"))
    two.spare.queue.append(ANTHROPIC.words.text("It is 7."))
    two.first.queue.append(OPENAI.words.text("Seven."))
    settings = {**shop, **KEYS, "XDG_STATE_HOME": str(tmp_path)}
    with Terminal(settings, "chat", "chained", rows=40, columns=120) as chat:
        chat.ready()
        chat.say("how many?")
        chat.stands(
            "> how many?\n"
            'model "chained-first": the service refused the key (HTTP 401): who are you;'
            ' asking "chained-spare" instead\n\nIt is 7.\n'
        )
        chat.say("sure?")
        chat.stands("> sure?\nSeven.\n")
    assert len(two.spare.requests) == 1


def test_without_a_key_for_the_first_the_fallback_is_asked(two: Two, here: Aosctl) -> None:
    two.spare.queue.append(ANTHROPIC.words.text("It is 7."))
    done = here("run", "chained", "how many?", SPARE_KEY="k-spare-12345")
    assert (done.status, done.out) == (0, "It is 7.\n")
    assert not two.first.requests


def test_the_manifest_comes_back_as_it_was_written(two: Two) -> None:
    got = json.loads(two.aosctl("get", "model", "chained-first", "-o", "json").out)
    assert got["spec"]["fallbacks"] == ["chained-spare"]
    assert got["spec"]["retry"] == {"attempts": 2, "maxDelaySeconds": 0}
    again = two.aosctl("apply", "-f", "-", stdin=json.dumps(got))
    assert again.out == "model.aos/chained-first unchanged\n"
    wide = two.aosctl("get", "models", "-o", "wide").out
    assert any("chained-first" in line and "chained-spare" in line for line in wide.splitlines())


@pytest.mark.parametrize(
    ("fallbacks", "says"),
    [
        ("[chained-spear]", 'spec.fallbacks[0]: no Model "chained-spear" exists; did you mean'),
        ("[chained-first]", "spec.fallbacks[0]: is the model itself"),
        ("[gpt-4o, gpt-4o]", "spec.fallbacks[1]: is named twice"),
    ],
)
def test_what_is_no_fallback_is_refused_at_its_place(two: Two, fallbacks: str, says: str) -> None:
    text = MODEL.format(
        name="chained-first", provider="openai", url="http://x", key="FIRST_KEY", usd=1
    )
    done = two.aosctl("apply", "-f", "-", stdin=f"{text}  fallbacks: {fallbacks}\n")
    assert done.status == 1 and says in done.err


def test_a_model_that_others_fall_back_on_is_not_deleted(two: Two) -> None:
    done = two.aosctl("delete", "model", "chained-spare")
    assert done.status == 1
    assert 'model "chained-spare" is still a fallback of models: chained-first' in done.err
