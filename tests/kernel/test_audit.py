"""Each edit, insertion, deletion and re-ordering of the trail is found, by two verifiers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aosctl.db import audit
from aosctl.db.audit import Scope
from kernels import KernelDatabase, Tenant, ask, call, make_tenant, refused, say
from trails import (
    against,
    by_export,
    by_kernel,
    close,
    heads_of,
    play,
    rehash,
    tampering,
    texts_of,
)

# One other value for each column of an event, and each way to add, remove and move one.
EDITS = {
    "tenant_id": "update LOG set tenant_id = %(other)s where THIS",
    "stream_id": "update LOG set stream_id = %(other)s where THIS",
    "seq up": "update LOG set seq = seq + 1000 where THIS",
    "seq to nought": "update LOG set seq = 0 where THIS",
    "at": "update LOG set at = at + interval '1 microsecond' where THIS",
    "kind": "update LOG set kind = kind || 'x' where THIS",
    "actor": "update LOG set actor = actor || 'x' where THIS",
    "data": "update LOG set data = data || '{\"x\": 1}' where THIS",
    "data, no object": "update LOG set data = '1' where THIS",
    "hash": "update LOG set hash = sha256(hash) where THIS",
    "deletion": "delete from LOG where THIS",
    "copy before": "insert into LOG select tenant_id, stream_id, seq - 1, at, kind, actor, data,"
    " hash from LOG where THIS on conflict do nothing",
    "copy beside": "insert into LOG select tenant_id, stream_id, seq, at"
    " + interval '1 microsecond', kind, actor, data, hash from LOG where THIS"
    " on conflict do nothing",
    "copy after": "insert into LOG select tenant_id, stream_id, seq + 1, at"
    " + interval '1 microsecond', kind, actor, data, hash from LOG where THIS"
    " on conflict do nothing",
    "change of places": "update LOG e set kind = o.kind, actor = o.actor, data = o.data,"
    " hash = o.hash from LOG o where o.tenant_id = e.tenant_id and o.stream_id = e.stream_id"
    " and e.stream_id = %(stream)s and (e.seq, o.seq) in"
    " ((%(seq)s, %(seq)s + 1), (%(seq)s + 1, %(seq)s))",
    "change of numbers": "update LOG e set seq = 2 * %(seq)s + 1 - seq"
    " where e.stream_id = %(stream)s and e.seq in (%(seq)s, %(seq)s + 1)",
}


@pytest.fixture(scope="module")
def small(kernel_database: KernelDatabase) -> tuple[Tenant, list[tuple[UUID, int]]]:
    """A tenant with two runs, and each of its events."""
    tenant = make_tenant(kernel_database)
    play(tenant)
    close(tenant, play(tenant))
    rows = kernel_database.rows(
        "select stream_id, seq from aos_core.event_log where tenant_id = %s order by 1, 2",
        tenant.id,
    )
    assert len(rows) > 25
    return tenant, rows


@pytest.mark.parametrize("edit", EDITS)
def test_both_find_each_single_change_of_each_event(
    kernel_database: KernelDatabase, small: tuple[Tenant, list[tuple[UUID, int]]], edit: str
) -> None:
    tenant, events = small
    assert by_kernel(kernel_database, tenant.id) == by_export(kernel_database, tenant.id) == []
    tried = 0
    for stream, seq in events:
        with tampering(kernel_database) as change:
            statement = EDITS[edit]
            if not change(statement, stream=stream, seq=seq, other=uuid4()):
                continue  # a copy before another event; the last one has no neighbour
            tried += 1
            assert by_kernel(kernel_database, tenant.id), (stream, seq)
            assert by_export(kernel_database, tenant.id), (stream, seq)
    assert tried >= (2 if edit == "copy before" else len(events) - 3)
    assert by_kernel(kernel_database, tenant.id) == []


@pytest.fixture(scope="module")
def large(kernel_database: KernelDatabase) -> Tenant:
    """A tenant with runs in every state, approvals, a fork and failures."""
    tenant = make_tenant(kernel_database)
    for turns in (1, 2, 3):
        close(tenant, play(tenant, turns))
    forked = play(tenant, 2)
    call(tenant.person, "aos_agent.fork_run", tenant.id, forked)
    for decision in ("approved", "denied"):
        asked = tenant.asked("send_mail", {"query": decision}, "clerk")
        tenant.decide(asked.call, decision, "because")
    waiting = tenant.asked("send_mail", {"query": "later"}, "clerk")
    tenant.open(waiting.run, "never mind")
    failing = tenant.start_run()
    lease = tenant.open(failing, p_worker="w1")
    tenant.respond(lease, ask(("web_search", {"query": "x"}), ("nonsense", {})))
    call(tenant.person, "aos_agent.cancel_run", tenant.id, failing)
    return tenant


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), edits=st.lists(st.sampled_from(sorted(EDITS)), min_size=1,
                                                  max_size=4))  # fmt: skip
def test_both_find_any_few_changes_of_a_larger_log(
    kernel_database: KernelDatabase, large: Tenant, seed: int, edits: list[str]
) -> None:
    rows = kernel_database.rows(
        "select stream_id, seq from aos_core.event_log where tenant_id = %s order by 1, 2", large.id
    )
    chance = random.Random(seed)  # noqa: S311 - a choice, no secret
    before = log_digest(kernel_database)
    with tampering(kernel_database) as change:
        for edit in edits:
            stream, seq = chance.choice(rows)
            change(EDITS[edit], stream=stream, seq=seq, other=uuid4())
        touched = log_digest(kernel_database) != before
        assert bool(by_kernel(kernel_database, large.id)) == touched
        assert bool(by_export(kernel_database, large.id)) == touched


def log_digest(database: KernelDatabase) -> str:
    return str(database.value("select md5(string_agg(e::text, '' order by e::text)) from"
                              " aos_core.event_log e"))  # fmt: skip


def test_a_log_of_every_kind_of_event_is_whole(
    kernel_database: KernelDatabase, large: Tenant
) -> None:
    kinds = {
        row[0]
        for row in kernel_database.rows(
            "select distinct kind from aos_core.event_log where tenant_id = %s", large.id
        )
    }
    assert {"run.forked", "approval.approved", "approval.denied", "turn.set_aside",
            "turn.cancelled", "run.cancelled", "tool.result"} <= kinds  # fmt: skip
    assert by_kernel(kernel_database, large.id) == by_export(kernel_database, large.id) == []


# A row that is no event, and what both say of it. Each names the table's own row by {run}.
EFFECTS = {
    "an answer was changed": (
        "update aos_core.step set message = message || '{\"x\": 1}' where run_id = %(run)s"
        " and seq = 2",
        {"event without its step", "step without its event"},
    ),
    "a result was changed": (
        "update aos_core.step set message = message || '{\"x\": 1}' where run_id = %(run)s"
        " and seq = 3",
        {"event without its step"},
    ),
    "a step was deleted": (
        "delete from aos_core.step where run_id = %(run)s and seq = 3",
        {"event without its step", "step missing"},
    ),
    "the last step was deleted": (
        "delete from aos_core.step where run_id = %(run)s and seq = 4",
        {"event without its step", "step missing"},
    ),
    "a user's message was added": (
        "insert into aos_core.step (tenant_id, run_id, seq, turn, role, message, created_at)"
        " select tenant_id, run_id, 5, 1, 'user', message, now() from aos_core.step"
        " where run_id = %(run)s and seq = 1",
        {"step without its event"},
    ),
    "two messages changed places": (
        "update aos_core.step set seq = case seq when 2 then 1002 else 1004 end"
        " where run_id = %(run)s and seq in (2, 4);"
        "update aos_core.step set seq = case seq when 1002 then 4 else 2 end"
        " where run_id = %(run)s and seq > 1000",
        {"steps out of order"},
    ),
    "a call was deleted": (
        "delete from aos_core.tool_call where run_id = %(run)s",
        {"event without its call"},
    ),
    "a call was added": (
        "insert into aos_core.tool_call select (jsonb_populate_record(c, jsonb_build_object("
        "'call_id', gen_random_uuid()))).* from aos_core.tool_call c where run_id = %(run)s",
        {"call without its event"},
    ),
    "an approval was forged": (
        "insert into aos_core.approval (tenant_id, call_id, run_id, skill, args, digest, reason,"
        " state, requested_at, expires_at, decided_at, decided_by) select tenant_id, call_id,"
        " run_id, skill, '{}', 'x', '', 'consumed', now(), now(), now(), 'user:dev'"
        " from aos_core.tool_call where run_id = %(run)s",
        {"approval without its event"},
    ),
    "a turn was added": (
        "insert into aos_core.turn (tenant_id, run_id, number, state, created_at)"
        " select tenant_id, run_id, 7, 'completed', now() from aos_core.run"
        " where run_id = %(run)s",
        {"turn without its event"},
    ),
    "a turn was deleted": (
        "delete from aos_core.turn where run_id = %(run)s",
        {"event without its turn"},
    ),
    "content was erased": (
        "update aos_core.step set message = jsonb_build_object('role', role, 'erased',"
        " jsonb_build_object('sha256', aos_core.message_digest(message))) where run_id = %(run)s",
        {"content erased without an event"},
    ),
    "the head was changed": (
        "update aos_core.run set last_hash = sha256('x') where run_id = %(run)s",
        {"head differs"},
    ),
    "the run was deleted": (
        "delete from aos_core.run where run_id = %(run)s",
        {"run vanished", "events without their run"},
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_both_find_an_effect_without_its_event_and_an_event_without_its_effect(
    kernel_database: KernelDatabase, small: tuple[Tenant, list[tuple[UUID, int]]], name: str
) -> None:
    tenant = small[0]
    run = play(tenant)
    assert by_kernel(kernel_database, tenant.id) == by_export(kernel_database, tenant.id) == []
    statements, faults = EFFECTS[name]
    with tampering(kernel_database) as change:
        assert sum(change(part, run=run) for part in statements.split(";")) > 0
        for found in (by_kernel, by_export):
            assert faults <= {fault for _, fault in found(kernel_database, tenant.id)}, found


FIELDS = {
    "event": ["stream_id", "seq", "at", "kind", "actor", "data", "hash"],
    "turn": ["number", "state"],
    "step": ["seq", "turn", "role", "at", "sha256", "erased", "answers"],
    "call": ["call_id", "skill", "state", "step_seq", "result_seq", "vendor_id"],
    "approval": ["approval_id", "call_id", "state"],
}


def test_an_exports_lines_are_what_json_makes_of_their_fields_page_by_page(
    kernel_database: KernelDatabase, large: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast writer, held against the slow one: on texts that need escapes, too."""
    connection = kernel_database.superuser
    odd = 'a "b\\c\n\t\x01\x7f\u2028 é 🙂 %s %'
    with connection.transaction(force_rollback=True):
        connection.execute("set local session_replication_role = replica")
        connection.execute("update aos_core.event_log set actor = %s", (odd,))
        connection.execute("update aos_core.tool_call set vendor_call_id = %s", (odd,))
        whole = list(texts_of(kernel_database, large.id))
        for size in (1, 7):
            monkeypatch.setattr(audit, "PAGE", size)
            assert list(texts_of(kernel_database, large.id))[1:] == whole[1:]
    lines = [json.loads(text) for text in whole]
    assert [json.dumps(line, ensure_ascii=False) + "\n" for line in lines] == whole
    for kind, fields in FIELDS.items():
        found = [line for line in lines if line["t"] == kind]
        assert found and all(list(line) == ["t", *fields] for line in found)
    assert {line["actor"] for line in lines if line["t"] == "event"} == {odd}
    assert odd in {line["vendor_id"] for line in lines if line["t"] == "call"}
    assert lines[-1] == {"t": "end", "lines": len(lines)}


