"""`aosctl mcp tools|add|diff|approve`, and agents that use what they made, by real servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from bots import Bot
from command import Aosctl, Ended
from terminal import CTRL_C, Open, Terminal

RAW = Path(__file__).parents[1] / "mcp_servers" / "raw.py"
SERVER = """\
apiVersion: aos/v1
kind: McpServer
metadata: {{name: {name}, tenant: tech_corp}}
spec:
  command: {command}
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    made = tmp_path / "notes"
    made.touch()
    return made


@pytest.fixture
def allowed(here: Aosctl) -> Aosctl:
    """Run `aosctl` on a machine that starts the test's servers."""
    return partial(here, AOSCTL_ALLOW_COMMANDS=sys.executable)


_NUMBERS = count(1)


@pytest.fixture
def server(allowed: Aosctl, notes: Path) -> str:
    """An McpServer of this test alone."""
    name = f"raw{next(_NUMBERS)}"
    command = json.dumps([sys.executable, str(RAW), str(notes)])
    done = allowed("apply", "-f", "-", stdin=SERVER.format(name=name, command=command))
    assert done.status == 0, done.err
    return name


def swap(notes: Path, text: str) -> None:
    """Have the server describe its tool `echo` so from now on."""
    notes.with_suffix(".swap").write_text(text)


def calls(tool: str, **args: str) -> dict[str, object]:
    return {"calls": [{"name": f"raw.{tool}", "args": args}]}


AGENT = """\
apiVersion: aos/v1
kind: Agent
metadata: {{name: {name}, tenant: tech_corp}}
spec: {{persona: {name}, skills: [{skill}]}}
"""


@pytest.fixture
def user(allowed: Aosctl, bot: Bot, server: str) -> Callable[..., str]:
    """Make an agent that plays a script and may use a tool of the server, unasked."""

    def make(tool: str, *script: dict[str, object]) -> str:
        name, skill = f"{server}-{tool.replace('_', '-')}", f"{server}.{tool}"
        ok(allowed("mcp", "add", server, tool, "-y"))
        # Else its first result would taint the run, and the next call would be asked about.
        patch = json.dumps({"spec": {"approval": "never", "touches": ["change"]}})
        ok(allowed("patch", "skill", skill, "-p", patch))
        bot(name, *json.loads(json.dumps(script).replace("raw.", f"{server}.")))
        ok(allowed("apply", "-f", "-", stdin=AGENT.format(name=name, skill=skill)))
        return name

    return make


def ok(done: Ended) -> str:
    assert done.status == 0, done.err
    return done.out


def test_tools_are_listed_and_become_skills(allowed: Aosctl, server: str) -> None:
    rows = ok(allowed("mcp", "tools", server)).splitlines()
    assert rows[0].split() == ["TOOL", "STATE", "SKILL", "DESCRIPTION"]
    assert rows[1].split(maxsplit=3) == ["echo", "new", "<none>", "says what it was given"]
    assert ok(allowed("mcp", "tools", server, "-o", "name")).splitlines()[0] == "echo"
    assert ok(allowed("mcp", "tools", server, "--no-headers", "-o", "wide")).startswith("echo")
    made = allowed("mcp", "add", server, "echo", "pid", "--yes")
    assert ok(made) == f"skill.aos/{server}.echo created\nskill.aos/{server}.pid created\n"
    whole = json.loads(ok(allowed("mcp", "tools", server, "--output", "json")))["items"]
    states = {one["name"]: (one["state"], one.get("skill")) for one in whole}
    assert states["echo"] == ("approved", f"{server}.echo")
    assert states["fail"] == ("new", None)
    spec = json.loads(ok(allowed("get", "skill", f"{server}.echo", "-o", "json")))["spec"]
    assert spec["description"] == "says what it was given"
    assert spec["input"]["properties"] == {"x": {"type": "string"}}
    assert (spec["effect"], spec["risk"]) == ("unsafe", "high")
    assert spec["mcp"]["pin"] == whole[0]["pin"]
    row = ok(allowed("get", "mcpservers", "-o", "wide")).splitlines()[1].split()
    assert row[:3] == [server, "stdio", f"{server}.echo,{server}.pid"]
    refused = allowed("delete", "mcpserver", server)
    assert f"still has skills: {server}.echo, {server}.pid" in refused.err


def test_a_tool_that_runs_as_a_task_alone_becomes_no_skill(allowed: Aosctl, server: str) -> None:
    """As `simulate-research-query` of the reference server "everything": each call would fail."""
    assert ok(allowed("mcp", "tools", server)).splitlines()[-1].split()[:2] == [
        "study",
        "task-only",
    ]
    refused = allowed("mcp", "add", server, "study", "-y")
    assert (refused.status, refused.out) == (1, "")
    assert 'runs "study" as a task alone, which aosctl can\'t ask for' in refused.err
    made = allowed("mcp", "add", server, "--all", "-y")
    assert f"{server}.hinted created" in ok(made)
    assert "study" not in made.out + made.err
    assert "names them may use these skills" in made.err
    assert allowed("mcp", "diff", server).status == 0


