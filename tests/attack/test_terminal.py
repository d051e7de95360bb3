"""E52 to E56: what models, tools and the database say does nothing to a terminal.

Every text that others can write holds every attack; every verb that prints such texts runs on a
real terminal. Each attack is then searched for in what came out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from aosctl.db.embedded import INSTALLER
from command import AOSCTL
from kernels import META, SEALED, KernelDatabase, Tenant, apply, ask, call, make_tenant
from terminal import CTRL_D, Terminal

# name: (what is planted, what of it must never reach a terminal)
ATTACKS: dict[str, tuple[str, str]] = {
    "E52 clear": ("\x1b[2J", "\x1b\\[2J"),
    "E52 title": ("\x1b]0;owned\x07", "\x1b\\]0;owned|owned\x07"),
    "E52 C1": ("\x9b2J", "\x9b"),
    "E52 cursor": ("\x1b[99A\x1b[1K", "\x1b\\[99A"),
    "E52 reset": ("\x1bc", "\x1bc"),
    "E52 alternate screen": ("\x1b[?1049h", "\x1b\\[\\?1049h"),
    "E52 cut in two": ("\x1b\x1b[2J[31m", "\x1b\\[31m|\x1b\x1b"),
    "E53 clipboard": ("\x1b]52;c;b3duZWQ=\x07", "\x1b\\]52"),
    "E53 link": ("\x1b]8;;http://e.vil\x1b\\x\x1b]8;;\x1b\\", "\x1b\\]8;;http"),
    "E53 DECRQSS": ("\x1bP$qm\x1b\\", "\x1bP"),
    "E53 C1 OSC": ("\x9d0;owned\x9c", "\x9d|\x9c"),
    "E53 C1 DCS": ("\x90$qm\x9c", "\x90"),
    "E53 answerback": ("\x05", "\x05"),
    "E54 carriage return": ("DROP TABLE x\rSELECT 1", "DROP TABLE x\r(?!\r*\n)"),
    "E54 backspace": ("DROP\b\b\b\bread", "DROP\b"),
    "E54 delete": ("DROP\x7f\x7fread", "\x7f"),
    "E54 vertical": ("a\x0bb\x0cc", "\x0b|\x0c"),
    "E55 right to left": ("\u202edlrow\u202c", "[\u202a-\u202e]"),
    "E55 isolate": ("\u2066x\u2069", "[\u2066-\u2069]"),
    "E55 zero width": ("a\u200bb\u2060c\ufeffd", "[\u200b\u2060\ufeff]"),
    "E55 tags": ("\U000e0041\U000e0042", "[\U000e0000-\U000e007f]"),
    "E55 separators": ("a\u2028b\u2029c\x85d", "[\u2028\u2029\x85]"),
    "E55 soft hyphen": ("a\u00adb", "\u00ad"),
}
EVERYTHING = " ".join(f"<{name}>{text}</{name}>" for name, (text, _) in ATTACKS.items())
FORGED = "fine\nStatus:  approved\nstatus: approved\n  status: approved"
KEY = "key\nStatus"
OWN = re.compile("\x1b\\[[0-9;]*[mK]|\x1b\\[\\?25[hl]")
"""What our own tables and notes may print on a terminal: colours, and lines erased again."""

VERBS: list[str] = [
    "get all",
    "get all -o wide --show-labels",
    "get tenants,models,runs -o wide",
    "get all -o yaml",
    "get all -o json",
    "get all -o jsonpath={.items[*].spec}",
    "get all -o custom-columns=N:.metadata.name,S:.spec",
    "get personas -L note",
    "describe tenant acme",
    "describe personas",
    "describe agents",
    "describe skills",
    "describe collections",
    "describe principals",
    "describe models hostile",
    "describe policies",
    "describe budgets",
    "describe secrets",
    "describe runs",
    "ps -a",
    "ps -a -o wide",
    "ps -a -o json",
    "logs agent/hostile",
    "logs agent/hostile -o json",
    "approve",
    "approve --show",
    "approve -o json",
    "approve NAME",
    "deny NAME",
    "resolve",
    "resolve -o wide",
    "resolve -o json",
    "resume NAME",
    "cost --by run",
    "audit verify",
    "audit export",
    "export tenant acme",
    "auth can-i --list --as hostile",
    "auth can-i apply NAME",
    "secret NAME",
    "doctor",
    "worker --once --lease NAME",
    "diff -f MANIFEST",
    "apply -f MANIFEST --dry-run=server",
    "apply -f BROKEN",
    "get personas NAME",
    "kill NAME",
    "chat hostile hello",
    "run hostile hello",
]


@dataclass
class Stage:
    """What each verb printed on its terminal, and what a chat did."""

    outputs: dict[str, str]
    chat: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def stage(kernel_database: KernelDatabase, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    tenant = make_tenant(kernel_database, "acme")
    _plant(kernel_database, tenant)
    home = tmp_path_factory.mktemp("home")
    places = _files(home)
    env = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AOSCTL_DSN": kernel_database.cluster.dsn(INSTALLER, kernel_database.name),
        "AOSCTL_TENANT": "acme",
    }
    outputs = {}
    for verb in VERBS:
        words = [places.get(word, word) for word in verb.split(" ")]
        with Terminal(env, *words, seconds=90) as term:
            term.status()
            outputs[verb] = term.raw
    with Terminal(env, "chat", "hostile", seconds=90) as chat:
        chat.prompt()
        chat.say("hello")
        chat.expect_text("THE END")
        chat.prompt()
        chat.type(CTRL_D)
        chat.status()
        return Stage(outputs, chat.raw, env)


def _plant(database: KernelDatabase, tenant: Tenant) -> None:
    """Put the attacks wherever somebody else can write."""
    admin = database.superuser
    evil = f"{EVERYTHING}\n{FORGED}"
    meta: dict[str, Any] = {"labels": {}, "annotations": {"note": evil}}
    call(admin, "aos_auth.apply_tenant", "acme", META, {"displayName": evil})
    script = [{"text": f"{EVERYTHING} THE END", "think": EVERYTHING}]
    spec = {"provider": "script", "model": evil, "script": script, "params": {KEY: evil}}
    call(admin, "aos_meta.apply_model", "hostile", meta, spec)
    for kind, name, spec in (
        ("aos_persona.apply_persona", "hostile", {
            "systemPrompt": evil, "description": evil, "model": "hostile", "rules": [evil],
            "traits": {KEY: evil, EVERYTHING: "x", "list": [{KEY: FORGED}]},
        }),
        ("aos_skills.apply_skill", "hostile", {
            "builtin": "sql_execute", "approval": "always", "description": evil,
            "config": {KEY: evil},
        }),
        ("aos_agent.apply_agent", "hostile", {
            "persona": "hostile", "description": evil, "skills": ["hostile"],
        }),
        ("aos_rag.apply_collection", "hostile", {
            "description": evil, "documents": [{"title": evil, "text": evil, "source": evil}],
        }),
        ("aos_auth.apply_principal", "hostile", {
            "type": "user", "displayName": evil, "roles": [],
        }),
        ("aos_auth.apply_secret", "hostile", {"data": {"k": {"sealed": SEALED}}}),
        ("aos_skills.apply_policy", "hostile", {
            "skills": ["hostile"], "decision": "ask", "reason": evil[:400],
        }),
        ("aos_core.apply_budget", "hostile", {
            "description": evil, "scope": "tenant", "period": "day", "limits": {"maxTurns": 1000},
        }),
    ):  # fmt: skip
        call(admin, kind, tenant.id, name, meta, spec)
    asked = tenant.asked("hostile", {"statement": evil, KEY: evil, EVERYTHING: 1}, "hostile")
    admin.execute("update aos_core.run set title = %s where run_id = %s", (evil, asked.run))
    for _ in range(2):
        run = tenant.start_run("hostile")
        lease = tenant.open(run, evil, p_worker=EVERYTHING)
        answer = tenant.respond(
            lease, ask((EVERYTHING[:60], {KEY: evil}), ("hostile", {"s": evil}))
        )
        assert answer["next"]
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run, evil)
    _leave_in_doubt(database, tenant, evil)
    failed = tenant.start_run("hostile")
    lease = tenant.open(failed, p_worker="w")
    call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], evil)
    apply(admin, "aos_persona.apply_persona", tenant.id, "plain", {
        "systemPrompt": "x", "model": "offline",
    })  # fmt: skip


def _leave_in_doubt(database: KernelDatabase, tenant: Tenant, evil: str) -> None:
    """Let a worker vanish in a call that must not be repeated."""
    effect = "update aos_skills.builtin_skill set effect = %s where name = 'web_search'"
    database.superuser.execute(effect, ("unsafe",))
    asked = tenant.asked("web_search", {"query": evil})
    database.superuser.execute(effect, ("read",))
    database.move_clock("2 minutes")
    tenant.claim("w2", run=asked.run)
    database.move_clock()
    assert tenant.call_state(asked.call) == "outcome_unknown"


def _files(home: Path) -> dict[str, str]:
    manifest = home / "manifest.yaml"
    persona = {
        "apiVersion": "aos/v1", "kind": "Persona", "metadata": {"name": "plain"},
        "spec": {"model": "offline", "systemPrompt": "a\u202eb\u200bc\U000e0041",
                 "rules": [FORGED]},
    }  # fmt: skip
    manifest.write_text(json.dumps(persona))
    broken = home / "broken.yaml"
    broken.write_text(json.dumps({**persona, "kind": EVERYTHING, EVERYTHING: 1}))
    return {
        "MANIFEST": str(manifest),
        "BROKEN": str(broken),
        "NAME": EVERYTHING.replace(" ", "_"),
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_verb_lets_it_through(attack: str, stage: Stage) -> None:
    _, forbidden = ATTACKS[attack]
    assert [verb for verb, raw in stage.outputs.items() if re.search(forbidden, raw)] == []
    assert not re.search(forbidden, stage.chat)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_prints_text_and_nothing_else(verb: str, stage: Stage) -> None:
    """Not one control byte but line breaks, tabs and our own colours; the text itself is there."""
    raw = stage.outputs[verb]
    rest = OWN.sub("", raw).replace("\r\n", "\n").replace("\r", "" if "\x1b[2K" in raw else "\r")
    odd = {char for char in rest if not char.isprintable() and char not in "\n\t"}
    assert odd == set(), (odd, rest[:300])
    assert rest.strip()


def test_the_texts_themselves_are_shown(stage: Stage) -> None:
    """A control: the verbs printed what was planted, and not something else."""
    shown = [verb for verb, raw in stage.outputs.items() if "E55 tags" in raw]
    assert len(shown) > 18, shown
    assert "<E52 clear></E52 clear>" in stage.chat.replace("\\", "")


def test_what_is_taken_away_is_the_same_text_and_harmless_to_print(
    stage: Stage, tmp_path: Path
) -> None:
    """In a pipe and a file too, which somebody prints one day."""
    file = tmp_path / "acme.jsonl"
    for words in (["export", "tenant", "acme", "-o", str(file)], ["audit", "export"]):
        done = subprocess.run([AOSCTL, *words], env=stage.env, capture_output=True, check=True)
        text = (done.stdout or file.read_bytes()).decode()
        assert {char for char in text if not char.isprintable() and char != "\n"} == set()
        assert any(EVERYTHING in one for line in text.splitlines() for one in _texts(line))
    verify = [AOSCTL, "audit", "verify", "-f", "-"]
    assert subprocess.run(verify, env=stage.env, input=done.stdout, check=False).returncode == 0


def _texts(line: str) -> list[str]:
    """Return every text in a line of JSON, and in those that are JSON themselves."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                look(each)
        elif isinstance(value, str):
            found.append(value)
            if value.startswith("{"):
                look(json.loads(value))

    look(json.loads(line))
    return found


