"""Tools of MCP servers: real processes and real sockets, of both eras, good and bad ones.

E58 of the attacks is here: a description that changes, 100 MB, an answer without an end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from aosctl.domain.mcp_pins import pin_of
from aosctl.domain.tools.base import Call, Question, Reply, ToolResult
from aosctl.domain.tools.host import Host
from aosctl.domain.tools.mcp import McpTool
from aosctl.domain.tools.mcp_allowance import LONGEST_MESSAGE, MOST_BYTES
from aosctl.domain.tools.mcp_sessions import Sessions
from aosctl.domain.tools.mcp_settings import server_of
from aosctl.domain.tools.web.home import Home

SERVERS = Path(__file__).parent.parent / "mcp_servers"
OBJECT = {"type": "object", "properties": {"x": {"type": "string"}}}


def raw_pin(name: str, description: str | None = None) -> str:
    """The pin of a tool of raw.py, made here by hand."""
    said = description or ("says what it was given" if name == "echo" else name)
    return pin_of({"name": name, "description": said, "inputSchema": OBJECT})


class World:
    """A tool, and a server of each kind for it to call."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        self.sessions = Sessions(Home(allows_all=True))
        self.tool = McpTool(Host(allows_all=True), self.sessions)
        self.processes: list[subprocess.Popen[str]] = []
        self.disabled: list[str] = []

    def stdio(self, script: str = "raw.py", **more: Any) -> dict[str, Any]:
        command = [sys.executable, str(SERVERS / script), str(self.notes)]
        return {"command": command, **more}

    def http(self, script: str = "raw.py", *words: str, **more: Any) -> dict[str, Any]:
        command = [sys.executable, str(SERVERS / script), str(self.notes), *(words or ("--http",))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        path = "/mcp" if script == "modern.py" else "/"
        return {"url": f"http://127.0.0.1:{port}{path}", **more}

    def server(self, kind: str) -> dict[str, Any]:
        return {
            "stdio": self.stdio,
            "http": self.http,
            "sse": lambda: self.http("raw.py", "--http-sse"),
        }[kind]()

    def call(
        self,
        server: dict[str, Any],
        tool: str,
        args: dict[str, Any] | None = None,
        *,
        pin: str | None = "",
        **more: Any,
    ) -> ToolResult:
        pin = raw_pin(tool) if pin == "" else pin
        settings = {"tool": tool, "pin": pin, "server": server, "owner": "t/s"}
        more.setdefault("disable", self.disabled.append)
        return self.tool.run(args or {}, Call(f"srv.{tool}", "key", settings=settings, **more))

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in self.noted():
            assert time.monotonic() < deadline, self.noted()
            time.sleep(0.01)

    def close(self) -> None:
        self.sessions.close()
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


KINDS = pytest.mark.parametrize("kind", ["stdio", "http", "sse"])


@KINDS
def test_a_tool_is_called_and_its_text_comes_back(world: World, kind: str) -> None:
    server = world.server(kind)
    assert world.call(server, "echo", {"x": "hé\u2028llo"}) == ToolResult(True, "hé\u2028llo")
    assert world.call(server, "echo", {"x": "again"}) == ToolResult(True, "again")
    assert world.noted().count("initialize") == 1, "the second call uses the first one's session"


@KINDS
def test_what_a_tool_returns_becomes_json(world: World, kind: str) -> None:
    server = world.server(kind)
    assert world.call(server, "structured").value == {"n": 1, "none": None}
    assert world.call(server, "fail") == ToolResult(False, {"error": "no such order"})
    assert world.call(server, "image").value == {
        "content": [
            {"type": "text", "text": "a dot"},
            {"type": "image", "data": "QUJD", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "t"}},
        ]
    }


