"""`aosctl ps`, `kill`, `approve`, `deny`: runs as processes, decisions from elsewhere."""

from __future__ import annotations

import json
import re
from uuid import UUID

from command import Aosctl
from kernels import Tenant, apply, ask, call, say

DELETE = {"statement": "delete from shop.orders\nwhere order_id = 1"}
SHOWN = "delete from shop.orders where order_id = 1"


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def short(tenant: Tenant, call: UUID) -> str:
    return tenant.approval(call)[0].hex[-8:]


def test_ps_shows_runs_with_an_open_turn(developer: Aosctl, tenant: Tenant) -> None:
    none = developer("ps")
    assert (none.status, none.out) == (0, "")
    assert none.err == "No open runs in acme tenant; aosctl ps -a lists all\n"
    idle = tenant.start_run()
    busy = tenant.asked("sql_execute", DELETE, "clerk")
    try:
        done = developer("ps")
        assert (done.status, done.err) == (0, "")
        head, row = done.out.splitlines()
        assert cells(head) == [
            "RUN", "AGENT", "STATE", "TURN", "STEP", "TOOL", "TOKENS", "COST", "AGE", "WAITING-ON",
        ]  # fmt: skip
        found = cells(row)
        assert found[:8] == [
            name_of(tenant, busy.run), "clerk", "awaiting_approval", "1", "2", "sql_execute", "0",
            "$0.00",
        ]  # fmt: skip
        assert found[9] == "approval"
        assert developer("ps", "-q").out == f"{name_of(tenant, busy.run)}\n"
        everything = developer("ps", "-a", "-q").out.splitlines()
        assert everything == [name_of(tenant, idle), name_of(tenant, busy.run)]
        found = json.loads(developer("ps", "-o", "json").out)["items"][0]
        assert (found["kind"], found["status"]["waitingOn"]) == ("Run", "approval")
    finally:
        developer("kill", name_of(tenant, busy.run))


def test_a_run_whose_worker_is_gone_is_abandoned(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run, p_worker="w1")
    name = name_of(tenant, run)
    assert cells(developer("ps", "--no-headers").out)[:3] == [name, "bot", "running"]
    tenant.database.move_clock("2 minutes")
    try:
        assert cells(developer("ps", "--no-headers").out)[:3] == [name, "bot", "abandoned"]
    finally:
        tenant.database.move_clock()
    developer("kill", name)


def test_kill_answers_to_every_way_of_naming_a_run(developer: Aosctl, tenant: Tenant) -> None:
    runs = [tenant.start_run() for _ in range(4)]
    names = [name_of(tenant, run) for run in runs]
    typed = [names[0], f"run/{names[1]}", names[2].rpartition("-")[2], str(runs[3])]
    done = developer("kill", *typed, "--reason", "a test")
    assert (done.status, done.err) == (0, "")
    assert done.out == "".join(f"run.aos/{name} killed\n" for name in names)
    assert [tenant.run_row(run)["run_state"] for run in runs] == ["cancelled"] * 4


