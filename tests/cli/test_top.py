"""`aosctl top`: agents, sums, and a picture that follows changes."""

from __future__ import annotations

import subprocess

from command import AOSCTL, Aosctl
from kernels import Tenant, call, say
from terminal import Terminal

DELETE = {"statement": "delete from shop.orders"}


def name_of(tenant: Tenant, run: object) -> str:
    return str(tenant.database.value("select name from aos_core.run where run_id = %s", run))


def test_agents_are_added_up(developer: Aosctl, tenant: Tenant) -> None:
    for agent, tokens in (("bot", 10), ("clerk", 70), ("clerk", 7)):
        run = tenant.start_run(agent)
        lease = tenant.open(run, p_worker="w1")
        tenant.respond(lease, say("x"), p_usage={"in": tokens, "out": 0})
    tenant.asked("sql_execute", DELETE, "clerk")
    done = developer("top", "agents", "-a", "--sum", "--sort-by", "tokens")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith("4 runs in acme tenant: ")
    _, _, _, header, clerk, bot, total = map(str.split, done.out.splitlines())
    assert header == ["AGENT", "RUNS", "RUNNING", "WAITING", "TOKENS", "COST", "LAST"]
    assert clerk[:6] == ["clerk", "3", "0", "1", "77", "$0.00"]
    assert bot[:6] == ["bot", "1", "0", "0", "10", "$0.00"]
    assert total == ["TOTAL", "4", "87", "$0.00"]
    # Of the open ones alone, by default; -A says whose they are.
    assert "bot" not in developer("top", "agents", "--once").out
    assert developer("top", "agents", "-A").out.splitlines()[3].startswith("TENANT   AGENT")
    done = developer("top", "runs", "-a", "--sum", "--sort-by", "name")
    assert done.out.splitlines()[-1].split() == ["TOTAL", "87", "$0.00"]
    for words, error in (
        (("mood",), 'error: there is no top of "mood"\nhint: one of runs, agents\n'),
        (("-w", "--once"), "error: -w and --once exclude each other: -w goes on\n"),
    ):
        refused = developer("top", *words)
        assert (refused.status, refused.out) == (2, "") and refused.err.startswith(error)
    developer("kill", "--all", "-y")


def test_the_picture_follows_changes_and_not_the_interval_alone(
    env: dict[str, str], tenant: Tenant
) -> None:
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, "top", "--interval", "3600") as terminal:
        terminal.stands("0 runs in acme tenant")
        asked = tenant.asked("sql_execute", DELETE, "clerk")
        assert "awaiting_approval" in terminal.stands(name_of(tenant, asked.run))
        call(tenant.person, "aos_agent.cancel_run", tenant.id, asked.run)
        terminal.stands("0 runs in acme tenant")
        terminal.type("q")
        assert terminal.status() == 0


def test_off_a_terminal_each_change_is_a_table_of_its_own(
    env: dict[str, str], tenant: Tenant
) -> None:
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    process = subprocess.Popen(
        [AOSCTL, "top", "agents", "--watch"],
        env={**env, "AOSCTL_DSN": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "0 runs in acme tenant\n"
        asked = tenant.asked("sql_execute", DELETE, "clerk")
        # It may be seen while it still runs; then it waits for approval.
        assert any(line.split()[:4] == ["clerk", "1", "0", "1"] for line in lines)
        call(tenant.person, "aos_agent.cancel_run", tenant.id, asked.run)
        assert "0 runs in acme tenant\n" in lines
    finally:
        process.kill()
        process.communicate()
