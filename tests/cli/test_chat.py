"""`chat` and `run` as people meet them: on a terminal, and with pipes in place of one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from aosctl.db.embedded import INSTALLER
from bots import BOTS, Bot, Order
from command import AOSCTL, Aosctl, Ended
from talks import PATIENCE_SECONDS, until
from terminal import CTRL_C, CTRL_D, CTRL_J, ENTER, QUESTION, Open, Terminal


def approval_of(terminal: Terminal) -> str:
    """Wait until the terminal asks for an approval; return its id."""
    asked = terminal.expect_text(QUESTION)
    return asked.split(" id ", 1)[1].split(" ", 1)[0]


def run_of(seen: str, agent: str) -> str:
    return next(word for word in seen.split() if word.startswith(f"{agent}-"))


# At a terminal


def test_question_is_answered_from_the_documents_with_tool_line_and_sources(chat: Terminal) -> None:
    chat.say("How do I optimise a join?")
    chat.expect_text("rag_search(How do I optimise a join?)")
    chat.expect_text("no language model")
    chat.expect_text("Sources:")
    chat.prompt()
    answer = chat.standing.split("Sources:")[0]
    assert answer.count("To optimise a join, first run EXPLAIN") == 1
    assert " passages" in answer


def test_pasted_select_of_several_lines_is_run_once(chat: Terminal) -> None:
    chat.paste("select name, city\nfrom customer\norder by 1")
    seen = chat.expect_text("(8 rows)")
    chat.prompt()
    assert "sql_query(select name, city from customer order by 1)" in seen
    assert seen.count("Ada Brandt") == 1


def test_change_waits_for_y_and_happens_once(chat: Terminal, order: Order) -> None:
    chat.paste(order.delete.replace(" where", "\nwhere"))
    asked = chat.expect_text(QUESTION)
    assert "sql_execute of my_pg_bot needs your approval" in asked
    assert "│   delete from orders" in asked
    assert f"│   where order_id = {order.number}" in asked
    assert "why: " in asked
    _, rows = asked.split("│ shop.orders  1 deleted")
    assert "│ - " in rows and str(order.number) in rows  # its row, before it goes
    assert order.exists()
    chat.type("y")
    chat.expect_text("1 row affected")
    chat.prompt()
    assert not order.exists()


def test_denial_with_its_reason_reaches_the_model(chat: Terminal, order: Order) -> None:
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.type("n")
    chat.expect_text("reason")
    chat.say("the customer called")
    chat.expect_text("denied: the customer called")
    chat.expect_text("The statement was not run: denied by")
    chat.expect_text("the customer called")
    chat.prompt()
    assert order.exists()


def test_what_is_edited_is_tried_anew_and_runs(opened: Open, order: Order) -> None:
    chat = opened("chat", "my_pg_bot", EDITOR=f"sed -i 's/ {order.number}$/ -1/'")
    chat.prompt()
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.type("e")
    chat.expect_text("order_id = -1")
    chat.expect_text("the model had asked for:")
    chat.expect_text("it would change no row")
    chat.expect_text(QUESTION)
    chat.type("y")
    chat.expect_text("0 rows")
    chat.prompt()
    assert order.exists()


def test_nothing_but_the_offered_keys_decides(chat: Terminal, order: Order) -> None:
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.type("q1" + ENTER)
    chat.press("\x1b[200~y\x1b[201~" + ENTER)
    chat.press("d")
    chat.expect_text("left pending")
    chat.prompt()
    assert order.exists()


def test_a_word_that_begins_with_y_approves_nothing(chat: Terminal, order: Order) -> None:
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.type("yes, all" + ENTER)
    chat.press("q")
    chat.taken()
    assert order.exists()
    chat.press("y" + ENTER)
    chat.expect_text("1 row affected")
    chat.prompt()
    assert not order.exists()


def test_decision_in_another_terminal_lets_the_chat_go_on_by_itself(
    chat: Terminal, here: Aosctl, order: Order
) -> None:
    chat.say(order.delete)
    approval = approval_of(chat)
    assert here("approve", approval).status == 0
    chat.expect_text(f"approved by role:{INSTALLER}")
    chat.expect_text("1 row affected")
    chat.prompt()


def test_denial_in_another_terminal_is_told_with_its_reason(
    chat: Terminal, here: Aosctl, order: Order
) -> None:
    chat.say(order.delete)
    approval = approval_of(chat)
    assert here("deny", approval, "--reason", "not \x1b[31mthis one").status == 0
    chat.expect_text(f"denied by role:{INSTALLER}: not this one")
    chat.prompt()
    assert order.exists()


def test_approval_put_off_and_decided_elsewhere_keeps_what_is_typed(
    chat: Terminal, here: Aosctl, order: Order
) -> None:
    chat.say(order.delete)
    approval = approval_of(chat)
    chat.type("d")
    chat.prompt()
    chat.type("select 40 + 2 as draft")
    assert here("approve", approval).status == 0
    chat.expect_text(f"{approval} approved by role:{INSTALLER}")
    chat.expect_text("1 row affected")
    chat.expect_text("select 40 + 2 as draft")
    chat.type(ENTER)
    chat.expect_text("sql_query(select 40 + 2 as draft)")
    chat.prompt()


def test_message_after_an_approval_put_off_is_answered_and_approvals_asks_again(
    chat: Terminal, order: Order
) -> None:
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.type("d")
    chat.prompt()
    chat.say("select 'meanwhile' as word;")
    chat.expect_text("(1 row)")
    chat.prompt()
    chat.say("/approvals")
    chat.expect_text(QUESTION)
    chat.type("y")
    chat.expect_text("1 row affected")
    chat.prompt()


def test_approval_put_off_is_asked_again_when_its_run_is_gone_on_with(
    chat: Terminal, here: Aosctl, order: Order
) -> None:
    """Put off, left for another run, gone back to; put off again, and its run killed."""
    chat.say(order.delete)
    approval = approval_of(chat)
    run = here("get", "approvals", approval, "-o", "jsonpath={.spec.run}").out
    chat.type("d")
    chat.stands("left pending")
    chat.say("/new")
    chat.say("select 'elsewhere' as word;")
    chat.stands("(1 row)")
    chat.ready()
    chat.say(f"/resume {run}")
    chat.until(lambda: QUESTION in chat.standing.partition("── earlier")[2], "the question again")
    assert f"\n{run} · " in chat.standing, "the footer is that of the run"
    chat.type("d")
    chat.until(lambda: chat.standing.count("left pending") == 2, "what was put off")
    assert here("kill", run, "-y").status == 0
    chat.say("/approvals")
    chat.stands("nothing waits")
    assert order.exists()


def test_ctrl_c_leaves_an_approval_pending(chat: Terminal, here: Aosctl, order: Order) -> None:
    chat.say(order.delete)
    approval = approval_of(chat)
    chat.type(CTRL_C)
    chat.expect_text("left pending")
    chat.prompt()
    assert approval in here("approve").out


def test_ctrl_c_clears_what_is_typed_then_hints_then_leaves(chat: Terminal) -> None:
    chat.type("half a thought")
    chat.expect_text("half a thought")
    chat.type(CTRL_C)
    chat.type(CTRL_C)
    chat.expect_text("Press Ctrl-C again within 2s (or Ctrl-D) to leave; the run keeps its state")
    chat.ready()
    chat.type(CTRL_C)
    assert chat.status() == 0


def test_ctrl_d_leaves_and_names_the_run(chat: Terminal) -> None:
    chat.say("select 1 as one;")
    chat.expect_text("(1 row)")
    chat.prompt()
    chat.type(CTRL_D)
    assert chat.status() == 0
    assert "kept · aosctl chat --resume my_pg_bot-" in chat.standing


def test_new_line_keys_and_backslash_make_one_message(chat: Terminal) -> None:
    chat.type("select 1 as a," + CTRL_J + "2 as b," + "\x1b\r" + "3 as c,\\" + ENTER + "4 as d;")
    chat.type(ENTER)
    chat.expect_text("sql_query(select 1 as a, 2 as b, 3 as c, 4 as d;)")
    chat.prompt()


def test_commands_say_what_they_know(chat: Terminal) -> None:
    chat.say("/cost")
    chat.expect_text("begins with your first message")
    chat.prompt()
    chat.say("/nonsense")
    chat.expect_text("unknown command /nonsense")
    chat.prompt()
    chat.say("/help")
    chat.expect_text("/approvals")
    chat.prompt()
    chat.say("/approvals")
    chat.expect_text("nothing waits")
    chat.prompt()
    chat.say("select 1 as one;")
    chat.expect_text("(1 row)")
    chat.prompt()
    chat.say("/ps")
    chat.expect_text("turn 1 completed")
    chat.prompt()
    chat.say("/quit")
    assert chat.status() == 0


def test_chat_that_is_only_opened_leaves_no_run(chat: Terminal, here: Aosctl) -> None:
    before = here("ps", "-a", "-q").out
    chat.type(CTRL_D)
    assert chat.status() == 0
    assert here("ps", "-a", "-q").out == before


def test_ctrl_c_interrupts_the_turn_at_once_and_keeps_the_run(opened: Open, bot: Bot) -> None:
    name = bot("dawdler", {"text": "too late", "delaySeconds": 3600}, {"text": "in time"})
    chat = opened("chat", name)
    chat.prompt()
    chat.say("hurry")
    chat.stands("thinking")
    chat.type(CTRL_C)
    chat.expect_text(" kept")
    chat.prompt()
    chat.say("/ps")
    chat.expect_text("turn 1 cancelled")


def test_line_typed_while_the_agent_is_busy_is_the_next_message(opened: Open, bot: Bot) -> None:
    script = [{"text": "first answer", "delaySeconds": 2}, {"text": "second answer"}]
    chat = opened("chat", bot("busy", *script))
    chat.prompt()
    chat.say("one")
    chat.stands("thinking")
    chat.type("two" + ENTER + "thr")
    chat.stands("first answer", "> two", "second answer")
    chat.until(lambda: chat.typed == "> thr", "what was typed last")


def test_provider_fault_is_told_and_the_chat_goes_on(opened: Open, bot: Bot) -> None:
    fault = {"kind": "auth", "message": "the key was refused (401)", "status": 401}
    name = bot("faulty", {"error": fault})
    chat = opened("chat", name)
    chat.prompt()
    for _ in range(2):
        chat.say("hello")
        chat.expect_text("error: the key was refused (401)")
        chat.prompt()
    chat.type(CTRL_D)
    assert chat.status() == 0


def test_what_comes_out_of_the_database_cannot_move_the_cursor_or_hide(chat: Terminal) -> None:
    evil = "chr(27) || '[2J' || chr(27) || ']0;owned' || chr(7) || 'af' || chr(8238) || 'ter'"
    chat.say(f"select 'before ' || {evil} as text;")
    chat.expect_text("before after")
    chat.expect_text("(1 row)")
    chat.prompt()
    assert "\x1b[2J" not in chat.raw
    assert "\x1b]0;owned" not in chat.raw
    assert "\u202e" not in chat.raw


def expire_leases(superuser: str) -> None:
    """Do what only time does: end the leases of processes that are gone."""
    with psycopg.connect(superuser) as connection:
        connection.execute(
            "update aos_core.run set lease_expires_at = aos_core.now()"
            " where lease_expires_at > aos_core.now()"
        )
        connection.execute(
            "update aos_core.turn_queue set ready_at = aos_core.now() where ready_at < 'infinity'"
        )


def test_chat_killed_in_mid_turn_goes_on_where_it_was_without_waiting_for_the_lease(
    here: Aosctl, opened: Open, bot: Bot, superuser: str
) -> None:
    """SIGKILL; the lease would stand for 20 seconds, and nothing moves the clock."""
    name = bot("victim", {"text": "here I am again", "delaySeconds": 3})
    chat = opened("chat", name)
    chat.prompt()
    chat.say("the only question")
    chat.stands("thinking")
    chat.kill()
    with psycopg.connect(superuser) as connection:
        left = connection.execute(
            "select extract(epoch from lease_expires_at - now()), lease_expires_at"
            " from aos_core.run where agent_name = %s", (name,),
        ).fetchone()  # fmt: skip
    assert left is not None and left[0] > 1
    again = opened("chat", "-c", name)
    again.expect_text("here I am again")
    again.prompt()
    assert "waiting for the lease" not in again.standing
    with psycopg.connect(superuser) as connection:
        rows = connection.execute(
            "select e.kind, e.at, r.lease_worker from aos_core.event_log e"
            " join aos_core.run r on r.run_id = e.stream_id"
            " where r.agent_name = %s order by e.seq", (name,),
        ).fetchall()  # fmt: skip
    kinds = [kind for kind, _, _ in rows]
    assert kinds == [
        "run.created", "turn.opened", "lease.given_up", "turn.reclaimed", "turn.completed",
    ]  # fmt: skip
    assert rows[3][1] < left[1], "the lease was waited for"
    log = here("logs", f"agent/{name}").out
    assert re.search(r"turn +1 left behind by \S+@[^@ ]*:[0-9]+, which has ended", log)
    assert re.search(r"turn +1 taken over from \S+@\S*:[0-9]+ by worker:\S+:[0-9]+, attempt", log)


def test_chat_on_another_machine_that_was_killed_is_waited_for(
    opened: Open, bot: Bot, superuser: str
) -> None:
    """Whether it has ended can't be seen from here."""
    name = bot("distant", {"text": "here I am again", "delaySeconds": 3})
    chat = opened("chat", name)
    chat.prompt()
    chat.say("the only question")
    chat.stands("thinking")
    chat.kill()
    with psycopg.connect(superuser) as connection:
        connection.execute(
            "update aos_core.run set lease_worker = regexp_replace(lease_worker, '[0-9a-f]{12}$',"
            " '0123456789ab') where agent_name = %s", (name,),
        )  # fmt: skip
    again = opened("chat", "-c", name)
    again.stands("waiting for the lease of the earlier process (")
    expire_leases(superuser)
    again.expect_text("here I am again")
    again.prompt()


