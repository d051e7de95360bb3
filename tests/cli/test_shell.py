"""`aosctl shell`: lines without a prompt, and the prompt at a terminal."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from aosctl.cli.shell_strays import check
from aosctl.errors import UsageError
from aosctl.repl.psql_words import not_here
from command import Aosctl
from kernels import KernelDatabase, Tenant
from screens import Screen
from terminal import CTRL_C, CTRL_D, ENTER, Ghost, Terminal, Xterm

HOSTILE = "a\x1b]0;owned\x07b\u202ec"
TAB = "\t"
Open = Callable[..., Screen]


@pytest.fixture(scope="module")
def dsn(tenant: Tenant) -> str:
    """The developer of acme, who may do there what developers may and owns nothing."""
    tenant.database.superuser.execute(
        "create schema shop; create table shop.item (id int primary key, name text not null);"
        "insert into shop.item values (1, 'lamp'), (2, 'table');"
        "grant usage on schema shop to test_developer;"
        "grant select, insert on shop.item to test_developer"
    )
    return tenant.database.cluster.dsn("test_developer", tenant.database.name)


@pytest.fixture
def stranger(tenant: Tenant) -> str:
    """A login that may read the kernel's views and has no part in any tenant."""
    login = tenant.database.person("test_shell_stranger", "aos_viewer")
    return tenant.database.cluster.dsn(login, tenant.database.name)


@pytest.fixture
def opened(env: dict[str, str], dsn: str) -> Iterator[Open]:
    """Open shells at terminals; closed at the end."""
    terminals: list[Screen] = []

    def start(
        *arguments: str, columns: int = 100, term: str = "xterm-256color", **settings: str
    ) -> Screen:
        given = {**env, "AOSCTL_DSN": dsn, "SHELL": "/bin/sh", **settings}
        terminals.append(Screen(given, "shell", *arguments, columns=columns, term=term))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.__exit__()


@pytest.fixture
def shell(opened: Open) -> Screen:
    """A shell at its prompt, connected and with the names learnt."""
    terminal = opened()
    terminal.expect_text("nothing to approve · dev@acme")
    return terminal


def script(run: Aosctl, dsn: str, *lines: str, **settings: str) -> tuple[int, str, str]:
    done = run("shell", "-c", "\n".join(lines), AOSCTL_DSN=dsn, **settings)
    return done.status, done.out, done.err


# Without a terminal


def test_lines_run_one_after_the_other(aosctl: Aosctl, dsn: str, tmp_path: Path) -> None:
    names = tmp_path / "na mes"
    status, out, err = script(
        aosctl, dsn,
        "# a comment", "",
        "aosctl get agent bot -o name; get 'agent' \"clerk\" -o name  # both",
        "get agent clerk -o name | tr a-z A-Z",
        f"get agents -o name > '{names}'; get personas -o name >> '{names}'",
        f"!cat '{names}' && printf %s \"$HOME\" | wc -l",
        "get agents \\", "  -o name | head -1",
        "\\sql select 1 as \"a|b;c\", 'x' || 'y', null; select now() > now() as never",
        "run bot hello --nonsense | cat",
        "get agents",
    )  # fmt: skip
    assert out == (
        "agent.aos/bot\nagent.aos/clerk\nAGENT.AOS/CLERK\n"
        "agent.aos/bot\nagent.aos/clerk\npersona.aos/expert\n0\nagent.aos/bot\n"
        " a|b;c | ?column? | ?column? \n-------+----------+----------\n"
        "     1 | xy       |\n(1 row)\n"
        " never \n-------\n f\n(1 row)\n"
    )
    assert status == 2  # the status of the verb, not of what it was piped into
    assert err.splitlines()[-1] == "-c:10: exit status 2: run bot hello --nonsense | cat"


