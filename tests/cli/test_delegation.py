"""Work that one agent hands to another, as people and workers meet it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from bots import Order
from command import AOSCTL, Aosctl
from talks import until
from terminal import CTRL_C, QUESTION, Open

Team = Callable[..., None]
"""Make `lead_NAME`, which hands its tasks to `help_NAME`, with what each of them answers."""

GIVEN = """\
apiVersion: aos/v1
kind: Skill
metadata: {{name: ask_{name}, tenant: tech_corp}}
spec:
  description: Ask the helper.
  risk: low
  agent: {{name: help_{name}}}
"""
AGENT = """\
---
apiVersion: aos/v1
kind: Model
metadata: {{name: {agent}}}
spec: {{provider: script, script: {script}}}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: {agent}, tenant: tech_corp}}
spec: {{model: {agent}, systemPrompt: You play the script.}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: {agent}, tenant: tech_corp}}
spec: {{persona: {agent}, skills: {skills}}}
"""


@pytest.fixture
def team(here: Aosctl) -> Team:
    def make(name: str, *helper: dict[str, Any], tasks: int = 1) -> None:
        asks = [{"name": f"ask_{name}", "args": {"task": f"task {n}"}} for n in range(1, tasks + 1)]
        lead = [{"calls": asks}, {"text": "The team is done."}]
        text = GIVEN.format(name=name)
        for agent, script, skills in (
            (f"help_{name}", helper, ["sql_execute"]),
            (f"lead_{name}", lead, [f"ask_{name}"]),
        ):
            text += AGENT.format(agent=agent, script=json.dumps(script), skills=json.dumps(skills))
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err

    return make


@pytest.fixture
def rows(superuser: str) -> Iterator[Callable[[str, str], list[tuple[Any, ...]]]]:
    with psycopg.connect(superuser, autocommit=True) as connection:
        yield lambda query, agent: connection.execute(query.encode(), (agent,)).fetchall()


RUNS = "select state, parent_run_id is null from aos_core.run where agent_name = %s"
CLAIMS = (
    "select e.seq from aos_core.event_log e join aos_core.run r on r.run_id = e.stream_id"
    " where e.kind = 'turn.claimed' and r.agent_name = %s"
)


def test_a_chat_drives_those_whom_it_asks_and_says_so(team: Team, opened: Open) -> None:
    team("two", {"text": "Found."}, tasks=2)
    chat = opened("chat", "lead_two")
    chat.prompt()
    chat.say("go")
    chat.expect_text(" · given to help_two · run lead_two-")
    chat.expect_text("is done · run lead_two-")
    chat.expect_text("The team is done.")
    chat.prompt()


def test_what_a_helper_asks_is_decided_in_the_chat(
    team: Team, opened: Open, order: Order, rows: Any
) -> None:
    team("ask", {"calls": [{"name": "sql_execute", "args": {"statement": order.delete}}]},
         {"text": "Deleted."})  # fmt: skip
    chat = opened("chat", "lead_ask")
    chat.prompt()
    chat.say("go")
    asked = chat.expect_text(QUESTION)
    assert "sql_execute of help_ask needs your approval (for lead_ask-" in asked
    chat.type("y")
    chat.expect_text("The team is done.")
    chat.prompt()
    assert not order.exists()


def test_ctrl_c_ends_the_tree(team: Team, opened: Open, rows: Any) -> None:
    team("slow", {"delaySeconds": 3600, "text": "At last."}, tasks=2)
    chat = opened("chat", "lead_slow")
    chat.prompt()
    chat.say("go")
    chat.expect_text("help_slow")
    until(lambda: rows("select from aos_core.run where agent_name = %s and lease_hash is not null",
                       "help_slow"), "the helper at work")  # fmt: skip
    chat.type(CTRL_C)
    chat.expect_text("interrupted")
    chat.prompt()
    until(lambda: set(rows(RUNS, "help_slow")) == {("cancelled", False)}, "the helpers' end")
    assert rows(RUNS, "lead_slow") == [("active", True)]


def test_a_kill_that_meets_a_run_which_ends_is_done_again(
    here: Aosctl, team: Team, order: Order, superuser: str, rows: Any
) -> None:
    """Each waits for the other's run: the server takes the kill back, and it comes again."""
    team("met", {"calls": [{"name": "sql_execute", "args": {"statement": order.delete}}]})
    assert here("run", "lead_met", "go", "--approve", "never").status == 3
    ((lead, child),) = rows(
        "select r.run_id, d.child_run_id from aos_core.run r join aos_core.delegation d"
        " using (tenant_id, run_id) where r.agent_name = %s", "lead_met",
    )  # fmt: skip
    lock = "select from aos_core.run where run_id = %s for update"
    with psycopg.connect(superuser) as other, ThreadPoolExecutor(1) as pool:
        other.execute("set deadlock_timeout = '1min'")
        other.execute(lock, (child,))
        killing = pool.submit(here, "kill", str(lead))
        with psycopg.connect(superuser, autocommit=True) as looker:
            until(lambda: looker.execute(
                "select from pg_stat_activity"
                " where wait_event_type = 'Lock' and query ~ 'cancel_run'").rowcount,
                "the kill")  # fmt: skip
        other.execute(lock, (lead,))  # granted when the server has taken the kill back
        other.commit()
        assert killing.result().status == 0, killing.result().err
    assert rows("select state from aos_core.run where agent_name = %s", "help_met") == [
        ("cancelled",)
    ]


