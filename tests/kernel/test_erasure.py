"""What a tenant keeps no longer goes, its trail stays; a tenant goes, and no other is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from aosctl.domain import tenant_archive
from kernels import META, KernelDatabase, Tenant, ask, call, make_tenant, refused, say, user
from populate import populate
from trails import against, by_export, by_kernel, close, ephemeral, heads_of, play, tampering

CANARY = "canary-4711"


def keeps(database: KernelDatabase, tenant: Tenant, **retention: str) -> None:
    spec = {"displayName": tenant.name, "retention": retention}
    call(database.superuser, "aos_auth.apply_tenant", tenant.name, META, spec)


def talk_of(tenant: Tenant, words: str) -> UUID:
    """Put `words` wherever a run has content: messages, arguments, results, a title."""
    run = tenant.start_run("clerk")
    lease = tenant.open(run, words, p_worker="w1")
    answer = tenant.respond(
        lease,
        ask(("memory_store", {"key": "k", "value": words}), ("web_search", {"query": words})),
        p_raw=words,
    )  # fmt: skip
    kept, searched = (each["call_id"] for each in answer["calls"])
    tenant.execute(kept, lease)
    tenant.result(searched, lease, {"found": words})
    asked = tenant.respond(lease, ask(("send_mail", {"query": words})))
    assert asked["next"] == "wait"
    tenant.open(run, words)  # sets the question aside
    return run


def test_content_goes_when_its_time_is_over_and_the_trail_still_verifies(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-40 days")
    call(kernel_database.superuser, "aos_core.ensure_partitions", 0)
    tenant = make_tenant(kernel_database)
    old = close(tenant, talk_of(tenant, CANARY))
    open_one = talk_of(tenant, "still-open-4711")
    clock("0 days")
    young = close(tenant, talk_of(tenant, "closed-lately-4711"))
    heads = heads_of(kernel_database, tenant.id)
    assert kernel_database.places(CANARY) >= {
        "aos_core.step", "aos_core.tool_call", "aos_core.approval", "aos_core.run",
    }  # fmt: skip
    admin = kernel_database.connect("aos_installer")
    prune = "aos_core.prune_content"
    assert call(admin, prune, tenant.id)["runs"] == 0  # nothing is said of retention
    keeps(kernel_database, tenant, content="30d")
    before = others(kernel_database, (open_one, young))
    assert call(admin, prune, tenant.id) == {"runs": 1, "steps": 7, "more": False}
    assert kernel_database.places(CANARY) == set()
    assert others(kernel_database, (open_one, young)) == before
    assert call(admin, prune, tenant.id)["runs"] == 0
    assert tenant.events(old)[-1] == "content.erased"
    assert by_kernel(kernel_database, tenant.id) == by_export(kernel_database, tenant.id) == []
    assert against(kernel_database, tenant.id, heads) == []
    with tampering(kernel_database) as change:  # its digests still bind the messages' order
        change(
            "update aos_core.step set message = jsonb_set(message, '{erased,sha256}', '\"x\"')"
            " where run_id = %(run)s and role = 'assistant'", run=old,
        )  # fmt: skip
        assert "step without its event" in {w for _, w in by_kernel(kernel_database, tenant.id)}
        assert "step without its event" in {w for _, w in by_export(kernel_database, tenant.id)}
    with refused("AO002", "content of run"):
        call(tenant.person, "aos_agent.fork_run", tenant.id, old)
    transcript = tenant.person.execute(
        "select role from aos_core.transcript where run_id = %s order by seq", (old,)
    ).fetchall()
    assert len(transcript) == 7


def others(database: KernelDatabase, runs: tuple[UUID, ...]) -> list[Any]:
    """Digest the rows of these runs."""
    return [
        database.value(
            f"select md5(string_agg(t::text, '' order by t::text)) from aos_core.{table} t"  # noqa: S608 - ours
            " where run_id = any (%s)",
            list(runs),
        )
        for table in ("run", "step", "tool_call", "approval", "turn", "inbox", "session_memory")
    ]


def test_pruning_takes_runs_in_batches_and_only_the_tenants_admin_does_it(
    kernel_database: KernelDatabase, clock: Callable[[str], None]
) -> None:
    clock("-3 days")
    tenant = make_tenant(kernel_database)
    for _ in range(3):
        close(tenant, play(tenant))
    clock("0 days")
    keeps(kernel_database, tenant, content="1d")
    with refused("AO004"):
        call(tenant.person, "aos_core.prune_content", tenant.id)
    admin = kernel_database.connect("aos_installer")
    assert call(admin, "aos_core.prune_content", tenant.id, 2)["more"] is True
    assert call(admin, "aos_core.prune_content", tenant.id, 2) == {
        "runs": 1, "steps": 4, "more": False,
    }  # fmt: skip


def test_months_go_when_no_tenant_keeps_them(
    make_kernel: Callable[[], KernelDatabase],
) -> None:
    database = make_kernel()
    database.move_clock("-100 days")
    call(database.superuser, "aos_core.ensure_partitions", 0)
    tenant, other = make_tenant(database), make_tenant(database)
    play(tenant)
    database.move_clock()
    admin = database.connect("aos_installer")
    keeps(database, tenant, events="40d")
    assert call(admin, "aos_core.prune_events") == []  # the other keeps all
    keeps(database, other, events="400d")
    assert call(admin, "aos_core.prune_events") == []
    keeps(database, other, events="60d")
    assert len(call(admin, "aos_core.prune_events")) == 1
    for each in (tenant, other):
        assert by_kernel(database, each.id) == by_export(database, each.id) == []
        assert "events.cut" in each.events(each.id)
        assert "tenant.changed" in each.events(each.id)
    with refused("42501"):
        call(tenant.person, "aos_core.prune_events")


@pytest.fixture
def pair(make_kernel: Callable[[], KernelDatabase]) -> tuple[KernelDatabase, Tenant, Tenant]:
    """Two tenants with rows of every sort; the first has grants for its SQL, given by the admin."""
    database = make_kernel()
    doomed, other = populate(database, "doomed").tenant, populate(database, "other").tenant
    talk_of(doomed, CANARY)
    return database, doomed, other


def rows_of(database: KernelDatabase, tenant: UUID) -> dict[str, str]:
    """Digest every table's rows of one tenant."""
    found = {}
    for table in database.tables():
        query = sql.SQL(
            "select md5(string_agg(t::text, '' order by t::text)) from {} t"
            " where to_jsonb(t) ->> 'tenant_id' = {}"
        ).format(sql.Identifier(*table.split(".")), sql.Literal(str(tenant)))
        row = database.superuser.execute(query).fetchone()
        if row and row[0]:
            found[table] = row[0]
    return found


