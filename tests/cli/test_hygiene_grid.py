"""What reaches a terminal, a pipe and a narrow screen, whatever the world holds: every command.

The lines are those of `verb_lines`, in a tenant where every text is an attack (`hostile`); a pass
over all of them is one process. `attack/test_terminal.py` talks with such a tenant's agent.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
import yaml

from aosctl.cli.completion_scripts import entries
from aosctl.terminal import clean
from command import AOSCTL
from hostile import ATTACKS, SECRETS, World, filled
from in_turn import Came, Streams, in_turn
from verb_lines import APART, LINES, Line, fails, shows

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ALL = [line for lines in LINES.values() for line in lines]
FIRST = [lines[0] for lines in LINES.values()]
"""One line of each command."""
OWN = re.compile(r"\r\x1b\[2K")
"""How a line of progress gives way to the next, on a terminal that knows how."""
FORGED = re.compile("(status: +approved|error: forged)", re.IGNORECASE)
AS_IT_IS = ("chat", "run", "shell")
"""An answer is text of several lines, as its agent wrote it."""
VALUES = shows("get all -o jsonpath={.items[*].spec}")
"""Values alone: programs get them as they are."""
FEW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale with few letters."""


class Ran(NamedTuple):
    """A line, the words that were given, and what became of it."""

    line: Line
    words: list[str]
    came: Came

    @property
    def told(self) -> str:
        return self.came.out + self.came.err


def a_pass(
    world: World,
    lines: Sequence[Line],
    streams: Streams = "file",
    *,
    columns: int = 80,
    before: Sequence[str] = (),
    **settings: str,
) -> list[Ran]:
    """Run lines with names of their own; flags that stand before each, and settings, are added."""
    names = world.fresh()
    words = [[*before, *world.words(line.text, names)] for line in lines]
    stdin = {place: filled(line.stdin, names) for place, line in enumerate(lines) if line.stdin}
    came = in_turn(
        words, world.env(**settings), streams, stdin=stdin, columns=columns, cwd=world.home
    )
    return [Ran(*one) for one in zip(lines, words, came, strict=True)]


def found(text: str) -> list[str]:
    """Return the attacks that are in a text."""
    return [name for name, (_, forbidden) in ATTACKS.items() if re.search(forbidden, text)]


def check(ran: Sequence[Ran], *, colours: bool = False, progress: bool = False) -> None:
    """See that all of it is text, and no mishap of ours."""
    wrong = []
    for line, words, came in ran:
        for text in (came.out, came.err):
            shown = COLOUR.sub("", text) if colours else text
            shown = OWN.sub("\n", shown) if progress else shown
            if clean(shown) != shown or found(shown):
                wrong.append((line.text, found(shown), shown[:500]))
            if "Traceback" in text or "error: unexpected " in text.replace("unexpected arg", ""):
                wrong.append((line.text, words, text[:500]))
    assert not wrong, wrong[:5]


def ended(ran: Sequence[Ran]) -> None:
    """See that each ended as it should."""
    wrong = [(one.line.text, one.came.status, one.told[-300:])
             for one in ran if one.came.status != one.line.status]  # fmt: skip
    assert not wrong, wrong


@pytest.fixture(scope="module")
def piped(world: World) -> list[Ran]:
    return a_pass(world, ALL)


def test_every_command_has_its_lines() -> None:
    commands = {" ".join(one.words) for one in entries() if not one.commands}
    lines = {*LINES, *APART} - {"", "__complete"}
    assert sorted(commands - lines) == [], "verb_lines.LINES has nothing of these"
    assert sorted(lines - commands) == []


def test_data_is_on_stdout_and_all_else_on_stderr(piped: list[Ran]) -> None:
    ended(piped)
    wrong = [
        (one.line, one.came.out[:100], one.came.err[:100])
        for one in piped
        if (bool(one.came.out), bool(one.came.err)) != (one.line.out, one.line.err)
    ]
    assert wrong == []


def test_a_pipe_gets_text_and_nothing_else(piped: list[Ran]) -> None:
    check(piped)


def test_no_value_forges_a_line_of_its_own(piped: list[Ran]) -> None:
    wrong = [
        (one.line.text, line)
        for one in piped
        if one.words[0] not in AS_IT_IS
        for line in one.told.split("\n")
        if FORGED.match(line)
    ]
    assert wrong == []


def leaked(text: str) -> list[str]:
    """Return the secrets that are in a text, as they are, quoted or encoded."""
    folded = text.replace("\n", "")
    return [name for name, secret in SECRETS.items()
            if any(form in folded for form in (
                secret, secret.encode().hex(), *(
                    base64.b64encode(b"\0" * shift + secret.encode()).decode()[4:-4]
                    for shift in range(3))))]  # fmt: skip


