"""What reaches a terminal, a pipe and a narrow screen, whatever the database holds."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pexpect
import pytest

from aosctl.terminal import is_safe
from command import AOSCTL
from kernels import META, Tenant, apply, ask, call, say

HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x1b[2J \x9b2J \u202egnp.exe\u202c ze\u200bro"
    " tag\U000e0041 cr\rover\r\nsecond\tline Grüße 日本"
)
"""Colours, a window's title, erased screens, text that hides, turns round and breaks lines."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

KINDS = "personas,skills,principals,collections,policies,agents,budgets,runs,turns,approvals,events"
VERBS: tuple[str, ...] = (
    f"get {KINDS}", "get tenants,models", "get all -o wide", "get agents,personas -A --show-labels",
    f"get {KINDS} -o json", f"get {KINDS} -o yaml", "get runs -o wide",
    "get agents -o custom-columns=N:.metadata.name,D:.spec.description",
    "get agents -o jsonpath={.items[*].metadata.name}",
    f"describe {KINDS}", "describe tenants,models",
    "ps", "ps -a -o wide", "ps -a -o json", "logs agent/bot", "logs agent/clerk -o json",
    "events", "approve", "approve --show", "resolve", "cost", "whoami", "auth can-i --list",
    "auth roles",
    "audit verify", "explain agent --recursive", "api-resources -o wide", "version --kernel",
    "plugin list", "get nothing\x1b[2J", "get agent no\x1b]0;x\x07pe", "logs no\u202epe", "--help",
)  # fmt: skip
"""Every verb that reads, in the forms it prints."""


@pytest.fixture(scope="module")
def hostile(tenant: Tenant) -> Tenant:
    """A tenant in which every text that somebody writes is hostile."""
    superuser = tenant.database.superuser
    call(superuser, "aos_auth.apply_tenant", tenant.name, META, {"displayName": HOSTILE})
    specs: dict[str, tuple[str, dict[str, Any]]] = {
        "aos_auth.apply_principal": ("jane", {
            "type": "user", "displayName": HOSTILE, "roles": ["viewer"]}),
        "aos_persona.apply_persona": ("odd", {
            "systemPrompt": HOSTILE, "model": "offline", "description": HOSTILE,
            "rules": [HOSTILE], "traits": {HOSTILE: HOSTILE}}),
        "aos_skills.apply_skill": ("odd", {"builtin": "memory_store", "description": HOSTILE}),
        "aos_rag.apply_collection": ("odd", {
            "description": HOSTILE, "documents": [{"title": HOSTILE, "text": HOSTILE}]}),
        "aos_skills.apply_policy": ("odd", {
            "description": HOSTILE, "skills": ["send_mail"], "decision": "ask"}),
        "aos_agent.apply_agent": ("odd", {"persona": "odd", "description": HOSTILE}),
        "aos_core.apply_budget": ("odd", {
            "description": HOSTILE, "scope": "tenant", "period": "day",
            "limits": {"maxUsd": 100}}),
    }  # fmt: skip
    for function, (name, spec) in specs.items():
        apply(superuser, function, tenant.id, name, spec)
    run = tenant.start_run()
    lease = tenant.open(run, HOSTILE, p_worker="w1")
    answer = tenant.respond(lease, ask(("memory_store", {"key": "k", "value": HOSTILE})))
    tenant.execute(answer["calls"][0]["call_id"], lease)
    tenant.respond(lease, say(HOSTILE))
    tenant.asked("send_mail", {"query": HOSTILE}, "clerk")
    tenant.asked("sql_execute", {"statement": HOSTILE}, "clerk")
    killed = tenant.start_run()
    tenant.open(killed, HOSTILE)
    call(tenant.person, "aos_agent.cancel_run", tenant.id, killed, HOSTILE)
    return tenant