def test_chat_that_is_only_stopped_keeps_its_turn(opened: Open, bot: Bot) -> None:
    """SIGSTOP: it lives, and nobody on its own machine takes its lease before it has run out."""
    name = bot("sleeper", {"text": "slept well", "delaySeconds": 3})
    chat = opened("chat", name)
    chat.prompt()
    chat.say("the only question")
    chat.stands("thinking")
    os.kill(chat.pid, signal.SIGSTOP)
    again = opened("chat", "-c", name)
    again.stands("waiting for the lease of the earlier process (")
    os.kill(chat.pid, signal.SIGCONT)
    chat.expect_text("slept well")
    again.expect_text("slept well")
    again.prompt()


def test_chat_killed_at_an_approval_asks_again(opened: Open, order: Order) -> None:
    chat = opened("chat", "my_pg_bot")
    chat.prompt()
    chat.say(order.delete)
    chat.expect_text(QUESTION)
    chat.kill()
    again = opened("chat", "-c", "my_pg_bot")
    asked = again.expect_text(QUESTION)
    assert f"order_id = {order.number}" in asked
    again.type("y")
    again.expect_text("1 row affected")
    again.prompt()


def test_approval_decided_while_nobody_was_there_is_carried_out_on_resume(
    here: Aosctl, opened: Open, order: Order
) -> None:
    parked = here("chat", "my_pg_bot", order.delete)
    run = run_of(parked.err, "my_pg_bot")
    assert here("approve", parked.err.split("approval ")[1].split(";")[0]).status == 0
    chat = opened("chat", "--resume", run)
    chat.expect_text("1 row affected")
    chat.prompt()


