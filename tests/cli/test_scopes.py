"""Approving further than one call: flags, keys, what is listed, and how it is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from command import Aosctl
from kernels import Tenant, apply, call
from kernels import ask as asks
from terminal import ENTER, QUESTION, Terminal

Open = Callable[..., Terminal]
MAIL = {"query": "to everybody"}
PATTERN = "only arguments like"


@pytest.fixture
def chat(shop: dict[str, str]) -> Iterator[Terminal]:
    """A chat with the offline agent of the shop, at its prompt."""
    with Terminal(shop, "chat", "my_pg_bot") as terminal:
        terminal.prompt()
        yield terminal


@pytest.fixture
def open_terminal(env: dict[str, str], tenant: Tenant) -> Iterator[Open]:
    """Open the developer's terminals; closed at the end."""
    opened: list[Terminal] = []
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal({**env, "AOSCTL_DSN": dsn}, *arguments))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.__exit__()


def waiting(tenant: Tenant) -> tuple[UUID, UUID, str]:
    """Return a run, its call that waits, and how people name the approval."""
    asked = tenant.asked("send_mail", MAIL, "clerk")
    return asked.run, asked.call, tenant.approval(asked.call)[0].hex[-8:]


def go_on(tenant: Tenant, run: UUID, call_id: UUID, *args: dict[str, Any]) -> list[str]:
    """Carry the approved call out, and let the model ask for more; return the states of these."""
    lease = tenant.claim(run=run)
    call(tenant.worker, "aos_agent.start_call", tenant.id, call_id, lease["lease"])
    tenant.result(call_id, lease, {"sent": 1})
    calls = tenant.respond(lease, asks(*[("send_mail", one) for one in args]))["calls"]
    return [str(one["status"]) for one in calls]


def allowance(tenant: Tenant, run: UUID) -> str:
    found = tenant.database.value(
        "select allowance_id from aos_core.allowance where run_id = %s", run
    )
    return str(UUID(str(found)).hex[-8:])


def test_a_run_is_allowed_listed_told_of_and_taken_back(developer: Aosctl, tenant: Tenant) -> None:
    run, call_id, one = waiting(tenant)
    done = developer("approve", one, "--scope", "run", "--match", "to *", "--expires", "1h")
    short = allowance(tenant, run)
    assert (done.status, done.out) == (
        0, f"allowance.aos/{short} created\napproval.aos/{one} approved for its run\n",
    )  # fmt: skip
    assert done.err == (
        "in this run send_mail passes with query like to *;"
        f" aosctl delete allowance {short} takes it back\n"
    )
    assert go_on(tenant, run, call_id, {"query": "to nobody"}, {"query": "all"}) == [
        "approved", "awaiting_approval",
    ]  # fmt: skip
    listed = developer("get", "allowances")
    head, line = listed.out.splitlines()
    assert head.split() == [
        "NAME", "RUN", "SKILL", "MATCH", "STATE", "CALLS", "GRANTED-BY", "AGE",
    ]  # fmt: skip
    assert line.startswith(short) and "query like to *  active  1" in " ".join(
        [line.replace("   ", "  ")]
    )
    wide = developer("get", "allowances", "-o", "wide", "--no-headers").out
    assert wide.split()[-1] in ("60m", "59m")  # how long it still holds
    told = json.loads(developer("get", "allowance", short, "-o", "json").out)
    assert told["spec"]["match"] == "query like to *" and told["status"]["calls"] == 1
    name = str(tenant.run_row(run)["name"])
    rows = json.loads(developer("get", "approvals", "-o", "json").out)["items"]
    mine = {r["status"].get("allowance"): r["status"] for r in rows if r["spec"]["run"] == name}
    assert mine[short]["decidedBy"] == "the allowance of user:dev"
    assert mine[short]["scope"] == "run"
    logged = developer("logs", name).out
    assert (
        f"allowance granted by user:dev: send_mail in this run with some arguments · {short}"
        in (logged)
    )
    assert "approval approved by the allowance of user:dev: send_mail(to nobody)" in logged
    assert "passed: allowance of user:dev" in developer("trace", name, COLUMNS="200").out
    assert "the allowance of user:dev" in developer("describe", "run", name).out
    tried = developer("delete", "allowance", short, "--dry-run=server")
    assert tried.out == f'allowance.aos "{short}" deleted (server dry run)\n'
    gone = developer("delete", f"allowance/{short}")
    assert (gone.status, gone.out) == (0, f'allowance.aos "{short}" deleted\n')
    again = developer("delete", "allowance", short)
    assert (again.status, again.out) == (1, "")
    assert again.err.startswith("error: already revoked by user:dev, ")
    assert "allowance revoked by user:dev: send_mail" in developer("logs", name).out
    assert developer("delete", "allowances", "--all").err == "No resources found in acme tenant.\n"
    unknown = developer("delete", "allowance", "nothing")
    assert (unknown.status, unknown.err) == (
        1,
        'Error from server (NotFound): allowances.aos "nothing" not found\n',
    )
    assert developer("audit", "verify").status == 0


