"""`aosctl attach`: an answer while the model writes it, once, and a run that goes on without us."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Semaphore
from uuid import UUID

import pytest

from aosctl.cli.detaching import parse_keys
from aosctl.cli.event_lines import Line
from aosctl.cli.live_answer import LiveAnswer
from aosctl.db.live import LivePiece
from aosctl.errors import UsageError
from command import AOSCTL, Aosctl
from kernels import META, Tenant, apply, call, say
from providers.wire_openai import OpenAIWire, Reply, text
from talks import PATIENCE_SECONDS, until
from terminal import Terminal

NOW = datetime(2026, 11, 23, tzinfo=UTC)
WORDS = ("Postgre", "SQL keeps many\n", "versions of a row.")
SHOWN = "agent PostgreSQL keeps many\n      versions of a row.\n"
LOOKS = (
    "select query_start from pg_stat_activity where application_name like '%heartbeat'"
    " and query like '%check_lease%' and datname = current_database()"
)


def held(gate: Semaphore, *words: str) -> Reply:
    """Make an answer of which each word is said when the gate lets it."""

    class Body(tuple[bytes, ...]):
        def __iter__(self) -> Iterator[bytes]:
            for part in super().__iter__():
                assert gate.acquire(timeout=PATIENCE_SECONDS)
                yield part

    reply = text(*words)
    return Reply(Body(reply.body))


@pytest.fixture(scope="module")
def wire() -> Iterator[OpenAIWire]:
    with OpenAIWire() as server:
        yield server


@pytest.fixture(scope="module")
def slow(tenant: Tenant, wire: OpenAIWire) -> str:
    """An agent whose model is the wire."""
    admin = tenant.database.superuser
    call(admin, "aos_meta.apply_model", "slow", META, {
        "provider": "openai", "model": "wire-1", "baseUrl": wire.base_url,
    })  # fmt: skip
    apply(admin, "aos_persona.apply_persona", tenant.id, "slow", {
        "systemPrompt": "x", "model": "slow",
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant.id, "slow", {"persona": "slow"})
    return "slow"


@contextmanager
def worker(env: dict[str, str], tenant: Tenant) -> Iterator[subprocess.Popen[bytes]]:
    database = tenant.database
    dsn = database.cluster.dsn("test_developer", database.name)
    process = subprocess.Popen(
        [AOSCTL, "worker", "--once", "-n", tenant.name],
        env={**env, "AOSCTL_DSN": dsn, "OPENAI_API_KEY": "x"},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@contextmanager
def terminal(env: dict[str, str], tenant: Tenant, *words: str) -> Iterator[Terminal]:
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, *words) as opened:
        yield opened


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def counted(tenant: Tenant) -> int:
    """Return how often a worker has written a piece since the test began to count."""
    return int(tenant.database.value("select count(*) from public.written"))


@pytest.fixture
def counting(tenant: Tenant) -> Iterator[None]:
    """Count the calls of write_live, which goes on as it was."""
    admin = tenant.database.superuser
    admin.execute(
        b"create table public.written (at timestamptz);"
        b"grant insert on public.written to public;"
        b"create function public.count_piece() returns boolean language plpgsql as $$"
        b" begin insert into public.written values (now()); return true; end $$;"
    )
    body = str(tenant.database.value(
        "select pg_get_functiondef('aos_agent.write_live'::regproc)"
    ))  # fmt: skip
    admin.execute(body.replace("begin\n", "begin\n  perform public.count_piece();\n", 1).encode())
    yield
    admin.execute(body.encode())
    admin.execute(b"drop function public.count_piece(); drop table public.written")


@pytest.mark.usefixtures("counting")
def test_an_answer_is_seen_as_it_comes_and_once_and_else_nothing_is_written(
    env: dict[str, str], tenant: Tenant, wire: OpenAIWire, slow: str, developer: Aosctl
) -> None:
    gate, run = Semaphore(0), tenant.start_run(slow)
    name = name_of(tenant, run)
    wire.queue.append(held(gate, *WORDS))
    tenant.open(run, "tell")
    with worker(env, tenant):  # nobody is attached
        looks: set[object] = set()
        gate.release(3)
        until(lambda: len(looks.update(r[0] for r in tenant.database.rows(LOOKS)) or looks) > 1)
        gate.release(10)
    assert tenant.transcript(run)[-1][0] == "assistant" and counted(tenant) == 0

    gate = Semaphore(0)
    wire.queue.append(held(gate, *WORDS))
    with terminal(env, tenant, "attach", name, "--tail", "1") as screen:
        screen.expect_text("Ctrl-C detaches")
        until(lambda: bool(tenant.database.value("select count(*) from aos_core.live_watcher")))
        tenant.open(run, "again")
        with worker(env, tenant):
            gate.release(3)
            screen.expect_text("agent PostgreSQL keeps many")
            assert tenant.transcript(run)[-1] == ("user", "again")  # it is not stored
            screen.type("\r")
            screen.expect_text(f"attach only shows: aosctl chat --resume {name} to write")
            gate.release(10)
        screen.expect_text("versions of a row.")
        screen.type("\x10\x11")  # docker's keys
        screen.expect_text(f"detached; run/{name} goes on: aosctl attach {name}")
        assert screen.status() == 0
    assert screen.seen.count("PostgreSQL") == 1  # --tail 1 shows the end of the first one only
    assert screen.seen.count("versions of a row.") == 2
    assert counted(tenant) > 0
    assert tenant.database.value("select count(*) from aos_core.live_text") == 0
    assert tenant.run_row(run)["run_state"] == "active"
    logs = developer("logs", name)
    assert logs.out.endswith(SHOWN) and logs.status == 0


def test_what_was_steered_outlives_the_workers_that_are_killed(
    env: dict[str, str], tenant: Tenant, wire: OpenAIWire, slow: str, developer: Aosctl
) -> None:
    """Before the model has read it, and while it does: neither lost nor read twice."""
    run = tenant.start_run(slow)
    name, database = name_of(tenant, run), tenant.database
    tenant.open(run, "tell")
    gates = [Semaphore(0), Semaphore(0)]
    first = len(wire.requests)

    def asked(number: int) -> list[str]:
        until(lambda: len(wire.requests) > first + number)
        said = wire.requests[first + number].messages
        return [str(one["content"]) for one in said if one["role"] == "user"]

    try:
        wire.queue.append(held(gates[0], *WORDS))
        killed(env, tenant, lambda: asked(0) == ["tell"] and steered(developer, name))
        assert tenant.transcript(run) == [("user", "tell")]
        database.move_clock("2 minutes")
        wire.queue.append(held(gates[1], *WORDS))
        killed(env, tenant, lambda: asked(1) == ["tell", "in short"])
        database.move_clock("4 minutes")
        wire.queue.append(text("Versions."))
        with worker(env, tenant):
            pass
        assert asked(2) == ["tell", "in short"]
    finally:
        database.move_clock()
        for gate in gates:
            gate.release(10)
    assert tenant.transcript(run) == [
        ("user", "tell"), ("user", "in short"), ("assistant", "Versions."),
    ]  # fmt: skip
    assert tenant.faults(run) == []


def killed(env: dict[str, str], tenant: Tenant, reached: Callable[[], bool]) -> None:
    """Let a worker come to a point, and end it with SIGKILL."""
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    process = subprocess.Popen(
        [AOSCTL, "worker", "--once", "-n", tenant.name],
        env={**env, "AOSCTL_DSN": dsn, "OPENAI_API_KEY": "x"},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert reached()
    finally:
        process.kill()
        process.wait()


def steered(developer: Aosctl, name: str) -> bool:
    return developer("steer", name, "in short").out == f"run.aos/{name} steered\n"


@pytest.mark.parametrize("verb", ["attach", "logs", "top", "events", "get"])
def test_a_terminal_that_goes_away_leaves_nothing_behind(
    env: dict[str, str], tenant: Tenant, verb: str
) -> None:
    run = tenant.start_run()
    tenant.respond(tenant.open(run, p_worker="w1"), say("Hello"))
    name = name_of(tenant, run)
    words = {
        "attach": (name,), "logs": ("-f", name), "top": ("-a",), "events": ("-w", "--for", name),
        "get": ("runs", "-w"),
    }[verb]  # fmt: skip
    before = tenant.run_row(run)["last_seq"]
    sessions = "select count(*) from pg_stat_activity where application_name like %s"
    with terminal(env, tenant, verb, *words) as screen:
        screen.expect_text(name if verb in ("top", "get", "events") else "agent Hello")
        pid = screen.pid
        screen.hang_up()
        assert screen.ended_by() == signal.SIGHUP
    assert pid and tenant.run_row(run)["last_seq"] == before
    until(lambda: tenant.database.value(sessions, f"aosctl/% {verb}") == 0)
    assert (tenant.run_row(run)["run_state"], tenant.run_row(run)["turn_state"]) == (
        "active", "completed",
    )  # fmt: skip


def test_top_gives_the_terminal_back_when_suspended_and_fits_another_size(
    env: dict[str, str], tenant: Tenant
) -> None:
    tenant.start_run()
    with terminal(env, tenant, "top", "-a", "--interval", "3600") as screen:
        screen.expect_text("\x1b[?1049h")
        screen.expect_text("keys: q quit")
        screen.resize(20, 60)
        screen.expect_text("keys: q quit")  # at once
        screen.type("\x1a")  # a session without a shell goes on at once
        screen.expect_text("\x1b[?1049l")
        screen.expect_text("\x1b[?1049h")
        screen.expect_text("keys: q quit")
        screen.type("q")
        screen.expect_text("\x1b[?1049l")
        assert screen.status() == 0


def piece(words: str, begins: int = 0, answer: int = 1) -> LivePiece:
    return LivePiece(2, UUID(int=answer), begins, words)


def lines(*texts: str) -> list[Line]:
    return [Line(NOW, "r", one) for one in texts]


STORED = lines("agent Hello", "      you", "⏺ web_search · 1 row")


@pytest.mark.parametrize(
    ("pieces", "printed"),
    [
        ((), "agent Hello\n      you\n⏺ web_search · 1 row\n"),
        ((piece("Hel"), piece("lo\n", 3), piece("you", 6)), "agent Hello\n      you\n⏺ web"),
        ((piece("Hello\n"),), "agent Hello\n      you\n⏺ web"),
        ((piece("\n\nHello\n\x1b[3"), piece("1myou", 11)), "agent Hello\n      you\n⏺ web"),
        ((piece("Hel"), piece("you", 6)), "agent Hel\nagent Hello\n      you\n⏺ web"),  # a gap
        ((piece("Good"),), "agent Good\nagent Hello\n      you\n⏺ web"),
        (
            (piece("Goo"), piece("Hello", answer=2)),
            "agent Goo\nagent (broken off; it begins anew)\nagent Hello\n      you\n⏺ web",
        ),
    ],
)
def test_a_stored_answer_adds_what_was_not_shown_or_is_printed_whole(
    pieces: tuple[LivePiece, ...], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = LiveAnswer(timestamps=False)
    for one in pieces:
        answer.show([one])
    answer.write(STORED)
    out = capsys.readouterr().out
    assert out.startswith(printed) and out.endswith("⏺ web_search · 1 row\n"), out
    answer.write(lines("user  next"))
    assert capsys.readouterr().out == "user  next\n"


def test_an_answer_that_was_interrupted_goes_on_below(capsys: pytest.CaptureFixture[str]) -> None:
    answer = LiveAnswer(timestamps=True)
    answer.show([piece("Hello")])
    answer.interrupt()
    answer.show([piece(" you", 5)])
    answer.write(lines("agent Hello you"))
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("Z agent Hello") and second.endswith("      you")


def test_detach_keys_are_dockers(developer: Aosctl) -> None:
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("ctrl-x,d") == b"\x18d" and parse_keys("ctrl-@,ctrl-]") == b"\x00\x1d"
    for wrong in ("", "ctrl-", "ctrl-1", "xy", "ctrl-p,,q", "é"):
        with pytest.raises(UsageError, match="invalid keys"):
            parse_keys(wrong)
    done = developer("attach", "x", "--detach-keys", "hello")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[0] == 'error: invalid keys "hello" for --detach-keys'