def test_the_newer_era_over_stdio_and_http(world: World) -> None:
    for server in (world.stdio("modern.py"), world.http("modern.py")):
        pins = listed(world, server)
        assert set(pins) == {"add", "order", "pay", "wait"}
        done = world.call(server, "add", {"a": 1, "b": 2}, pin=pins["add"])
        assert done == ToolResult(True, {"total": 3})
        wrong = world.call(server, "add", {"a": "one"}, pin=pins["add"])
        assert not wrong.ok
        assert "add" in str(wrong.value)


def listed(world: World, server: dict[str, Any]) -> dict[str, str]:
    async def look() -> dict[str, str]:
        connection, _ = await world.sessions.connection("t/s", server_of(server, str), "s")
        return {tool["name"]: pin_of(tool) for tool in await connection.tools()}

    return world.sessions.run(look, threading.Event())


@KINDS
def test_a_skill_without_a_pin_calls_nothing(world: World, kind: str) -> None:
    server = world.server(kind)
    refused = world.call(server, "echo", pin=None)
    assert not refused.ok
    assert refused.value == {
        "error": "srv.echo is not approved yet",
        "hint": "a person looks at it with: aosctl mcp approve srv.echo",
    }
    assert world.noted() == []


@KINDS
def test_a_tool_that_changes_in_the_middle_of_a_session_is_not_called(
    world: World, kind: str
) -> None:
    server = world.server(kind)
    assert world.call(server, "echo", {"x": "a"}).ok
    world.notes.with_suffix(".swap").write_text("sends all files to me")
    refused = world.call(server, "echo", {"x": "b"})
    assert not refused.ok
    assert "changed since it was approved" in refused.value["error"]
    assert "sends all files" not in json.dumps(refused.value), "the new words reach no model"
    assert refused.value["hint"].endswith("aosctl mcp approve srv.echo")
    assert world.disabled == ["the tool changed since it was approved"]
    assert world.noted().count("tools/call") == 1
    approved = raw_pin("echo", "sends all files to me")
    assert world.call(server, "echo", {"x": "c"}, pin=approved) == ToolResult(True, "c")


def test_a_tool_that_is_gone_disables_its_skill(world: World) -> None:
    refused = world.call(world.stdio(), "nothing", pin="sha256:0")
    assert 'offers no tool "nothing"' in refused.value["error"]
    assert world.disabled == ['the server offers no tool "nothing" any more']


@pytest.mark.parametrize("field", ["name", "title", "description", "inputSchema", "annotations"])
def test_the_pin_covers_each_field_a_model_or_person_goes_by(field: str) -> None:
    tool = {
        "name": "a",
        "title": "A",
        "description": "d",
        "inputSchema": {"type": "object"},
        "annotations": {"readOnlyHint": True},
    }
    other: Any = {"destructiveHint": True} if field == "annotations" else "other"
    assert pin_of(tool) != pin_of({**tool, field: other})
    assert pin_of(tool) == pin_of({**dict(reversed(tool.items())), "_meta": {}, "title": "A"})
    assert pin_of(tool) == pin_of({**tool, "outputSchema": None})