def test_manifests_are_printed_and_apply_back(allowed: Aosctl, server: str) -> None:
    text = ok(allowed("mcp", "add", server, "--all", "-o", "yaml"))
    assert f"{server}.echo" not in ok(allowed("get", "skills", "-o", "name"))
    assert f"{server}.echo created" in ok(allowed("apply", "-f", "-", stdin=text))
    assert f"{server}.echo unchanged" in ok(allowed("apply", "-f", "-", stdin=text))
    assert {
        line.split()[1] for line in ok(allowed("mcp", "tools", server, "--no-headers")).splitlines()
    } == {"approved", "task-only"}
    assert allowed("mcp", "diff", server).status == 0
    none = allowed("mcp", "add", server, "--all")
    assert (none.status, none.out) == (0, "")


def test_nothing_is_added_unasked(allowed: Aosctl, server: str) -> None:
    refused = allowed("mcp", "add", server, "echo")
    assert refused.status == 2
    assert f"would add 1 tool of {server}" in refused.err
    tried = ok(allowed("mcp", "add", server, "echo", "-y", "--dry-run=server"))
    assert tried == f"skill.aos/{server}.echo created (server dry run)\n"
    assert ok(allowed("mcp", "add", server, "echo", "--dry-run", "client")).endswith("(dry run)\n")
    assert f"{server}.echo" not in ok(allowed("get", "skills", "-o", "name"))
    assert (
        f'{server} offers no tool "ecko"; did you mean "echo"?'
        in allowed("mcp", "add", server, "ecko").err
    )
    assert allowed("mcp", "add", server).status == 2
    assert allowed("mcp", "tools", "rav").err.count('mcpservers.aos "rav" not found') == 1


def test_what_a_server_says_of_its_tools_counts_when_it_is_believed(
    allowed: Aosctl, server: str
) -> None:
    for flags, effect in (((), "unsafe"), (("--trust-hints",), "read")):
        text = ok(allowed("mcp", "add", server, "hinted", "-o", "json", *flags))
        assert json.loads(text)["spec"].get("effect", "unsafe") == effect
    believed = allowed("mcp", "add", server, "hinted", "--trust-hints", "--yes")
    assert ok(believed) == f"skill.aos/{server}.hinted created\n"
    tried = ok(allowed("mcp", "approve", f"{server}.hinted", "-y", "--dry-run=server"))
    assert tried == f"skill.aos/{server}.hinted unchanged (server dry run)\n"
    risk = json.loads(ok(allowed("get", "skill", f"{server}.hinted", "-o", "json")))["spec"]
    assert (risk["effect"], risk["risk"]) == ("read", "medium")


def test_a_machine_that_does_not_allow_it_starts_nothing(
    here: Aosctl, server: str, notes: Path
) -> None:
    refused = here("mcp", "tools", server)
    assert refused.status == 1
    assert f'may not run "{sys.executable}"' in refused.err
    assert notes.read_text() == ""


def test_an_agent_calls_a_tool_until_it_changes_and_again_when_it_is_approved(
    allowed: Aosctl, server: str, notes: Path, user: Callable[..., str]
) -> None:
    name = user(
        "echo", calls("echo", x="first"), {"text": "one"}, calls("echo", x="second"),
        {"text": "two"}, calls("echo", x="third"), {"text": "three"},
    )  # fmt: skip
    first = json.loads(ok(allowed("chat", name, "-p", "go", "-o", "json")))
    assert notes.read_text().count("tools/call") == 1
    swap(notes, "sends it to me")
    ok(allowed("chat", "-c", name, "again"))
    assert notes.read_text().count("tools/call") == 1
    log = ok(allowed("logs", first["run"]))
    assert "changed since it was approved" in log
    assert "sends it to me" not in log
    disabled = json.loads(ok(allowed("get", "skill", f"{server}.echo", "-o", "json")))["status"]
    assert disabled["disabled"] == "the tool changed since it was approved"
    assert "mcp (disabled)" in ok(allowed("get", "skill", f"{server}.echo"))
    difference = allowed("mcp", "diff", server)
    assert difference.status == 1
    assert "-description: says what it was given\n+description: sends it to me\n" in difference.out
    assert f"hint: aosctl mcp approve {server}.echo" in difference.err
    asked = allowed("mcp", "approve", f"{server}.echo")
    assert (asked.status, asked.out) == (2, "")
    assert (
        ok(allowed("mcp", "approve", f"{server}.echo", "--yes"))
        == f"skill.aos/{server}.echo approved\n"
    )
    whole = json.loads(ok(allowed("get", "skill", f"{server}.echo", "-o", "json")))
    assert "disabled" not in whole["status"]
    assert whole["spec"]["description"] == "sends it to me"
    ok(allowed("chat", "-c", name, "and again"))
    assert notes.read_text().count("tools/call") == 2