# One message


def test_one_shot_prints_the_answer_alone_on_stdout(here: Aosctl) -> None:
    done = here("chat", "my_pg_bot", "How do I optimise a join?")
    assert done.status == 0
    assert done.out.startswith("(I am no language model")
    assert "Sources:" in done.out
    assert "rag_search(How do I optimise a join?)" in done.err
    assert "\x1b" not in done.out + done.err


def test_stdin_is_appended_to_the_message_or_is_the_message(here: Aosctl) -> None:
    both = here("chat", "my_pg_bot", "select 1 as a,", stdin="2 as b;\n")
    assert "| 1 | 2 |" in both.out
    alone = here("chat", "my_pg_bot", "-", stdin="select 3 as c;")
    assert "| 3 |" in alone.out
    piped = here("chat", "my_pg_bot", stdin="select 4 as d;")
    assert "| 4 |" in piped.out


def test_words_need_no_quotes(here: Aosctl) -> None:
    assert "| 7 |" in here("chat", "my_pg_bot", "select", "7", "as", "n;").out


def test_pending_approval_parks_the_run_with_status_3(here: Aosctl, order: Order) -> None:
    done = here("chat", "my_pg_bot", order.delete)
    assert done.status == 3
    assert done.out == ""
    run = run_of(done.err, "my_pg_bot")
    approval = done.err.split("waits for approval ")[-1].split(";")[0]
    assert f"run {run} waits for approval {approval}; try: aosctl approve {approval}" in done.err
    assert here("approve", approval).status == 0
    resumed = here("chat", "--resume", run)
    assert resumed.status == 0
    assert resumed.out.endswith("Done: 1 row affected.\n")
    assert not order.exists()


