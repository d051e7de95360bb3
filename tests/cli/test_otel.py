"""Traces and metrics of `aosctl run` and `aosctl worker`, as a collector gets them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bots import ACTORS
from command import AOSCTL, Aosctl, Ended
from otlp import Collector, collector
from providers.wire_openai import OpenAIWire, calls, error, text
from terminal import Open
from websites import Seen, Site, json_reply

MASTER_KEY = "00" * 31 + "07"
KEY = "sk-live-of-the-shop-4711"
QUESTION = "Where is order 1042?"
ANSWER = "It is on its way."
MANIFEST = """\
apiVersion: aos/v1
kind: Secret
metadata: {{name: track_api, tenant: tech_corp}}
spec: {{data: {{key: {{fromEnv: SHOP_KEY}}}}}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: track, tenant: tech_corp}}
spec:
  description: Look up an order.
  touches: []
  input: {{type: object, required: [id], properties: {{id: {{type: string}}}}}}
  http:
    url: {url}/orders/{{id}}
    allowPrivate: true
    headers: {{Authorization: {{secretRef: track_api/key, prefix: "Bearer "}}}}
---
apiVersion: aos/v1
kind: Model
metadata: {{name: tracker}}
spec: {{provider: openai, model: wire-1, baseUrl: "{model}", params: {{temperature: 0.5}}}}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: tracker, tenant: tech_corp}}
spec: {{model: tracker, systemPrompt: You track parcels.}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: tracker, tenant: tech_corp}}
spec: {{persona: tracker, skills: [track]}}
"""
SILENT = (
    ACTORS
    + """\
apiVersion: aos/v1
kind: Agent
metadata: {{name: {name}, tenant: tech_corp}}
spec: {{persona: {name}}}
"""
)


class Desk:
    """An agent whose model calls an API once and answers, and how to run it."""

    def __init__(self, shop: dict[str, str], wire: OpenAIWire, site: Site) -> None:
        self._env = {
            **{name: value for name, value in shop.items() if not name.startswith("OTEL_")},
            "AOSCTL_MASTER_KEY": MASTER_KEY,
            "AOSCTL_ALLOW_NETWORKS": "private",
            "OPENAI_API_KEY": "sk-of-the-model",
        }
        self.wire = wire
        self.site = site

    def __call__(self, *arguments: str, stdin: str = "", **settings: str) -> Ended:
        done = subprocess.run(
            [AOSCTL, *arguments],
            input=stdin, capture_output=True, text=True, timeout=120, check=False,
            env={**self._env, **settings},
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(self, at: Collector | str, **settings: str) -> Ended:
        """Let the agent answer, with a collector there."""
        self.wire.queue[:] = [calls(("track", {"id": "1042"})), text(ANSWER)]
        url = at if isinstance(at, str) else at.url
        return self("run", "tracker", QUESTION, OTEL_EXPORTER_OTLP_ENDPOINT=url, **settings)


@pytest.fixture
def desk(shop: dict[str, str]) -> Iterator[Desk]:
    def answer(seen: Seen) -> bytes:
        assert seen.header("authorization") == f"Bearer {KEY}"
        return json_reply({"state": "sent", "with": KEY})

    with OpenAIWire() as wire, Site(answer) as site:
        made = Desk(shop, wire, site)
        manifest = MANIFEST.format(url=site.url, model=wire.base_url)
        done = made("apply", "-f", "-", stdin=manifest, SHOP_KEY=KEY)
        assert done.status == 0, done.err
        yield made


def turn_of(dsn: str) -> tuple[str, str, str]:
    """Return tenant, run and turn of the last run."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select tenant_id, run_id, turn_id from aos_core.turn order by created_at desc limit 1"
        ).fetchone()
    assert row is not None
    return str(row[0]), str(row[1]), str(row[2])


