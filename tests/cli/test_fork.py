"""`aosctl fork` and `attach`: a run goes on in another, and is followed from its beginning."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from command import AOSCTL, Aosctl
from kernels import Tenant, ask, call, say
from talks import PATIENCE_SECONDS
from terminal import CTRL_C, Terminal

DELETE = {"statement": "delete from shop.orders where order_id = 1"}


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def talked(tenant: Tenant, *pairs: tuple[str, str]) -> UUID:
    """Return a run with these questions and answers."""
    run = tenant.start_run("clerk")
    for question, answer in pairs:
        tenant.respond(
            tenant.open(run, question, p_worker="w1"), say(answer), p_usage={"in": 10, "out": 5}
        )
    return run


def run_named(tenant: Tenant, name: str) -> UUID:
    return UUID(str(tenant.database.value("select run_id from aos_core.run where name = %s", name)))


def test_a_fork_has_what_was_said_up_to_a_step(developer: Aosctl, tenant: Tenant) -> None:
    run = talked(tenant, ("one?", "1"), ("two?", "2"))
    name, before = name_of(tenant, run), tenant.transcript(run)
    done = developer("fork", f"{name}@3", "--name", "second-try")
    assert (done.status, done.out) == (0, "run.aos/second-try created\n")
    assert done.err == (
        f"from run/{name} at step 2, before the turn that step 3 is in;"
        " aosctl chat --resume second-try\n"
    )
    fork = run_named(tenant, "second-try")
    assert tenant.transcript(fork) == before[:2] and tenant.transcript(run) == before
    row = tenant.run_row(fork)
    assert (row["parent_run_id"], row["forked_at_step"]) == (run, 2)
    assert (row["spent_usd"], row["input_tokens"]) == (0, 0)
    assert tenant.faults(fork) == tenant.faults(run) == []
    assert (
        "run   forked from another run at step 2 by user:dev\n"
        in developer("logs", "second-try").out
    )
    assert "run   forked at step 2 by user:dev\n" in developer("logs", name).out
    shown = json.loads(developer("get", "run", "second-try", "-o", "json").out)
    assert shown["status"]["forkedFrom"] == str(run)
    # Each goes on by itself.
    tenant.respond(tenant.open(fork, "other?", p_worker="w1"), say("3"))
    assert tenant.transcript(fork) == [*before[:2], ("user", "other?"), ("assistant", "3")]
    assert tenant.transcript(run) == before


def test_without_a_step_it_has_everything_that_is_over(developer: Aosctl, tenant: Tenant) -> None:
    run = talked(tenant, ("one?", "1"))
    lease = tenant.open(run, "delete", p_worker="w1")
    tenant.respond(lease, ask(("sql_execute", DELETE)))
    done = developer("fork", name_of(tenant, run), "-o", "name")
    assert (done.status, done.err) == (0, "")
    fork = run_named(tenant, done.out.strip().removeprefix("run.aos/"))
    assert tenant.transcript(fork) == tenant.transcript(run)[:2]
    assert developer("approve", name_of(tenant, fork)).status == 1  # what waits stays there
    assert developer("deny", name_of(tenant, run)).status == 0


def test_a_fork_of_a_tainted_run_is_tainted_from_there_on(
    developer: Aosctl, tenant: Tenant
) -> None:
    run = talked(tenant, ("one?", "1"))
    tenant.database.superuser.execute(
        "update aos_core.run set taint = 'web_search, step 3' where run_id = %s", (run,)
    )
    talk = tenant.open(run, "two?", p_worker="w1")
    tenant.respond(talk, say("2"))
    name = name_of(tenant, run)
    for step, taint in (("", "web_search, step 3"), ("@2", None)):
        done = developer("fork", f"{name}{step}", "-o", "name")
        fork = run_named(tenant, done.out.strip().removeprefix("run.aos/"))
        assert tenant.run_row(fork)["taint"] == taint


@pytest.mark.parametrize(
    ("origin", "flags", "status", "error"),
    [
        ("nobody", (), 1, 'Error from server (NotFound): runs.aos "nobody" not found\n'),
        ("{name}@99", (), 1, 'error: run "{name}" has no step 99, only 2\nhint: aosctl trace '),
        ("{name}@", (), 2, 'error: "" is no step\n'),
        ("{name}@-1", (), 2, 'error: "-1" is no step\n'),
        ("{name}@two", (), 2, 'error: "two" is no step\n'),
        ("{name}", ("--name", "{name}"), 1, "error: "),
        ("{name}", ("--name", "NO WAY"), 1, "error: "),
    ],
)
def test_what_can_not_be_forked_is_refused(
    origin: str, flags: tuple[str, ...], status: int, error: str, developer: Aosctl, tenant: Tenant
) -> None:
    name = name_of(tenant, talked(tenant, ("one?", "1")))
    count = "select count(*) from aos_core.run"
    before = tenant.database.value(count)
    words = [word.format(name=name) for word in (origin, *flags)]
    done = developer("fork", *words)
    assert (done.status, done.out) == (status, "")
    assert error.format(name=name) in done.err
    assert tenant.database.value(count) == before


@contextmanager
def attached(env: dict[str, str], tenant: Tenant, *words: str) -> Iterator[subprocess.Popen[str]]:
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    process = subprocess.Popen(
        [AOSCTL, "attach", *words],
        env={**env, "AOSCTL_DSN": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_attach_replays_goes_on_and_ends_with_the_run(env: dict[str, str], tenant: Tenant) -> None:
    run = talked(tenant, ("one?", "1"))
    name = name_of(tenant, run)
    with attached(env, tenant, name) as process:
        first = [line_of(process) for _ in range(3)]
        assert first == ["run   created by user:dev\n", "user  one?\n", "agent 1\n"]
        tenant.respond(tenant.open(run, "two?", p_worker="w1"), say("2"))
        assert [line_of(process) for _ in range(2)] == ["user  two?\n", "agent 2\n"]
        call(tenant.person, "aos_agent.close_run", tenant.id, run)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (0, "run   completed by user:dev\n")
    assert err == (
        f"attached to run/{name}, which is idle; Ctrl-C detaches\nrun/{name} is completed\n"
    )


def test_attach_to_a_run_that_is_killed_ends_with_four(env: dict[str, str], tenant: Tenant) -> None:
    run = talked(tenant, ("one?", "1"))
    with attached(env, tenant, str(run), "--tail", "1") as process:
        assert line_of(process) == "agent 1\n"
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (4, "run   cancelled by user:dev\n")
    assert err.endswith(f"run/{name_of(tenant, run)} is cancelled\n")


def test_detaching_leaves_the_run_as_it_is(env: dict[str, str], tenant: Tenant) -> None:
    run = talked(tenant, ("one?", "1"))
    name = name_of(tenant, run)
    before = tenant.run_row(run)["last_seq"]
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, "attach", name) as terminal:
        terminal.expect_text("agent 1")
        terminal.type(CTRL_C)
        terminal.expect_text(f"detached; run/{name} goes on: aosctl attach {name}")
        assert terminal.status() == 0
    assert (tenant.run_row(run)["run_state"], tenant.run_row(run)["last_seq"]) == ("active", before)
    with attached(env, tenant, name) as process:
        assert [line_of(process) for _ in range(3)][-1] == "agent 1\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0 and "detached" in err


def test_attach_is_to_one_run(developer: Aosctl) -> None:
    done = developer("attach", "agent/bot")
    assert (done.status, done.err) == (
        2, "error: attach is to one run\nhint: aosctl logs -f agent/bot\n",
    )  # fmt: skip
    done = developer("attach", "nobody")
    assert (done.status, done.out) == (1, "") and "not found" in done.err


def test_top_draws_once_off_a_terminal(developer: Aosctl, tenant: Tenant) -> None:
    developer("kill", "--all", "-y")
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    name = name_of(tenant, asked.run)
    done = developer("top")
    assert (done.status, done.err) == (0, "")
    sums, used, empty, head, *rows = done.out.splitlines()
    assert sums.startswith("1 run in acme tenant: 1 awaiting approval")
    assert used == "0 tokens · $0.00 · 1 approval pending · by cost"
    assert empty == "" and head.split()[0] == "RUN" and [row.split()[0] for row in rows] == [name]
    assert "\x1b" not in done.out
    assert developer("top", "--once", PYTHONIOENCODING="ascii").out.isascii()
    talked(tenant, ("one?", "1"))
    rows = developer("top", "-a", "--sort-by", "tokens").out.splitlines()[4:]
    tokens = [int(row.split()[6]) for row in rows]
    assert tokens == sorted(tokens, reverse=True) and tokens[0] >= 15 > tokens[-1]
    for flags, error in (
        (("--sort-by", "mood"), 'error: cannot sort by "mood"\n'),
        (("--interval", "0"), "error: --interval is 0.1 to 3600 seconds, not 0.0\n"),
        (("--interval", "nan"), "error: --interval is 0.1 to 3600 seconds, not nan\n"),
    ):
        refused = developer("top", *flags)
        assert (refused.status, refused.out) == (2, "") and refused.err.startswith(error)
    call(tenant.person, "aos_agent.cancel_run", tenant.id, asked.run)


def test_top_goes_on_until_q_and_gives_the_terminal_back(
    env: dict[str, str], developer: Aosctl, tenant: Tenant
) -> None:
    developer("kill", "--all", "-y")
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    settings = {**env, "AOSCTL_DSN": dsn}
    with Terminal(settings, "top", "--interval", "0.2") as terminal:
        terminal.expect_text("0 runs in acme tenant")
        asked = tenant.asked("sql_execute", DELETE, "clerk")
        terminal.expect_text(name_of(tenant, asked.run))
        terminal.expect_text("WAITING-ON")  # what matters most is there on a narrow screen too
        terminal.type("s")
        terminal.expect_text("by tokens")
        call(tenant.person, "aos_agent.cancel_run", tenant.id, asked.run)
        terminal.expect_text("0 runs in acme tenant")
        terminal.type("a")
        terminal.expect_text("cancelled")
        terminal.type("q")
        assert terminal.status() == 0
    assert "\x1b[?1049h" in terminal.raw and terminal.raw.endswith("\x1b[?25h\x1b[?1049l")
    with Terminal(settings, "top") as terminal:
        terminal.expect_text("in acme tenant")
        terminal.type(CTRL_C)
        assert terminal.status() == 130
    assert terminal.raw.endswith("\x1b[?25h\x1b[?1049l")


def test_the_picture_fits_the_screen() -> None:
    from aosctl.cli.top_screen import fitted

    lines = [f"line {number} of wide 漢字" for number in range(10)]
    assert fitted(lines, 80, 20) == lines
    assert fitted(lines, 80, 4) == [*lines[:3], "(7 more)"]
    assert fitted(["漢字漢字"], 5, 9) == ["漢字"]
    assert json.dumps(fitted(lines, 4, 2)) == '["line", "(9 m"]'


def test_a_detached_task_waits_for_a_worker(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("run", "bot", "--detach", "look", "around", "--name", "by-night")
    assert (done.status, done.out) == (0, "run.aos/by-night created\n")
    assert done.err == (
        "a worker takes it up; aosctl attach by-night, or aosctl worker where none runs\n"
    )
    run = run_named(tenant, "by-night")
    assert tenant.transcript(run) == [("user", "look around")]
    assert (tenant.run_row(run)["kind"], tenant.run_row(run)["turn_state"]) == ("task", "queued")
    assert tenant.respond(tenant.claim(run=run), say("Nothing."))["next"] == "done"
    assert tenant.run_row(run)["run_state"] == "completed"
    piped = developer("run", "bot", "-d", "and", "-o", "name", stdin="this\x00\n")
    assert piped.err == "" and piped.out.startswith("run.aos/bot-")
    assert tenant.transcript(run_named(tenant, piped.out.strip()[8:]))[0][1].startswith(
        "and\n\nthis"
    )


def test_a_detached_task_is_all_or_nothing(developer: Aosctl, tenant: Tenant) -> None:
    count = "select count(*) from aos_core.run"
    before = tenant.database.value(count)
    taken = name_of(tenant, talked(tenant, ("one?", "1")))
    for words, status, error in (
        (("nobody", "x"), 1, 'agent "nobody" not found'),
        (("bot", "x", "--name", taken), 1, f'run "{taken}" already exists'),
        (("bot", "x", "--wait"), 2, "-d and --wait exclude each other: -d does not wait"),
        (("bot", "x", "-o", "json"), 2, "unable to match a printer"),
        (("bot",), 2, "no task: "),
    ):
        done = developer("run", "-d", *words)
        assert (done.status, done.out) == (status, "") and error in done.err
    assert tenant.database.value(count) == before + 1


MODELS = """\
apiVersion: aos/v1
kind: Model
metadata: {name: other-voice}
spec: {provider: script, script: [{text: other}, {text: again}, {text: third}]}
---
apiVersion: aos/v1
kind: Model
metadata: {name: retired}
spec: {provider: offline, active: false}
"""


def model_of(tenant: Tenant, name: str) -> str:
    return str(tenant.database.value("select model_name from aos_core.run where name = %s", name))


def test_a_new_run_is_with_the_model_of_the_flag(
    admin: Aosctl, developer: Aosctl, tenant: Tenant
) -> None:
    """A fork, a chat and a task; what is forked from them keeps it, the agent its own."""
    assert admin("apply", "-f", "-", stdin=MODELS).status == 0
    name = name_of(tenant, talked(tenant, ("one?", "1")))
    made = developer("fork", name, "--model", "other-voice", "--name", "with-other")
    assert (made.status, made.out) == (0, "run.aos/with-other created\n")
    done = developer("chat", "--resume", "with-other", "and?")
    assert (done.status, done.out) == (0, "again\n"), done.err
    assert developer("fork", "with-other", "--name", "kept").status == 0
    assert model_of(tenant, "kept") == "other-voice" and model_of(tenant, name) == "offline"
    done = developer("chat", "bot", "hello", "--model", "other-voice")
    assert (done.status, done.out) == (0, "other\n")
    done = developer("run", "bot", "hello", "--model", "other-voice", "--name", "other-task")
    assert (done.status, done.out) == (0, "other\n")
    done = developer("run", "-d", "bot", "hello", "-m", "other-voice", "--name", "other-later")
    assert done.status == 0 and model_of(tenant, "other-later") == "other-voice"
    assert '"model": "other-voice"' in developer("get", "run", "other-task", "-o", "json").out
    done = developer("chat", "--fork", f"{name}@2", "-m", "other-voice", "and now?")
    assert (done.status, done.out) == (0, "again\n")
    assert f", from {name} at step 2\n" in done.err
    assert tenant.transcript(run_named(tenant, name)) == [("user", "one?"), ("assistant", "1")]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["chat", "bot", "hi", "-m", "none"], 1, 'model "none" not found\nhint: aosctl get'),
        (["run", "bot", "hi", "-m", "retired"], 1, 'error: model "retired" is not active\n'),
        (["run", "-d", "bot", "hi", "-m", "none"], 1, '(NotFound): model "none" not found\n'),
        (["chat", "-c", "bot", "hi", "-m", "offline"], 2, "a run keeps its model"),
        (["chat", "--resume", "x", "--fork", "y", "hi"], 2, "--resume and --fork exclude each"),
        (["chat", "--fork", "none@x", "hi"], 2, '"x" is no step'),
        (["chat", "--fork", "none", "hi"], 1, 'runs.aos "none" not found'),
        (["chat", "--fork", "none", "hi", "--budget", "1"], 2, "limits are set when a run begins"),
    ],
)
def test_no_run_begins_with_a_model_or_a_run_that_is_not_there(
    admin: Aosctl, developer: Aosctl, tenant: Tenant, words: list[str], status: int, said: str
) -> None:
    if "retired" in words:
        assert admin("apply", "-f", "-", stdin=MODELS).status == 0
    before = tenant.database.value("select count(*) from aos_core.run")
    done = developer(*words)
    assert (done.status, done.out) == (status, "") and said in done.err, done.err
    assert tenant.database.value("select count(*) from aos_core.run") == before
