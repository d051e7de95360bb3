"""Texts that attack whoever prints them, and a tenant in which everybody has written them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from aosctl.db.embedded import INSTALLER
from kernels import META, SEALED, KernelDatabase, Tenant, apply, ask, call, make_tenant, say
from providers.wire_openai import OpenAIWire, Reply

# name: (what is planted, what of it must never reach a terminal)
ATTACKS: dict[str, tuple[str, str]] = {
    "E52 clear": ("\x1b[2J", "\x1b\\[2J"),
    "E52 title": ("\x1b]0;owned\x07", "\x1b\\]0;owned|owned\x07"),
    "E52 C1": ("\x9b2J", "\x9b"),
    "E52 cursor": ("\x1b[99A\x1b[1K", "\x1b\\[99A"),
    "E52 reset": ("\x1bc", "\x1bc"),
    "E52 alternate screen": ("\x1b[?1047h", "\x1b\\[\\?1047h"),
    "E52 colour": ("\x1b[93;41mred\x1b[m", "\x1b\\[93;41m"),
    "E52 cut in two": ("\x1b\x1b[2J[31m", "\x1b\\[31mx|\x1b\x1b"),
    "E53 clipboard": ("\x1b]52;c;b3duZWQ=\x07", "\x1b\\]52;c;b3du"),
    "E53 link": ("\x1b]8;;http://e.vil\x1b\\x\x1b]8;;\x1b\\", "\x1b\\]8;;http"),
    "E53 notice": ("\x1b]9;owned\x07\x1b]777;notify;owned\x07", "\x1b\\]9;owned|\x1b\\]777"),
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
    "E55 marks": ("o" + "\u0323\u0301" * 40, "(?:\u0323\u0301){20}"),
    "E56 markup": ("</text><script>alert(1)</script>&<x y='\"]]>", "\0never"),
}
"""Markup is for those who draw pages: a terminal shows it. A flood of marks is for those who lay
out tables: what is exact shows it in full."""
EVERYTHING = " ".join(f"<{name}>{text}</{name}>" for name, (text, _) in ATTACKS.items())
FORGED = "fine\nStatus:  approved\nstatus: approved\n  status: approved\nerror: forged"
WIDE = "\u65e5\u672c\u8a9e \U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e Gr\u00fc\u00dfe"
EVIL = f"{EVERYTHING} {WIDE}\n{FORGED}"
MILD = f"\u202edlrow\u202c a\u200bb \U000e0041</text><script>x\u2028y {WIDE}\n{FORGED}"
"""What manifests take: text without control characters. It fits where the least fits."""
KEY = "key\nStatus"
LONG = "x" * 20_000
ODD_ROLE = "odd\x1b[2J\u202erole\nstatus: approved"
SECRETS = {
    "password": "cnry3f9aDsn",
    "libpq's password": "cnry3f9aPq",
    "master key": "c0ffee5afe" * 6 + "beef",
    "value": "cnry3f9aValue",
    "model's key": "cnry3f9aModel",
    "context's password": "cnry3f9aContext",
    "flag's password": "cnry3f9aFlag",
}
"""What nobody is shown who has it in the environment, in a context or in a flag."""
_numbers = itertools.count(1)


@dataclass
class World:
    """The tenant, and what command lines about it may name."""

    tenant: Tenant
    home: Path
    names: dict[str, str]

    def env(self, **settings: str) -> dict[str, str]:
        """Return the environment of somebody who works there; its folders have odd names."""
        left_out = ("AOSCTL_", "PG", "XDG_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "LC_",
                    "LANG", "COLUMNS", "LINES", "PYTHONIOENCODING", "PYTHONUTF8")  # fmt: skip
        kept = {key: text for key, text in os.environ.items() if not key.startswith(left_out)}
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": self.names["ODDHOME"],
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "AOSCTL_DSN": self.names["DSN"].replace("@", f":{SECRETS['password']}@", 1),
            "AOSCTL_TENANT": "acme",
            "AOSCTL_EDITOR": "true",
            "AOSCTL_MASTER_KEY": SECRETS["master key"],
            "A_SECRET": SECRETS["value"],
            "OPENAI_API_KEY": SECRETS["model's key"],
            "PGPASSWORD": SECRETS["libpq's password"],
            "PAGER": "cat",
            **settings,
        }

    def fresh(self) -> dict[str, str]:
        """Return names for one pass over all verbs: runs, approvals and calls of its own."""
        tenant, number = self.tenant, next(_numbers)
        made = {"NEW": f"new{number}"}
        for place in ("KILLED", "STEERED", "FORKED", "SHOWN"):
            run = tenant.start_run("hostile")
            tenant.open(run, EVIL)
            made[place] = str(tenant.run_row(run)["name"])
        over = tenant.start_run("hostile")
        tenant.respond(tenant.open(over, EVIL, p_worker="w1"), say(EVIL))
        call(tenant.person, "aos_agent.cancel_run", tenant.id, over, EVIL)
        made["OVER"] = str(tenant.run_row(over)["name"])
        traced = tenant.asked("sql_execute", {"statement": EVIL, KEY: EVIL}, "clerk")
        made["TRACED"] = str(tenant.run_row(traced.run)["name"])
        for place in ("SVG", "HTML", "EXPORT", "BACKUP"):
            made[place] = f"{self.names['ODDHOME']}/{number}.{place.lower()}"
        for place in ("APPROVED", "DENIED"):
            asked = tenant.asked("sql_execute", {"statement": EVIL}, "clerk")
            made[place] = str(tenant.approval(asked.call)[0])
        made["RESOLVED"] = str(leave_in_doubt(tenant))
        return {**self.names, **made}

    def words(self, line: str, names: dict[str, str]) -> list[str]:
        """Take a line apart at its blanks; words in capitals stand for what they name."""
        return [filled(word, names) for word in line.split(" ")]


def filled(text: str, names: dict[str, str]) -> str:
    """Put what they name in the place of the names in braces."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@contextmanager
