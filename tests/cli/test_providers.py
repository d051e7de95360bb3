"""`aosctl run` over each provider: a manifest, the vendor's SDK, a real socket, and its price."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Aosctl
from providers.dialects import DIALECTS, Dialect
from providers.wire import Wire
from terminal import Terminal

AGENT = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: wired-{label}}}
spec:
  provider: {name}
  model: wire-1
  baseUrl: {url}
  apiKeyEnv: WIRE_KEY
  capabilities: {capabilities}
  pricing: {{inputUsdPerMtok: 1000, outputUsdPerMtok: 10000}}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: wired-{label}, tenant: tech_corp}}
spec: {{model: wired-{label}, systemPrompt: You know SQL.}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: wired-{label}, tenant: tech_corp}}
spec: {{persona: wired-{label}, skills: [sql_query]}}
"""
SEVEN = ("sql_query", {"query": "select 7 as seven"})
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.label)


def manifest_of(dialect: Dialect, wire: Wire) -> str:
    return AGENT.format(
        name=dialect.name,
        label=dialect.label,
        url=wire.base_url,
        capabilities=json.dumps(dict(dialect.capabilities)),
    )


@dialects
def test_a_run_calls_a_tool_answers_and_says_what_it_cost(here: Aosctl, dialect: Dialect) -> None:
    words = dialect.words
    with dialect.wire([words.calls(SEVEN, say="Let me look."), words.text("It ", "is 7.")]) as wire:
        manifest = manifest_of(dialect, wire)
        assert here("apply", "-f", "-", stdin=manifest).status == 0
        name = f"wired-{dialect.label}"
        done = here("run", name, "how many?", "-o", "json", WIRE_KEY="topsecret-0123456789")
        asked, told = wire.requests
    result = json.loads(done.out)
    assert (done.status, result["status"], result["result"]) == (0, "completed", "It is 7.")
    assert result["usage"] == {"inputTokens": 40, "outputTokens": 10}
    assert result["costUsd"] == pytest.approx((40 * 1000 + 10 * 10000) / 10**6)
    assert "You know SQL." in json.dumps(asked.body)
    assert asked.headers["authorization"] == "Bearer topsecret-0123456789"
    assert '"rows": [[7]]' in json.dumps(told.body).replace("\\", "")
    assert "topsecret" not in done.out + done.err


@dialects
def test_a_run_whose_key_is_refused_says_where_to_look(here: Aosctl, dialect: Dialect) -> None:
    with dialect.wire([dialect.words.error(401, "bad key: topsecret-0123456789")]) as wire:
        manifest = manifest_of(dialect, wire)
        assert here("apply", "-f", "-", stdin=manifest).status == 0
        done = here("run", f"wired-{dialect.label}", "hi", WIRE_KEY="topsecret-0123456789")
    assert done.status == 4
    assert "the service refused the key (HTTP 401)" in done.err
    assert "check the key in WIRE_KEY" in done.err
    assert "topsecret" not in done.out + done.err


@dialects
def test_the_chat_shows_the_same_whoever_answers(
    here: Aosctl, shop: dict[str, str], tmp_path: Path, dialect: Dialect
) -> None:
    words = dialect.words
    answers = [dialect.richest, words.calls(SEVEN), words.text("It ", "is **7**.")]
    with dialect.wire(answers) as wire:
        assert here("apply", "-f", "-", stdin=manifest_of(dialect, wire)).status == 0
        settings = {**shop, "WIRE_KEY": "k-12345678", "XDG_STATE_HOME": str(tmp_path)}
        with Terminal(settings, "chat", f"wired-{dialect.label}", rows=40, columns=100) as chat:
            chat.ready()
            chat.say("how many?")
            chat.stands(
                "> how many?\nLooking… ä€😀\n\n"
                '⏺ sql_query(1) · refused: parameter "query" is missing\n'
                '⏺ shop_orders(2) · refused: there is no skill "shop_orders"\n'
                "⏺ sql_query(select 7 as seven) · ",
                "\nIt is 7.\n",
            )
