"""The chat's prompt stays open: what stands on the screen while the agent works."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bots import Order
from command import AOSCTL, Aosctl
from kernels import KernelDatabase
from providers.wire_openai import OpenAIWire, Reply, Request, calls, text
from talks import PATIENCE_SECONDS, until
from terminal import (
    CTRL_C,
    CTRL_D,
    CTRL_G,
    CTRL_J,
    CTRL_O,
    CTRL_R,
    CTRL_Z,
    ENTER,
    ESCAPE,
    QUESTION,
    UP,
    Ghost,
    Terminal,
    Xterm,
)

MODEL = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: streamer}}
spec:
  provider: openai
  model: wire-1
  baseUrl: {url}
  contextWindow: 32768
  pricing: {{inputUsdPerMtok: 1000, outputUsdPerMtok: 1000}}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: streamer, tenant: tech_corp}}
spec: {{model: streamer, systemPrompt: You stream.}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: streamer, tenant: tech_corp}}
spec: {{persona: streamer, skills: [sql_query, sql_execute]}}
"""
BUSY = "Enter queues · Esc interrupts"


class Stream:
    """An answer that goes on, piece by piece, when the test lets it."""

    def __init__(self, *pieces: str) -> None:
        self._go = [threading.Event() for _ in pieces]
        whole = text(*pieces).body
        self._body = (whole[0], *whole[1:])
        self.asked = threading.Event()

    def let_go(self, until: int | None = None) -> None:
        for event in self._go[:until]:
            event.set()

    def __call__(self, _request: Request) -> Reply:
        self.asked.set()
        return Reply(_Held(self._body, self._go))  # type: ignore[arg-type]


class _Held:
    """A body whose words wait for their events."""

    def __init__(self, body: tuple[bytes, ...], go: list[threading.Event]) -> None:
        self._body, self._go = body, go

    def __iter__(self) -> Iterator[bytes]:
        for number, part in enumerate(self._body):
            if 0 < number <= len(self._go):
                assert self._go[number - 1].wait(PATIENCE_SECONDS)
            yield part


@dataclass
class Talk:
    """A chat with the agent "streamer", whose model is `wire`."""

    wire: OpenAIWire
    open: Callable[..., Terminal]


@pytest.fixture
def talk(here: Aosctl, shop: dict[str, str], tmp_path: Path) -> Iterator[Talk]:
    terminals: list[Terminal] = []
    with OpenAIWire() as wire:
        done = here("apply", "-f", "-", stdin=MODEL.format(url=wire.base_url))
        assert done.status == 0, done.err

        def open_chat(
            *arguments: str,
            rows: int = 40,
            columns: int = 100,
            term: str = "xterm-256color",
            emulator: type[Xterm] | type[Ghost] = Xterm,
            **env: str,
        ) -> Terminal:
            settings = {**shop, "OPENAI_API_KEY": "k", "XDG_STATE_HOME": str(tmp_path), **env}
            words = arguments or ("chat", "streamer")
            terminals.append(
                Terminal(settings, *words, rows=rows, columns=columns, term=term, emulator=emulator)
            )
            return terminals[-1]

        yield Talk(wire, open_chat)
        for terminal in terminals:
            terminal.__exit__()