def hostile_world(database: KernelDatabase, home: Path) -> Iterator[World]:
    """Make the tenant acme, in which every text that somebody may write is an attack."""
    tenant = make_tenant(database, "acme")
    wrong = json.dumps({"error": {"message": EVIL, "type": EVIL, "code": EVIL}}).encode()
    with OpenAIWire([Reply((wrong,), 400, "application/json")] * 1000) as wire:
        declare(tenant, wire.base_url)
        work(tenant)
        dsn = database.cluster.dsn(INSTALLER, database.name)
        yield World(tenant, home, {**files(home), "DSN": dsn})


def declare(tenant: Tenant, base_url: str) -> None:
    """Put the attacks into every field of every kind that takes a text."""
    database, admin = tenant.database, tenant.database.superuser
    meta: dict[str, Any] = {"labels": {}, "annotations": {"note": EVIL}}
    call(admin, "aos_auth.apply_tenant", "acme", META, {"displayName": EVIL})
    script = [{"text": f"{EVERYTHING} THE END", "think": EVERYTHING}]
    spec = {"provider": "script", "model": EVIL, "script": script, "params": {KEY: EVIL}}
    call(admin, "aos_meta.apply_model", "hostile", meta, spec)
    call(admin, "aos_meta.apply_model", "broken", meta, {
        "provider": "openai", "model": "x", "baseUrl": base_url,
    })  # fmt: skip
    for kind, name, spec in (
        ("aos_persona.apply_persona", "hostile", {
            "systemPrompt": EVIL, "description": EVIL, "model": "hostile", "rules": [EVIL],
            "traits": {KEY: EVIL, EVERYTHING: "x", "list": [{KEY: FORGED}]},
        }),
        ("aos_persona.apply_persona", "hostile", {
            "systemPrompt": LONG, "description": f"2 {EVIL}", "model": "hostile", "rules": [],
        }),
        ("aos_persona.apply_persona", "broken", {"systemPrompt": "x", "model": "broken"}),
        ("aos_agent.apply_agent", "broken", {"persona": "broken"}),
        ("aos_skills.apply_skill", "hostile", {
            "builtin": "sql_execute", "approval": "always", "description": EVIL,
            "config": {KEY: EVIL},
        }),
        ("aos_agent.apply_agent", "hostile", {
            "persona": "hostile", "description": EVIL, "skills": ["hostile"],
        }),
        ("aos_rag.apply_collection", "hostile", {
            "description": EVIL, "documents": [{"title": EVIL, "text": EVIL, "source": EVIL}],
        }),
        ("aos_auth.apply_principal", "hostile", {
            "type": "user", "displayName": EVIL, "roles": [],
        }),
        ("aos_auth.apply_secret", "hostile", {"data": {"k": {"sealed": SEALED}}}),
        ("aos_skills.apply_policy", "hostile", {
            "skills": ["hostile"], "decision": "ask", "reason": EVIL[:400],
        }),
        ("aos_core.apply_budget", "hostile", {
            "description": EVIL, "scope": "tenant", "period": "day", "limits": {"maxTurns": 1000},
        }),
    ):  # fmt: skip
        call(admin, kind, tenant.id, name, meta, spec)
    apply(admin, "aos_persona.apply_persona", tenant.id, "plain", {
        "systemPrompt": "x", "model": "offline",
    })  # fmt: skip
    role = sql.Identifier(ODD_ROLE)
    if not database.value("select true from pg_roles where rolname = %s", ODD_ROLE):
        admin.execute(sql.SQL("create role {}").format(role))
    admin.execute(sql.SQL("grant select on aos_core.run to {}").format(role))


