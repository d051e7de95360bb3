"""`aosctl logs`: what happened, once or as it goes on, whatever happens to the connection."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Self
from uuid import UUID

import psycopg
import pytest

from aosctl.cli.targets import AGENT_WORDS
from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install
from aosctl.domain.kinds import BY_NAME
from command import AOSCTL, Aosctl, Ended
from kernels import KernelDatabase, Tenant, ask, call, make_tenant, say
from postgres import Cluster

SECONDS = 60
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class Following:
    """A running `aosctl logs -f`, its lines as they come."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [AOSCTL, "logs", "-f", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def until(self, part: str) -> str:
        """Wait for a line with this in it."""
        while True:
            line = self._queue.get(timeout=SECONDS)
            assert line is not None, f"ended before {part!r} came, after {self.lines}"
            self.lines.append(line)
            if part in line:
                return line

    def end(self) -> tuple[int, str, str]:
        """Wait until it ends by itself; return status, all it printed, and its stderr."""
        while (line := self._queue.get(timeout=SECONDS)) is not None:
            self.lines.append(line)
        status = self.process.wait(SECONDS)
        assert self.process.stderr is not None
        return status, "".join(self.lines), self.process.stderr.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            self._reader.join()
            stream.close()


Follow = Callable[..., Following]


@pytest.fixture
def follow(env: dict[str, str], tenant: Tenant) -> Follow:
    """Follow as the developer of the tenant."""
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    return lambda *arguments: Following({**env, "AOSCTL_DSN": dsn}, *arguments)


def started(tenant: Tenant, agent: str = "bot", kind: str = "conversation") -> tuple[UUID, str]:
    row = call(tenant.person, "aos_agent.start_run", tenant.id, agent, kind)
    return UUID(row["run_id"]), row["run"]


def turn(tenant: Tenant, run: UUID, question: str, answer: str) -> None:
    """Let an agent answer at once."""
    tenant.respond(tenant.open(run, question, p_worker="w1"), say(answer))


def close(tenant: Tenant, run: UUID) -> None:
    call(tenant.person, "aos_agent.close_run", tenant.id, run)


def test_a_turn_reads_as_a_conversation(developer: Aosctl, tenant: Tenant) -> None:
    run, name = started(tenant)
    lease = tenant.open(run, "what is\nin there?", p_worker="w1")
    first = tenant.respond(
        lease,
        {
            **ask(
                ("sql_query", {"query": "select 1\n  as n"}), ("no_such_tool", {"a": 1, "b": "x"})
            ),
            "blocks": [
                {"t": "text", "text": "I look."},
                *ask(
                    ("sql_query", {"query": "select 1\n  as n"}),
                    ("no_such_tool", {"a": 1, "b": "x"}),
                )["blocks"],
            ],
        },
    )
    tenant.execute(UUID(first["calls"][0]["call_id"]), lease)
    second = tenant.respond(lease, ask(("sql_query", {"query": "select * from nowhere"})))
    tenant.execute(UUID(second["calls"][0]["call_id"]), lease)
    tenant.respond(lease, say("One.\n\nThat is all.\x1b[31m"))
    done = developer("logs", name)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    refused = next(line for line in lines if "no_such_tool" in line)
    assert refused.startswith("⏺ no_such_tool(a: 1, b: x) · refused: ")
    lines.remove(refused)
    assert lines == [
        "run   created by user:dev",
        "user  what is",
        "      in there?",
        "agent I look.",
        "⏺ sql_query(select 1 as n) · 1 row",
        '⏺ sql_query(select * from nowhere) · failed: relation "nowhere" does not exist',
        "agent One.",
        "",
        "      That is all.",
    ]


