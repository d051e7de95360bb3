"""Install and uninstall: by a login with CREATEROLE, idempotent, without remains."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from aosctl.db.catalog import unprotected
from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.install import install, install_script, remarks, require_kernel, revoke_public
from aosctl.db.membership import OWNERS
from aosctl.db.pgbin import MAJOR, bundled
from aosctl.db.uninstall import ROLES, uninstall
from aosctl.db.worker_login import connect_worker
from aosctl.errors import AosError, Conflict, Denied, KernelMismatch
from db.conftest import installer, new_database
from kernels import META, KernelDatabase, MakeKernel, call, make_tenant
from postgres import Cluster


@pytest.fixture(scope="module")
def lone_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster in which nothing of the kernel was ever installed."""
    with Cluster(request.config.getoption("--pg")) as running:
        yield running


@pytest.fixture
def lone(lone_cluster: Cluster) -> Iterator[KernelDatabase]:
    """An empty database there."""
    database = new_database(lone_cluster)
    yield database
    database.close()


def roles(database: KernelDatabase) -> list[str]:
    rows = database.rows(r"select rolname from pg_roles where rolname !~ '^pg_' order by 1")
    return [str(row[0]) for row in rows]


def remains(database: KernelDatabase) -> list[Any]:
    """List what a kernel may leave behind in a database."""
    return database.rows(
        "select nspname from pg_namespace where nspname ~ '^aos_'"
        " union all select defaclrole::regrole::text from pg_default_acl"
        " union all select proname from pg_proc where proname ~ '^aos_'"
        " union all select d.classid::regclass::text from pg_shdepend d"
        " join pg_database b on b.oid = d.dbid and b.datname = current_database()"
        " join pg_roles r on r.oid = d.refobjid and r.rolname ~ '^aos_'"
        " where r.rolname <> 'aos_installer'"
    )


# --- install


def test_install_twice_changes_nothing(empty: KernelDatabase) -> None:
    with installer(empty) as connection:
        assert install(connection).changed
        before = empty.fingerprint()
        assert not install(connection).changed
        assert require_kernel(connection) == KERNEL_VERSION
    assert empty.fingerprint() == before
    assert unprotected(empty.superuser) == []


def test_the_installer_keeps_no_right_of_the_owners(empty: KernelDatabase) -> None:
    with installer(empty) as connection:
        install(connection)
        for role in OWNERS:
            query = "select pg_has_role(%s, 'usage')"
            assert connection.execute(query, (role,)).fetchone() == (False,)
        owned = connection.execute(
            "select count(*) from pg_class where relowner = current_user::regrole"
        ).fetchone()
    assert owned == (0,)