def test_the_first_failure_ends_a_script_and_is_named(
    aosctl: Aosctl, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "checks.aos"
    file.write_text("get agents -o name\n\nget nothing\nget agents\n")
    done = aosctl("shell", "--file", str(file), AOSCTL_DSN=dsn)
    assert (done.status, done.out) == (1, "agent.aos/bot\nagent.aos/clerk\n")
    assert 'the server doesn\'t have a resource type "nothing"' in done.err
    assert done.err.splitlines()[-1] == f"{file}:3: exit status 1: get nothing"
    # What a verb reads is not the next line of the script.
    done = aosctl("shell", AOSCTL_DSN=dsn, stdin="get agent bot -o name\napply -f -\nps\n")
    assert (done.status, done.out) == (1, "agent.aos/bot\n")
    assert done.err.splitlines()[-1] == "<stdin>:2: exit status 1: apply -f -"
    done = aosctl("shell", "--command", "!exit 7\nps", AOSCTL_DSN=dsn)
    assert (done.status, done.out) == (7, "")
    done = aosctl("shell", AOSCTL_DSN=dsn, stdin="!true\nexit\nget nothing\n")
    assert (done.status, done.out, done.err) == (0, "", "")
    done = aosctl("shell", "-c", "\\sql", AOSCTL_DSN=dsn)
    assert (done.status, done.err.splitlines()[0]) == (2, "error: \\sql alone needs a terminal")


def test_flags_of_the_shell_exclude_each_other_and_name_files(aosctl: Aosctl) -> None:
    assert aosctl("shell", "-c", "ps", "-f", "x").err == "error: -c and -f exclude each other\n"
    done = aosctl("shell", "-f", "/no/such")
    assert (done.status, done.err) == (2, "error: can't read /no/such: No such file or directory\n")


def test_flags_hold_for_every_line_and_a_line_may_say_otherwise(
    aosctl: Aosctl, tenant: Tenant, admin_dsn: str, dsn: str, tmp_path: Path
) -> None:
    settings = {"AOSCTL_CONFIG": str(tmp_path / "config.yaml")}
    made = aosctl("config", "set-context", "mine", "--dsn", dsn, "--tenant", "acme", **settings)
    assert made.status == 0, made.err
    login = "whoami -o json | grep -e login -e '\"context\"'"
    lines = ["use", login, f"{login} --context mine", "run --help | head -1",
             f"{login.replace('whoami', 'whoami --context mine')}", "use context mine", login,
             "get agents -n nobody"]  # fmt: skip
    lines.pop(2)
    done = aosctl("shell", "--dsn", admin_dsn, "-n", "acme", "-c", "\n".join(lines), **settings)
    assert done.out.splitlines() == [
        "tenant acme, database of --dsn",
        '    "context": null,', '    "login": "aos_installer",',
        "Give an agent one task and wait for the answer.",
        '    "context": "mine",', '    "login": "test_developer",',
        'tenant acme, database of --context "mine"',
        '    "context": "mine",', '    "login": "test_developer",',
    ]  # fmt: skip
    assert 'tenant "nobody" not found' in done.err
    assert done.status == 1


def test_sql_is_the_persons_and_no_more(
    aosctl: Aosctl, tenant: Tenant, dsn: str, stranger: str, shell: Screen
) -> None:
    tenant.start_run()
    count = "\\sql select count(*) > 0 as some from aos_core.run_status"
    assert " t\n" in script(aosctl, dsn, count)[1]
    assert script(aosctl, stranger, count)[1] == " some \n------\n f\n(1 row)\n"
    for role in ("aos_owner", "aos_kernel", "aos_worker", "aos_lookup"):
        shell.say(f"\\sql set role {role}")
        shell.expect_text(f'permission denied to set role "{role}" (SQLSTATE 42501)')
    shell.say("\\sql select * from aos_core.run")
    shell.expect_text("permission denied for table run")
    shell.say("\\sql set aos.tenant_id = '00000000-0000-0000-0000-000000000001'")
    shell.expect_text("SET")
    shell.say("\\sql select 'another', count(*) as seen from aos_core.run_status")
    shell.expect(r" another +\| +0")


def test_data_reaches_the_terminal_as_text(aosctl: Aosctl, dsn: str) -> None:
    text = "\\sql select E'a\\x1b]0;owned\\x07b\\u202ec\\nd\\te' as \"x\x1b[2Jy\""
    status, out, err = script(aosctl, dsn, text)
    assert (status, err) == (0, "")
    assert out.splitlines()[2:4] == [" a\\u001b]0;owned\\u0007b\\u202ec+", " d    e"]
    assert "\x1b" not in out and "x\\u001b[2Jy" in out
    status, out, err = script(aosctl, dsn, "\\sql do $$ begin raise notice E'\\x1b[2Jhi'; end $$",
                              "\\sql select 'x\x1b[2Jy'::int")  # fmt: skip
    assert status == 1 and "\x1b" not in err
    assert "NOTICE:  \\u001b[2Jhi" in err and '"x\\u001b[2Jy"' in err


def test_a_reader_sees_no_more_of_the_database_than_it_did(
    env: dict[str, str], aosctl: Aosctl, dsn: str
) -> None:
    line = "get agents -o name | env > seen; \\sql select 1"
    line = (
        "\\sql select 1\nget agents -o name | (env; ls -l /proc/self/fd)\n!env | grep -c AOSCTL_DSN"
    )
    done = aosctl("shell", "--dsn", dsn, "-c", line, AOSCTL_MASTER_KEY="c2VjcmV0")
    assert "HOME=" in done.out
    for word in ("AOSCTL_DSN", "AOSCTL_MASTER_KEY", "PGPASS", "socket:"):
        assert word not in done.out
    assert done.out.splitlines()[-1] == "0"
    assert done.status == 1  # of grep, which has found nothing


def test_describing_commands(developer: Aosctl, dsn: str) -> None:
    lines = ["\\dt shop", "\\d shop.item", "\\dn shop", "\\x on", "\\sql select 1 as a, 2 as b",
             "\\pager on", "\\sql table shop.item", "\\?"]  # fmt: skip
    done = developer("shell", "-c", "\n".join(lines))
    assert (done.status, done.err) == (0, "")
    assert " shop   | item | table |" in done.out
    assert 'Table "shop.item"\n' in done.out and " id     | integer | not null |" in done.out
    assert "Indexes:\n    item_pkey btree (id)\n" in done.out
    assert re.search(r"^-\[ RECORD 1 \]-+\na \| 1\nb \| 2$", done.out, re.MULTILINE)
    assert "The pager is on." in done.out and "name | lamp" in done.out


def test_psqls_reflexes_are_understood(developer: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "two.sql"
    file.write_text("-- first\nselect 'on' ||\n  'e' as x;\n\n\\dn sho*\nselec 2;\nselect 3;\n")
    lines = ["\\l", "\\df aos_core.no*", "\\dt sh?p", "\\dt *.it*", "\\di shop.*", "\\du test_dev*",
             "\\d shop.it*", "\\timing", "\\sql select 1 as one \\gx", "\\timing off",
             f"\\i {file}"]  # fmt: skip
    done = developer("shell", "-c", "\n".join(lines))
    assert (done.status, done.out.count("Time: ")) == (1, 1)
    assert " postgres " in done.out and " now " in done.out
    assert done.out.count(" shop   | item | table | ") == 3
    assert " shop   | item_pkey | index | " in done.out and " test_developer " in done.out
    assert re.search(r"RECORD 1 \]-+\none \| 1\nTime: \d+\.\d{3} ms\nTiming is off\.", done.out)
    assert " one\n(1 row)\n" in done.out and done.out.endswith("(1 row)\n")
    assert done.err.splitlines()[-2:] == [
        f"{file}:6: exit status 1: selec 2;", f"-c:11: exit status 1: \\i {file}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("SELECT a from b where c < 2", "this looks like SQL | \\sql SELECT a from b where c < 2"),
        ("delete FROM shop.item", "this looks like SQL | \\sql delete FROM shop.item"),
        ("create table x ()", "this looks like SQL | \\sql create table x ()"),
        ("explain analyze select 1", "this looks like SQL | \\sql explain analyze select 1"),
        ("cd /tmp", 'unknown command "cd" | the shell stays in its folder'),
        ("cat x", 'unknown command "cat" for "aosctl" | !cat x runs it in your own shell'),
        *((line, "") for line in (
            "", "delete agent x", "create agent x", "explain agent", "get select", "gett", "!ls",
            "\\watch", "# ls", "exit", "use tenant x", "aosctl ps",
        )),
    ],
)  # fmt: skip
def test_what_is_no_verb_is_told_from_what_is(line: str, says: str) -> None:
    told = ""
    try:
        check(line.split())
    except UsageError as error:
        told = f"{error.message} | {error.hint}".replace("\n\n", " ")
    assert told.startswith(says) and bool(told) == bool(says)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("\\watch", "psql's \\watch is not here | at the shell's prompt: get KIND -w"),
        ("\\dt2", "no such command: \\dt2 | \\? lists what there is"),
        (
            "\\pset",
            "psql's \\pset is not here | \\? lists what is; aosctl db psql opens psql itself",
        ),
        ("\\e", "psql's \\e is not here | Ctrl-G opens what is typed in your editor"),
    ],
)
def test_what_psql_has_and_the_shell_has_not(command: str, says: str) -> None:
    told = not_here(command)
    assert f"{told.message} | {told.hint}".startswith(says) and told.exit_status == 2


