"""`aosctl mcp serve`, with the official client over stdio and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from bots import Bot, Order
from command import AOSCTL, Aosctl
from talks import until

READS = {"list_agents", "list_runs", "get_run", "logs", "list_approvals"}
ENDS = {"kill_run", "decide_approval"}
TOKEN = "a-token-of-this-test"

Work = Callable[[Client], Awaitable[None]]


@pytest.fixture
def served(shop: dict[str, str]) -> Callable[..., None]:
    """Start `aosctl mcp serve`, as an editor does, and talk to it."""

    def talk(work: Work, *flags: str, mode: str = "auto") -> None:
        command = StdioServerParameters(
            command=str(AOSCTL), args=["mcp", "serve", *flags], env=shop
        )

        async def main() -> None:
            async with Client(command, mode=mode) as client:
                await work(client)

        asyncio.run(main())

    return talk


@pytest.fixture
def listening(shop: dict[str, str]) -> Iterator[str]:
    """A server over HTTP; returns its URL."""
    server = subprocess.Popen(
        [AOSCTL, "mcp", "serve", "--http", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**shop, "AOSCTL_MCP_TOKEN": TOKEN},
    )
    assert server.stderr is not None
    url = server.stderr.readline().split()[-1]
    yield url
    server.send_signal(signal.SIGTERM)
    assert server.communicate(timeout=30)[1] == ""


async def said(client: Client, tool: str, **args: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, args)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, **args: Any) -> str:
    result = await client.call_tool(tool, args)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_tools_have_titles_schemas_and_hints(served: Callable[..., None], mode: str) -> None:
    async def look(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            *READS, "kill_run", "start_run", "chat", "steer",
        }, "without --allow-approve nothing decides"  # fmt: skip
        for name, tool in tools.items():
            assert tool.title and tool.description and tool.output_schema, name
            assert tool.annotations is not None
            assert bool(tool.annotations.read_only_hint) == (name in READS), name
            assert bool(tool.annotations.destructive_hint) == (name in ENDS), name
        assert (client.protocol_version >= "2026") == (mode == "auto")

    served(look, mode=mode)


def test_a_message_is_answered_and_the_run_can_be_looked_at(
    served: Callable[..., None], bot: Bot
) -> None:
    name = bot("served", {"text": "good morning"}, {"text": "good night"})

    async def talk(client: Client) -> None:
        agents = (await said(client, "list_agents"))["agents"]
        assert name in [agent["name"] for agent in agents]
        first = await said(client, "chat", agent=name, message="hello")
        assert (first["state"], first["answer"]) == ("completed", "good morning")
        second = await said(client, "chat", run=first["run"], message="bye")
        assert second["answer"] == "good night"
        assert (await said(client, "get_run", run=first["run"]))["answer"] == "good night"
        log = await said(client, "logs", run=first["run"], limit=2)
        assert "hello" in "\n".join(log["lines"])
        assert log["more"]
        rest = await said(client, "logs", run=first["run"], after=log["cursor"])
        assert "good night" in "\n".join(rest["lines"])
        assert not rest["more"]
        assert not {*log["lines"]} & {*rest["lines"]}
        runs = (await said(client, "list_runs", agent=name, everything=True))["runs"]
        assert [run["run"] for run in runs] == [first["run"]]
        assert "killed" in (await said(client, "kill_run", run=first["run"]))["done"]
        assert (await said(client, "get_run", run=first["run"]))["state"] == "cancelled"

    served(talk)


def test_a_task_is_left_to_a_worker_and_steered(
    served: Callable[..., None], bot: Bot, here: Aosctl
) -> None:
    name = bot("tasked", {"text": "done in the background"})

    async def talk(client: Client) -> None:
        made = await said(client, "start_run", agent=name, task="work")
        assert made["state"] == "queued"
        assert "will read it" in (await said(client, "steer", run=made["run"], text="now"))["done"]
        await asyncio.to_thread(here, "worker", "--once")
        assert (await said(client, "get_run", run=made["run"]))["answer"] == (
            "done in the background"
        )

    served(talk)


def test_what_needs_an_approval_waits_and_goes_on_when_it_was_decided(
    served: Callable[..., None], bot: Bot, order: Order, here: Aosctl
) -> None:
    call = {"name": "sql_execute", "args": {"statement": order.delete}}
    name = bot("careful", {"calls": [call]}, {"text": "deleted"})

    async def talk(client: Client) -> None:
        asked = await said(client, "chat", agent=name, message="delete it")
        assert asked["state"] == "waiting"
        assert len(asked["approvals"]) == 1
        assert "person decides" in asked["next"]
        [question] = (await said(client, "list_approvals", run=asked["run"]))["approvals"]
        assert question["id"] == asked["approvals"][0]
        assert question["arguments"] == {"statement": order.delete}
        assert question["would_change"] is not None
        assert "Unknown tool" in await refused(client, "decide_approval")
        assert order.exists()
        assert here("approve", question["id"], "--yes").status == 0
        gone_on = await said(client, "chat", run=asked["run"])
        assert (gone_on["state"], gone_on["answer"]) == ("completed", "deleted")
        assert not order.exists()

    served(talk)


FOUR_EYES = """\
apiVersion: aos/v1
kind: Policy
metadata: {name: two-people-served, tenant: tech_corp}
spec:
  skills: [sql_execute]
  decision: ask
  approvers: {fourEyes: true}