@pytest.mark.parametrize("since", ["null", "aos_core.now() - interval '1 hour'"])
def test_a_page_of_events_is_read_in_the_order_of_the_key(
    kernel_database: KernelDatabase, fresh_tenant: Tenant, since: str
) -> None:
    """Else each page would sort all that is left: the time would grow with the log's square."""
    play(fresh_tenant, 30)
    connection = kernel_database.superuser
    connection.execute("analyze aos_core.event_log")
    ((body, settings),) = connection.execute(
        "select prosrc, proconfig from pg_proc where oid = 'aos_core.audit_events'::regproc"
    ).fetchall()
    query = body[body.index("with begun") : body.index(";\nend")]
    given = {
        "p_tenant": f"'{fresh_tenant.id}'::uuid",
        "p_stream": "'00000000-0000-0000-0000-000000000000'::uuid",
        "p_seq": "0",
        "p_limit": "20",
        "p_run": "null::uuid",
        "p_since": f"({since})::timestamptz",
    }
    for name, value in given.items():
        query = re.sub(rf"\b{name}\b", value, query)
    with connection.transaction(force_rollback=True):
        connection.execute("set local role aos_kernel")
        kernel = "select set_config('aos.kernel_tenant', %s, true)"
        connection.execute(kernel, (str(fresh_tenant.id),))
        for setting in settings:
            name, _, value = setting.partition("=")
            if name != "search_path":
                connection.execute("select set_config(%s, %s, true)", (name, value))
        plan = "\n".join(str(row[0]) for row in connection.execute(f"explain {query}".encode()))
    assert "Index Scan" in plan
    assert "Sort (" not in plan.replace("Sort  (", "Sort (") and "Seq Scan" not in plan