def test_signals_stop_and_continue(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    name = name_of(tenant, run)
    for signal, word, state in (
        ("STOP", "stopped", "paused"),
        ("SIGCONT", "continued", "active"),
        ("kill", "killed", "cancelled"),
    ):
        done = developer("kill", "-s", signal, name)
        assert (done.status, done.out, done.err) == (0, f"run.aos/{name} {word}\n", "")
        assert tenant.run_row(run)["run_state"] == state


def test_a_run_that_is_over_does_not_resume(developer: Aosctl, tenant: Tenant) -> None:
    over, paused = tenant.start_run(), tenant.start_run()
    names = [name_of(tenant, run) for run in (over, paused)]
    developer("kill", names[0])
    developer("kill", "-s", "STOP", names[1])
    done = developer("resume", *names)
    assert (done.status, done.out) == (1, f"run.aos/{names[1]} resumed\n")
    assert done.err == (
        f'error: run "{names[0]}" is already cancelled\nhint: aosctl chat bot begins another\n'
    )
    assert "Cost Usd:         0\n" in developer("describe", "run", names[1]).out


def test_what_kill_refuses(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    name = name_of(tenant, run)
    developer("kill", name)
    done = developer("kill", name)
    assert (done.status, done.out) == (1, "")
    assert done.err == f'error: run "{name}" is already cancelled\nhint: nothing was changed\n'
    done = developer("kill", "-s", "STOP", name)
    assert done.err.startswith(f'error: run "{name}" is already cancelled\n')
    done = developer("kill", "no-such-run")
    assert (done.status, done.err) == (
        1,
        'Error from server (NotFound): runs.aos "no-such-run" not found\n'
        "hint: aosctl ps -a lists the runs\n",
    )
    done = developer("kill", "-s", "HUP", name)
    assert (done.status, done.err) == (
        2,
        'error: unknown signal "HUP"\nhint: one of TERM, KILL, STOP, CONT\n',
    )
    assert developer("kill").status == 2


def test_an_ambiguous_end_lists_the_candidates(developer: Aosctl, tenant: Tenant) -> None:
    for name in ("same-end", "other-same-end"):
        call(tenant.person, "aos_agent.start_run", tenant.id, "bot", "conversation", name)
    done = developer("kill", "end")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'error: run "end" is ambiguous: same-end, other-same-end\nhint: type more of the name\n'
    )
    done = developer("kill", "same-end")
    assert done.out == "run.aos/same-end killed\n"


def test_get_and_describe_show_runs(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    name = name_of(tenant, run)
    done = developer("get", "run", name, "--no-headers")
    assert cells(done.out)[:4] == [name, "bot", "idle", "0"]
    done = developer("describe", f"run/{name}")
    assert done.out.startswith(f"Name:         {name}\nTenant:       acme\n")
    assert re.search(r"\n  \d+s +run\.created +user:dev\n$", done.out)
    assert re.search(r"\n  Cost Usd: +0\n", done.out)


def test_approve_without_an_id_lists_and_hints(developer: Aosctl, tenant: Tenant) -> None:
    none = developer("approve")
    assert (none.status, none.out, none.err) == (0, "", "No pending approvals in acme tenant\n")
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    one = short(tenant, asked.call)
    done = developer("approve")
    assert (done.status, done.err) == (
        0,
        f'hint: aosctl approve {one}, or aosctl deny {one} --reason "…"\n',
    )
    head, row = done.out.splitlines()
    assert cells(head) == [
        "ID",
        "RUN",
        "AGENT",
        "SKILL",
        "ARGS",
        "CHANGES",
        "AGE",
        "EXPIRES",
        "WHY",
    ]
    found = cells(row)
    assert found[:5] == [one, name_of(tenant, asked.run), "clerk", "sql_execute", SHOWN]
    assert found[5] == "<none>"  # nobody has tried it
    assert found[7:] == ["23h", "the skill's risk is high"]
    assert json.loads(developer("approve", "-o", "json").out)["items"][0]["spec"]["args"] == DELETE
    done = developer("approve", one)
    assert (done.status, done.out, done.err) == (0, f"approval.aos/{one} approved\n", "")
    assert tenant.call_state(asked.call) == "approved"


def test_the_second_who_decides_is_told_of_the_first(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    one = short(tenant, asked.call)
    developer("deny", one, "--reason", "use the archive")
    done = developer("approve", one)
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(
        rf"error: approval\.aos/{one}: already denied by user:dev, \d+s ago\n"
        r"hint: nothing was changed\n",
        done.err,
    )
    assert tenant.transcript(asked.run)[-1] == (
        "tool",
        '{"error": "denied by user:dev: use the archive"}',
    )


def test_an_approval_answers_to_its_id_and_to_its_run(developer: Aosctl, tenant: Tenant) -> None:
    waiting = [tenant.asked("sql_execute", DELETE, "clerk") for _ in range(4)]
    ids = [tenant.approval(asked.call)[0] for asked in waiting]
    typed = [
        str(ids[0]),
        f"approval.aos/{ids[1].hex[-8:]}",
        ids[2].hex[-5:],
        name_of(tenant, waiting[3].run),
    ]
    done = developer("approve", *typed)
    assert (done.status, done.err) == (0, "")
    assert done.out == "".join(f"approval.aos/{one.hex[-8:]} approved\n" for one in ids)


def test_what_can_not_be_found_is_refused_before_anything_is_decided(
    developer: Aosctl, tenant: Tenant
) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    one = short(tenant, asked.call)
    done = developer("approve", one, "nothing")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'Error from server (NotFound): approvals.aos "nothing" not found\n'
        "hint: aosctl approve lists what is pending\n"
    )
    assert tenant.call_state(asked.call) == "awaiting_approval"
    idle = name_of(tenant, tenant.start_run())
    done = developer("approve", idle)
    assert done.err.splitlines()[0] == (
        f'Error from server (NotFound): run "{idle}" has no pending approval'
    )
    developer("deny", one)


def test_a_run_that_asks_twice_is_ambiguous_and_all_takes_both(
    developer: Aosctl, tenant: Tenant
) -> None:
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, ask(("sql_execute", DELETE), ("send_mail", {"query": "x"})))
    done = developer("approve", name_of(tenant, run))
    assert (done.status, done.out) == (1, "")
    assert re.match(
        rf'error: approval "{name_of(tenant, run)}" is ambiguous: [0-9a-f]{{8}} \(sql_execute of ',
        done.err,
    )
    done = developer("deny", "--all", "-y", "--reason", "not today")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"(approval\.aos/[0-9a-f]{8} denied\n){2}", done.out)
    assert developer("approve", "--all", "x").status == 2


