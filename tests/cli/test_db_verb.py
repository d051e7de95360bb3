"""`aosctl db`: exact texts and exit statuses, on a server of one's own and on the embedded one."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psycopg
import pytest

from aosctl import __version__
from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.embedded import INSTALLER, SUPERUSER
from aosctl.db.install import install
from aosctl.resources import resource_dir
from command import AOSCTL, Aosctl, Ended
from kernels import META, call
from postgres import Cluster

_numbers = itertools.count(1)
Database = tuple[str, str]
"""A database's name and its owner's DSN."""


@pytest.fixture
def empty(make_database: Callable[..., str]) -> Database:
    name = f"verb_{next(_numbers)}"
    return name, make_database(name=name)


@pytest.fixture
def installed(empty: Database) -> Database:
    with psycopg.connect(empty[1], autocommit=True) as connection:
        install(connection)
        call(connection, "aos_auth.apply_tenant", "acme", META, {})
    return empty


def notes(ended: Ended) -> list[str]:
    """Return what stderr says, less the remarks that depend on the server."""
    expected = ("extension vector", "PUBLIC may", "the temporary files")
    return [line for line in ended.err.splitlines() if not line.startswith(expected)]


# --- harden


def test_harden_shows_asks_does_and_undoes(
    aosctl: Aosctl, installed: Database, cluster: Cluster
) -> None:
    name, _ = installed
    to = ("--dsn", cluster.dsn(dbname=name))
    dry = aosctl("db", "harden", "--dry-run", *to)
    lost = "PUBLIC has lost function set_config(text,text,boolean)"
    assert dry.status == 0 and f"{lost} (dry run)\n" in dry.out
    assert dry.err == f'database "{name}" is as it was\n'
    asked = aosctl("db", "harden", *to)
    assert (asked.status, asked.out) == (2, "")
    assert f'takes catalog functions from every login of database "{name}"' in asked.err
    done = aosctl("db", "harden", "--yes", "--app-role", "aos_installer", *to)
    assert (done.status, done.out) == (0, dry.out.replace(" (dry run)", ""))
    assert done.err == f'database "{name}" is hardened\n'
    again = aosctl("db", "harden", "--yes", *to)
    assert (again.status, again.out) == (0, "")
    undone = aosctl("db", "harden", "--undo", *to)
    assert undone.status == 0 and "PUBLIC has function set_config" in undone.out
    refused = aosctl("db", "harden", "--yes", "--dsn", cluster.dsn("aos_installer", name))
    assert (refused.status, refused.out) == (1, "")
    assert "only a superuser may harden a database" in refused.err
    script = aosctl("db", "harden", "--dump-sql")
    assert script.out == (resource_dir("schema") / "hardening.sql").read_text()


# --- install


def test_install_says_what_it_did_and_what_it_can_t(aosctl: Aosctl, empty: Database) -> None:
    name, dsn = empty
    ended = aosctl("db", "install", "--dsn", dsn)
    assert (ended.status, notes(ended)) == (0, [])
    assert ended.out == f'kernel {KERNEL_VERSION} installed in database "{name}"\n'
    assert "retrieval is full-text only" in ended.err
    again = aosctl("db", "install", "--dsn", dsn)
    assert again.out == f'kernel {KERNEL_VERSION} is already installed in database "{name}"\n'
    quiet = aosctl("db", "install", "-q", "--dsn", dsn)
    assert (quiet.out, quiet.err) == (again.out, "")


def test_install_tells_how_to_admit_the_worker(
    aosctl: Aosctl, empty: Database, env: dict[str, str]
) -> None:
    arguments = ("--dsn", empty[1], "--worker", "host=/nowhere user=aos_worker")
    assert aosctl("config", "set-context", "mine", *arguments).status == 0
    ended = aosctl("db", "install", "--context", "mine")
    assert ended.status == 0
    first, second = notes(ended)
    assert first.startswith("the worker can't connect yet: can't connect to the database: ")
    assert second.endswith("name its connection: aosctl config set-context mine --worker DSN")


def test_install_dump_sql_needs_no_database(aosctl: Aosctl) -> None:
    ended = aosctl("db", "install", "--dump-sql")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(
        "begin;\nset local search_path = pg_catalog, pg_temp;\n\n-- 00_roles"
    )
    assert ended.out.endswith("\ncommit;\n")


def test_install_revokes_from_public_when_asked(aosctl: Aosctl, empty: Database) -> None:
    with psycopg.connect(empty[1], autocommit=True) as connection:
        connection.execute("drop schema if exists public")
    assert "PUBLIC may create temporary" in aosctl("db", "install", "--dsn", empty[1]).err
    ended = aosctl("db", "install", "--revoke-public", "--dsn", empty[1])
    assert (ended.status, "PUBLIC may" in ended.err) == (0, False)


def test_a_database_that_does_not_answer(aosctl: Aosctl, tmp_path: Path) -> None:
    ended = aosctl("db", "status", "--dsn", f"host={tmp_path} dbname=x")
    assert (ended.status, ended.out) == (1, "")
    line, hint = ended.err.splitlines()
    assert line.startswith("error: can't connect to the database: ")
    assert line.endswith("(settings tried: --dsn)")
    assert hint == "hint: is it running, and is the address right?"


# --- upgrade, uninstall


@pytest.mark.parametrize("verb", [["upgrade"], ["uninstall", "--yes"], ["backup", "file"]])
def test_a_database_without_a_kernel(
    aosctl: Aosctl, empty: Database, verb: list[str], tmp_path: Path
) -> None:
    ended = aosctl("db", *verb, "--dsn", empty[1])
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == (
        f'error: the kernel is not installed in database "{empty[0]}"\nhint: aosctl db install\n'
    )


def test_upgrade_on_this_version(aosctl: Aosctl, installed: Database) -> None:
    name, dsn = installed
    ended = aosctl("db", "upgrade", "--dsn", dsn)
    assert ended == Ended(0, f'kernel {KERNEL_VERSION} in database "{name}" is up to date\n', "")
    with psycopg.connect(dsn, autocommit=True) as connection:
        vector = connection.execute("select from pg_extension where extname = 'vector'")
        assert vector.rowcount == 0  # created on a server of ours alone
        connection.execute("grant aos_owner to current_user")
        connection.execute("update aos_meta.kernel_version set version = '0.0.1'")
        connection.execute("revoke aos_owner from current_user")
    ended = aosctl("db", "upgrade", "--dsn", dsn)
    assert (ended.status, ended.out) == (1, "")
    message = f"error: there is no way from kernel 0.0.1 to {KERNEL_VERSION}"
    assert ended.err.splitlines()[0] == message


def test_upgrade_makes_sandbox_functions_anew(
    aosctl: Aosctl, installed: Database, cluster: Cluster
) -> None:
    with psycopg.connect(cluster.dsn(dbname=installed[0]), autocommit=True) as superuser:
        (role,) = superuser.execute("select db_role from aos_auth.sql_identity").fetchone() or ("",)
        superuser.execute(f"drop function aos_sandbox.{role}".encode())
    ended = aosctl("db", "upgrade", "--dsn", installed[1])
    assert ended.out.splitlines()[1] == "sandbox functions made anew: 1"
    assert ended.err == f"making the sandbox of {role} anew\n"


def test_uninstall_asks(aosctl: Aosctl, installed: Database, env: dict[str, str]) -> None:
    name, dsn = installed
    what = f'This removes the kernel and all its data from database "{name}"'
    refused = aosctl("db", "uninstall", "--dsn", dsn)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == f"error: {what}: add --yes to do it without a question\n"

    for answer, expected in (("no", "error: nothing was done"), (name, "kernel removed")):
        screen = pexpect.spawn(str(AOSCTL), ["db", "uninstall", "--dsn", dsn], env=env, timeout=30)  # type: ignore[arg-type]
        screen.expect_exact(f'{what}.\r\nType "{name}" to go on: ')
        screen.sendline(answer)
        screen.expect_exact(expected)
        screen.expect(pexpect.EOF)
        screen.close()
        assert screen.exitstatus == (0 if answer == name else 1)
    assert aosctl("db", "status", "--dsn", dsn, "-o", "json").out.count('"not installed"') == 1


def test_uninstall_keeps_what_depends_on_the_kernel(aosctl: Aosctl, installed: Database) -> None:
    name, dsn = installed
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create schema shop")
        connection.execute("create view shop.runs as select * from aos_core.run_status")
    ended = aosctl("db", "uninstall", "--yes", "--dsn", dsn)
    assert ended == Ended(
        1,
        "",
        "error: objects of yours depend on the kernel: rule _RETURN on view shop.runs\n"
        "hint: drop them first, or aosctl db uninstall --cascade drops them too\n",
    )
    ended = aosctl("db", "uninstall", "--yes", "--cascade", "--dsn", dsn)
    assert (ended.status, ended.out) == (0, f'kernel removed from database "{name}"\n')
    assert ended.err.startswith("roles that something else in the cluster uses stay: aos_worker, ")


# --- backup, restore


def test_backup_and_restore_by_file(
    aosctl: Aosctl, installed: Database, make_database: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "kernel.aosbackup"
    ended = aosctl("db", "backup", str(file), "--dsn", installed[1])
    assert (ended.status, ended.out) == (0, "")
    counts = r"tenants 1, agents 0, runs 0, events \d+"
    assert re.fullmatch(rf"backed up {counts} in \d\.\d s\n", ended.err)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "aosbackup" in path.name] == [file.name]

    name = f"verb_{next(_numbers)}"
    ended = aosctl("db", "restore", str(file), "--dsn", make_database(name=name))
    assert ended.status == 0
    assert re.fullmatch(rf'restored {counts} into database "{name}"\n', ended.out)
    assert ended.err.splitlines()[0].startswith("verified 1 hash chain; ")


def test_backup_and_restore_through_a_pipe(
    installed: Database, make_database: Callable[..., str], env: dict[str, str]
) -> None:
    target = make_database(name=f"verb_{next(_numbers)}")
    pipe = '"$0" db backup - --dsn "$1" | "$0" db restore - -q --dsn "$2"'
    done = subprocess.run(
        ["sh", "-c", pipe, str(AOSCTL), installed[1], target],
        capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("restored tenants 1, ")


def test_a_backup_that_fails_keeps_the_old_file(
    aosctl: Aosctl, installed: Database, cluster: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "old"
    file.write_text("the old backup")
    with psycopg.connect(cluster.dsn(dbname=installed[0]), autocommit=True) as superuser:
        superuser.execute("drop policy backup on aos_core.run")
    ended = aosctl("db", "backup", str(file), "--force", "--dsn", installed[1])
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("error: aos_backup has no policy on aos_core.run\n")
    assert file.read_text() == "the old backup"
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_backup_overwrites_nothing_unless_told_to(
    aosctl: Aosctl, installed: Database, tmp_path: Path
) -> None:
    file = tmp_path / "kernel.aosbackup"
    file.write_text("the old backup")
    words = ("db", "backup", str(file), "--dsn", installed[1])
    assert aosctl(*words) == Ended(
        2,
        "",
        f"error: {file} exists already\n"
        f"hint: aosctl db backup {file} --force replaces it; or name another file\n",
    )
    assert file.read_text() == "the old backup"
    assert aosctl(*words, "--force").status == 0
    assert zipfile.is_zipfile(file)
    assert [path.name for path in tmp_path.iterdir() if "aosbackup" in path.name] == [file.name]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = aosctl("db", "backup", str(pipe), "--force", "--dsn", installed[1])
    assert ended.err.splitlines()[0] == f"error: {pipe} is no regular file"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    ended = aosctl("db", "backup", str(tmp_path / "no/x"), "--dsn", installed[1])
    reason = "No such file or directory"
    assert ended.err.splitlines()[0] == f"error: can't write {tmp_path}/no/x: {reason}"


def test_restore_of_no_archive(aosctl: Aosctl, empty: Database, tmp_path: Path) -> None:
    ended = aosctl("db", "restore", str(tmp_path / "none"), "--dsn", empty[1])
    assert ended == Ended(1, "", f"error: {tmp_path}/none: No such file or directory\n")
    ended = aosctl("db", "restore", "-", "--dsn", empty[1], stdin="select 1;")
    assert ended.err == (
        "error: -: not a whole archive of aosctl db backup\n"
        "hint: nothing was restored; take another backup file\n"
    )


# --- status, url, psql


def test_status_of_a_server_of_one_s_own(aosctl: Aosctl, installed: Database) -> None:
    ended = aosctl("db", "status", "--dsn", installed[1])
    assert (ended.status, ended.err) == (0, "")
    shown = dict(re.findall(r"^(.*?): +(.*)$", ended.out, re.MULTILINE))
    assert shown["Target"] == "--dsn"
    assert shown["Server"].startswith("running, PostgreSQL 1")
    assert (shown["Database"], shown["Login"]) == (installed[0], "aos_installer")
    assert shown["Kernel"] == f"{KERNEL_VERSION} (plain install)"
    assert shown["Tenants"] == "acme (agents 0, runs 0)"
    assert re.fullmatch(r"\d{4}-\d\d to \d{4}-\d\d", shown["Event partitions"])
    facts = json.loads(aosctl("db", "status", "-o", "json", "--dsn", installed[1]).out)
    assert facts["client"] == __version__
    assert facts["databaseBytes"] > facts["kernelBytes"] > 100_000
    assert facts["tenants"] == [{"name": "acme", "agents": 0, "runs": 0}]


def test_status_of_a_stranger(aosctl: Aosctl, installed: Database, cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
        superuser.execute("create role verb_stranger login")
    ended = aosctl("db", "status", "--dsn", cluster.dsn("verb_stranger", installed[0]))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(
        'Error from server (Forbidden): login "verb_stranger" has no part in the kernel\n'
    )


def test_url_prints_what_was_chosen(aosctl: Aosctl) -> None:
    ended = aosctl("db", "url", AOSCTL_DSN="postgresql://me@host/db")
    assert ended == Ended(0, "postgresql://me@host/db\n", "")
    ended = aosctl("db", "url", "--worker", AOSCTL_DSN="postgresql://me:pw@host/db")
    assert ended == Ended(0, "user=aos_worker dbname=db host=host\n", "")


def test_psql_is_found_and_gets_no_password_among_its_arguments(
    aosctl: Aosctl, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "psql"
    fake.write_text('#!/bin/sh\nprintf "%s|" "$PGPASSWORD" "$@"\n')
    fake.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    ended = aosctl(
        "db", "psql", "--dsn", "postgresql://me:secret@host/db", "--", "-c", "select 1", PATH=path
    )
    assert ended == Ended(0, "secret|-d|user=me dbname=db host=host|-c|select 1|", "")


def test_psql_comes_with_the_embedded_database_s_programs(
    aosctl: Aosctl, installed: Database, tmp_path: Path
) -> None:
    arguments = ("-X", "-A", "-t", "-c", "select current_database()")
    ended = aosctl("db", "psql", "--dsn", installed[1], "--", *arguments, PATH=str(tmp_path))
    assert ended == Ended(0, f"{installed[0]}\n", "")


# --- the embedded server


@pytest.fixture
def embedded_env(env: dict[str, str]) -> Iterator[None]:
    """Remove the embedded database of the test's HOME at the end."""
    yield
    done = subprocess.run(
        [str(AOSCTL), "db", "status", "-o", "json"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    base = Path(json.loads(done.stdout)["dataFolder"]).parent
    subprocess.run([str(AOSCTL), "db", "reset", "--yes"], env=env, check=True, capture_output=True)
    shutil.rmtree(base)


@pytest.mark.usefixtures("embedded_env")
def test_the_embedded_server_from_nothing_to_nothing(aosctl: Aosctl) -> None:
    def server() -> str:
        return str(json.loads(aosctl("db", "status", "-o", "json").out)["server"])

    assert server() == "not created yet"
    assert aosctl("db", "stop").out == "The embedded database was not running.\n"
    started = aosctl("db", "start")
    assert re.fullmatch(r"The embedded database is running \(process \d+\)\.\n", started.out)
    assert "starting PostgreSQL 18" in started.err
    assert aosctl("db", "start").out == started.out.replace("is running", "is already running")
    assert server().startswith("running, PostgreSQL 18.")

    url = aosctl("db", "url").out.strip()
    assert url.startswith("postgresql://aos_installer@/aos?host=%2F")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select 1")
    ended = aosctl("db", "install")
    assert ended.out == f'kernel {KERNEL_VERSION} installed in database "aos"\n'
    assert notes(ended) == []
    ended = aosctl("db", "psql", "--", "-X", "-At", "-c", "table aos_core.run_status")
    assert ended == Ended(0, "", "")

    # As it was made before the server brought the extension.
    superuser = url.replace(INSTALLER, SUPERUSER)
    for database in (superuser, superuser.replace("/aos?", "/template1?")):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("drop extension vector")
    up_to_date = f'kernel {KERNEL_VERSION} in database "aos" is up to date\n'
    upgraded = aosctl("db", "upgrade")
    assert upgraded == Ended(0, f'{up_to_date}extension vector created in database "aos"\n', "")
    assert aosctl("db", "upgrade") == Ended(0, up_to_date, "")
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select aos_rag.vector_schema(), '[1]'::public.vector::text")
        assert found.fetchone() == ("public", "[1]")
        with psycopg.connect(superuser, autocommit=True) as other:
            other.execute("create database later")
    with psycopg.connect(superuser.replace("/aos?", "/later?")) as connection:
        assert connection.execute("select '[1]'::vector::text").fetchone() == ("[1]",)

    assert aosctl("db", "stop").out == "The embedded database has stopped.\n"
    assert server() == "stopped"
    refused = aosctl("db", "reset")
    assert (refused.status, refused.out) == (2, "")
    assert re.fullmatch(
        r"error: This deletes the embedded database in \S+ \(\d+ MB\):"
        r" add --yes to do it without a question\n",
        refused.err,
    )
    assert aosctl("db", "reset", "--yes").out == "The embedded database is deleted.\n"
    assert aosctl("db", "reset", "--yes").out == "There is no embedded database.\n"
    assert server() == "not created yet"


@pytest.mark.parametrize("verb", ["start", "stop", "reset"])
def test_the_embedded_server_s_verbs_take_no_other_database(aosctl: Aosctl, verb: str) -> None:
    ended = aosctl("db", verb, "--dsn", "dbname=x")
    message = f"error: db {verb} acts on the embedded database; it takes no --dsn\n"
    assert ended == Ended(2, "", message)