def test_a_tenant_goes_with_everything_but_its_tombstone(
    pair: tuple[KernelDatabase, Tenant, Tenant],
) -> None:
    database, doomed, other = pair
    heads = heads_of(database, doomed.id)
    roles = [row[0] for row in database.rows(
        "select db_role from aos_auth.sql_identity where tenant_id = %s", doomed.id
    )]  # fmt: skip
    assert len(roles) > 1  # the tenant's own, and that of a skill with grants
    theirs = rows_of(database, other.id)
    assert len(theirs) > 20
    admin = database.superuser
    for confirm in (None, "", "other", "DOOMED"):
        with refused("AO006", "confirmed by its name"):
            call(admin, "aos_auth.erase_tenant", "doomed", confirm)
    erased = call(admin, "aos_auth.erase_tenant", "doomed", "doomed")
    assert erased["runs"] == 5 and erased["rows"] > 50
    assert set(rows_of(database, doomed.id)) == {"aos_core.event_log", "aos_core.tombstone"}
    assert database.places(CANARY) == set()
    assert rows_of(database, other.id) == theirs
    assert not database.rows("select from pg_roles where rolname = any (%s)", roles)
    assert doomed.events(doomed.id)[-1] == "tenant.deleted"
    for tenant in (doomed, other):
        assert by_kernel(database, tenant.id) == by_export(database, tenant.id) == []
    assert against(database, doomed.id, heads) == []
    with refused("AO001"):
        call(admin, "aos_auth.erase_tenant", "doomed", "doomed")
    with refused("AO001"):
        call(doomed.person, "aos_core.verify_tenant", doomed.id)
    again = make_tenant(database, "doomed")
    assert by_kernel(database, again.id) == []
    names = [row[0] for row in database.rows("select name from aos_core.audit_tenants()")]
    assert names == ["doomed", "doomed", "other"]


def test_what_happens_to_a_tombstone_shows(pair: tuple[KernelDatabase, Tenant, Tenant]) -> None:
    database, doomed, _ = pair
    run = play(doomed)
    call(database.superuser, "aos_auth.erase_tenant", "doomed", "doomed")
    edits = {
        "update LOG set actor = 'x' where stream_id = %(run)s and seq = 2": "hash differs",
        "delete from LOG where stream_id = %(run)s and seq = 2": "event missing",
        "delete from LOG where stream_id = %(run)s and seq > 3": "head differs",
        "delete from LOG where stream_id = %(run)s": "head differs",
        "delete from LOG where stream_id = %(tenant)s and kind = 'tenant.deleted'": "head differs",
        "update aos_core.tombstone set last_seq = last_seq + 1": "head differs",
    }
    for edit, fault in edits.items():
        with tampering(database) as change:
            assert change(edit, run=run, tenant=doomed.id)
            for found in (by_kernel, by_export):
                assert fault in {what for _, what in found(database, doomed.id)}, edit


