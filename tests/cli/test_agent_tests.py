"""`aosctl test`: conversations that are played, what is told of them, and that nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import xmlschema
import yaml
from psycopg import sql

from aosctl.db.embedded import INSTALLER
from aosctl.db.test_databases import PREFIX
from aosctl.resources import resource_dir
from command import AOSCTL, Aosctl
from kernels import KernelDatabase
from postgres import Cluster
from talks import until

ROOT = Path(__file__).parents[2]
MANIFESTS = resource_dir("manifests")
XSD = Path(__file__).parents[1] / "junit" / "JUnit.xsd"
TENANT = """\
apiVersion: aos/v1
kind: Tenant
metadata: {name: bench}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: clerk, tenant: bench}
spec: {model: gpt-4o, systemPrompt: You keep notes.}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: clerk, tenant: bench}
spec:
  persona: clerk
  skills: [memory_store, memory_recall, now]
"""
HEAD = """\
apiVersion: aos/v1
kind: AgentTest
metadata: {name: notes, tenant: bench, labels: {team: data}}
spec:
  agent: clerk
  setup: [{apply: agent.yaml}]
  cases:
"""
PASSES = """\
  - name: it keeps a note
    labels: {kind: memory}
    script:
    - calls: [{name: memory_store, args: {key: colour, value: blue}}]
      usage: {in: 1000, out: 100}
    - text: Kept.
    steps:
    - say: Remember blue.
      expect:
        calls: [{skill: memory_store, args: {key: colour}, gate: allowed, state: succeeded}]
        answer: Kept
        sql: [{query: select state from aos_core.call_status, rows: [succeeded]}]
        atMost: {usd: 0.01, tokens: 1100, answers: 2, calls: 1}
"""
FAILS = """\
  - name: it says thank you
    script:
    - calls: [{name: memory_store, args: {key: colour, value: red}}]
    - text: Kept.
    steps:
    - say: Remember blue.
      expect:
        calls: [{skill: memory_store, args: {value: blue}}]
        answer: Thank you
"""
SLOW = """\
  - name: it takes its time
    script:
    - calls: [{name: memory_store, args: {key: colour, value: blue}}]
    - {text: Kept., delaySeconds: 60}
    steps:
    - say: Remember blue.
"""


@pytest.fixture(scope="module")
def maker(kernel_database: KernelDatabase) -> Iterator[str]:
    """The address of a login that may create databases, beside a kernel that holds something."""
    cluster = kernel_database.cluster
    with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
        superuser.execute(f"alter role {INSTALLER} createdb")
        yield cluster.dsn(INSTALLER, kernel_database.name)
        superuser.execute(f"alter role {INSTALLER} nocreatedb")


@pytest.fixture
def play(aosctl: Aosctl, maker: str, tmp_path: Path) -> Aosctl:
    """Run `aosctl` against that database."""
    (tmp_path / "agent.yaml").write_text(TENANT)
    return partial(aosctl, AOSCTL_DSN=maker)


def write(folder: Path, *cases: str) -> str:
    path = folder / "notes_test.yaml"
    path.write_text(HEAD + "".join(cases))
    return str(path)


def state(cluster: Cluster, database: str) -> dict[str, object]:
    """Return digests of every table and sequence of a database, and the server's names."""
    found: dict[str, object] = {}
    with psycopg.connect(cluster.dsn(dbname=database), autocommit=True) as connection:
        tables = connection.execute(
            "select c.oid::regclass::text, c.relkind from pg_class c join pg_namespace n"
            " on n.oid = c.relnamespace where c.relkind in ('r', 'S')"
            " and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
        ).fetchall()
        for name, _kind in tables:
            query = sql.SQL(
                "select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) from {} t"
            )
            found[name] = connection.execute(query.format(sql.SQL(name))).fetchone()
        for what, query in {
            "databases": "select datname from pg_database order by 1",
            "roles": "select rolname from pg_roles order by 1",
            "memberships": "select roleid::regrole::text, member::regrole::text"
            " from pg_auth_members order by 1, 2",
        }.items():
            found[what] = connection.execute(query).fetchall()
    return found


def leftovers(cluster: Cluster) -> list[str]:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        query = "select datname from pg_database where datname like %s order by 1"
        return [row[0] for row in connection.execute(query, (f"{PREFIX}%",)).fetchall()]


