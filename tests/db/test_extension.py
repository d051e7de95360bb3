"""The extension: the same kernel, carried by pg_dump, upgraded and removed by PostgreSQL itself."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aosctl.db.backup import backup
from aosctl.db.catalog import OWN_TABLES, SCHEMAS, extension_version, unprotected
from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.install import install
from aosctl.db.kernel_status import read_status
from aosctl.db.pgbin import MAJOR, Build, bundled
from aosctl.db.restore import restore
from aosctl.db.uninstall import uninstall
from aosctl.db.upgrade import upgrade
from aosctl.errors import Denied, KernelMismatch
from aosctl.resources import resource_dir
from db.conftest import installer, new_database, quiet
from kernels import KernelDatabase, call, say
from populate import populate
from postgres import Cluster

SCHEMA = resource_dir("schema")
SCRIPT = f"pgagentos--{KERNEL_VERSION}.sql"
OLDER = "0.0.9"
STEP = """
select aos_meta.begin_upgrade('0.0.9', 'VERSION');
update aos_auth.tenant set labels = labels || '{"plan": "free"}';
create table aos_core.note (
  tenant_id uuid not null references aos_auth.tenant, note_id uuid not null, body text,
  primary key (tenant_id, note_id));
alter table aos_core.note enable row level security;
create policy backup on aos_core.note for select to aos_backup using (true);
grant select on aos_core.note to aos_backup;
select aos_meta.finish_upgrade('VERSION');
""".replace("VERSION", KERNEL_VERSION)


def build_extension(folder: Path) -> None:
    """Write the extension's files, and those of an older version made up from today's."""
    subprocess.run(["sh", str(SCHEMA / "extension.sh"), str(folder)], check=True)
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    version = f"kernel_version (version) values ('{KERNEL_VERSION}')"
    assert script.count(version) == 1
    older = script.replace(version, version.replace(KERNEL_VERSION, OLDER))
    (folder / f"pgagentos--{OLDER}.sql").write_text(older, encoding="utf-8")
    (folder / f"pgagentos--{OLDER}--{KERNEL_VERSION}.sql").write_text(STEP)
    for path in folder.glob("pgagentos*"):
        path.chmod(0o644)


@pytest.fixture(scope="module")
def with_extension(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose PostgreSQL has the extension's files."""

    def extend(build: Build) -> None:
        (place,) = build.root.rglob("share/**/extension/plpgsql.control")
        build_extension(place.parent)

    with Cluster(request.config.getoption("--pg"), extend=extend) as running:
        with installer(new_database(running)) as connection:
            install(connection)  # so that the roles are the installer's
        yield running


@pytest.fixture(scope="module")
def template(with_extension: Cluster) -> str:
    """The name of a database with the extension, made by CREATE EXTENSION."""
    database = new_database(with_extension)
    database.superuser.execute("create extension pgagentos")
    database.close()
    return database.name


@pytest.fixture
def bare(with_extension: Cluster) -> Iterator[KernelDatabase]:
    """An empty database there."""
    database = new_database(with_extension)
    yield database
    database.close()


@pytest.fixture
def extended(with_extension: Cluster, template: str) -> Iterator[KernelDatabase]:
    """A database with the extension, a copy of the template."""
    database = new_database(with_extension, template)
    yield database
    database.close()


def catalog(database: KernelDatabase) -> dict[str, Any]:
    """Describe every object of the kernel by what matters of it, partitions aside."""
    names = list(SCHEMAS)
    return {
        "functions": database.rows(
            "select p.oid::regprocedure::text, md5(p.prosrc), p.proowner::regrole::text,"
            " p.prosecdef, p.proconfig::text, p.proacl::text from pg_proc p"
            " where p.pronamespace::regnamespace::text = any (%s) order by 1", names),
        "relations": database.rows(
            "select c.oid::regclass::text, c.relkind, c.relowner::regrole::text, c.relrowsecurity,"
            " c.relforcerowsecurity, c.relacl::text from pg_class c where not c.relispartition"
            " and c.relkind in ('r', 'p', 'v')"
            " and c.relnamespace::regnamespace::text = any (%s) order by 1", names),
        "policies": database.rows(
            "select schemaname, tablename, policyname, roles::text, cmd, qual, with_check"
            " from pg_policies where schemaname = any (%s) order by 1, 2, 3", names),
        "triggers": database.rows(
            "select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid"
            " where not t.tgisinternal and not c.relispartition and t.tgparentid = 0"
            " and c.relnamespace::regnamespace::text = any (%s) order by 1", names),
        "schemas": database.rows(
            "select nspname, nspowner::regrole::text, nspacl::text from pg_namespace"
            " where nspname = any (%s) order by 1", names),
    }  # fmt: skip