def test_the_server_has_only_the_environment_its_manifest_gives(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    server = world.stdio(env={"GIVEN": "yes", "TOKEN": {"secretRef": "a/b", "prefix": "t-"}})
    server["cwd"] = str(tmp_path)
    found = world.call(server, "env", secret=lambda ref: f"opened-{ref}").value
    found.pop("LC_CTYPE", None)  # Python's own
    assert found["PATH"] == os.environ["PATH"]
    ours = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ"}
    others = {name: value for name, value in found.items() if name not in ours}
    assert others == {"GIVEN": "yes", "TOKEN": "t-opened-a/b", "CWD": str(tmp_path)}
    loads = world.stdio(env={"LD_PRELOAD": "x.so"})
    assert 'the variable "LD_PRELOAD" may not be set' in world.call(loads, "env").value["error"]


@KINDS
def test_a_reply_of_100_megabytes_is_not_taken_in(world: World, kind: str) -> None:
    server = world.server(kind)
    refused = world.call(server, "huge", {"x": "100"})
    assert not refused.ok
    most = LONGEST_MESSAGE if kind == "sse" else f"more than {LONGEST_MESSAGE:,} bytes"
    assert str(most) in refused.value["error"]
    assert world.noted().count("megabyte") < 40
    fine = world.call(server, "huge", {"x": "2"}, max_bytes=1_000)
    assert fine.ok
    assert fine.value["truncated"]
    assert fine.value["bytes"] == 2_000_002
    assert fine.value["beginning"] == '"' + "x" * 999


@KINDS
def test_a_line_without_an_end_is_not_waited_for(world: World, kind: str) -> None:
    server = world.server(kind)
    refused = world.call(server, "endless")
    assert "byte" in refused.value["error"]
    assert world.noted().count("megabyte") < 40
    assert world.call(server, "echo", {"x": "fresh"}).value == "fresh"


@pytest.mark.parametrize("kind", ["stdio", "sse"])
def test_a_flood_of_logs_ends_the_session_and_a_hundred_do_not(world: World, kind: str) -> None:
    server = world.server(kind)
    assert world.call(server, "chatty").value == "done"
    refused = world.call(server, "flood", timeout_seconds=120)
    assert f"more than {MOST_BYTES:,} bytes" in refused.value["error"]
    assert world.call(server, "echo", {"x": "fresh"}).value == "fresh"


@pytest.mark.parametrize("kind", ["stdio", "sse"])
def test_a_stream_that_trickles_forever_is_left(world: World, kind: str) -> None:
    refused = world.call(world.server(kind), "trickle", timeout_seconds=1)
    assert refused.value["error"] == "the MCP server did not answer within 1 s"
    world.wait_for("notifications/cancelled")


@KINDS
def test_a_server_that_never_answers_is_told_and_left(world: World, kind: str) -> None:
    server = world.server(kind)
    refused = world.call(server, "silent", timeout_seconds=1)
    assert refused.value == {
        "error": "the MCP server did not answer within 1 s",
        "hint": "whether it did something is not known; look before asking again",
    }
    world.wait_for("notifications/cancelled")
    assert world.call(server, "echo", {"x": "fresh"}).value == "fresh"
    assert world.noted().count("initialize") == 2, "the next call does not trust that session"


def test_a_server_that_dies_in_the_middle_is_replaced(world: World) -> None:
    server = world.stdio()
    first = world.call(server, "pid").value
    refused = world.call(server, "die")
    assert "its last words: out of coffee" in refused.value["error"]
    assert "not known" in refused.value["hint"]
    assert world.call(server, "pid").value != first
    assert world.disabled == []


def test_a_server_that_died_between_two_calls_is_replaced(world: World) -> None:
    server = world.stdio()
    first = world.call(server, "exit_after")
    assert first.ok
    second = world.call(server, "pid")
    assert second.ok
    assert second.value != first.value


@KINDS
def test_what_is_no_json_is_passed_over(world: World, kind: str) -> None:
    done = world.call(world.server(kind), "wrong_json", timeout_seconds=5)
    if kind == "http":
        assert not done.ok
    else:
        assert done == ToolResult(kind == "stdio", done.value)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply("accept", {"size": "m"}), {"action": "accept", "content": {"size": "m"}}),
        (Reply("decline"), {"action": "decline"}),
        (Reply("cancel"), {"action": "cancel"}),
    ],
)
@pytest.mark.parametrize("kind", ["stdio", "sse"])
def test_a_form_is_put_to_the_person(
    world: World, kind: str, reply: Reply, told: dict[str, Any]
) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        return reply

    done = world.call(world.server(kind), "ask_form", ask=ask)
    assert json.loads(done.value) == told
    assert asked[0].asker == "srv.ask_form"
    assert asked[0].message == "Which size?"
    assert asked[0].schema is not None
    assert asked[0].schema["properties"]["size"]["enum"] == ["s", "m"]


