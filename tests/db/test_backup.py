"""Backup and restore: every row, from one snapshot, proven equal, and at work again elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from aosctl.db.archive import ArchiveReader
from aosctl.db.backup import backup
from aosctl.db.catalog import OWN_TABLES, unprotected
from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.install import install
from aosctl.db.restore import Restored, restore
from aosctl.db.upgrade import upgrade
from aosctl.errors import AosError, Conflict, Denied, KernelMismatch
from db.conftest import installer, quiet
from kernels import KernelDatabase, MakeKernel, Tenant, call, say
from populate import SHOP, Filled

Full = tuple[KernelDatabase, list[Filled]]
IDENTITIES = "aos_auth.sql_identity"
LEFT_OUT = OWN_TABLES | {"aos_core.live_watcher", "aos_core.live_text"}
"""What no backup carries: the kernel's own rows, and unlogged ones, which a crash empties."""


def restored(database: KernelDatabase, archive: bytes) -> Restored:
    with installer(database) as connection:
        return restore(connection, io.BytesIO(archive), "kernel.aosbackup", quiet)


def contents(database: KernelDatabase) -> dict[str, str]:
    """Digest what a backup carries, names of roles aside."""
    database.superuser.execute("set timezone = 'UTC'")
    digests = database.fingerprint()
    return {name: digests[name] for name in digests.keys() - LEFT_OUT - {IDENTITIES}}


def count(database: KernelDatabase, table: str) -> int:
    return int(database.value(f"select count(*) from {table}"))  # noqa: S608 - our own names


def memberships(database: KernelDatabase) -> list[tuple[Any, ...]]:
    return database.rows(
        "select roleid::regrole::text, member::regrole::text, admin_option from pg_auth_members"
        " where roleid::regrole::text !~ '^aos_sql_' order by 1, 2, 3"
    )


def forged(archive: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Return an archive whose members were changed by one who knows how to write the digests."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w") as new:
        members = {name: change(name, old.read(name)) for name in old.namelist()}
        manifest = json.loads(members["manifest.json"])
        for table in manifest["tables"]:
            rows = members[f"tables/{table['name']}"]
            table["sha256"], table["rows"] = hashlib.sha256(rows).hexdigest(), rows.count(b"\n")
        members["manifest.json"] = json.dumps(manifest).encode()
        for name, data in members.items():
            new.writestr(name, data)
    return file.getvalue()


def nowhere_installed(database: KernelDatabase) -> bool:
    return database.value("select to_regnamespace('aos_core') is null")


# --- backup


def test_the_installer_backs_up_every_row_of_every_tenant(filled: Full, archive: bytes) -> None:
    database, _ = filled
    manifest = ArchiveReader(io.BytesIO(archive), "a").manifest
    stored = {entry.name: entry.rows for entry in manifest.tables}
    assert stored == {
        table: count(database, table) for table in database.tables() if table not in LEFT_OUT
    }
    assert min(stored["aos_core.step"], stored["aos_core.event_log"], stored["aos_core.inbox"]) > 0


def test_a_backup_takes_no_right_that_stays(filled: Full) -> None:
    before = memberships(filled[0])
    with installer(filled[0]) as connection:
        backup(connection, io.BytesIO(), quiet)
    assert memberships(filled[0]) == before


def test_writers_go_on_during_a_backup_and_are_not_in_it(filled: Full) -> None:
    database, (acme, _) = filled
    runs = count(database, "aos_core.run")
    file, written = io.BytesIO(), []

    def write(line: str) -> None:
        if line == "reading aos_core.event_log":  # its rows, and those of runs, are yet to be read
            acme.tenant.person.execute("set lock_timeout = '1s'")
            run = acme.tenant.start_run()
            acme.tenant.open(run, p_worker="w1")
            written.append(run)

    with installer(database) as connection:
        manifest = backup(connection, file, write)
    assert len(written) == 1
    assert manifest.rows("aos_core.run") == runs
    assert count(database, "aos_core.run") == runs + 1