def test_stream_queue_and_resizes_leave_each_line_once(talk: Talk) -> None:
    """The live tail, the spinner and the queue stand above the prompt; blocks are printed once."""
    stream = Stream(
        "A *first* para", "graph, 漢字 🎉.\n\nA **second", "** one.\n\n- an item", "\n- last."
    )
    second = Stream("Then this.")
    talk.wire.queue += [stream, second, text("And that.")]
    chat = talk.open()
    chat.ready()
    chat.say("tell me")
    chat.stands(" thinking · ")
    chat.stands("+ " + BUSY)
    stream.let_go(1)
    chat.stands("\nA *first* para\n")
    chat.type("and the" + CTRL_J + "rest" + ENTER + "more" + ENTER + "half a thou")
    chat.stands("queued: and the rest\nqueued: more\n+ half a thou")
    stream.let_go(2)
    chat.stands("A **second", "A first paragraph, 漢字 🎉.")
    chat.gone("*first*")
    for columns in (60, 30, 20, 100):
        chat.resize(40, columns)
        chat.until(lambda: "A **second" in chat.standing, "the tail")
    chat.type(CTRL_C)  # what is typed goes, the turn goes on
    chat.gone("half a thou")
    chat.type(UP)
    chat.stands("queued: and the rest\n+ more")
    chat.type(" of it" + ENTER)
    stream.let_go()
    chat.stands("> and the\n  rest")
    second.let_go()
    chat.stands("And that.")
    chat.ready()
    for once in ("> tell me", "A first paragraph", "A second one.", " • an item", " • last.",
                 "> and the", "Then this.", "> more of it", "And that."):  # fmt: skip
        assert chat.standing.count(once) == 1, chat.standing
    assert "**" not in chat.standing and "queued" not in chat.standing
    assert " thinking · " not in chat.standing and " writing · " not in chat.standing
    assert [one.messages[-1]["content"] for one in talk.wire.requests] == [
        "tell me", "and the\nrest", "more of it",
    ]  # fmt: skip
    used = re.compile(r"streamer-.* · 25/33k ctx · \$0\.0750 · tech_corp")
    chat.until(lambda: used.match(chat.standing.splitlines()[-1]) is not None, "the footer")
    chat.resize(40, 20)
    chat.until(lambda: chat.standing.splitlines()[-1].count("·") <= 1, "a short footer")
    chat.type(CTRL_D)
    assert chat.status() == 0


WIDE = "漢字とかな交じり文" * 6
"""An odd number of wide characters: some width has half a cell left for the last one."""


@pytest.mark.parametrize("emulator", [Xterm, Ghost])
def test_a_window_that_changes_while_it_streams_loses_and_doubles_nothing(
    talk: Talk, emulator: type[Xterm] | type[Ghost]
) -> None:
    """Long lines, wide characters at the right edge, emoji; narrower and wider, in the middle."""
    prose = " ".join(f"word{number}" for number in range(40))
    stream = Stream(
        f"First {prose}", f".\n\n{WIDE}", f" 🎉👩‍💻.\n\n```\n{'=' * 130}\n", "```\n\nLast."
    )
    talk.wire.queue += [stream, text("Again.")]
    chat = talk.open(emulator=emulator, columns=80)
    chat.ready()
    chat.say("tell me")
    for number, (columns, shown) in enumerate(
        [(41, "word39"), (100, "漢字"), (23, "==="), (61, "==="), (80, "===")], 1
    ):
        stream.let_go(number) if number < 4 else None
        chat.stands(shown)
        chat.resize(40, columns)
        chat.until(lambda: "+ " in chat.typed, "the prompt")
    stream.let_go()
    chat.stands("Last.")
    chat.ready()
    chat.say("and again")
    chat.stands("Again.")
    chat.ready()
    whole = "".join(chat.standing.split())
    for once in ("Last.", ">tellme", "Again.", ">andagain", "First"):
        assert whole.count(once) == 1, (once, chat.standing)
    for once in (*(f"word{number}" for number in (0, 17, 39)), WIDE, "=" * 130, "🎉"):
        # An xterm cuts off what stood at the right when it gets narrower.
        assert whole.count(once) in ((1,) if emulator is Ghost else (0, 1)), (once, chat.standing)
    assert "Enter queues" not in chat.standing and "writing" not in chat.standing
    chat.type(CTRL_D)
    assert chat.status() == 0


def test_without_streaming_an_answer_comes_whole_and_an_ephemeral_run_is_closed(
    talk: Talk, here: Aosctl
) -> None:
    stream = Stream("A first ", "part.\n\nA second one.")
    talk.wire.queue += [stream, text("Bye.")]
    chat = talk.open("chat", "streamer", "--no-stream", "--ephemeral")
    chat.ready()
    chat.say("tell me")
    stream.let_go(1)
    chat.stands("+ " + BUSY)
    chat.say("and more")
    chat.stands("queued: and more")
    assert "A first" not in chat.seen and "A second" not in chat.seen
    stream.let_go()
    chat.stands("Bye.")
    chat.ready()
    for once in ("A first part.", "A second one.", "> and more", "Bye."):
        assert chat.standing.count(once) == 1, chat.standing
    chat.type(CTRL_D)
    assert chat.status() == 0
    closed = re.search(r"run (\S+) closed \(--ephemeral\)", chat.standing)
    assert closed is not None, chat.standing
    again = here("chat", "--resume", closed[1], "more")
    assert (again.status, again.out) == (1, "") and closed[1] in again.err


