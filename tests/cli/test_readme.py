"""Every command of the README, as it stands there, in its order, on a real database."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pexpect
import psycopg
import pytest

from aosctl.db.embedded import EmbeddedHome, reset
from command import AOSCTL
from terminal import CTRL_C, CTRL_D, ENTER, PROMPT, plain

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SHELL = re.compile(r"```(sh|console|yaml)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:source <\()?aosctl [^`]+)`(?!`)")
ELSEWHERE = (
    "pip install . && aosctl quickstart",  # .ci/run installs; test_session begins from nothing
    "pip install '.[dev]' && pytest",
    "aosctl foo",  # a plug-in: test_plugins
    "aosctl db start\\|stop\\|status\\|url\\|psql\\|reset",  # the embedded server: test_session
    "aosctl --dsn postgresql://… db install",  # test_db_verb
    "aosctl resolve CALL --retry",  # a call whose worker vanished: test_resolve
    "aosctl test record",  # test_agent_tests, and this with the constraint that is dropped here:
    "aosctl test -f manifests/examples/support_triage -f manifests/quickstart",
    "aosctl apply -f manifests/examples -R",  # test_apply, with what they need first
    'aosctl approve ID --scope run --match "update shop.orders *"',  # test_scopes
    "aosctl audit", "aosctl resolve", "aosctl worker", "aosctl chat -c",  # a verb's name
    'aosctl chat my_pg_bot --system "Answer in French."',  # a prompt's: test_chat
    "aosctl delete allowance", "aosctl chat --pick",  # likewise; test_scopes, test_chat_commands
)  # fmt: skip


class Answer(NamedTuple):
    """What a person at a terminal does: sees this, and presses that; and the status at the end."""

    keys: tuple[tuple[str, str], ...] = ()
    status: int = 0


SAID = re.findall(r"^> (.+)$", README, re.MULTILINE)
"""What is typed in the chat that the README shows: a question in SQL, and a change."""
CONNECTED = "connected: "
"""Seen in the server and not on the screen: the verb has its connection."""
LEAVES = Answer(((PROMPT, CTRL_D),))
AT_A_TERMINAL: Mapping[str, Answer] = {
    "aosctl quickstart": Answer((
        *((PROMPT, said + ENTER) for said in SAID), ("d later >", "d"), (PROMPT, CTRL_D),
    )),
    "aosctl chat my_pg_bot": LEAVES,
    "aosctl approve 7a44975e": Answer(((re.escape("later, then Enter >"), "y" + ENTER),)),
    "aosctl approve -i": Answer(),  # nothing is pending by then
    "aosctl apply -f pg_expert.yaml --diff --confirm": Answer(),
    "aosctl edit persona pg_expert": Answer(),
    "aosctl top": Answer((("by cost", "q"),)),
    "aosctl get runs -w --field-selector status.state=running": Answer(
        ((CONNECTED + "get", CTRL_C),), 130
    ),
    "aosctl logs -f my_pg_bot-367688": Answer(),  # a task that is done by then: they end
    "aosctl attach my_pg_bot-367688": Answer(),
}  # fmt: skip
STATUS = {
    "aosctl diff -f pg_expert.yaml": 1,
    'aosctl steer my_pg_bot-367688 "only this month"': 1,  # nothing is under way: test_steer
}


class Reader:
    """Somebody who types what the README says; its ids and names are those of their own runs."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**env, "PATH": f"{AOSCTL.parent}:{env['PATH']}", "COLUMNS": "120"}

    def names(self, *words: str) -> str:
        """Return the last name that a list has, `none` where it is empty."""
        done = subprocess.run(
            [AOSCTL, "get", *words, "-o", "jsonpath={.items[*].metadata.name}"], env=self.env,
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return (done.stdout.split() or ["none"])[-1]

    def own(self, line: str) -> str:
        """Return a line with the reader's own ids."""
        if re.search(r"approve [0-9a-f]{8}\b", line):
            pending = self.names("approvals", "--field-selector", "status.state=pending")
            line = re.sub(r"(?<=approve )[0-9a-f]{8}\b", pending, line)
        if re.search(r"my_pg_bot-\w{6}|\bRUN\b", line):
            still_open = ("--field-selector", "status.state=idle") if "resume" in line else ()
            run = self.names("runs", "--sort-by", ".metadata.creationTimestamp", *still_open)
            line = re.sub(r"my_pg_bot-\w{6}|\bRUN\b", run, line)
        return line

    def until_connected(self, verb: str) -> None:
        """Return when a verb has its connection."""
        url = subprocess.run(
            [AOSCTL, "db", "url"], env=self.env, capture_output=True, text=True, check=True
        )
        waiting = "select from pg_stat_activity where application_name like %s"
        deadline = time.monotonic() + 60
        with psycopg.connect(url.stdout.strip(), autocommit=True) as connection:
            while not connection.execute(waiting, (f"aosctl/% {verb}",)).rowcount:
                assert time.monotonic() < deadline, f"{verb} never connected"

    def types(self, line: str) -> str:
        """Run a line; return all that it printed."""
        bare = line.partition("  #")[0].strip()
        key = {"OPENAI_API_KEY": "sk-none"} if "OPENAI_API_KEY" in bare else {}
        answer = AT_A_TERMINAL.get(bare)
        if answer is None:
            done = subprocess.run(
                ["/bin/bash", "-c", self.own(bare)], cwd=self.folder,
                env={**self.env, **key}, timeout=120,
                capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            assert done.returncode == STATUS.get(bare, 0), (bare, done.stdout, done.stderr)
            return done.stdout + done.stderr
        child = pexpect.spawn(
            "/bin/bash", ["-c", self.own(bare)], cwd=str(self.folder), encoding="utf-8",
            env={**self.env, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}, timeout=60,
            dimensions=(40, 120),
        )  # fmt: skip
        seen = ""
        for pattern, keys in answer.keys:
            if pattern.startswith(CONNECTED):
                self.until_connected(pattern.removeprefix(CONNECTED))
            else:
                child.expect(pattern)
                seen += child.before + child.after
            child.send(keys)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == answer.status, (bare, plain(seen + child.before))
        return plain(seen + child.before)


def lines(text: str) -> Iterator[str]:
    """Yield the commands of a piece of the README: of its blocks, and those within the text."""
    at = 0
    for block in SHELL.finditer(text):
        yield from INLINE.findall(text[at : block.start()])
        at = block.end()
        if block[1] == "sh":
            yield from block[2].splitlines()
        elif block[1] == "console":
            yield from (line[2:] for line in block[2].splitlines() if line.startswith("$ "))
    yield from INLINE.findall(text[at:])


FILES = ("pg_expert.yaml", "stock_of.yaml", "rules.yaml")
"""What its manifests are called, in their order."""


@pytest.fixture
def reader(env: dict[str, str], tmp_path: Path) -> Iterator[Reader]:
    """A folder with what the README's commands read, and the files that it shows."""
    manifests = [block[2] for block in SHELL.finditer(README) if block[1] == "yaml"]
    for name, text in zip(FILES, manifests, strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "autovacuum.md").write_text("# Our rule\n\nAutovacuum runs at night.\n")
    (tmp_path / "err.log").write_text("ERROR: deadlock detected\n")
    # Named, because only XDG_DATA_HOME tells `locate` of another home than this user's own.
    data = tmp_path / ".local" / "share"
    settings = {
        **env, "EDITOR": "true", "OLLAMA_HOST": "127.0.0.1:9", "XDG_DATA_HOME": str(data),
    }  # fmt: skip
    home = EmbeddedHome.locate(settings)
    assert home != EmbeddedHome.locate({}), "it would delete this user's own database"
    settings.pop("PYTHONWARNINGS")
    try:
        yield Reader(tmp_path, settings)
    finally:
        reset(home)


def test_each_command_of_the_readme_runs(reader: Reader) -> None:
    for line in lines(README):
        if line in ELSEWHERE:
            continue
        printed = reader.types(line)
        assert "Traceback" not in printed, (line, printed)
    reader.types("aosctl apply -f rules.yaml")
