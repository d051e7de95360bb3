"""Upgrades: the chain of scripts in one transaction, seeing every tenant's rows; all or nothing.

This is the first release, so an older kernel is made up: today's, under an earlier version number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aosctl.config import Target
from aosctl.db import install as installing
from aosctl.db.catalog import unprotected
from aosctl.db.connection import KERNEL_VERSION, open_session
from aosctl.db.direct import open_direct_session
from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install
from aosctl.db.membership import OWNERS, acting_as, member_of
from aosctl.db.upgrade import find_chain, upgrade
from aosctl.errors import AosError, Conflict, Denied, KernelMismatch
from db.conftest import installer, quiet
from kernels import KernelDatabase, MakeKernel
from populate import populate
from postgres import Cluster

FIRST = """
select aos_meta.begin_upgrade('0.0.8', '0.0.9');

update aos_auth.tenant set labels = labels || '{"plan": "free"}';

create table aos_core.note (
  tenant_id uuid not null references aos_auth.tenant,
  note_id uuid not null default aos_core.uuidv7(),
  body text not null,
  primary key (tenant_id, note_id)
);
alter table aos_core.note enable row level security;
create policy backup on aos_core.note for select to aos_backup using (true);
grant select on aos_core.note to aos_backup;

create function aos_core.count_notes(p_tenant uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as 'select count(*) from aos_core.note n where n.tenant_id = p_tenant';

create view aos_core.notes as select tenant_id, note_id, body from aos_core.note;

select aos_meta.finish_upgrade('0.0.9');
"""
SECOND = """
select aos_meta.begin_upgrade('0.0.9', 'VERSION');
alter table aos_core.run add column region text;
update aos_core.run r set region = t.labels ->> 'plan' from aos_auth.tenant t
where t.tenant_id = r.tenant_id;
alter table aos_core.run alter column region set not null;
select aos_meta.finish_upgrade('VERSION');
""".replace("VERSION", KERNEL_VERSION)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A folder with two steps from 0.0.8 to this version."""
    (tmp_path / "0.0.8--0.0.9.sql").write_text(FIRST)
    (tmp_path / f"0.0.9--{KERNEL_VERSION}.sql").write_text(SECOND)
    (tmp_path / "README.md").write_text("no script")
    return tmp_path


@pytest.fixture(scope="module")
def older_template(make_kernel: MakeKernel) -> str:
    """A filled kernel that calls itself 0.0.8, to be copied."""
    database = make_kernel()
    for name in ("acme", "globex"):
        populate(database, name)
    set_version(database, "0.0.8")
    database.close()
    return database.name


@pytest.fixture
def older(
    older_template: str, make_database: Callable[..., str], cluster: Cluster
) -> Iterator[KernelDatabase]:
    """A filled kernel of version 0.0.8, one a test."""
    name = make_database(older_template).rpartition("/")[2].partition("?")[0]
    database = KernelDatabase(cluster, name)
    yield database
    database.close()


def set_version(database: KernelDatabase, version: str) -> None:
    database.superuser.execute("update aos_meta.kernel_version set version = %s", (version,))


def version_of(database: KernelDatabase) -> str:
    query = "select version from aos_meta.kernel_version order by installed_at desc limit 1"
    return str(database.value(query))


def count(database: KernelDatabase, table: str) -> int:
    return int(database.value(f"select count(*) from {table}"))  # noqa: S608 - our own names


def test_under_force_a_backfill_by_the_owner_touches_no_row(older: KernelDatabase) -> None:
    """The control: why the scripts lift it."""
    with installer(older) as connection, connection.transaction(force_rollback=True):
        with member_of(connection, *OWNERS), acting_as(connection, "aos_owner"):
            done = connection.execute("update aos_auth.tenant set labels = '{}'")
        assert done.rowcount == 0
    assert count(older, "aos_auth.tenant") == 2


def test_chain_runs_as_the_installer_and_sees_every_row(
    older: KernelDatabase, scripts: Path
) -> None:
    with installer(older) as connection:
        done = upgrade(connection, quiet, scripts=scripts)
    assert done.steps == ("0.0.8--0.0.9.sql", f"0.0.9--{KERNEL_VERSION}.sql")
    assert (done.source, done.target, version_of(older)) == ("0.0.8", KERNEL_VERSION, done.target)
    assert older.rows("select distinct region, count(*) from aos_core.run group by 1") == [
        ("free", count(older, "aos_core.run"))
    ]


def test_new_objects_belong_to_the_kernel_and_are_closed(
    older: KernelDatabase, scripts: Path
) -> None:
    with installer(older) as connection:
        upgrade(connection, quiet, scripts=scripts)
    assert unprotected(older.superuser) == []
    owner = "select relowner::regrole::text from pg_class where oid = %s::regclass"
    assert older.value(owner, "aos_core.note") == "aos_owner"
    assert older.value(owner, "aos_core.notes") == "aos_view"
    function = "aos_core.count_notes(uuid)"
    assert (
        older.value("select proowner::regrole::text from pg_proc where oid = %s::regprocedure",
                    function) == "aos_kernel"
    )  # fmt: skip
    assert not older.value("select has_function_privilege('public', %s, 'execute')", function)
    assert older.value(
        "select array_agg(distinct n.nspname::text) from pg_namespace n, aclexplode(n.nspacl) a"
        " where a.privilege_type = 'CREATE' and a.grantee = 'aos_kernel'::regrole"
    ) is None  # fmt: skip
    with installer(older) as connection:
        owns = "select pg_has_role(%s, 'usage')"
        assert [connection.execute(owns, (r,)).fetchone() for r in OWNERS] == [(False,)] * 5


def test_a_script_that_fails_leaves_the_kernel_as_it_was(
    older: KernelDatabase, scripts: Path
) -> None:
    broken = scripts / f"0.0.9--{KERNEL_VERSION}.sql"
    broken.write_text(SECOND.replace("labels ->> 'plan'", "nowhere"))
    before = older.fingerprint()
    with (
        installer(older) as connection,
        pytest.raises(AosError, match=rf"^0\.0\.9--{KERNEL_VERSION}\.sql: column t\.nowhere"),
    ):
        upgrade(connection, quiet, scripts=scripts)
    assert older.fingerprint() == before
    assert unprotected(older.superuser) == []


def test_a_script_that_forgets_row_level_security_is_refused(
    older: KernelDatabase, scripts: Path
) -> None:
    careless = scripts / "0.0.8--0.0.9.sql"
    careless.write_text(FIRST.replace("alter table aos_core.note enable row level security;", ""))
    with (
        installer(older) as connection,
        pytest.raises(AosError, match=r"table aos_core\.note has a tenant_id and no row-level"),
    ):
        upgrade(connection, quiet, scripts=scripts)
    assert version_of(older) == "0.0.8"


def test_a_script_that_forgets_its_version_is_refused(older: KernelDatabase, scripts: Path) -> None:
    last = scripts / f"0.0.9--{KERNEL_VERSION}.sql"
    last.write_text(SECOND.replace(f"finish_upgrade('{KERNEL_VERSION}')", "finish_upgrade('0.5')"))
    with (
        installer(older) as connection,
        pytest.raises(AosError, match=rf"the kernel is 0\.5, not {KERNEL_VERSION}"),
    ):
        upgrade(connection, quiet, scripts=scripts)
    assert version_of(older) == "0.0.8"


def test_a_script_of_another_version_does_nothing(older: KernelDatabase, scripts: Path) -> None:
    (scripts / "0.0.8--0.0.9.sql").write_text(FIRST.replace("'0.0.8'", "'0.0.7'"))
    with (
        installer(older) as connection,
        pytest.raises(KernelMismatch, match=r"upgrades kernel 0\.0\.7 to 0\.0\.9, and kernel 0\.0"),
    ):
        upgrade(connection, quiet, scripts=scripts)


def test_a_session_that_holds_a_table_stops_the_upgrade_in_time(
    older: KernelDatabase, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "LOCK_WAIT", "200ms")
    with installer(older) as connection, older.superuser.transaction():
        older.superuser.execute("lock table aos_core.step in access share mode")
        with pytest.raises(Conflict, match="other sessions have used the kernel's tables for"):
            upgrade(connection, quiet, scripts=scripts)
    assert version_of(older) == "0.0.8"


def test_only_who_installed_the_kernel_upgrades_it(older: KernelDatabase, scripts: Path) -> None:
    person = older.connect(older.person("test_developer", "aos_developer"))
    with pytest.raises(Denied, match='login "test_developer" may not act for the kernel'):
        upgrade(person, quiet, scripts=scripts)


def test_ways_that_there_are_not(older: KernelDatabase, tmp_path: Path) -> None:
    with (
        installer(older) as connection,
        pytest.raises(KernelMismatch, match=rf"no way from kernel 0\.0\.8 to {KERNEL_VERSION}"),
    ):
        upgrade(connection, quiet, scripts=tmp_path)
    set_version(older, "9.0.0")
    with (
        installer(older) as connection,
        pytest.raises(KernelMismatch, match=r"the kernel is 9\.0\.0, newer than this aosctl"),
    ):
        upgrade(connection, quiet)


def test_the_shortest_chain_is_chosen(tmp_path: Path) -> None:
    for name in ("0.1.0--0.2.0", "0.2.0--0.3.0", "0.3.0--0.10.0", "0.1.0--0.3.0", "0.3.0--0.2.0"):
        (tmp_path / f"{name}.sql").touch()
    chain = [script.path.stem for script in find_chain(tmp_path, "0.1.0", "0.10.0")]
    assert chain == ["0.1.0--0.3.0", "0.3.0--0.10.0"]
    assert find_chain(tmp_path, "0.3.0", "0.3.0") == []


def test_the_current_version_stays_as_it_is(older: KernelDatabase) -> None:
    set_version(older, KERNEL_VERSION)
    before = older.fingerprint()
    with installer(older) as connection:
        done = upgrade(connection, quiet)
    assert (done.steps, done.renewed, done.given, done.remarks) == ((), (), (), ())
    assert older.fingerprint() == before


def test_the_months_to_come_get_their_partitions(older: KernelDatabase) -> None:
    set_version(older, KERNEL_VERSION)
    months = "select count(*) from pg_inherits where inhparent = 'aos_core.event_log'::regclass"
    before = older.value(months)
    for ahead in (1, 2):
        month = f"now() at time zone 'UTC' + interval '{ahead} months'"
        older.superuser.execute(
            f"do $$ begin execute format('drop table aos_core.event_log_%s',"
            f" to_char({month}, 'YYYY_MM')); end $$"
        )
    with installer(older) as connection:
        upgrade(connection, quiet)
    assert older.value(months) == before
    assert unprotected(older.superuser) == []


# --- sandbox functions


def sandboxes(database: KernelDatabase) -> list[tuple[str, str]]:
    """Return each identity with the answer of its sandbox function, run as the kernel would."""
    found = []
    for (role,) in database.rows("select db_role from aos_auth.sql_identity order by 1"):
        query = f"select aos_sandbox.{role}('select current_user', true, 1, 1000, 'pg_temp')"
        found.append((str(role), database.value(query)["rows"][0][0]))
    return found


def roles(database: KernelDatabase) -> list[str]:
    rows = database.rows("select db_role from aos_auth.sql_identity order by 1")
    return [str(row[0]) for row in rows]


def intact(database: KernelDatabase) -> bool:
    """Tell whether each function is owned by its role, and its body is the registered one."""
    return bool(
        database.value(
            "select bool_and(p.proowner = i.db_role::text::regrole and p.prosecdef and"
            " md5(p.prosrc) = i.function_digest and md5(aos_auth.sandbox_body(i.db_role))"
            " = i.function_digest) from aos_auth.sql_identity i left join pg_proc p"
            " on p.proname = i.db_role and p.pronamespace = 'aos_sandbox'::regnamespace"
        )
    )


def test_missing_and_changed_sandbox_functions_are_made_anew(older: KernelDatabase) -> None:
    set_version(older, KERNEL_VERSION)
    dropped, changed, *_ = roles(older)  # the tenants' own and those of skills with grants
    older.superuser.execute(f"drop function aos_sandbox.{dropped}")
    older.superuser.execute(f"alter function aos_sandbox.{changed} owner to aos_superuser")
    with installer(older) as connection:
        assert sorted(upgrade(connection, quiet).renewed) == [dropped, changed]
    assert intact(older)
    assert sandboxes(older) == [(role, role) for role in roles(older)]


def test_a_new_kernel_brings_its_sandbox_to_every_tenant(
    older: KernelDatabase, scripts: Path
) -> None:
    body = older.value(
        "select pg_get_functiondef('aos_auth.sandbox_body(name)'::regprocedure)"
    ).replace("was tampered with", "was changed by somebody")
    (scripts / "0.0.8--0.0.9.sql").write_text(
        FIRST.replace("select aos_meta.finish", body + ";\nselect aos_meta.finish")
    )
    before = older.rows("select function_digest from aos_auth.sql_identity")
    with installer(older) as connection:
        assert sorted(upgrade(connection, quiet, scripts=scripts).renewed) == roles(older)
    assert not set(before) & set(older.rows("select function_digest from aos_auth.sql_identity"))
    assert intact(older)


def test_a_role_that_is_gone_is_made_anew_with_its_grants(older: KernelDatabase) -> None:
    """As after a pg_restore in another cluster, which has the rows and not the roles."""
    set_version(older, KERNEL_VERSION)
    older.superuser.execute("alter schema shop owner to aos_installer")
    older.superuser.execute("alter table shop.orders owner to aos_installer")
    gone = []
    for (role,) in older.rows("select db_role from aos_auth.sql_identity"):
        # Roles are the cluster's; those of the copied database have to stay.
        fresh = f"aos_sql_{'0' * 15}{len(gone)}"
        older.superuser.execute(
            "update aos_auth.sql_identity set db_role = %s where db_role = %s", (fresh, role)
        )
        gone.append(fresh)
    try:
        with installer(older) as connection:
            done = upgrade(connection, quiet)
        assert sorted(done.renewed) == gone and done.remarks == ()
        assert done.given == tuple(
            f"{tenant}/{skill}" for tenant in ("acme", "globex")
            for skill in ("sql_execute", "sql_query")
        )  # fmt: skip
        assert intact(older)
        for role, declares in older.rows(
            "select db_role, scope_id <> tenant_id from aos_auth.sql_identity"
        ):
            can = "select has_any_column_privilege(%s, 'shop.orders', 'select')"
            can += " or has_table_privilege(%s, 'shop.orders', 'delete')"
            assert older.value(can, role, role) is declares
    finally:
        for role in gone:
            older.superuser.execute(f"drop owned by {role}")
            older.rows("select aos_auth.drop_sql_role(%s)", role)


def test_identities_follow_the_skills_that_declare_grants(older: KernelDatabase) -> None:
    """As after rows were written past the triggers, by a superuser or an older restore."""
    set_version(older, KERNEL_VERSION)
    before = roles(older)
    older.superuser.execute("alter schema shop owner to aos_installer")
    older.superuser.execute("alter table shop.orders owner to aos_installer")
    older.superuser.execute("alter table aos_skills.skill disable trigger user")
    older.superuser.execute(
        "insert into aos_skills.skill (tenant_id, name, builtin, grants) select tenant_id, 'fresh',"
        " builtin, grants from aos_skills.skill where name = 'sql_query'"
    )
    gone = {str(row[0]) for row in older.rows(
        "select aos_auth.sql_role(tenant_id, 'sql_query') from aos_auth.tenant"
    )}  # fmt: skip
    older.superuser.execute("update aos_skills.skill set grants = '[]' where name = 'sql_query'")
    older.superuser.execute("alter table aos_skills.skill enable trigger user")
    assert len(gone) == 2
    with installer(older) as connection:
        done = upgrade(connection, quiet)
        again = upgrade(connection, quiet)
    made = set(roles(older)) - set(before)
    assert set(done.repaired) == made | gone and len(made) == 2
    assert done.given == ("acme/fresh", "globex/fresh") and done.remarks == ()
    assert not gone & set(roles(older))
    assert not older.rows("select from pg_proc where proname = any (%s)", list(gone))
    assert again.repaired == again.given == again.renewed == ()
    assert sandboxes(older) == [(role, role) for role in roles(older)]
    for name in ("acme", "globex"):  # and their roles, which are the cluster's
        older.rows("select aos_auth.erase_tenant(%s, %s)", name, name)
    assert not older.rows("select from pg_roles where rolname = any (%s)", list(made))


# --- functions and views


def test_functions_and_views_that_were_changed_are_made_anew(older: KernelDatabase) -> None:
    set_version(older, KERNEL_VERSION)
    older.superuser.execute(
        "create or replace function aos_core.is_name(p_name text) returns boolean"
        " language sql immutable parallel safe as 'select true'"
    )
    older.superuser.execute("drop function aos_agent.pause_run(uuid, uuid, text)")
    older.superuser.execute("drop view aos_core.transcript")
    granted = "select has_function_privilege('aos_developer', %s::regprocedure, 'execute')"
    with installer(older) as connection:
        done = upgrade(connection, quiet)
        assert sorted(done.anew) == [
            "aos_agent.pause_run(uuid,uuid,text)",
            "aos_core.is_name(text)",
            "aos_core.transcript",
        ]
        assert upgrade(connection, quiet).anew == ()
    assert older.value("select aos_core.is_name('No name')") is False
    assert older.value(granted, "aos_agent.pause_run(uuid,uuid,text)") is True
    assert older.value("select has_table_privilege('aos_viewer', 'aos_core.transcript', 'select')")


def test_another_build_of_this_version_is_recognised_and_brought_up(
    older: KernelDatabase,
) -> None:
    set_version(older, KERNEL_VERSION)
    older.superuser.execute("update aos_meta.kernel_version set build = '0123456789ab'")
    dsn = older.cluster.dsn(INSTALLER, older.name)
    target = Target("dsn", dsn, None, None, ())
    assert open_direct_session(target, "test", select_tenant=False) is None
    with pytest.raises(KernelMismatch, match="another build of kernel") as caught:
        open_session(target, "test")
    assert caught.value.hint == "aosctl db upgrade"
    with installer(older) as connection, pytest.raises(KernelMismatch, match="another build"):
        install(connection)
    with installer(older) as connection:
        upgrade(connection, quiet)
    open_session(target, "test", select_tenant=False).close()
    direct = open_direct_session(target, "test", select_tenant=False)
    assert direct is not None
    direct.close()


@pytest.mark.parametrize(
    "mark",
    [
        "update aos_meta.kernel_version set build = '0123456789ab'",
        "alter table aos_meta.kernel_version drop column build",
    ],
)
def test_a_build_whose_tables_differ_is_refused_with_the_way_out(
    older: KernelDatabase, mark: str
) -> None:
    set_version(older, KERNEL_VERSION)
    older.superuser.execute(mark.encode())
    older.superuser.execute("alter table aos_core.run drop column lease_worker cascade")
    before = older.rows("select version from aos_meta.kernel_version")
    with installer(older) as connection:
        with pytest.raises(KernelMismatch, match="no script leads from one build") as caught:
            upgrade(connection, quiet)
        assert "aosctl db backup" in str(caught.value.hint)
    assert older.rows("select version from aos_meta.kernel_version") == before