def test_one_shot_goes_on_with_the_last_conversation(here: Aosctl, bot: Bot) -> None:
    name = bot("teller", {"text": "one"}, {"text": "two"})
    assert here("chat", name, "first").out == "one\n"
    assert here("chat", "-c", name, "second").out == "two\n"


def test_a_conversation_that_goes_on_shows_where_it_was_left(
    opened: Open, here: Aosctl, bot: Bot
) -> None:
    """The last two exchanges, dim and cut, before the prompt; a new conversation has none."""
    long = "\n".join(f"row {number}" for number in range(1, 31))
    call = {"calls": [{"name": "memory_recall", "args": {"key": "port"}}]}
    name = bot("recalled", {"text": "answer one"}, {"text": "answer two"}, call, {"text": long})
    assert here("chat", name, "question one").out == "answer one\n"
    assert here("chat", "-c", name, "question two").out == "answer two\n"
    assert here("chat", "-c", name, "question three").out == f"{long}\n"
    chat = opened("chat", "-c", name)
    chat.stands("… 18 lines more\n──")
    chat.ready()
    heading, _, past = chat.standing.partition("── earlier; all of it: aosctl logs ")
    assert "question" not in heading and "question one" not in past
    shown = [line.strip() for line in past.partition("\n──")[0].splitlines()]
    assert shown[0].endswith(" ──")
    assert shown[1:6] == [
        "> question two", "answer two", "> question three", "⏺ memory_recall(port)", "row 1",
    ]  # fmt: skip
    assert shown[-2:] == ["row 12", "… 18 lines more"]
    assert re.search(r"\x1b\[2m── earlier[^\x1b]*\n> question two", chat.raw)
    chat.say("/quit")
    fresh = opened("chat", name)
    fresh.prompt()
    assert "earlier" not in fresh.standing and "question" not in fresh.standing


