"""The neutral message: what any model was asked and answered, as one JSON value.

`Message.to_json` and `Message.from_json` are exact inverses. Block order is kept, `args_raw` stays
text (jsonb reorders keys and drops duplicates), and what only one provider understands rides in
`px`, `Think.sig`, `Think.data` and `Opaque`; it goes back only to the endpoint it came from.
The shape follows pydantic-ai's ordered parts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast, get_args

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]
Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["end", "tool", "length", "refusal", "error"]

VERSION = 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class MessageError(ValueError):
    """The JSON is not a message of this version."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a person or a model says."""

    text: str
    px: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or file; `ref` is an https:, data: or sha256: address, `mime` its type."""

    mime: str
    ref: str
    name: str | None = None
    px: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Think:
    """A model's reasoning; `sig` and `data` are the provider's seals on it."""

    text: str
    sig: str | None = None
    data: str | None = None
    px: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A model's wish to use a tool; `args` is None when `args_raw` must not be acted on."""

    id: str
    name: str
    args_raw: str
    args: JsonObject | None
    px: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answered to the call `call_id`."""

    call_id: str
    name: str
    ok: bool
    parts: tuple[Text | Media, ...]
    px: JsonObject | None = None

    @property
    def text(self) -> str:
        """Join the text parts."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model or its provider declined to answer."""

    text: str
    px: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something only its provider understands, kept to be sent back unchanged."""

    kind: str
    data: Json
    px: JsonObject | None = None


Block: TypeAlias = Text | Media | Think | Call | Result | Refusal | Opaque


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the model stopped: normalised, and in the provider's own word."""

    norm: StopReason
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call, counted alike for every provider.

    `input` are the prompt's tokens that were *not* read from a cache, `cache_read` those that
    were; both together are the prompt. `cache_write` is the part of `input` that was written to a
    cache, `reasoning` the part of `output` that was thinking. So the price of a call is
    input * p_in + cache_read * p_cached + output * p_out, and cache_write * (p_write - p_in) more
    where writing has a price of its own.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        """Count all tokens sent, cached or not."""
        return self.input + self.cache_read

    @property
    def total(self) -> int:
        """Count all tokens sent and received."""
        return self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answered; `model` is the name the provider reported."""

    provider: str
    api: str
    model: str
    endpoint: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    blocks: tuple[Block, ...]
    stop: Stop | None = None
    usage: Usage | None = None
    origin: Origin | None = None
    untrusted: str | None = None
    """Of a person's message: what others wrote stands in it, and this names it (`@notes.txt`)."""
    is_summary: bool = False
    """It stands for what the model reads no more; the kernel alone marks messages so."""

    @property
    def text(self) -> str:
        """Join what is meant for the reader: the texts and any refusal, in order."""
        return "".join(b.text for b in self.blocks if isinstance(b, Text | Refusal))

    @property
    def typed(self) -> str:
        """Return the first text: of a person's message what they typed, without what they attached.

        Empty where there is none.
        """
        return next((block.text for block in self.blocks if isinstance(block, Text)), "")

    @property
    def thinking(self) -> str:
        """Join the reasoning."""
        return "".join(b.text for b in self.blocks if isinstance(b, Think))

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return the tool calls, in the model's order."""
        return tuple(b for b in self.blocks if isinstance(b, Call))

    @property
    def pictures(self) -> tuple[Media, ...]:
        """Return the pictures and files, in order."""
        return tuple(b for b in self.blocks if isinstance(b, Media))

    @property
    def results(self) -> tuple[Result, ...]:
        """Return the tool results."""
        return tuple(b for b in self.blocks if isinstance(b, Result))

    def sanitised(self) -> Message:
        """Return the message with every text fit for jsonb; itself if it already is."""
        value = self.to_json()
        clean = sanitise_json(value)
        return self if clean == value else Message.from_json(clean)

    def to_json(self) -> dict[str, Json]:
        """Return the message as JSON; absent parts are left out."""
        value: dict[str, Json] = {
            "v": VERSION,
            "role": self.role,
            "blocks": [_block_to_json(block) for block in self.blocks],
        }
        if self.stop is not None:
            value["stop"] = _without_none({"norm": self.stop.norm, "raw": self.stop.raw})
        if self.usage is not None:
            value["usage"] = usage_to_json(self.usage)
        if self.origin is not None:
            origin = self.origin
            value["origin"] = _without_none(
                {name: getattr(origin, name) for name in Origin.__slots__}
            )
        if self.untrusted is not None:
            value["untrusted"] = self.untrusted
        return value

    @classmethod
    def from_json(cls, value: object) -> Message:
        """Read what `Message.to_json` wrote, or the kernel composed.

        Raises MessageError, naming what is wrong.
        """
        data = _object(value, "message")
        if data.get("v", VERSION) != VERSION:
            raise MessageError(f"message version {data.get('v')!r} is not known")
        role = data.get("role")
        if role not in get_args(Role):
            raise MessageError(f"message role {role!r} is not known")
        blocks = data.get("blocks")
        if not isinstance(blocks, list):
            raise MessageError("message blocks must be a list")
        return cls(
            cast(Role, role),
            tuple(_block_from_json(block) for block in blocks),
            _stop_from_json(data["stop"]) if data.get("stop") is not None else None,
            usage_from_json(data["usage"]) if data.get("usage") is not None else None,
            _origin_from_json(data["origin"]) if data.get("origin") is not None else None,
            _text(data, "untrusted") if data.get("untrusted") is not None else None,
            "summary" in data,
        )


def user(*texts: str, untrusted: str | None = None) -> Message:
    """Make the message of a person who typed `texts`, a block each.

    `untrusted` names what of it others wrote.
    """
    return Message("user", tuple(Text(text) for text in texts), untrusted=untrusted)