def test_approvals_limits_and_ends_have_their_lines(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from t"}, "clerk")
    short = tenant.approval(asked.call)[0].hex[-8:]
    name = str(tenant.run_row(asked.run)["name"])
    tenant.decide(asked.call, "denied", "too much")
    tenant.respond(tenant.claim(run=asked.run), say("Then not."))
    developer("kill", "-s", "STOP", name, "--reason", "lunch")
    developer("kill", "-s", "CONT", name)
    developer("kill", name, "--reason", "over")
    done = developer("logs", name)
    call_shown = "sql_execute(delete from t)"
    assert done.out.splitlines() == [
        "run   created by user:dev",
        "user  hello",
        f"approval requested: {call_shown} · {short} · the skill's risk is high",
        f"approval denied by user:dev: {call_shown} · too much",
        "turn  1 claimed by worker:w1, attempt 1",
        "agent Then not.",
        "run   paused by user:dev · lunch",
        "run   resumed by user:dev",
        "run   cancelled by user:dev · over",
    ]


def test_what_ran_after_its_turn_says_why_it_failed(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from nowhere"}, "clerk")
    tenant.respond(tenant.open(asked.run, "meanwhile", p_worker="w1"), say("Of course."))
    tenant.decide(asked.call, "approved")
    tenant.execute(asked.call, tenant.claim(run=asked.run))
    done = developer("logs", str(tenant.run_row(asked.run)["name"]), "--tail", "1")
    assert done.out == (
        '⏺ sql_execute(delete from nowhere) · failed: relation "nowhere" does not exist\n'
    )


def test_timestamps_prefix_and_json(developer: Aosctl, tenant: Tenant) -> None:
    run, name = started(tenant)
    turn(tenant, run, "hello", "hi")
    done = developer("logs", name, "--timestamps", "--prefix", "--tail", "1")
    assert re.fullmatch(rf"\[run/{name}\] {STAMP} agent hi\n", done.out)
    lines = [json.loads(line) for line in developer("logs", name, "-o", "json").out.splitlines()]
    assert [(line["seq"], line["kind"]) for line in lines] == [
        (1, "run.created"),
        (2, "turn.opened"),
        (3, "turn.completed"),
    ]
    assert [line["messages"] for line in lines[1:]] == [
        [{"v": 1, "role": "user", "blocks": [{"t": "text", "text": "hello"}]}],
        [{"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": "hi"}]}],
    ]


def test_tail_counts_lines_and_since_looks_back(developer: Aosctl, tenant: Tenant) -> None:
    tenant.database.move_clock("-1 hour")
    try:
        run, name = started(tenant)
        turn(tenant, run, "early", "long ago")
    finally:
        tenant.database.move_clock()
    for number in range(12):
        turn(tenant, run, f"q{number}", f"a\n{number}")
    out = developer("logs", name, "--tail", "3").out
    assert out == "      10\nuser  q11\nagent a\n      11\n"[len("      10\n") :]
    assert developer("logs", name, "--tail", "0").out == ""
    assert developer("logs", name, "--tail", "37").out.count("\n") == 37
    everything = developer("logs", name).out
    assert developer("logs", name, "--tail", "-1").out == everything
    recent = developer("logs", name, "--since", "5m").out
    assert everything == "run   created by user:dev\nuser  early\nagent long ago\n" + recent


def test_an_agent_and_labels_stand_for_several_runs(developer: Aosctl, tenant: Tenant) -> None:
    text = "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: twice}\nspec: {persona: expert}\n"
    developer("apply", "-f", "-", stdin=text)
    (one, first), (two, second) = started(tenant, "twice"), started(tenant, "twice")
    turn(tenant, one, "1", "a")
    turn(tenant, two, "2", "b")
    turn(tenant, one, "3", "c")
    done = developer("logs", "agent/twice")
    assert done.out.splitlines() == [
        f"[run/{first}] run   created by user:dev",
        f"[run/{second}] run   created by user:dev",
        f"[run/{first}] user  1",
        f"[run/{first}] agent a",
        f"[run/{second}] user  2",
        f"[run/{second}] agent b",
        f"[run/{first}] user  3",
        f"[run/{first}] agent c",
    ]
    assert developer("logs", "ag/twice", "--no-prefix", "--tail", "1").out == ("agent b\nagent c\n")
    none = developer("logs", "-l", "no=such", "--show-cursor")
    assert none == Ended(0, "", "No resources found in acme tenant.\n")


def test_an_agent_is_named_by_every_word_of_its_kind() -> None:
    words = BY_NAME["Agent"].words
    assert {*AGENT_WORDS} == {*words, *(f"{word}.aos" for word in words)}


