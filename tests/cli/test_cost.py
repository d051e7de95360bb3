"""What things cost: one sum in the chat's footer, `cost`, `ps` and the ledger; budgets by hand."""

from __future__ import annotations

import json
import re
from contextlib import closing
from decimal import Decimal
from functools import partial

import pytest

from aosctl.config import Target
from aosctl.db.connection import open_session
from aosctl.db.person import PersonClient
from aosctl.repl.footer import footer, parts_of
from command import Aosctl
from kernels import Tenant
from terminal import CTRL_D, Terminal

PAID = """\
apiVersion: aos/v1
kind: Model
metadata: {name: paid}
spec:
  provider: script
  maxOutputTokens: 1000
  pricing: {inputUsdPerMtok: 2.1, outputUsdPerMtok: 15}
  script:
---
apiVersion: aos/v1
kind: Persona
metadata: {name: payer, tenant: acme}
spec: {model: paid, systemPrompt: x}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: payer, tenant: acme}
spec: {persona: payer}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: spender, tenant: acme}
spec: {persona: payer}
""".replace("  script:\n", "  script:\n" + "  - {text: Yes., usage: {in: 1333, out: 207}}\n" * 5)
ONE = Decimal("0.0059043")
"""1,333 tokens in at 2.1 $/M and 207 out at 15 $/M."""
BUDGET = """\
apiVersion: aos/v1
kind: Budget
metadata: {{name: team, tenant: acme}}
spec: {{period: total, limits: {{maxUsd: {usd}}}}}
"""


@pytest.fixture
def paid(admin: Aosctl, developer: Aosctl, tenant: Tenant) -> Aosctl:
    """Run `aosctl` as a developer of a tenant with two agents that cost money."""
    done = admin("apply", "-f", "-", stdin=PAID)
    assert done.status == 0, done.err
    return partial(developer, AOSCTL_TENANT="acme")


def spent(tenant: Tenant) -> Decimal:
    """Return what the ledger says, as the superuser reads it."""
    return Decimal(
        tenant.database.value(
            "select coalesce(sum(cost_usd), 0) from aos_core.step where tenant_id = %s", tenant.id
        )
    )


def footer_of(tenant: Tenant, dsn: str, agent: str) -> str:
    """Return what stands below the prompt of an agent's chat."""
    run = tenant.database.value(
        "select run_id from aos_core.run where tenant_id = %s and agent_name = %s", tenant.id, agent
    )
    session = open_session(Target("dsn", dsn, dsn, tenant.name, ("test",)), "chat")
    with closing(PersonClient(session, session.require_tenant())) as person:
        row = person.run_status(run)
    return footer(parts_of(row, "acme"), 100)


def test_footer_cost_ps_and_ledger_agree_to_the_cent(
    paid: Aosctl, tenant: Tenant, env: dict[str, str]
) -> None:
    for agent, messages in (("payer", 3), ("spender", 1)):
        assert paid("chat", agent, "Is it?").out == "Yes.\n"
        for _ in range(messages - 1):
            assert paid("chat", "-c", agent, "Sure?").status == 0
    assert spent(tenant) == 4 * ONE
    told = json.loads(paid("cost", "-o", "json").out)
    assert told["items"] == [
        {"agent": "payer", "answers": 3, "inputTokens": 3999, "outputTokens": 621,
         "costUsd": "0.0177129"},
        {"agent": "spender", "answers": 1, "inputTokens": 1333, "outputTokens": 207,
         "costUsd": "0.0059043"},
    ]  # fmt: skip
    assert Decimal(told["total"]["costUsd"]) == spent(tenant)
    lines = paid("cost").out.splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["AGENT", "ANSWERS", "IN", "OUT", "COST"],
        ["payer", "3", "3999", "621", "$0.0177"],
        ["spender", "1", "1333", "207", "$0.0059"],
        ["TOTAL", "4", "5332", "828", "$0.0236"],
    ]
    assert lines == [line.rstrip() for line in lines]
    assert lines[1].count("█") == 24 and lines[2].endswith("█" * 8)
    assert "\x1b" not in paid("cost", FORCE_COLOR="1").out
    rows = paid("ps", "-a", "--no-headers").out.splitlines()
    assert {row.split()[0].rpartition("-")[0]: row.split()[7] for row in rows} == {
        "payer": "$0.0177", "spender": "$0.0059",
    }  # fmt: skip
    status = tenant.person.execute(
        "select sum(spent_usd) from aos_core.run_status where agent in ('payer', 'spender')"
    ).fetchone()
    assert status == (spent(tenant),)
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    settings = {**env, "AOSCTL_DSN": dsn, "AOSCTL_TENANT": "acme"}
    with Terminal(settings, "chat", "-c", "payer") as terminal:
        terminal.prompt()
        terminal.say("/cost")
        terminal.expect_text("3999 tokens in · 621 tokens out · $0.0177")
        terminal.type(CTRL_D)
        terminal.expect_text("kept")
    assert footer_of(tenant, dsn, "payer").endswith(" ctx · $0.0177 · acme")
    assert footer_of(tenant, dsn, "spender").endswith(" ctx · $0.0059 · acme")


