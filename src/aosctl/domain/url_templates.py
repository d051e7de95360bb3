"""Templates whose {placeholders} are a call's arguments: of URLs, and of what is sent to them.

An argument becomes one segment of the path or one value of the query; it can never add a segment,
a key or another host. `{{` and `}}` stand for braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from aosctl.domain.names import quoted

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ALL = re.compile(r"\{([^{}]*)\}")
ABSENT: Any = object()
"""What a template of one placeholder is whose argument was not given."""


class Misfit(Exception):
    """A template that is none, or arguments that do not fit it; its text says why."""


def names_in(template: str) -> list[str]:
    """Return the placeholders of a template in order. Raises Misfit for a brace that is left."""
    found = []
    for piece in _PIECE.finditer(template):
        if piece[0] in ("{{", "}}"):
            continue
        if piece[1] is None or not _NAME.fullmatch(piece[1]):
            text = "holds a brace that is no {placeholder}; a brace itself is written twice"
            raise Misfit(text)
        found.append(piece[1])
    return found


def names_within(value: Any) -> Iterator[str]:
    """Yield the placeholders of every text inside a JSON value. Raises Misfit."""
    if isinstance(value, str):
        yield from names_in(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from names_within(each)
    elif isinstance(value, list):
        for each in value:
            yield from names_within(each)


def split_url(template: str) -> tuple[str, str, str | None]:
    """Return scheme and host, path, and query of a URL's template, the host without placeholders.

    Raises Misfit.
    """
    found = re.fullmatch(r"(https?://[^/?#]*)([^?#]*)(?:\?([^#]*))?", template)
    if found is None:
        raise Misfit("is no URL of http or https without a fragment")
    if "{" in found[1] or "}" in found[1]:
        raise Misfit("has a placeholder in its host; a skill has one host, or several skills")
    return found[1], found[2], found[3]


def query_names(query: str | None) -> list[str]:
    """Return the placeholders of a URL's query. Raises Misfit where one stands in a key."""
    names: list[str] = []
    for pair in (query or "").split("&"):
        key, _, value = pair.partition("=")
        if names_in(key):
            raise Misfit("has a placeholder in a key of its query")
        names += names_in(value)
    return names


def fill_path(template: str, args: Mapping[str, Any]) -> str:
    """Put arguments into the path of a URL, each inside its segment. Raises Misfit."""
    segments = template.split("/")
    return "/".join(_segment(segment, args) for segment in segments)


def _segment(template: str, args: Mapping[str, Any]) -> str:
    if not names_in(template):
        return template.replace("{{", "%7B").replace("}}", "%7D")
    plain = fill_text(template, args, required=True)
    # A slash would be sent as %2F, which many servers take for a slash again.
    if plain.strip() in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", plain):
        raise Misfit(
            "an argument in the path of a URL is not empty, no . or .., and holds no slash"
        )
    return fill_text(template, args, required=True, encode=_encoded)


def fill_query(template: str, args: Mapping[str, Any]) -> str:
    """Put arguments into the query of a URL's template; pairs without theirs are left out."""
    pairs = []
    for pair in template.split("&"):
        key, equals, value = pair.partition("=")
        if all(args.get(name) is not None for name in names_in(value)):
            text = fill_text(value, args, encode=_encoded)
            pairs.append(f"{key}{equals}{text}")
    return "&".join(pairs)


def fill_text(
    template: str,
    args: Mapping[str, Any],
    *,
    required: bool = False,
    encode: Callable[[str], str] = str,
) -> str:
    """Put arguments into a text; one that is absent is nothing. Raises Misfit if `required`."""

    def put(piece: re.Match[str]) -> str:
        if piece[0] in ("{{", "}}"):
            return piece[0][0] if encode is str else encode(piece[0][0])
        value = args.get(piece[1])
        if value is None and required:
            raise Misfit(f"the argument {quoted(piece[1])} is missing")
        return encode(as_text(piece[1], value))

    return _PIECE.sub(put, template)


def fill_value(template: Any, args: Mapping[str, Any]) -> Any:
    """Put arguments into a JSON value. A text that is one placeholder becomes the argument itself.

    ABSENT where that argument was not given; inside an object or a list it is left out.
    """
    if isinstance(template, str):
        alone = _ALL.fullmatch(template)
        if alone is not None:
            return args.get(alone[1], ABSENT)
        return fill_text(template, args)
    if isinstance(template, Mapping):
        filled = {key: fill_value(value, args) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not ABSENT}
    if isinstance(template, list):
        values = [fill_value(value, args) for value in template]
        return [value for value in values if value is not ABSENT]
    return template


def as_text(name: str, value: Any) -> str:
    """Return an argument as it stands in a text. Raises Misfit for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise Misfit(f"the argument {quoted(name)} holds half a character")
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise Misfit(f"the argument {quoted(name)} is a list or an object where a text is needed")


def _encoded(text: str) -> str:
    return quote(text, safe="")