def test_the_extension_is_the_same_kernel(
    extended: KernelDatabase, kernel_template: str, cluster: Cluster
) -> None:
    plain = KernelDatabase(cluster, kernel_template)
    try:
        for kind, rows in catalog(plain).items():
            assert catalog(extended)[kind] == rows, kind
    finally:
        plain.close()
    assert unprotected(extended.superuser) == []
    assert extension_version(extended.superuser) == KERNEL_VERSION


def test_every_object_belongs_to_the_extension(extended: KernelDatabase) -> None:
    assert extended.rows(
        "select c.oid::regclass from pg_class c where c.relkind in ('r', 'p', 'v')"
        " and c.relnamespace::regnamespace::text = any (%s) and not exists (select from pg_depend d"
        " where d.objid = c.oid and d.deptype = 'e')", list(SCHEMAS),
    ) == []  # fmt: skip


def test_its_partitions_are_fixed(extended: KernelDatabase) -> None:
    assert extended.value("select aos_core.ensure_partitions(3)") == 0
    populate(extended, "acme")
    assert extended.value("select count(*) from aos_core.event_log") > 0
    assert extended.value("select count(*) from aos_core.event_log_default") == 0
    kernel = read_status(extended.superuser).kernel
    assert kernel is not None and kernel.extension == KERNEL_VERSION
    assert (kernel.first_partition, kernel.last_partition) == ("2026-01", "2030-12")


def test_old_events_of_an_extension_are_dropped_without_their_partition(
    extended: KernelDatabase,
) -> None:
    filled = populate(extended, "acme")
    extended.move_clock("70 days")
    dropped = extended.value(
        "select aos_core.drop_events_before(aos_core.now() - interval '32 days')"
    )
    assert len(dropped) == 1
    assert extended.rows("select kind from aos_core.event_log") == [("events.cut",)]
    assert filled.tenant.faults(filled.finished) == []
    assert unprotected(extended.superuser) == []


def test_a_plain_kernel_is_not_taken_over(bare: KernelDatabase) -> None:
    with installer(bare) as connection:
        install(connection)
    with pytest.raises(psycopg.Error, match="schema aos_auth is not a member of extension"):
        bare.superuser.execute("create extension pgagentos")


# --- pg_dump


def postgres_program(name: str, database: KernelDatabase, *arguments: str) -> str:
    """Run one of PostgreSQL's client programs as the superuser; return its stderr."""
    program = bundled(MAJOR).program(name)
    dsn = database.cluster.dsn(dbname=database.name)
    done = subprocess.run(
        [str(program), "-d", dsn, *arguments], capture_output=True, text=True, check=False
    )
    return done.stderr


def dump_and_restore(source: KernelDatabase, target: KernelDatabase, folder: Path) -> None:
    """Carry a database over as its superuser would, with the newest pg_dump there is."""
    file = str(folder / "dump")
    assert postgres_program("pg_dump", source, "-Fc", "-f", file) == ""
    errors = postgres_program("pg_restore", target, file)
    # PostgreSQL before 17 does not know this setting of the newest pg_restore; nothing else fails.
    real = [
        line
        for line in re.findall(r"ERROR: .*", errors)
        if 'parameter "transaction_timeout"' not in line
    ]
    assert real == []


def contents(database: KernelDatabase) -> dict[str, str]:
    return {k: v for k, v in database.fingerprint().items() if k not in OWN_TABLES}


def assert_alive(database: KernelDatabase, filled: Any) -> None:
    """Go on with a run, and with the hash chains; SQL skills have their functions."""
    worker = database.connect("aos_worker")
    tenant = filled.tenant.id
    lease = call(worker, "aos_agent.claim_turn", tenant, "w2", 60, filled.queued)
    message = (tenant, lease["turn_id"], lease["lease"], say("done"))
    assert call(worker, "aos_agent.record_response", *message)["next"] == "done"
    for stream in (tenant, filled.queued, filled.finished):
        assert database.rows("select * from aos_core.verify_stream(%s, %s)", tenant, stream) == []
    with installer(database) as connection:
        assert upgrade(connection, quiet).renewed == ()
    assert unprotected(database.superuser) == []


def test_pg_dump_carries_the_extension_with_all_rows(
    extended: KernelDatabase, tmp_path: Path
) -> None:
    filled = [populate(extended, name) for name in ("acme", "globex")]
    call(extended.superuser, "aos_meta.delete_model", "gpt-4o")
    copy = new_database(extended.cluster)
    try:
        dump_and_restore(extended, copy, tmp_path)
        assert extension_version(copy.superuser) == KERNEL_VERSION
        assert contents(copy) == contents(extended)
        assert_alive(copy, filled[0])
    finally:
        copy.close()


def test_pg_dump_carries_a_plain_install(
    bare: KernelDatabase, tmp_path: Path, with_extension: Cluster
) -> None:
    with installer(bare) as connection:
        install(connection)
    filled = populate(bare, "acme")
    copy = new_database(with_extension)
    try:
        dump_and_restore(bare, copy, tmp_path)
        assert contents(copy) == contents(bare)
        assert_alive(copy, filled)
    finally:
        copy.close()