def test_the_time_a_person_takes_is_not_the_servers(world: World) -> None:
    def ask(_: Question) -> Reply:
        time.sleep(1.5)
        return Reply("accept", {"size": "s"})

    world.call(world.stdio(), "echo")
    assert world.call(world.stdio(), "ask_form", ask=ask, timeout_seconds=1).ok


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://pay.example.com/1", "accept"),
        ("javascript:alert(1)", "decline"),
        ("file:///etc/passwd", "decline"),
        ("https://a.example\u202e/x", "decline"),
    ],
)
def test_a_url_is_shown_and_one_that_is_no_web_page_is_not(
    world: World, url: str, told: str
) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        return Reply("accept")

    done = world.call(world.stdio(), "ask_url", {"x": url}, ask=ask)
    assert json.loads(done.value) == {"action": told}
    assert [question.url for question in asked] == ([url] if told == "accept" else [])


PAGE = "https://pay.example.com/1"


@KINDS
def test_a_page_that_has_to_be_opened_first_is_shown_and_the_call_made_again(
    world: World, kind: str
) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Reply:
        asked.append(question)
        if len(asked) == 2:
            with world.notes.open("a") as notes:
                notes.write("visited\n")
        return Reply("accept")

    server = world.server(kind)
    assert world.call(server, "visit_first", ask=ask) == ToolResult(True, "paid")
    assert [(one.asker, one.message, one.url) for one in asked] == [
        ("srv.visit_first", "Sign in", PAGE)
    ] * 2  # it was not done the first time, whatever the person said
    assert world.noted().count("called") == 3


@pytest.mark.parametrize("words", [(), ("--http",)])
def test_a_page_that_the_packages_server_wants_opened_is_shown(
    world: World, words: tuple[str, ...]
) -> None:
    server = world.http("modern.py", *words) if words else world.stdio("modern.py")
    pin = listed(world, server)["pay"]
    shown: list[str | None] = []

    def ask(question: Question) -> Reply:
        shown.append(question.url)
        world.notes.write_text("visited\n")
        return Reply("accept")

    done = world.call(server, "pay", pin=pin, ask=ask)
    assert (done.ok, done.value, shown) == (True, {"result": "paid"}, [PAGE])


@pytest.mark.parametrize(
    ("action", "calls", "hint"),
    [
        ("decline", 1, "the person declined to go there"),
        ("cancel", 1, "nobody went there yet: tell the person the URL, and call again when"),
        ("accept", 4, "the person was there, and the server asks for it still"),
    ],
)
def test_a_model_reads_which_page_was_not_opened(
    world: World, action: Literal["decline", "cancel", "accept"], calls: int, hint: str
) -> None:
    args = {"x": json.dumps([PAGE, f"{PAGE}2"])}
    done = world.call(world.stdio(), "visit_first", args, ask=lambda _: Reply(action))
    assert not done.ok
    assert done.value["error"] == (
        "srv.visit_first did nothing: a person has to open a page first: Sign in; Sign in"
    )
    assert done.value["urls"] == [PAGE, f"{PAGE}2"]
    assert done.value["hint"].startswith(hint)
    assert world.noted().count("called") == calls


@pytest.mark.parametrize(
    "data", [["javascript:alert(1)"], [], {"elicitations": "soon"}, {"elicitations": [7]}, "x", {}]
)
def test_a_page_that_is_none_is_a_refusal_as_any_other(world: World, data: object) -> None:
    def ask(_: Question) -> Reply:
        raise AssertionError("nothing is to be asked")

    done = world.call(world.stdio(), "visit_first", {"x": json.dumps(data)}, ask=ask)
    assert done.value["error"] == "the MCP server refused: URL elicitation required"


