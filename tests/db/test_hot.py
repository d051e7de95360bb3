"""The hot calls: one round trip each, sent again when the connection broke, cleaned up between."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from aosctl.db.connection import Connection, connect
from aosctl.db.hot import Link, statement
from aosctl.db.install import schema_files
from aosctl.db.json_text import load, load_or_keep, members
from aosctl.db.sandbox import SandboxLink
from aosctl.errors import AosError, Conflict, DatabaseUnavailable, InvalidInput, KernelMismatch
from conftest import MakeDatabase
from postgres import Cluster

FUNCTIONS = """
create sequence tries;
create table done (what text);
create table late (n text unique deferrable initially deferred);
create function late(n text) returns jsonb language plpgsql as $$ begin
  insert into public.late values (n), (n);
  return '"written"';
end $$;
create function echo(v text) returns jsonb language sql as $$ select to_jsonb(v) $$;
create function flaky(code text, times text) returns jsonb language plpgsql as $$ begin
  insert into public.done values (code);
  if nextval('public.tries') <= times::int then
    raise exception 'once more' using errcode = code, hint = 'like this';
  end if;
  return '"at last"';
end $$;
create function act(what text) returns jsonb language plpgsql as $$ begin
  execute what;
  return 'null';
end $$;
create function seen(query text) returns jsonb language plpgsql as $$
declare
  v text;
begin
  execute query into v;
  return to_jsonb(v);
end $$;
create function slow(seconds text) returns jsonb language plpgsql as $$ begin
  insert into public.done values (seconds);
  perform pg_sleep(case when nextval('public.tries') = 1 then seconds::float8 else 0 end);
  return '"slept"';
exception when query_canceled then return '"cancelled"';
end $$;
create function stubborn(what text) returns jsonb language plpgsql as $$ begin
  insert into public.done values (what);
  loop
    begin
      perform pg_sleep(30);
    exception when query_canceled then null;
    end;
  end loop;
end $$;
"""
ECHO = statement("public.echo", 1)
LATE = statement("public.late", 1)
FLAKY = statement("public.flaky", 2)
SLOW = statement("public.slow", 1)
STUBBORN = statement("public.stubborn", 1)
ACT = statement("public.act", 1)
SEEN = statement("public.seen", 1)


@pytest.fixture(scope="module")
def dsn(make_database: MakeDatabase) -> str:
    """A database with functions that fail, wait and answer on order."""
    made = make_database()
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute(FUNCTIONS)
        connection.execute("create schema aos_agent")
        connection.execute(cleaner().encode())
    return made


def cleaner() -> str:
    """The kernel's function that cleans a session between two SQL calls, as the schema makes it."""
    kernel = "".join(path.read_text() for path in schema_files())
    found = re.search(r"create function aos_agent\.clean_session.*?\$\$.*?\$\$;", kernel, re.S)
    assert found
    return found[0]