def test_failed_turn_has_status_4(here: Aosctl, bot: Bot) -> None:
    name = bot("failing", {"error": {"kind": "bad_request", "message": "no such model"}})
    done = here("chat", name, "hello")
    assert done == Ended(4, "", "error: no such model\n")


def test_reached_limit_has_status_5(here: Aosctl, bot: Bot) -> None:
    call = {"calls": [{"name": "sql_query", "args": {"query": "select 1"}}]}
    done = here("chat", bot("limited", *[call] * 5, maxSteps=2), "hello")
    assert done.status == 5
    assert done.out == ""
    assert "error: " in done.err


def test_interrupted_one_shot_has_status_130(shop: dict[str, str], bot: Bot, here: Aosctl) -> None:
    name = bot("slowpoke", {"text": "late", "delaySeconds": 3600})
    process = subprocess.Popen(
        [AOSCTL, "chat", name, "hello"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=shop,
    )
    until(lambda: name in here("ps").out, "the turn")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert f"interrupted · run {name}-" in err


def test_model_without_key_says_which_variable(here: Aosctl, env: dict[str, str]) -> None:
    text = BOTS.format(name="keyless", script="[]", limits="{}").split("---\n", 1)[1]
    text = text.replace("model: keyless", "model: gpt-4o")
    assert here("apply", "-f", "-", stdin=text).status == 0
    done = here("chat", "keyless", "hello")
    assert done.status == 4
    assert "OPENAI_API_KEY" in done.err


def test_unknown_agent_is_refused_with_the_known_ones(here: Aosctl) -> None:
    done = here("chat", "my_pg_bto", "hello")
    assert done.status == 1
    first, second = done.err.splitlines()
    assert first == (
        'Error from server (NotFound): agent "my_pg_bto" not found; did you mean "my_pg_bot"?'
    )
    assert second.startswith("hint: known agents: ") and "my_pg_bot" in second
    assert here("run", "my_pg_bto", "hello").err.splitlines() == [first, second]
    far = here("run", "zzz", "hello").err.splitlines()
    assert far == ['Error from server (NotFound): agent "zzz" not found', second]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("chat", "my_pg_bot"), 2, "no message: the command line has none, and stdin is empty"),
        (("run", "my_pg_bot"), 2, "no task: the command line has none, and stdin is empty"),
        (("chat", "-c", "--resume", "x"), 2, "-c and --resume exclude each other"),
        (("chat", "--resume", "no-such-run", "hi"), 1, 'runs.aos "no-such-run" not found'),
        (("chat",), 2, "which agent?"),
    ],
)
def test_wrong_command_lines_are_refused(
    here: Aosctl, bot: Bot, arguments: tuple[str, ...], status: int, text: str
) -> None:
    bot("another", {"text": "hello"})
    done = here(*arguments)
    assert (done.status, done.out) == (status, "")
    assert text in done.err