def test_cost_is_added_up_by_what_is_asked_for(paid: Aosctl, tenant: Tenant) -> None:
    assert paid("chat", "payer", "Is it?").status == 0
    total = Decimal(json.loads(paid("cost", "-o", "json").out)["total"]["costUsd"])
    assert total == spent(tenant)
    for key, name in (("model", "paid"), ("tenant", "acme")):
        items = json.loads(paid("cost", "--by", key, "-o", "json").out)["items"]
        assert {item[key]: Decimal(item["costUsd"]) for item in items}[name] == total
    (day,) = json.loads(paid("cost", "--by", "day", "--since", "1d", "-o", "json").out)["items"]
    today = tenant.database.value("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD')")
    assert (day["day"], Decimal(day["costUsd"])) == (today, total)
    both = paid("cost", "--by", "agent,day")
    header, *rows = [line.split() for line in both.out.splitlines()]
    assert header == ["AGENT", "DAY", "ANSWERS", "IN", "OUT", "COST"]
    agents = [row[0] for row in rows if row[0] != "TOTAL"]
    assert agents == sorted(agents) and {row[1] for row in rows if row[0] != "TOTAL"} == {today}
    (first, *_), by = (lambda d: (d["items"], d["by"]))(
        json.loads(paid("cost", "--by", "day,agent,model", "-o", "json").out)
    )
    assert by == "day,agent,model" and {"day", "agent", "model", "costUsd"} <= set(first)
    none = paid("cost", "--since", "2999-01-01")
    assert (none.out, none.err) == ("", "Nothing was paid for in acme tenant\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--by", "colour"), 'error: cannot add up by "colour"'),
        (("--by", "agent,colour"), 'error: cannot add up by "colour"'),
        (("--by", "agent,agent"), 'error: "agent,agent" adds up by one thing twice'),
        (
            ("--since", "soon"),
            'error: invalid time "soon"\nhint: such as 45s, 2h30m, 3d or 2026-01-31T12:00:00Z',
        ),
        (("-o", "yaml"), "error: unable to match a printer"),
    ],
)
def test_a_wrong_question_is_refused(paid: Aosctl, arguments: tuple[str, ...], error: str) -> None:
    done = paid("cost", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(error)


def test_a_budget_stops_a_run_with_status_5_and_a_higher_one_lets_it_go_on(
    paid: Aosctl, admin: Aosctl, tenant: Tenant
) -> None:
    low = spent(tenant) + Decimal("0.001")
    assert admin("apply", "-f", "-", stdin=BUDGET.format(usd=low)).status == 0
    done = paid("chat", "payer", "May I?")
    assert (done.status, done.out) == (5, "")
    assert done.err.startswith('error: budget "team": $')
    assert "aosctl apply with a higher limit lets it go on" in done.err
    row = paid("ps", "--no-headers").out.split()
    name = row[0]
    assert (row[2], row[-1]) == ("limited", "budget")
    refused = paid("apply", "-f", "-", stdin=BUDGET.format(usd=1000))
    assert refused.status == 1
    assert 'budget "team": login "test_developer" lacks the role "admin"' in refused.err
    again = paid("chat", "--resume", name)
    assert again.status == 5
    assert admin("apply", "-f", "-", stdin=BUDGET.format(usd=1000)).out == (
        "budget.aos/team configured\n"
    )
    assert paid("chat", "--resume", name).out == "Yes.\n"
    shown = paid("get", "budgets").out.splitlines()
    assert shown[0].split() == ["NAME", "SCOPE", "AGENT", "PERIOD", "USD", "TOKENS", "TURNS", "AGE"]
    assert shown[1].split()[4] == f"{round(spent(tenant), 4):g}/1000"
    wide = BUDGET.format(usd=1000).replace("maxUsd:", "maxSteps: 900, maxSeconds: 90, maxUsd:")
    assert admin("apply", "-f", "-", stdin=wide).status == 0
    header, cells = (line.split() for line in paid("get", "budgets", "-o", "wide").out.splitlines())
    of = dict(zip(header, cells, strict=True))
    assert of["STEPS"].endswith("/900") and of["SECONDS"].endswith("/90")
    assert admin("delete", "budget", "team", "-n", "acme").status == 0


def test_a_run_at_its_own_limit_is_resumed_with_a_higher_one(paid: Aosctl, admin: Aosctl) -> None:
    agent = "name: payer, tenant: acme}\nspec: {persona: payer"
    frugal = PAID.replace(agent, agent + ", limits: {maxUsd: 0}")
    assert frugal != PAID and admin("apply", "-f", "-", stdin=frugal).status == 0
    done = paid("chat", "payer", "May I?")
    assert done.status == 5
    name = paid("ps", "-q").out.strip()
    assert f"aosctl resume {name} --max-usd N lets it go on" in done.err
    assert paid("resume", name, "--max-usd", "much").status == 2
    assert paid("resume", name, "--max-usd", "0.5").out == f"run.aos/{name} resumed\n"
    again = paid("resume", name, "--max-usd", "0.5")
    assert (again.status, again.out) == (0, f"run.aos/{name} unchanged\n")
    assert again.err == f"{name} was not paused, and rested at no limit\n"
    assert paid("resume", name, "--max-usd", "0.6").out == f"run.aos/{name} configured\n"
    assert paid("kill", "-s", "CONT", name).out == f"run.aos/{name} unchanged\n"
    assert paid("chat", "--resume", name).out == "Yes.\n"
    assert paid("resume").status == 2
    missing = paid("resume", "nobody")
    assert (missing.status, missing.out) == (1, "")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-usd", "1e400"),
        ("--max-tokens", "99999999999999999999"),
        ("--max-steps", "2147483648"),
        ("--max-seconds", "nan"),
        ("--max-seconds", "inf"),
    ],
)
def test_a_limit_that_is_no_limit_is_wrong_usage(developer: Aosctl, flag: str, value: str) -> None:
    done = developer("resume", "any", flag, value)
    assert (done.status, done.out) == (2, "")
    assert re.match(rf"error: {flag} is at most [0-9,]+, not ", done.err)
    assert developer("resume", "any", flag, "1").status == 1  # there is no such run