NOSY: tuple[Line, ...] = (
    shows("config set-context leak --dsn postgresql://u:{CONTEXT}@127.0.0.1:1/x"),
    shows("config view"), shows("config view -o json"), shows("config get-contexts"),
    shows("config view --minify --context leak"), fails("get agents --context leak"),
    fails("db status --context leak"), fails("get agents --dsn postgresql://u:{FLAG}@127.0.0.1:1/x"),
    shows("get secrets -o yaml"), shows("get secrets -o wide"), shows("describe secrets"),
    shows("whoami"), shows("db status"), shows("shell -c {ACTIVITY}"),
)  # fmt: skip
"""Lines that look at what there is of a secret, beside the first line of every command."""
ITS_PURPOSE: tuple[tuple[Line, str], ...] = (
    (shows("config view --raw"), "context's password"),
    (shows("db url"), "password"),
)
"""What shows a secret because that is what it is for, to those who have it already."""


def test_nothing_that_is_printed_or_written_holds_a_secret(world: World, piped: list[Ran]) -> None:
    world.names |= {"CONTEXT": SECRETS["context's password"], "FLAG": SECRETS["flag's password"],
                    "ACTIVITY": "\\sql select * from pg_stat_activity"}  # fmt: skip
    purpose = [line for line, _ in ITS_PURPOSE]
    drawn = [line for line in FIRST if line.text.split()[0] not in ("worker", "quickstart")]
    nosy = a_pass(world, [*NOSY, *drawn], before=["-v=9"])
    wrong = [
        (one.line.text, leaked(one.told))
        for one in (*piped, *nosy)
        if one.line not in purpose and leaked(one.told)
    ]
    assert wrong == []
    assert any("sql: " in one.came.err or "select" in one.came.err for one in nosy), "-v=9 spoke"
    assert [one.line.text for one in nosy[: len(NOSY)] if one.came.status != one.line.status] == []
    files = [path for path in world.home.rglob("*") if path.is_file()]
    kept = {path.name for path in files if leaked(path.read_bytes().decode("latin-1"))}
    assert kept == {"config.yaml"}, "the context's own place, and only that"
    assert len(files) > 5
    shown = a_pass(world, purpose)
    assert [leaked(one.told) for one in shown] == [[name] for _, name in ITS_PURPOSE]


def test_the_texts_themselves_are_shown(piped: list[Ran]) -> None:
    """A control: the lines printed what was planted, and not something else."""
    shown = {one.words[0] for one in piped if one.line.status == 0 and "E55 tags" in one.told}
    assert shown >= {
        "get", "describe", "annotate", "rollout", "ps", "logs", "events", "trace", "approve",
        "resolve", "audit", "export", "chat", "run",
    }  # fmt: skip


def test_what_machines_read_can_be_read(piped: list[Ran]) -> None:
    read = 0
    for line, words, came in piped:
        if line.status or "-o" not in words or "audit" in words:
            continue
        match words[words.index("-o") + 1]:
            case "json":
                lines = [came.out] if came.out.startswith("{\n") else came.out.splitlines()
                assert all(isinstance(json.loads(text), dict) for text in lines), words
            case "stream-json":
                assert json.loads(came.out.splitlines()[-1])["type"] == "result"
            case "yaml":
                assert all(yaml.safe_load_all(came.out)), words
            case _:
                continue
        read += 1
    assert read > 12


def test_pictures_and_pages_have_no_markup_of_others(piped: list[Ran]) -> None:
    written = {one.words[2]: one.words[3] for one in piped if one.words[0] == "trace"
               and one.line.status == 0 and one.words[2:3] and one.words[-1] != "-"
               and one.words[2] in ("--svg", "--html")}  # fmt: skip
    picture = Path(written["--svg"]).read_text("utf-8")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}  # noqa: S314
    assert tags == {"svg", "title", "rect", "text"}
    page = Path(written["--html"]).read_text("utf-8")
    seen: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.add(tag)
            assert not [name for name, _ in attrs if name.startswith("on") or name == "href"]

    Reader().feed(page)
    assert seen <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "table", "tr",
                    "th", "td", "svg", "rect"}  # fmt: skip
    for text in (picture, page):
        assert "&lt;" in text and clean(text) == text and not found(text)


def test_a_row_stays_one_line(piped: list[Ran]) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    for text, column, begins in (
        ("get tenants,models", "NAME", letters), ("get runs -o wide", "NAME", letters),
        ("get personas -L note", "NAME", letters), ("approve", "ID", "0123456789abcdef"),
    ):  # fmt: skip
        out = next(one.came.out for one in piped if one.line.text.startswith(text))
        rows = [line for line in out.splitlines() if line]
        assert len(rows) > 2 and all(line.startswith((column, *begins)) for line in rows), out


