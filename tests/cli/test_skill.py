"""`aosctl skill test`, and skills of one's own from their manifest to their result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Aosctl
from terminal import Open

OWN = """\
apiVersion: aos/v1
kind: Skill
metadata: {{name: order_items}}
spec:
  description: The lines of one order.
  input:
    properties: {{order: {{type: integer}}}}
    required: [order]
    type: object
  sql:
    statement: |
      select p.name from shop.order_item i join shop.product p using (product_id)
      where i.order_id = :order order by 1
    grants:
    - {{schema: shop, tables: [order_item, product], privileges: [select]}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: rename}}
spec:
  description: Give a product another name.
  input:
    properties: {{id: {{type: integer}}, name: {{type: string}}}}
    type: object
  sql:
    statement: update shop.product set name = :name where product_id = :id
    grants:
    - {{schema: shop, tables: [product], privileges: [select, update]}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: shout}}
spec:
  description: Say a text aloud.
  effect: read
  touches: []
  input:
    properties: {{text: {{type: string}}}}
    type: object
  output: {{type: string}}
  python: {{entryPoint: "voice:shout", path: {folder}, env: {{MARK: "!"}}}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: clerk}}
spec:
  persona: pg_expert
  skills: [order_items, rename, shout]
"""


@pytest.fixture
def clerk(here: Aosctl, tmp_path: Path) -> Aosctl:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "voice.py").write_text(
        "import os\ndef shout(text='hm'): return 7 if text == 'odd' else text.upper()"
        " + os.environ['MARK']\n"
    )
    done = here("apply", "-f", "-", stdin=OWN.format(folder=folder))
    assert done.status == 0, done.err
    again = here("apply", "-f", "-", stdin=OWN.format(folder=folder))
    assert again.out.count("unchanged") == 4, again.out
    return here


def test_a_result_alone_goes_to_stdout_and_the_decision_to_stderr(clerk: Aosctl) -> None:
    done = clerk("skill", "test", "order_items", "--args", '{"order": 1}')
    assert done.status == 0, done.err
    assert json.loads(done.out)["columns"] == ["name"]
    assert "gate: allow · agent clerk" in done.err


@pytest.mark.parametrize("flag", ["-o", "--output"])
def test_a_call_is_json_for_programs(clerk: Aosctl, flag: str) -> None:
    call = ("skill", "test", "order_items", "--args", '{"order": 1}')
    whole = json.loads(clerk(*call, flag, "json").out)
    assert json.loads(whole["result"])["columns"] == ["name"] and whole["exit"] == 0
    done = clerk("skill", "test", "order_items", "--args", '{"order": 1}', flag, "stream-json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["type"] for line in lines][-1] == "result"


def test_a_skill_that_fails_says_why_and_the_status_is_1(clerk: Aosctl) -> None:
    done = clerk("skill", "test", "order_items", "--args", "{}")
    assert (done.status, done.out) == (1, "")
    assert 'invalid: parameter "order" is missing' in done.err
    odd = clerk("skill", "test", "shout", "--args", '{"text": "odd"}', AOSCTL_ALLOW_COMMANDS="*")
    assert odd.status == 1
    assert "does not fit spec.output" in json.loads(odd.out)["error"]


def test_a_python_function_runs_where_its_host_allows_it(clerk: Aosctl) -> None:
    call = ("skill", "test", "shout", "--args", '{"text": "hey"}')
    closed = clerk(*call)
    assert closed.status == 1
    assert 'may not run "voice:shout"' in json.loads(closed.out)["error"]
    allowed = clerk(*call, AOSCTL_ALLOW_COMMANDS="*")
    assert (allowed.status, allowed.out) == (0, '"HEY!"\n')


def test_a_dry_run_shows_what_would_be_decided_and_runs_nothing(clerk: Aosctl) -> None:
    call = ("skill", "test", "rename", "--args", '{"id": 1, "name": "x"}')
    runs = clerk("ps", "-a", "-q").out
    asked = clerk(*call, "--dry-run")
    assert (asked.status, asked.out) == (0, "ask\n  the skill's risk is high\n")
    said = json.loads(clerk(*call, "--dry-run", "-o", "json").out)
    assert said["decision"] == "ask" and said["agent"] == "clerk"
    denied = clerk("skill", "test", "sql_execute", "--agent", "clerk", "--dry-run")
    assert denied.status == 1 and denied.out.startswith("deny\n  this agent may not use")
    assert clerk("ps", "-a", "-q").out == runs


def test_what_needs_approval_is_parked_or_approved_as_oneself(clerk: Aosctl) -> None:
    call = ("skill", "test", "rename", "--args", '{"id": 1, "name": "Quill"}')
    parked = clerk("skill", "test", "rename", "--args", '{"id": 1, "name": "x"}', "--approve=never")
    assert (parked.status, parked.out) == (3, "")
    assert "waits for approval" in parked.err and "try: aosctl approve" in parked.err
    done = clerk(*call, "--approve", "auto")
    assert done.status == 0, done.err
    assert json.loads(done.out)["row_count"] == 1


def test_the_skill_is_named_its_agent_told_or_asked_for(clerk: Aosctl) -> None:
    nobody = clerk("skill", "test", "nothing")
    assert nobody.status == 1
    assert 'no agent may use a skill "nothing"' in nobody.err
    two = OWN.format(folder="/x").rpartition("---\n")[2].replace("clerk", "second")
    assert clerk("apply", "-f", "-", stdin=two).status == 0
    several = clerk("skill", "test", "order_items", "--args", '{"order": 1}')
    assert several.status == 1
    assert 'several agents may use "order_items": clerk, second' in several.err
    assert clerk("delete", "agent", "second").status == 0


@pytest.mark.parametrize("args", ["{", "[]", "1", ""])
def test_arguments_that_are_no_object_are_refused_before_anything_begins(
    clerk: Aosctl, args: str
) -> None:
    done = clerk("skill", "test", "order_items", "--args", args)
    assert done.status == 1 and "--args is no JSON" in done.err
    piped = clerk("skill", "test", "order_items", "--args", "-", stdin='{"order": 1}')
    assert piped.status == 0


def test_get_says_which_agents_may_use_a_skill_and_why(clerk: Aosctl) -> None:
    lines = clerk("get", "skill", "shout", "-o", "wide").out.splitlines()
    assert "clerk (role agent, in its skills)" in lines[1]
    assert lines[1].split()[1] == "python"


def test_an_approval_in_the_terminal_shows_what_would_change(clerk: Aosctl, opened: Open) -> None:
    screen = opened(
        "skill", "test", "rename", "--agent", "clerk", "--args", '{"id": 1, "name": "Ink"}'
    )
    screen.expect("Ink")
    screen.expect("approve")
    screen.type("y")
    screen.expect('"row_count": 1')