def test_only_an_administrator_deletes_a_tenant(
    pair: tuple[KernelDatabase, Tenant, Tenant],
) -> None:
    database, doomed, _ = pair
    before = database.fingerprint()
    for function in ("erase_tenant", "delete_tenant"):
        args = ("doomed", "doomed") if function == "erase_tenant" else ("doomed",)
        with refused("42501"):
            call(doomed.person, f"aos_auth.{function}", *args)
    with refused("42501"):
        call(doomed.person, "aos_core.erase_whole_tenant", doomed.id, "doomed")
    for login in ("test_developer", "aos_worker"):
        connection = database.connect(login, doomed.id)
        with refused("42501"):
            call(connection, "aos_core.erase_rows", doomed.id)
    assert database.fingerprint() == before
    with refused("AO005", "is not empty"):
        call(database.superuser, "aos_auth.delete_tenant", "other")


def test_a_worker_that_drives_a_tenant_which_goes_leaves_nothing_behind(
    pair: tuple[KernelDatabase, Tenant, Tenant],
) -> None:
    database, doomed, _ = pair
    run = doomed.start_run()
    lease = doomed.open(run, p_worker="w1")
    call(database.superuser, "aos_auth.erase_tenant", "doomed", "doomed")
    with refused("AO001"):
        doomed.respond(lease, say("too late"))
    with refused("AO001"):
        call(doomed.person, "aos_agent.open_turn", doomed.id, run, user("anybody?"))
    assert set(rows_of(database, doomed.id)) == {"aos_core.event_log", "aos_core.tombstone"}
    assert by_kernel(database, doomed.id) == []


def test_every_table_of_tenants_leaves_with_them(kernel_database: KernelDatabase) -> None:
    """A table whose rows the kernel could not delete, or not see, would stay."""
    leaving = {
        row[0] for row in kernel_database.rows("select t::text from aos_core.tenant_tables() t")
    }
    reached = {
        row[0]
        for row in kernel_database.rows(
            "select polrelid::regclass::text from pg_policy where polname = 'kernel'"
            " and polcmd = '*' and has_table_privilege('aos_kernel', polrelid, 'select, delete')"
            " and has_table_privilege('aos_kernel', polrelid, 'delete')"
        )
    }
    kept = {"aos_auth.tenant", "aos_core.tenant_state"}
    reached -= kept
    assert leaving == reached
    assert len(leaving) > 18


def test_an_archive_holds_every_row_and_no_secret(
    pair: tuple[KernelDatabase, Tenant, Tenant],
) -> None:
    database, doomed, other = pair
    admin = database.superuser
    admin.execute("select set_config('aos.tenant_id', %s, false)", (str(doomed.id),))
    lines = list(tenant_archive.lines(admin, "x", doomed.id, "doomed"))
    text = "\n".join(json.dumps(line) for line in lines)
    assert lines[-1] == {"t": "end", "lines": len(lines)}
    assert CANARY in text and str(other.id) not in text
    counted: dict[str, int] = {}
    for line in lines:
        if line["t"] == "row":
            counted[str(line["table"])] = counted.get(str(line["table"]), 0) + 1
    for table in database.rows("select t::text from aos_core.tenant_tables() t"):
        query = sql.SQL("select count(*) from {} where tenant_id = %s").format(
            sql.Identifier(*table[0].split("."))
        )
        row = admin.execute(query, (doomed.id,)).fetchone()
        assert row is not None and ("secret" in table[0] or counted.get(table[0], 0) == row[0])
    for name in ("lease_hash", "last_hash", "tsv"):
        assert f'"{name}"' not in text
    for table in ("aos_core.event_log", "aos_meta.kernel_version", "pg_catalog.pg_authid", "nope"):
        with refused("AO006"):
            call(admin, "aos_core.export_rows", doomed.id, table)
    with refused("AO004"):
        call(doomed.person, "aos_core.export_rows", doomed.id, "aos_core.run")


def test_rows_are_paged_by_their_whole_key(pair: tuple[KernelDatabase, Tenant, Tenant]) -> None:
    database, doomed, _ = pair
    for (table,) in database.rows("select * from aos_core.export_tables()"):
        whole = database.rows("select * from aos_core.export_rows(%s, %s)", doomed.id, table)
        paged, last = [], None
        while page := database.rows(
            "select * from aos_core.export_rows(%s, %s, %s::jsonb, 2)", doomed.id, table, last
        ):
            paged += page
            last = json.dumps(page[-1][0])
        assert paged == whole, table