def test_a_run_is_a_trace_of_the_agent_its_model_calls_and_its_tools(
    desk: Desk, superuser: str
) -> None:
    with collector() as at:
        done = desk.run(at)
    assert (done.status, done.out) == (0, f"{ANSWER}\n"), done
    tenant, run, turn = turn_of(superuser)
    spans = {span.id: span for span in at.spans}
    root = at.span("invoke_agent tracker")
    assert [span.name for span in at.spans].count("chat wire-1") == 2
    assert len(spans) == 4
    assert {span.trace for span in at.spans} == {turn.replace("-", "")}
    assert [span.parent for span in at.spans if span != root] == [root.id] * 3
    assert (root.parent, root.kind, root.failed) == ("", "INTERNAL", False)
    assert root.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "wire-1",
        "gen_ai.agent.name": "tracker",
        "gen_ai.conversation.id": run,
        "aosctl.tenant.id": tenant,
        "aosctl.run.id": run,
        "aosctl.turn": 1,
        "aosctl.turn.id": turn,
        "aosctl.attempt": 1,
        "aosctl.state": "completed",
    }
    first, second = (span for span in at.spans if span.name == "chat wire-1")
    port = int(desk.wire.base_url.split(":")[2].split("/")[0])
    assert first.attributes.pop("gen_ai.response.time_to_first_chunk", 1) > 0
    assert first.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "wire-1",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.conversation.id": run,
        "gen_ai.response.model": "wire-1",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["tool_call"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "127.0.0.1",
        "server.port": port,
        "aosctl.model": "tracker",
        "aosctl.step": 2,
        "aosctl.cost_usd": 0,
    }
    assert second.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert {span.kind for span in (first, second)} == {"CLIENT"}
    tool = at.span("execute_tool track")
    assert tool.kind == "INTERNAL"
    assert tool.attributes.pop("aosctl.call.id")
    assert tool.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "track",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.conversation.id": run,
        "aosctl.effect": "read",
    }
    (seen,) = desk.site.seen
    told, _, flags = str(seen.header("traceparent")).rpartition("-")
    assert (told, int(flags, 16) & 1) == (f"00-{tool.trace}-{tool.id}", 1)


def test_the_metrics_are_those_of_the_conventions(desk: Desk) -> None:
    with collector() as at:
        assert desk.run(at, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=lab").status == 0
    assert at.units == {
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.execute_tool.duration": "s",
        "gen_ai.invoke_agent.duration": "s",
    }
    model = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "wire-1",
        "gen_ai.response.model": "wire-1",
        "server.address": "127.0.0.1",
        "server.port": int(desk.wire.base_url.split(":")[2].split("/")[0]),
    }
    tokens = {
        point.attributes.pop("gen_ai.token.type"): point
        for point in at.points["gen_ai.client.token.usage"]
    }
    assert {kind: (point.count, point.sum) for kind, point in tokens.items()} == {
        "input": (2, 40), "output": (2, 10),
    }  # fmt: skip
    assert tokens["input"].attributes == model
    assert tokens["input"].bounds[:3] == [1, 4, 16]
    assert tokens["input"].bounds[-1] == 67108864
    (duration,) = at.points["gen_ai.client.operation.duration"]
    assert (duration.count, duration.attributes) == (2, model)
    assert duration.bounds[:4] == [0.01, 0.02, 0.04, 0.08]
    (tool,) = at.points["gen_ai.execute_tool.duration"]
    assert tool.count == 1
    assert tool.attributes == {"gen_ai.tool.name": "track", "gen_ai.tool.type": "function"}
    (turn,) = at.points["gen_ai.invoke_agent.duration"]
    assert (turn.count, turn.attributes) == (1, {"gen_ai.agent.name": "tracker"})
    assert sorted(at.paths) == ["/v1/metrics", "/v1/traces"]
    for resource in at.resources:
        assert resource["service.name"] == "aosctl"
        assert resource["service.version"]
        assert resource["deployment.environment.name"] == "lab"


CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.mark.parametrize("capture", ["", "false", "NO_CONTENT", "EVENT_ONLY"])
def test_nothing_that_was_said_leaves_unless_asked_for(desk: Desk, capture: str) -> None:
    with collector() as at:
        assert desk.run(at, **{CAPTURE: capture}).status == 0
    sent = b"".join(at.bodies)
    assert b"execute_tool track" in sent
    for word in (QUESTION, ANSWER, "You track parcels", "1042", "sent", KEY, "sk-of-the-model"):
        assert word.encode() not in sent, word