@pytest.mark.parametrize("words", [(), ("http",)])
def test_a_form_of_the_newer_era_is_put_to_the_person_of_its_own_call(
    world: World, words: tuple[str, ...]
) -> None:
    server = world.http("modern.py") if words else world.stdio("modern.py")
    pin = listed(world, server)["order"]
    sizes = ["s", "m", "l"]
    done: dict[str, Any] = {}

    def order(size: str) -> None:
        reply = Reply("accept", {"size": size})
        done[size] = world.call(server, "order", pin=pin, ask=lambda _: reply).value

    threads = [threading.Thread(target=order, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {size: value["result"] for size, value in done.items()} == {
        size: f"a shirt of size {size}" for size in sizes
    }


def test_off_a_person_a_question_is_cancelled(world: World) -> None:
    assert json.loads(world.call(world.stdio(), "ask_form").value) == {"action": "cancel"}


def test_sampling_is_declined(world: World) -> None:
    said = json.loads(world.call(world.stdio(), "sample").value)
    assert said["message"] == "Sampling not supported"


def cancelled(world: World, server: dict[str, Any], tool: str, pin: str, sign: str) -> float:
    """Set `stop` once the server works on the call; return how long it then took to return."""
    stop = threading.Event()
    ended: list[float] = []

    def run() -> None:
        done = world.call(server, tool, pin=pin, stop=stop, timeout_seconds=300)
        assert done.value == {"error": f"srv.{tool} was cancelled"}
        ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    world.wait_for(sign)
    stop.set()
    thread.join(timeout=60)
    return ended[0]


@KINDS
def test_a_cancelled_call_returns_and_the_server_hears_of_it(world: World, kind: str) -> None:
    server = world.server(kind)
    cancelled(world, server, "silent", raw_pin("silent"), "silent")
    world.wait_for("notifications/cancelled")
    assert world.call(server, "echo", {"x": "still"}).value == "still"


@pytest.mark.parametrize("over", ["stdio", "http"])
def test_a_cancelled_call_of_the_newer_era_stops_the_tool(world: World, over: str) -> None:
    server = world.http("modern.py") if over == "http" else world.stdio("modern.py")
    pin = listed(world, server)["wait"]
    cancelled(world, server, "wait", pin, "waiting")
    world.wait_for("cancelled")


def test_a_bearer_token_is_sent_and_its_lack_is_told(world: World) -> None:
    server = world.http("modern.py", "--http", "sesame")
    auth = {"bearer": {"secretRef": "srv/token"}}
    with_token = {**server, "auth": auth}
    pins = listed(world, with_token_opened := {**server, "auth": {"bearer": "sesame"}})
    assert with_token_opened
    done = world.call(
        with_token, "add", {"a": 2, "b": 2}, pin=pins["add"], secret=lambda _: "sesame"
    )
    assert done.value == {"total": 4}
    refused = world.call(server, "add", pin=pins["add"])
    assert "it answered 401" in refused.value["error"]


@pytest.mark.parametrize(
    ("more", "form"),
    [
        ({}, {"grant_type=client_credentials", "client_id=me", "client_secret=s-srv%2Fsecret"}),
        (
            {"refreshToken": {"secretRef": "srv/refresh"}, "scopes": ["a", "b"]},
            {"grant_type=refresh_token", "refresh_token=s-srv%2Frefresh", "scope=a+b"},
        ),
    ],
)
def test_an_oauth_token_is_fetched_once_and_again_when_it_is_refused(
    world: World, more: dict[str, Any], form: set[str]
) -> None:
    server = world.http()
    secret = {"secretRef": "srv/secret"}
    oauth = {"tokenUrl": f"{server['url']}token", "clientId": "me", "clientSecret": secret, **more}
    server["auth"] = {"oauth": oauth}
    for text in ("a", "b"):
        done = world.call(server, "echo", {"x": text}, secret=lambda ref: f"s-{ref}")
        assert done.value == text
    asked = [line for line in world.noted() if line.startswith("token ")]
    assert len(asked) == 1
    assert form <= set(asked[0].removeprefix("token ").split("&"))
    assert "authorization Bearer t1" in world.noted()
    world.notes.with_suffix(".401").touch()
    refused = world.call(server, "echo", {"x": "a"}, secret=lambda ref: f"s-{ref}")
    assert "it answered 401" in refused.value["error"]
    asked = [line for line in world.noted() if line.startswith("token ")]
    assert len(asked) > 1
    if more:
        assert "refresh_token=r2" in asked[1], "the endpoint gave another for the next time"


def test_a_refused_client_is_said_and_its_secret_is_not(world: World) -> None:
    server = world.http()
    oauth = {"tokenUrl": f"{server['url']}token", "clientId": "me", "clientSecret": "wrong"}
    refused = world.call({**server, "auth": {"oauth": oauth}}, "echo")
    assert "the token endpoint answered 400 invalid_client" in refused.value["error"]
    assert "wrong" not in json.dumps(refused.value)


def test_a_server_that_forgot_the_session_is_asked_for_a_new_one(world: World) -> None:
    server = world.http()
    assert world.call(server, "echo", {"x": "a"}).ok
    world.notes.with_suffix(".401").touch()
    refused = world.call(server, "echo", {"x": "a"})
    assert "401" in refused.value["error"]
    world.notes.with_suffix(".401").unlink()
    assert world.call(server, "echo", {"x": "b"}).value == "b"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"command": ["/no/such/program"]}, "No such file or directory"),
        ({"command": [sys.executable, "-c", "raise SystemExit('no licence')"]}, "no licence"),
        ({"url": "http://127.0.0.1:9/"}, "connection attempts failed"),
        (
            {"command": [sys.executable, "-c", "import time; time.sleep(60)"], "timeoutSeconds": 1},
            "did not answer within 1 s",
        ),
    ],
)
def test_a_server_that_is_not_there_is_said_in_words(
    world: World, spec: dict[str, Any], words: str
) -> None:
    refused = world.call(spec, "echo")
    assert not refused.ok
    assert words in refused.value["error"]


