"""What `explain` prints: a kind or one of its fields, from its own declaration.

Source of the layout: the plaintext template of kubectl 1.33 (pkg/explain/v2/templates).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from aosctl.domain.fields import Anything, Choice, Flag, Number, Type
from aosctl.domain.kinds.base import API_VERSION, Kind
from aosctl.domain.names import did_you_mean, quoted
from aosctl.domain.structures import Field, ListOf, MapOf, Object, default_of
from aosctl.errors import AosError

_WIDTH = 80
_INDENT = "  "


def kind_to_explain(word: str) -> Kind:
    """Find the kind that a person typed, also the one that no kernel keeps. Raises UnknownKind."""
    from aosctl.domain.inventory import readable_kind
    from aosctl.domain.kinds.agent_test import AgentTest

    tests = AgentTest()
    return tests if word.lower().removesuffix(".aos") in tests.words else readable_kind(word)


def explain(kind: Kind, path: Sequence[str] = (), *, recursive: bool = False) -> str:
    """Explain a kind, or the field that `path` leads to; lists are passed through.

    Raises AosError in kubectl's words where the path leads nowhere.
    """
    group, _, version = API_VERSION.partition("/")
    head = f"GROUP:      {group}\nKIND:       {kind.name}\nVERSION:    {version}\n\n"
    field = _find(kind, path) if path else None
    if field is None:
        return head + _description(kind.doc) + _fields(kind.manifest_type, recursive)
    required = " -required-" if field.required else ""
    title = f"FIELD: {field.name} <{type_words(field.type)}>{required}\n"
    inner = inside(field.type)
    return (
        f"{head}{title}{_enum(field.type)}\n{_description(_told(field))}"
        f"{_fields(inner, recursive) if inner is not None else ''}"
    )


def type_words(field_type: Type) -> str:
    """Return a type as kubectl writes it: `string`, `[]string`, `map[string]string`, `Object`."""
    if isinstance(field_type, ListOf):
        return f"[]{type_words(field_type.item)}"
    if isinstance(field_type, MapOf):
        return f"map[string]{type_words(field_type.value)}"
    if isinstance(field_type, Number):
        return "integer" if field_type.whole else "number"
    if isinstance(field_type, Object):
        return "Object"
    names: dict[type[Type], str] = {Flag: "boolean", Anything: "any"}
    return names.get(type(field_type), "string")


def inside(field_type: Type) -> Object | None:
    """Return the mapping with known fields that a type is, lists or maps."""
    while isinstance(field_type, ListOf | MapOf):
        field_type = field_type.item if isinstance(field_type, ListOf) else field_type.value
    return field_type if isinstance(field_type, Object) else None


def _find(kind: Kind, path: Sequence[str]) -> Field:
    at: Object | None = kind.manifest_type
    field = None
    for place, word in enumerate(path):
        name = word.removesuffix("[*]").removesuffix("[]")
        known = {one.name: one for one in at.fields} if at is not None else {}
        if name not in known:
            where = ".".join((kind.singular, *path[:place]))
            hint = f"aosctl explain {where}" + (" --recursive" if known else "")
            raise AosError(f"field {quoted(name)} does not exist{did_you_mean(name, known)}", hint)
        field = known[name]
        at = inside(field.type)
    if field is None:
        raise AssertionError("a path has one word at least")
    return field


def _fields(holder: Object, recursive: bool) -> str:
    lines = _tree(holder, _INDENT) if recursive else _list(holder)
    return "FIELDS:\n" + "".join(f"{line}\n" for line in lines) + ("\n" if recursive else "")


def _list(holder: Object) -> Iterator[str]:
    for field in holder.fields:
        yield _INDENT + _heading(field)
        if values := _choices(field.type):
            yield f"{_INDENT}enum: {', '.join(values)}"
        yield from _wrapped(_told(field), 2 * _INDENT)
        yield ""


def _tree(holder: Object, indent: str) -> Iterator[str]:
    for field in holder.fields:
        yield indent + _heading(field)
        if values := _choices(field.type):
            yield f"{indent}enum: {', '.join(values)}"
        inner = inside(field.type)
        if inner is not None:
            yield from _tree(inner, indent + _INDENT)


def _heading(field: Field) -> str:
    return f"{field.name}\t<{type_words(field.type)}>{' -required-' if field.required else ''}"


def _description(text: str) -> str:
    lines = "".join(f"{line}\n" for line in _wrapped(text, 2 * _INDENT))
    return f"DESCRIPTION:\n{lines}\n"


def _enum(field_type: Type) -> str:
    values = _choices(field_type)
    return "ENUM:\n" + "".join(f"    {value}\n" for value in values) if values else ""


def _choices(field_type: Type) -> tuple[str, ...]:
    while isinstance(field_type, ListOf | MapOf):
        field_type = field_type.item if isinstance(field_type, ListOf) else field_type.value
    return field_type.values if isinstance(field_type, Choice) else ()


def _told(field: Field) -> str:
    """Return a field's documentation with its bounds and its default."""
    told = [field.doc]
    bounds = field.type.words().partition(", ")[2] if isinstance(field.type, Number) else ""
    if bounds:
        told.append(f"{bounds[0].upper()}{bounds[1:]}.")
    if field.default_words:
        told.append(f"Default: {field.default_words}.")
    elif field.default is not None and not isinstance(field.type, Object):
        told.append(f"Default: {json.dumps(default_of(field), ensure_ascii=False)}.")
    return " ".join(told)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
