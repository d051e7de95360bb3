"""What the loop knows of a tool: arguments in, one JSON result out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal, Protocol

from aosctl.db.leases import PendingCall
from aosctl.errors import NotFound
from aosctl.messages import JsonObject, sanitise_json
from aosctl.redaction import redact

LONGEST_RESULT = 10_000_000
"""Characters of JSON that are kept; of a longer result only the beginning is."""


MAX_BYTES = 65_536
"""Of what a tool reads, where its skill says nothing else."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's answer; `ok` False when it failed, and then `value` has an "error" to read."""

    ok: bool
    value: Any


@dataclass(frozen=True, slots=True)
class Question:
    """What a tool wants to know of the person in the middle of a call.

    `schema` is the JSON Schema of the wanted object, of one level; `url` is where the person is to
    go instead, in a browser of their own.
    """

    asker: str
    message: str
    schema: JsonObject | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the person said: `content` is there when they accepted and a schema was asked for."""

    action: Literal["accept", "decline", "cancel"]
    content: JsonObject | None = None


def ask_nobody(_question: Question) -> Reply:
    """Answer for a person where none is there."""
    return Reply("cancel")


def keep_enabled(_reason: str) -> None:
    """Leave a skill as it is, where no kernel is asked."""


def no_secret(reference: str) -> str:
    """Know no secret."""
    raise NotFound(f'the skill names no secret "{reference}"')


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as the kernel's gate admitted it, and what a tool needs to carry it out.

    `key` is the same whenever the call is sent again: whoever receives it twice has to act once.
    `settings` is the section of the skill's manifest that says what it does, of a built-in its
    `config`. `output` is the JSON Schema that a result has to fit. `secret` opens a reference NAME
    or NAME/KEY that stands in `settings`, at that moment; raises AosError. `ask` waits for a
    person's answer. `disable` shuts the skill, with the reason, until somebody applies it again.
    """

    skill: str
    key: str
    stop: Event = field(default_factory=Event)
    settings: Mapping[str, Any] = field(default_factory=dict)
    effect: str = "unsafe"
    timeout_seconds: float = 30
    max_bytes: int = MAX_BYTES
    output: JsonObject | None = None
    secret: Callable[[str], str] = field(default=no_secret, repr=False)
    ask: Callable[[Question], Reply] = ask_nobody
    disable: Callable[[str], None] = keep_enabled

    @classmethod
    def of(
        cls,
        said: Mapping[str, Any],
        call: PendingCall,
        stop: Event,
        secret: Callable[[str], str],
        ask: Callable[[Question], Reply],
        disable: Callable[[str], None] = keep_enabled,
    ) -> Call:
        """Return the call as the kernel described it (WorkerClient.call_settings)."""
        return cls(
            call.skill,
            str(call.call_id),
            stop,
            said["settings"],
            call.effect,
            float(said["timeout_seconds"]),
            said.get("max_bytes", MAX_BYTES),
            said.get("output"),
            secret,
            ask,
            disable,
        )


class Tool(Protocol):
    """What carries out a skill outside the database; one object for all calls, of all threads.

    `name` is a built-in's, or the kind of implementation (http, mcp, python).
    """

    name: str

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Act once; a failure is a result, not an exception. Ends soon after `call.stop` is set."""
        ...


def act(tool: Tool, args: Mapping[str, Any], call: Call) -> ToolResult:
    """Run a tool; whatever it does becomes a result that can be stored."""
    try:
        result = tool.run(args, call)
    except Exception as error:
        return failure(_words(call, f"failed: {type(error).__name__}: {error}"))
    try:
        value = _without_secrets(sanitise_json(result.value))
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return failure(_words(call, f"gave a result that is no JSON: {error}"))
    if result.ok and (misfit := _misfit(call.output, value)):
        return failure(_words(call, misfit))
    if len(text) > LONGEST_RESULT:
        beginning = text[:LONGEST_RESULT]
        value = {"truncated": True, "characters": len(text), "beginning": beginning}
    return ToolResult(result.ok, value)


def opened(value: Any, call: Call) -> str:
    """Return a value of the settings: a text, or {secretRef, prefix} opened. Raises AosError."""
    if isinstance(value, Mapping):
        return str(value.get("prefix", "")) + call.secret(value["secretRef"])
    return str(value)


def _without_secrets(value: Any) -> Any:
    """Blank out what this process has opened as a secret: the model reads results."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(key): _without_secrets(one) for key, one in value.items()}
    return [_without_secrets(one) for one in value] if isinstance(value, list) else value


def failure(message: str, hint: str | None = None) -> ToolResult:
    """Return a failure that the model reads."""
    return ToolResult(False, {"error": message} | ({"hint": hint} if hint else {}))


def _misfit(schema: JsonObject | None, value: Any) -> str | None:
    """Say why a result is not what the skill's manifest promises."""
    if schema is None:
        return None
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry: a reference leads nowhere but into the schema itself.
    for error in Draft202012Validator(schema, registry=Registry()).iter_errors(value):
        place = "".join(f"[{step!r}]" for step in error.absolute_path)
        return f"gave a result that does not fit spec.output: {place} {error.message[:300]}".strip()
    return None


def _words(call: Call, what: str) -> str:
    return str(sanitise_json(f"{call.skill} {what}"[:2000]))