def work(tenant: Tenant) -> None:
    """Let models ask, tools answer and people speak in attacks."""
    database, admin = tenant.database, tenant.database.superuser
    asked = tenant.asked("hostile", {"statement": EVIL, KEY: EVIL, EVERYTHING: 1}, "hostile")
    admin.execute("update aos_core.run set title = %s where run_id = %s", (EVIL, asked.run))
    for _ in range(2):
        run = tenant.start_run("hostile")
        lease = tenant.open(run, EVIL, p_worker=EVERYTHING)
        answer = tenant.respond(
            lease, ask((EVERYTHING[:60], {KEY: EVIL}), ("hostile", {"s": EVIL}))
        )
        assert answer["next"]
        call(tenant.person, "aos_agent.cancel_run", tenant.id, run, EVIL)
    run = tenant.start_run("clerk")
    lease = tenant.open(run, EVIL, p_worker="w1")
    answer = tenant.respond(lease, ask(("memory_store", {"key": "k", "value": EVIL})))
    tenant.execute(answer["calls"][0]["call_id"], lease)
    tenant.respond(lease, say(EVIL))
    statement = f"select {sql.Literal(EVIL).as_string()}::integer"  # PostgreSQL quotes the value
    run = tenant.start_run("clerk")
    lease = tenant.open(run, EVIL, p_worker="w1")
    answer = tenant.respond(lease, ask(("sql_query", {"query": statement})))
    tenant.execute(answer["calls"][0]["call_id"], lease)
    tenant.respond(lease, say("it failed"))
    for decision in ("approved", "denied"):
        one = tenant.asked("sql_execute", {"statement": EVIL}, "clerk")
        tenant.decide(one.call, decision, EVIL)
    leave_in_doubt(tenant)
    failed = tenant.start_run("hostile")
    lease = tenant.open(failed, p_worker="w")
    call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], EVIL)
    assert database.value("select count(*) from aos_core.event_log") > 10


def leave_in_doubt(tenant: Tenant) -> Any:
    """Let a worker vanish in a call that must not be repeated; return the call."""
    admin = tenant.database.superuser
    effect = "update aos_skills.builtin_skill set effect = %s where name = 'web_search'"
    admin.execute(effect, ("unsafe",))
    asked = tenant.asked("web_search", {"query": EVIL}, "clerk")
    admin.execute(effect, ("read",))
    tenant.database.move_clock("2 minutes")
    tenant.claim("w2", run=asked.run)
    tenant.database.move_clock()
    assert tenant.call_state(asked.call) == "outcome_unknown"
    return asked.call


def files(home: Path) -> dict[str, str]:
    """Write files whose names or contents attack; return what lines call them."""
    persona = {
        "apiVersion": "aos/v1", "kind": "Persona", "metadata": {"name": "plain"},
        "spec": {"model": "offline", "systemPrompt": "a\u202eb\u200bc\U000e0041",
                 "rules": [FORGED]},
    }  # fmt: skip
    odd = home / "odd\x1b]0;owned\x07\u202e\x9b2J"
    odd.mkdir()
    texts = {
        "MANIFEST": (home / "manifest.yaml", json.dumps(persona)),
        "OTHER": (
            home / "other.yaml",
            json.dumps(
                {
                    **persona,
                    "spec": {
                        "model": "offline",
                        "systemPrompt": MILD,
                        "rules": [MILD],
                    },
                }
            ),
        ),
        "BROKEN": (
            home / "broken.yaml",
            json.dumps({**persona, "kind": EVERYTHING, EVERYTHING: 1}),
        ),
        "ODD": (odd / "broken.yaml", json.dumps({**persona, "spec": {EVERYTHING: EVIL}})),
        "OUT": (odd / "out.txt", ""),
    }
    for path, text in texts.values():
        path.write_text(text)
    names = {name: str(path) for name, (path, _) in texts.items()}
    return {
        **names,
        "HOME": str(home),
        "ODDHOME": str(odd),
        "EVIL": EVERYTHING.replace(" ", "_"),
        "TEXT": EVIL,
        "MILD": MILD,
        "LINES": "get agents -o wide\nps -a\n\\sql select 1",
        "SQL": "\\sql select E'\\x1b[2J\u202e' as \"x\x1b[2J\u202e\"",
        "PATCH": json.dumps({"spec": {"description": MILD}}),
        "FORGED": f"x\n{FORGED}",
    }
