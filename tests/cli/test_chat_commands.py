"""The chat's commands as people use them: on a terminal, several in one session."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from pathlib import Path

import psycopg
import pytest

from aosctl.db.embedded import INSTALLER
from bots import BOTS, Bot, Order
from command import Aosctl
from terminal import CTRL_C, ENTER, ESCAPE, QUESTION, Open, Terminal

WIDE = 200


@pytest.fixture
def chat(opened: Open) -> Terminal:
    """A chat with the offline agent, at its prompt; wide, so that lines stay whole."""
    terminal = opened("chat", "my_pg_bot", columns=WIDE)
    terminal.ready()
    return terminal


def shown(chat: Terminal, line: str, text: str = "", *, ready: bool = False) -> str:
    """Type a line; wait until `text` comes after it, or the prompt; return what came."""
    before = chat.standing.count(f"> {line}")

    def came() -> str:
        return chat.standing.rpartition(f"> {line}")[2]

    def is_there() -> bool:
        there = chat.standing.count(f"> {line}") > before and text in came()
        return there and (chat.typed == ">" or not ready)

    chat.say(line)
    chat.until(is_there, f"{text!r} after {line!r}")
    return came()


def obeyed(chat: Terminal, line: str) -> str:
    """Type a command; return what it printed."""
    return shown(chat, line, ready=True)


def asked(chat: Terminal, line: str, answer: str) -> None:
    """Send a message and wait for its answer."""
    shown(chat, line, answer, ready=True)


def run_name(chat: Terminal) -> str:
    found = re.search(r"run (\S+) · ", obeyed(chat, "/ps"))
    assert found is not None
    return found[1]


def test_help_explains_and_wrong_names_are_answered(chat: Terminal) -> None:
    said = obeyed(chat, "/help")
    for name in ("/resume [RUN]", "/rewind [N]", "/sql STATEMENT", "/copy", "/quit", "TAB"):
        assert name in said
    said = obeyed(chat, "/help resume")
    assert "/resume [RUN]" in said and "for example: /resume my_pg_bot-x7k2p" in said
    assert "the same: /tools" in obeyed(chat, "/help /skills")
    said = obeyed(chat, "/resme")
    assert "error: unknown command /resme" in said and "did you mean /resume?" in said
    assert "did you mean /help fork?" in obeyed(chat, "/help frok")
    for command in ("/fork", "/rewind", "/export", "/copy", "/logs", "/trace", "/kill"):
        said = obeyed(chat, command)
        assert "the conversation begins with your first message" in said, command
    # A path is a message, and so is what begins with two slashes.
    asked(chat, "/how/do/I optimise a join?", "Sources:")
    asked(chat, "//help: how do I optimise a join?", "Sources:")
    said = obeyed(chat, "/compact")
    assert 'asks the model "offline", which can\'t sum up a conversation' in said
    assert " -m MODEL goes on with another model" in said
    log = obeyed(chat, "/logs 20")
    assert "/help: how do I" in log and "//help: how do I" not in log


def test_a_conversation_is_forked_rewound_and_resumed_from_the_picker(
    opened: Open, chat: Terminal, bot: Bot
) -> None:
    asked(chat, "select 1 as first;", "(1 row)")
    asked(chat, "select 2 as second;", "(1 row)")
    first = run_name(chat)
    said = obeyed(chat, "/fork")
    assert f"↩ forked from {first}@" in said
    forked = run_name(chat)
    assert forked != first
    assert "is no step" in obeyed(chat, "/fork @x")
    assert "has no step 99" in obeyed(chat, "/fork @99")
    assert "already" not in obeyed(chat, f"/resume {first}")
    assert run_name(chat) == first

    # Back before the second message, which is there to be edited; the original stays whole.
    assert "can't go back" in obeyed(chat, "/rewind 3")
    shown(chat, "/rewind", "Go back to before")
    chat.stands("select 1 as first;")
    chat.stands("Esc leaves")
    chat.type(ENTER)
    chat.until(lambda: chat.typed == "> select 2 as second;", "the draft")
    chat.type("\x7f as third;" + ENTER)
    chat.stands("sql_query(select 2 as second as third;)")
    chat.ready()
    rewound = run_name(chat)
    assert rewound not in (first, forked)
    assert "there are 2 messages" in obeyed(chat, "/rewind 3")

    # The picker narrows by letters; Esc leaves everything as it is.
    shown(chat, "/resume", "Go on with")
    chat.stands(first)
    chat.stands("Esc leaves")
    chat.type(ESCAPE)
    chat.ready()
    assert run_name(chat) == rewound
    shown(chat, "/resume", "Esc leaves")
    chat.type("no such thing")
    chat.stands('nothing has "no such thing" in it')
    chat.type(ESCAPE)
    chat.ready()
    shown(chat, "/resume", "Esc leaves")
    before = chat.standing.count("── earlier")
    chat.type(first + ENTER)
    chat.until(lambda: chat.standing.count("── earlier") > before, "its past")
    chat.ready()
    assert run_name(chat) == first
    assert 'runs.aos "nothing-here" not found' in obeyed(chat, "/resume nothing-here")

    # To another agent's, and on with that agent.
    name = bot("parrot", {"text": "squawk"}, {"text": "squawk again"})
    other = opened("chat", name, columns=WIDE)
    other.ready()
    asked(other, "hello", "squawk")
    its = run_name(other)
    assert f"parrot · run {its}" in obeyed(chat, f"/resume {its}")
    assert "a new conversation with parrot begins" in obeyed(chat, "/new")
    asked(chat, "hi", "squawk")
    assert run_name(chat).startswith("parrot-")


def test_chat_pick_opens_the_picker_at_once(opened: Open, chat: Terminal) -> None:
    asked(chat, "select 3 as picked;", "(1 row)")
    name = run_name(chat)
    picking = opened("chat", "--pick", columns=WIDE)
    picking.stands("Go on with")
    picking.stands("select 3 as picked;")
    picking.type(name + ENTER)
    picking.stands("── earlier")
    picking.ready()
    leaving = opened("chat", "--pick", "my_pg_bot", columns=WIDE)
    leaving.stands("Esc leaves")
    leaving.type(CTRL_C)
    assert leaving.status() == 130


def test_picker_rows_carry_nothing_a_terminal_acts_on(chat: Terminal, here: Aosctl) -> None:
    sent = here("chat", "my_pg_bot", "select 1; \x1b]0;owned\x07\x1b[31mred\u202e\nsecond line")
    assert sent.status == 0, sent.err
    chat.raw = ""
    shown(chat, "/resume", "Esc leaves")
    assert "red" in chat.raw and "second line" in chat.raw
    for evil in ("\x1b]0;", "owned", "\x1b[31m", "\u202e"):
        assert evil not in chat.raw
    chat.type(ESCAPE)
    chat.ready()


def test_what_the_agent_is_and_may_do(chat: Terminal, here: Aosctl, bot: Bot, opened: Open) -> None:
    said = obeyed(chat, "/skills")
    assert re.search(r"sql_execute\s+transactional\s+asks\s+role ", said)
    assert re.search(
        r"sql_query\s+\S+\s+no\s+role .*…$", said, re.MULTILINE
    )  # a line of the screen
    assert obeyed(chat, "/tools").count("sql_query") == 1
    said = obeyed(chat, "/model")
    assert re.search(r"\*\s+offline", said) and "INPUT/MTOK" in said
    assert 'no model "ofline"; did you mean "offline"?' in obeyed(chat, "/model ofline")
    # Before the first message the model is simply another one.
    assert "your first message goes to gpt-4o" in obeyed(chat, "/model gpt-4o")
    assert (
        re.search(r"\*\s+gpt-4o", obeyed(chat, "/model")) and "my_pg_bot · gpt-4o" in chat.standing
    )
    assert "your first message goes to offline" in obeyed(chat, "/model offline")
    said = obeyed(chat, "/context")
    assert "system prompt" in said and "▏···" in said and "your messages (0)" in said
    assert "the conversation begins" in obeyed(chat, "/cost")
    asked(chat, "select 1 as one;", "(1 row)")
    said = obeyed(chat, "/context")
    assert "your messages (1)" in said and "tool results (1)" in said
    said = obeyed(chat, "/cost")
    assert re.search(r"offline\s+2\s", said) and "turn 1 completed" in said
    traced = obeyed(chat, "/trace")
    assert "turn 1" in traced and "└─ " in traced
    assert "is no number of lines" in obeyed(chat, "/logs many")
    first = run_name(chat)
    assert f"↩ forked from {first} · now with gpt-4o" in obeyed(chat, "/model gpt-4o")
    assert re.search(r"\*\s+gpt-4o", obeyed(chat, "/model"))
    assert "is with gpt-4o already" in obeyed(chat, "/model gpt-4o")

    name = bot("changeling", {"text": "before"}, {"text": "after"})
    talk = opened("chat", name, columns=WIDE)
    talk.ready()
    assert "You play the script." in obeyed(talk, "/persona")
    asked(talk, "hello", "before")
    script = json.dumps([{"text": "before"}, {"text": "after"}])
    text = BOTS.format(name=name, script=script, limits="{}").replace("play the", "know the")
    assert here("apply", "-f", "-", stdin=text).status == 0
    said = obeyed(talk, "/persona")
    assert "this conversation keeps version 1; the newest is 2" in said
    assert "-You play the script." in said and "+You know the script." in said


def test_approvals_are_decided_by_id_from_any_conversation(
    opened: Open, chat: Terminal, here: Aosctl, order: Order
) -> None:
    waiting = opened("chat", "my_pg_bot", columns=WIDE)
    waiting.ready()
    approval = shown(waiting, order.delete, QUESTION).split(" id ", 1)[1].split(" ", 1)[0]
    said = obeyed(chat, "/approvals")
    assert "nothing waits for a decision here" in said and approval in said
    waiting.type("d")
    waiting.stands("left pending")
    waiting.ready()
    its = run_name(waiting)
    assert approval not in obeyed(waiting, "/new")  # put off, and neither expired nor decided
    shown(waiting, f"/resume {its}", QUESTION)
    assert "which approval?" in obeyed(chat, "/approve")
    assert "which approval?" in obeyed(chat, "/deny")
    assert 'approvals.aos "ffffffffff" not found' in obeyed(chat, "/approve ffffffffff")
    said = shown(chat, f"/approve {approval}", "approve it? y · n >")
    assert f"order_id = {order.number}" in said and "1 deleted" in said
    chat.type("n")
    chat.stands("left pending")
    chat.ready()
    assert order.exists()
    shown(chat, f"/approve {approval}", "approve it? y · n >")
    chat.type("y")
    chat.stands(f"approval.aos/{approval} approved")
    chat.ready()
    waiting.stands("1 row affected")
    for command in (f"/approve {approval}", f"/deny {approval} too late"):
        said = obeyed(chat, command)
        assert re.search(rf"{approval}: already \S+ by \S*{INSTALLER}", said), said

    # Of this conversation: the turn goes on by itself.
    approval = shown(chat, order.delete, QUESTION).split(" id ", 1)[1].split(" ", 1)[0]
    chat.type("d")
    chat.ready()
    shown(chat, f"/deny {approval} the customer called", "The statement was not run: denied by")
    chat.stands("the customer called")
    chat.ready()


def test_kill_asks_and_stops_the_turn_or_ends_the_run(
    opened: Open, chat: Terminal, here: Aosctl, order: Order
) -> None:
    shown(chat, order.delete, QUESTION)
    chat.type("d")
    chat.ready()
    name = run_name(chat)
    shown(chat, "/kill", "t stop the open turn")
    chat.type("n")
    chat.stands("nothing was stopped")
    chat.ready()
    shown(chat, "/kill", "n no >")
    chat.type("t")
    chat.stands(f"the turn is stopped · run {name} kept")
    chat.ready()
    assert "turn 1 cancelled" in obeyed(chat, "/ps")
    assert "no turn is under way" in obeyed(chat, "/steer faster")
    assert "no message" in obeyed(chat, "/steer")
    seen = shown(chat, "/kill", "n no >")
    assert "t stop" not in seen
    chat.type("r")
    chat.stands("your next message begins another conversation")
    chat.ready()
    assert "begins with your first message" in obeyed(chat, "/cost")
    assert f'run "{name}" is cancelled' in obeyed(chat, f"/resume {name}")
    assert order.exists()


def test_export_writes_for_its_owner_and_never_through_a_link(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    chat = opened("chat", "my_pg_bot", columns=WIDE)
    chat.ready()
    asked(chat, "select 'a' as letter;", "(1 row)")
    plain = folder / "talk.md"
    assert f"4 messages written to {plain}" in obeyed(chat, f"/export {plain}")
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600
    text = plain.read_text(encoding="utf-8")
    assert text.startswith("# my_pg_bot: my_pg_bot-") and "select 'a' as letter;" in text
    assert "`sql_query`" in text and "## Agent" in text
    assert "exists already" in obeyed(chat, f"/export {plain}")
    plain.write_text("mine", encoding="utf-8")
    obeyed(chat, f"/export {plain}!")
    assert plain.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600

    whole = folder / "talk.json"
    obeyed(chat, f"/export {whole}")
    stored = json.loads(whole.read_text(encoding="utf-8"))
    assert [one["message"]["role"] for one in stored["messages"]] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip

    precious = tmp_path / "precious"
    precious.write_text("keep", encoding="utf-8")
    for name, target in (("link.md", precious), ("dangling.md", tmp_path / "nowhere")):
        link = folder / name
        link.symlink_to(target)
        assert "exists already" in obeyed(chat, f"/export {link}")
        obeyed(chat, f"/export {link}!")
        assert not link.is_symlink() and link.read_text(encoding="utf-8") == text
    assert precious.read_text(encoding="utf-8") == "keep" and not (tmp_path / "nowhere").exists()
    assert "neither .md nor .json" in obeyed(chat, f"/export {folder}/talk.sh")
    (folder / "d.md").mkdir()
    assert "is a folder" in obeyed(chat, f"/export {folder}/d.md!")
    assert "can't write" in obeyed(chat, f"/export {tmp_path}/none/talk.md")
    before = sorted(os.listdir(folder))
    assert [name for name in before if name.startswith(".")] == []


def test_copy_sends_base64_alone_and_no_more_than_terminals_take(opened: Open, bot: Bot) -> None:
    name = bot("copied", {"text": "ready: é"}, {"text": "x" * 80_000})
    chat = opened("chat", name, columns=WIDE)
    chat.ready()
    asked(chat, "one", "ready")
    chat.raw = ""
    assert "sent to the clipboard" in obeyed(chat, "/copy")
    (sent,) = re.findall(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", chat.raw)
    assert base64.b64decode(sent).decode() == "ready: é"
    shown(chat, "two", "xxx")
    chat.ready()
    chat.raw = ""
    assert "too long to copy: 80,000 bytes" in obeyed(chat, "/copy")
    assert "]52;" not in chat.raw


def test_edit_opens_the_editor_with_the_answer_below_a_line(opened: Open, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\ncp "$1" {seen}\nsed -i "1s/.*/select 5 as edited;/" "$1"\n')
    editor.chmod(0o700)
    chat = opened("chat", "my_pg_bot", EDITOR=str(editor), columns=WIDE)
    chat.ready()
    asked(chat, "select 4 as four;", "(1 row)")
    shown(chat, "/edit draft", "select 5 as edited;")
    chat.type(ENTER)
    chat.stands("sql_query(select 5 as edited;)")
    chat.ready()
    text = seen.read_text(encoding="utf-8")
    assert text.startswith("draft\n\n---") and "\n> " in text
    failing = opened("chat", "my_pg_bot", EDITOR="false", columns=WIDE)
    failing.ready()
    assert 'problem with the editor "false"' in obeyed(failing, "/edit")


def test_clear_begins_anew_on_an_empty_screen_and_keeps_the_run(chat: Terminal) -> None:
    asked(chat, "select 1 as one;", "(1 row)")
    name = run_name(chat)
    chat.raw = ""
    chat.say("/clear")
    said = chat.stands(f"run {name} kept, /resume {name} goes on")
    chat.ready()
    assert "(1 row)" not in said
    assert "\x1b[H\x1b[2J" in chat.raw and "\x1b[3J" not in chat.raw  # what is above stays
    assert "begins with your first message" in obeyed(chat, "/cost")


def test_sql_reads_as_the_agent_and_changes_nothing(
    chat: Terminal, here: Aosctl, order: Order, shop_dsn: str
) -> None:
    said = obeyed(chat, "\\dt")
    assert "orders" in said and "shop" in said and "aos_core" not in said
    assert "order_id" in obeyed(chat, "\\d shop.orders")
    said = obeyed(chat, "/sql select count(*), 'é' as letter from orders")
    assert "letter" in said and "(1 row)" in said
    role = obeyed(chat, "\\sql select current_user as me")
    assert "aos_sql_" in role and INSTALLER not in role
    assert "(SQLSTATE 42P01)" in obeyed(chat, "/sql select * from aos_core.nothing_here")
    said = obeyed(chat, f"/sql {order.delete}")
    assert "error:" in said and order.exists()
    said = obeyed(chat, "/sql with gone as (delete from orders returning 1) select * from gone")
    assert "error:" in said and order.exists()
    assert "error:" in obeyed(chat, "/sql select * from aos_auth.principal")
    said = obeyed(chat, "/sql select E'\\x1b[31mred\\x1b]0;owned\\x07' as colour")
    assert "\\u001b[31mred" in said
    assert "\x1b]0;" not in chat.raw
    assert "which statement?" in obeyed(chat, "/sql")
    assert "no such command: \\zz" in obeyed(chat, "\\zz")
    assert "\\dn" in obeyed(chat, "\\?")
    many = "select * from generate_series(1, 51) as n"
    assert "51 rows were read, the first 50 are shown; \\sql+ shows all" in obeyed(
        chat, f"/sql {many}"
    )
    for everything in ("\\sql+", "/sql+"):
        said = obeyed(chat, f"{everything} {many}")
        assert "(51 rows)" in said and "are shown" not in said
    said = obeyed(chat, "\\sql+ select * from generate_series(1, 120) as n")
    assert "cut at the skill's limit, spec.maxRows" in said
    assert "(0 rows)" in obeyed(chat, "\\d nothing'; drop table orders; --")
    with psycopg.connect(shop_dsn) as connection:
        (looked,) = connection.execute(
            "select count(*) from aos_core.event where kind = 'agent.looked'"
        ).fetchone() or (0,)
    assert looked >= 8


def completed(chat: Terminal, typed: str, line: str) -> None:
    """Type the beginning of a line and TAB; wait until the line stands there."""
    chat.type(f"{typed}\t")
    chat.until(lambda: chat.typed == f"> {line}", f"{line} after {typed}")


def test_tab_completes_commands_and_what_they_take(chat: Terminal) -> None:
    completed(chat, "/cle", "/clear")
    chat.type(CTRL_C)
    asked(chat, "select 1 as one;", "(1 row)")
    name = run_name(chat)
    chat.say("/new")
    chat.stands("a new conversation with my_pg_bot begins")
    chat.ready()
    completed(chat, f"/resume {name[:-2]}", f"/resume {name}")
    chat.type(ENTER)
    chat.stands("── earlier")
    chat.ready()
    before = chat.standing.count("(1 row)")
    completed(chat, "/sql select count(*) from custo", "/sql select count(*) from customer")
    chat.type(ENTER)
    chat.until(lambda: chat.standing.count("(1 row)") > before, "the number")
    chat.ready()
    completed(chat, "/model offl", "/model offline")
    chat.type(ENTER)
    chat.stands("is with offline already")
    chat.ready()


def test_steer_goes_into_the_turn_that_another_process_drives(
    opened: Open, chat: Terminal, order: Order
) -> None:
    shown(chat, order.delete, QUESTION)
    chat.type("d")
    chat.ready()
    assert "steered" in obeyed(chat, "/steer only this one")


LONG = " ".join(["word"] * 250)


def test_a_long_conversation_goes_on_with_a_summary(opened: Open, bot: Bot) -> None:
    name = bot("compacter", {"text": "one"}, {"text": f"{LONG} two"},
               {"text": "In short: you said first."}, {"text": f"{LONG} three"},
               {"error": {"kind": "bad_request", "message": "no summary today"}})  # fmt: skip
    chat = opened("chat", name, columns=WIDE)
    chat.ready()
    assert "begins with your first message" in obeyed(chat, "/compact")
    asked(chat, "first", "one")
    assert "has too little to sum up: at most" in obeyed(chat, "/compact")
    asked(chat, "second", "two")
    assert "left out" not in obeyed(chat, "/context")
    said = obeyed(chat, "/compact what I said")
    assert "In short: you said first." in said
    assert "compacted · steps 1 to 4 are kept, and the model reads the summary instead" in said
    assert " 0 tokens before" not in said
    context = obeyed(chat, "/context")
    assert "your messages (1)" in context and "4 steps left out by /compact, about" in context
    log = obeyed(chat, "/logs")
    assert "Above all, keep: what I said" in log and "compacted, steps 1 to 4 left out by" in log
    assert "nothing to sum up since its last summary" in obeyed(chat, "/compact")
    asked(chat, "third", "three")
    said = obeyed(chat, "/compact")
    assert "no summary today" in said and "nothing was compacted" in said
    assert "your messages (2)" in obeyed(chat, "/context")


def test_context_tells_what_compact_left_out_from_what_went_by_itself(
    opened: Open, here: Aosctl
) -> None:
    too_long = {"error": {"kind": "context_too_long", "message": "too many tokens"}}
    # A summary is asked for in a conversation of its own, and so is the first entry each time.
    script = [{"text": f"{LONG * 3} one"}, {"text": f"{LONG[:400]} two"},
              {"text": "In short."}, too_long]  # fmt: skip
    small = "contextWindow: 1200, maxOutputTokens: 100, script: "
    model = BOTS.replace("script: {script}", f"{small}{{script}}")
    text = model.format(name="outgrower", script=json.dumps(script), limits="{}")
    assert here("apply", "-f", "-", stdin=text).status == 0
    chat = opened("chat", "outgrower", columns=WIDE)
    chat.ready()
    asked(chat, "first", "one")
    assert "the context was full" in shown(chat, "second", "two", ready=True)
    said = obeyed(chat, "/context")
    itself = "2 steps left out by itself (it would not have fit), about"
    assert itself in said and "/compact" not in said
    assert "compacted" in obeyed(chat, "/compact")
    said = obeyed(chat, "/context")
    assert itself in said and "4 steps left out by /compact, about" in said
    asked(chat, "third", "the context was full")
    said = obeyed(chat, "/context")
    assert "left out by itself (the service found it too long), about" in said


def test_what_a_message_names_goes_with_it(
    opened: Open, bot: Bot, here: Aosctl, tmp_path: Path, shop_dsn: str
) -> None:
    name = bot("reader", *({"text": f"answer {number}"} for number in range(3)))
    notes = tmp_path / "notes.txt"
    notes.write_text("buy milk\nand \x1b[31mbread\n")
    (tmp_path / "big.log").write_bytes(b"x" * 70_000)
    chat = opened("chat", name, columns=WIDE)
    chat.ready()
    asked(chat, "mail me@notes.txt about @property", "answer 0")
    run = run_name(chat)
    said = shown(chat, "what has @agent/my_pg_bot? @agent/nobody", "answer 1", ready=True)
    assert "@agent/my_pg_bot attached · " in said and "asked about" not in said
    assert json.loads(here("get", "run", run, "-o", "json").out)["status"].get("taint") is None
    chat.say(f"and what is in @{tmp_path}/big.log")
    chat.stands("has 70,000 bytes, and at most 65,536 are attached")
    chat.stands("nothing was sent")
    chat.until(lambda: chat.typed.endswith("big.log"), "the draft")
    chat.type(CTRL_C)
    chat.ready()
    for typed, completed in (("in @age", "in @agent/"), ("my_p", "@agent/my_pg_bot")):
        chat.type(f"{typed}\t")
        chat.stands(f"> {completed}" if completed.startswith("in") else completed)
    chat.type(f" and @{tmp_path}/not\t")
    chat.stands(f"and @{notes}")
    chat.type(CTRL_C)
    chat.ready()
    said = shown(chat, f"what is in @{notes}?", "answer 2", ready=True)
    assert f"@{notes} attached · 2 lines; from here on what changes or sends something" in said
    with psycopg.connect(shop_dsn) as connection:
        found = connection.execute(
            "select r.taint, t.message::text from aos_core.run_status r"
            " join aos_core.transcript t on t.tenant_id = r.tenant_id and t.run_id = r.run_id"
            " where r.name = %s and t.role = 'user' order by t.seq", (run,),
        ).fetchall()  # fmt: skip
    assert len(found) == 3 and "attached" not in found[0][1]
    assert "kind: Agent" in found[1][1] and "untrusted" not in found[1][1]
    assert "buy milk" in found[2][1] and found[2][0] == f"@{notes}, step 5"
    chat.say("/rewind 1")
    chat.stands("↩ forked")
    chat.until(lambda: chat.typed == f"> what is in @{notes}?", "what was typed alone")
