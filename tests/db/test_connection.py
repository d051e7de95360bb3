"""Connecting: as whom, to which kernel and tenant, and what is said when that can't be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from aosctl.config import Target
from aosctl.db.connection import (
    Session,
    connect,
    open_session,
)
from aosctl.db.errors import from_sqlstate
from aosctl.db.hot import value_of
from aosctl.db.worker_login import connect_worker, worker_conninfo
from aosctl.errors import (
    DatabaseUnavailable,
    Denied,
    KernelMismatch,
    NotFound,
    UsageError,
)
from conftest import MakeDatabase
from kernels import KernelDatabase, MakeKernel, Tenant, make_tenant
from postgres import Cluster

SECRET = "hunter2-very/secret"


@contextmanager
def session(dsn: str, tenant: str | None = None) -> Iterator[Session]:
    """Open a session as a verb does."""
    made = open_session(Target("dsn", dsn, None, tenant, ("--dsn",)), "test")
    with closing(made):
        yield made


@pytest.fixture(scope="module")
def tenants(kernel_database: KernelDatabase) -> tuple[Tenant, Tenant]:
    """Two tenants, in both of which the login test_developer has a principal."""
    return make_tenant(kernel_database), make_tenant(kernel_database)


@pytest.fixture
def login(cluster: Cluster) -> Iterator[str]:
    """A login of its own, without any rights."""
    name = "stray_login"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        yield name
        admin.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


UNREACHABLE = {
    "a URI": f"postgresql://ann:{SECRET.replace('/', '%2F')}@127.0.0.1:9/db",
    "a conninfo string": f"host=127.0.0.1 port=9 user=ann password='{SECRET}'",
    "several hosts": f"host=127.0.0.1,127.0.0.1 port=9,8 password={SECRET}",
    "a socket that is not there": "host=/no/such/folder dbname=db",
    "a name that is unknown": f"postgresql://ann:{SECRET.replace('/', '%2F')}@no.such.invalid/db",
}


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_a_database_that_does_not_answer_is_one_line_without_the_password(kind: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connect(UNREACHABLE[kind], "test", tried=("--dsn", "AOSCTL_DSN"))
    message = caught.value.message
    assert message.startswith("can't connect to the database: ") and "\n" not in message
    assert message.endswith("(settings tried: --dsn, AOSCTL_DSN)")
    assert "secret" not in message and "hunter2" not in message
    assert "aosctl db status" in str(caught.value.hint)


UNREADABLE = {
    "a slash in the password": f"postgresql://ann:{SECRET}@host/db",
    "a space in the password": "postgresql://ann:hunter2 secret@host/db",
    "an open bracket": "postgresql://ann:hunter2-secret@[::1/db",
    "an unknown option": "host=h passwort=hunter2-secret",
    "no equals sign": "host localhost password=hunter2-secret",
    "an open quote": "host=h password='hunter2-secret",
    "a percent sign": "postgresql://ann:hunter2%zzsecret@host/db",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_address_that_cannot_be_read_does_not_show_its_password(kind: str) -> None:
    with pytest.raises((UsageError, DatabaseUnavailable)) as caught:
        connect(UNREADABLE[kind], "test")
    shown = f"{caught.value.message} {caught.value.hint} {caught.value.__cause__}"
    assert "secret" not in shown and "hunter2" not in shown


def test_an_address_that_cannot_be_read_names_its_setting() -> None:
    with pytest.raises(UsageError, match=r"invalid connection option \(AOSCTL_DSN\)$"):
        connect("port_=1", "test", tried=("--dsn", "--context", "AOSCTL_DSN"))


def test_a_database_that_does_not_exist_is_named(cluster: Cluster) -> None:
    with pytest.raises(DatabaseUnavailable, match='database "nowhere" does not exist'):
        connect(cluster.dsn(dbname="nowhere"), "test")


def test_the_server_learns_which_verb_is_connected(cluster: Cluster) -> None:
    with closing(connect(cluster.dsn(), "ps")) as connection:
        assert connection.execute(
            "select application_name like 'aosctl/_%% ps', count(*) from pg_stat_activity"
            " where pid = pg_backend_pid() group by 1",
            (),
        ).fetchone() == (True, 1)


def test_a_database_without_a_kernel_tells_how_to_install_one(make_database: MakeDatabase) -> None:
    with (
        pytest.raises(KernelMismatch, match="the kernel is not installed in database") as caught,
        session(make_database()),
    ):
        pass
    assert caught.value.hint == "aosctl db install"


@pytest.mark.parametrize("version", ["0.0.9", "7.0.0"])
def test_a_kernel_of_another_version_is_named(make_kernel: MakeKernel, version: str) -> None:
    database = make_kernel()
    database.superuser.execute("update aos_meta.kernel_version set version = %s", (version,))
    with (
        pytest.raises(KernelMismatch, match=f"holds kernel {version}, aosctl") as caught,
        session(database.cluster.dsn("aos_installer", database.name)),
    ):
        pass
    assert caught.value.hint == "aosctl db upgrade"


def test_a_login_without_a_part_in_the_kernel_is_told_so(
    kernel_database: KernelDatabase, login: str
) -> None:
    with (
        pytest.raises(Denied, match=f'login "{login}" has no part in the kernel') as caught,
        session(kernel_database.cluster.dsn(login, kernel_database.name)),
    ):
        pass
    assert "grant aos_viewer" in str(caught.value.hint)


def test_a_person_of_several_tenants_must_choose(
    kernel_database: KernelDatabase, tenants: tuple[Tenant, Tenant]
) -> None:
    dsn = kernel_database.cluster.dsn("test_developer", kernel_database.name)
    with session(dsn) as undecided:
        assert (undecided.tenant_id, undecided.tenant) == (None, None)
        with pytest.raises(UsageError) as caught:
            undecided.require_tenant()
    assert all(tenant.name in caught.value.message for tenant in tenants)
    assert "-n" in caught.value.message and "--tenant" in str(caught.value.hint)
    with session(dsn, tenants[1].name) as decided:
        assert decided.require_tenant() == tenants[1].id
        names = decided.connection.execute("select name from aos_auth.tenant_resource").fetchall()
    assert names == [(tenants[1].name,)]


def test_a_tenant_that_one_has_no_part_in_is_not_found(
    kernel_database: KernelDatabase, tenants: tuple[Tenant, Tenant]
) -> None:
    dsn = kernel_database.cluster.dsn("test_developer", kernel_database.name)
    with (
        pytest.raises(NotFound, match='tenant "globex" not found') as caught,
        session(dsn, "globex"),
    ):
        pass
    assert tenants[0].name in str(caught.value.hint)


def test_a_person_without_a_tenant_sees_that_there_is_none(
    kernel_database: KernelDatabase, tenants: tuple[Tenant, Tenant]
) -> None:
    login = kernel_database.person("tenantless", "aos_developer")
    with session(kernel_database.cluster.dsn(login, kernel_database.name)) as nobody:
        assert nobody.tenant_id is None
        with pytest.raises(NotFound, match="none that you may see"):
            nobody.require_tenant()
        assert nobody.connection.execute("select * from aos_agent.agent").fetchall() == []


def test_the_only_tenant_is_chosen_by_itself(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    tenant = make_tenant(database)
    with session(database.cluster.dsn("test_developer", database.name)) as mine:
        assert (mine.tenant_id, mine.tenant) == (tenant.id, tenant.name)


def test_the_worker_of_the_kernel_may_connect(kernel_database: KernelDatabase) -> None:
    dsn = kernel_database.cluster.dsn("aos_worker", kernel_database.name)
    with closing(connect_worker(dsn, "worker")) as connection:
        assert connection.info.user == "aos_worker"


def test_a_worker_with_a_login_of_its_own_may_connect(
    kernel_database: KernelDatabase, login: str
) -> None:
    kernel_database.superuser.execute(
        sql.SQL("grant aos_worker to {}").format(sql.Identifier(login))
    )
    dsn = kernel_database.cluster.dsn(login, kernel_database.name)
    with closing(connect_worker(dsn, "worker")) as connection:
        assert connection.execute("select count(*) from aos_agent.next_ready()").fetchone() == (0,)


def refused_worker(database: KernelDatabase, login: str, *statements: str) -> str:
    """Let the superuser do something to a login; return why it may not be a worker."""
    for statement in statements:
        database.superuser.execute(sql.SQL(statement).format(sql.Identifier(login)))
    with pytest.raises(Denied) as caught:
        connect_worker(database.cluster.dsn(login, database.name), "worker")
    assert "aos_worker" in str(caught.value.hint)
    return caught.value.message


def test_a_worker_that_is_superuser_is_refused(kernel_database: KernelDatabase) -> None:
    assert refused_worker(kernel_database, "aos_superuser").endswith("that login is a superuser")


def test_a_worker_that_owns_the_database_is_refused(kernel_database: KernelDatabase) -> None:
    assert refused_worker(kernel_database, "aos_installer").endswith("that login owns objects")


OWNERS = {
    "a table": ("create table public.theirs ()", "alter table public.theirs owner to {}"),
    "a function": (
        "create or replace function public.f() returns int language sql return 1",
        "alter function public.f() owner to {}",
    ),
    "a schema": ("create schema theirs authorization {}",),
}


@pytest.mark.parametrize("what", OWNERS)
def test_a_worker_that_owns_anything_is_refused(
    kernel_database: KernelDatabase, login: str, what: str
) -> None:
    message = refused_worker(kernel_database, login, *OWNERS[what])
    assert message == f'the worker may not connect as "{login}": that login owns objects'
    kernel_database.superuser.execute(sql.SQL("drop owned by {}").format(sql.Identifier(login)))


@pytest.mark.parametrize(
    ("role", "what"), [("aos_owner", "owns objects"), ("aos_superuser", "is a superuser")]
)
def test_a_worker_that_may_become_such_a_one_is_refused(
    kernel_database: KernelDatabase, login: str, role: str, what: str
) -> None:
    message = refused_worker(kernel_database, login, f"grant {role} to {{}}")
    assert message.endswith(f'it belongs to "{role}", which {what}')


def test_the_worker_connects_where_the_person_does_but_without_their_password(
    kernel_database: KernelDatabase, tenants: tuple[Tenant, Tenant]
) -> None:
    dsn = kernel_database.cluster.dsn("test_developer", kernel_database.name)
    with session(dsn) as mine:
        mine = replace(mine, conninfo=f"host=h dbname=d user=ann password='{SECRET}'")
        assert conninfo_to_dict(worker_conninfo(mine)) == {
            "host": "h", "dbname": "d", "user": "aos_worker",
        }  # fmt: skip
        own = mine.target._replace(worker_dsn="service=work")
        assert worker_conninfo(replace(mine, target=own)) == "service=work"


def test_a_server_without_words_still_makes_an_error_with_some() -> None:
    assert from_sqlstate(None, "").message.endswith("the server gave no reason")
    assert "XX000" in from_sqlstate("XX000", "").message


def test_a_connection_that_died_is_not_taken_for_a_fault_of_the_call(
    cluster: Cluster,
) -> None:
    connection = connect(cluster.dsn(), "test")
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))
    pgconn = connection.pgconn
    with pytest.raises(DatabaseUnavailable, match="the connection to the database is lost"):
        value_of(pgconn.exec_params(b"select 1", None), pgconn)
    assert pgconn.status == pq.ConnStatus.BAD
    connection.close()
    with pytest.raises(DatabaseUnavailable):
        value_of(None, pgconn)