@pytest.fixture(scope="module")
def firsts(world: World) -> list[bool]:
    """Tell of each line of FIRST whether it prints where somebody reads."""
    return [bool(one.came.out) for one in a_pass(world, FIRST)]


@pytest.mark.parametrize(("columns", "settings"), [(20, {}), (300, {}), (0, {"COLUMNS": "0"})])
def test_a_terminal_of_any_width_gets_text_and_colours(
    world: World, columns: int, settings: dict[str, str]
) -> None:
    lines = [*ALL, VALUES] if columns == 20 else FIRST
    ran = a_pass(world, lines, "terminal", columns=columns, **settings)
    check(ran, colours=True, progress=True)


@pytest.mark.parametrize(
    ("before", "settings"),
    [((), {"TERM": "dumb"}), ((), {"NO_COLOR": "1", "FORCE_COLOR": "1"}), (("--no-color",), {})],
)
def test_a_terminal_without_colours_gets_letters_alone(
    world: World, before: Sequence[str], settings: dict[str, str]
) -> None:
    ran = a_pass(world, FIRST, "terminal", before=before, **settings)
    check(ran, progress="TERM" not in settings)


def test_colours_are_forced_upon_a_pipe_and_nothing_else_is(world: World) -> None:
    ran = a_pass(world, FIRST, FORCE_COLOR="1")
    check(ran, colours=True)
    assert [one for one in ran if COLOUR.search(one.told)], "the control: somewhere is a colour"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_with_few_letters_gets_those(world: World, encoding: str) -> None:
    ran = a_pass(world, FIRST, PYTHONIOENCODING=encoding, **FEW)
    check([one._replace(came=one.came._replace(
        stdout=one.came.stdout.decode(encoding).encode(),
        stderr=one.came.stderr.decode(encoding).encode(),
    )) for one in ran])  # fmt: skip


def test_a_full_disk_is_said_in_one_line(world: World, firsts: list[bool]) -> None:
    full = "error: can't write the output: No space left on device\n"
    wrong = [
        (one.words, one.came)
        for one, prints in zip(a_pass(world, FIRST, "full"), firsts, strict=True)
        if prints and one.words[0] != "__complete"  # which says nothing, come what may
        and (one.came.status, one.came.err.count(full)) != (1, 1)
    ]  # fmt: skip
    assert not wrong, wrong[:5]


def test_a_reader_that_has_gone_is_no_error(world: World, firsts: list[bool]) -> None:
    wrong = [
        (one.words, one.came)
        for one, prints in zip(a_pass(world, FIRST, "gone"), firsts, strict=True)
        if prints and one.words[0] != "__complete"
        and (one.came.status != 141 or "error:" in one.came.err)
    ]  # fmt: skip
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("streams", ["no stdout", "no stderr", "neither"])
def test_a_closed_stream_is_as_good_as_one_that_nobody_reads(
    world: World, streams: Streams
) -> None:
    ran = a_pass(world, FIRST, streams)
    check(ran)
    ended(ran)


def program(world: World, words: Sequence[str | bytes], **settings: str) -> Came:
    """Run the program itself."""
    done = subprocess.run(
        [os.fsencode(AOSCTL), *words], stdin=subprocess.DEVNULL, capture_output=True,
        env=world.env(**settings), timeout=60, check=False,
    )  # fmt: skip
    return Came(done.returncode, done.stdout, done.stderr)


def test_the_c_locale_and_forced_colour_break_nothing(world: World) -> None:
    lines = ("describe personas,runs", "logs agent/hostile", "cost", "get agent no\u202epe")
    for line in lines:
        came = program(world, line.split(" "), FORCE_COLOR="1", **FEW)
        text = COLOUR.sub("", (came.stdout + came.stderr).decode("ascii"))
        assert clean(text) == text and not found(text), (line, text)
        assert came.status == (2 if "\u202e" in line else 0), (line, text)
        assert "Traceback" not in text and "UnicodeE" not in text, line


def test_an_argument_that_is_no_text_is_named(world: World) -> None:
    lines = [
        ["logs", "caf\udce9"],
        ["describe", "agent", "caf\udce9"],
        ["get", "persona", "caf\udce9"],
    ]
    came = in_turn(lines, world.env())
    came.append(program(world, [b"logs", b"caf\xe9"]))
    for one in came:
        assert (one.status, one.out) == (2, ""), one
        assert one.err.splitlines() == [
            "error: caf\\udce9 is not text in the encoding utf-8",
            "hint: LC_ALL=C.UTF-8 aosctl …",
        ]
