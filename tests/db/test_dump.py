"""PostgreSQL's own pg_dump and pg_restore, where the roles of SQL skills did not come along."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aosctl.db.catalog import OWN_TABLES
from aosctl.db.doctor.check import check, choose
from aosctl.db.doctor.rule import Files
from aosctl.db.install import install
from aosctl.db.pgbin import MAJOR, bundled
from aosctl.db.upgrade import upgrade
from aosctl.errors import Denied
from db.conftest import installer, new_database, quiet
from db.test_backup import Full, go_on
from kernels import KernelDatabase
from postgres import Cluster

IDENTITIES = "select db_role from aos_auth.sql_identity order by 1"
MAKE_ROLES = "select format('create role %I nologin noinherit', db_role) from aos_auth.sql_identity"
ROLE = re.compile(r'role "(\w+)" does not exist')


@pytest.fixture
def copy(request: pytest.FixtureRequest) -> Iterator[KernelDatabase]:
    """An empty database in a cluster that has the kernel's own roles, of another kernel there."""
    with Cluster(request.config.getoption("--pg")) as cluster:
        other = new_database(cluster)
        with installer(other) as connection:
            install(connection)
        other.close()
        database = new_database(cluster)
        yield database
        database.close()


def program(name: str, database: KernelDatabase, *arguments: str) -> list[str]:
    """Run one of PostgreSQL's programs as a superuser; return the errors of the server."""
    dsn = database.cluster.dsn(dbname=database.name)
    done = subprocess.run(
        [str(bundled(MAJOR).program(name)), "-d", dsn, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # Before 17 a server does not know this setting of the newest pg_restore.
    return [line for line in re.findall(r"ERROR: +(.*)", done.stderr)
            if 'parameter "transaction_timeout"' not in line]  # fmt: skip


def ailing(database: KernelDatabase) -> set[tuple[str, str]]:
    """Name the rules of the doctor that find an error, with the fix's first words."""
    dsn = database.cluster.dsn(dbname=database.name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = check(
            connection, choose((), ("version-old", "version-ended", "durability")), Files()
        ).found
    return {(one.rule.id, one.fix) for one in found if one.rule.severity == "error"}


def contents(database: KernelDatabase) -> dict[str, str]:
    return {k: v for k, v in database.fingerprint().items() if k not in OWN_TABLES}


def restored(source: KernelDatabase, target: KernelDatabase, folder: Path) -> list[str]:
    """Carry a database over as a superuser does; return the errors."""
    file = str(folder / "dump")
    assert program("pg_dump", source, "-Fc", "-f", file) == []
    return program("pg_restore", target, file)


def test_a_dump_without_the_roles_of_skills_is_not_whole(
    filled: Full, copy: KernelDatabase, tmp_path: Path
) -> None:
    """Its rows are; a GRANT to who is not there takes the object's other rights with it."""
    source, _ = filled
    errors = restored(source, copy, tmp_path)
    lacking = {match[1] for line in errors if (match := ROLE.fullmatch(line))}
    assert lacking == {role for (role,) in source.rows(IDENTITIES)}
    assert contents(copy) == contents(source)
    assert {rule for rule, _ in ailing(copy)} >= {
        "sandbox-function", "grant-missing", "public-execute",
    }  # fmt: skip
    with pytest.raises(Denied, match="permission denied for schema aos_auth"):
        upgrade(copy.superuser, quiet)


def test_a_dump_after_the_roles_of_skills_is_whole(
    filled: Full, copy: KernelDatabase, tmp_path: Path
) -> None:
    source, tenants = filled
    for (statement,) in source.rows(MAKE_ROLES):  # of docs/installing.md
        copy.superuser.execute(f"set role aos_provisioner; {statement}; reset role")
    assert restored(source, copy, tmp_path) == []
    assert contents(copy) == contents(source)
    assert copy.rows(IDENTITIES) == source.rows(IDENTITIES)
    assert ailing(copy) == set()
    done = upgrade(copy.superuser, quiet)
    assert (done.renewed, done.given, done.remarks) == ((), (), ())
    for tenant in tenants:
        go_on(copy, tenant)
    # The roles are the kernel's, to drop as well.
    copy.superuser.execute("update aos_skills.skill set grants = '[]' where name = 'sql_query'")
    left = {role for (role,) in copy.rows("select rolname from pg_roles")}
    assert {role for (role,) in copy.rows(IDENTITIES)} <= left
    assert len({role for (role,) in source.rows(IDENTITIES)} - left) == len(tenants)