# At a terminal


def test_a_prompt_completes_remembers_and_goes_on(shell: Screen, env: dict[str, str]) -> None:
    shell.type("get ag" + TAB)
    shell.expect_text("agents")
    shell.type(" cl" + TAB)
    shell.expect_text("clerk")
    shell.type(ENTER)
    shell.expect("clerk +expert")
    shell.say("get nothing")
    shell.expect("hint: it has")
    shell.expect(r"acme.*\[1\].*>")
    shell.type("rollout " + TAB)
    shell.expect_text("undo")
    shell.interrupt()
    shell.say("worker --nonsense")  # in a process of its own
    shell.expect_text("unknown flag: --nonsense")
    shell.expect(r"\[2\]")
    shell.say("wait agent/bot --for=jsonpath={.spec.description}=never --timeout 500s")
    shell.interrupt()
    shell.expect(r"\[130\]")
    shell.paste("get agent bot -o name\nget agent clerk -o name")
    shell.expect_text("agent.aos/bot")
    shell.expect_text("agent.aos/clerk")
    shell.type(" get personas -o name" + ENTER)
    shell.expect_text("persona.aos/expert")
    shell.type("\x12nothi")  # Ctrl-R
    shell.expect_text("get nothing")
    shell.interrupt()
    shell.say("!printf 'in the %s\\n' system")
    shell.expect_text("in the system")
    shell.say("get agents -o name | wc -l")
    shell.expect_text("2")
    shell.say("get agents \\")
    shell.say("-o name | tail -1")
    shell.expect_text("agent.aos/clerk")
    shell.say("help use | cat")
    shell.expect_text("In the shell, without the word aosctl")
    shell.say("exit")
    assert shell.status() == 0
    kept = Path(env["HOME"], ".local/state/aosctl/shell_history")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "+get nothing" in kept.read_text() and "personas" not in kept.read_text()