def until_there_are(cluster: Cluster, some: bool) -> None:
    """Wait until databases of tests are there, or are gone."""
    deadline = time.monotonic() + 60
    while bool(leftovers(cluster)) is not some:
        assert time.monotonic() < deadline, leftovers(cluster)
        time.sleep(0.02)


def test_the_worked_agents_do_what_their_tests_say(
    play: Aosctl, env: dict[str, str], tmp_path: Path
) -> None:
    """Each folder of manifests has its test, and the installed program plays them all."""
    folders = [MANIFESTS / "quickstart", *(p for p in (MANIFESTS / "examples").iterdir())]
    for folder in folders:
        if folder.is_dir() and folder.name != "scripted_test":
            assert list(folder.glob("*_test.yaml")), folder
    report = tmp_path / "results.xml"
    done = play("test", "-R", "-f", str(MANIFESTS), "--junit-xml", str(report))
    assert (done.status, done.err) == (0, ""), done.out
    assert re.search(r"^\d+ passed in ", done.out, re.MULTILINE)
    xmlschema.XMLSchema(XSD).validate(str(report))


def test_a_failure_says_what_was_expected_what_came_and_where(play: Aosctl, tmp_path: Path) -> None:
    path = write(tmp_path, PASSES, FAILS)
    done = play("test", "-f", path, "--junit-xml", str(tmp_path / "results.xml"))
    assert (done.status, done.err) == (1, "")
    text = re.sub(r"in [0-9.]+s", "in 0.00s", done.out.replace(f"{tmp_path}/", ""))
    assert text == (
        "notes_test.yaml .F\n"
        "\n"
        "── notes: it says thank you ── notes_test.yaml:21:5\n"
        "notes_test.yaml:28:17: spec.cases[1].steps[0].expect.calls[0]:"
        " the call was made otherwise\n"
        '  expected  memory_store {"value": "blue"}\n'
        '  came      memory_store {"key": "colour", "value": "red"} · allowed, succeeded\n'
        "notes_test.yaml:29:17: spec.cases[1].steps[0].expect.answer.contains:"
        " it is not in the answer\n"
        '  expected  "Thank you"\n'
        "  came      Kept.\n"
        "transcript:\n"
        "  turn 1: completed\n"
        "    you: Remember blue.\n"
        '    call: memory_store {"key": "colour", "value": "red"} · succeeded\n'
        "    agent: Kept.\n"
        "\n"
        "1 passed, 1 failed in 0.00s\n"
    )
    xmlschema.XMLSchema(XSD).validate(str(tmp_path / "results.xml"))
    assert "the call was made otherwise" in (tmp_path / "results.xml").read_text()


def test_mistakes_are_told_with_their_places_before_anything_is_played(
    play: Aosctl, tmp_path: Path
) -> None:
    wrong = """\
  - name: wrong
    script: [{text: Hi., calls: []}]
    steps:
    - approve: memory_store
    - {say: Hi., deny: memory_store}
    - say: Hi.
      expect:
        anser: Hi
        state: done
        calls: [{skill: x, args: {a: {$regexp: b}}}]
        answer: {regex: "("}
"""
    done = play("test", "-f", write(tmp_path, wrong))
    assert done.status == 1
    lines = [line.removeprefix(f"{tmp_path}/notes_test.yaml:") for line in done.err.splitlines()]
    assert [line.split(" ", 1)[0] for line in lines[1:3]] == ["15:9:", "16:16:"]
    assert 'unknown field; did you mean "answer"?' in lines[1]
    right = wrong.replace("anser", "answer").replace("        answer: Hi\n", "")
    done = play("test", "-f", write(tmp_path, right.replace("state: done", "state: completed")))
    lines = [line.removeprefix(f"{tmp_path}/notes_test.yaml:") for line in done.err.splitlines()]
    assert [line.split(": ", 3)[-1] for line in lines[1:5]] == [
        "takes exactly one of say, schedule, approve, deny, edit and run",
        "is no regular expression: missing ), unterminated subpattern at position 0",
        "a matcher is a mapping of one of $regex, $contains, $not, $any, $exactly, $sha256",
        "begins with say or schedule: nothing waits yet",
    ]
    assert lines[-1] == "hint: aosctl explain agenttest says what the fields mean"


