"""What an auditor may and others may not: read the whole trail and take it away; nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from kernels import META, Connection, KernelDatabase, call, refused
from tenancy import Filled, admit, fill

AUDITORS = ("iso_auditor", "iso_admin")
OTHERS = ("iso_viewer", "iso_developer")
OPEN = ("persona", "skill", "agent", "collection", "policy", "budget", "mcpserver", "schedule")
"""What everybody reads of a tenant: who changed it, too."""


@pytest.fixture(scope="module")
def here(kernel_database: KernelDatabase) -> Filled:
    filled = fill(kernel_database, "audited")
    admit(kernel_database, filled.tenant, fill(kernel_database, "elsewhere").tenant)
    return filled


def session(here: Filled, who: str) -> Connection:
    return here.tenant.database.connect(who, here.id)


def seen(connection: Connection, here: Filled) -> set[tuple[Any, ...]]:
    rows = connection.execute(
        "select stream_id, seq, kind from aos_core.event where tenant_id = %s", (here.id,)
    )
    return set(rows.fetchall())


@pytest.mark.parametrize("who", AUDITORS)
def test_an_auditor_reads_all_events(here: Filled, who: str) -> None:
    there = here.tenant.database.rows(
        "select stream_id, seq, kind from aos_core.event_log where tenant_id = %s", here.id
    )
    kinds = {kind for _, _, kind in there}
    assert {"role_grant.created", "secret.created", "tenant.changed", "run.created"} <= kinds
    assert seen(session(here, who), here) == set(there)


@pytest.mark.parametrize("who", OTHERS)
def test_others_read_of_runs_and_of_what_they_can_read_anyway(here: Filled, who: str) -> None:
    there = here.tenant.database.rows(
        "select stream_id, seq, kind from aos_core.event_log where tenant_id = %s", here.id
    )
    lawful = {row for row in there if row[0] != here.id or str(row[2]).partition(".")[0] in OPEN}
    assert {kind for _, _, kind in lawful} >= {"turn.opened", "agent.created", "policy.created"}
    connection = session(here, who)
    assert seen(connection, here) == lawful < set(there)
    connection.execute("select set_config('aos.kernel_tenant', %s, false)", (str(here.id),))
    assert seen(connection, here) == lawful
    connection.execute("select set_config('aos.tenant_id', '', false)")
    assert seen(connection, here) == set()


def take(connection: Connection, here: Filled) -> int:
    """Take the trail away, as an export and a checkpoint do; return how many rows it has."""
    nil = "00000000-0000-0000-0000-000000000000"
    statements = (
        ("select * from aos_core.audit_streams(%s)", (here.id,)),
        ("select * from aos_core.audit_cuts(%s)", (here.id,)),
        ("select * from aos_core.audit_events(%s, %s, 0)", (here.id, nil)),
    )
    return sum(len(connection.execute(text, args).fetchall()) for text, args in statements)


def test_auditors_take_the_trail_away(here: Filled) -> None:
    whole = take(here.tenant.database.superuser, here)
    assert whole > 20
    for who in AUDITORS:
        connection = session(here, who)
        assert take(connection, here) == whole
        names = "select name from aos_core.audit_tenants('auditor')"
        assert connection.execute(names).fetchall() == [("audited",)]


@pytest.mark.parametrize(("who", "state"), [("iso_viewer", "42501"), ("iso_developer", "AO004")])
@pytest.mark.parametrize(
    ("function", "more"),
    [("audit_streams", []), ("audit_cuts", []),
     ("audit_events", ["00000000-0000-0000-0000-000000000000", 0])],
)  # fmt: skip
def test_others_hear_whether_it_is_whole_and_take_nothing_away(
    here: Filled, who: str, state: str, function: str, more: list[Any]
) -> None:
    connection = session(here, who)
    with refused(state):
        call(connection, f"aos_core.{function}", here.id, *more)
    taken = "select name from aos_core.audit_tenants('auditor')"
    assert connection.execute(taken).fetchall() == []
    assert connection.execute("select name from aos_core.audit_tenants()").fetchall() != []
    call(connection, "aos_core.verify_tenant", here.id)
    assert call(connection, "aos_core.audit_counts", here.id)["events"] > 20
    call(connection, "aos_core.verify_stream", here.id, here.run)


def test_a_viewer_with_the_auditors_group_is_no_auditor(here: Filled) -> None:
    """The group is the right to call; the role in the tenant is the right to be answered."""
    database = here.tenant.database
    database.superuser.execute("grant aos_auditor to iso_viewer")
    try:
        connection = session(here, "iso_viewer")
        with refused("AO004", 'lacks the role "auditor"'):
            call(connection, "aos_core.audit_streams", here.id)
        assert not {row for row in seen(connection, here) if row[2] == "role_grant.created"}
    finally:
        database.superuser.execute("revoke aos_auditor from iso_viewer")


def test_an_auditor_whose_time_is_over_is_a_viewer_at_most(here: Filled) -> None:
    database = here.tenant.database
    admin = session(here, "iso_admin")
    call(admin, "aos_auth.grant_role", here.id, "iso_viewer", "auditor", "2999-01-01T00:00:00Z")
    database.superuser.execute("grant aos_auditor to iso_viewer")
    try:
        connection = session(here, "iso_viewer")
        assert take(connection, here) > 20
        database.superuser.execute(
            "update aos_auth.role_grant set expires_at = aos_core.now() - interval '1 second'"
            " where tenant_id = %s and role_name = 'auditor' and expires_at is not null",
            (here.id,),
        )
        with refused("AO004"):
            take(connection, here)
        assert not {row for row in seen(connection, here) if row[2] == "secret.created"}
    finally:
        database.superuser.execute("revoke aos_auditor from iso_viewer")
        call(admin, "aos_auth.revoke_role", here.id, "iso_viewer", "auditor")


ACTS = (
    ("aos_agent.start_run", ["bot"]),
    ("aos_agent.open_run", ["bot", {"v": 1, "role": "user", "blocks": []}]),
    ("aos_agent.open_turn", ["{run}", {"v": 1, "role": "user", "blocks": []}]),
    ("aos_agent.decide_approval", ["{approval}", "denied"]),
    ("aos_agent.edit_call", ["{approval}", {"query": "x"}]),
    ("aos_agent.resolve_call", ["{call}", "retry"]),
    ("aos_agent.cancel_run", ["{run}"]),
    ("aos_agent.pause_run", ["{run}"]),
    ("aos_agent.fork_run", ["{run}"]),
    ("aos_agent.replay_run", ["{run}"]),
    ("aos_agent.replay_summary", ["{run}", 1]),
    ("aos_agent.apply_agent", ["mine", META, {"persona": "expert"}]),
    ("aos_skills.apply_policy", ["mine", META, {"skills": ["*"], "decision": "allow"}]),
    ("aos_auth.grant_role", ["iso_auditor", "admin", None]),
    ("aos_core.prune_content", []),
)


@pytest.mark.parametrize(("function", "args"), ACTS)
def test_an_auditor_does_not_act(here: Filled, function: str, args: list[Any]) -> None:
    ids = {"run": here.run, "approval": here.approval, "call": here.call}
    given = [a.format(**ids) if isinstance(a, str) else a for a in args]
    before = here.tenant.database.fingerprint()
    with refused("42501", "permission denied for function"):
        call(session(here, "iso_auditor"), function, here.id, *given)
    assert here.tenant.database.fingerprint() == before


@pytest.mark.parametrize("who", [*AUDITORS, *OTHERS])
def test_can_i_says_who_takes_the_trail_away(here: Filled, who: str) -> None:
    connection = session(here, who)
    for verb, allowed in (("verify", True), ("get", True), ("export", who in AUDITORS)):
        answer = call(connection, "aos_auth.can_i", here.id, verb, "event")
        assert answer["allowed"] is allowed, answer