def test_a_run_that_was_never_created_shows(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    tenant = fresh_tenant
    run = play(tenant)
    with tampering(kernel_database) as change:
        change("delete from LOG where stream_id = %(t)s and data ->> 'run_id' = %(r)s",
               t=tenant.id, r=str(run))  # fmt: skip
        rehash(change, kernel_database, tenant.id)
        assert by_kernel(kernel_database, tenant.id) == [(1, "run never created")]
        assert by_export(kernel_database, tenant.id) == [(1, "run never created")]


def test_only_heads_kept_elsewhere_show_a_perfect_forgery(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    tenant = fresh_tenant
    run = play(tenant, 2)
    heads = heads_of(kernel_database, tenant.id)

    def found() -> list[str]:
        assert by_kernel(kernel_database, tenant.id) == by_export(kernel_database, tenant.id) == []
        return against(kernel_database, tenant.id, heads)

    assert found() == []
    with tampering(kernel_database) as change:  # the last event and all that it did
        cut_last_turn(change, run)
        rehash(change, kernel_database, run)
        assert found() == ["tail cut"]
    with tampering(kernel_database) as change:  # who did it
        change("update LOG set actor = 'user:mallory' where THIS", stream=run, seq=3)
        rehash(change, kernel_database, run)
        assert found() == ["history rewritten"]
    with tampering(kernel_database) as change:  # all of a run, and that it ever was
        for table in ("step", "tool_call", "turn", "run"):
            change(f"delete from aos_core.{table} where run_id = %(r)s", r=run)  # noqa: S608 - ours
        change(
            "delete from LOG where stream_id = %(r)s or data ->> 'run_id' = %(r)s::text",
            r=run,
        )
        rehash(change, kernel_database, tenant.id)
        assert found() == ["stream vanished", "tail cut"]
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("more"))
    play(tenant)
    assert found() == []  # the trail has grown, and nothing else


def cut_last_turn(change: Callable[..., int], run: UUID) -> None:
    """Delete the second turn of a run with everything in it."""
    change("delete from LOG where stream_id = %(r)s and seq > 5", r=run)
    change("delete from aos_core.step where run_id = %(r)s and turn = 2", r=run)
    change("delete from aos_core.tool_call where run_id = %(r)s and step_seq > 4", r=run)
    change("delete from aos_core.turn where run_id = %(r)s and number = 2", r=run)
    change("update aos_core.run set last_step = 4, last_turn = 1 where run_id = %(r)s", r=run)


def test_since_looks_at_what_is_new_and_joins_it_to_what_is_old(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-10 days")
    tenant = make_tenant(kernel_database)
    run = play(tenant)
    clock("0 days")
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("more"))
    lately = Scope(None, datetime.now(UTC) - timedelta(days=1))

    def found(scope: Scope) -> set[int | None]:
        kernel = {seq for seq, _ in by_kernel(kernel_database, tenant.id, scope)}
        assert {seq for seq, _ in by_export(kernel_database, tenant.id, scope)} == kernel
        return kernel

    assert found(lately) == set()
    with tampering(kernel_database) as change:
        change("update LOG set actor = 'x' where THIS", stream=run, seq=2)
        assert found(lately) == set() and found(Scope()) == {2}
    with tampering(kernel_database) as change:
        change("update LOG set actor = 'x' where THIS", stream=run, seq=6)
        assert found(lately) == {6}
    with tampering(kernel_database) as change:  # the joint between old and new
        change("update LOG set hash = sha256(hash) where THIS", stream=run, seq=5)
        assert found(lately) == {6}


def test_one_run_is_verified_alone(kernel_database: KernelDatabase, fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    good, bad = play(tenant), play(tenant)
    with tampering(kernel_database) as change:
        change("update LOG set actor = 'x' where THIS", stream=bad, seq=2)
        for found in (by_kernel, by_export):
            assert found(kernel_database, tenant.id, Scope(good)) == []
            assert found(kernel_database, tenant.id, Scope(bad)) == [(2, "hash differs")]


def test_who_verifies(kernel_database: KernelDatabase, small: tuple[Tenant, object]) -> None:
    tenant, other = small[0], make_tenant(kernel_database)
    login = kernel_database.person("test_stranger", "aos_auditor")
    stranger = kernel_database.connect(login)
    assert stranger.execute("select * from aos_core.audit_tenants()").fetchall() == []
    for function in ("verify_tenant", "audit_streams", "audit_cuts", "audit_counts"):
        if function in ("verify_tenant", "audit_counts"):
            call(tenant.person, f"aos_core.{function}", other.id)  # the developer of both
        with refused("AO001"):
            call(stranger, f"aos_core.{function}", other.id)
        with refused("42501"):
            call(tenant.worker, f"aos_core.{function}", tenant.id)