@pytest.fixture(scope="module")
def place(hostile: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment of the developer, with a plug-in of a hostile name in PATH."""
    home = tmp_path_factory.mktemp("home")
    programs = home / "bin"
    programs.mkdir()
    (programs / "aosctl-o\x1b[2Jdd").write_text("#!/bin/sh\n")
    left_out = ("AOSCTL_", "PG", "XDG_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "LC_", "LANG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    database = hostile.database
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{programs}:{kept['PATH']}",
        "AOSCTL_DSN": database.cluster.dsn("test_developer", database.name),
        "PAGER": "cat",
    }


def words(line: str) -> list[str]:
    return [str(AOSCTL), *line.split(" ")]


def piped(line: str, env: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run a verb with pipes; return status, stdout, stderr."""
    done = subprocess.run(
        words(line), stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def at_terminal(line: str, env: Mapping[str, str], columns: int) -> str:
    """Run a verb at a terminal; return all that it wrote there."""
    child = pexpect.spawn(
        words(line)[0], words(line)[1:], env=dict(env), timeout=60, dimensions=(24, columns)
    )
    child.expect(pexpect.EOF)
    child.close()
    return bytes(child.before).decode("utf-8").replace("\r\n", "\n")


def each(run: Any) -> Iterator[tuple[str, Any]]:
    """Run something for every verb, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield from zip(VERBS, pool.map(run, VERBS), strict=True)


def test_a_pipe_gets_no_control_sequence_and_every_verb_a_status(
    place: Mapping[str, str],
) -> None:
    env = {**place, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    for line, (status, out, err) in each(lambda line: piped(line, env)):
        for text in (out.decode("utf-8"), err.decode("utf-8")):
            assert is_safe(text.replace("\t", " ").replace("\n", " ")), (line, text)
            assert "Traceback" not in text, line
        assert status in (0, 1), (line, err)
        assert out or err, line


def test_the_c_locale_and_forced_colour_break_nothing(place: Mapping[str, str]) -> None:
    env = {
        **place, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "FORCE_COLOR": "1",
    }  # fmt: skip
    for line, (status, out, err) in each(lambda line: piped(line, env)):
        text = _COLOUR.sub("", (out + err).decode("ascii"))  # nothing the locale can't show
        assert is_safe(text.replace("\t", " ").replace("\n", " ")), (line, text)
        assert status == 2 if "\u202e" in line else status in (0, 1), (line, err)
        assert "Traceback" not in text and "Unicode" not in text, line


@pytest.mark.parametrize(
    ("columns", "settings"),
    [(20, {"TERM": "xterm-256color"}), (300, {"TERM": "xterm-256color", "NO_COLOR": "1"})],
)
def test_a_terminal_gets_colours_at_most(
    place: Mapping[str, str], columns: int, settings: Mapping[str, str]
) -> None:
    env = {**place, "LC_ALL": "C.UTF-8", **settings}
    for line, raw in each(lambda line: at_terminal(line, env, columns)):
        text = raw if "NO_COLOR" in settings else _COLOUR.sub("", raw)
        assert is_safe(text.replace("\t", " ").replace("\n", " ")), (line, text)
        assert "Traceback" not in text, line


def test_a_dumb_terminal_gets_no_colour(place: Mapping[str, str]) -> None:
    env = {**place, "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    for line in ("approve --show", "logs agent/bot", "describe runs", "cost", "ps -a"):
        assert "\x1b" not in at_terminal(line, env, 80), line


def test_a_row_stays_one_line(place: Mapping[str, str]) -> None:
    for line, rows in (("get agents -o wide", 3), ("get personas -o wide", 2), ("approve", 2)):
        out = piped(line, {**place, "LC_ALL": "C.UTF-8"})[1].decode()
        assert len(out.splitlines()) == rows + 1, (line, out)


def test_a_reader_that_has_gone_is_no_error(place: Mapping[str, str], tmp_path: Path) -> None:
    lines = [line for line in VERBS if not line.startswith(("get no", "get agent no", "logs no"))]
    for line in lines[::4]:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            words(line), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE,
            env=place, timeout=60, check=False,
        )  # fmt: skip
        os.close(writer)
        assert done.returncode == 141, (line, done.stderr)
        assert b"Broken pipe" not in done.stderr and b"Traceback" not in done.stderr, line


def test_an_argument_that_is_no_text_is_named(place: Mapping[str, str]) -> None:
    for line in (b"logs", b"describe agent", b"get persona"):
        done = subprocess.run(
            [os.fsencode(AOSCTL), *line.split(), b"caf\xe9"], stdin=subprocess.DEVNULL,
            capture_output=True, env={**place, "LC_ALL": "C.UTF-8"}, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, b""), line
        first, hint = done.stderr.decode().splitlines()
        assert first == "error: caf\\udce9 is not text in the encoding utf-8"
        assert hint == "hint: LC_ALL=C.UTF-8 aosctl …"