def test_always_writes_a_policy_where_one_may_and_it_would_help(
    developer: Aosctl, admin: Aosctl, tenant: Tenant
) -> None:
    _, call_id, one = waiting(tenant)
    refused = developer("approve", one, "--scope", "always", "--match", "to *")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == (
        f"Error from server (Forbidden): approval.aos/{one}: not for always: only an admin of the"
        " tenant writes policies\nhint: aosctl approve ID approves this call by itself\n"
    )
    assert tenant.call_state(call_id) == "awaiting_approval"
    done = admin("-n", "acme", "approve", one, "--scope", "always", "--match", "to *")
    assert done.status == 0, done.err
    created, approved = done.out.splitlines()
    name = created.removeprefix("policy.aos/").removesuffix(" created")
    assert approved == f"approval.aos/{one} approved for always"
    assert f"+++ {name}" in done.err and "- path: query" in done.err
    other = tenant.asked("send_mail", {"query": "to nobody"}, "clerk")
    assert other.answer["calls"][0]["status"] == "running"
    assert name in developer("get", "policies").out
    assert admin("-n", "acme", "delete", "policy", name).status == 0
    asked = waiting(tenant)
    assert tenant.call_state(asked[1]) == "awaiting_approval"

    apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, "careful", {
        "skills": ["send_mail"], "decision": "ask", "approvers": {"fourEyes": True},
    })  # fmt: skip
    try:
        _, call_id, one = waiting(tenant)
        for scope, why in (
            ("run", 'not for this run: policy "careful" demands four eyes'),
            ("always", 'not for always: policy "careful" demands four eyes'),
        ):
            done = admin("-n", "acme", "approve", one, "--scope", scope)
            assert (done.status, done.out) == (1, "")
            assert f"approval.aos/{one}: {why}" in done.err
        wrong = developer("approve", one, "--scope", "run", "--match", "bcc=x")
        assert wrong.status == 1
        assert tenant.call_state(call_id) == "awaiting_approval"
    finally:
        call(tenant.database.superuser, "aos_skills.delete_policy", tenant.id, "careful")


def test_the_keys_of_the_inbox_explain_and_reach_further(
    open_terminal: Open, developer: Aosctl, tenant: Tenant
) -> None:
    for (left,) in tenant.database.rows(
        "select call_id from aos_core.approval where tenant_id = %s and state = 'pending'",
        tenant.id,
    ):
        tenant.decide(left, "denied")
    run, call_id, one = waiting(tenant)
    terminal = open_terminal("approve", "-i")
    terminal.expect_text("q quit, then Enter >")
    terminal.type("?" + ENTER)
    seen = terminal.expect_text("q quit, then Enter >")
    assert "asked because the skill's risk is high" in seen
    assert "s  so do later calls of send_mail in this run, unseen" in seen
    assert "a  not here: only an admin of the tenant writes policies" in seen
    terminal.type("a" + ENTER)
    assert "not for always: only an admin" in terminal.expect_text("q quit, then Enter >")
    terminal.type("s" + ENTER)
    terminal.expect_text(PATTERN)
    terminal.type(ENTER)  # and back
    terminal.expect_text("q quit, then Enter >")
    terminal.type("s" + ENTER)
    terminal.expect_text(PATTERN)
    terminal.type("from *" + ENTER)
    assert "does not fit the conditions" in terminal.expect_text("q quit, then Enter >")
    assert tenant.call_state(call_id) == "awaiting_approval"
    terminal.type("s" + ENTER)
    terminal.expect_text("would run without being shown first")
    terminal.expect_text(PATTERN)
    terminal.type("*" + ENTER)
    seen = terminal.expect_text(f"approval.aos/{one} approved for its run")
    assert "in this run send_mail passes with any arguments" in seen
    assert terminal.status() == 0
    assert go_on(tenant, run, call_id, {"query": "all"}) == ["approved"]


def test_the_keys_of_the_chat_explain_and_reach_further(chat: Terminal, here: Aosctl) -> None:
    def delete(number: int) -> str:
        return f"delete from orders where order_id = {number}"  # noqa: S608 - a number

    chat.say(delete(-1))
    chat.expect_text(QUESTION)
    chat.press("?")
    seen = chat.expect_text("d  it goes on waiting")
    assert "asked because the skill's risk is high" in seen
    assert "s  so do later calls of sql_execute in this run, unseen" in seen
    assert "a  so do all calls of sql_execute by my_pg_bot, in every run" in seen
    chat.expect_text(QUESTION)
    chat.press("s")
    chat.expect_text("would run without being shown first")
    chat.expect_text(PATTERN)
    chat.type("delete from orders *" + ENTER)  # noqa: S608 - a pattern
    seen = chat.expect_text("takes it back")
    assert "passes with statement like delete from orders *" in seen
    chat.expect_text("0 rows")
    chat.prompt()
    chat.say(delete(-2))
    assert "needs your approval" not in chat.expect_text("0 rows")
    chat.prompt()
    chat.say("update orders set quantity = 1 where order_id = -1")  # wider than the pattern
    chat.expect_text(QUESTION)
    chat.press("a")
    chat.expect_text(PATTERN)
    chat.type("*" + ENTER)
    seen = chat.expect_text("y or n >")
    assert "+++ allow-my_pg_bot-sql_execute" in seen and "+  decision: allow" in seen
    # A key decides, as at the question before; a word, a paste and what came too early do not.
    chat.type("yes" + ENTER + "\x1b[200~y\x1b[201~" + ENTER)
    chat.press("n")
    chat.expect_text(QUESTION)
    chat.press("a")
    chat.expect_text(PATTERN)
    chat.type("*" + ENTER)
    chat.expect_text("y or n >")
    chat.press("y")
    chat.expect_text('agent "my_pg_bot" reads untrusted content')  # and may not have all three
    chat.expect_text(QUESTION)
    chat.press("d")
    chat.expect_text("left pending")
    chat.prompt()
    assert "allow-my_pg_bot" not in here("get", "policies").out