@pytest.mark.parametrize("capture", ["true", "SPAN_ONLY", "SPAN_AND_EVENT"])
def test_what_was_said_goes_along_where_asked_for_and_secrets_do_not(
    desk: Desk, capture: str
) -> None:
    with collector() as at:
        assert desk.run(at, **{CAPTURE: capture}).status == 0
    _, last = (span.attributes for span in at.spans if span.name == "chat wire-1")
    assert json.loads(last["gen_ai.system_instructions"])[0]["content"].startswith(
        "You track parcels."
    )
    asked, called, result = json.loads(last["gen_ai.input.messages"])
    assert asked == {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
    assert called["parts"] == [
        {"type": "tool_call", "id": "call_1", "name": "track", "arguments": {"id": "1042"}}
    ]
    assert result["role"] == "tool"
    assert result["parts"][0]["type"] == "tool_call_response"
    assert "[redacted]" in result["parts"][0]["response"]
    assert json.loads(last["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": ANSWER}],
            "finish_reason": "stop",
        }
    ]
    tool = at.span("execute_tool track").attributes
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"id": "1042"}
    assert "[redacted]" in tool["gen_ai.tool.call.result"]
    sent = b"".join(at.bodies)
    assert KEY.encode() not in sent
    assert b"sk-of-the-model" not in sent


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(("given", "taken"), [(PARENT, True), ("nonsense", False)])
def test_the_callers_trace_goes_on(desk: Desk, given: str, taken: bool) -> None:
    with collector() as at:
        assert desk.run(at, TRACEPARENT=given).status == 0
    root = at.span("invoke_agent tracker")
    assert (f"00-{root.trace}-{root.parent}-01" == PARENT) == taken


def test_failures_are_told_by_their_kind(desk: Desk) -> None:
    with collector() as at:
        desk.wire.queue[:] = [error(400, "You said: banana")]
        done = desk("run", "tracker", "banana", OTEL_EXPORTER_OTLP_ENDPOINT=at.url)
    assert done.status == 4, done
    root, chat = at.span("invoke_agent tracker"), at.span("chat wire-1")
    assert (root.failed, chat.failed) == (True, True)
    assert root.attributes["error.type"] == "failed"
    (point,) = at.points["gen_ai.client.operation.duration"]
    assert point.attributes["error.type"] == chat.attributes["error.type"] != ""
    assert b"banana" not in b"".join(at.bodies)


def test_a_worker_exports_too(desk: Desk, here: Aosctl) -> None:
    script = json.dumps([{"text": "Done."}])
    assert here("apply", "-f", "-", stdin=SILENT.format(name="quiet", script=script)).status == 0
    assert here("run", "-d", "quiet", "hello").status == 0
    with collector() as at:
        done = desk("worker", "--once", OTEL_EXPORTER_OTLP_ENDPOINT=at.url)
    assert done.status == 0, done
    assert at.span("invoke_agent quiet").attributes["aosctl.state"] == "completed"
    assert at.span("chat quiet").attributes["gen_ai.provider.name"] == "script"


def assert_as_ever(done: Ended, first: str = "") -> None:
    """It ended as without a collector, and said no more than that, and `first` before it."""
    said = re.sub(r"[0-9.]+s ", "0.0s ", done.err)
    told = [*([first] if first else []), "⏺ track(1042) · 0.0s · done"]
    assert (done.status, done.out, said.splitlines()) == (0, f"{ANSWER}\n", told)


def refusing() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_collector_that_fails_is_asked_once_and_changes_nothing(desk: Desk, status: int) -> None:
    with collector(status=status) as at:
        done = desk.run(at)
    assert_as_ever(done)
    assert sorted(at.paths) == ["/v1/metrics", "/v1/traces"]


def test_a_collector_that_hangs_holds_nobody_up(desk: Desk) -> None:
    with collector(hangs=True) as at:
        done = desk.run(at, OTEL_EXPORTER_OTLP_TIMEOUT="3600")
    assert_as_ever(done)
    assert sorted(at.paths) == ["/v1/metrics", "/v1/traces"]


@pytest.mark.parametrize("where", [refusing, lambda: "http://no.such.host.invalid", lambda: "no"])
def test_a_collector_that_is_not_there_changes_nothing(
    desk: Desk, where: Callable[[], str]
) -> None:
    done = desk.run(where())
    assert_as_ever(done)