def test_ctrl_c_and_escape_stop_the_turn_and_keep_what_was_said(talk: Talk) -> None:
    """Keys that begin with Escape do not stop it; what is queued becomes a draft."""
    for key in (CTRL_C, ESCAPE):
        _stop(talk, key)
    assert len(talk.wire.requests) == 2


def _stop(talk: Talk, key: str) -> None:
    stream = Stream("Once upon", " a time.")
    talk.wire.queue.append(stream)
    chat = talk.open()
    chat.ready()
    chat.say("a story")
    stream.let_go(1)
    chat.stands("\nOnce upon\n")
    chat.type("x\x1bb\x1bf\x1b[D\x1b[C\x1bq\x1b[200~y\x1b[201~\x1bOz" + ENTER)
    chat.stands("queued: x")
    chat.type(key)
    chat.stands("interrupted · run streamer-", " kept · /resume")
    assert chat.standing.count("Once upon") == 1
    stream.let_go()
    seen = chat.until(lambda: chat.typed.startswith("> x"), "the draft")
    assert "queued" not in seen
    chat.type(CTRL_C)
    chat.gone("> x")
    chat.say("/ps")
    chat.stands("turn 1 cancelled")
    chat.type(CTRL_D)
    assert chat.status() == 0
    assert "kept · aosctl chat --resume streamer-" in chat.standing


def test_steered_text_reaches_the_turn_that_runs(talk: Talk) -> None:
    stream = Stream("Look", "ing.")
    talk.wire.queue += [stream, text("In Rome."), text("In May.")]
    chat = talk.open()
    chat.ready()
    chat.say("where?")
    assert stream.asked.wait(PATIENCE_SECONDS)
    chat.say("/steer the one in Italy")
    chat.stands("> the one in Italy")
    chat.type("\x1bs")  # with nothing typed: nothing
    stream.let_go()
    chat.stands("In Rome.")
    chat.ready()
    assert talk.wire.requests[1].messages[-1]["content"] == "the one in Italy"
    chat.say("when?")
    chat.stands("In May.")
    chat.ready()
    assert "queued" not in chat.standing


def test_call_is_folded_and_expands_again_and_again(talk: Talk) -> None:
    query = "select 7 as seven, chr(27) || '[2J' || chr(8238) || 'x' as text"
    talk.wire.queue += [
        calls(("sql_query", {"query": query})), text("Seven."),
        calls(("sql_query", {"query": "select 8 as eight"})), text("Eight."),
    ]  # fmt: skip
    chat = talk.open()
    chat.ready()
    chat.type(CTRL_O)
    chat.stands("no call to show in full yet")
    chat.say("seven")
    chat.stands("Seven.")
    chat.ready()
    chat.say("eight")
    seen = chat.stands("Eight.")
    assert "⏺ sql_query(select 8 as eight) · " in seen and " · 1 row\n" in seen
    chat.ready()
    chat.type(CTRL_O)
    chat.stands("  query: select 8 as eight\n\n  eight\n  ─────\n  8")
    chat.type(CTRL_O)
    chat.stands("\n  7      \\u001b[2J\\u202ex")
    chat.type(CTRL_O)
    chat.stands("no call before that one")
    assert "\u202e" not in chat.raw


def answering(talk: Talk) -> tuple[Stream, Terminal]:
    """Let the model be in the middle of an answer; the next one follows it."""
    stream = Stream("Nev", "er")
    talk.wire.queue += [stream, text("Here I am.")]
    chat = talk.open()
    chat.ready()
    chat.say("wait for me")
    stream.let_go(1)
    chat.stands("Nev")
    return stream, chat


def test_detaching_leaves_the_turn_to_the_next_chat(talk: Talk) -> None:
    stream, chat = answering(talk)
    chat.type(CTRL_D)
    chat.stands("Ctrl-D again within 2s leaves")
    chat.type(CTRL_D)
    assert chat.status() == 0
    stream.let_go()
    again = talk.open("chat", "-c", "streamer")
    again.stands("Here I am.")
    again.ready()