def test_nothing_that_is_sent_passes_for_erased(kernel_database: KernelDatabase) -> None:
    """Whatever says of itself that it is erased would be kept by retention, with a false digest."""
    tenant = make_tenant(kernel_database)
    run = tenant.start_run()
    mark = {"erased": {"at": "2026-01-01", "sha256": "x"}}
    with refused("AO006", "erased"):
        call(tenant.person, "aos_agent.open_turn", tenant.id, run, user(CANARY) | mark)
    lease = tenant.open(run, p_worker="w1")
    for answer in (say(CANARY), ask(("web_search", {"query": CANARY}))):
        with refused("AO006", "erased"):
            tenant.respond(lease, answer | mark)
    tenant.respond(lease, say("the control"))
    assert by_kernel(kernel_database, tenant.id) == []


@pytest.mark.parametrize("end", ["close_run", "cancel_run"])
def test_an_ephemeral_run_is_forgotten_when_it_ends_and_its_trail_stays(
    kernel_database: KernelDatabase, fresh_tenant: Tenant, end: str
) -> None:
    tenant, words = fresh_tenant, f"{CANARY}-{end}"
    run, opened = ephemeral(tenant, words)
    tenant.respond(opened, say(words))
    usual = tenant.start_run("clerk")  # the control
    tenant.respond(tenant.open(usual, f"{words} kept", p_worker="w1"), say("one"))
    assert "aos_core.step" in kernel_database.places(words)
    for each in (usual, run):
        call(tenant.person, f"aos_agent.{end}", tenant.id, each)
    assert [text for _, text in tenant.transcript(usual)] == [f"{words} kept", "one"]
    kernel_database.superuser.execute("delete from aos_core.step where run_id = %s", (usual,))
    kernel_database.superuser.execute(
        "update aos_core.run set title = null where run_id = %s", (usual,)
    )
    assert kernel_database.places(words) == set()
    row = tenant.run_row(run)
    assert (row["kind"], row["erased_at"] is None) == ("ephemeral", False)
    assert tenant.events(run)[0] == "run.created"
    assert tenant.events(run)[-1] == "content.erased"
    assert tenant.faults(run) == []
    assert call(tenant.person, "aos_core.verify_tenant", tenant.id, run) is None
    with refused("AO002", "is erased"):
        call(tenant.person, "aos_agent.fork_run", tenant.id, run)


def test_what_an_ephemeral_run_has_done_is_not_hidden_by_it(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    """Its content stays where a call acted, or may have; a call that was refused is no act."""
    tenant = fresh_tenant
    kept, unknown = {}, UUID(int=0)
    for case in ("acted", "unknown", "denied"):
        run, opened = ephemeral(tenant, f"{CANARY}-{case}")
        args = {"key": "k", "value": "v"} if case == "acted" else {"query": "x"}
        skill = {"acted": "memory_store", "unknown": "web_search", "denied": "send_mail"}[case]
        one = tenant.respond(opened, ask((skill, args)))["calls"][0]
        if case == "acted":
            tenant.execute(one["call_id"], opened)
            tenant.respond(opened, say("done"))
        elif case == "denied":
            tenant.decide(UUID(one["call_id"]), "denied")
        else:
            kernel_database.superuser.execute(
                "update aos_core.tool_call set effect = 'unsafe' where call_id = %s",
                (one["call_id"],),
            )
            start = (tenant.id, one["call_id"], opened["lease"])
            call(tenant.worker, "aos_agent.start_call", *start)
            unknown = UUID(one["call_id"])
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
        kept[case] = tenant.run_row(run)["erased_at"] is None
    assert tenant.call_state(unknown) == "outcome_unknown"
    assert kept == {"acted": True, "unknown": True, "denied": False}


def test_a_fork_of_an_ephemeral_run_is_forgotten_too(fresh_tenant: Tenant) -> None:
    run, opened = ephemeral(fresh_tenant, "x")
    fresh_tenant.respond(opened, say("one"))
    fork = UUID(call(fresh_tenant.person, "aos_agent.fork_run", fresh_tenant.id, run)["run_id"])
    call(fresh_tenant.person, "aos_agent.close_run", fresh_tenant.id, fork)
    assert fresh_tenant.run_row(fork)["erased_at"] is not None
    assert fresh_tenant.run_row(run)["erased_at"] is None
    assert fresh_tenant.faults(fork) == []
