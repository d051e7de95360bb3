"""A run as a test: what was said becomes steps, what was answered a recording.

Secrets are blanked out, and results that are long are told by their digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from aosctl.domain.agent_tests.checking import Called
from aosctl.domain.agent_tests.matching import as_text, digest
from aosctl.errors import AosError, redact_dsn
from aosctl.messages import Message, Think, usage_to_json
from aosctl.redaction import REDACTED, redact

LONG = 300
"""Characters of a result from which on a test knows it by its digest."""
_SECRETS = (
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{12,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
)
"""What looks like a key of somebody's, by the forms that services give theirs."""
_STATES = {"awaiting_approval": "waiting", "awaiting_resolution": "waiting"}
_ENDS = ("completed", "failed", "cancelled", "limited")


class Decided(NamedTuple):
    """What a person decided on a call; `edited` are the arguments they gave it before."""

    turn: int
    skill: str
    args: Mapping[str, Any]
    approved: bool
    reason: str | None
    edited: bool
    at: datetime


class Turn(NamedTuple):
    """One turn: who began it with what, what the model answered, and what came of it."""

    number: int
    state: str
    said: str
    answer: str


class Recorded(NamedTuple):
    """What a test is made of: a run, the runs that worked for it, and what was decided."""

    run: str
    agent: str
    tenant: str
    turns: Sequence[Turn]
    scripts: Mapping[str, Sequence[Mapping[str, Any]]]
    calls: Sequence[Called]
    decided: Sequence[Decided]
    external: frozenset[str]
    tainted: bool


def entries(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers of a model as a script plays them."""
    return [_entry(Message.from_json(one)) for one in messages]


def _entry(message: Message) -> dict[str, Any]:
    think = "".join(block.text for block in message.blocks if isinstance(block, Think))
    spent = usage_to_json(message.usage) if message.usage else {}
    usage = {name: spent[name] for name in ("in", "out") if spent.get(name)}
    calls = [
        {"name": call.name, "args": call.args if call.args is not None else call.args_raw}
        for call in message.calls
    ]
    said = {"think": think, "text": message.text, "calls": calls, "usage": usage}
    return {key: safe(value) for key, value in said.items() if value}


def recording(found: Recorded) -> dict[str, Any]:
    """Return the file that a test replays: the answers by agent, the results of skills outside."""
    stubs: dict[str, list[dict[str, Any]]] = {}
    for call in found.calls:
        if call.skill in found.external and call.state in ("succeeded", "failed"):
            stubs.setdefault(call.skill, []).append(_stub(call))
    return {
        "run": found.run,
        "scripts": {agent: list(script) for agent, script in found.scripts.items()},
        "stubs": stubs,
    }


def _stub(call: Called) -> dict[str, Any]:
    stub: dict[str, Any] = {"args": {"$exactly": safe(call.args)}}
    if call.state == "failed" and isinstance(call.result, Mapping) and "error" in call.result:
        return {**stub, "error": safe(str(call.result["error"]))}
    text = as_text(call.result)
    if len(text) <= LONG * 10:
        return {**stub, "result": safe(call.result)}
    left_out = {"leftOut": f"{len(text)} characters", "sha256": digest(call.result)}
    return {**stub, "result": left_out}


def manifest(
    found: Recorded, name: str, setup: Sequence[Mapping[str, Any]], replay: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the test; `replay` is `{"replay": FILE}`, or the scripts and stubs themselves."""
    case = {
        "name": f"as in run {found.run}",
        **replay,
        "steps": list(_steps(found)),
        "expect": {
            "calls": [_expected(call) for call in found.calls],
            "onlyThese": True,
            "tainted": found.tainted,
        },
    }
    return {
        "apiVersion": "aos/v1",
        "kind": "AgentTest",
        "metadata": {"name": name, "tenant": found.tenant},
        "spec": {"agent": found.agent, "setup": [dict(step) for step in setup], "cases": [case]},
    }


def _steps(found: Recorded) -> Iterator[dict[str, Any]]:
    """Yield what the person said and decided, in the order in which they did."""
    for turn in found.turns:
        decided = sorted((one for one in found.decided if one.turn == turn.number), key=_moment)
        if turn.said.startswith("[approval]"):  # the kernel opened it, with what was decided
            continue
        step: dict[str, Any] = {"say": safe(turn.said)}
        expected = _end(turn)
        if not decided:
            yield {**step, "expect": expected}
            continue
        yield {**step, "expect": {"state": "waiting"}}
        for number, one in enumerate(decided, 1):
            if one.edited:
                yield {"edit": {"skill": one.skill, "args": safe(dict(one.args))}}
            yield {**_decision(one), **({"expect": expected} if number == len(decided) else {})}


def _moment(one: Decided) -> datetime:
    return one.at


def _decision(one: Decided) -> dict[str, Any]:
    word = "approve" if one.approved else "deny"
    said = {"skill": one.skill, "args": safe(dict(one.args))}
    return {word: {**said, **({"reason": safe(one.reason)} if one.reason else {})}}


def _end(turn: Turn) -> dict[str, Any]:
    state = _STATES.get(turn.state, turn.state)
    expected: dict[str, Any] = {"state": state if state in _ENDS else "waiting"}
    if state == "completed" and turn.answer.strip():
        expected["answer"] = {"equals": safe(turn.answer)}
    return expected


def _expected(call: Called) -> dict[str, Any]:
    wanted: dict[str, Any] = {"skill": call.skill}
    if call.args is not None:
        wanted |= {"args": safe(call.args), "exact": True}
    wanted |= {"gate": call.gate, "state": call.state}
    if call.result is not None and call.state in ("succeeded", "failed"):
        long = len(as_text(call.result)) > LONG
        wanted["result"] = {"$sha256": digest(call.result)} if long else safe(call.result)
    return wanted


def safe(value: Any) -> Any:
    """Return a value without what is, or looks like, a secret."""
    if isinstance(value, str):
        text = redact_dsn(redact(value))
        for pattern in _SECRETS:
            text = re.sub(pattern, REDACTED, text)
        return text
    if isinstance(value, Mapping):
        return {str(safe(key)): safe(one) for key, one in value.items()}
    return [safe(one) for one in value] if isinstance(value, list | tuple) else value


def without_results(test: dict[str, Any], paths: Sequence[str]) -> bool:
    """Take out the expected results of calls at these paths; False where it is about more.

    What comes out otherwise each time, as a moment or an id, is nothing to hold a test to.
    """
    calls = test["spec"]["cases"][0]["expect"]["calls"]
    for path in paths:
        found = re.fullmatch(r"spec\.cases\[0\]\.expect\.calls\[(\d+)\]", path)
        if found is None or "result" not in calls[int(found[1])]:
            return False
        del calls[int(found[1])]["result"]
    return bool(paths)


def one_script_each(scripts: Sequence[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return the scripts by agent. Raises AosError where two runs of one agent differ."""
    found: dict[str, Any] = {}
    for agent, script in scripts:
        if found.setdefault(agent, script) != script:
            raise AosError(
                f'the run handed work to "{agent}" more than once, and was answered otherwise each'
                " time",
                "a recording has one script for each agent",
            )
    return found