def test_hangup_keeps_the_run_and_its_turn(talk: Talk) -> None:
    stream, chat = answering(talk)
    os.kill(chat.pid, signal.SIGHUP)
    chat.status()
    stream.let_go()
    again = talk.open("chat", "-c", "streamer")
    again.stands("Here I am.")
    again.ready()


def test_a_terminal_that_goes_away_while_a_tool_runs_leaves_the_call_to_the_next_chat(
    talk: Talk, kernel_database: KernelDatabase
) -> None:
    query = "select count(*) from pg_sleep(600)"
    talk.wire.queue += [calls(("sql_query", {"query": query})), text("Here I am.")]
    chat = talk.open()
    chat.ready()
    chat.say("sleep")
    waits = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    until(lambda: kernel_database.value(waits) == 1, "the call")
    chat.hang_up()
    assert chat.ended_by() in (0, signal.SIGHUP)
    until(lambda: kernel_database.value(waits) == 0, "the end of the call")
    again = talk.open("chat", "-c", "streamer")
    again.stands("Here I am.")
    again.ready()


def test_stopped_chat_comes_back_with_its_prompt(talk: Talk, shop: dict[str, str]) -> None:
    talk.wire.queue.append(text("Back."))
    settings = {**shop, "OPENAI_API_KEY": "k", "PS1": "sh$ "}
    with Terminal(settings, "--norc", "--noprofile", "-i", command="bash") as shell:
        shell.stands("sh$")
        shell.say(f"{AOSCTL} chat streamer")
        shell.ready()
        shell.type("half a thought" + CTRL_Z)
        shell.stands("Stopped")
        shell.say("fg")
        shell.until(lambda: shell.typed == "> half a thought", "the prompt")
        shell.type(ENTER)
        shell.stands("Back.")
        shell.ready()
        shell.type(CTRL_D)
        shell.until(lambda: shell.typed == "sh$", "the shell")
        shell.say("exit")
        assert shell.status() == 0


def test_approval_rings_asks_and_leaves_the_draft_alone(talk: Talk, order: Order) -> None:
    asked = calls(("sql_execute", {"statement": order.delete}))
    held = threading.Event()

    def reply(_request: Request) -> Reply:
        assert held.wait(PATIENCE_SECONDS)
        return asked

    talk.wire.queue += [reply, text("Gone.")]
    chat = talk.open()
    chat.ready()
    chat.say("delete it")
    chat.stands(BUSY)
    chat.type("yes, and the")
    chat.stands("+ yes, and the")
    held.set()
    chat.stands("d later >")
    assert "\x07\x1b]9;aosctl: sql_execute of streamer needs your approval\x07" in chat.raw
    chat.type(" next year" + ENTER)
    chat.type(ESCAPE)
    chat.stands("left pending")
    chat.until(lambda: chat.typed == "> yes, and the", "the draft")
    assert order.exists()
    chat.type(CTRL_C)
    chat.gone("> yes")
    chat.say("/approvals")
    chat.stands("> /approvals")
    chat.until(lambda: chat.typed.endswith("d later >"), "the question")
    chat.type("y")
    chat.stands("Gone.")
    chat.ready()
    assert not order.exists()


