"""What reaches a terminal that somebody sits at, whatever the world holds: pickers, menus, watches.

`test_hygiene_grid` has the commands that print and end; here are those that stay, in the same
tenant, where every text is an attack. The terminal is 80 columns wide, then 20, then 300.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from aosctl.terminal import clean
from hostile import ATTACKS, EVERYTHING, World
from kernels import say
from terminal import CTRL_C, CTRL_D, ENTER, ESCAPE, ROWS, Terminal

WIDTHS = (80, 20, 300)
OWN = re.compile(
    "\x1b\\[[0-9;]*[mABCDHJK]|\x1b\\[\\?(?:1|7|12|25|1049|2004)[hl]|\x1b\\[[0-9]* q"
    "|\x1b\\]9;aosctl: [ -~]*\x07"
)
"""What we draw with: colours, the cursor's moves, what is erased; and the call to an approval."""
FORGED = re.compile("(status: +approved|error: forged)", re.IGNORECASE)
TAB = "\t"
Open = Callable[..., Terminal]


@pytest.fixture
def opened(world: World) -> Iterator[Open]:
    """Open terminals, of the first width, whose streams are checked at the end."""
    terminals: list[Terminal] = []

    def start(*words: str) -> Terminal:
        env = world.env(EDITOR="true", AOSCTL_NO_BELL="1")
        terminals.append(Terminal(env, *words, columns=WIDTHS[0]))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.__exit__()
        check(terminal)


def found(raw: str) -> list[str]:
    """Return the attacks that are in what a terminal got."""
    return [name for name, (_, forbidden) in ATTACKS.items() if re.search(forbidden, raw)]


def check(terminal: Terminal) -> None:
    """See that a terminal got text, our own drawing and nothing else, and no line of others'."""
    assert not found(terminal.raw)
    text = re.sub("[\r\b\x07]", "", OWN.sub("", terminal.raw))
    odd = {each for each in text if clean(f"é{each}é") != f"é{each}é"}
    assert not odd, [text[max(text.index(each) - 60, 0) :][:90] for each in odd]
    lines = [*OWN.sub("", terminal.raw).replace("\r", "").split("\n"), *terminal.lines]
    assert not [line for line in lines if FORGED.match(line)]


def at_each_width(terminal: Terminal, ready: Callable[[int], bool], what: str) -> None:
    """Give a terminal each width; wait until its picture is as `ready` tells of that width."""
    for columns in (*WIDTHS[1:], WIDTHS[0]):
        terminal.resize(ROWS, columns)
        terminal.until(lambda columns=columns: ready(columns), f"{what} at {columns} columns")


def test_the_check_sees_every_attack_that_comes_through(world: World, opened: Open) -> None:
    """A control: a file that is shown as it is, on the same terminal, by the same shell."""
    (world.home / "evil").write_text(world.names["TEXT"] + "\nTHE END\n")
    with Terminal(world.env(), "shell", columns=300) as shell:
        shell.stands("acme>")
        shell.say(f"!cat {world.home}/evil")
        shell.expect_text("THE END")
        assert set(ATTACKS) - set(found(shell.raw)) == {"E56 markup"}
        with pytest.raises(AssertionError):
            check(shell)


def test_top_stays_a_table(world: World, opened: Open) -> None:
    top = opened("top", "-a")
    top.stands("keys: q quit")
    top.stands("hostile-")

    def is_drawn(columns: int) -> bool:
        rows = [line for line in top.lines if re.match("(RUN|clerk-|hostile-)", line)]
        whole = "WAITING-ON" in top.standing
        return (
            len(rows) > 9
            and whole is (columns > 20)
            and all(row[14:17].strip() == "" for row in rows)
        )

    at_each_width(top, is_drawn, "the table")
    top.type("q")
    assert top.status() == 0


def test_watches_append_rows(world: World, opened: Open) -> None:
    tenant = world.tenant
    lines = ("get approvals -w", "get runs -o wide -w", "ps -w -a")
    watches = [opened(*line.split()) for line in lines]
    for watch in watches:
        watch.expect_text("clerk-")
    for columns in WIDTHS:
        for watch in watches:
            watch.resize(ROWS, columns)
        asked = tenant.asked("sql_execute", {"statement": world.names["TEXT"]}, "clerk")
        for watch in watches:
            watch.expect_text(str(tenant.run_row(asked.run)["name"]))
        tenant.decide(asked.call, "denied", world.names["TEXT"])
    for watch in watches:
        watch.type(CTRL_C)
        assert watch.status() == 130


