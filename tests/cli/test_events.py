"""`aosctl events`: the facts of a tenant's trail, once and as they come."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from uuid import UUID

import pytest

from aosctl.db.install import schema_files
from aosctl.domain.event_kinds import FAMILIES, KINDS
from command import AOSCTL, Aosctl
from kernels import KernelDatabase, Tenant, apply, call, make_tenant, say

DELETE = {"statement": "delete from shop.orders where order_id = 1"}


@pytest.fixture(scope="module")
def auditor_dsn(kernel_database: KernelDatabase, tenant: Tenant) -> str:
    login = kernel_database.person("test_auditor_events", "aos_auditor")
    apply(kernel_database.superuser, "aos_auth.apply_principal", tenant.id, "eve", {
        "type": "user", "displayName": "Eve", "dbRole": login, "roles": ["auditor"],
    })  # fmt: skip
    return kernel_database.cluster.dsn(login, kernel_database.name)


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def test_a_run_is_told_in_the_order_of_time(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    name = name_of(tenant, asked.run)
    tenant.decide(asked.call, "denied", "use\x1b[31m the\narchive")
    done = developer("events", "--for", name)
    assert (done.status, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == ["AGE", "EVENT", "OBJECT", "BY", "DETAIL"]
    assert [line.split()[1] for line in lines] == [
        "run.created", "turn.opened", "model.answered", "approval.denied",
    ]  # fmt: skip
    assert all(f" run/{name} " in line for line in lines)
    assert " user:dev " in lines[3] and "reason=use the archive" in lines[3]
    assert "\x1b" not in done.out and "sha256" not in done.out
    # The control of --for: another run's are not among them, and without it both are.
    other = name_of(tenant, tenant.start_run())
    assert other not in developer("events", "--for", name).out
    assert all(one in developer("events").out for one in (name, other))


def test_types_since_and_tail_narrow(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    name = name_of(tenant, asked.run)
    tenant.decide(asked.call, "approved")
    kinds = [
        line.split()[1]
        for line in developer(
            "events", "--for", name, "--types", "approval,turn.opened", "--no-headers"
        ).out.splitlines()
    ]
    assert kinds == ["turn.opened", "approval.approved"]
    done = developer("events", "--for", f"run/{name}", "--tail", "1", "--no-headers")
    assert [line.split()[1] for line in done.out.splitlines()] == ["approval.approved"]
    assert done.err == "the last 1; --tail -1 lists all\n"
    assert developer("events", "--for", name, "--tail", "-1").err == ""
    tenant.database.move_clock("2 hours")
    try:
        none = developer("events", "--types", "approval")
        assert (none.status, none.out) == (0, "")
        assert none.err == ("No events in acme tenant in the last hour; aosctl events --since 1d\n")
        assert name in developer("events", "--since", "3h", "--types", "approval").out
        assert name in developer("events", "--for", name).out
    finally:
        tenant.database.move_clock()


def test_json_is_an_event_a_line_and_safe(developer: Aosctl, tenant: Tenant) -> None:
    run = tenant.start_run()
    call(tenant.person, "aos_agent.cancel_run", tenant.id, run, "a\u202eb\nc")
    done = developer("events", "--for", str(run), "-o", "json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["seq"], one["kind"]) for one in found] == [
        (1, "run.created"),
        (2, "run.cancelled"),
    ]
    assert found[1]["data"]["reason"] == "a\u202eb\nc" and "\u202e" not in done.out
    assert found[1]["object"] == f"run/{name_of(tenant, run)}" and found[1]["agent"] == "bot"


def test_agents_have_theirs(developer: Aosctl, tenant: Tenant) -> None:
    tenant.start_run("clerk")
    lines = developer("events", "--for", "agent/clerk", "--no-headers").out.splitlines()
    assert lines and all("run/clerk-" in line for line in lines)
    assert any("run/bot-" in line for line in developer("events").out.splitlines())


def test_what_the_role_may_not_see_is_not_listed(
    developer: Aosctl, aosctl: Aosctl, tenant: Tenant, auditor_dsn: str
) -> None:
    apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "pat", {
        "type": "user", "displayName": "Pat", "roles": ["viewer"],
    })  # fmt: skip
    theirs = aosctl("events", "--types", "principal", AOSCTL_DSN=auditor_dsn)
    assert " principal/pat " in theirs.out and theirs.status == 0
    assert "principal/pat" not in developer("events").out
    # What the tenant's chain repeats of its runs stands in the list once.
    run = tenant.start_run()
    once = aosctl("events", "--types", "run.created", AOSCTL_DSN=auditor_dsn).out
    assert once.count(name_of(tenant, run)) == 1


def test_another_tenants_events_are_nobodys_business(
    developer: Aosctl, admin: Aosctl, kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    other = make_tenant(kernel_database, "umbrella")
    run = other.start_run()
    name = name_of(other, run)
    call(kernel_database.superuser, "aos_auth.delete_principal", other.id, "dev")
    done = developer("events", "-n", "acme")
    assert name not in done.out and done.status == 0
    assert developer("events", "-n", "acme", "--for", name).status == 1
    assert name in admin("events", "-A").out
    head = admin("events", "-A").out.splitlines()[0]
    assert head.startswith("TENANT ")


@pytest.mark.parametrize(
    ("flags", "status", "error"),
    [
        (("--for", "nobody"), 1, 'Error from server (NotFound): runs.aos "nobody" not found\n'),
        (("--for", "agent/x"), 1, 'Error from server (NotFound): agents.aos "x" not found\n'),
        (("--since", "soon"), 2, 'error: invalid time "soon"\n'),
        (("--types", " ,"), 2, "error: --types names no kind of event\n"),
        (("--types", "approval,nosuch"), 2, 'error: there are no events of the kind "nosuch"\n'),
        (("--types", "turn.fail"), 2, 'error: there are no events of the kind "turn.fail"; did '),
        (("--tail", "-2"), 2, "error: "),
        (("-w", "-A"), 2, "error: -A and -w exclude each other: choose a tenant"),
        (("-A", "--for", "x"), 2, "error: -A and --for exclude each other: choose a"),
        (("-o", "yaml"), 2, 'error: unable to match a printer suitable for the output format "y'),
    ],
)
def test_bad_input_is_refused(
    flags: tuple[str, ...], status: int, error: str, developer: Aosctl
) -> None:
    done = developer("events", *flags)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(error)


@contextmanager
def watching(env: dict[str, str], tenant: Tenant, *flags: str) -> Iterator[IO[str]]:
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    process = subprocess.Popen(
        [AOSCTL, "events", "-w", *flags],
        env={**env, "AOSCTL_DSN": dsn},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until(lines: IO[str], part: str) -> list[str]:
    """Read until a line has `part`; return all that came."""
    came: list[str] = []
    while part not in "".join(came[-1:]):
        line = lines.readline()
        assert line, f"ended before {part!r}, after {came}"
        came.append(line)
    return came


def test_watch_shows_what_comes_once_each(env: dict[str, str], tenant: Tenant) -> None:
    first = tenant.start_run()
    with watching(env, tenant, "-o", "json") as lines:
        until(lines, name_of(tenant, first))
        second = tenant.start_run()
        tenant.respond(tenant.open(second, p_worker="w1"), say("hi"))
        call(tenant.person, "aos_agent.cancel_run", tenant.id, first)
        call(tenant.person, "aos_agent.cancel_run", tenant.id, second)
        came: list[str] = []
        while sum("run.cancelled" in line for line in came) < 2:
            came += until(lines, "run.cancelled")
    found = [json.loads(line) for line in came]
    of_second = [
        (one["seq"], one["kind"]) for one in found if one["run"] == name_of(tenant, second)
    ]
    assert of_second == [
        (1, "run.created"), (2, "turn.opened"), (3, "turn.completed"), (4, "run.cancelled"),
    ]  # fmt: skip
    of_first = [one["kind"] for one in found if one["run"] == name_of(tenant, first)]
    assert of_first == ["run.cancelled"]


def test_watch_ends_with_the_run_that_it_is_for(env: dict[str, str], tenant: Tenant) -> None:
    run = tenant.start_run()
    with watching(env, tenant, "--for", str(run), "--no-headers") as lines:
        until(lines, "run.created")
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
        rest = lines.read()
    assert [line.split()[1] for line in rest.splitlines()] == ["run.cancelled"]


def test_every_kind_of_event_can_be_asked_for(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    schema = "".join(path.read_text() for path in schema_files())
    written = set(re.findall(r"append_(?:run|tenant)_event\([^;]*?'([a-z_]+\.[a-z_]+)'", schema))
    assert len(written) > 12 and written <= set(KINDS)
    logged = kernel_database.rows("select distinct kind from aos_core.event_log")
    assert {row[0] for row in logged} <= set(KINDS)
    tables = kernel_database.rows(
        "select distinct tgrelid::regclass::text from pg_trigger where tgname = 'record_change'"
    )
    assert {row[0].partition(".")[2] for row in tables} <= set(FAMILIES)