def test_the_dumped_script_is_the_install(empty: KernelDatabase) -> None:
    """With plain psql, which knows nothing of aosctl."""
    psql = str(bundled(MAJOR).program("psql"))
    dsn = empty.cluster.dsn("aos_installer", empty.name)
    done = subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn],
        input=install_script(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with installer(empty) as connection:
        assert not install(connection).changed


def test_the_dumped_script_run_twice_changes_nothing(empty: KernelDatabase) -> None:
    with installer(empty) as connection:
        connection.execute(install_script().encode())
        before = empty.fingerprint()
        with pytest.raises(Exception, match="already exists"):
            connection.execute(install_script().encode())
        connection.rollback()
    assert empty.fingerprint() == before


def test_installs_at_once_in_two_databases_and_twice_in_one(lone_cluster: Cluster) -> None:
    first, second = new_database(lone_cluster), new_database(lone_cluster)
    barrier, outcomes = threading.Barrier(3), list[Any]()

    def run(database: KernelDatabase) -> None:
        with installer(database) as connection:
            barrier.wait()
            try:
                outcomes.append(install(connection).changed)
            except AosError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=run, args=(d,)) for d in (first, second, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["False", "True", "True"]
    for database in (first, second):
        assert unprotected(database.superuser) == []
        with installer(database) as connection:
            uninstall(connection)
        database.close()


def test_a_login_without_createrole_is_told(empty: KernelDatabase) -> None:
    empty.superuser.execute("create role plain_person login")
    empty.superuser.execute(f"grant create on database {empty.name} to plain_person")
    person = empty.connect("plain_person")
    with pytest.raises(AosError, match='login "plain_person" may not create roles') as caught:
        install(person)
    assert caught.value.hint == "a superuser: alter role plain_person createrole"


def test_a_login_without_create_is_told(empty: KernelDatabase) -> None:
    empty.superuser.execute("create role maker login createrole")
    with pytest.raises(
        AosError, match='login "maker" may not create schemas in database'
    ) as caught:
        install(empty.connect("maker"))
    assert caught.value.hint == f"its owner: grant create on database {empty.name} to maker"


def test_a_second_installer_is_told_who_may_help(lone: KernelDatabase) -> None:
    """From PostgreSQL 16 on CREATEROLE is no right on roles that others made."""
    with installer(lone) as connection:
        install(connection)
    lone.superuser.execute("create role second login createrole")
    other = new_database(lone.cluster)
    other.superuser.execute(f"grant create on database {other.name} to second")
    second = other.connect("second")
    if lone.cluster.major >= 16:
        with pytest.raises(AosError, match="the kernel's roles were made by another") as caught:
            install(second)
        hint = (caught.value.hint or "").removeprefix("a superuser: ")
        other.superuser.execute(hint.encode())
    assert install(second).changed
    uninstall(second)
    assert remains(other) == []
    other.superuser.execute(f"revoke all on database {other.name} from second")
    other.superuser.execute("drop role second")
    other.close()
    with installer(lone) as connection:
        assert uninstall(connection) == ()


def test_another_version_is_told(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    database.superuser.execute("update aos_meta.kernel_version set version = '0.0.1'")
    with (
        installer(database) as connection,
        pytest.raises(
            KernelMismatch, match=rf"holds kernel 0\.0\.1, this is {KERNEL_VERSION}"
        ) as caught,
    ):
        install(connection)
    assert caught.value.hint == "aosctl db upgrade"


def test_a_stranger_is_told(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    database.superuser.execute("create role stranger login")
    with pytest.raises(Denied, match='login "stranger" has no part in the kernel'):
        install(database.connect("stranger"))


def test_public_s_rights_are_shown_and_revoked_on_request(empty: KernelDatabase) -> None:
    with installer(empty) as connection:
        install(connection)
        before = [line for line in remarks(connection) if line.startswith("PUBLIC may")]
        assert len(before) == (1 if empty.cluster.major >= 15 else 2)
        if empty.cluster.major < 15:  # there the schema public is the superuser's
            empty.superuser.execute("alter schema public owner to aos_installer")
        revoke_public(connection)
        assert [line for line in remarks(connection) if line.startswith("PUBLIC may")] == []


def test_temporary_files_of_sql_skills_are_limited_where_that_may_be_set(
    empty: KernelDatabase,
) -> None:
    with installer(empty) as connection:
        install(connection)
        told = [line for line in remarks(connection) if line.startswith("the temporary files")]
        assert told and "a superuser: alter role aos_worker set temp_file_limit" in told[0]
    uninstall(empty.superuser)
    install(empty.superuser)
    assert not [line for line in remarks(empty.superuser) if "temporary files" in line]
    worker = empty.connect("aos_worker")
    assert worker.execute("show temp_file_limit").fetchone() == ("1GB",)
    empty.superuser.execute(
        f"alter role aos_worker in database {empty.name} set temp_file_limit = '1MB'"
    )
    worker = empty.connect("aos_worker")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        worker.execute("select count(*) from (select n from generate_series(1, 500000) n"
                       " order by n::text) x")  # fmt: skip


def test_the_worker_can_connect_and_owns_nothing(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    connect_worker(database.cluster.dsn("aos_worker", database.name), "test").close()
    with pytest.raises(Denied, match="is a superuser"):
        connect_worker(database.cluster.dsn(dbname=database.name), "test")


# --- uninstall


def test_uninstall_leaves_nothing(lone: KernelDatabase) -> None:
    before = roles(lone)
    with installer(lone) as connection:
        install(connection)
        call(connection, "aos_auth.apply_tenant", "acme", META, {})
        call(connection, "aos_auth.apply_tenant", "globex", META, {})
        lone.superuser.execute("create schema shop; create table shop.orders (id integer)")
        for (role,) in lone.rows("select db_role from aos_auth.sql_identity"):
            lone.superuser.execute(f"grant usage on schema shop to {role}")
            lone.superuser.execute(f"grant select on shop.orders to {role}")
        lone.superuser.execute("alter schema shop owner to aos_installer")
        lone.superuser.execute("alter table shop.orders owner to aos_installer")
        assert uninstall(connection) == ()
        assert uninstall(connection) is None
    assert roles(lone) == before
    assert remains(lone) == []


def test_uninstall_by_a_superuser_leaves_nothing(lone: KernelDatabase) -> None:
    before = roles(lone)
    install(lone.superuser)
    call(lone.superuser, "aos_auth.apply_tenant", "acme", META, {})
    assert uninstall(lone.superuser) == ()
    assert roles(lone) == before
    assert remains(lone) == []


def test_another_database_keeps_its_roles(lone: KernelDatabase) -> None:
    other = new_database(lone.cluster)
    with installer(lone) as first, installer(other) as second:
        install(first)
        install(second)
        call(second, "aos_auth.apply_tenant", "acme", META, {})
        members = "select roleid::regrole, member::regrole from pg_auth_members order by 1, 2"
        before = lone.rows(members)
        assert uninstall(first) == ROLES
        assert remains(lone) == []
        assert lone.rows(members) == before
        tenant = make_tenant(other)
        assert tenant.open(tenant.start_run(), p_worker="w1")["status"] == "opened"
        tenant.person.close()
        assert uninstall(second) == ()
    other.close()


def test_a_deleted_tenant_leaves_no_role_unless_somebody_granted_it_something(
    make_kernel: MakeKernel,
) -> None:
    database = make_kernel()
    before = set(roles(database))
    database.superuser.execute("create schema shop")
    for name in ("acme", "globex"):
        call(database.superuser, "aos_auth.apply_tenant", name, META, {})
        role = database.value(
            "select db_role from aos_auth.sql_identity join aos_auth.tenant using (tenant_id)"
            " where name = %s", name,
        )  # fmt: skip
        if name == "globex":
            database.superuser.execute(f"grant usage on schema shop to {role}")
        call(database.superuser, "aos_auth.delete_tenant", name)
    assert set(roles(database)) - before == {role}
    assert database.value("select to_regproc(%s) is null", f"aos_sandbox.{role}")
    assert not database.value("select has_schema_privilege(%s, 'aos_core', 'usage')", role)
    database.superuser.execute(f"drop owned by {role}; drop role {role}")


def test_what_depends_on_the_kernel_is_named_and_kept(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    database.superuser.execute(
        "create schema shop; create table shop.orders (id integer, tenant_id uuid"
        " references aos_auth.tenant); create policy mine on shop.orders"
        " using (tenant_id = aos_auth.tenant_of(current_user));"
        "create view shop.runs as select * from aos_core.run_status"
    )
    with installer(database) as connection:
        with pytest.raises(Conflict) as caught:
            uninstall(connection)
        assert str(caught.value) == (
            "objects of yours depend on the kernel: constraint orders_tenant_id_fkey on table"
            " shop.orders; policy mine on table shop.orders; rule _RETURN on view shop.runs"
        )
        assert require_kernel(connection) == KERNEL_VERSION
        assert uninstall(connection, cascade=True) == ROLES
    assert remains(database) == []
    assert database.value("select to_regclass('shop.orders') is not null")
    assert database.value("select to_regclass('shop.runs') is null")


def test_a_session_that_holds_a_table_stops_the_uninstall_in_time(
    make_kernel: MakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aosctl.db.install.LOCK_WAIT", "200ms")
    database = make_kernel()
    with installer(database) as connection, database.superuser.transaction():
        database.superuser.execute("lock table aos_core.step in access share mode")
        with pytest.raises(Conflict, match="other sessions have used the kernel's tables for"):
            uninstall(connection)
        assert require_kernel(connection) == KERNEL_VERSION


def test_a_person_may_not_uninstall(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    person = database.connect(database.person("test_developer", "aos_developer"))
    with pytest.raises(Denied, match='login "test_developer" may not act for the kernel'):
        uninstall(person)
    assert require_kernel(database.superuser) == KERNEL_VERSION
