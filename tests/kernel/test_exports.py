"""An export that somebody carried away and edited: the verifier takes its word for nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from aosctl.db import audit
from aosctl.db.audit import Scope
from aosctl.domain.audit import export, verifier
from aosctl.errors import AosError
from kernels import KernelDatabase, Tenant, apply, ask, make_tenant, say
from trails import by_export, by_kernel, close, heads_of, play, tampering

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def large(kernel_database: KernelDatabase) -> Tenant:
    tenant = make_tenant(kernel_database)
    for turns in (1, 2):
        close(tenant, play(tenant, turns))
    return tenant


def exported(database: KernelDatabase, tenant: UUID) -> Lines:
    connection = database.superuser
    with connection.transaction(force_rollback=True):
        chosen = [t for t in audit.audit_tenants(connection) if t.tenant_id == tenant]
        return [*map(json.loads, export.texts(connection, "x", chosen, Scope(), complete=True))]


def read(lines: Lines, heads: verifier.Heads) -> tuple[list[str], verifier.Verified]:
    """What the verifier finds in lines that somebody has edited, their number put right."""
    lines[-1]["lines"] = len(lines)
    told = verifier.Verified()
    return [
        p.what for p in verifier.verify(verifier.read_lines(map(json.dumps, lines)), heads, told)
    ], told


def own_events(lines: Lines, tenant: UUID) -> Lines:
    return [line for line in lines if line["t"] == "event" and line["stream_id"] == str(tenant)]


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.parametrize("header", [{}, {"since": "2020-01-01T00:00:00+00:00"}], ids=["", "since"])
def test_an_export_leaves_out_nothing_that_its_header_does_not_say(
    kernel_database: KernelDatabase, large: Tenant, first: int, header: dict[str, str]
) -> None:
    """A cut without a moment stands for what came before --since: for no other gap."""
    heads = heads_of(kernel_database, large.id)
    lines = exported(kernel_database, large.id)
    whole, told = read(lines, heads)
    assert whole == [] and told.compared == set(heads) and told.part() == ""
    gone = [line for line in own_events(lines, large.id) if first <= line["seq"] < first + 3]
    assert {line["kind"].partition(".")[0] for line in gone} != {"run"}
    cut = {"t": "cut", "stream_id": str(large.id), "first_seq": first, "cut_at": None,
           "seq": first + 2, "hash": gone[-1]["hash"]}  # fmt: skip
    lines = [lines[0] | header, lines[1], cut, *(x for x in lines[2:] if x not in gone)]
    found, told = read(lines, heads)
    if header and first == 1:  # which is what such an export looks like, and says
        assert found == [] and told.part() == f"since {header['since']}"
    else:
        assert "event missing" in found


@pytest.mark.parametrize("part", ["complete", "run"])
def test_a_part_of_an_export_compares_no_heads_but_its_own(
    kernel_database: KernelDatabase, large: Tenant, part: str
) -> None:
    heads = heads_of(kernel_database, large.id) | {(str(uuid4()), str(uuid4())): (1, "00" * 32)}
    lines = exported(kernel_database, large.id)
    if part == "run":
        lines = [lines[0] | {"run": str(uuid4())}, lines[1], lines[-1]]
    else:
        lines[0]["complete"] = False
    found, told = read(lines, heads)
    assert found == []
    assert len(told.compared) == (0 if part == "run" else len(heads) - 1)
    with pytest.raises(AosError, match="line 2 is a second header"):
        read([*lines[:1], *lines], heads)


def test_no_event_is_read_in_another_way(kernel_database: KernelDatabase) -> None:
    """The bars between the hashed parts: a text with bars in data makes no other parts of it."""
    tenant = make_tenant(kernel_database)
    asked = tenant.asked("send_mail", {"query": "x"}, "clerk")
    tenant.decide(asked.call, "denied", "no|{}|user:eve")
    lines = exported(kernel_database, tenant.id)
    assert read(lines, {})[0] == []
    event = next(line for line in lines if line.get("kind") == "approval.denied")
    kind, data, actor = event["kind"], event["data"], event["actor"]
    before, _, after = data.partition("|{}|")
    assert after.startswith("user:eve")
    readings = {
        "kind": {"kind": f"{kind}|{before}", "data": "{}", "actor": f"{after}|{actor}"},
        "data": {"data": before, "actor": f'{{}}|{after}|{actor}'},
        "at": {"at": f"{event['at']}|{kind}", "kind": before, "data": "{}",
               "actor": f"{after}|{actor}"},
    }  # fmt: skip
    for reading in readings.values():
        edited = [line | reading if line is event else line for line in lines]
        assert "hash differs" in read(edited, {})[0], reading
    with tampering(kernel_database) as change:
        change("update aos_core.event_log set kind = %(kind)s, data = %(data)s::jsonb,"
               " actor = %(actor)s where stream_id = %(run)s and seq = %(seq)s",
               run=asked.run, seq=event["seq"], **readings["kind"])  # fmt: skip
        assert (event["seq"], "hash differs") in by_kernel(kernel_database, tenant.id)


def test_a_clock_that_was_put_back_raises_no_alarm(kernel_database: KernelDatabase) -> None:
    """By its moment an event may be older than the one before it; by its number it is not."""
    tenant = make_tenant(kernel_database)
    run = tenant.start_run()

    def act(word: str) -> None:
        spec = {"systemPrompt": word, "model": "offline"}
        apply(kernel_database.superuser, "aos_persona.apply_persona", tenant.id, "expert", spec)
        lease = tenant.open(run, word, p_worker="w1")
        asked = tenant.respond(lease, ask(("memory_store", {"key": word, "value": 1})))
        call_id = asked["calls"][0]["call_id"]
        tenant.execute(call_id, lease)
        tenant.respond(lease, say(word))

    moments = []
    try:
        for word, clock in (("a", "0 s"), ("b", "1 s"), ("c", "-1 hour"), ("d", "2 s")):
            kernel_database.move_clock(clock)
            moments.append(kernel_database.value("select aos_core.now()"))
            act(word)
    finally:
        kernel_database.move_clock()
    for since in (None, *moments):
        scope = Scope(None, since)
        assert by_kernel(kernel_database, tenant.id, scope) == [], since
        assert by_export(kernel_database, tenant.id, scope) == [], since
    with tampering(kernel_database) as change:
        change("delete from aos_core.step where run_id = %(run)s and seq = 7", run=run)
        for since in moments[:2]:
            scope = Scope(None, since)
            assert by_kernel(kernel_database, tenant.id, scope)
            assert by_export(kernel_database, tenant.id, scope)


def test_what_is_no_export_is_said_in_a_line(
    kernel_database: KernelDatabase, large: Tenant
) -> None:
    lines = exported(kernel_database, large.id)
    since = {"since": "2020-01-01T00:00:00+00:00"}
    event = next(i for i, line in enumerate(lines) if line.get("kind") == "turn.opened")
    for change in ({"at": "soon"}, {"at": 5}, {"seq": "x"}, {"data": "[" * 50_000}, {"hash": "zz"}):
        edited = [lines[0] | since, *lines[1:]]
        edited[event] = edited[event] | change
        try:
            assert read(edited, {})[0], change
        except AosError as error:
            assert "is not of the form" in error.message
    with pytest.raises(AosError, match="is no line of an export"):
        list(verifier.read_lines(["[" * 200_000]))