def test_a_person_may_not_back_up(filled: Full) -> None:
    database, _ = filled
    person = database.connect("test_developer")
    with pytest.raises(Denied, match='login "test_developer" may not act for the kernel'):
        backup(person, io.BytesIO(), quiet)


def test_a_login_that_was_granted_aos_backup_may(filled: Full) -> None:
    database, _ = filled
    database.superuser.execute("create role backup_operator login")
    database.superuser.execute("grant aos_backup to backup_operator")
    try:
        before = memberships(database)
        manifest = backup(database.connect("backup_operator"), io.BytesIO(), quiet)
        assert manifest.rows("aos_auth.tenant") == 2
        assert memberships(database) == before
    finally:  # other tests look at the whole cluster's memberships
        database.superuser.execute("revoke aos_backup from backup_operator")


def test_a_database_without_a_kernel_has_nothing_to_back_up(empty: KernelDatabase) -> None:
    with (
        installer(empty) as connection,
        pytest.raises(KernelMismatch, match="the kernel is not installed in database"),
    ):
        backup(connection, io.BytesIO(), quiet)


def test_a_table_that_the_reader_would_not_see_is_an_error(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    database.superuser.execute("drop policy backup on aos_core.step")
    with (
        installer(database) as connection,
        pytest.raises(AosError, match=r"aos_backup has no policy on aos_core\.step"),
    ):
        backup(connection, io.BytesIO(), quiet)


# --- restore

DECLARING = ("acme/sql_execute", "acme/sql_query", "globex/sql_execute", "globex/sql_query")
"""The skills that declare grants, and so have a role of their own."""


def fire(tenant: Tenant) -> None:
    """Fire a slot of the schedule that is there, twice: it goes on from where it was, once."""
    ((schedule, slot),) = tenant.database.rows(
        "select schedule_id, date_trunc('hour', aos_core.now()) + interval '2 days'"
        " from aos_agent.schedule where tenant_id = %s",
        tenant.id,
    )
    tenant.database.move_clock("3 days")
    fired = (tenant.id, schedule, slot, None)
    assert call(tenant.worker, "aos_agent.fire_schedule", *fired)["status"] == "fired"
    assert call(tenant.worker, "aos_agent.fire_schedule", *fired)["status"] == "repeated"
    known = tenant.database.value(
        "select min(slot_at) from aos_agent.schedule_slot where schedule_id = %s", schedule
    )
    again = call(tenant.worker, "aos_agent.fire_schedule", tenant.id, schedule, known, None)
    assert (again["status"], again["reason"]) == ("repeated", "missed")
    tenant.database.move_clock()


def go_on(database: KernelDatabase, filled: Filled) -> None:
    """Go on with each run where it was: claim, approve, run SQL, answer."""
    database.superuser.execute(SHOP)
    before = filled.tenant
    login = database.person("test_developer", "aos_developer")
    tenant = Tenant(
        database, before.id, before.name, database.connect(login, before.id),
        database.connect("aos_worker"),
    )  # fmt: skip
    lease = tenant.claim(run=filled.queued)
    assert tenant.respond(lease, say("done"))["next"] == "done"
    assert tenant.transcript(filled.queued)[-1] == ("assistant", "done")

    tenant.decide(filled.pending, "approved")
    lease = tenant.claim(run=filled.waiting)
    outcome = tenant.execute(filled.pending, lease)
    assert outcome["ok"] and outcome["result"]["row_count"] == 0, outcome
    tenant.respond(lease, say("deleted"))

    for run in (filled.finished, filled.waiting, filled.queued, filled.running, tenant.id):
        assert tenant.faults(run) == []
    database.move_clock("2 minutes")  # the old worker's lease is over
    lease = tenant.claim(run=filled.running)
    assert tenant.respond(lease, say("late"))["next"] == "done"
    lease = tenant.claim(run=filled.running)  # for the message that waited
    assert tenant.respond(lease, say("to that too"))["next"] == "done"
    assert [role for role, _ in tenant.transcript(filled.running)] == ["user", "assistant"] * 2
    fire(tenant)


def test_restore_into_a_new_database_is_equal_and_goes_on(
    filled: Full, archive: bytes, empty: KernelDatabase
) -> None:
    database, tenants = filled
    empty.superuser.execute(SHOP)
    empty.superuser.execute("alter schema shop owner to aos_installer")
    empty.superuser.execute("alter table shop.orders owner to aos_installer")
    before = memberships(empty)
    done = restored(empty, archive)
    assert done.installed and done.streams == 2 + len(tenants) * 4
    assert contents(empty) == contents_of(archive, database)
    assert unprotected(empty.superuser) == []
    assert memberships(empty) == before
    # The same cluster: the old database goes on using the old names.
    renamed = [line.split()[4] for line in done.remarks if line.startswith("the SQL role of")]
    assert renamed == [
        f"{tenant}{skill}" for tenant in ("acme", "globex")
        for skill in ("", "/sql_execute", "/sql_query")
    ]  # fmt: skip
    assert len(done.remarks) == len(renamed)
    # Each skill has its role again, with what it declares, and its tenant's own has none of that.
    assert sorted(empty.rows(
        "select t.name, s.name, has_any_column_privilege(i.db_role, 'shop.orders', 'select'),"
        " has_table_privilege(i.db_role, 'shop.orders', 'delete')"
        " from aos_auth.sql_identity i join aos_auth.tenant t using (tenant_id)"
        " left join aos_skills.skill s on s.skill_id = i.scope_id"
    ), key=str) == [
        (tenant, skill, skill == "sql_query", skill == "sql_execute")
        for tenant in ("acme", "globex") for skill in ("sql_execute", "sql_query", None)
    ]  # fmt: skip
    for tenant in tenants:
        go_on(empty, tenant)


def contents_of(archive: bytes, database: KernelDatabase) -> dict[str, str]:
    """Digest what was backed up: the source may have gone on since."""
    digests = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for entry in ArchiveReader(io.BytesIO(archive), "a").manifest.tables:
            if entry.name == IDENTITIES:
                continue
            with database.superuser.transaction(force_rollback=True):
                database.superuser.execute(
                    f"create temp table t (like {entry.name} including generated)"
                )
                columns = ", ".join(entry.columns)
                with database.superuser.cursor().copy(f"copy t ({columns}) from stdin") as copy:
                    copy.write(file.read(entry.member))
                digests[entry.name] = database.value(
                    "select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from t"
                )
    return digests


def test_restore_into_another_cluster_of_another_major_version(
    filled: Full, archive: bytes, elsewhere: KernelDatabase
) -> None:
    database, tenants = filled
    database.superuser.execute("set timezone = 'UTC'")
    done = restored(elsewhere, archive)
    assert contents(elsewhere) == contents_of(archive, database)
    identities = "select tenant_id, scope_id, db_role from aos_auth.sql_identity order by 1, 2"
    assert elsewhere.rows(identities) == database.rows(identities)  # the names were free
    assert (
        'login "test_developer" (principal acme/dev, globex/dev) does not exist:'
        " create role test_developer login; grant aos_developer to test_developer" in done.remarks
    )
    assert [line for line in done.remarks if " rights of aos_sql_" in line] == [
        f"2 rights of {role} wait for what is not in this database yet (schema shop):"
        " restore it, then aosctl db upgrade"
        for role in (
            database.value("select aos_auth.sql_role(%s, %s)", each.tenant.id, skill)
            for each in tenants for skill in ("sql_execute", "sql_query")
        )
    ]  # fmt: skip
    elsewhere.superuser.execute(SHOP)
    with installer(elsewhere) as connection:
        done_later = upgrade(connection, quiet)
        assert done_later.renewed == done_later.given == ()
        assert done_later.remarks == tuple(
            f"skill {skill}: its rights were not given: permission denied for schema shop"
            for skill in DECLARING
        )
    elsewhere.superuser.execute("alter schema shop owner to aos_installer")
    elsewhere.superuser.execute("alter table shop.orders owner to aos_installer")
    with installer(elsewhere) as connection:
        assert upgrade(connection, quiet).given == DECLARING
    for tenant in tenants:
        go_on(elsewhere, tenant)


def test_restore_gives_logins_that_exist_their_groups_and_makes_no_administrator(
    archive: bytes, elsewhere: KernelDatabase
) -> None:
    for login in ("test_developer", "boss"):
        elsewhere.superuser.execute(f"drop role if exists {login}")
        elsewhere.superuser.execute(f"create role {login} login")

    def promote(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        manifest = json.loads(data)
        manifest["logins"].append({"role": "boss", "principals": [], "groups": ["aos_admin"]})
        return json.dumps(manifest).encode()

    done = restored(elsewhere, forged(archive, promote))
    assert 'login "boss" was a member of aos_admin: grant aos_admin to boss' in done.remarks
    member = "select pg_has_role(%s, %s, 'member')"
    assert elsewhere.value(member, "test_developer", "aos_developer")
    assert not elsewhere.value(member, "boss", "aos_admin")


def test_events_keep_their_partitions(make_kernel: MakeKernel, empty: KernelDatabase) -> None:
    database = make_kernel()
    database.superuser.execute(
        "set role aos_owner; select aos_core.create_partition('event_log_2020_01',"
        " '2020-01-01 UTC', '2020-02-01 UTC'); reset role"
    )
    database.superuser.execute(
        "create or replace function aos_core.now() returns timestamptz language sql"
        " volatile parallel safe as $$ select '2020-01-15 12:00 UTC'::timestamptz $$"
    )
    call(database.superuser, "aos_auth.apply_tenant", "old", {"labels": {}, "annotations": {}}, {})
    file = io.BytesIO()
    with installer(database) as connection:
        backup(connection, file, quiet)
    restored(empty, file.getvalue())
    assert empty.value("select count(*) from aos_core.event_log_2020_01") > 0
    assert unprotected(empty.superuser) == []
    with pytest.raises(psycopg.Error) as caught:
        empty.superuser.execute("truncate aos_core.event_log_2020_01")
    assert caught.value.sqlstate == "AO010"


# --- what restore refuses


def test_a_kernel_with_data_is_not_touched(filled: Full, archive: bytes) -> None:
    database, _ = filled
    before = database.fingerprint()
    with pytest.raises(Conflict, match="is not empty: there are rows in aos_a"):
        restored(database, archive)
    assert database.fingerprint() == before
    assert unprotected(database.superuser) == []


def test_an_empty_kernel_that_is_there_is_filled(archive: bytes, empty: KernelDatabase) -> None:
    with installer(empty) as connection:
        install(connection)
    assert not restored(empty, archive).installed


@pytest.mark.parametrize("where", [0.3, 0.6, 0.999])
def test_a_truncated_archive_is_refused(
    archive: bytes, where: float, empty: KernelDatabase
) -> None:
    with pytest.raises(AosError, match=r"^kernel\.aosbackup: not a whole archive"):
        restored(empty, archive[: int(len(archive) * where)])
    assert nowhere_installed(empty)


def test_changed_bytes_are_refused(archive: bytes, empty: KernelDatabase) -> None:
    place = archive.index(b"tables/aos_core.step") + 200
    damaged = archive[:place] + bytes([archive[place] ^ 1]) + archive[place + 1 :]
    with pytest.raises(AosError, match=r"the rows of aos_core\.step"):
        restored(empty, damaged)
    assert nowhere_installed(empty)


def test_a_file_that_is_no_archive_is_refused(empty: KernelDatabase) -> None:
    with pytest.raises(AosError, match="not a whole archive of aosctl db backup"):
        restored(empty, b"select 1;")


def test_an_archive_of_another_kernel_version_is_refused(
    archive: bytes, empty: KernelDatabase
) -> None:
    def age(name: str, data: bytes) -> bytes:
        return data.replace(f'"kernel": "{KERNEL_VERSION}"'.encode(), b'"kernel": "0.0.9"')

    with pytest.raises(KernelMismatch, match=r"the archive holds kernel 0\.0\.9"):
        restored(empty, forged(archive, age))
    assert nowhere_installed(empty)


def test_a_failure_in_the_middle_leaves_nothing(archive: bytes, empty: KernelDatabase) -> None:
    def orphan(name: str, data: bytes) -> bytes:
        return b"" if name == "tables/aos_agent.agent" else data

    with pytest.raises(Conflict, match="violates foreign key constraint"):
        restored(empty, forged(archive, orphan))
    assert nowhere_installed(empty)


def test_a_chain_that_was_broken_before_is_restored_and_reported(
    archive: bytes, empty: KernelDatabase
) -> None:
    def tamper(name: str, data: bytes) -> bytes:
        return data.replace(b"tool.requested", b"tool.forgotten").replace(
            b"run.created", b"run.creates"
        ) if name == "tables/aos_core.event_log" else data  # fmt: skip

    done = restored(empty, forged(archive, tamper))
    assert any("(hash differs), and was so in the backup" in line for line in done.remarks)


def test_a_manifest_can_give_no_right_beyond_those_of_skills(
    archive: bytes, empty: KernelDatabase
) -> None:
    def greedy(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        manifest = json.loads(data)
        for identity in manifest["identities"]:
            identity["grants"] = [
                {"kind": "table", "schema": "shop", "object": "orders", "column": None,
                 "privilege": privilege}
                for privilege in ("TRIGGER", "ALL", "SELECT on shop.orders to public; --")
            ]  # fmt: skip
        return json.dumps(manifest).encode()

    empty.superuser.execute(SHOP)
    empty.superuser.execute("grant all on schema shop to aos_installer")
    empty.superuser.execute("alter table shop.orders owner to aos_installer")
    done = restored(empty, forged(archive, greedy))
    assert len([line for line in done.remarks if "on table shop.orders: not given" in line]) == 18
    assert not empty.value("select has_table_privilege('public', 'shop.orders', 'select')")


def test_a_superuser_restores_no_right_on_the_servers_own(
    archive: bytes, empty: KernelDatabase
) -> None:
    """A superuser could grant what reads the server's files, or what the kernel keeps."""
    wanted = [
        ("function", "pg_catalog", "pg_read_file(text)", "EXECUTE"),
        ("table", "pg_catalog", "pg_authid", "SELECT"),
        ("function", "aos_core", "now()", "EXECUTE"),
        ("table", "shop", "orders", "SELECT"),
    ]

    def greedy(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        manifest = json.loads(data)
        for identity in manifest["identities"]:
            identity["grants"] = [
                {"kind": kind, "schema": schema, "object": thing, "column": None,
                 "privilege": privilege}
                for kind, schema, thing, privilege in wanted
            ]  # fmt: skip
        return json.dumps(manifest).encode()

    empty.superuser.execute(SHOP)
    done = restore(empty.superuser, io.BytesIO(forged(archive, greedy)), "kernel.aosbackup", quiet)
    told = [line for line in done.remarks if "no right of SQL skills" in line]
    assert len(told) == 3 * len(done.manifest.identities) > 0
    given = "select bool_or({}) from pg_roles r where r.rolname ~ '^aos_sql_'"
    for right, has in {
        "has_function_privilege(r.oid, 'pg_read_file(text)', 'execute')": False,
        "has_table_privilege(r.oid, 'pg_authid', 'select')": False,
        "has_table_privilege(r.oid, 'shop.orders', 'select')": True,
    }.items():
        assert empty.value(given.format(right)) is has, right


def test_equality_is_of_every_byte(filled: Full, archive: bytes) -> None:
    """The control for all of the above: one changed byte changes the digest."""
    manifest = ArchiveReader(io.BytesIO(archive), "a").manifest
    step = next(entry for entry in manifest.tables if entry.name == "aos_core.step")

    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"noted", b"Noted") if name == step.member else data

    changed = ArchiveReader(io.BytesIO(forged(archive, change)), "a").manifest
    assert replace(step, sha256="") == replace(
        changed.tables[manifest.tables.index(step)], sha256=""
    )
    assert step not in changed.tables