"""


def test_with_leave_to_decide_the_kernel_still_keeps_four_eyes(
    served: Callable[..., None], bot: Bot, order: Order, here: Aosctl
) -> None:
    call = {"name": "sql_execute", "args": {"statement": order.delete}}
    name = bot("decided", {"calls": [call]}, {"text": "deleted"})

    async def talk(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        hints = tools["decide_approval"].annotations
        assert hints is not None and hints.destructive_hint
        asked = await said(client, "chat", agent=name, message="delete it")
        [question] = (await said(client, "list_approvals", run=asked["run"]))["approvals"]
        given = {"approval": question["id"], "decision": "approve", "reason": "looked at it"}
        stale = await refused(client, "decide_approval", **given, digest="0" * 64)
        assert "changed" in stale or "digest" in stale, stale
        done = await said(client, "decide_approval", **given, digest=question["digest"])
        assert done["done"].endswith("approved")
        assert (await said(client, "chat", run=asked["run"]))["answer"] == "deleted"
        order.bring_back()
        assert here("apply", "-f", "-", stdin=FOUR_EYES).status == 0
        asked = await said(client, "chat", agent=name, message="delete it")
        [question] = (await said(client, "list_approvals", run=asked["run"]))["approvals"]
        given["approval"] = question["id"]
        own = await refused(client, "decide_approval", **given, digest=question["digest"])
        assert "four" in own or "asked" in own, own
        assert here("delete", "policy", "two-people-served").status == 0

    served(talk, "--allow-approve")


def test_what_is_wrong_is_said_in_words_with_the_next_step(served: Callable[..., None]) -> None:
    async def talk(client: Client) -> None:
        text = await refused(client, "chat", agent="nobody", message="hello")
        assert 'agent "nobody" not found' in text
        assert "hint: known agents" in text
        assert "not found" in await refused(client, "get_run", run="nothing")
        assert "takes an agent and a message" in await refused(client, "chat")

    served(talk)


def test_a_cancelled_message_stops_its_turn(
    served: Callable[..., None], bot: Bot, here: Aosctl
) -> None:
    name = bot("slow", {"text": "too late", "delaySeconds": 60}, {"text": "never"})

    async def talk(client: Client) -> None:
        asking = asyncio.create_task(client.call_tool("chat", {"agent": name, "message": "hello"}))
        await asyncio.to_thread(
            until, lambda: "running" in here("ps", "--filter", f"agent={name}").out
        )
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(
            until, lambda: "running" not in here("ps", "--filter", f"agent={name}").out
        )

    served(talk)


def test_over_http_a_token_is_needed(listening: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp", listening)

    async def main() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(listening, http_client=http)) as client,
        ):
            assert "agents" in await said(client, "list_agents")
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            async with httpx2.AsyncClient(headers=wrong) as http:
                answer = await http.post(listening, json={})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        async with httpx2.AsyncClient(headers=headers) as http:
            evil = await http.post(listening, json={}, headers={"Host": "evil.example"})
            assert evil.status_code == 421, "a name that somebody else resolves to us"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--http", "8808"], 2, '--http takes HOST:PORT, not "8808"'),
        (["--http", "127.0.0.1:99999"], 2, "--http takes HOST:PORT"),
        (["--token-file", "t"], 2, "--token-file goes with --http"),
        (["--http", "127.0.0.1:0", "--token-file", "/no/such"], 1, "No such file"),
        (["-n", "no_such_tenant"], 1, "no_such_tenant"),
    ],
)
def test_what_cannot_be_served_ends_at_once(
    here: Aosctl, flags: list[str], status: int, words: str
) -> None:
    ended = here("mcp", "serve", *flags)
    assert (ended.status, ended.out) == (status, "")
    assert words in ended.err


def test_the_end_of_the_input_is_the_end(here: Aosctl) -> None:
    ended = here("mcp", "serve", "--allow-approve")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_a_short_token_is_refused(here: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short\n")
    ended = here("mcp", "serve", "--http", "127.0.0.1:0", "--token-file", str(file))
    assert ended.status == 2
    assert "shorter than 16" in ended.err
    assert "short\n" not in ended.err
