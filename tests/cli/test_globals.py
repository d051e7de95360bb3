"""The flags of every command: -v, --request-timeout, --as and --no-input."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import psycopg
import pytest

from bots import Bot
from command import Aosctl, Ended
from kernels import Tenant, apply
from terminal import Open

VALUE = "sk_live_4f9c2e77d1aa"
TIMES = re.compile(r"^I\d{4} \d\d:\d\d:\d\d\.\d{6}  ", re.MULTILINE)


@pytest.fixture(scope="module")
def boss(tenant: Tenant) -> str:
    """The connection of an admin of the tenant."""
    login = tenant.database.person("globals_boss", "aos_developer")
    apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "boss", {
        "type": "user", "dbRole": login, "roles": ["admin"],
    })  # fmt: skip
    return tenant.database.cluster.dsn(login, tenant.database.name)


def failed(done: Ended, status: int, text: str) -> None:
    assert (done.status, done.out) == (status, ""), done.err
    assert text in done.err and "Traceback" not in done.err


def test_a_level_of_v_shows_what_was_chosen_then_sql_then_its_parameters(
    developer: Aosctl,
) -> None:
    plain = developer("get", "agents", "-o", "name")
    assert plain.err == ""
    said = {}
    for level, words in ((1, ("-v=1",)), (2, ("-v", "2")), (6, ("-v6",)), (8, ("--v=8",))):
        done = developer("get", "agents", "-n", "acme", "-o", "name", *words)
        assert (done.status, done.out) == (0, plain.out)
        assert len(TIMES.findall(done.err)) == len(done.err.splitlines())
        said[level] = TIMES.sub("", done.err)
    assert "database: " in said[1] and "by AOSCTL_DSN" in said[1] and "tenant: acme" in said[1]
    assert "connected to" not in said[1] and "connected to" in said[2]
    assert " ms: " not in said[2]
    assert re.search(r"^SQL \d+\.\d ms: select .*agent_resource", said[6], re.MULTILINE)
    assert "    with " not in said[6] and "tenant = 'acme'" in said[8]
    # The long way, with psycopg; what fails is told as such.
    bad = developer("auth", "grant", "nobody", "viewer", "-v=6")
    assert bad.status == 1 and re.search(
        r"^SQL .*failed, SQLSTATE \w{5}: ", TIMES.sub("", bad.err), re.M
    )


@pytest.mark.parametrize("level", ["10", "-1", "x", "", "=", "6.5", "٣"])
def test_a_level_that_is_none_is_wrong_usage(aosctl: Aosctl, level: str) -> None:
    failed(aosctl("version", f"--v={level}"), 2, "for -v: it is a number from 0 to 9")


def test_no_level_prints_a_secret(
    developer: Aosctl, tenant: Tenant, admin: Aosctl, admin_dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "password.txt"
    assert developer("secret", "init").status == 0  # a master key of the test's own
    done = developer("create", "secret", "vault", "--from-stdin", "-v=9", stdin=VALUE)
    assert done.status == 0 and "apply_secret" in done.err  # the statement, as a control
    assert VALUE not in done.err and "aos1." not in done.err and "***" in done.err
    again = developer("get", "secret", "vault", "-o", "yaml", "-v=9")
    assert "aos1." in again.out and "aos1." not in again.err
    tenant.database.superuser.execute("delete from aos_auth.secret")
    # A password of an address, in both of its forms, which trust does not ask for.
    with_password = f"{admin_dsn}&password=geheim77"
    shown = developer("get", "agents", "-n", "acme", "-v=9", "--dsn", with_password)
    assert shown.status == 0 and "password=***" in shown.err and "geheim77" not in shown.err
    # That of a login that is made: neither it nor what the server keeps of it.
    made = admin(
        "create",
        "principal",
        "globals_new",
        "-n",
        "acme",
        "--login",
        "--password-file",
        str(file),
        "-v=9",
    )
    assert made.status == 0 and "create role" in made.err.lower(), made.err
    assert "SCRAM-SHA-256$" not in made.err and "password '***'" in made.err
    password = file.read_text().strip()
    assert len(password) == 32 and password not in made.err
    tenant.database.superuser.execute("drop owned by globals_new; drop role globals_new")
    # What a person types in SQL.
    for text in ("'geheim88'", "E'ge\\'geheim88'", "$x$geheim88$x$", "''geheim88''"):
        sql = rf"\sql alter role globals_none password {text}"
        typed = admin("shell", "-v=9", "-c", sql)
        assert typed.status == 1 and "alter role" in typed.err
        assert all("geheim88" not in line for line in typed.err.splitlines() if " ms" in line)


def test_no_level_prints_the_lease_of_a_turn(here: Aosctl, bot: Bot) -> None:
    """Who has it can write a turn's answer."""
    name = bot("loud", {"text": "one"})
    done = here("chat", name, "-p", "hello", "-v=9")
    assert (done.status, done.out) == (0, "one\n"), done.err
    calls = re.findall(r"aos_agent\.record_response\(.*\n.*with (.*)", done.err)
    assert calls and all(", $3 = ***" in one for one in calls)
    assert "  SQL " not in here("chat", "-c", name, "again", "-v=5").err


def test_a_lock_that_is_held_for_ever_ends_a_command_in_time(
    developer: Aosctl, tenant: Tenant
) -> None:
    holder = tenant.database.connect("aos_superuser")
    lines = (("get", "agents"), ("describe", "agents"), ("label", "agent", "bot", "a=b"))
    with holder.transaction():
        holder.execute("lock table aos_agent.agent in access exclusive mode")
        for words in lines:
            failed(
                developer(*words, "--request-timeout", "200ms"),
                1,
                "error: the database gave no answer within 0.2 s: canceling statement",
            )
        hint = developer("get", "agents", "--request-timeout=200ms").err.splitlines()[1]
        assert hint.startswith("hint: the same command with a longer --request-timeout")
    for words in lines:  # the same without the lock
        assert developer(*words, "--request-timeout=1m").status == 0


