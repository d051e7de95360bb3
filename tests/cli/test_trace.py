"""`aosctl trace`: a run as a tree with times and costs, on a terminal and in files."""

from __future__ import annotations

import json
import stat
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest

from command import Aosctl
from kernels import Tenant, ask, call, say
from terminal import Terminal

DELETE = {"statement": "delete from shop.orders where order_id = 1"}
EVIL = (
    "</td></tr></table></text></title></style><script>alert(1)</script>"
    '<img src=x onerror="alert(2)"><svg onload=alert(3)>&amp;\x1b[31m\u202e\ufffe"\''
)


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


def traced(tenant: Tenant, question: str = "tidy up", said: str = "Done.") -> str:
    """Let clerk read, ask for an approval that comes a minute later, fail at it and answer."""
    run = tenant.start_run("clerk")
    lease = tenant.open(run, question, p_worker="w1")
    first = tenant.respond(lease, ask(("sql_query", {"query": "select 1"})), p_usage={
        "in": 100, "out": 20,
    })  # fmt: skip
    tenant.execute(UUID(first["calls"][0]["call_id"]), lease)
    args = DELETE if said == "Done." else {"statement": said}
    second = tenant.respond(lease, ask(("sql_execute", args)))
    waiting = UUID(second["calls"][0]["call_id"])
    try:
        tenant.database.move_clock("1 minute")
        tenant.decide(waiting, "denied", said)
        lease = tenant.claim(run=run)
        tenant.respond(lease, say(said))
    finally:
        tenant.database.move_clock()
    return name_of(tenant, run)


def test_a_trace_is_a_tree_with_a_waterfall(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant)
    done = developer("trace", name, COLUMNS="120")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    texts = [line.partition("  ")[0].rstrip() for line in lines]
    assert texts[0] == f"run {name} of clerk · idle"
    assert texts[1:] == [
        "turn 1 tidy up",
        "├─ offline",
        "│",
        "├─ offline",
        "│",
        "│",
        "└─ offline: Done.",
    ]
    assert lines[3].startswith("│  └─ sql_query(select 1)")
    assert lines[5].startswith("│  └─ sql_execute · denied (delete from shop.orders where ")
    assert lines[6].startswith("│     └─ approval denied by user:dev")
    assert " 120 " in lines[0] and " 120 " in lines[2] and "█" in lines[6]
    # The minute's wait is the approval's, and the call's that waited; not the models'.
    assert "1m0" in lines[6] and "1m0" in lines[5] and "1m0" in lines[1]
    assert all("1m0" not in lines[place] for place in (2, 3, 4, 7))
    assert "\x1b" not in done.out and max(map(len, lines)) <= 120


@pytest.mark.parametrize("columns", ["20", "40", "60", "80", "300"])
def test_every_width_is_kept_to(developer: Aosctl, tenant: Tenant, columns: str) -> None:
    name = traced(tenant, "words " * 60)
    done = developer("trace", name, COLUMNS=columns)
    assert done.status == 0 and len(done.out.splitlines()) == 8
    assert max(map(len, done.out.splitlines())) <= max(int(columns), 40)
    waiting = tenant.asked("sql_execute", DELETE, "clerk").run  # its bars reach the edge
    lines = developer("trace", str(waiting), COLUMNS=columns).out.splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= max(int(columns), 40)


def test_who_gave_an_allowance_is_seen_at_80_columns(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant)
    tenant.database.superuser.execute(
        "update aos_core.approval set decided_by = 'the allowance of user:dev'"
        " where run_id = (select run_id from aos_core.run where name = %s)",
        (name,),
    )
    assert "└─ passed: allowance of user:dev  " in developer("trace", name, COLUMNS="80").out


def test_ascii_colour_and_depth(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant)
    plain = developer("trace", name, PYTHONIOENCODING="ascii", COLUMNS="100").out
    assert plain.isascii() and "|  `- sql_query" in plain and "###" in plain
    assert "\\u" not in plain
    assert "\x1b[31m" in developer("trace", name, FORCE_COLOR="1").out
    assert "\x1b" not in developer("trace", name, FORCE_COLOR="1", NO_COLOR="1").out
    assert len(developer("trace", name, "--depth", "1").out.splitlines()) == 2
    assert "approval" not in developer("trace", name, "--depth", "3").out


def test_on_a_terminal_it_has_colours(env: dict[str, str], tenant: Tenant) -> None:
    name = traced(tenant)
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, "trace", name) as terminal:
        assert terminal.status() == 0
        assert "\x1b[1mturn 1 tidy up" in terminal.raw


def test_json_has_the_times(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant)
    found = json.loads(developer("trace", name, "-o", "json").out)
    assert (found["run"], found["inputTokens"], found["outputTokens"]) == (name, 100, 20)
    (turn,) = found["turns"]
    assert (turn["kind"], turn["state"], turn["text"]) == ("turn", "completed", "1 tidy up")
    first, second, third = turn["below"]
    assert first["inputTokens"] == 100 and first["below"][0]["args"] == {"query": "select 1"}
    waited = second["below"][0]["below"][0]
    assert (waited["kind"], waited["state"], waited["note"]) == ("approval", "denied", "user:dev")
    assert 60 <= waited["seconds"] < 120
    assert third["note"] == "Done." and third["seconds"] < 60


def test_an_open_turn_goes_on(developer: Aosctl, tenant: Tenant) -> None:
    asked = tenant.asked("sql_execute", DELETE, "clerk")
    name = name_of(tenant, asked.run)
    out = developer("trace", name, COLUMNS="120").out
    short = tenant.approval(asked.call)[0].hex[-8:]
    assert f"approval {short} waits" in out
    assert "turn 1 · awaiting approval · hello" in out and ">" in out.splitlines()[1]
    turn = json.loads(developer("trace", name, "-o", "json").out)["turns"][0]
    assert "endedAt" not in turn and turn["seconds"] >= 0
    call(tenant.person, "aos_agent.cancel_run", tenant.id, asked.run)