def test_what_logs_refuses(developer: Aosctl) -> None:
    for words, status, text in (
        (["nope"], 1, 'Error from server (NotFound): runs.aos "nope" not found'),
        (["agent/nope"], 1, 'Error from server (NotFound): agents.aos "nope" not found'),
        ([], 2, "error: expected one RUN, agent/NAME or -l LABELS"),
        (["x", "-l", "a=b"], 2, "error: only a selector (-l) or a RUN is allowed"),
        (["x", "--since", "soon"], 2, 'error: invalid duration "soon"'),
        (
            ["x", "--since", "1m", "--since-time", "2026-01-01"],
            2,
            "error: only one of --since-time / --since may be used",
        ),
        (["x", "--tail", "-5"], 2, "error: --tail must be greater than or equal to -1"),
    ):
        done = developer("logs", *words)
        assert (done.status, done.out) == (status, "")
        assert done.err.splitlines()[0] == text
    agents = developer("logs", "clerk")
    assert (agents.status, agents.err) == (
        1,
        'Error from server (NotFound): runs.aos "clerk" not found\n'
        "hint: it is an agent: aosctl logs agent/clerk\n",
    )


def test_follow_prints_as_things_happen_and_ends_with_the_run(
    follow: Follow, tenant: Tenant, developer: Aosctl
) -> None:
    run, name = started(tenant)
    turn(tenant, run, "before", "0")
    with follow(name) as log:
        log.until("agent 0")
        for number in range(1, 4):
            # whoever may connect can send notices of this name
            tenant.database.superuser.execute("notify aos_run, 'no id'; notify aos_run")
            turn(tenant, run, f"q{number}", f"a{number}")
            log.until(f"agent a{number}")
        close(tenant, run)
        status, out, err = log.end()
    assert (status, err) == (0, "")
    assert out.endswith("run   completed by user:dev\n")
    assert out == developer("logs", name).out


def test_follow_of_a_task_ends_with_its_answer(follow: Follow, tenant: Tenant) -> None:
    run, name = started(tenant, kind="task")
    lease = tenant.open(run, "the task", p_worker="w1")
    with follow(name) as log:
        log.until("user  the task")
        tenant.respond(lease, say("done"))
        status, out, err = log.end()
    assert (status, err) == (0, "")
    assert out.endswith("run   completed by kernel\n")


def test_follow_starts_at_the_tail_and_sees_every_new_run_of_an_agent(
    follow: Follow, tenant: Tenant
) -> None:
    run, first = started(tenant, "clerk")
    turn(tenant, run, "old", "past")
    with follow("agent/clerk", "--tail", "1") as log:
        log.until("agent past")
        turn(tenant, run, "new", "present")
        assert log.until("user") == f"[run/{first}] user  new\n"
        log.until("agent present")
        later, second = started(tenant, "clerk")
        turn(tenant, later, "later", "future")
        log.until(f"[run/{second}] agent future")
        log.process.send_signal(signal.SIGINT)
        status, out, err = log.end()
    assert (status, err) == (130, "")
    assert "old" not in out


def test_what_anybody_may_notify_ends_nobodys_log(follow: Follow, tenant: Tenant) -> None:
    """A SQL skill may send what it likes in any channel (docs/hardening.md)."""
    run, name = started(tenant)
    noise = ("", "x", "00000000-0000-0000-0000-000000000000")
    statement = "select " + ", ".join(f"pg_notify('aos_run', '{text}')" for text in noise)
    with follow(name) as log:
        for number in range(3):  # what comes after a notice is heard after it
            turn(tenant, run, f"q{number}", f"a{number}")
            log.until(f"agent a{number}")
            asked = tenant.asked("sql_query", {"query": statement})
            assert tenant.execute(asked.call, asked.lease)["ok"]
        close(tenant, run)
        status, _, err = log.end()
    assert (status, err) == (0, "")


def test_a_lost_connection_loses_and_repeats_nothing(
    follow: Follow, tenant: Tenant, developer: Aosctl
) -> None:
    run, name = started(tenant)
    with follow(name) as log:
        for number in range(1, 31):
            turn(tenant, run, f"q{number}", f"a{number}")
            if number % 5 == 0:
                log.until(f"q{number}\n")
                cut = tenant.database.rows(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name like 'aosctl/%% logs' and datname = %s",
                    tenant.database.name,
                )
                assert cut == [(True,)]
        log.until("agent a30")
        close(tenant, run)
        status, out, err = log.end()
    assert status == 0
    assert out == developer("logs", name).out
    assert set(err.splitlines()) == {
        "the connection to the database is lost, trying again",
        "connected again",
    }


