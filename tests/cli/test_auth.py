"""`aosctl auth` and `aosctl create principal`: who one is, what one may, and logins for people."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from command import Aosctl
from kernels import Tenant, apply, call
from postgres import Cluster


def test_whoami_names_the_login_and_its_roles(developer: Aosctl, admin: Aosctl) -> None:
    done = developer("auth", "whoami")
    assert done.status == 0
    login, head, row = done.out.splitlines()
    assert login == "Login: test_developer"
    assert head.split() == ["TENANT", "PRINCIPAL", "TYPE", "ROLES"]
    assert row.split() == ["acme", "dev", "user", "developer"]
    assert "an administrator: everything" in admin("auth", "whoami").out
    assert '"administrator": true' in admin("auth", "whoami", "-o", "json").out


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (("apply", "agents"), "yes\n"),
        (("create", "persona"), "yes\n"),
        (("logs", "run"), "yes\n"),
        (("deny", "approvals"), "yes\n"),
        (("apply", "principals"), 'no - user "dev" lacks the role "admin": it has developer\n'),
        (("delete", "tenants"), "no - it takes an administrator: a member of aos_admin\n"),
    ],
)
def test_can_i_answers_and_exits_1_for_no(
    developer: Aosctl, question: tuple[str, str], answer: str
) -> None:
    done = developer("auth", "can-i", *question)
    assert (done.status, done.out, done.err) == (int(answer != "yes\n"), answer, "")


def test_can_i_lists_everything_there_is_to_do(developer: Aosctl) -> None:
    head, *rows = developer("auth", "can-i", "--list").out.splitlines()
    assert head.split() == ["VERB", "KIND", "ALLOWED", "REASON"]
    cells = {tuple(row.split()[:3]) for row in rows}
    assert {("apply", "agent", "yes"), ("apply", "principal", "no")} <= cells
    assert {("approve", "approval", "yes"), ("get", "event", "yes")} <= cells


def test_can_i_names_the_policies_that_ask_others(
    developer: Aosctl, admin: Aosctl, tenant: Tenant
) -> None:
    spec = {"skills": ["send_mail"], "decision": "ask", "approvers": {"roles": ["auditor"]}}
    superuser = tenant.database.superuser
    apply(superuser, "aos_skills.apply_policy", tenant.id, "mail", spec)
    try:
        for who in (developer, admin):
            done = who("auth", "can-i", "approve", "approvals")
            assert (done.status, done.out, done.err) == (0, "yes\n", (
                'warning: not what policy "mail" asks about: it demands one of the roles auditor\n'
            ))  # fmt: skip
            assert who("auth", "can-i", "deny", "approvals").err == ""
            listed = who("auth", "can-i", "--list").out
            assert '; but not what policy "mail" asks about' in listed
    finally:
        call(superuser, "aos_skills.delete_policy", tenant.id, "mail")
    done = admin("auth", "can-i", "approve", "approvals")
    assert (done.out, done.err) == ("yes\n", "")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("can-i", "fly", "run"), 1, 'nothing is there to "fly" with the kind "run"'),
        (("can-i", "get", "runz"), 1, 'the server doesn\'t have a resource type "runz"'),
        (("can-i", "get"), 2, "you must specify VERB and KIND, or --list"),
        (("can-i", "get", "run", "--as", "dev2"), 1, 'lacks the role "admin" in this tenant'),
        (("grant", "dev", "admin"), 1, 'lacks the role "admin" in this tenant'),
    ],
)
def test_a_wrong_question_gets_one_line(
    developer: Aosctl, words: tuple[str, ...], status: int, text: str
) -> None:
    done = developer("auth", *words)
    assert (done.status, done.out) == (status, "")
    assert text in done.err
    assert "Traceback" not in done.err


def test_a_role_is_granted_for_a_while_and_revoked(admin: Aosctl, tenant: Tenant) -> None:
    there = partial(admin, "-n", "acme")
    assert there("create", "principal", "kim").out == "principal.aos/kim created\n"
    done = there("auth", "grant", "kim", "developer", "--for", "8h")
    assert done.out == "principal.aos/kim granted\n"
    assert done.err == 'warning: user "kim" has no login: its dbRole is not set\n'
    shown = there("get", "principal", "kim", "-o", "yaml").out
    assert "roleExpiry:\n    developer: '20" in shown
    assert there("apply", "-f", "-", stdin=shown).out == "principal.aos/kim unchanged\n"
    assert there("auth", "revoke", "kim", "developer").out == "principal.aos/kim revoked\n"
    assert there("auth", "revoke", "kim", "developer").status == 1
    for words in (("--for", "8x"), ("--until", "soon"), ("--for", "1h", "--until", "2099-01-01")):
        assert there("auth", "grant", "kim", "developer", *words).status == 2
    late = there("auth", "grant", "kim", "developer", "--until", "2001-01-01")
    assert late.status == 1
    assert "would have expired" in late.err


def test_a_principal_that_is_there_or_wrong_leaves_nothing(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    there = partial(admin, "-n", "acme")
    secret = tmp_path / "password"
    words = ("create", "principal", "dev", "--login", "--db-role", "auth_dev2")
    done = there(*words, "--password-file", str(secret))
    assert done.status == 1
    assert done.err.startswith('error: principals.aos "dev" already exists\n')
    assert not secret.exists()
    assert not tenant.database.value("select true from pg_roles where rolname = 'auth_dev2'")
    done = there("create", "principal", "lee", "--role", "amin", "--login")
    assert done.status == 2
    assert done.err == 'error: --role: "amin" is not one of admin, developer, auditor, viewer\n'
    done = there("create", "principal", "A B")
    assert (done.status, done.err.startswith("error: NAME is not a name: ")) == (2, True)
    taken = there("create", "principal", "lee", "--db-role", "test_developer", "--login")
    assert taken.status == 1
    assert 'the login "test_developer" exists already' in taken.err
    secret.write_text("mine")
    done = there("create", "principal", "lee", "--login", "--password-file", str(secret))
    assert (done.status, secret.read_text()) == (1, "mine")
    assert there("get", "principal", "lee").status == 1


def test_a_developer_makes_no_logins(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("create", "principal", "mallory", "--login", "--role", "admin")
    assert done.status == 1
    assert 'login "test_developer" may not make logins' in done.err
    assert not tenant.database.value("select true from pg_roles where rolname = 'mallory'")


def test_a_new_login_works_with_its_password_and_nothing_else(
    admin: Aosctl, aosctl: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    """The server stores what scram-sha-256 needs, has never seen the password, and lets it in."""
    secret = tmp_path / "jane.txt"
    login = "auth_jane"
    done = admin(
        "-n", "acme", "create", "principal", "jane", "--role", "developer", "--login",
        "--db-role", login, "--password-file", str(secret),
    )  # fmt: skip
    assert (done.status, done.out) == (0, "principal.aos/jane created\n")
    assert done.err == f'login "{login}" created; its password is in {secret}\n'
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    password = secret.read_text().strip()
    assert len(password) == 32
    database = tenant.database
    stored = database.value("select rolpassword from pg_authid where rolname = %s", login)
    assert stored.startswith("SCRAM-SHA-256$")
    with asking_for_passwords(database.cluster, login):
        dsn = database.cluster.dsn(login, database.name)
        for wrong in ("", password[:-1]):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(dsn, password=wrong).close()
        jane = partial(aosctl, AOSCTL_DSN=dsn, PGPASSWORD=password)
        assert jane("auth", "whoami").out.splitlines()[2].split()[:2] == ["acme", "jane"]
        assert jane("get", "agents").status == 0
        assert jane("auth", "can-i", "apply", "agent").out == "yes\n"
        assert jane("auth", "can-i", "apply", "principal").status == 1


@contextmanager
def asking_for_passwords(cluster: Cluster, login: str) -> Iterator[None]:
    """Make the server ask one login for its password in the block."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as server:
        ((hba,),) = server.execute("show hba_file").fetchall()
        path = Path(hba)
        before = path.read_text()
        path.write_text(f"local all {login} scram-sha-256\n{before}")
        server.execute("select pg_reload_conf(), pg_sleep(0.5)")
        try:
            yield
        finally:
            path.write_text(before)
            server.execute("select pg_reload_conf()")
