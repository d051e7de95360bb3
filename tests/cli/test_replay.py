"""`aosctl replay`: the questions of a run again, and nothing that it did."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from bots import Bot, Order
from command import AOSCTL, Aosctl
from kernels import user

OPEN = (
    "select aos_agent.open_turn(tenant_id, run_id, %s, p_worker => 'w1', p_lease_seconds => 60)"
    " from aos_core.run where run_id = %s"
)
CANCEL = "select aos_agent.cancel_turn(tenant_id, run_id) from aos_core.run where run_id = %s"


def test_a_replay_compares_and_does_nothing_again(here: Aosctl, bot: Bot, order: Order) -> None:
    delete = {"name": "sql_execute", "args": {"statement": order.delete}}
    look = {"name": "sql_query", "args": {"query": "select count(*) from orders"}}
    bot("doer", {"calls": [look]}, {"calls": [delete]}, {"text": "It is gone."})
    assert here("run", "doer", "Delete it", "--name", "doer-1", "--approve=auto").status == 0
    assert not order.exists()
    order.bring_back()

    # The same model says the same, and its calls have the results that they had.
    done = here("replay", "doer-1", "--name", "doer-2")
    assert done.status == 0, done.err
    header, row = done.out.splitlines()
    assert header.split() == ["TURN", "SAME", "OUTCOME", "CALLS", "TOKENS", "COST", "QUESTION"]
    assert row.split() == ["1", "yes", "completed", "2", "0", "$0.00", "Delete", "it"]
    assert done.err.startswith("run/doer-1 again, as run/doer-2\n")
    assert done.err.endswith("aosctl trace doer-2; aosctl logs doer-2 shows all of it\n")
    assert order.exists(), "the replay has deleted it again"
    same = here("replay", "doer-1", "--diff")
    assert (same.status, same.out) == (0, "")
    log = here("logs", "doer-2").out
    assert "⏺ sql_execute" in log and "1 row" in log
    assert here("approve").err.startswith("No pending approvals")

    # Another model that wants more: what was never made fails, and the model goes on.
    more = {"name": "sql_execute", "args": {"statement": "delete from orders"}}
    bot("eager", {"calls": [more]}, {"text": "All are gone?"})
    done = here("replay", "doer-1@1", "-m", "eager", "--diff", "--name", "doer-3")
    assert done.status == 1
    assert done.out.splitlines() == [
        "--- run/doer-1",
        "+++ run/doer-3",
        "@@ -1,5 +1,4 @@",
        " turn 1: completed",
        "   you: Delete it",
        '-  call: sql_query {"query": "select count(*) from orders"} · succeeded',
        f"-  call: sql_execute {json.dumps(delete['args'])} · succeeded",
        "-  agent: It is gone.",
        '+  call: sql_execute {"statement": "delete from orders"} · failed',
        "+  agent: All are gone?",
    ]
    assert order.exists()
    assert 'not made, and run "doer-1" had no result for it' in here("logs", "doer-3").out

    whole = json.loads(here("replay", "doer-1", "--model", "eager", "--output", "json").out)
    assert (whole["run"], whole["same"]) == ("doer-1", False)
    (turn,) = whole["turns"]
    assert (turn["question"], turn["before"]["answer"]) == ("Delete it", "It is gone.")
    assert (turn["after"]["answer"], turn["after"]["costUsd"]) == ("All are gone?", "0")
    assert order.exists()


def test_a_replay_that_fails_says_so_and_compares_all_the_same(here: Aosctl, bot: Bot) -> None:
    bot("sayer", {"text": "one"}, {"text": "two"})
    assert here("run", "sayer", "1?", "--name", "sayer-1").status == 0
    bot("broken", {"error": {"kind": "bad_request", "message": "no such model"}})
    done = here("replay", "sayer-1", "-m", "broken", "-o", "name")
    assert done.status == 4 and "no such model" in done.err
    assert done.out.startswith("run.aos/sayer-")
    done = here("replay", "sayer-1", "-m", "broken")
    assert done.status == 4
    assert "completed -> failed" in done.out


@pytest.fixture
def working(here: Aosctl, bot: Bot, superuser: str) -> Iterator[Callable[[str], UUID]]:
    """Let a run have one turn that ended, and one that somebody drives; return how."""
    with psycopg.connect(superuser, autocommit=True) as connection:

        def work(name: str) -> UUID:
            bot(name, {"text": "one"}, {"text": "two", "delaySeconds": 0.5}, {"text": "three"})
            assert here("chat", name, "1?").status == 0
            (run,) = connection.execute(
                "update aos_core.run set name = %s where agent_name = %s returning run_id",
                (f"{name}-1", name),
            ).fetchone() or (None,)
            connection.execute(OPEN, (Jsonb(user("2?")), run))
            return UUID(str(run))

        yield work


def test_a_run_that_works_is_replayed_without_the_turn_that_is_under_way(
    here: Aosctl, working: Callable[[str], UUID], superuser: str
) -> None:
    run = working("worker")
    before = here("logs", "worker-1").out
    done = here("replay", "worker-1", "--name", "worker-2")
    assert done.status == 0, done.err
    assert done.err.startswith(
        "run/worker-1 again, as run/worker-2\nits turn 2 is under way, and left out\n"
    )
    assert [line.split()[:3] for line in done.out.splitlines()[1:]] == [["1", "yes", "completed"]]
    assert "2?" not in here("logs", "worker-2").out
    assert here("logs", "worker-1").out.startswith(before)
    assert here("replay", "worker-1@2", "--diff", "-q").out == ""
    for step in (3, 4):
        done = here("replay", f"worker-1@{step}")
        wanted = 'error: turn 2 of run "worker-1" is under way, and nothing else can be asked again'
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith(wanted if step == 3 else "error: run"), done.err
    with psycopg.connect(superuser) as connection:
        connection.execute(CANCEL, (run,))
    done = here("replay", "worker-1", "-o", "json")
    assert [turn["question"] for turn in json.loads(done.out)["turns"]] == ["1?", "2?"]
    assert "under way" not in done.err


def test_what_a_run_does_while_it_is_replayed_is_not_compared(
    shop: dict[str, str], working: Callable[[str], UUID], superuser: str
) -> None:
    """The replay stands still once it has begun; meanwhile its origin ends one turn and another."""
    run = working("busy")
    with (
        subprocess.Popen(
            [AOSCTL, "replay", "busy-1@2", "--diff"], env=shop, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
        psycopg.connect(superuser, autocommit=True) as connection,
    ):  # fmt: skip
        assert process.stderr is not None and "again, as" in process.stderr.readline()
        process.send_signal(signal.SIGSTOP)
        connection.execute(CANCEL, (run,))
        connection.execute(OPEN, (Jsonb(user("3?")), run))
        connection.execute(CANCEL, (run,))
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err


def test_what_can_not_be_replayed_is_refused(here: Aosctl, bot: Bot) -> None:
    bot("teller", {"text": "one"})
    assert here("run", "teller", "1?", "--name", "teller-1").status == 0
    for words, status, error in (
        (["nobody"], 1, 'Error from server (NotFound): runs.aos "nobody" not found\n'),
        (["teller-1@99"], 1, 'error: run "teller-1" has no step 99, only 2\n'),
        (["teller-1@x"], 2, 'error: "x" is no step\n'),
        (["teller-1@0"], 1, "error: the steps of a run begin with 1, not 0\n"),
        (["teller-1", "-m", "none"], 1, 'Error from server (NotFound): model "none" not found\n'),
        (["teller-1", "--diff", "-o", "json"], 2, "error: --diff and -o exclude each other: "),
    ):
        done = here("replay", *words)
        assert (done.status, done.out) == (status, ""), words
        assert done.err.startswith(error), done.err


def test_a_question_is_asked_again_as_it_was_with_all_its_parts(
    here: Aosctl, bot: Bot, superuser: str
) -> None:
    bot("parted", {"text": "one"})
    run = ("run", "parted", "1?", "--system", "In letters.", "--name", "parted-1")
    assert here(*run).status == 0
    assert here("replay", "parted-1", "--name", "parted-2").status == 0
    with psycopg.connect(superuser) as connection:
        (said, again) = connection.execute(
            "select s.message from aos_core.step s join aos_core.run r using (tenant_id, run_id)"
            " where s.role = 'user' and r.name in ('parted-1', 'parted-2') order by r.name"
        ).fetchall()
    assert said == again and len(said[0]["blocks"]) == 2


def test_a_run_that_was_compacted_goes_on_with_its_summary(
    here: Aosctl, bot: Bot, superuser: str
) -> None:
    """The fourth answer of the script is for a summary that failed: nobody reads that again."""
    bot("summed", {"text": "one"}, {"text": "In short."}, {"text": "two"}, {"text": "three"})
    assert here("chat", "summed", "first").status == 0
    for said in ("Sum up", "second", "try to sum up"):
        assert here("chat", "-c", "summed", said).status == 0
    with psycopg.connect(superuser) as connection:
        connection.execute("update aos_core.run set name = 'summed-1' where agent_name = 'summed'")
        connection.execute(
            "insert into aos_core.left_out select tenant_id, run_id, first, last, now(), summary"
            " from aos_core.run, (values (1, 2, 3), (7, 8, null)) l (first, last, summary)"
            " where name = 'summed-1'"
        )
    bot("again", {"text": "one"}, {"text": "never asked for"}, {"text": "two, but otherwise"})
    done = here("replay", "summed-1", "-m", "again", "--diff", "--name", "summed-2")
    assert done.status == 1, done.err
    assert done.out.splitlines() == [
        "--- run/summed-1", "+++ run/summed-2", "@@ -6,4 +6,4 @@",
        "   agent: In short.", " turn 3: completed", "   you: second",
        "-  agent: two", "+  agent: two, but otherwise",
    ]  # fmt: skip
    log = here("logs", "summed-2").out
    assert log.count("Sum up") == 1 and "try to" not in log and "never asked" not in log
    assert "steps 1 to 2 left out" in log
    assert here("replay", "summed-2", "--diff").status == 0  # of the replay, with its model