def test_what_can_not_be_is_told(shell: Screen) -> None:
    for line, status, error in (
        ("gett agents", 2, 'error: unknown command "gett" for "aosctl"'),
        ("shell", 2, "error: this is the shell already"),
        ("get agents && ps", 2, "error: this shell has no &&"),
        ("get agents > /no/such/file", 2, "error: can't write /no/such/file: No such file"),
        ("use tenant nobody", 1, 'Error from server (NotFound): tenant "nobody" not found'),
        ("use context nobody", 1, 'error: no context exists with the name: "nobody"'),
        ("use it", 2, "error: use takes tenant or context, and a name"),
        ("\\nothing", 2, "error: no such command: \\nothing"),
        ("ls", 2, "hint: !ls runs it in your own shell"),
        ("select 1 > 2;", 2, "hint: \\sql select 1 > 2"),
        ("\\d nothing", 1, 'Error from server (NotFound): no table or view "nothing"'),
        ("\\sql selec 1", 1, 'ERROR:  syntax error at or near "selec" (SQLSTATE 42601)'),
        ("\\sql copy shop.item to stdout", 1, "error: COPY from or to the client is not for here"),
        ("\\sql begin", 1, "rolled back: a transaction over several lines"),
    ):
        shell.say(line)
        shell.expect_text(error)
        shell.expect(rf"\[{status}\]")
        shell.say("use")  # and the status is gone
        shell.expect_text("tenant (your only one)")


