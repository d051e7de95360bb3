"""The audit trail: append-only for everyone, a hash chain that shows tampering, partitioned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from kernels import Connection, KernelDatabase, Tenant, apply, ask, call, make_tenant, refused, say

WRITES = {
    "update": "update {} set actor = 'nobody'",
    "delete": "delete from {}",
    "truncate": "truncate {}",
}
KERNEL_ROLES = (
    "aos_owner",
    "aos_kernel",
    "aos_lookup",
    "aos_view",
    "aos_provisioner",
    "aos_backup",
    "aos_admin",
    "aos_developer",
    "aos_auditor",
    "aos_viewer",
    "aos_worker",
)


def play(tenant: Tenant, turns: int = 2) -> UUID:
    """Drive a run through some turns with a tool call each."""
    run = tenant.start_run()
    for _ in range(turns):
        lease = tenant.open(run, p_worker="w1")
        answer = tenant.respond(lease, ask(("web_search", {"query": "x"})))
        tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})
        tenant.respond(lease, say("done"))
    return run


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    "role", [*KERNEL_ROLES, "aos_superuser", "aos_installer", "test_developer"]
)
def test_nobody_changes_an_event(tenant: Tenant, role: str, verb: str) -> None:
    run = play(tenant, 1)
    superuser = tenant.database.superuser
    tables = ["aos_core.event_log", this_month(tenant.database)]
    for table in tables:
        statement = sql.SQL(WRITES[verb]).format(sql.Identifier(*table.split(".")))
        with superuser.transaction(force_rollback=True):
            superuser.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            superuser.execute(
                "select set_config('aos.kernel_tenant', %s, true),"
                " set_config('aos.tenant_id', %s, true)",
                (str(tenant.id),) * 2,
            )
            try:
                changed = superuser.execute(statement).rowcount
            except psycopg.Error as error:
                assert error.sqlstate in {"AO010", "42501"}, error
            else:  # row-level security leaves the owner no row to change
                assert role == "aos_owner" and verb != "truncate" and changed == 0
    assert tenant.faults(run) == []


@pytest.mark.parametrize("verb", WRITES)
def test_even_a_superuser_meets_the_guard(tenant: Tenant, verb: str) -> None:
    play(tenant, 1)
    for table in ("aos_core.event_log", this_month(tenant.database)):
        statement = sql.SQL(WRITES[verb]).format(sql.Identifier(*table.split(".")))
        with refused("AO010", "append-only"):
            tenant.database.superuser.execute(statement)


def test_an_event_is_appended_by_what_happens_and_by_no_insert(tenant: Tenant) -> None:
    run = play(tenant, 1)
    assert tenant.events(run)[-1] == "turn.completed"
    insert = "insert into aos_core.event_log select * from aos_core.event_log limit 1"
    for connection in (tenant.person, tenant.worker):
        with refused("42501"):
            connection.execute(insert)


def this_month(database: KernelDatabase) -> str:
    name = database.value("select to_char(now() at time zone 'UTC', 'YYYY_MM')")
    return f"aos_core.event_log_{name}"


@pytest.fixture
def tamper(tenant: Tenant) -> Iterator[Callable[..., None]]:
    """Change, as a superuser with the triggers off, what no guard would let pass; undone later."""
    superuser = tenant.database.superuser
    with superuser.transaction(force_rollback=True):
        superuser.execute("set local session_replication_role = replica")

        def change(statement: str, **values: object) -> None:
            changed = superuser.execute(statement.encode(), values).rowcount
            assert changed >= 1

        yield change


EDITS = {
    "kind": "update aos_core.event_log set kind = 'turn.cancelled' where {this}",
    "actor": "update aos_core.event_log set actor = 'user:mallory' where {this}",
    "data": "update aos_core.event_log set data = data || '{{\"turn\": 7}}' where {this}",
    "time": "update aos_core.event_log set at = at + interval '1 microsecond' where {this}",
    "hash": "update aos_core.event_log set hash = sha256('forged') where {this}",
    "stream": "update aos_core.event_log set stream_id = aos_core.uuidv7() where {this}",
    "number": "update aos_core.event_log set seq = 100 where {this}",
    "deletion": "delete from aos_core.event_log where {this}",
    "insertion": "insert into aos_core.event_log select tenant_id, stream_id, seq, at"
    " + interval '1 second', kind, actor, data, hash from aos_core.event_log where {this}",
    "append": "insert into aos_core.event_log select tenant_id, stream_id, 100, at, 'extra', actor,"
    " data, hash from aos_core.event_log where {this}",
}


@pytest.mark.parametrize("seq", [1, 4, 9], ids=["first", "middle", "last"])
@pytest.mark.parametrize("edit", EDITS)
def test_each_single_change_shows(
    tenant: Tenant, tamper: Callable[..., None], edit: str, seq: int
) -> None:
    run = played_once(tenant)
    assert tenant.faults(run) == []
    tamper(EDITS[edit].format(this="stream_id = %(run)s and seq = %(seq)s"), run=run, seq=seq)
    assert tenant.faults(run) != []


def played_once(tenant: Tenant) -> UUID:
    """Return a run of nine events."""
    run = play(tenant, 2)
    assert len(tenant.events(run)) == 9
    return run


def test_two_events_that_changed_places_show(tenant: Tenant, tamper: Callable[..., None]) -> None:
    run = played_once(tenant)
    tamper(
        "update aos_core.event_log e set kind = o.kind, actor = o.actor, data = o.data,"
        " hash = o.hash, at = o.at from aos_core.event_log o where o.stream_id = e.stream_id"
        " and e.stream_id = %(run)s and (e.seq, o.seq) in ((3, 4), (4, 3))",
        run=run,
    )
    assert tenant.faults(run) != []


def test_a_change_whose_hash_was_made_to_fit_shows_at_the_next_event(
    tenant: Tenant, tamper: Callable[..., None]
) -> None:
    run = played_once(tenant)
    tamper(
        "update aos_core.event_log e set actor = 'user:mallory', hash = aos_core.event_hash("
        " (select p.hash from aos_core.event_log p where p.stream_id = %(run)s and p.seq = 3),"
        " e.tenant_id, e.stream_id, e.seq, e.at, e.kind, 'user:mallory', e.data)"
        " where e.stream_id = %(run)s and e.seq = 4",
        run=run,
    )
    assert tenant.faults(run) == [(5, "hash differs")]


def test_a_chain_that_was_cut_short_differs_from_its_head(
    tenant: Tenant, tamper: Callable[..., None]
) -> None:
    run = played_once(tenant)
    tamper("delete from aos_core.event_log where stream_id = %(run)s and seq >= 6", run=run)
    assert tenant.faults(run) == [(6, "head differs")]
    tamper("delete from aos_core.event_log where stream_id = %(run)s", run=run)
    assert tenant.faults(run) == [(1, "head differs")]


def test_a_head_that_was_changed_shows(tenant: Tenant, tamper: Callable[..., None]) -> None:
    run = played_once(tenant)
    tamper("update aos_core.run set last_hash = sha256('forged') where run_id = %(run)s", run=run)
    assert tenant.faults(run) == [(10, "head differs")]


def test_administrative_events_are_a_chain_of_their_own(
    fresh_tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    tenant = fresh_tenant
    run = play(tenant, 1)
    call(tenant.person, "aos_agent.close_run", tenant.id, run)
    kinds = tenant.events(tenant.id)
    for kind in ("tenant.created", "principal.created", "role_grant.created", "persona.created",
                 "skill.created", "agent.created", "run.created", "run.completed"):  # fmt: skip
        assert kind in kinds
    assert tenant.faults(tenant.id) == []
    head = kernel_database.value(
        "select data ->> 'last_hash' from aos_core.event_log where stream_id = %s"
        " and kind = 'run.completed'",
        tenant.id,
    )
    assert head == kernel_database.value(
        "select encode(hash, 'hex') from aos_core.event_log where stream_id = %s"
        " order by seq desc limit 1",
        run,
    )
    with kernel_database.superuser.transaction(force_rollback=True):
        kernel_database.superuser.execute("set local session_replication_role = replica")
        kernel_database.superuser.execute(
            "delete from aos_core.event_log where stream_id = %s and kind = 'skill.created'",
            (tenant.id,),
        )
        assert tenant.faults(tenant.id) != []


def test_events_hold_facts_and_digests_not_what_was_said(tenant: Tenant) -> None:
    run = tenant.start_run("clerk")
    lease = tenant.open(run, "my secret is 4711", p_worker="w1")
    tenant.respond(lease, ask(("sql_execute", {"statement": "delete from secret_4711"})))
    for text in tenant.database.rows(
        "select data::text from aos_core.event_log where stream_id = %s", run
    ):
        assert "4711" not in text[0]


def test_each_commit_of_a_turn_appends_one_event(tenant: Tenant) -> None:
    run = tenant.start_run()
    count = len(tenant.events(run))

    def appended() -> int:
        nonlocal count
        before, count = count, len(tenant.events(run))
        return count - before

    lease = tenant.open(run, p_worker="w1")
    assert appended() == 1
    answer = tenant.respond(
        lease, ask(("web_search", {"query": "x"}), ("sql_query", {"query": "select 1"}))
    )
    assert appended() == 1
    search, query = (each["call_id"] for each in answer["calls"])
    tenant.result(search, lease, {"results": []})
    assert appended() == 1
    tenant.execute(query, lease)
    assert appended() == 1
    tenant.respond(lease, say("done"))
    assert appended() == 1


def test_the_log_is_partitioned_and_its_default_partition_stays_empty(tenant: Tenant) -> None:
    play(tenant, 1)
    assert tenant.database.value("select count(*) from aos_core.event_log_default") == 0
    used = tenant.database.rows("select distinct tableoid::regclass::text from aos_core.event_log")
    assert (this_month(tenant.database),) in used


@pytest.mark.parametrize("role", ["aos_worker", "aos_installer", "aos_superuser"])
def test_partitions_are_made_ahead_each_with_its_guards(
    kernel_database: KernelDatabase, clock: Callable[[str], None], role: str
) -> None:
    connection: Connection = kernel_database.connect(role)
    assert call(connection, "aos_core.ensure_partitions") == 0
    months = {"aos_worker": 2, "aos_installer": 5, "aos_superuser": 8}[role]
    clock(f"{months} months")
    assert call(connection, "aos_core.ensure_partitions") > 0
    assert call(connection, "aos_core.ensure_partitions") == 0
    parts = kernel_database.rows(
        "select c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text,"
        " array(select t.tgname::text from pg_trigger t where t.tgrelid = c.oid order by 1)"
        " from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'aos_core.event_log'::regclass order by 1"
    )
    assert len(parts) >= 4 + months
    for name, enabled, forced, owner, triggers in parts:
        assert (enabled, forced, owner) == (True, True, "aos_owner"), name
        assert {"append_only", "append_only_truncate"} <= set(triggers), name


def test_events_of_a_later_month_are_guarded_too(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    tenant = make_tenant(kernel_database)
    clock("20 months")
    call(tenant.worker, "aos_core.ensure_partitions")
    run = play(tenant, 1)
    assert kernel_database.value("select count(*) from aos_core.event_log_default") == 0
    (later,) = kernel_database.rows(
        "select distinct tableoid::regclass::text from aos_core.event_log where stream_id = %s", run
    )
    assert later[0] != this_month(kernel_database)
    for verb in WRITES.values():
        with refused("AO010"):
            kernel_database.superuser.execute(
                sql.SQL(verb).format(sql.Identifier(*later[0].split(".")))
            )
    assert tenant.faults(run) == []


def test_who_reads_the_trail(tenant: Tenant) -> None:
    run = play(tenant, 1)
    read = "select count(*) from aos_core.event where stream_id = %s"
    assert tenant.person.execute(read, (run,)).fetchone() == (len(tenant.events(run)),)
    assert call(tenant.person, "aos_agent.watch_run", tenant.id, run) == ""
    with refused("42501"):
        tenant.worker.execute(read, (run,))
    with refused("AO001"):
        call(tenant.person, "aos_agent.watch_run", tenant.id, tenant.id)


def test_a_watched_run_notifies_with_its_id_alone(tenant: Tenant) -> None:
    run = tenant.start_run()
    call(tenant.person, "aos_agent.watch_run", tenant.id, run)
    listener = tenant.database.connect("test_developer", tenant.id)
    listener.execute("listen aos_run")
    tenant.respond(tenant.open(run, "a secret", p_worker="w1"), say("another"))
    heard = [note.payload for note in listener.notifies(timeout=0.5, stop_after=2)]
    assert heard == [str(run)] * 2
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, "other", {
        "persona": "expert",
    })  # fmt: skip
    unwatched = play(tenant, 1)
    assert list(listener.notifies(timeout=0.2)) == [], unwatched


def test_no_run_writes_into_the_tenants_own_stream(tenant: Tenant) -> None:
    given = "select %s, a.agent_id, %s from aos_agent.agent a where a.tenant_id = %s"
    chosen = uuid4()
    for each in (tenant.id, chosen):
        with refused("42501"):
            tenant.person.execute(
                "insert into aos_agent.conversation (tenant_id, agent_id, conversation_id)"
                f" {given} and name = 'bot'".encode(),
                (tenant.id, each, tenant.id),
            )
    insert = f"insert into aos_core.run (tenant_id, agent_id, run_id) {given} and name = 'bot'"
    superuser = tenant.database.superuser
    with refused("AO006", "may not have the id of its tenant"):
        superuser.execute(insert.encode(), (tenant.id, tenant.id, tenant.id))
    superuser.execute(insert.encode(), (tenant.id, chosen, tenant.id))
    assert tenant.faults(tenant.id) == [] and tenant.faults(chosen) == []