def test_ended_run_is_not_resumed(here: Aosctl) -> None:
    done = here("run", "my_pg_bot", "select 1 as a;", "-o", "json")
    run = json.loads(done.out)["run"]
    again = here("chat", "--resume", run, "hello")
    assert again.status == 1
    assert f'run "{run}" is completed' in again.err


def test_conversation_to_go_on_with_must_exist(here: Aosctl, bot: Bot) -> None:
    name = bot("nobody", {"text": "hello"})
    done = here("chat", "-c", name, "hello")
    assert done.status == 1
    assert f'no conversation with "{name}" to go on with' in done.err


# One task


def test_task_is_closed_when_it_is_done(here: Aosctl) -> None:
    done = here("run", "my_pg_bot", "select 5 as five;", "--name", "five")
    assert done.status == 0
    assert "| 5 |" in done.out
    rows = [line.split() for line in here("ps", "-a").out.splitlines()]
    assert any(row[0] == "five" and "completed" in row for row in rows)


def test_task_that_fails_is_closed_as_failed(here: Aosctl, bot: Bot) -> None:
    name = bot("broken", {"error": {"kind": "bad_request", "message": "no such model"}})
    done = here("run", name, "hello", "--name", "will-fail")
    assert done.status == 4
    rows = [line.split() for line in here("ps", "-a").out.splitlines()]
    assert any(row[0] == "will-fail" and "failed" in row for row in rows)


def test_json_tells_how_a_task_ended(here: Aosctl, order: Order) -> None:
    done = here("run", "my_pg_bot", order.delete, "-o", "json")
    told = json.loads(done.out)
    assert done.status == told["exit"] == 3
    assert told["status"] == "waiting"
    assert told["approvals"]


def test_task_waits_for_a_decision_elsewhere_when_told_to(
    shop: dict[str, str], here: Aosctl, order: Order
) -> None:
    process = subprocess.Popen(
        [AOSCTL, "run", "my_pg_bot", "--wait", order.delete],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=shop,
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    waits = next(line for line in lines if "waits for approval" in line and "try:" in line)
    approval = waits.split("waits for approval ")[1].split(";")[0]
    assert here("approve", approval).status == 0
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{approval} approved by role:{INSTALLER}\n" in err
    assert out.endswith("Done: 1 row affected.\n")


def test_task_at_a_terminal_asks_here_and_answers_on_stdout(opened: Open, order: Order) -> None:
    terminal = opened("run", "my_pg_bot", order.delete)
    terminal.expect_text(QUESTION)
    terminal.type("y")
    terminal.expect_text("1 row affected")
    assert terminal.status() == 0


def test_history_is_kept_for_its_owner_alone(opened: Open, tmp_path: Path) -> None:
    state = tmp_path / "state"
    chat = opened("chat", "my_pg_bot", XDG_STATE_HOME=str(state))
    chat.prompt()
    chat.say("select 123 as remembered;")
    chat.expect_text("(1 row)")
    chat.prompt()
    chat.type(CTRL_D)
    chat.status()
    history = state / "aosctl" / "history"
    assert "select 123 as remembered" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
    again = opened("chat", "my_pg_bot", XDG_STATE_HOME=str(state))
    again.prompt()
    again.type("\x1b[A")
    again.expect_text("select 123 as remembered")


def test_unknown_agent_ends_the_chat_that_was_opened_for_it(opened: Open) -> None:
    chat = opened("chat", "my_pg_bto")
    chat.expect_text('Error from server (NotFound): agent "my_pg_bto" not found')
    assert chat.status() == 1


def test_message_typed_before_the_connection_stands_is_sent(opened: Open) -> None:
    chat = opened("chat", "my_pg_bot")
    chat.say("select 'early' as bird;")
    chat.expect_text("sql_query(select 'early' as bird;)")
    chat.prompt()