MANY = "select * from generate_series(1, 501) as n;"


def test_sql_has_a_prompt_of_its_own(shell: Screen, tenant: Tenant) -> None:
    shell.say("\\sql")
    shell.expect_text("=>")
    shell.type("select na" + TAB)
    shell.type("me")
    shell.say(" from shop.item")
    shell.say("where id = 1;")
    shell.expect_text("lamp")
    shell.expect_text("(1 row)")
    shell.say("begin;")
    shell.expect(r"=\*>")
    shell.say("insert into shop.item values (3, 'kept');")
    shell.expect_text("INSERT 0 1")
    shell.type(f"{MANY}{ENTER}")
    shell.expect_text("501 rows came, the first 500 are shown; \\rows all shows all")
    shell.say("\\rows all")
    shell.expect_text("every row is shown on a terminal")
    shell.say("\\rows none")
    shell.expect_text("unrecognized value")
    shell.expect("=\\*>")
    shell.say("select 1/0;")
    shell.expect_text("ERROR:  division by zero (SQLSTATE 22012)")
    shell.expect("=!>")
    shell.say("rollback;")
    shell.expect_text("ROLLBACK")
    shell.say("select 8 as eight \\gx")
    shell.expect(r"eight +\| 8")
    shell.say("select 'unfinished'")
    shell.say("\\reset")
    shell.say("select name as looked_at")
    shell.say("\\d shop.item")
    shell.expect_text('Table "shop.item"')
    shell.say("\\sorry")
    shell.expect_text("no such command: \\sorry")
    shell.say("from shop.item where id = 1;")
    shell.expect(r"looked_at *\n[^\n]*-+[^\n]*\n *lamp")
    shell.say("select wrong;")
    shell.expect(r'column "wrong" does not exist')
    shell.expect(r" +\^")
    shell.say("select 'slow' from pg_sleep(500);")
    until_running(tenant.database, "pg_sleep(500)")
    shell.interrupt()
    shell.expect_text("canceled")
    shell.say("begin; insert into shop.item values (4, 'gone');")
    shell.expect(r"=\*>")
    shell.say("\\q")
    shell.expect_text("the open transaction is rolled back")
    shell.say("\\sql select count(*) from shop.item")
    shell.expect_text("2")
    shell.type(CTRL_D)
    assert shell.status() == 0


WAIT = """
do $$ begin
  while {} (select from pg_stat_activity where datname = current_database()
    and pid <> pg_backend_pid() and {}) loop
    perform pg_sleep(0.01);
    perform pg_stat_clear_snapshot();
  end loop;
end $$"""
OF_SHELL = "application_name like 'aosctl/% shell'"


def until_running(database: KernelDatabase, text: str) -> None:
    """Wait until the server is at work on a statement."""
    database.superuser.execute(
        WAIT.format("not exists", f"state = 'active' and query like '%{text}%'")
    )


def test_the_catalog_is_offered_as_the_login_sees_it(shell: Screen, tenant: Tenant) -> None:
    shell.type("\\sql table shop.it" + TAB)  # the first TAB has read it
    shell.expect(r"shop\.item")
    shell.type(CTRL_C)
    shell.say("\\sql")
    shell.expect_text("=>")
    shell.say("create temp table my_own (my_column int);")
    shell.expect_text("CREATE TABLE")
    shell.type("select * from ite")
    shell.expect_text("shop.item")  # the menu comes by itself
    shell.type(TAB + ENTER + " where nam")
    shell.expect_text("column")
    shell.type(TAB + ENTER + " = 'lamp';" + ENTER)
    shell.expect_text("(1 row)")
    shell.say("\\q")
    shell.type("\\sql select nam from shop.item" + "\x1b[D" * 15 + TAB)
    shell.expect("name +column")
    shell.type(TAB + ENTER + ENTER)
    shell.expect_text("(2 rows)")


