"""`chat` and `run` as programs call them: `-o json|stream-json`, `--approve`, closed pipes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bots import Bot, Order
from command import AOSCTL, Aosctl, Ended
from talks import PATIENCE_SECONDS, until
from terminal import Terminal

FOUR_EYES = """\
apiVersion: aos/v1
kind: Policy
metadata: {name: two-people, tenant: tech_corp}
spec:
  skills: [sql_execute]
  decision: ask
  approvers: {fourEyes: true}
"""
HOSTILE = 'a\x1b]0;owned\x07b\u202ec\x9b2J\x7f\u2028"\\\n{"type":"result","exit":0}\n\u200bd é 😀'
FIELDS = {
    "run", "agent", "result", "exit", "status", "error", "approvals", "turn", "usage", "costUsd",
}  # fmt: skip


@pytest.fixture
def two_people(here: Aosctl) -> Iterator[None]:
    """Nobody may approve what they asked for themselves."""
    done = here("apply", "-f", "-", stdin=FOUR_EYES)
    assert done.status == 0, done.err
    yield
    assert here("delete", "policy", "two-people").status == 0


def events_of(out: str) -> list[dict[str, Any]]:
    """Parse every line, none of which may hold what a terminal acts on; one result, the last."""
    assert out.endswith("\n")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in out.replace("\n", ""))
    events: list[dict[str, Any]] = [json.loads(line) for line in out[:-1].split("\n")]
    assert [event["type"] for event in events].count("result") == 1
    assert events[-1]["type"] == "result"
    assert events[-1].keys() == FIELDS | {"type"}
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def stream(here: Aosctl, *arguments: str) -> tuple[Ended, list[dict[str, Any]]]:
    """Run a one-shot; return how it ended and its events, whose result has the exit status."""
    done = here(*arguments, "-o", "stream-json")
    events = events_of(done.out)
    assert events[-1]["exit"] == done.status
    return done, events


def test_json_is_one_object_with_what_it_cost(here: Aosctl, bot: Bot) -> None:
    name = bot("priced", {"text": "one", "usage": {"in": 10, "out": 5}}, {"text": "two"})
    first = json.loads(here("chat", name, "-p", "hello", "-o", "json").out)
    assert first.keys() == FIELDS
    assert (first["result"], first["status"], first["exit"], first["turn"]) == (
        "one", "completed", 0, 1,
    )  # fmt: skip
    assert first["usage"] == {"inputTokens": 10, "outputTokens": 5}
    assert (first["error"], first["approvals"], first["costUsd"]) == (None, [], 0)
    second = json.loads(here("chat", "-c", name, "again", "-o", "json").out)
    assert (second["run"], second["turn"], second["result"]) == (first["run"], 2, "two")
    assert second["usage"] == {"inputTokens": 0, "outputTokens": 0}


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_stream_tells_what_happens_in_order(here: Aosctl, bot: Bot, verb: str) -> None:
    call = {"name": "sql_query", "args": {"query": "select 7 as seven"}}
    name = bot(f"streamer-{verb}", {"text": "Let me look.", "calls": [call]}, {"text": "It is 7."})
    done, events = stream(here, verb, name, "how many?")
    assert done.status == 0
    told = [k for i, k in enumerate(kinds(events)) if i == 0 or k != kinds(events)[i - 1]]
    assert told == ["init", "message", "tool_use", "tool_result", "message", "result"]
    said = "".join(event["text"] for event in events if event["type"] == "message")
    assert said == "Let me look.It is 7."
    use = events[kinds(events).index("tool_use")]
    result = events[kinds(events).index("tool_result")]
    assert (use["name"], use["args"]) == ("sql_query", {"query": "select 7 as seven"})
    assert (result["id"], result["ok"], result["result"]["rows"]) == (use["id"], True, [[7]])
    assert events[0]["run"] == events[-1]["run"] and events[0]["agent"] == name
    assert events[-1]["result"] == "It is 7."


def test_hostile_text_stays_inside_its_json_string(here: Aosctl) -> None:
    """What the database says, the model says too; the answer puts white space in one."""
    escaped = "".join(c if c.isalnum() and c.isascii() else f"\\+{ord(c):06x}" for c in HOSTILE)
    question = f"select U&'{escaped}' as t;"
    for settings in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = here("chat", "my_pg_bot", question, "-o", "stream-json", **settings)
        events = events_of(done.out)
        result = events[kinds(events).index("tool_result")]
        assert result["result"]["rows"] == [[HOSTILE]]
        said = "".join(event["text"] for event in events if event["type"] == "message")
        for answer in (said, events[-1]["result"]):
            assert "a\x1b]0;owned\x07b\u202ec\x9b2J\x7f" in answer
        assert "\x1b" not in done.err
        assert done.out.isascii() == bool(settings)
    whole = here("chat", "my_pg_bot", question, "-o", "json").out
    assert "\x1b]0;owned" in json.loads(whole)["result"] and "\x1b" not in whole


def test_failed_turn_ends_in_a_result(here: Aosctl, bot: Bot) -> None:
    name = bot("torn", {"error": {"kind": "bad_request", "message": "no such model"}})
    done, events = stream(here, "chat", name, "hello")
    assert (done.status, done.err) == (4, "error: no such model\n")
    assert (events[-1]["status"], events[-1]["error"]) == ("failed", "no such model")


def test_limit_ends_in_a_result(here: Aosctl, bot: Bot) -> None:
    call = {"calls": [{"name": "sql_query", "args": {"query": "select 1"}}]}
    done, events = stream(here, "chat", bot("bounded", *[call] * 5, maxSteps=2), "hello")
    assert (done.status, events[-1]["status"]) == (5, "limited")
    assert "steps in one turn" in events[-1]["error"]


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("chat", "nobody-here", "hi"), 1, 'agent "nobody-here" not found'),
        (("run", "nobody-here", "hi"), 1, 'agent "nobody-here" not found'),
        (("chat", "my_pg_bot"), 2, "no message"),
        (("run", "my_pg_bot"), 2, "no task"),
        (("chat", "my_pg_bot", "a", "-p", "b"), 2, "the message is given twice"),
        (("chat", "my_pg_bot", "-p", "--quiet", "a"), 2, "-p takes the message, and --quiet"),
        (("chat", "-c", "--resume", "x"), 2, "-c and --resume exclude each other"),
        (("chat", "my_pg_bot", "hi", "--approve=perhaps"), 2, "--approve is one of ask, auto"),
        (("run", "my_pg_bot", "hi", "--approve=auto", "--wait"), 2, "exclude each other"),
    ],
)
def test_what_fails_before_the_answer_ends_in_a_result_too(
    here: Aosctl, arguments: tuple[str, ...], status: int, error: str
) -> None:
    done, events = stream(here, *arguments)
    assert done.status == status
    (result,) = events
    assert error in result["error"] and error in done.err
    assert (result["status"], result["result"]) == ("error", "")
    told = json.loads(here(*arguments, "-o", "json").out)
    assert told == {name: value for name, value in result.items() if name != "type"}


def test_no_database_ends_in_a_result_without_the_password(aosctl: Aosctl) -> None:
    dsn = "postgresql://me:hunter2secret@127.0.0.1:1/none"
    done = aosctl("chat", "bot", "hi", "-o", "stream-json", AOSCTL_DSN=dsn)
    (result,) = events_of(done.out)
    assert done.status == result["exit"] == 1
    assert "hunter2secret" not in done.out + done.err


def test_pending_approval_is_told_and_ends_in_a_result(here: Aosctl, order: Order) -> None:
    done, events = stream(here, "chat", "my_pg_bot", order.delete)
    assert done.status == 3
    asked = events[kinds(events).index("approval_requested")]
    assert order.delete in asked["args"].values()
    assert events[-1]["status"] == "waiting"
    assert events[-1]["approvals"] == [asked["approval"]]
    assert here("approve", asked["approval"]).status == 0
    done, events = stream(here, "chat", "--resume", events[-1]["run"])
    assert done.status == 0
    assert events[-1]["result"].endswith("Done: 1 row affected.")
    assert not order.exists()


def test_approve_auto_approves_as_the_person_and_says_so(here: Aosctl, order: Order) -> None:
    done, events = stream(here, "run", "my_pg_bot", order.delete, "--approve=auto")
    assert done.status == 0, done.err
    assert f"approved by --approve=auto: sql_execute({order.delete}) · " in done.err
    assert kinds(events).count("approval_requested") == 1
    decided = events[kinds(events).index("approval_decided")]
    assert (decided["decision"], decided["reason"]) == ("approved", "aosctl --approve=auto")
    assert events[-1]["approvals"] == []
    assert not order.exists()


@pytest.mark.usefixtures("two_people")
def test_approve_auto_approves_nothing_that_a_policy_forbids(here: Aosctl, order: Order) -> None:
    done, events = stream(here, "run", "my_pg_bot", order.delete, "--approve=auto")
    assert done.status == 3
    assert f"not approved: sql_execute({order.delete})" in done.err
    assert "approval_decided" not in kinds(events)
    assert len(events[-1]["approvals"]) == 1
    assert order.exists()


def test_approve_never_parks_the_run_at_a_terminal_too(shop: dict[str, str], order: Order) -> None:
    with Terminal(shop, "run", "my_pg_bot", order.delete, "--approve=never") as terminal:
        terminal.expect_text("waits for approval")
        assert terminal.status() == 3
        assert "n deny · e edit" not in terminal.seen
    assert order.exists()


@pytest.mark.parametrize("flag", ["-o stream-json", "--approve=never"])
def test_a_prompt_has_no_flags_of_one_message(shop: dict[str, str], flag: str) -> None:
    with Terminal(shop, "chat", "my_pg_bot", *flag.split()) as terminal:
        terminal.expect_text("belongs to a message")
        assert terminal.status() == 2


def begin(shop: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [AOSCTL, *arguments, "-o", "stream-json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=shop,
    )


def test_ctrl_c_ends_in_a_result(shop: dict[str, str], bot: Bot) -> None:
    process = begin(shop, "chat", bot("late", {"text": "late", "delaySeconds": 3600}), "hello")
    assert process.stdout is not None
    first = process.stdout.readline()  # the run is known before the model has said a word
    assert json.loads(first)["type"] == "init"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    events = events_of(first + out)
    assert process.returncode == events[-1]["exit"] == 130
    assert events[-1]["status"] == events[-1]["error"] == "interrupted"
    assert f"interrupted · run {events[-1]['run']} kept" in err


def test_closed_pipe_stops_the_turn_quietly_and_keeps_the_run(
    shop: dict[str, str], here: Aosctl, bot: Bot
) -> None:
    """Nobody pays for an answer that nobody reads."""
    call = {"name": "sql_query", "args": {"query": "select 1"}}
    script = {"text": "Let me look.", "calls": [call], "delaySeconds": 1}
    name = bot("unread", script, {"text": "late", "delaySeconds": 3600})
    process = begin(shop, "chat", name, "hello")
    assert process.stdout is not None and process.stderr is not None
    init = json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_SECONDS) == 141
    assert "error" not in process.stderr.read()
    process.stderr.close()
    rows = json.loads(here("get", "turns", "-o", "json").out)["items"]
    (turn,) = [row for row in rows if init["run"] in json.dumps(row["metadata"])]
    assert turn["status"]["state"] == "cancelled"


def test_head_takes_one_line(shop: dict[str, str]) -> None:
    line = f'set -o pipefail; {AOSCTL} chat my_pg_bot "select 1 as a;" -o stream-json | head -1'
    done = subprocess.run(
        ["bash", "-c", line], env=shop, capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["type"] == "init"
    assert "Traceback" not in done.stderr and "error" not in done.stderr


def test_full_disk_is_told_and_fails(shop: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [AOSCTL, "chat", "my_pg_bot", "select 1 as a;", "-o", "json"],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, env=shop,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "can't write the output" in done.stderr


def test_two_programs_in_one_run_have_a_result_each(here: Aosctl, bot: Bot) -> None:
    name = bot("shared", *({"text": str(number)} for number in range(4)))
    run = json.loads(here("chat", name, "first", "-o", "json").out)["run"]
    events = [stream(here, "chat", "--resume", run, "-p", "next")[1] for _ in range(2)]
    assert [each[-1]["result"] for each in events] == ["1", "2"]
    assert [each[-1]["turn"] for each in events] == [2, 3]
    until(lambda: run in here("ps", "-a").out, "the run")


# Limits of one run

LOOK = {"calls": [{"name": "sql_query", "args": {"query": "select 1"}}]}


def priced(here: Aosctl, bot: Bot, name: str, *script: dict[str, object], **limits: float) -> str:
    """Make an agent whose model costs a dollar for a million tokens."""
    bot(name, *script, **limits)
    patch = '{"spec": {"pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 1}}}'
    done = here("patch", "model", name, "-p", patch)
    assert done.status == 0, done.err
    return name


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_max_steps_stops_the_run_at_the_limit(here: Aosctl, bot: Bot, verb: str) -> None:
    name = bot(f"stepper-{verb}", *[LOOK] * 3, {"text": "done"})
    done, events = stream(here, verb, name, "go", "--max-steps", "2")
    assert (done.status, events[-1]["status"]) == (5, "limited")
    assert "limit: 2 steps in one turn" in done.err
    assert kinds(events).count("tool_use") == 1
    free, events = stream(here, verb, name, "go", "--max-steps", "20")
    assert (free.status, events[-1]["result"]) == (0, "done")


def test_max_turns_is_how_often_the_model_is_asked(here: Aosctl, bot: Bot) -> None:
    name = bot("asker-turns", *[LOOK] * 2, {"text": "done"})
    done, events = stream(here, "run", name, "go", "--max-turns", "2", "--name", "two-turns")
    assert (done.status, events[-1]["status"]) == (5, "limited")
    assert "limit: the model was asked 2 times for one message; aosctl resume two-turns" in done.err
    assert kinds(events).count("tool_use") == 2
    assert here("resume", "two-turns", "--max-turns", "3").out == "run.aos/two-turns resumed\n"
    again = here("chat", "--resume", "two-turns")
    assert (again.status, again.out) == (0, "done\n")


def test_a_task_for_a_worker_has_the_limits_of_its_flags(
    here: Aosctl, bot: Bot, superuser: str
) -> None:
    name = bot("left-alone", {"text": "done"}, maxSteps=9)
    flags = ("--budget", "0.5", "--max-steps", "20", "--max-turns", "4")
    done = here("run", "-d", name, "go", *flags, "--name", "capped-task")
    assert (done.status, done.out) == (0, "run.aos/capped-task created\n")
    with psycopg.connect(superuser) as connection:
        row = connection.execute(
            "select r.max_usd::float8, r.max_steps, m.max_turns, r.open_turn_id is not null"
            " from aos_core.run r join aos_core.meter m using (run_id) where r.name = 'capped-task'"
        ).fetchone()
    assert row == (0.5, 9, 4, True)


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_budget_stops_the_run_before_it_is_passed(here: Aosctl, bot: Bot, verb: str) -> None:
    used = {"usage": {"in": 20_000, "out": 10}}
    name = priced(here, bot, f"payer-{verb}", LOOK | used, {"text": "done"})
    done, events = stream(here, verb, name, "go", "--budget", "0.021")
    assert (done.status, events[-1]["status"]) == (5, "limited"), done.err
    assert "budget: $0.0200 spent of $0.021" in done.err
    assert events[-1]["costUsd"] == pytest.approx(0.02001)
    free, events = stream(here, verb, name, "go", "--budget", "$5")
    assert (free.status, events[-1]["result"]) == (0, "done")


def test_a_flag_lowers_the_limit_of_the_agent_and_never_raises_it(here: Aosctl, bot: Bot) -> None:
    name = bot("strict", *[LOOK] * 3, {"text": "done"}, maxSteps=2, maxUsd=1)
    done = here("run", name, "go", "--max-steps", "100", "--budget", "100", "--name", "raised")
    assert done.status == 5
    assert "limit: 2 steps in one turn" in done.err


def test_what_could_not_begin_leaves_no_run(here: Aosctl, bot: Bot) -> None:
    name = bot("named", {"text": "one"}, {"text": "two"})
    first = here("run", name, "go", "--name", "only", "--budget", "1")
    assert (first.status, first.out) == (0, "one\n")
    second = here("run", name, "go", "--name", "only", "--budget", "1")
    assert second.status == 1 and 'run "only" already exists' in second.err
    assert here("ps", "-a").out.count(f" {name} ") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("chat", "my_pg_bot", "hi", "--budget", "much"), '"much" is no sum of US dollars'),
        (("chat", "my_pg_bot", "hi", "--budget", "-1"), '"-1" is no sum of US dollars'),
        (("run", "my_pg_bot", "hi", "--max-steps", "0"), "--max-steps"),
        (("run", "my_pg_bot", "hi", "--max-steps", "3000000000"), "--max-steps is at most"),
        (("chat", "-c", "my_pg_bot", "hi", "--budget", "1"), "limits are set when a run begins"),
        (("run", "my_pg_bot", "hi", "--max-turns", "3000000000"), "--max-turns is at most"),
        (("run", "my_pg_bot", "hi", "--max-turns", "0"), "--max-turns"),
    ],
)
def test_wrong_limits_are_refused(here: Aosctl, arguments: tuple[str, ...], text: str) -> None:
    done = here(*arguments)
    assert (done.status, done.out) == (2, "")
    assert text in done.err


# A schema for the answer

SCHEMA = {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "integer"}}}


@pytest.fixture
def schema(tmp_path: Path) -> str:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(SCHEMA))
    return str(path)


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_the_answer_is_json_of_the_schema(here: Aosctl, bot: Bot, schema: str, verb: str) -> None:
    """A task too is sent back before it is over; stdout has the JSON alone, -o json the object."""
    name = bot(f"counter-{verb}", {"text": "three rows"}, {"text": '```json\n{"rows": 3}\n```'})
    done = here(verb, name, "count", "--output-schema", schema)
    assert (done.status, done.out) == (0, '{"rows": 3}\n'), done.err
    done = here(verb, name, "count", "--output-schema", schema, "-o", "json")
    assert json.loads(done.out)["result"] == {"rows": 3}


def test_an_answer_that_does_not_fit_twice_is_status_4(here: Aosctl, bot: Bot, schema: str) -> None:
    name = bot("mumbler", {"text": '{"rows": "many"}'}, {"text": "{}"})
    said = "the answer does not satisfy the JSON Schema: $: 'rows' is a required property"
    done = here("chat", name, "count", "--output-schema", schema)
    assert (done.status, done.out) == (4, "") and f"error: {said}\n" in done.err
    done = here("run", name, "count", "--output-schema", schema, "-o", "json")
    told = json.loads(done.out)
    assert (done.status, told["exit"], told["status"], told["error"]) == (4, 4, "failed", said)
    assert told["result"] == "{}"


def test_a_bad_schema_is_one_line_and_nothing_is_sent(
    here: Aosctl, tmp_path: Path, schema: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"type": 5}')
    before = here("ps", "-a", "-q").out
    done = here("chat", "my_pg_bot", "hi", "--output-schema", str(bad))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {bad}: $.type: 5 is not valid"), done.err
    done = here("run", "-d", "my_pg_bot", "hi", "--output-schema", schema)
    assert done.status == 2
    assert done.err == "error: -d and --output-schema exclude each other: -d does not wait\n"
    assert here("ps", "-a", "-q").out == before


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_sigterm_stops_the_turn_and_ends_in_a_result(
    shop: dict[str, str], here: Aosctl, bot: Bot, verb: str
) -> None:
    name = bot(f"ended-{verb}", {"text": "late", "delaySeconds": 3600})
    process = begin(shop, verb, name, "hello")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    events = events_of(first + out)
    assert process.returncode == events[-1]["exit"] == 143
    assert events[-1]["status"] == "interrupted" and "Traceback" not in err
    run = json.loads(here("get", "run", events[-1]["run"], "-o", "json").out)
    assert run["status"]["turnState"] == "cancelled"


def test_flags_of_how_it_is_said(here: Aosctl, shop_dsn: str) -> None:
    name, colour = "my_pg_bot", "\x1b[31mred"
    hostile = "select chr(27) || '[31mred' as how_it_is_said;"
    flags = ("--raw-output", "--no-stream", "--system", "Be brief.")
    said = here("chat", name, hostile).out
    assert "red" in said and colour not in said
    assert colour in here("chat", name, hostile, *flags).out
    assert colour in here("chat", name, hostile, *flags[:2], "--ephemeral").out
    assert colour in here("run", name, hostile, *flags).out
    assert here("run", "-d", name, hostile, "--system", "Be brief.").status == 0
    with psycopg.connect(shop_dsn) as connection:
        rows = connection.execute(
            "select r.kind, r.run_state, t.message #>> '{blocks,1,text}' from aos_core.run_status r"
            " join aos_core.transcript t on t.tenant_id = r.tenant_id and t.run_id = r.run_id"
            " where r.title like '%how_it_is_said%' and t.seq = 1 order by r.created_at"
        ).fetchall()
    (forgotten,) = here("ps", "-a", "--filter", "kind=ephemeral", "-o", "wide").out.splitlines()[1:]
    assert "completed" in forgotten and "ephemeral" in forgotten
    run = forgotten.split()[0]
    assert "how_it_is_said" not in here("logs", run).out
    assert "content.erased" in here("events", "--for", run, "-o", "json").out
    assert run not in here("chat", "-c", name, "hi").err
    brief = "\n\n[Instructions for this conversation, from who begins it]\nBe brief."
    assert rows == [
        ("conversation", "active", None), ("conversation", "active", brief),
        ("task", "completed", brief), ("task", "active", brief),
    ]  # fmt: skip
    for wrong, text in (
        (("chat", "-c", name, "hi", "--system", "x"), "--system and -c exclude each other"),
        (("chat", "-c", name, "hi", "--ephemeral"), "--ephemeral and -c exclude each other"),
        (("chat", name, "hi", "--system", " "), "--system is empty"),
        (("chat", name, "hi", "--no-stream", "-o", "json"), "-o and --no-stream exclude"),
        (("run", name, "hi", "--raw-output", "-o", "json"), "-o and --raw-output exclude"),
        (("run", "-d", name, "hi", "--no-stream"), "-d and --no-stream exclude"),
    ):
        done = here(*wrong)
        assert (done.status, done.out) == (2, "") or "result" in done.out
        assert text in done.err, done.err


def test_an_ephemeral_chat_that_waits_is_kept(here: Aosctl, order: Order) -> None:
    done = here("chat", "my_pg_bot", order.delete, "--ephemeral")
    assert done.status == 3
    run = next(
        word for line in done.err.splitlines() for word in line.split() if "my_pg_bot-" in word
    )
    assert json.loads(here("get", "run", run, "-o", "json").out)["status"]["state"] == (
        "awaiting_approval"
    )
    assert here("deny", run).status == 0 and here("kill", run).status == 0
    assert here("get", "run", run, "-o", "jsonpath={.spec.title}").out.strip() == ""