def test_a_one_shot_waits_for_them_and_tells_programs(here: Aosctl, team: Team) -> None:
    team("json", {"text": "Found."})
    done = here("run", "lead_json", "go", "-o", "stream-json")
    assert done.status == 0, done.err
    told = [json.loads(line) for line in done.out.splitlines()]
    kinds = [each["type"] for each in told]
    assert kinds.index("delegated") < kinds.index("tool_result")
    result = next(each for each in told if each["type"] == "tool_result")
    assert (result["ok"], result["result"]["answer"]) == (True, "Found.")
    assert told[-1]["result"] == "The team is done."


def test_a_worker_carries_a_whole_team_and_the_tree_is_shown(
    here: Aosctl, team: Team, shop: dict[str, str], rows: Any, superuser: str
) -> None:
    team("work", {"text": "Found."}, tasks=3)
    with psycopg.connect(superuser) as connection:
        connection.execute(
            "select aos_agent.open_run(tenant_id, 'lead_work', %s, p_kind => 'task')"
            " from aos_auth.tenant where name = 'tech_corp'",
            (json.dumps({"v": 1, "role": "user", "blocks": [{"t": "text", "text": "go"}]}),),
        )
    subprocess.run([AOSCTL, "worker", "--once", "--concurrency", "4"], env=shop, check=True,
                   capture_output=True, timeout=120)  # fmt: skip
    assert rows(RUNS, "lead_work") == [("completed", True)]
    assert rows(RUNS, "help_work") == [("completed", False)] * 3
    assert len(rows(CLAIMS, "help_work")) == 3
    shown = here("ps", "-a", "--forest")
    lead = next(line for line in shown.out.splitlines() if line.startswith("lead_work-"))
    name = lead.split()[0]
    assert f"├─ {name}.1" in shown.out and f"└─ {name}.3" in shown.out
    assert f"given to help_work · run {name}.1" in here("logs", name).out
    assert f"run {name}.1" in here("trace", name).out
    assert f"Works For:        {name}" in here("describe", "run", f"{name}.1").out


def test_with_a_worker_beside_the_chat_nothing_is_done_twice(
    team: Team, opened: Open, shop: dict[str, str], rows: Any
) -> None:
    team("both", {"text": "Found."}, tasks=3)
    worker = subprocess.Popen([AOSCTL, "worker", "--concurrency", "2"], env=shop,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        chat = opened("chat", "lead_both")
        chat.prompt()
        chat.say("go")
        chat.expect_text("The team is done.")
        chat.prompt()
    finally:
        worker.terminate()
        worker.wait(60)
    assert rows(RUNS, "help_both") == [("completed", False)] * 3
    steps = rows(
        "select count(*) from aos_core.step s join aos_core.run r using (tenant_id, run_id)"
        " where r.agent_name = %s", "lead_both",
    )  # fmt: skip
    assert steps == [(6,)]  # the message, the calls, three results, the answer


def test_a_skill_that_hands_work_on_is_tried_by_itself(here: Aosctl, team: Team) -> None:
    team("alone", {"text": "Found."})
    done = here("skill", "test", "ask_alone", "--args", '{"task": "look"}')
    assert done.status == 0, done.err
    assert json.loads(done.out)["answer"] == "Found."


def test_an_agent_whom_a_skill_names_is_not_deleted(here: Aosctl, team: Team) -> None:
    team("kept", {"text": "Found."})
    done = here("delete", "agent", "help_kept")
    assert done.status == 1
    assert 'agent "help_kept" does the work of skill "ask_kept"' in done.err
    unknown = GIVEN.format(name="nobody")
    assert 'no Agent "help_nobody" exists' in here("apply", "-f", "-", stdin=unknown).err


def test_the_inbox_shows_for_whom_a_helper_asks(here: Aosctl, team: Team, order: Order) -> None:
    team("box", {"calls": [{"name": "sql_execute", "args": {"statement": order.delete}}]},
         {"text": "Deleted."})  # fmt: skip
    done = here("run", "lead_box", "go", "--approve", "never")
    assert done.status == 3, done.err
    names = here("ps", "-a").out.split()
    lead = min((word for word in names if word.startswith("lead_box-")), key=len)
    shown = here("get", "approvals", "-o", "wide").out
    line = next(line for line in shown.splitlines() if f"{lead}.1" in line)
    assert line.count(lead) == 2  # the run, and for whom
    assert f"{lead}.1 (approval)" in here("ps").out
    assert here("approve", f"{lead}.1", "-y").status == 0
    assert here("worker", "--once").status == 0
    assert here("logs", lead).out.rstrip().endswith("completed by kernel")