@pytest.fixture
def look(dsn: str) -> Iterator[Connection]:
    """Another connection; what the functions did before is forgotten."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select setval('tries', 1, false)")
        connection.execute("truncate done")
        yield connection


@pytest.fixture(params=[Link, SandboxLink])
def link(request: pytest.FixtureRequest, dsn: str) -> Iterator[Link]:
    """A link of either kind, that gives up after three seconds."""
    with closing(request.param(lambda: connect(dsn, "hot"), patience_seconds=3.0)) as made:
        yield made


def value(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def end_backend(look: Connection, pid: int) -> None:
    look.execute("select pg_terminate_backend(%s, 10000)", (pid,))


def pid_of(link: Link) -> int:
    return link.connection.info.backend_pid


def test_each_call_is_one_round_trip_from_the_first_on(link: Link) -> None:
    pid_of(link)
    for number in range(1, 4):
        assert link.call(ECHO, "hello") == "hello"
        assert link.round_trips == number


def test_the_wire_shows_one_answer_for_each_question(link: Link, tmp_path: Path) -> None:
    """libpq's own trace: what we send (F) is followed by the server's words (B) once a call."""
    pgconn = link.connection.pgconn
    with (tmp_path / "trace").open("w+") as trace:
        pgconn.trace(trace.fileno())
        for _ in range(3):
            link.call(ECHO, "hello")
        pgconn.untrace()
        trace.seek(0)
        directions = [line.split("\t")[1] for line in trace if line.count("\t") > 1]
    turns = [one for one, _ in itertools.groupby(directions)]
    assert turns == ["F", "B"] * 3


def test_null_text_and_odd_characters_go_through(link: Link) -> None:
    assert link.call(ECHO, None) is None
    assert link.call(ECHO, "ünï \x00 \ud83d") == "ünï \ufffd \ufffd"
    assert link.call(ECHO, "x" * 3_000_000) == "x" * 3_000_000


def test_an_answer_is_not_believed_when_its_commit_fails(link: Link, look: Connection) -> None:
    for _ in range(2):  # the first use prepares the statement
        with pytest.raises(AosError, match="duplicate key"):
            link.call(LATE, "twice")
    assert value(look, "select count(*) from late") == 0
    assert link.call(ECHO, "fine") == "fine"


def test_an_error_of_the_server_leaves_the_connection_in_use(link: Link) -> None:
    pid = pid_of(link)
    for _ in range(3):  # the first use prepares the statement
        with pytest.raises(InvalidInput, match="once more") as caught:
            link.call(FLAKY, "AO006", "9")
        assert caught.value.hint == "like this"
    assert link.call(ECHO, "fine") == "fine"
    assert pid_of(link) == pid


@pytest.mark.parametrize("code", ["40001", "40P01", "23505", "55P03"])
def test_a_conflict_with_another_is_tried_again(link: Link, look: Connection, code: str) -> None:
    assert link.call(FLAKY, code, "2") == "at last"
    assert value(look, "select count(*) from done") == 1


def test_a_conflict_that_stays_is_an_error_after_five_attempts(
    link: Link, look: Connection
) -> None:
    with pytest.raises(Conflict, match="once more"):
        link.call(FLAKY, "23505", "99")
    assert value(look, "select last_value from tries") == 5


def test_a_connection_that_was_ended_between_two_calls_is_replaced(
    link: Link, look: Connection
) -> None:
    assert link.call(ECHO, "before") == "before"
    pid = pid_of(link)
    end_backend(look, pid)
    assert link.call(ECHO, "after") == "after"
    assert pid_of(link) != pid
    assert link.call(ECHO, "again") == "again"


def test_a_call_whose_connection_is_ended_meanwhile_is_sent_again(
    link: Link, look: Connection
) -> None:
    pid = pid_of(link)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(link.call(SLOW, "20")))
    thread.start()
    while not look.execute(
        "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'", (pid,)
    ).fetchone():
        pass
    end_backend(look, pid)
    thread.join(20)
    assert answers == ["slept"]
    assert value(look, "select last_value from tries") == 2  # and of the first nothing is left
    assert value(look, "select count(*) from done") == 1


def test_a_server_that_stays_away_is_reported_when_patience_ends() -> None:
    attempts = 0

    def nobody() -> Connection:
        nonlocal attempts
        attempts += 1
        raise DatabaseUnavailable("nobody there")

    with pytest.raises(DatabaseUnavailable, match="nobody there"):
        Link(nobody, patience_seconds=0.4).call(ECHO, "x")
    assert attempts == 3


def test_rows_are_read_again_over_a_new_connection(link: Link, look: Connection) -> None:
    assert link.fetch("select %s::int", (1,)) == [(1,)]
    end_backend(look, pid_of(link))
    assert link.fetch("select %s::int", (2,)) == [(2,)]


def test_what_a_client_cannot_send_is_no_lost_connection(link: Link) -> None:
    pid = pid_of(link)
    with pytest.raises(InvalidInput):
        link.fetch("select %s", ("\x00",))
    assert pid_of(link) == pid


def test_a_kernel_that_is_missing_is_named(link: Link) -> None:
    with pytest.raises(KernelMismatch, match="not installed") as caught:
        link.call(statement("aos_agent.claim_turn", 1), "x")
    assert caught.value.hint == "aosctl db install"
    assert link.call(ECHO, "fine") == "fine"


def test_a_connection_in_the_middle_of_something_is_not_used_again(
    dsn: str, look: Connection
) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    with closing(SandboxLink(lambda: connect(dsn, "hot"))) as link:
        pid = pid_of(link)
        with pytest.raises(KeyboardInterrupt):
            link.call_text(SLOW, "20", stopped=interrupt)
        end_backend(look, pid)
        assert link.call(ECHO, "fine") == "fine"
        assert pid_of(link) != pid


@pytest.mark.usefixtures("look")
def test_a_statement_is_cancelled_once_we_are_stopped(dsn: str) -> None:
    with closing(SandboxLink(lambda: connect(dsn, "hot"))) as link:
        assert link.call_text(SLOW, "30", stopped=lambda: True) == '"cancelled"'
        assert link.call(ECHO, "fine") == "fine"


@pytest.mark.usefixtures("look")
def test_a_statement_that_takes_too_long_is_cancelled_by_the_server(dsn: str) -> None:
    with closing(SandboxLink(lambda: connect(dsn, "hot"))) as link:
        assert link.call_text(SLOW, "30", seconds=0.2) == '"cancelled"'


@pytest.mark.parametrize("why", ["we are stopped", "it takes too long"])
def test_a_statement_that_ignores_being_cancelled_loses_its_session(
    dsn: str, look: Connection, why: str
) -> None:
    stopped = why == "we are stopped"
    with closing(SandboxLink(lambda: connect(dsn, "hot sql"))) as link:
        link.grace_seconds = 0.3
        with pytest.raises(AosError, match="its session was ended") as caught:
            link.call_text(STUBBORN, "x", seconds=30 if stopped else 0.2, stopped=lambda: stopped)
        assert not isinstance(caught.value, DatabaseUnavailable)
        assert link.call(ECHO, "fine") == "fine"
    assert value(look, "select count(*) from done") == 0
    assert (
        value(look, "select count(*) from pg_stat_activity where query ~ '^select stubborn'") == 0
    )


LEFT_BEHIND = {
    "a setting": ("set work_mem = '1MB'", "show work_mem", "4MB"),
    "a cursor": (
        "declare c cursor with hold for select 1",
        "select count(*) from pg_cursors where is_holdable", "0",
    ),
    "a prepared statement": (
        "prepare p as select 1", "select count(*) from pg_prepared_statements", "0",
    ),
    "a temporary table": (
        "create temp table t ()", "select count(*) from pg_class where relname = 't'", "0",
    ),
    "a listener": ("listen x", "select count(*) from pg_listening_channels()", "0"),
    "an advisory lock": (
        "select pg_advisory_lock(7)",
        "select count(*) from pg_locks where locktype = 'advisory'", "0",
    ),
    "a role": ("set role pg_monitor", "select current_user = session_user", "true"),
    "a time-out": ("set statement_timeout = 0", "show statement_timeout", "30s"),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT_BEHIND)
@pytest.mark.parametrize("cleaned", [True, False])
def test_nothing_of_one_statement_is_left_to_the_next(
    cluster: Cluster, dsn: str, what: str, cleaned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, look_for, clean = LEFT_BEHIND[what]
    if not cleaned:  # the control
        monkeypatch.setattr(SandboxLink, "RESET", b"select")
        monkeypatch.setattr(SandboxLink, "CLEANUP", b"select $1::text")
    superuser = cluster.dsn(dbname=str(conninfo_to_dict(dsn)["dbname"]))
    with closing(SandboxLink(lambda: connect(superuser, "hot"))) as link:
        pid = pid_of(link)
        for _ in range(2 if cleaned else 1):
            link.call(ACT, leave)
            assert (link.call(SEEN, look_for) == clean) is cleaned
        # Who acts as somebody else may not even clean: that session is replaced.
        assert (pid_of(link) == pid) is (what != "a role" or not cleaned)


def test_a_session_whose_cleanup_fails_is_not_used_again(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SandboxLink(lambda: connect(dsn, "hot"))) as link:
        with monkeypatch.context() as patch:
            patch.setattr(SandboxLink, "_is_clean", lambda *_: True)
            patch.setattr(SandboxLink, "CLEANUP", b"select 1 / 0, $1::text")
            assert link.call(ECHO, "fine") == "fine"  # its own outcome stands
        pid = pid_of(link)
        assert link.call(ECHO, "fine") == "fine"
        assert pid_of(link) != pid


def test_another_time_limit_is_in_force_at_once(dsn: str) -> None:
    with closing(SandboxLink(lambda: connect(dsn, "hot"))) as link:
        pid = pid_of(link)
        for seconds, shown in ((7.0, "7s"), (7.0, "7s"), (0.5, "500ms"), (7.0, "7s")):
            said = link.call_text(SEEN, "show statement_timeout", seconds=seconds)
            assert said == f'"{shown}"'
        assert pid_of(link) == pid


def test_other_threads_go_on_while_a_call_waits(link: Link, look: Connection) -> None:
    """As heartbeats must; libpq's own wait, called through psycopg, would hold them up."""
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.01):
            ticks += 1

    pid_of(link)
    thread = threading.Thread(target=tick)
    thread.start()
    look.execute("select nextval('tries')")
    look.execute("create or replace function nap() returns jsonb language sql as"
                 " $$ select '1'::jsonb from pg_sleep(0.5) $$")  # fmt: skip
    assert link.call(statement("public.nap", 0)) == 1
    done.set()
    thread.join()
    assert ticks > 10