def test_the_inbox_shows_what_is_hidden(world: World, opened: Open) -> None:
    tenant = world.tenant
    for _ in range(len(WIDTHS) + 1):
        tenant.asked("sql_execute", {"statement": world.names["TEXT"]}, "clerk")
    inbox = opened("approve", "-i")
    for number, next_width in enumerate((*WIDTHS[1:], 80), 1):
        inbox.expect_text(f"{number} of ")
        said = inbox.expect_text(", then Enter > ")
        assert "what would run:" in said and "\\u001b[2J" in said and "\\u202edlrow" in said
        inbox.type("?" + ENTER)
        inbox.expect_text(", then Enter > ")
        inbox.type("n" + ENTER)
        inbox.expect_text("> ")
        inbox.resize(ROWS, next_width)
        inbox.type("no" + ENTER)
    inbox.expect_text(", then Enter > ")
    inbox.type("q" + ENTER)
    assert inbox.status() == 0


def test_what_is_attached_to_stays_below_its_speaker(world: World, opened: Open) -> None:
    tenant = world.tenant
    run = tenant.start_run("hostile")
    attached = opened("attach", str(tenant.run_row(run)["name"]))
    attached.expect_text("Ctrl-C detaches")
    for columns in WIDTHS:
        attached.resize(ROWS, columns)
        tenant.respond(tenant.open(run, world.names["TEXT"], p_worker="w1"), say(EVERYTHING))
        for _ in ("user", "agent"):
            attached.expect_text("</E56 markup>")
    attached.type(CTRL_C)
    assert attached.status() == 0


def test_a_trace_is_drawn_in_its_place(world: World, opened: Open) -> None:
    tenant = world.tenant
    asked = tenant.asked("sql_execute", {"statement": world.names["TEXT"]}, "clerk")
    name = str(tenant.run_row(asked.run)["name"])
    trace = opened("trace", "-w", name)

    def is_there_once(columns: int) -> bool:
        # What a terminal wraps anew as it gets narrower is none of this one's doing.
        text = "".join(line.ljust(columns) for line in trace.lines)
        return text.count(f"run {name}") == text.count("└─ approval ") == 1

    trace.until(lambda: is_there_once(WIDTHS[0]), "the trace")
    at_each_width(trace, is_there_once, "the trace")
    trace.type(CTRL_C)
    assert trace.status() == 130


def picked(terminal: Terminal, title: str) -> Callable[[int], bool]:
    """Return what tells whether a picker stands there: its title, its rows, its keys, no more."""

    def stands(columns: int) -> bool:
        lines = terminal.lines
        first = max((n for n, line in enumerate(lines) if line == title[: columns - 1]), default=-1)
        rows = [line for line in lines[first + 1 :] if line]
        marked = [line for line in rows[:-1] if line.startswith("> ")]
        others = [line for line in rows[:-1] if line.startswith("  ")]
        keys = rows[-1:] and re.match("([0-9]+ more rows? · )?up", rows[-1])
        return first >= 0 and bool(keys) and len(marked) == 1 and len(others) == len(rows) - 2

    return stands


def test_pickers_keep_a_row_a_row(world: World, opened: Open) -> None:
    chat = opened("chat", "--pick")
    chat.stands("Go on with")
    at_each_width(chat, picked(chat, "Go on with"), "the picker")
    chat.type("hostile-")  # letters of the texts themselves
    chat.until(lambda: picked(chat, "Go on with · hostile-")(WIDTHS[0]), "what has these")
    chat.type(ESCAPE)
    assert chat.status() == 130