def test_narrow_terminal_asks_in_several_lines(talk: Talk, order: Order) -> None:
    told = text("Gone.\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    talk.wire.queue += [calls(("sql_execute", {"statement": order.delete})), told]
    chat = talk.open(columns=20, rows=30, AOSCTL_NO_BELL="1", NO_COLOR="1")
    chat.ready()
    chat.say("delete it")
    chat.until(lambda: chat.typed == "  >" and "d later" in chat.standing, "the question")
    chat.type("y")
    chat.stands("Gone.\n\n a  b\n ────\n 1  2")
    chat.ready()
    assert "\x07" not in chat.raw and "\x1b[31m" not in chat.raw and "38;5" not in chat.raw


def test_editing_keys_work_while_the_agent_does(talk: Talk, tmp_path: Path) -> None:
    """Bracketed paste, history search, ghost text, completion and the editor."""
    stream = Stream("Hm")
    talk.wire.queue += [stream]
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'from the editor' > \"$1\"\n")
    editor.chmod(0o755)
    chat = talk.open(EDITOR=str(editor))
    chat.ready()
    chat.say("a remembered question")
    assert stream.asked.wait(PATIENCE_SECONDS)
    pasted = "\n".join(f"row {number}" for number in range(1, 31))
    chat.type(f"\x1b[200~{pasted}\x1b[201~")
    chat.stands("row 30")
    chat.type("!" + ENTER)
    chat.stands("queued: row 1 row 2")
    chat.type(CTRL_R + "remem")
    chat.stands("I-search backward: remem")
    chat.type(ENTER)
    chat.until(lambda: chat.typed.startswith("+ a remembered question"), "what was found")
    chat.type(CTRL_C)
    chat.stands(BUSY)
    chat.type("a rem")
    chat.until(lambda: chat.typed == "+ a remembered question", "the ghost")
    chat.type(CTRL_C + "/rewi\t")
    chat.until(lambda: chat.typed.startswith("+ /rewind"), "the completion")
    chat.type(CTRL_C + CTRL_G)
    chat.until(lambda: chat.typed == "+ from the editor", "what the editor left")
    chat.type(CTRL_C + UP)
    chat.stands("row 30!")
    chat.type(CTRL_C)
    stream.let_go()
    chat.stands("Hm")
    chat.ready()
    assert len(talk.wire.requests) == 1


def test_command_runs_while_the_turn_does(talk: Talk) -> None:
    """/cost answers at once, /export waits for its turn: it is queued."""
    stream = Stream("It ", "works.")
    talk.wire.queue += [stream]
    chat = talk.open()
    chat.ready()
    chat.say("tell me")
    assert stream.asked.wait(PATIENCE_SECONDS)
    chat.stands("+ " + BUSY)
    chat.say("/ps")
    assert "It works." not in chat.stands(" · active · turn 1 running · ")
    chat.say("/model streamer")
    chat.stands("queued: /model streamer")
    stream.let_go()
    chat.stands("\nIt works.\n")
    chat.gone("queued: ")
    chat.ready()


def test_dumb_terminal_gets_plain_lines(talk: Talk, order: Order) -> None:
    talk.wire.queue += [text("A *plain* answer.")]
    chat = talk.open(term="dumb")
    chat.expect_text("> ")
    chat.say("tell \\")
    chat.expect_text("  ")
    chat.say("me")
    chat.expect_text("A *plain* answer.")
    assert talk.wire.requests[0].messages[-1]["content"] == "tell \nme"
    chat.expect_text("> ")
    talk.wire.queue += [calls(("sql_execute", {"statement": order.delete})), text("Gone.")]
    chat.say("delete it")
    chat.expect_text(QUESTION)
    chat.say("yes")
    chat.expect_text(QUESTION)
    chat.say("y")
    chat.expect_text("Gone.")
    chat.expect_text("> ")
    assert "\x1b" not in chat.raw and not order.exists()
    chat.type(CTRL_D)
    chat.expect_text(" kept · aosctl chat --resume ")


def test_what_was_typed_at_a_void_question_answers_no_other(
    talk: Talk, order: Order, here: Aosctl
) -> None:
    """A `y` without Enter stands in the terminal's own line when somebody else decides."""
    first = ("sql_execute", {"statement": "delete from orders where order_id = -1"})
    second = ("sql_execute", {"statement": order.delete})
    talk.wire.queue += [calls(first, second), text("Left.")]
    chat = talk.open(term="dumb")
    chat.expect_text("> ")
    chat.say("delete it")
    asked = chat.expect_text(QUESTION)
    chat.type("y")
    approval = asked.split(" id ", 1)[1].split(" ", 1)[0]
    assert here("deny", approval, "--reason", "not now").status == 0
    chat.expect_text("denied by")
    chat.expect_text(QUESTION)
    chat.type(ENTER)
    chat.expect_text(QUESTION)
    assert order.exists()
    chat.say("n")
    chat.expect_text("reason")
    chat.say("")
    chat.expect_text("Left.")
    assert order.exists()