def test_links_close_and_open_again(link: Link) -> None:
    link.call(ECHO, "x")
    link.close()
    link.close()
    assert link.call(ECHO, "y") == "y"


OBJECTS: tuple[dict[str, Any], ...] = (
    {},
    {"a": 1, "result": {"a": [1, {"b": "}, \"c\": ["}], "": None}, "z": "\\"},
    {"result": [], "s": "", "n": None, "ok": True, "f": -1.5e-7},
    {"result": "[{\"\\", "next": "x, y: z"},
)  # fmt: skip


@pytest.mark.parametrize("whole", OBJECTS)
def test_an_object_is_cut_into_its_members(look: Connection, whole: dict[str, Any]) -> None:
    text = value(look, "select '" + json.dumps(whole).replace("'", "''") + "'::jsonb::text")
    assert {name: value for name, (value, _) in members(text).items()} == whole
    assert {name: json.loads(part) for name, (_, part) in members(text).items()} == whole
    assert all(part in text for _, part in members(text).values())


def test_numbers_that_python_cannot_hold_stay_text() -> None:
    digits = "7" * 5000
    assert load(f"[1, {digits}, 1.5, 1e999]") == [1, digits, 1.5, "1e999"]


def test_json_that_is_nested_too_deep_stays_text() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert load_or_keep(deep) == deep
    assert load_or_keep("[1]") == [1]
    cut = {"result": (deep, deep), "step": (1, "1")}
    assert members('{"result": ' + deep + ', "step": 1}') == cut
    assert members('{"step": 1, "result": ' + deep + "}") == cut


def test_a_bug_shows_itself_as_it_is(dsn: str) -> None:
    with closing(Link(lambda: connect(dsn, "hot"))) as link:
        with pytest.raises(AosError, match="42601"):
            link.fetch("selec", ())
        assert link.call(ECHO, "fine") == "fine"