def test_what_was_said_and_is_a_draft_again(world: World, opened: Open) -> None:
    tenant = world.tenant
    run = tenant.start_run("hostile")
    for _ in range(2):
        tenant.respond(tenant.open(run, world.names["TEXT"], p_worker="w1"), say(EVERYTHING))
    chat = opened("chat", "--resume", str(tenant.run_row(run)["name"]))
    chat.ready()
    chat.say("/rewind")
    chat.stands("Go back to before")
    title = next(line for line in chat.lines if line.startswith("Go back to before"))
    at_each_width(chat, picked(chat, title), "the picker")
    chat.type(ENTER)
    chat.until(lambda: chat.typed == "  error: forged", "the end of the draft")
    chat.type("\x1b[200~pas\u202eted\x1b[201~")
    for columns in (*WIDTHS[1:], WIDTHS[0]):
        chat.resize(ROWS, columns)
        end = "  02e>ted" if columns == 20 else "  error: forgedpas<202e>ted"
        chat.until(lambda end=end: chat.typed == end, "the end of the draft")
    chat.type(CTRL_C)
    chat.ready()
    chat.say("/fork")
    chat.stands("↩ forked from")
    chat.ready()
    for columns in (*WIDTHS[1:], WIDTHS[0]):
        chat.resize(ROWS, columns)
        chat.until(lambda: chat.typed == ">", "the prompt")
    chat.say("/ps")
    chat.stands("WAITING-ON")
    chat.ready()
    chat.type(CTRL_D)
    assert chat.status() == 0


def test_the_box_of_an_approval_in_a_chat(world: World, opened: Open) -> None:
    asked = world.tenant.asked("sql_execute", {"statement": world.names["TEXT"]}, "clerk")
    chat = opened("chat", "--resume", str(world.tenant.run_row(asked.run)["name"]))
    said = chat.stands("d later >")
    assert "\\u001b[2J" in said and "\\u202edlrow" in said
    for columns in (*WIDTHS[1:], WIDTHS[0]):
        chat.resize(ROWS, columns)
        before = chat.seen.count("it goes on waiting")
        chat.until(
            lambda columns=columns: chat.typed.endswith("d later >" if columns > 20 else "  >"),
            "it",
        )
        chat.press("?")
        chat.until(lambda before=before: chat.seen.count("asked because") > before, "it explained")
    chat.press("d")
    chat.stands("left pending")
    chat.ready()
    chat.type(CTRL_D)
    assert chat.status() == 0
    assert world.tenant.call_state(asked.call) == "awaiting_approval"


def offered(shell: Terminal) -> bool:
    """Tell whether a menu stands there; type the last letter again: the names may be known now."""
    if "table" in shell.standing.rpartition("=>")[2]:
        return True
    shell.type("\x7f0")
    return False


def test_menus_and_lines_of_the_shell(world: World, opened: Open) -> None:
    admin = world.tenant.database.superuser
    admin.execute("create schema odd; grant usage on schema odd to public")
    for number, (text, _) in enumerate(ATTACKS.values()):
        name = sql.Identifier("odd", f"t{number} {text}"[:40])
        admin.execute(sql.SQL("create table {} ()").format(name))
        admin.execute(sql.SQL("grant select on {} to public").format(name))
    shell = opened("shell")
    shell.until(lambda: shell.typed == "acme>", "the prompt")
    shell.type(f"apply -f {world.home}/o" + TAB)
    shell.stands("odd/")
    at_each_width(shell, lambda _: "odd/" in shell.standing, "the menu")
    shell.type(TAB)
    shell.until(lambda: "<202e>" in shell.standing, "what it offered")
    shell.type(CTRL_C)
    shell.until(lambda: shell.typed == "acme>", "the prompt")
    shell.say("\\sql")
    shell.until(lambda: shell.typed == "acme=>", "the prompt")
    shell.type("select * from odd.t0")
    shell.until(lambda: offered(shell), "the menu")
    shell.type(CTRL_C)
    for number in range(len(ATTACKS)):
        shell.until(lambda: shell.typed == "acme=>", "the prompt")
        shell.type(f"select * from odd.t{number}")  # noqa: S608 - a number
        shell.until(lambda: "table" in shell.standing.rpartition("=>")[2], "the menu")
        shell.type(TAB)
        name = f'odd."t{number} '
        shell.until(lambda name=name: name in shell.standing, name)
        shell.type(CTRL_C)
    shell.until(lambda: shell.typed == "acme=>", "the prompt")
    shell.say("\\dt odd.*")
    shell.stands("t9 \\u001b]8;;")
    shell.until(lambda: shell.typed == "acme=>", "the prompt")
    shell.type(CTRL_D)
    shell.until(lambda: shell.typed == "acme>", "the prompt")
    shell.type(CTRL_D)
    assert shell.status() == 0