def test_a_server_that_goes_away_takes_no_shell_with_it(shell: Screen, tenant: Tenant) -> None:
    database = tenant.database
    shell.say("\\sql select 1")
    shell.expect_text("(1 row)")
    name = database.name
    superuser = psycopg.connect(database.cluster.dsn(), autocommit=True)
    superuser.execute(f'alter database "{name}" allow_connections false')
    try:
        database.superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'aosctl/% shell'"
        )
        shell.expect_text("no connection: ")
        shell.say("\\sql select 2")
        shell.expect_text("the connection to the database is lost")
        shell.say("get agents")
        shell.expect_text("can't connect to the database")
        shell.expect(r"\[1\]")
    finally:
        superuser.execute(f'alter database "{name}" allow_connections true')
        superuser.close()
    shell.say("\\sql select 'again'")
    shell.expect_text("again")
    shell.say("get agent bot -o name")
    shell.expect_text("agent.aos/bot")
    shell.expect_text("nothing to approve")


def test_an_approval_rings_once_and_stands_in_the_status_line(
    shell: Screen, tenant: Tenant
) -> None:
    assert "\x07" not in shell.raw
    asked = tenant.asked("send_mail", {"query": "x"}, "clerk")
    assert tenant.call_state(asked.call) == "awaiting_approval"
    shell.expect_text("1 approval pending")
    one = tenant.approval(asked.call)[0].hex[-8:]
    shell.say(f"deny {one} --reason no")
    shell.expect_text("denied")
    shell.expect_text("nothing to approve")
    assert shell.raw.count("\x07") == 1
    database = tenant.database
    looks = "select count(*) from pg_stat_activity where application_name like 'aosctl/%% shell'"
    assert database.value(looks + " and datname = current_database()") == 1