def instructed(message: Message, instructions: str | None) -> Message:
    """Return a person's message with their instructions for the conversation that it begins."""
    if instructions is None:
        return message
    block = Text(f"\n\n[Instructions for this conversation, from who begins it]\n{instructions}")
    return replace(message, blocks=(*message.blocks, block))


def tool_result(call: Call, value: Json, *, ok: bool = True) -> Message:
    """Make the message that answers `call` with `value` as JSON text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Message("tool", (Result(call.id, call.name, ok, (Text(text),)),))


def usage_to_json(usage: Usage) -> dict[str, Json]:
    """Return the five counts under their names in the kernel."""
    return {
        "in": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "out": usage.output,
        "reasoning": usage.reasoning,
    }


def usage_from_json(value: object) -> Usage:
    """Read the five counts; an absent one is 0."""
    data = _object(value, "usage")
    counts = []
    for key in ("in", "cache_read", "cache_write", "out", "reasoning"):
        count = data.get(key) or 0
        if not isinstance(count, int):
            raise MessageError(f"usage {key} must be a whole number")
        counts.append(count)
    return Usage(*counts)


def parse_args(raw: str) -> dict[str, Json] | None:
    """Parse a call's arguments; None unless they are one JSON object that jsonb can hold.

    Blank text counts as no arguments: several servers send it for tools without parameters.
    """
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)
        clean = sanitise_json(value)
    except (ValueError, RecursionError):
        return None
    return clean if isinstance(clean, dict) else None


def sanitise(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD; two halves of one character are joined."""
    if (str.isascii(text) and "\x00" not in text) or not _UNSTORABLE.search(text):
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "\ufffd")


def sanitise_json(value: Json) -> Json:
    """Sanitise every text in a JSON value, keys included."""
    if isinstance(value, str):
        return sanitise(value)
    if isinstance(value, list):
        return [sanitise_json(item) for item in value]
    if isinstance(value, dict):
        return {sanitise(key): sanitise_json(item) for key, item in value.items()}
    return value


def _block_to_json(block: Block) -> Json:
    value: dict[str, Json] = {"t": _NAMES[type(block)]}
    for name in type(block).__slots__:
        field = getattr(block, name)
        if name == "parts":
            value[name] = [_block_to_json(part) for part in field]
        elif field is not None or (name == "data" and isinstance(block, Opaque)):
            value[name] = dict(field) if isinstance(field, Mapping) else field
    return value


def _block_from_json(value: object) -> Block:
    data = _object(value, "block")
    read = _READERS.get(str(data.get("t")))
    if read is None:
        raise MessageError(f"block type {data.get('t')!r} is not known")
    return read(data)


def _read_call(data: JsonObject) -> Call:
    return Call(
        _text(data, "id"),
        _text(data, "name"),
        _text(data, "args_raw"),
        _maybe(data, "args"),
        _px(data),
    )


def _read_result(data: JsonObject) -> Result:
    parts = data.get("parts")
    if not isinstance(parts, list) or not isinstance(data.get("ok"), bool):
        raise MessageError("a result needs `ok` and a list of `parts`")
    read = tuple(_block_from_json(part) for part in parts)
    if not all(isinstance(part, Text | Media) for part in read):
        raise MessageError("a result holds text and media only")
    return Result(
        _text(data, "call_id"),
        _text(data, "name"),
        data["ok"] is True,
        cast("tuple[Text | Media, ...]", read),
        _px(data),
    )


def _stop_from_json(value: object) -> Stop:
    data = _object(value, "stop")
    norm = data.get("norm")
    if norm not in get_args(StopReason):
        raise MessageError(f"stop reason {norm!r} is not known")
    return Stop(cast(StopReason, norm), _maybe_text(data, "raw"))


def _origin_from_json(value: object) -> Origin:
    data = _object(value, "origin")
    return Origin(
        _text(data, "provider"),
        _text(data, "api"),
        _text(data, "model"),
        _maybe_text(data, "endpoint"),
        _maybe_text(data, "response_id"),
    )


def _object(value: object, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise MessageError(f"{what} must be an object")
    return value


def _text(data: JsonObject, key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise MessageError(f"`{key}` must be text")
    return value


def _maybe_text(data: JsonObject, key: str) -> str | None:
    return None if data.get(key) is None else _text(data, key)


def _maybe(data: JsonObject, key: str) -> JsonObject | None:
    return None if data.get(key) is None else _object(data[key], f"`{key}`")


def _px(data: JsonObject) -> JsonObject | None:
    return _maybe(data, "px")


def _without_none(value: dict[str, Json]) -> dict[str, Json]:
    return {key: item for key, item in value.items() if item is not None}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


_NAMES: dict[type[Block], str] = {
    Text: "text",
    Media: "media",
    Think: "think",
    Call: "call",
    Result: "result",
    Refusal: "refusal",
    Opaque: "opaque",
}
_READERS: dict[str, Callable[[JsonObject], Block]] = {
    "text": lambda d: Text(_text(d, "text"), _px(d)),
    "media": lambda d: Media(_text(d, "mime"), _text(d, "ref"), _maybe_text(d, "name"), _px(d)),
    "think": lambda d: Think(
        _text(d, "text"), _maybe_text(d, "sig"), _maybe_text(d, "data"), _px(d)
    ),
    "call": _read_call,
    "result": _read_result,
    "refusal": lambda d: Refusal(_text(d, "text"), _px(d)),
    "opaque": lambda d: Opaque(_text(d, "kind"), d.get("data"), _px(d)),
}
