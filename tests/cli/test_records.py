"""`get` and `describe` of what runs leave behind: turns, approvals and events."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from command import AOSCTL, Aosctl
from kernels import META, Asked, Tenant, apply, call, say
from terminal import CTRL_C, Terminal

DELETE = {"statement": "delete from nothing"}


@pytest.fixture(scope="module")
def done_run(tenant: Tenant) -> str:
    """A run with two turns that are over."""
    run = tenant.start_run()
    for text in ("one", "two"):
        tenant.respond(tenant.open(run, text, p_worker="w1"), say("yes"))
    return name_of(tenant, run)


@pytest.fixture(scope="module")
def asked(tenant: Tenant) -> Asked:
    """A call that waits for a person."""
    return tenant.asked("sql_execute", DELETE, "clerk")


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def test_turns_are_listed_and_named_by_their_run(
    developer: Aosctl, done_run: str, asked: Asked, tenant: Tenant
) -> None:
    done = developer("get", "turns")
    assert (done.status, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == ["NAME", "AGENT", "STATE", "ATTEMPTS", "AGE"]
    found = {line.split()[0]: line.split()[1:3] for line in lines}
    assert found[f"{done_run}.1"] == found[f"{done_run}.2"] == ["bot", "completed"]
    assert found[f"{name_of(tenant, asked.run)}.1"] == ["clerk", "awaiting_approval"]
    done = developer("get", "turn", f"{done_run}.2", "-o", "json")
    turn = json.loads(done.out)
    assert (turn["kind"], turn["metadata"]["name"]) == ("Turn", f"{done_run}.2")
    assert turn["spec"] == {"run": done_run, "agent": "bot", "number": 2}
    assert turn["status"]["state"] == "completed"
    assert "generation" not in turn["metadata"]


def test_a_turn_is_described(developer: Aosctl, done_run: str) -> None:
    done = developer("describe", f"turn/{done_run}.1")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Name:     {done_run}.1\nTenant:   acme\n")
    assert "  State:        completed\n" in done.out
    assert "Generation" not in done.out
    assert "Events:" not in done.out


def test_approvals_are_listed_whatever_became_of_them(
    developer: Aosctl, asked: Asked, tenant: Tenant
) -> None:
    refused = tenant.asked("sql_execute", DELETE, "clerk")
    assert developer("deny", name_of(tenant, refused.run)).status == 0
    done = developer("get", "appr", "-o", "custom-columns=R:.spec.run,S:.status.state")
    assert (done.status, done.err) == (0, "")
    rows = dict(line.split() for line in done.out.splitlines()[1:])
    assert rows[name_of(tenant, asked.run)] == "pending"
    assert rows[name_of(tenant, refused.run)] == "denied"
    (name,) = developer(
        "get", "approvals", "-o", "jsonpath={.items[?(@.status.state=='pending')].metadata.name}"
    ).out.split()
    assert developer("approve", name, "--show").out.count(DELETE["statement"]) == 1
    described = developer("describe", "approval", name)
    assert described.status == 0
    assert "    Statement:  delete from nothing\n" in described.out


def test_an_approval_is_printed_alike_by_whatever_prints_it(
    developer: Aosctl, tenant: Tenant, asked: Asked
) -> None:
    name = str(tenant.approval(asked.call)[0])
    shown = developer("approve", name, "-o", "json")  # which tries what it would do, once
    assert shown.status == 0, shown.err
    (listed,) = json.loads(shown.out)["items"]
    assert listed == json.loads(developer("get", "approval", name, "-o", "json").out)


def test_events_of_runs_and_of_the_tenant_are_listed(
    developer: Aosctl, admin: Aosctl, done_run: str
) -> None:
    rows = developer("get", "events", "--no-headers").out.splitlines()
    found = {row.split()[0]: row.split()[1] for row in rows}
    assert found[f"{done_run}.1"] == "run.created"
    assert any(name.startswith("acme.") and kind == "agent.created" for name, kind in found.items())
    done = developer("get", "ev", f"{done_run}.1", "-o", "json")
    event = json.loads(done.out)
    assert (event["spec"]["kind"], event["spec"]["actor"]) == ("run.created", "user:dev")
    assert admin("get", "events", "-A").out.startswith("TENANT")
    name = next(name for name in found if name.startswith("acme."))
    assert admin("describe", "event", name).out.startswith(f"Name:     {name}\n")


@pytest.mark.parametrize("kind", ["turns", "events", "approvals"])
def test_a_record_of_nothing_and_of_another_tenant_is_not_found(
    developer: Aosctl, done_run: str, tenant: Tenant, kind: str
) -> None:
    superuser = tenant.database.superuser
    name, login = f"other-{kind}", tenant.database.person(f"other_{kind}", "aos_developer")
    call(superuser, "aos_auth.apply_tenant", name, META, {"displayName": name})
    other = tenant.database.value("select tenant_id from aos_auth.tenant where name = %s", name)
    apply(superuser, "aos_auth.apply_principal", UUID(str(other)), "guest", {
        "type": "user", "displayName": "Guest", "dbRole": login, "roles": ["developer"],
    })  # fmt: skip
    names = [
        "nope",
        f"{done_run}.9",
        f"{done_run}.x",
        f"{done_run}.",
        ".1",
        f"{done_run}.99999999999",
    ]
    for name in names:
        done = developer("get", kind, name)
        assert (done.status, done.out) == (1, ""), name
        assert done.err.splitlines()[0] == (
            f'Error from server (NotFound): {kind}.aos "{name}" not found'
        )
    dsn = tenant.database.cluster.dsn(login, tenant.database.name)
    guest = partial(developer, AOSCTL_DSN=dsn)
    if kind != "approvals":
        assert developer("get", kind, f"{done_run}.1").status == 0
        assert guest("get", kind, f"{done_run}.1").status == 1
    assert done_run not in guest("get", kind, "-A").out


def test_records_are_neither_applied_nor_deleted(developer: Aosctl, done_run: str) -> None:
    text = developer("get", "turn", f"{done_run}.1", "-o", "yaml").out
    done = developer("apply", "-f", "-", stdin=text)
    assert (done.status, done.out) == (1, "")
    assert 'no matches for kind "Turn" in version "aos/v1"' in done.err
    for verb, change in (("label", "a=b"), ("annotate", "a=b"), ("patch", "-p{}")):
        for kind in ("turn", "approval", "event"):
            done = developer(verb, kind, "nope", change)
            assert (done.status, done.out) == (2, "")
            assert f"{kind}s have no manifest that {verb} could change" in done.err
    done = developer("delete", "events", "--all")
    assert (done.status, done.out) == (2, "")
    assert done.err == ("error: events are not deleted: they go as spec.retention says\n")


def documents(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield objects that come one after the other, each over several lines."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            yield json.loads(text)
            text = ""


def test_approvals_are_watched_in_a_pipe_at_a_terminal_and_as_json(
    tenant: Tenant, env: dict[str, str], developer: Aosctl
) -> None:
    """Each change is a row; Ctrl-C ends it with 130, and nothing is on stderr."""
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    given = {**env, "AOSCTL_DSN": dsn}
    first = tenant.asked("sql_execute", DELETE, "clerk")
    known = name_of(tenant, first.run)
    pipes = [
        subprocess.Popen(
            [AOSCTL, "get", "approvals", "-w", *flags],
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for flags in ((), ("-o", "json"))
    ]
    table, lines = pipes
    assert table.stdout is not None and lines.stdout is not None
    with Terminal(given, "get", "approvals", "-w") as watch:
        watch.expect_text(known)
        head = table.stdout.readline().split()
        assert head == ["NAME", "RUN", "SKILL", "STATE", "DECIDED-BY", "SCOPE", "AGE"]
        rows = iter(table.stdout.readline, "")
        assert next(row for row in rows if known in row).split()[3] == "pending"
        objects = documents(iter(lines.stdout.readline, ""))
        assert next(one for one in objects if one["spec"]["run"] == known)["kind"] == "Approval"
        tenant.decide(first.call, "denied", "no")
        assert next(row for row in rows if known in row).split()[3:5] == ["denied", "user:dev"]
        told = next(one for one in objects if one["spec"]["run"] == known)["status"]
        assert (told["state"], told["decisionReason"]) == ("denied", "no")
        watch.expect(known + r" +sql_execute +denied +user:dev +once")
        assert watch.raw.count("NAME ") == 1 and "\x1b" not in watch.raw
        watch.type(CTRL_C)
        assert watch.status() == 130
    for pipe in pipes:
        pipe.send_signal(signal.SIGINT)
        _, err = pipe.communicate()
        assert (pipe.returncode, err) == (130, "")
    once = developer("get", "approvals", "-w", "-o", "yaml", "--watch-only=wrong")
    assert (once.status, once.out) == (2, "")