def test_the_inbox_and_an_editor_work_in_the_shell(
    opened: Open, tenant: Tenant, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/You know PostgreSQL./You know SQL./' \"$1\"\n")
    editor.chmod(0o755)
    shell = opened(AOSCTL_EDITOR=str(editor))
    shell.expect_text("nothing to approve · dev@acme")
    first, second = (tenant.asked("send_mail", {"query": who}, "clerk") for who in "ab")
    one, two = (tenant.approval(asked.call)[0].hex[-8:] for asked in (first, second))
    shell.expect_text("2 approvals pending")
    shell.say("approve -i")
    shell.expect_text("1 of 2")
    shell.expect_text("then Enter >")
    shell.type("y" + ENTER)
    shell.expect_text(f"approval.aos/{one} approved")
    shell.expect("(?s)2 of 2.*then Enter >")  # what is typed before the question is no answer
    shell.type("n" + ENTER)
    shell.expect_text("reason")
    shell.type("not now" + ENTER)
    shell.expect_text(f"approval.aos/{two} denied")
    shell.expect("^acme>$")
    assert [tenant.call_state(asked.call) for asked in (first, second)] == ["approved", "denied"]
    shell.say("edit persona expert")
    shell.expect_text("persona.aos/expert edited")
    shell.expect("^acme>$")
    shell.say("get persona expert -o jsonpath={.spec.systemPrompt}")
    shell.expect_text("You know SQL.")


def test_a_verb_with_a_screen_gives_the_terminal_back(shell: Screen) -> None:
    shell.type("top" + ENTER)
    shell.expect_text("keys: q quit")
    shell.type("q")
    shell.expect("^acme>$")
    shell.say("chat bot")
    shell.expect_text("Ctrl-D leaves")
    shell.expect_text("bot · ")
    shell.type(CTRL_D)
    shell.expect("^acme>$")
    shell.say("!stty -a | grep -o ' icanon' ; stty -a | grep -o ' echo '")
    shell.expect(r" icanon$")
    shell.expect(r" echo$")
    shell.say("use tenant acme; get agent bot -o name")
    shell.expect_text("agent.aos/bot")
    shell.say("!sleep 500")
    shell.interrupt()
    shell.expect(r"\[130\]")


def test_a_terminal_that_goes_away_ends_the_shell(opened: Open, tenant: Tenant) -> None:
    shell = opened()
    shell.expect_text("nothing to approve")
    shell.say("\\sql")
    shell.expect_text("=>")
    shell.say("begin; insert into shop.item values (9, 'lost');")
    shell.expect(r"=\*>")
    status = shell.hang_up()
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGHUP
    database = tenant.database
    database.superuser.execute(WAIT.format("exists", OF_SHELL))
    assert database.value("select count(*) from shop.item where id = 9") == 0


@pytest.mark.parametrize(
    ("columns", "term", "settings"),
    [
        (20, "xterm-256color", {}),
        (100, "xterm-256color", {"NO_COLOR": "1"}),
        (100, "dumb", {}),
        (100, "xterm-256color", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_any_terminal_will_do(
    opened: Open, columns: int, term: str, settings: dict[str, str]
) -> None:
    shell = opened(columns=columns, term=term, **settings)
    shell.expect(">$")
    shell.say("get nothing")
    shell.expect(r"\[1\]")
    shell.type("\\sql select 7 * 6 as n" + ENTER)  # too long for a line of the narrow one
    shell.expect(r"^ +42$")
    shell.type("quit" + ENTER)
    assert shell.status() == 0
    if "NO_COLOR" in settings or term == "dumb":
        assert not re.search(r"\x1b\[[0-9;]*3[0-7][;m]", shell.raw)
    if term == "dumb":
        assert "\x1b[" not in shell.raw


def test_a_dumb_terminal_has_letters_and_each_once(opened: Open) -> None:
    shell = opened(term="dumb")
    shell.expect("aosctl>$")
    shell.say("get agents \\")
    shell.expect("^ +->$")
    shell.say("-o name")
    shell.expect(r"agent\.aos/clerk\n(?:.*\n)?\w+>$")
    shell.say("\\sql")
    shell.expect("=>$")
    shell.say("select 6 *")
    shell.say("\\d nothing")
    shell.expect_text('no table or view "nothing"')
    shell.say("7 as n;")
    shell.expect("^ 42$")
    shell.say("\\q")
    shell.expect("acme>$")
    shell.type(CTRL_D)
    assert shell.status() == 0
    for once in ("get agents", "select 6", "7 as n", "nothing to approve · dev@acme"):
        assert shell.raw.count(once) == 1, once
    assert "\x1b" not in shell.raw


@pytest.mark.parametrize("emulator", [Xterm, Ghost])
def test_a_window_of_another_size_keeps_nothing_of_the_old_prompt(
    env: dict[str, str], dsn: str, emulator: type[Xterm] | type[Ghost]
) -> None:
    line = "get agents -l team=data,tier=gold --show-labels -o wide --sort-by .metadata.name"
    given = {**env, "AOSCTL_DSN": dsn}
    with Terminal(given, "shell", columns=80, emulator=emulator) as shell:
        shell.stands("acme>")
        shell.type(line)
        for columns in (80, 41, 120, 60, 30):
            if columns != 80:
                shell.resize(40, columns)
            whole = f"acme> {line}"
            rows = [whole[at : at + columns] for at in range(0, len(whole), columns)]
            said, *drawn = shell.stands("\n".join(row.rstrip() for row in rows)).splitlines()
            assert said.startswith("help lists the verbs")
            assert "\n".join(drawn).count("acme>") == 1, columns


def test_a_secret_is_typed_and_forgotten(shell: Screen, env: dict[str, str]) -> None:
    shell.say("\\sql select 1 as x where 'password ''hush''' = ''")
    shell.expect_text("(0 rows)")
    shell.say("\\sql alter role nobody_at_all password 'hush'")
    shell.expect("SQLSTATE")
    shell.say("\\sql select 'kept'")
    shell.expect_text("(1 row)")
    shell.type(CTRL_D)
    assert shell.status() == 0
    text = Path(env["HOME"], ".local/state/aosctl/shell_history").read_text()
    assert "kept" in text and "nobody_at_all" not in text