def test_what_a_person_wrote_stays_and_a_change_back_is_enabled_too(
    allowed: Aosctl, server: str, notes: Path, user: Callable[..., str]
) -> None:
    words = json.dumps({"spec": {"description": "in our words"}})
    name = user("echo", calls("echo"), {"text": "one"})
    ok(allowed("patch", "skill", f"{server}.echo", "-p", words))
    swap(notes, "other")
    ok(allowed("chat", name, "-p", "go"))
    notes.with_suffix(".swap").unlink()
    assert allowed("mcp", "diff", server).status == 0
    assert "disabled" in ok(allowed("get", "skill", f"{server}.echo", "-o", "yaml"))
    ok(allowed("mcp", "approve", f"{server}.echo", "-y"))
    again = ok(allowed("get", "skill", f"{server}.echo", "-o", "yaml"))
    assert "disabled" not in again
    assert "in our words" in again


def test_a_new_server_under_the_name_voids_what_was_approved(
    allowed: Aosctl, server: str, notes: Path
) -> None:
    ok(allowed("mcp", "add", server, "echo", "-y"))
    before = json.loads(ok(allowed("get", "skill", f"{server}.echo", "-o", "json")))["metadata"]
    patch = json.dumps({"spec": {"cwd": str(notes.parent)}})
    ok(allowed("patch", "mcpserver", server, "-p", patch))
    after = json.loads(ok(allowed("get", "skill", f"{server}.echo", "-o", "json")))["metadata"]
    assert after["generation"] == before["generation"] + 1


def test_the_worker_answers_no_question_and_the_tool_hears_cancel(
    allowed: Aosctl, server: str, notes: Path, user: Callable[..., str]
) -> None:
    name = user("ask_form", calls("ask_form"), {"text": "done"})
    ok(allowed("run", name, "order", "-d"))
    ok(allowed("worker", "--once"))
    assert 'heard {"action": "cancel"}' in notes.read_text()


@pytest.fixture
def asking(user: Callable[..., str], opened: Open) -> Callable[..., Terminal]:
    """Open a chat in which the server asks."""

    def start(tool: str, **args: str) -> Terminal:
        name = user(tool, calls(tool, **args), {"text": "shipped"})
        terminal = opened("chat", name, AOSCTL_ALLOW_COMMANDS=sys.executable)
        terminal.prompt()
        terminal.say("order a shirt")
        return terminal

    return start


def test_a_form_is_filled_in_at_the_terminal(asking: Callable[..., Terminal], notes: Path) -> None:
    chat = asking("ask_form")
    seen = chat.expect_text("y answer")
    assert "ask_form asks you" in seen
    assert "Which size?" in seen
    chat.press("y")
    chat.expect_text("size:")
    chat.say("xl")
    chat.expect_text("one of these is expected: s, m")
    chat.say("m")
    chat.expect_text("y send")
    assert "  size: m\n" in chat.standing  # what is about to be sent, and stays to be read
    chat.press("y")
    chat.expect_text("answered")
    chat.expect_text("shipped")
    assert 'heard {"action": "accept", "content": {"size": "m"}}' in notes.read_text()
    chat.prompt()


@pytest.mark.parametrize(("key", "action"), [("n", "decline"), ("c", "cancel"), (CTRL_C, "cancel")])
def test_a_form_is_declined_or_cancelled_and_the_turn_goes_on(
    asking: Callable[..., Terminal], notes: Path, key: str, action: str
) -> None:
    chat = asking("ask_form")
    chat.expect_text("y answer")
    chat.press(key)
    chat.expect_text("shipped")
    assert f'heard {{"action": "{action}"}}' in notes.read_text()
    chat.prompt()


def test_a_url_is_shown_in_full_and_nobody_opens_it(
    asking: Callable[..., Terminal], notes: Path
) -> None:
    url = "https://pay.example.com/a/very/long/path?with=a&query=" + "x" * 80
    chat = asking("ask_url", x=url)
    seen = chat.expect_text("y done there")
    joined = "".join(line.strip("│ ") for line in seen.splitlines())
    assert url in joined.replace(" ", "")
    assert "Open it yourself" in seen
    chat.press("y")
    chat.expect_text("shipped")
    assert 'heard {"action": "accept"}' in notes.read_text()
    chat.prompt()


def test_a_page_to_be_opened_first_is_shown_and_the_call_goes_on(
    asking: Callable[..., Terminal], notes: Path
) -> None:
    chat = asking("visit_first")
    seen = chat.expect_text("y done there")
    assert "visit_first asks you" in seen and "Sign in" in seen
    assert "https://pay.example.com/1" in seen
    with notes.open("a") as file:
        file.write("visited\n")
    chat.press("y")
    chat.expect_text("shipped")
    assert notes.read_text().splitlines().count("called") == 2
    assert "error" not in chat.standing
    chat.prompt()


def test_off_a_person_the_model_reads_which_page_to_open_first(
    allowed: Aosctl, notes: Path, user: Callable[..., str]
) -> None:
    name = user("visit_first", calls("visit_first"), {"text": "please sign in"})
    done = allowed("run", name, "order", "-o", "stream-json")
    (result,) = [
        event["result"]
        for event in map(json.loads, ok(done).splitlines())
        if event["type"] == "tool_result"
    ]
    assert result["urls"] == ["https://pay.example.com/1"]
    assert result["error"].endswith("did nothing: a person has to open a page first: Sign in")
    assert notes.read_text().splitlines().count("called") == 1