def test_the_timeout_counts_for_a_request_and_not_for_following(developer: Aosctl) -> None:
    """A wait of longer than the timeout, of which each request is short."""
    done = developer("wait", "agent/bot", "--for=delete", "--timeout=2s", "--request-timeout=1s")
    failed(done, 1, "timed out waiting for the condition")


def test_a_server_that_never_answers_is_waited_for_no_longer(aosctl: Aosctl) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        done = aosctl("get", "agents", "--dsn", dsn, "--request-timeout=1s")
        failed(done, 1, "error: can't connect to the database: connection timeout expired")


@pytest.mark.parametrize("text", ["-1", "1x", "s", "1 s", "1d", "nan", "1e3", "1s2", "", "²s"])
def test_a_timeout_that_is_none_is_wrong_usage(aosctl: Aosctl, text: str) -> None:
    failed(aosctl("version", f"--request-timeout={text}"), 2, f'Invalid timeout value "{text}"')


def test_an_admin_looks_and_works_as_another_and_the_log_names_both(
    developer: Aosctl, aosctl: Aosctl, tenant: Tenant, boss: str
) -> None:
    done = aosctl("whoami", "--as", "dev", "-o", "json", AOSCTL_DSN=boss)
    assert [one["name"] for one in json.loads(done.out)["principals"]] == ["dev"]
    given = ("auth", "grant", "dev", "viewer")
    failed(aosctl(*given, "--as=dev", AOSCTL_DSN=boss), 1, "(Forbidden)")
    assert aosctl(*given, AOSCTL_DSN=boss).status == 0
    labeled = aosctl("--as", "dev", "label", "agent", "bot", "by=boss", AOSCTL_DSN=boss)
    assert (labeled.status, labeled.out) == (0, "agent.aos/bot labeled\n")
    events = aosctl("events", "-o", "json", AOSCTL_DSN=boss).out
    assert '"actor": "user:boss as user:dev"' in events
    assert aosctl("auth", "can-i", "apply", "principal", "--as=dev", AOSCTL_DSN=boss).status == 1
    assert aosctl("--as=dev", "auth", "can-i", "apply", "principal", AOSCTL_DSN=boss).status == 1
    for words in (("label", "agent", "bot", "by=dev", "--overwrite"), ("kill", "none")):
        done = developer(*words, "--as", "boss")  # who is no admin
        failed(done, 1, 'you may not act as "boss"')
    done = aosctl("get", "agents", "--as", "nobody", AOSCTL_DSN=boss)
    failed(done, 1, 'you may not act as "nobody", or nobody of that name is in a tenant of yours')


def test_nobody_approves_in_the_place_of_another(aosctl: Aosctl, tenant: Tenant, boss: str) -> None:
    asked = tenant.asked("send_mail", {"query": "to all"}, agent="clerk")
    approval = str(tenant.approval(asked.call)[0])
    for verb in ("approve", "deny"):
        done = aosctl(verb, approval, "--as", "dev", AOSCTL_DSN=boss)
        failed(done, 1, 'an approval is decided in one\'s own name, and you act as "dev"')
        assert "hint: the same without --as" in done.err
    assert tenant.approval(asked.call)[1] == "pending"
    assert aosctl("approve", approval, AOSCTL_DSN=boss).status == 0


def test_what_asks_fails_with_no_input(opened: Open, shop: dict[str, str]) -> None:
    for words, told in (
        (("create", "secret", "x"), "where is the value?"),
        (("chat", "my_pg_bot"), "a chat needs a terminal; give the message"),
        (("shell",), "the shell's prompt asks for input"),
        (("edit", "agent", "my_pg_bot"), "an editor asks for input"),
        (("delete", "agent", "my_pg_bot", "-i"), "--no-input and -i exclude each other: -i asks"),
    ):
        with opened(*words, "--no-input", EDITOR="false") as terminal:
            terminal.expect_text(told)
            assert terminal.status() in (1, 2)


def test_the_versions_are_told_without_a_database(aosctl: Aosctl) -> None:
    assert aosctl("api-versions") == Ended(0, "aos/v1\n", "")
    assert json.loads(aosctl("version", "--client", "-o", "json").out).keys() == {"clientVersion"}
    assert aosctl("version", "--client", "-o", "yaml").out.startswith("clientVersion: ")


def test_a_session_of_one_s_own_sets_nothing_that_helps(tenant: Tenant) -> None:
    """The setting that --as makes, by hand, from a login that may not."""
    with psycopg.connect(
        tenant.database.cluster.dsn("test_developer", tenant.database.name), autocommit=True
    ) as mine:
        mine.execute("set aos.acting_as = 'boss'")
        mine.execute("select set_config('aos.tenant_id', %s, false)", (str(tenant.id),))
        assert mine.execute("select * from aos_agent.agent_resource").fetchall() == []


@pytest.mark.parametrize("words", [("get", "agents"), ("auth", "can-i", "get", "agents")])
def test_an_empty_as_is_nobody_and_not_oneself(aosctl: Aosctl, words: tuple[str, ...]) -> None:
    done = aosctl(*words, "--as", "", AOSCTL_DSN="host=/nowhere")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: --as names nobody\nhint: --as PRINCIPAL, or leave it out to act as yourself\n"
    )
