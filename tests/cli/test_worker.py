"""`aosctl worker`: turns that nobody drives at a terminal, as processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from background import (
    WRITE,
    held,
    make_clerk,
    make_shop,
    make_slow,
    queued,
    state,
    working,
)
from command import AOSCTL, Aosctl
from hooks import hook_server
from kernels import META, Tenant, call, make_tenant, say
from providers.wire_openai import calls, text
from talks import until


def test_once_drives_what_waits_and_ends(developer: Aosctl, tenant: Tenant) -> None:
    runs = [queued(tenant) for _ in range(5)]
    done = developer("worker", "--once", "--concurrency", "2")
    assert (done.status, done.out) == (0, "")
    assert [state(tenant, run) for run in runs] == ["completed"] * 5
    said = sorted(re.sub(r" · [^·]+$", " · 0.0s", line) for line in done.err.splitlines())
    names = sorted(tenant.run_row(run)["name"] for run in runs)
    assert said == [f"{name} turn 1 completed · 0.0s" for name in names]
    again = developer("worker", "--once")
    assert (again.status, again.err) == (0, "")


def test_once_ends_when_a_look_has_found_nothing(developer: Aosctl, tenant: Tenant) -> None:
    """Whether or not the look was over before the next question after it."""
    admin = tenant.database.superuser
    admin.execute("alter system set track_functions = 'all'")
    admin.execute("select pg_reload_conf()")
    looks = (
        "select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = 'next_ready'"
    )
    before = tenant.database.value(looks)
    assert developer("worker", "--once").status == 0
    admin.execute("alter system reset track_functions")
    admin.execute("select pg_reload_conf()")
    until(lambda: tenant.database.value(looks) > before, "the counts of a session that has ended")
    assert tenant.database.value(looks) - before == 1


def test_an_approval_decided_after_the_chat_has_closed_is_carried_out(
    developer: Aosctl, tenant: Tenant
) -> None:
    make_shop(tenant)
    asked = tenant.asked("sql_execute", WRITE, "clerk")
    assert developer("worker", "--once").err == ""  # nobody has decided yet
    assert developer("approve", str(tenant.run_row(asked.run)["name"])).status == 0
    done = developer("worker", "--once")
    assert " turn 1 completed · " in done.err
    assert tenant.database.value("select count(*) from shop.orders where id = 7") == 1
    assert tenant.call_state(asked.call) == "succeeded"


@pytest.mark.parametrize(("verb", "ends"), [("run", "completed"), ("chat", "active")])
def test_a_parked_task_ends_with_the_worker_that_finishes_it_and_a_chat_does_not(
    developer: Aosctl, tenant: Tenant, verb: str, ends: str
) -> None:
    make_clerk(tenant)
    parked = developer(verb, "scripted", "insert the lamp", "-o", "json")
    told = json.loads(parked.out)
    assert (parked.status, told["status"]) == (3, "waiting")
    assert developer("approve", told["approvals"][0]).status == 0
    assert " turn 1 completed · " in developer("worker", "--once").err
    assert tenant.database.value("select count(*) from shop.orders where id = 7") == 1
    rows = {line.split()[0]: line for line in developer("ps", "-a").out.splitlines()}
    assert (ends in rows[told["run"]].split()) == (verb == "run"), rows
    run = tenant.database.rows(
        "select state, closed_at is not null from aos_core.run where name = %s", told["run"]
    )
    assert run == [(ends, verb == "run")]
    again = developer("chat", "--resume", told["run"], "and now?")
    if verb == "run":
        assert again.err.startswith(f'error: run "{told["run"]}" is completed\n')
    else:
        assert again.err == ""


def test_a_task_that_a_worker_finished_answers_the_run_that_waits_for_it(
    env: dict[str, str], developer: Aosctl, tenant: Tenant
) -> None:
    """The worker, with a hold on the turn, ends the run before its own process looks again."""
    make_clerk(tenant)
    database = tenant.database
    process = subprocess.Popen(
        [AOSCTL, "run", "scripted", "--wait", "insert the lamp"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**env, "AOSCTL_DSN": database.cluster.dsn("test_developer", database.name)},
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if "waits for approval" in line)
    process.send_signal(signal.SIGSTOP)
    run = database.value("select name from aos_core.run order by created_at desc limit 1")
    assert developer("approve", run).status == 0
    assert " turn 1 completed · " in developer("worker", "--once").err
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "The lamp is in.\n")


def test_a_worker_needs_no_principal_and_may_serve_one_tenant(
    aosctl: Aosctl, tenant: Tenant
) -> None:
    other = make_tenant(tenant.database, "globex")
    ours, theirs = queued(tenant), queued(other)
    dsn = tenant.database.cluster.dsn("aos_worker", tenant.database.name)
    done = aosctl("worker", "--once", "-n", "globex", AOSCTL_DSN=dsn)
    assert (done.status, done.err.count("completed")) == (0, 1)
    assert (state(tenant, ours), state(other, theirs)) == ("queued", "completed")
    assert aosctl("worker", "--once", AOSCTL_DSN=dsn).err.count("completed") == 1
    assert state(tenant, ours) == "completed"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-n", "nobody"], 1, 'Error from server (NotFound): tenant "nobody" not found'),
        (["--concurrency", "0"], 2, "error: --concurrency is 1 to 1000, not 0"),
        (["--drain-seconds", "-1"], 2, "error: --drain-seconds is 0 to 3600, not -1"),
        (["--connections", "4"], 2, "error: --connections is 5 to 100, not 4"),
        (["--lease", "4000"], 2, "error: --lease is 1 to 3600 seconds, not 4000"),
    ],
)
def test_a_worker_that_can_not_work_says_why(
    developer: Aosctl, arguments: list[str], status: int, message: str
) -> None:
    done = developer("worker", "--once", *arguments)
    assert (done.status, done.out, done.err.splitlines()[0]) == (status, "", message)


def test_a_worker_without_a_kernel_or_a_server_says_why(
    aosctl: Aosctl, make_database: Callable[..., str]
) -> None:
    bare = aosctl("worker", "--once", AOSCTL_DSN=make_database())
    assert bare.status == 1
    assert bare.err.splitlines()[-1] == "hint: aosctl db install"
    gone = aosctl("worker", "--once", AOSCTL_DSN="host=/nowhere dbname=x")
    assert gone.status == 1
    assert gone.err.startswith("error: can't connect to the database: ")


def test_work_begins_at_a_notice_and_several_turns_go_on_at_once(
    env: dict[str, str], tenant: Tenant
) -> None:
    with (
        held(tenant, "slow", *[text("At last.")] * 4) as model,
        working(env, tenant, "--concurrency", "4") as worker,
    ):
        until(lambda: listening(tenant), "the worker")
        runs = [queued(tenant, "slow") for _ in range(4)]
        model.asked(4)
        assert [state(tenant, run) for run in runs] == ["running"] * 4
        sessions = [
            name.partition(" worker")[2].strip()
            for (name,) in tenant.database.rows(
                "select application_name from pg_stat_activity where usename = 'aos_worker'"
                " and datname = current_database() and application_name like 'aosctl/% worker%'"
            )
        ]
        assert 1 <= sessions.count("") <= 3, sessions  # one is opened when all others are in use
        beside = sorted(name for name in sessions if name)
        assert beside == sorted(set(beside) & {"heartbeat", "listen", "chores"})
        model.go.set()
        until(lambda: all(state(tenant, run) == "completed" for run in runs), "all four")
        status, err = worker.end()
    assert status == 0
    assert err.splitlines()[0] == "serving the tenant acme, 4 turns at once; Ctrl-C ends it"
    assert err.count("completed") == 4


def listening(tenant: Tenant) -> bool:
    found = tenant.database.value(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like '%% worker listen' and query = 'listen aos_work'"
    )
    return int(found) > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_a_step_end_and_hands_the_turn_back(
    env: dict[str, str], tenant: Tenant, number: int
) -> None:
    name = f"steady_{number}"
    with (
        held(tenant, name, *[calls(("memory_recall", {}))] * 2) as model,
        working(env, tenant) as worker,
    ):
        run = queued(tenant, name)
        model.asked()
        worker.process.send_signal(number)
        worker.hear("1 turn ends its step; again to stop at once\n")
        model.go.set()
        status, err = worker.ended()
        assert len(model.wire.requests) == 1
    assert status == 0
    assert "1 turn ends its step; again to stop at once\n" in err
    assert " turn 1 released · " in err
    row = tenant.run_row(run)
    assert (row["turn_state"], row["lease_hash"], row["last_step"]) == ("queued", None, 2)
    assert "turn.reclaimed" not in tenant.events(run)
    tenant.database.superuser.execute("select aos_agent.cancel_run(%s, %s)", (tenant.id, run))


def test_what_takes_longer_than_drain_seconds_is_handed_back_for_the_next_worker(
    env: dict[str, str], tenant: Tenant
) -> None:
    """The model's answer never came: nothing of it is stored, and the next one's is, once."""
    with held(tenant, "lengthy", text("Never."), text("Done.")) as model:
        with working(env, tenant, "--drain-seconds", "1") as first:
            run = queued(tenant, "lengthy")
            model.asked()
            status, err = first.end()
        assert status == 0
        assert " turn 1 released · " in err
        row = tenant.run_row(run)
        assert (row["turn_state"], row["lease_hash"], row["last_step"]) == ("queued", None, 1)
        model.go.set()
        with working(env, tenant) as second:
            until(lambda: state(tenant, run) == "completed", "the turn")
            assert second.end()[0] == 0
        assert len(model.wire.requests) == 2
    roles = "select role from aos_core.step where tenant_id = %s and run_id = %s order by seq"
    assert tenant.database.rows(roles, tenant.id, run) == [("user",), ("assistant",)]


def test_the_second_signal_ends_at_once(env: dict[str, str], tenant: Tenant) -> None:
    with held(tenant, "endless", text("Never.")) as model, working(env, tenant) as worker:
        run = queued(tenant, "endless")
        model.asked()
        worker.process.send_signal(signal.SIGINT)
        worker.hear("1 turn ends its step; again to stop at once\n")
        assert worker.process.poll() is None  # it waits for the model
        status, err = worker.end(signal.SIGINT)
    assert status == 130
    assert " turn 1 released · " in err
    assert state(tenant, run) == "queued"  # for the next worker, without waiting for a lease
    tenant.database.superuser.execute("select aos_agent.cancel_run(%s, %s)", (tenant.id, run))


def test_a_turn_whose_worker_was_killed_is_taken_over_after_its_lease(
    env: dict[str, str], tenant: Tenant, developer: Aosctl
) -> None:
    with held(tenant, "brief", text("Lost."), text("At last.")) as model:
        with working(env, tenant, "--lease", "1") as first:
            run = queued(tenant, "brief")
            model.asked()
            first.process.kill()
        model.go.set()
        with working(env, tenant) as second:
            second.hear(" turn 1 (attempt 2) completed · ")
            assert state(tenant, run) == "completed"
            status, err = second.end()
    assert status == 0
    assert " turn 1 (attempt 2) completed · " in err
    log = developer("logs", str(tenant.run_row(run)["name"]), "-n", "acme")
    assert re.search(
        r"turn  1 taken over from \S+:\d+ by worker:\S+, attempt 2;"
        r" an answer that it may have asked for \(step 2\) was not stored\n", log.out,
    )  # fmt: skip


def test_a_worker_outlives_the_end_of_all_its_connections(
    env: dict[str, str], tenant: Tenant
) -> None:
    with working(env, tenant) as worker:
        until(lambda: listening(tenant), "the worker")
        for _ in range(2):
            tenant.database.rows(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where usename = 'aos_worker' and datname = current_database()"
                " and application_name like '%% worker%%'"
            )
            run = queued(tenant)
            until(lambda run=run: state(tenant, run) == "completed", "the turn")
        status, _ = worker.end()
    assert status == 0


def test_a_turn_that_was_killed_meanwhile_is_let_go(
    env: dict[str, str], tenant: Tenant, developer: Aosctl
) -> None:
    make_slow(tenant, "doomed")
    with working(env, tenant) as worker:
        run = queued(tenant, "doomed")
        until(lambda: state(tenant, run) == "running", "the turn")
        name = str(tenant.run_row(run)["name"])
        assert developer("kill", name, "-n", "acme").status == 0
        after = queued(tenant)
        until(lambda: state(tenant, after) == "completed", "the next turn")
        worker.hear(f"{name} turn 1 ended · ")
        status, err = worker.end()
    assert status == 0
    assert f"{name} turn 1 ended · " in err


def test_webhooks_are_told_beside_the_turns(aosctl: Aosctl, tenant: Tenant) -> None:
    database = tenant.database
    asked = tenant.asked("send_mail", {"query": "x"}, "clerk")
    dsn = database.cluster.dsn("test_developer", database.name)
    with hook_server() as hook:
        webhook = {"url": hook.url, "secretEnv": "HOOK", "events": ["approval.pending"]}
        spec = {"displayName": tenant.name, "webhook": webhook}
        call(database.superuser, "aos_auth.apply_tenant", tenant.name, META, spec)
        late = tenant.asked("send_mail", {"query": "y"}, "clerk")
        done = aosctl("worker", "--once", "-n", tenant.name, AOSCTL_DSN=dsn, HOOK="secret")
        assert done.status == 0
        told = [body["data"]["call_id"] for body in hook.bodies()]
        assert told == [str(late.call)], "the question before the webhook was there is not told"
        call(database.superuser, "aos_auth.apply_tenant", tenant.name, META, {})
    for one in (asked, late):
        call(tenant.person, "aos_agent.cancel_run", tenant.id, one.run)


def test_what_a_tenant_keeps_no_longer_goes_beside_the_turns(
    env: dict[str, str], developer: Aosctl, tenant: Tenant
) -> None:
    """By itself, once, and what is kept stays; the control is a tenant that declares nothing."""
    database = tenant.database
    other = make_tenant(database, "initech")
    old: dict[str, list[Any]] = {"acme": [], "initech": []}
    database.move_clock("-40 days")
    call(database.superuser, "aos_core.ensure_partitions", 0)
    try:
        for each in (tenant, other):
            for _ in range(25):
                run = each.start_run()
                each.respond(each.open(run, p_worker="w1"), say("old words"))
                call(each.person, "aos_agent.close_run", each.id, run)
                old[each.name].append(run)
    finally:
        database.move_clock()
    young = queued(tenant)
    spec = {"displayName": "acme", "retention": {"content": "30d"}}
    call(database.superuser, "aos_auth.apply_tenant", "acme", META, spec)
    left = (
        "select count(*) from aos_core.step where run_id = any (%s) and message::text ~ 'old words'"
    )
    with working(env, tenant) as worker:
        until(lambda: database.value(left, old["acme"]) == 0, "the end of the old words")
        until(lambda: state(tenant, young) == "completed", "a turn beside it")
        worker.hear("retention of acme: took the content of ")
        status, err = worker.end()
    assert status == 0
    assert "retention of acme: took the content of 25 runs\n" in err
    assert database.value(left, old["initech"]) == 25
    events = "select count(*) from aos_core.event_log where kind = 'content.erased'"
    assert database.value(events) == 25
    assert tenant.transcript(young)[-1][0] == "assistant"
    database.superuser.execute(
        "insert into aos_core.session_memory (tenant_id, owner_id, key, value, expires_at)"
        " select %s, %s, 'old ' || n, '1', now() - interval '1 day' from generate_series(1, 700) n",
        (tenant.id, young),
    )
    again = developer("worker", "--once")
    assert "retention" not in again.err and "memory: forgot 700 expired entries\n" in again.err
    database.superuser.execute("update aos_core.tenant_state set retained_at = null")
    call(database.superuser, "aos_auth.apply_tenant", "initech", META, {
        **spec, "displayName": "initech",
    })  # fmt: skip
    once = developer("worker", "--once")
    assert "retention of initech: took the content of 25 runs\n" in once.err
    call(database.superuser, "aos_auth.apply_tenant", "acme", META, {"displayName": "acme"})
