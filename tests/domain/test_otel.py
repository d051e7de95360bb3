"""OpenTelemetry: when it is on, what is written of messages, what tools are told of the trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aosctl.domain import otel, traceparent
from aosctl.domain.mcp_pins import pin_of
from aosctl.domain.otel_messages import output_messages
from aosctl.domain.otel_meters import of_server
from aosctl.domain.tools.base import Call as ToolCall
from aosctl.domain.tools.base import ToolResult, act
from aosctl.domain.tools.host import Host
from aosctl.domain.tools.http_skill import HttpSkill
from aosctl.domain.tools.mcp import McpTool
from aosctl.domain.tools.mcp_sessions import Sessions
from aosctl.domain.tools.web.home import Home
from aosctl.messages import Block, Call, Media, Message, Refusal, Stop, Text, Think
from aosctl.providers.base import ModelSpec
from websites import Seen, Site, json_reply, names, open_client

AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
WANTED: list[tuple[dict[str, str], bool, bool]] = [
    ({}, False, False),
    ({"OTEL_SERVICE_NAME": "shop"}, False, False),
    (AT, True, True),
    ({**AT, "OTEL_SDK_DISABLED": "TRUE"}, False, False),
    ({**AT, "OTEL_SDK_DISABLED": "false"}, True, True),
    ({**AT, "OTEL_METRICS_EXPORTER": "none"}, True, False),
    ({**AT, "OTEL_TRACES_EXPORTER": "none"}, False, True),
    ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
    ({"OTEL_METRICS_EXPORTER": "console, OTLP"}, False, True),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True, False),
    ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/v1/metrics"}, False, True),
]


@pytest.mark.parametrize(("environment", "traces", "metrics"), WANTED)
def test_the_standard_variables_switch_it_on(
    environment: dict[str, str], traces: bool, metrics: bool
) -> None:
    assert otel.is_wanted(environment, "TRACES") == traces
    assert otel.is_wanted(environment, "METRICS") == metrics
    assert otel.is_wanted(environment) == (traces or metrics)


def test_only_what_is_wanted_has_to_be_possible() -> None:
    over_grpc = {**AT, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}
    assert "not over grpc" in str(otel.why_not(over_grpc))
    assert otel.why_not({**over_grpc, "OTEL_METRICS_EXPORTER": "none"}) is None


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert "pip install 'aosctl[otel]'" in str(otel.why_not(AT))


ADDRESSES: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    ("https://models.example.com/v1", {"server.address": "models.example.com", "server.port": 443}),
    ("http://me:secret@[::1]:8080/v1", {"server.address": "::1", "server.port": 8080}),
    ("http://models:99999/v1", {}),
    ("models/v1", {}),
]


@pytest.mark.parametrize(("url", "found"), ADDRESSES)
def test_a_server_is_named_by_host_and_port_alone(url: str | None, found: dict[str, Any]) -> None:
    assert of_server(ModelSpec("openai", "m", "m", base_url=url)) == found


PARTS: list[tuple[Block, dict[str, Any] | None]] = [
    (Text("a"), {"type": "text", "content": "a"}),
    (Refusal("no"), {"type": "text", "content": "no"}),
    (Think("hm", sig="seal"), {"type": "reasoning", "content": "hm"}),
    (Think("", data="seal"), None),
    (
        Call("c", "track", '{"id": 1', None),
        {"type": "tool_call", "id": "c", "name": "track", "arguments": '{"id": 1'},
    ),
    (
        Media("image/png", "https://example.com/a.png"),
        {
            "type": "uri",
            "uri": "https://example.com/a.png",
            "mime_type": "image/png",
            "modality": "image",
        },
    ),
    (
        Media("image/png", "data:image/png;base64,AAAA"),
        {"type": "picture", "mime_type": "image/png", "modality": "image"},
    ),
]


@pytest.mark.parametrize(("block", "part"), PARTS)
def test_a_message_is_written_in_parts(block: Block, part: dict[str, Any] | None) -> None:
    message = Message("assistant", (block,), stop=Stop("refusal"))
    assert json.loads(output_messages(message)) == [
        {
            "role": "assistant",
            "parts": [part] if part else [],
            "finish_reason": "content_filter",
        }
    ]


TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.mark.parametrize("carried", [TRACE, None])
def test_an_api_is_told_the_trace_while_there_is_one(carried: dict[str, str] | None) -> None:
    def answer(seen: Seen) -> bytes:
        return json_reply({"told": seen.header("traceparent")})

    traceparent.carry(carried)
    try:
        with Site(answer) as site:
            settings = {"url": f"{site.url}/", "allowNetworks": ["127.0.0.1/32"]}
            call = ToolCall("orders", "call-1", settings=settings)
            done = act(HttpSkill(open_client(names())), {}, call)
    finally:
        traceparent.carry(None)
    assert done.value["json"] == {"told": (carried or {}).get("traceparent")}


def test_an_mcp_server_is_told_the_trace(tmp_path: Path) -> None:
    """In `_meta`, where the protocol puts it, on whichever connection."""
    raw = Path(__file__).parent.parent / "mcp_servers" / "raw.py"
    heard = tmp_path / "heard"
    script = f"tee '{heard}' | '{sys.executable}' '{raw}' '{tmp_path / 'notes'}'"
    server = {"command": ["sh", "-c", script]}
    given = {"type": "object", "properties": {"x": {"type": "string"}}}
    pin = pin_of({"name": "echo", "description": "says what it was given", "inputSchema": given})
    settings = {"tool": "echo", "pin": pin, "server": server, "owner": "t/s"}
    sessions = Sessions(Home(allows_all=True))
    tool = McpTool(Host(allows_all=True), sessions)
    try:
        for carried in (TRACE, None):
            traceparent.carry(carried)
            done = tool.run({"x": "hello"}, ToolCall("srv.echo", "key", settings=settings))
            assert done == ToolResult(True, "hello")
    finally:
        traceparent.carry(None)
        sessions.close()
    asked = [json.loads(line) for line in heard.read_text().splitlines()]
    told = [one["params"]["_meta"] for one in asked if one.get("method") == "tools/call"]
    assert [meta.get("traceparent") for meta in told] == [TRACE["traceparent"], None]