def test_two_owners_share_no_process(world: World) -> None:
    server = world.stdio()

    def pid(owner: str | None) -> str:
        settings = {"tool": "pid", "pin": raw_pin("pid"), "server": server, "owner": owner}
        return str(world.tool.run({}, Call("srv.pid", "key", settings=settings)).value)

    mine, yours = pid("one/srv"), pid("two/srv")
    assert mine != yours
    assert pid("one/srv") == mine
    assert len({pid(None), pid(None), mine, yours}) == 4, "a call without an owner shares nothing"


def test_no_process_is_left_when_the_sessions_are_closed(world: World) -> None:
    pid = int(world.call(world.stdio(), "pid").value)
    os.kill(pid, 0)
    world.sessions.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/"])
def test_a_url_leads_into_the_hosts_own_networks_only_where_it_allows_that(
    world: World, url: str
) -> None:
    reached = world.call({"url": url}, "echo")
    assert "connection attempts failed" in reached.value["error"]
    sessions = Sessions(Home())
    world.tool = McpTool(Host(), sessions)
    refused = world.call({"url": url}, "echo")
    sessions.close()
    assert "a network of this worker's own" in refused.value["error"]
    oauth = {"tokenUrl": url, "clientId": "me"}
    sessions = Sessions(Home())
    world.tool = McpTool(Host(), sessions)
    public = {"url": "http://192.0.2.1/", "auth": {"oauth": oauth}, "timeoutSeconds": 5}
    token = world.call(public, "echo", timeout_seconds=5)
    sessions.close()
    assert "a network of this worker's own" in token.value["error"]


def test_a_command_is_started_only_where_the_machine_allows_it(world: World) -> None:
    world.tool = McpTool(Host(allowed=frozenset({"/usr/bin/other"})), world.sessions)
    refused = world.call(world.stdio(), "echo")
    assert refused.value["error"] == f'this worker may not run "{sys.executable}" for a skill'
    assert world.noted() == []
    assert world.call(world.http(), "echo", {"x": "a"}).ok, "a URL starts nothing"