@pytest.mark.parametrize("how", ["passes", "fails", "errs"])
def test_nothing_is_left_of_a_test(
    play: Aosctl, kernel_database: KernelDatabase, tmp_path: Path, how: str
) -> None:
    cases = {"passes": [PASSES], "fails": [FAILS, PASSES], "errs": [PASSES]}[how]
    path = write(tmp_path, *cases)
    if how == "errs":
        (tmp_path / "agent.yaml").write_text(TENANT.replace("persona: clerk", "persona: nobody"))
    before = state(kernel_database.cluster, kernel_database.name)
    done = play("test", "-f", path)
    assert done.status == (0 if how == "passes" else 1)
    if how == "errs":
        assert 'no Persona "nobody" exists' in done.out
        assert "1 errors in" in done.out
    assert state(kernel_database.cluster, kernel_database.name) == before


def test_nothing_is_left_of_a_run_that_is_killed(
    env: dict[str, str], maker: str, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    (tmp_path / "agent.yaml").write_text(TENANT)
    cluster = kernel_database.cluster
    before = state(cluster, kernel_database.name)
    process = subprocess.Popen(
        [AOSCTL, "test", "-f", write(tmp_path, PASSES, SLOW)],
        env={**env, "AOSCTL_DSN": maker},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    while b"." not in os.read(process.stdout.fileno(), 4096).split(b"yaml ")[-1]:
        pass  # until the first case has passed; the second takes its time
    until_there_are(cluster, some=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until_there_are(cluster, some=False)
    assert state(cluster, kernel_database.name) == before


def test_what_a_killed_run_left_is_dropped_by_the_next_and_a_living_one_keeps_its_own(
    play: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    dead, living = f"{PREFIX}deadbeef_1", f"{PREFIX}00000007_1"
    with psycopg.connect(kernel_database.cluster.dsn(), autocommit=True) as superuser:
        for name in (dead, living):
            superuser.execute(f"create database {name} owner {INSTALLER}")
        with psycopg.connect(
            kernel_database.cluster.dsn(INSTALLER, kernel_database.name), autocommit=True
        ) as run:
            run.execute("select pg_advisory_lock(7106157, 7)")
            assert play("test", "-f", write(tmp_path, PASSES)).status == 0
            assert leftovers(kernel_database.cluster) == [living]
        assert play("test", "-f", write(tmp_path, PASSES)).status == 0
        assert leftovers(kernel_database.cluster) == []


def slow_run(env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a test that takes long."""
    (folder / "agent.yaml").write_text(TENANT)
    return subprocess.Popen(
        [AOSCTL, "test", "-f", write(folder, SLOW)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_ctrl_c_ends_the_run_and_drops_what_it_made(
    env: dict[str, str], maker: str, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    process = slow_run({**env, "AOSCTL_DSN": maker}, tmp_path)
    until_there_are(kernel_database.cluster, some=True)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert leftovers(kernel_database.cluster) == []


def test_where_the_connection_is_lost_the_guard_drops_what_was_made(
    env: dict[str, str], maker: str, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    """Ctrl-C is not swallowed by what then goes wrong, and nobody says that all is done."""
    process = slow_run({**env, "AOSCTL_DSN": maker}, tmp_path)
    until(
        lambda: len(leftovers(kernel_database.cluster)) == 3, "the kernel's, the setup's, its own"
    )
    with psycopg.connect(kernel_database.cluster.dsn(), autocommit=True) as server:
        server.execute(
            "select pg_terminate_backend(pid) from pg_locks"
            " where locktype = 'advisory' and classid = 7106157"
        )
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    until_there_are(kernel_database.cluster, some=False)


def test_runs_beside_each_other_do_not_meet(
    env: dict[str, str], maker: str, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    (tmp_path / "agent.yaml").write_text(TENANT)
    path = write(tmp_path, PASSES, PASSES.replace("it keeps", "again it keeps"))
    command = [str(AOSCTL), "test", "-f", path]
    beside = [
        subprocess.Popen(
            command, env={**env, "AOSCTL_DSN": maker}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [process.communicate()[0] for process in beside]
    assert [process.returncode for process in beside] == [0, 0, 0], told
    assert leftovers(kernel_database.cluster) == []


def test_cases_are_chosen_and_told_in_other_forms(play: Aosctl, tmp_path: Path) -> None:
    path = write(tmp_path, PASSES, FAILS)
    assert play("test", "-f", path, "--filter", "KEEPS").status == 0
    assert play("test", "-f", path, "-l", "team=data,kind=memory").status == 0
    none = play("test", "--filename", path, "--selector", "team=other")
    assert (none.status, none.out) == (5, "no tests in 0.00s\n")
    assert none.err.startswith("no tests: ")
    found = json.loads(play("test", "-f", path, "-o", "json").out)
    assert (found["passed"], found["failed"], found["errors"]) == (1, 1, 0)
    assert [case["state"] for case in found["cases"]] == ["passed", "failed"]
    assert found["cases"][1]["failures"][0]["line"] == 28
    lines = play("test", "-f", path, "--output", "tap").out.splitlines()
    assert lines[:4] == [
        "TAP version 14",
        "1..2",
        "ok 1 - notes: it keeps a note",
        "not ok 2 - notes: it says thank you",
    ]
    failing = write(tmp_path, FAILS, PASSES)
    for flag in ("-x", "--fail-fast"):
        first = play("test", "-f", failing, flag, "-o", "json")
        assert len(json.loads(first.out)["cases"]) == 1
    assert play("test", "-f", path, "-o", "yaml").status == 2
    assert play("test", "--recursive").status == 2


def test_a_database_that_is_kept_can_be_looked_at(
    play: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    done = play("test", "-f", write(tmp_path, FAILS), "--keep")
    name = re.search(r"^its database: (\w+)$", done.out, re.MULTILINE)
    assert name is not None
    cluster = kernel_database.cluster
    with psycopg.connect(cluster.dsn(INSTALLER, name[1]), autocommit=True) as connection:
        rows = connection.execute("select args ->> 'value' from aos_core.call_status").fetchall()
        assert rows == [("red",)]
    with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
        superuser.execute(f"drop database {name[1]}")


def test_another_model_answers_where_it_is_asked_for(play: Aosctl, tmp_path: Path) -> None:
    """With -m the script is left aside: the offline model says that it is none."""
    path = write(tmp_path, PASSES)
    for flag in ("-m", "--model"):
        done = play("test", "-f", path, flag, "offline")
        assert done.status == 1
        assert "I am no language model" in done.out


def test_a_login_that_may_create_no_database_is_told_so(
    aosctl: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    (tmp_path / "agent.yaml").write_text(TENANT)
    dsn = kernel_database.cluster.dsn(INSTALLER, kernel_database.name)
    with psycopg.connect(kernel_database.cluster.dsn(), autocommit=True) as superuser:
        superuser.execute(f"alter role {INSTALLER} nocreatedb")
        try:
            done = aosctl("test", "-f", write(tmp_path, PASSES), AOSCTL_DSN=dsn)
        finally:
            superuser.execute(f"alter role {INSTALLER} createdb")
    assert done.status == 1
    assert f'error: login "{INSTALLER}" may not create databases' in done.out
    assert f"alter role {INSTALLER} createdb" in done.out


def test_apply_passes_tests_over(aosctl: Aosctl, maker: str, tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(TENANT)
    path = write(tmp_path, PASSES)
    both = aosctl("apply", "--dry-run=client", "-f", str(tmp_path), AOSCTL_DSN=maker)
    assert (both.status, len(both.out.splitlines())) == (0, 3)
    alone = aosctl("apply", "-f", path, AOSCTL_DSN=maker)
    assert (alone.status, alone.err) == (
        1,
        "error: no objects passed to apply\n"
        "hint: a test of an agent is played: aosctl test -f FILE\n",
    )


def test_a_hostile_answer_is_told_without_what_it_does_to_a_terminal(
    play: Aosctl, tmp_path: Path
) -> None:
    evil = r"""
  - name: evil
    script: [{text: "\u202eevil"}]
    steps:
    - say: Hi.
      expect: {answer: Hello}
""".lstrip("\n")
    report = tmp_path / "results.xml"
    done = play("test", "-f", write(tmp_path, evil), "--junit-xml", str(report))
    assert done.status == 1
    assert not re.search("[\x1b\u202e]", done.out)
    xmlschema.XMLSchema(XSD).validate(str(report))


WITH_ITS_OWN = """\
apiVersion: aos/v1
kind: Model
metadata: {name: stand-in}
spec: {provider: script, script: [{text: later}]}
---
apiVersion: aos/v1
kind: Model
metadata: {name: own}
spec:
  provider: script
  fallbacks: [stand-in]
  script: [{calls: [{name: ask_two, args: {task: How many?}}]}, {text: Seven.}]
---
apiVersion: aos/v1
kind: Model
metadata: {name: theirs}
spec: {provider: script, script: [{text: seven}]}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: one, tenant: tech_corp}
spec: {model: own, systemPrompt: You ask.}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: two, tenant: tech_corp}
spec: {model: theirs, systemPrompt: You know.}
---
apiVersion: aos/v1
kind: Skill
metadata: {name: ask_two, tenant: tech_corp}
spec:
  description: Ask the other.
  approval: never
  agent: {name: two}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: two, tenant: tech_corp}
spec: {persona: two, skills: []}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: one, tenant: tech_corp}
spec: {persona: one, skills: [ask_two, now]}
"""


def test_a_recorded_run_brings_what_its_agent_is_made_of_and_nothing_else(
    here: Aosctl, maker: str, tmp_path: Path
) -> None:
    """Its models too, which are no tenant's; my_pg_bot's skills would ask for the shop's tables."""
    applied = here("apply", "-f", "-", stdin=WITH_ITS_OWN)
    assert applied.status == 0, applied.err
    said = here("chat", "one", "How many?", "-o", "json")
    assert said.status == 0, said.err
    run = json.loads(said.out)["run"]
    file = tmp_path / "one_test.yaml"
    done = here("test", "record", run, "-o", str(file))
    assert (done.status, done.err, done.out) == (0, "", f"{file}\n")
    setup = list(yaml.safe_load_all((tmp_path / "one_test_setup.yaml").read_text()))
    assert {(one["kind"], one["metadata"]["name"]) for one in setup} == {
        ("Tenant", "tech_corp"), ("Model", "own"), ("Model", "stand-in"), ("Model", "theirs"),
        ("Persona", "one"), ("Persona", "two"), ("Skill", "ask_two"), ("Agent", "one"),
        ("Agent", "two"),
    }  # fmt: skip
    again = here("test", "-f", str(file))
    assert (again.status, again.err) == (0, ""), again.out


def test_a_run_becomes_a_test_that_passes(
    here: Aosctl, shop_dsn: str, maker: str, tmp_path: Path
) -> None:
    """With an approval in it, an edit before that, a secret, and a long result."""
    secret = "ghp_" + "abcdefghij" * 4
    statement = "update product set stock = 7 where product_id = 4"
    parked = here("chat", "my_pg_bot", "--approve=never", statement)
    assert parked.status == 3
    approval = re.search(r"aosctl approve (\w+)", parked.err)
    run = re.search(r"--resume (\S+)", parked.err)
    assert approval is not None
    assert run is not None
    assert here("approve", approval[1], "--reason", f"the key is {secret}").status == 0
    assert (
        here(
            "chat",
            "--resume",
            run[1],
            "select customer_id, name, email, city, country from customer",
            TOKEN=secret,
        ).status
        == 0
    )
    folder = tmp_path / "recorded"
    shutil.copytree(MANIFESTS / "quickstart", folder)
    (folder / "my_pg_bot_test.yaml").unlink()
    file = folder / "stock_test.yaml"
    done = here(
        "test", "record", run[1], "-o", str(file),
        "--setup", "10-tenant.yaml", "--setup", "shop.sql", "--setup", ".",
    )  # fmt: skip
    assert (done.status, done.err) == (0, ""), done.err
    assert done.out == f"{file}\n"
    text = file.read_text() + (folder / "stock_test.recording").read_text()
    assert secret not in text
    assert "[redacted]" in text
    assert "$sha256: " in text
    again = here("test", "-f", str(file))
    assert (again.status, again.err) == (0, ""), again.out
    assert here("test", "record", run[1], "--output", str(file)).status == 2
    whole = here("test", "record", run[1], "--setup", str(folder))
    assert whole.out.startswith("apiVersion: aos/v1\nkind: AgentTest\n")