@pytest.fixture
def own_kernel() -> Iterator[KernelDatabase]:
    """A kernel on a server that the test may stop."""
    with Cluster(durable=True) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"create database kernel owner {INSTALLER}".encode())
        with psycopg.connect(cluster.dsn(INSTALLER, "kernel"), autocommit=True) as connection:
            install(connection)
        database = KernelDatabase(cluster, "kernel")
        yield database
        database.close()


def test_a_restart_of_the_server_loses_and_repeats_nothing(
    own_kernel: KernelDatabase, env: dict[str, str]
) -> None:
    before = make_tenant(own_kernel, "acme")
    run, name = started(before)
    dsn = own_kernel.cluster.dsn("test_developer", "kernel")
    with Following({**env, "AOSCTL_DSN": dsn}, name) as log:
        turn(before, run, "before", "b")
        log.until("agent b")
        own_kernel.close()
        own_kernel.cluster.halt()
        own_kernel.cluster.resume()
        after = Tenant(
            own_kernel,
            before.id,
            before.name,
            own_kernel.connect("test_developer", before.id),
            own_kernel.connect("aos_worker"),
        )
        turn(after, run, "after", "a")
        log.until("agent a")
        turn(after, run, "later", "l")
        close(after, run)
        status, out, _ = log.end()
    assert status == 0
    assert out.splitlines() == [
        "run   created by user:dev",
        "user  before",
        "agent b",
        "user  after",
        "agent a",
        "user  later",
        "agent l",
        "run   completed by user:dev",
    ]


def test_grep_level_and_until_choose_lines(developer: Aosctl, tenant: Tenant) -> None:
    tenant.database.move_clock("-1 hour")
    try:
        run, name = started(tenant)
        turn(tenant, run, "early", "Long ago")
    finally:
        tenant.database.move_clock()
    lease = tenant.open(run, "look", p_worker="w1")
    first = tenant.respond(lease, ask(("sql_query", {"query": "select * from nowhere"})))
    tenant.execute(UUID(first["calls"][0]["call_id"]), lease)
    tenant.respond(lease, say("no"))
    assert developer("logs", name, "--grep", "long|EARLY".lower()).out == (
        "user  early\nagent Long ago\n"
    )
    assert developer("logs", name, "-g", "Long|Early").out == "agent Long ago\n"
    assert developer("logs", name, "-g", "o", "--tail", "1").out == "agent no\n"
    failed = developer("logs", name, "--level", "warning").out
    assert failed == (
        '⏺ sql_query(select * from nowhere) · failed: relation "nowhere" does not exist\n'
    )
    assert developer("logs", name, "--level", "error").out == ""
    assert developer("logs", name, "--until", "30m").out == (
        "run   created by user:dev\nuser  early\nagent Long ago\n"
    )
    close(tenant, run)


def test_an_approval_is_a_warning_and_a_failed_turn_an_error(
    developer: Aosctl, tenant: Tenant
) -> None:
    asked = tenant.asked("sql_execute", {"statement": "delete from t"}, "clerk")
    name = str(tenant.run_row(asked.run)["name"])
    assert developer("logs", name, "--level", "warning").out.startswith("approval requested: ")
    tenant.decide(asked.call, "denied")
    lease = tenant.claim(run=asked.run)
    call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "oh")
    assert developer("logs", name, "--level", "error").out.splitlines()[0] == ("turn  1 failed: oh")


def test_a_cursor_goes_on_where_one_stopped(developer: Aosctl, tenant: Tenant) -> None:
    run, name = started(tenant)
    turn(tenant, run, "one", "1")
    done = developer("logs", name, "--show-cursor")
    assert done.err == f"-- cursor: {name}@3\n"
    turn(tenant, run, "two", "2")
    lines = developer("logs", name, "--after-cursor", f"{name}@3").out
    assert lines == "user  two\nagent 2\n"
    assert developer("logs", name, "--after-cursor", f"{name}@3", "--tail", "1").out == "agent 2\n"
    last = json.loads(developer("logs", name, "-o", "json").out.splitlines()[-1])
    assert last["cursor"] == f"{name}@5"
    assert developer("logs", name, "--after-cursor", last["cursor"]).out == ""
    close(tenant, run)