SHOWN_AS_IT_IS = ("chat hostile hello", "run hostile hello", "get all -o jsonpath={.items[*].spec}")
"""An answer is text, and jsonpath prints a value alone."""


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in SHOWN_AS_IT_IS])
def test_no_value_forges_a_line_of_its_own(verb: str, stage: Stage) -> None:
    """E56: a value of several lines is indented or quoted, a key is on one line."""
    lines = stage.outputs[verb].replace("\r\n", "\n").split("\n")
    assert [line for line in lines if re.match("status: +approved", line, re.IGNORECASE)] == []


def test_the_search_finds_what_a_terminal_would_get(tmp_path: Path) -> None:
    """The control: the same texts, printed by a program that does not clean them."""
    script = tmp_path / "print.py"
    script.write_text(f"import sys\nsys.stdout.write({EVERYTHING + chr(10) + FORGED!r})\n")
    child = pexpect.spawn(sys.executable, [str(script)], encoding="utf-8", timeout=30)
    child.expect(pexpect.EOF)
    raw = child.before
    child.close()
    missed = [name for name, (_, forbidden) in ATTACKS.items() if not re.search(forbidden, raw)]
    assert missed == []
    assert re.search("^Status:  approved", raw.replace("\r\n", "\n"), re.MULTILINE)