NOT_OVER = "no OpenTelemetry: aosctl exports over http/protobuf, not over"
UNUSABLE: list[tuple[dict[str, str], str]] = [
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        f"{NOT_OVER} grpc: export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    ),
    (
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
        f"{NOT_OVER} http/json: export OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
    ),
]
SILLY: list[dict[str, str]] = [
    {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
    {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"},
    {"OTEL_BSP_MAX_QUEUE_SIZE": "0"},
    {"OTEL_METRIC_EXPORT_INTERVAL": "-1"},
    {"OTEL_PROPAGATORS": "smoke"},
]


@pytest.mark.parametrize(("settings", "words"), UNUSABLE, ids=[next(iter(s)) for s, _ in UNUSABLE])
def test_what_cannot_be_exported_is_said_once_with_the_next_command(
    desk: Desk, settings: dict[str, str], words: str
) -> None:
    assert_as_ever(desk.run(refusing(), **settings), words)
    worker = desk("worker", "--once", OTEL_EXPORTER_OTLP_ENDPOINT=refusing(), **settings)
    assert (worker.status, worker.err.splitlines()) == (0, [words])


def test_without_the_extra_a_run_says_what_to_install_unless_it_is_quiet(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "opentelemetry").mkdir()  # hides the installed one
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    bare = {"PYTHONPATH": str(tmp_path)}
    words = "no OpenTelemetry: its SDK is not installed: pip install 'aosctl[otel]'"
    assert_as_ever(desk.run(refusing(), **bare), words)
    desk.wire.queue[:] = [text(ANSWER)]
    quiet = desk("run", "-q", "tracker", "again", OTEL_EXPORTER_OTLP_ENDPOINT=refusing(), **bare)
    assert (quiet.status, quiet.out, quiet.err) == (0, f"{ANSWER}\n", "")


def test_a_chat_says_it_once_before_its_prompt(opened: Open) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": refusing(), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    chat = opened("chat", "my_pg_bot", columns=200, **settings)
    chat.ready()
    assert chat.standing.count(NOT_OVER) == 1
    chat.say("select 1 as one;")
    chat.stands("(1 row)")
    chat.ready()
    chat.say("/new")
    chat.stands("a new conversation with my_pg_bot begins")
    chat.say("select 2 as two;")
    chat.until(lambda: chat.standing.count("(1 row)") == 2, "the second answer")
    assert chat.standing.count("OpenTelemetry") == 1


@pytest.mark.parametrize("settings", SILLY, ids=lambda settings: next(iter(settings)))
def test_settings_that_make_no_sense_change_nothing(desk: Desk, settings: dict[str, str]) -> None:
    with collector() as at:
        done = desk.run(at, **settings)
    assert_as_ever(done)


PROGRAM = """\
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from aosctl.__main__ import main
sys.exit(main())
"""
OFF: list[dict[str, str]] = [
    {},
    {"OTEL_SERVICE_NAME": "shop", CAPTURE: "true"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
    {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    },
]


@pytest.mark.parametrize(
    ("settings", "on"), [*((off, False) for off in OFF), ({"OTEL_TRACES_EXPORTER": "otlp"}, True)]
)
def test_nothing_of_it_is_loaded_unless_it_is_asked_for(
    shop: dict[str, str], here: Aosctl, settings: dict[str, str], on: bool
) -> None:
    script = json.dumps([{"text": "Done."}])
    assert here("apply", "-f", "-", stdin=SILENT.format(name="quiet", script=script)).status == 0
    env = {name: value for name, value in shop.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "quiet", "hello"],
        capture_output=True, text=True, timeout=120, check=True, env={**env, **settings},
    )  # fmt: skip
    loaded: set[Any] = set(done.stderr.split())
    assert ("opentelemetry.sdk" in loaded) == on
    assert any(name.startswith("opentelemetry") for name in loaded) == on
    assert done.stdout == "Done.\n"


def test_one_signal_can_be_switched_off(desk: Desk) -> None:
    with collector() as at:
        assert desk.run(at, OTEL_METRICS_EXPORTER="none").status == 0
    assert set(at.paths) == {"/v1/traces"}
    with collector() as at:
        assert desk.run(at, OTEL_TRACES_EXPORTER="none").status == 0
    assert set(at.paths) == {"/v1/metrics"}
    assert desk.site.seen[-1].header("traceparent") is None


def test_headers_and_compression_are_those_of_the_variables(desk: Desk) -> None:
    with collector() as at:
        done = desk.run(
            at,
            OTEL_EXPORTER_OTLP_HEADERS="x-api-key=of-the-collector",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        )
    assert done.status == 0
    assert len(at.spans) == 4
    for headers in at.headers:
        assert headers["x-api-key"] == "of-the-collector"
        assert headers["content-type"] == "application/x-protobuf"
        assert headers["content-encoding"] == "gzip"