def test_a_fork_does_not_count_again_what_it_took_over(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant)
    run = json.loads(developer("get", "run", name, "-o", "json").out)["metadata"]["uid"]
    fork = call(tenant.person, "aos_agent.fork_run", tenant.id, UUID(run))["run"]
    found = json.loads(developer("trace", fork, "-o", "json").out)
    assert found["turns"][0]["text"] == "1 tidy up" and "seconds" not in found["turns"][0]
    assert found["inputTokens"] == 0 == found["turns"][0]["inputTokens"]
    assert developer("trace", fork).status == 0


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_a_model_says_is_text_in_a_page(developer: Aosctl, tenant: Tenant) -> None:
    """The attack: markup in a question, an answer, an argument and a reason."""
    name = traced(tenant, EVIL, EVIL)
    page = developer("trace", name, "--html", "-").out
    found = Elements()
    found.feed(page)
    assert found.tags == {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "table", "tr", "th", "td",
        "svg", "rect",
    }  # fmt: skip
    assert not {name for name in found.attributes if name.startswith("on") or name == "src"}
    assert "<script>alert(1)</script>" in found.text  # it is there, as text
    assert "default-src 'none'" in page and "http:" not in page and "https:" not in page
    assert "\x1b" not in page and "\u202e" not in page
    # The control: the same text unescaped would be seen.
    control = Elements()
    control.feed(EVIL)
    assert {"script", "img", "svg"} <= control.tags and "onerror" in control.attributes


def test_what_a_model_says_is_text_in_a_picture(developer: Aosctl, tenant: Tenant) -> None:
    name = traced(tenant, EVIL, EVIL)
    picture = developer("trace", name, "--svg", "-").out
    tree = ET.fromstring(picture)  # noqa: S314 - our own; that it is well formed is the point
    space = "{http://www.w3.org/2000/svg}"
    assert {element.tag for element in tree.iter()} == {
        f"{space}{tag}" for tag in ("svg", "title", "rect", "text")
    }
    attributes = {name for element in tree.iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on") or "href" in name}
    assert any("<script>" in (element.text or "") for element in tree.iter(f"{space}text"))
    with pytest.raises(ET.ParseError):
        ET.fromstring(picture.replace("&lt;", "<"))  # noqa: S314 - the control


def test_files_are_new_and_private(developer: Aosctl, tenant: Tenant, tmp_path: Path) -> None:
    name = traced(tenant)
    for flag, start in (("--html", "<!doctype html>"), ("--svg", "<svg xmlns=")):
        path = tmp_path / f"trace{flag}"
        done = developer("trace", name, flag, str(path))
        assert (done.status, done.out, done.err) == (0, "", f"written to {path}\n")
        assert path.read_text().startswith(start)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        again = developer("trace", name, flag, str(path))
        assert (again.status, again.out) == (2, "")
        assert again.err.startswith(f"error: {path} exists already\n")
    gone = developer("trace", name, "--svg", str(tmp_path / "no" / "such"))
    assert gone.status == 2 and "can't write" in gone.err


@pytest.mark.parametrize(
    ("flags", "status", "error"),
    [
        (("--depth", "0"), 2, "error: --depth is 1 to 4, not 0\n"),
        (("--html", "a", "--svg", "b"), 2, "error: --html and --svg exclude each other\n"),
        (("--html", "a", "-o", "json"), 2, "error: --html and -o exclude each other\n"),
        (("-o", "yaml"), 2, "error: unable to match a printer"),
        (("--turn", "7"), 1, "Error from server (NotFound): run "),
    ],
)
def test_bad_input_is_refused(
    flags: tuple[str, ...], status: int, error: str, developer: Aosctl, tenant: Tenant
) -> None:
    done = developer("trace", name_of(tenant, tenant.start_run()), *flags)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(error)
    assert developer("trace").status == 2
    missing = developer("trace", "nobody")
    assert missing.status == 1 and 'runs.aos "nobody" not found' in missing.err


def test_a_trace_that_is_watched_is_drawn_until_the_turn_ends(
    env: dict[str, str], tenant: Tenant, developer: Aosctl
) -> None:
    run = tenant.start_run("clerk")
    lease = tenant.open(run, "tidy up", p_worker="w1")
    name = name_of(tenant, run)
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)
    with Terminal({**env, "AOSCTL_DSN": dsn}, "trace", "-w", name) as terminal:
        terminal.stands("turn 1 · running · tidy up")
        asked = tenant.respond(lease, ask(("sql_query", {"query": "select 1"})))
        terminal.stands("sql_query · pending (select 1)")
        tenant.execute(UUID(asked["calls"][0]["call_id"]), lease)
        terminal.stands("sql_query(select 1)")
        tenant.respond(lease, say("Done."))
        assert terminal.status() == 0
        whole = terminal.standing
    # What was drawn before was taken away: each line stands there once.
    assert whole.count("turn 1") == whole.count("sql_query") == whole.count("run clerk-") == 1
    assert "offline: Done." in whole and "pending" not in whole
    # Nothing goes on, and off a terminal the whole is drawn at the end.
    done = developer("trace", "--watch", name)
    assert (done.status, done.err) == (0, "") and "offline: Done." in done.out
    assert done.out.count("turn 1") == 1
    done = developer("trace", name, "-w", "-o", "json")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: -w and -o exclude each other: -w draws on the terminal\n")