def test_what_hides_in_arguments_is_made_visible(developer: Aosctl, tenant: Tenant) -> None:
    hidden = {"statement": "delete from a --\u202e safe\x1b[2K"}
    asked = tenant.asked("sql_execute", hidden, "clerk")
    done = developer("approve")
    assert "delete from a --\\u202e safe\\u001b[2K" in done.out
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    developer("deny", short(tenant, asked.call))


def test_an_expired_approval_is_not_offered(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    tenant.database.move_clock("25 hours")
    try:
        assert developer("approve").err == "No pending approvals in acme tenant\n"
        done = developer("approve", short(tenant, asked.call))
        assert done.status == 1
        assert "expired at" in done.err
    finally:
        tenant.database.move_clock()
    developer("kill", name_of(tenant, asked.run))


def test_a_viewer_looks_and_changes_nothing(aosctl: Aosctl, tenant: Tenant) -> None:
    database = tenant.database
    login = database.person("test_viewer", "aos_viewer")
    principal = {"type": "user", "displayName": "V", "dbRole": login, "roles": ["viewer"]}
    apply(database.superuser, "aos_auth.apply_principal", tenant.id, "viewer", principal)
    dsn = database.cluster.dsn(login, database.name)
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    name, one = name_of(tenant, asked.run), short(tenant, asked.call)
    for words in (["ps", "-q"], ["approve", "-o", "name"], ["logs", name], ["get", "agents"]):
        done = aosctl(*words, AOSCTL_DSN=dsn)
        assert (done.status, done.err) == (0, "")
        assert done.out
    for words in (["kill", name], ["approve", one], ["deny", one], ["delete", "agent", "bot"]):
        done = aosctl(*words, AOSCTL_DSN=dsn)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("Error from server (Forbidden): ")
    assert done.err == (
        "Error from server (Forbidden): the login may not change agents here\n"
        "hint: it needs the role developer in the tenant\n"
    )
    assert tenant.call_state(asked.call) == "awaiting_approval"
    aosctl("kill", name, AOSCTL_DSN=database.cluster.dsn("test_developer", database.name))


def test_a_finished_turn_leaves_the_list(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("done"), p_usage={"in": 20_000, "out": 400})
    assert name_of(tenant, run) not in developer("ps", "-q").out
    row = next(
        line for line in developer("ps", "-a").out.splitlines() if name_of(tenant, run) in line
    )
    assert cells(row)[2:8] == ["idle", "1", "2", "<none>", "20k", "$0.00"]
