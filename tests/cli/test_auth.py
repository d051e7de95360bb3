"""`aosctl auth` and `aosctl create principal`: who one is, what one may, and logins for people."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from aosctl.db.errors import REFUSED
from aosctl.domain.inventory import readable_kind
from command import Aosctl, Ended
from kernels import Tenant, apply, call
from postgres import Cluster
from talks import until


@pytest.mark.parametrize("words", [("whoami",), ("auth", "whoami")])
def test_whoami_names_the_login_the_place_and_its_roles(
    developer: Aosctl, admin: Aosctl, tenant: Tenant, words: tuple[str, ...]
) -> None:
    done = developer(*words)
    assert (done.status, done.err) == (0, "")
    login, database, context, chosen, empty, head, row = done.out.splitlines()
    assert login == "Login:     test_developer"
    assert database.startswith(f"Database:  {tenant.database.name} on /")
    assert database.endswith("(AOSCTL_DSN)")
    assert (context, chosen, empty) == ("Context:   <none>", "Tenant:    acme", "")
    assert head.split() == ["TENANT", "PRINCIPAL", "TYPE", "ROLES"]
    assert row.split() == ["acme", "dev", "user", "developer"]
    assert "an administrator: everything" in admin(*words).out
    assert json.loads(admin(*words, "-o", "json").out)["administrator"] is True


def test_whoami_tells_when_a_role_ends_and_which_context_it_is(
    developer: Aosctl, admin: Aosctl, tenant: Tenant
) -> None:
    assert admin("auth", "grant", "dev", "auditor", "--until", "2031-02-03T04:05:06Z").status == 0
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    assert developer("config", "set-context", "here", "--dsn", dsn).status == 0
    try:
        done = developer("whoami", "--context", "here", "-o", "json")
        assert (done.status, done.err) == (0, "")
        found = json.loads(done.out)
        assert (found["login"], found["context"], found["tenant"]) == (
            "test_developer", "here", "acme",
        )  # fmt: skip
        assert found["database"]["name"] == tenant.database.name
        assert found["principals"] == [
            {
                "tenant": "acme",
                "name": "dev",
                "type": "user",
                "roles": ["auditor", "developer"],
                "roleExpiry": {"auditor": "2031-02-03T04:05:06Z"},
            }
        ]
        assert "auditor until 2031-02-03T04:05:06Z,developer\n" in developer("whoami").out
    finally:
        assert admin("auth", "revoke", "dev", "auditor").status == 0


def test_can_i_answers_by_its_status_alone(developer: Aosctl) -> None:
    for question, status in ((("get", "turns"), 0), (("delete", "tenants"), 1)):
        done = developer("auth", "can-i", *question, "-q")
        assert (done.status, done.out, done.err) == (status, "", "")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (("apply", "agents"), "yes\n"),
        (("create", "persona"), "yes\n"),
        (("logs", "run"), "yes\n"),
        (("trace", "run"), "yes\n"),
        (("annotate", "agents"), "yes\n"),
        (("deny", "approvals"), "yes\n"),
        (("chat", "agent/bot"), "yes\n"),
        (("kill", "run/x7k2p"), "yes\n"),
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
        (
            ("can-i", "fly", "agents"),
            1,
            'error: verb "fly" is not a known verb\n'
            "hint: it is get, apply, delete, chat, fork, replay, steer, kill, resolve, approve,"
            " verify, export\n",
        ),
        (("can-i", "aply", "agents"), 1, 'is not a known verb; did you mean "apply"?\n'),
        (
            ("can-i", "get", "runz"),
            1,
            'doesn\'t have a resource type "runz"; did you mean "run"?\nhint: it has tenants, ',
        ),
        (("can-i", "approve", "aproval"), 1, '"aproval"; did you mean "approval"?\nhint: '),
        (
            ("can-i", "get", "x"),
            1,
            "agents, budgets, schedules, runs, turns, approvals, allowances, events\n",
        ),
        (
            ("can-i", "kill", "agents"),
            1,
            'error: nothing is there to "kill" with the kind "agent"\n'
            "hint: the verbs of agent: get, apply, delete, chat\n",
        ),
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
    assert re.fullmatch(
        r"principal\.aos/kim granted: developer until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(8h\)\n",
        done.out,
    )
    assert done.err == 'warning: user "kim" has no login: its dbRole is not set\n'
    end = done.out.split()[4]
    shown = there("get", "principal", "kim", "-o", "yaml").out
    assert f"roleExpiry:\n    developer: '{end}'" in shown
    assert there("apply", "-f", "-", stdin=shown).out == "principal.aos/kim unchanged\n"
    done = there("auth", "grant", "kim", "developer", "--until", end)
    assert done.out.startswith(f"principal.aos/kim unchanged: developer until {end} (")
    revoked = "principal.aos/kim revoked: developer\n"
    assert there("auth", "revoke", "kim", "developer").out == revoked
    assert there("auth", "revoke", "kim", "developer").status == 1
    for words in (("--for", "8x"), ("--until", "soon"), ("--for", "1h", "--until", "2099-01-01")):
        assert there("auth", "grant", "kim", "developer", *words).status == 2
    late = there("auth", "grant", "kim", "developer", "--until", "2001-01-01")
    assert late.status == 1
    assert "would have expired" in late.err
    assert there("get", "principal", "kim", "-o", "jsonpath={.spec.roles}").out == "[]"


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--for", "99999999d"),
        ("--for", "3651d"),
        ("--for", "9" * 400 + "d"),
        ("--until", "9999-01-01"),
    ],
)
def test_a_role_for_an_absurd_while_is_refused_in_one_line(
    admin: Aosctl, tenant: Tenant, flag: str, text: str
) -> None:
    done = admin("-n", "acme", "auth", "grant", "dev", "viewer", flag, text)
    assert done == Ended(
        2,
        "",
        f"error: {flag}: a role for a while ends within 10 years (3650d)\n"
        f"hint: without {flag} it is given for good\n",
    )
    roles = "select count(*) from aos_auth.role_grant where role_name = 'viewer'"
    assert tenant.database.value(roles) == 0


def test_the_roles_are_listed_with_their_ends(admin: Aosctl, tenant: Tenant) -> None:
    there = partial(admin, "-n", "acme")
    there("create", "principal", "lou", "--role", "viewer")
    for words in (("auditor", "--for", "3000d"), ("developer", "--for", "3h")):
        assert there("auth", "grant", "lou", *words).status == 0
    for principal in (("lou",), ()):
        head, *rows = (line.split() for line in there("auth", "roles", *principal).out.splitlines())
        assert head == ["PRINCIPAL", "ROLE", "UNTIL", "LEFT"]
        mine = [row for row in rows if row[0] == "lou"]
        assert [row[1] for row in mine] == ["auditor", "developer", "viewer"]
        assert (mine[0][3], mine[2][2:]) == ("8y", ["<none>", "<none>"])
        assert mine[1][3] in ("3h", "179m")
    assert ["dev", "developer", "<none>", "<none>"] in rows
    database = tenant.database
    database.superuser.execute(
        "update aos_auth.role_grant set expires_at = now() - interval '1 hour'"
        " where role_name = 'auditor'"
    )
    assert there("auth", "roles", "lou").out.splitlines()[1].split()[3] == "expired"
    told = json.loads(there("auth", "roles", "lou", "-o", "json").out)
    assert [one["expired"] for one in told] == [True, False, False]
    assert [one["until"] is None for one in told] == [False, False, True]
    assert there("auth", "roles", "nobody") == Ended(
        1,
        "",
        'Error from server (NotFound): principals.aos "nobody" not found\n'
        "hint: aosctl get principals\n",
    )


def test_a_principal_that_is_there_or_wrong_leaves_nothing(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    there = partial(admin, "-n", "acme")
    secret = tmp_path / "password"
    words = ("create", "principal", "dev", "--login", "--db-role", "auth_dev2")
    done = there(*words, "--password-file", str(secret))
    assert done.status == 1
    assert done.err.startswith(
        'Error from server (AlreadyExists): principals.aos "dev" already exists\n'
    )
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
    assert (done.status, secret.read_text()) == (2, "mine")
    assert done.err == f"error: {secret} exists already\nhint: name another file\n"
    done = there("create", "principal", "lee", "--login", "--password-file", str(tmp_path / "x/y"))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: can't write {tmp_path}/x/y: No such file or directory\n")
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
        assert jane("auth", "whoami").out.splitlines()[-1].split()[:2] == ["acme", "jane"]
        assert jane("get", "agents").status == 0
        assert jane("auth", "can-i", "apply", "agent").out == "yes\n"
        assert jane("auth", "can-i", "apply", "principal").status == 1


def test_a_viewer_is_told_which_right_is_missing_and_who_says_why(
    admin: Aosctl, aosctl: Aosctl, tenant: Tenant
) -> None:
    made = admin("-n", "acme", "create", "principal", "auth_looker", "--role", "viewer", "--login")
    assert made.status == 0
    database = tenant.database
    looker = partial(aosctl, AOSCTL_DSN=database.cluster.dsn("auth_looker", database.name))
    run = str(tenant.run_row(tenant.asked("sql_execute", {"statement": "x"}, "bot").run)["name"])
    for words, right, function in (
        (("run", "bot", "x"), "chat agents", "open_run"),
        (("chat", "--resume", run, "x"), "chat agents", "open_turn"),
        (("kill", run), "kill runs", "cancel_run"),
        (("fork", run), "fork runs", "fork_run"),
        (("auth", "grant", "dev", "admin"), "apply principals", "grant_role"),
        (("export", "tenant", "acme"), "export tenants", "export_tables"),
    ):
        done = looker(*words)
        assert (done.status, done.out) == (1, ""), words
        said = f'the login lacks the right "{right}": permission denied for function {function}\n'
        assert said in done.err
        assert f"hint: aosctl auth can-i {right} says which role has it\n" in done.err
        why = looker("auth", "can-i", *right.split())
        assert (why.status, why.out[:26]) == (1, 'no - user "auth_looker" la')
    assert "the login may not change agents here" in looker("delete", "agent", "bot").err


def test_the_functions_that_are_refused_are_the_kernels_and_the_rights_are_asked_for(
    tenant: Tenant,
) -> None:
    for function, right in REFUSED.items():
        verb, kind = right.split()
        database = tenant.database
        assert database.value("select count(*) from pg_proc where proname = %s", function)
        needed = "select aos_auth.needed_role(%s, %s)"
        assert database.value(needed, verb, readable_kind(kind).singular), right


def enters(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def asking_for_passwords(cluster: Cluster, login: str) -> Iterator[None]:
    """Make the server ask one login for its password in the block."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as server:
        ((hba,),) = server.execute("show hba_file").fetchall()
        path = Path(hba)
        before = path.read_text()
        path.write_text(f"local all {login} scram-sha-256\n{before}")
        server.execute("select pg_reload_conf()")
        until(lambda: not enters(cluster.dsn(login)), "the question for a password")
        try:
            yield
        finally:
            path.write_text(before)
            server.execute("select pg_reload_conf()")