def test_several_runs_have_prefixes_and_one_order(developer: Aosctl, tenant: Tenant) -> None:
    (one, first), (two, second) = started(tenant), started(tenant)
    turn(tenant, one, "a", "1")
    turn(tenant, two, "b", "2")
    turn(tenant, one, "c", "3")
    out = developer("logs", first, second, "-g", "^agent").out
    assert out == f"[run/{first}] agent 1\n[run/{second}] agent 2\n[run/{first}] agent 3\n"
    close(tenant, one)
    close(tenant, two)


def test_following_several_ends_with_the_last_of_them(follow: Follow, tenant: Tenant) -> None:
    (one, first), (two, second) = started(tenant), started(tenant)
    with follow(first, second) as following:
        following.until(f"[run/{first}] run   created")
        close(tenant, one)
        following.until(f"[run/{first}] run   completed")
        turn(tenant, two, "still?", "here")
        following.until(f"[run/{second}] agent here")
        close(tenant, two)
        status, out, err = following.end()
    assert (status, err) == (0, "")
    assert out.count("created by") == 2 and out.count("run   completed") == 2


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--grep", "("), 'error: invalid pattern "(": '),
        (("--level", "loud"), 'error: unknown level "loud"\nhint: one of info, warning, error\n'),
        (("-f", "--until", "1h"), "error: -f and --until exclude each other: -f goes on\n"),
        (("--after-cursor", "17"), 'error: invalid cursor "17"\n'),
        (("--after-cursor", "x@-1"), 'error: invalid cursor "x@-1"\n'),
        (("--after-cursor", "nobody@1"), 'error: the cursor is of run "nobody", which is not'),
        (("-f", "--show-cursor"), "error: -f and --show-cursor exclude each other: "),
        (("agent/bot",), "error: agent/NAME stands alone"),
        (("-l", "a=b"), "error: only a selector (-l) or a RUN is allowed\n"),
    ],
)
def test_flags_of_logs_that_are_wrong(
    flags: tuple[str, ...], error: str, developer: Aosctl, tenant: Tenant
) -> None:
    run, name = started(tenant)
    done = developer("logs", name, *flags)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(error)
    close(tenant, run)


def test_the_previous_run_is_the_one_before(developer: Aosctl, tenant: Tenant) -> None:
    text = "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: again}\nspec: {persona: expert}\n"
    developer("apply", "-f", "-", stdin=text)
    done = developer("logs", "-p", "agent/again")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(
        'Error from server (NotFound): previous terminated run of agent "again" not found\n'
    )
    (one, first), (two, second), (three, third) = (started(tenant, "again") for _ in range(3))
    for run, said in ((one, "a"), (two, "b"), (three, "c")):
        turn(tenant, run, "?", said)
    assert "agent b\n" in developer("logs", third, "--previous").out
    assert "agent a\n" in developer("logs", second, "-p").out
    done = developer("logs", first, "-p")
    assert (done.status, done.out) == (1, "")
    assert f'previous run of agent "again" before "{first}" not found\n' in done.err
    # Of an agent it is the one that ended last.
    for run in (two, one):
        close(tenant, run)
    assert "agent a\n" in developer("logs", "agent/again", "-p", "--no-prefix").out
    for words, said in (
        (["-p", first, second], "error: -p is of one run or agent\n"),
        (["-p", "-l", "a=b"], "error: -p and -l exclude each other: -p is of one run or agent\n"),
    ):
        done = developer("logs", *words)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(said)
    close(tenant, three)


def test_more_streams_than_allowed_are_not_followed(developer: Aosctl, tenant: Tenant) -> None:
    runs = [started(tenant) for _ in range(3)]
    names = [name for _, name in runs]
    done = developer("logs", "-f", "--max-log-requests", "2", *names)
    assert (done.status, done.out, done.err) == (
        1,
        "",
        "error: you are attempting to follow 3 log streams, but maximum allowed concurrency is 2,"
        " use --max-log-requests to increase the limit\n",
    )
    for run, _ in runs:
        close(tenant, run)
    # Those that are over are not followed.
    done = developer("logs", "-f", "--max-log-requests=2", *names)
    assert (done.status, done.err) == (0, "") and done.out.count("created by") == 3
    done = developer("logs", "--max-log-requests", "2", *names)
    assert (done.status, done.err.splitlines()[0]) == (
        2,
        "error: --max-log-requests limits what -f follows",
    )