def test_a_bare_pg_dump_as_the_installer_fails(bare: KernelDatabase, tmp_path: Path) -> None:
    """Why there is a `db backup`."""
    with installer(bare) as connection:
        install(connection)
    dsn = bare.cluster.dsn("aos_installer", bare.name)
    program = str(bundled(MAJOR).program("pg_dump"))
    done = subprocess.run([program, "-d", dsn], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "permission denied" in done.stderr


# --- aosctl db on an extension


def test_upgrade_is_alter_extension_update(bare: KernelDatabase, tmp_path: Path) -> None:
    bare.superuser.execute(f"create extension pgagentos version '{OLDER}'")
    populate(bare, "acme")
    (tmp_path / f"{OLDER}--{KERNEL_VERSION}.sql").write_text(STEP)
    with (
        installer(bare) as connection,
        pytest.raises(Denied, match="the extension pgagentos, which a superuser upgrades"),
    ):
        bare.superuser.execute("grant aos_viewer to aos_installer")
        upgrade(connection, quiet, scripts=tmp_path)
    done = upgrade(bare.superuser, quiet, scripts=tmp_path)
    assert (done.source, done.target) == (OLDER, KERNEL_VERSION)
    assert extension_version(bare.superuser) == KERNEL_VERSION
    assert bare.rows("select labels ->> 'plan' from aos_auth.tenant") == [("free",)]
    assert unprotected(bare.superuser) == []
    assert bare.value("select relowner::regrole::text from pg_class where oid = %s::regclass",
                      "aos_core.note") == "aos_owner"  # fmt: skip
    # The new table's rows are pg_dump's to carry.
    assert bare.value(
        "select 'aos_core.note'::regclass = any (extconfig::regclass[]) from pg_extension"
        " where extname = 'pgagentos'"
    )


def test_upgrade_to_a_version_that_the_server_does_not_have(
    extended: KernelDatabase, tmp_path: Path
) -> None:
    (tmp_path / f"{KERNEL_VERSION}--7.0.0.sql").touch()
    with pytest.raises(KernelMismatch, match=r"does not have the files of pgagentos 7\.0\.0"):
        upgrade(extended.superuser, quiet, scripts=tmp_path, target="7.0.0")


def test_uninstall_is_drop_extension(extended: KernelDatabase) -> None:
    populate(extended, "acme")
    with (
        installer(extended) as connection,
        pytest.raises(Denied, match="the extension pgagentos, which a superuser removes"),
    ):
        extended.superuser.execute("grant aos_viewer to aos_installer")
        uninstall(connection)
    uninstall(extended.superuser)
    assert extended.value("select count(*) from pg_extension where extname = 'pgagentos'") == 0
    assert extended.value("select count(*) from pg_namespace where nspname ~ '^aos_'") == 0


def test_backup_moves_a_kernel_from_an_extension_to_a_plain_install(
    extended: KernelDatabase, elsewhere: KernelDatabase
) -> None:
    filled = populate(extended, "acme")
    file = io.BytesIO()
    backup(extended.superuser, file, quiet)
    with installer(elsewhere) as connection:
        restore(connection, file, "file", quiet)
    assert extension_version(elsewhere.superuser) is None
    assert_alive(elsewhere, filled)


def test_restore_fills_an_extension(filled: Any, archive: bytes, extended: KernelDatabase) -> None:
    done = restore(extended.superuser, io.BytesIO(archive), "file", quiet)
    assert not done.installed
    assert extension_version(extended.superuser) == KERNEL_VERSION
    assert_alive(extended, filled[1][0])


# --- make


def test_make_installs_what_the_script_writes(tmp_path: Path) -> None:
    written, source = tmp_path / "written", tmp_path / "schema"
    build_once = ["sh", str(SCHEMA / "extension.sh"), str(written)]
    subprocess.run(build_once, check=True)
    names = sorted(path.name for path in written.iterdir())
    assert names[:2] == [SCRIPT, "pgagentos.control"]
    shutil.copytree(SCHEMA, source, ignore=shutil.ignore_patterns("build"))
    if shutil.which("make") is None:
        subprocess.run(["sh", str(source / "extension.sh"), str(tmp_path / "made")], check=True)
        made = tmp_path / "made"
    else:
        config = bundled(MAJOR).program("pg_config")
        subprocess.run(
            ["make", "-C", str(source), "install", f"PG_CONFIG={config}", f"DESTDIR={tmp_path}/to"],
            check=True, capture_output=True, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        (control,) = (tmp_path / "to").rglob("pgagentos.control")
        made = control.parent
    assert sorted(path.name for path in made.iterdir()) == names
    for name in names:
        assert (made / name).read_bytes() == (written / name).read_bytes()
