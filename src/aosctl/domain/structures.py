"""The field types that hold others: lists, free mappings, and mappings with known fields."""

from __future__ import annotations

import copy
from collections.abc import Mapping as AnyMapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from aosctl.domain import yaml_text
from aosctl.domain.fields import Number, Text, Type, whole
from aosctl.domain.names import nearest, quoted
from aosctl.domain.reading import INVALID, Reading
from aosctl.domain.yaml_text import Node, Scalar, is_null


class ListOf(Type):
    """A list whose items are all of one type."""

    what: ClassVar[str] = "a list"
    item: Type
    min_items: int = 0
    max_items: int = 1_000
    unique: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node, yaml_text.Sequence):
            advice = "; write it as a list of one" if isinstance(node, Scalar) else ""
            return self.mismatch(node, path, reading, advice)
        if not self.min_items <= len(node.items) <= self.max_items:
            bounds = f"{self.min_items:,} to {self.max_items:,} are expected"
            text = f"has {len(node.items):,} items; {bounds}"
            return reading.wrong(node.line, node.column, path, text)
        values: list[Any] = []
        seen: set[str] = set()
        for position, item in enumerate(node.items):
            at = f"{path}[{position}]"
            reading.places[at] = (item.line, item.column)
            value = self.item.read(item, at, reading)
            if self.unique and value is not INVALID:
                if str(value) in seen:
                    text = f"{quoted(str(value))} is listed twice"
                    reading.wrong(item.line, item.column, at, text)
                seen.add(str(value))
            values.append(value)
        return [value for value in values if value is not INVALID]

    def words(self) -> str:
        return f"list of: {self.item.words()}"

    def schema(self) -> dict[str, Any]:
        schema = {"type": "array", "items": self.item.schema(), "maxItems": self.max_items}
        if self.min_items:
            schema["minItems"] = self.min_items
        if self.unique:
            schema["uniqueItems"] = True
        return schema


class MapOf(Type):
    """A mapping with keys of the user's choice and values of one type."""

    what: ClassVar[str] = "a mapping"
    value: Type
    key: Text = Text(min_length=1, max_length=253)
    max_items: int = 1_000

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node, yaml_text.Mapping):
            return self.mismatch(node, path, reading)
        if len(node.entries) > self.max_items:
            text = f"has {len(node.entries):,} entries; at most {self.max_items:,} fit"
            return reading.wrong(node.line, node.column, path, text)
        values: dict[str, Any] = {}
        for entry in node.entries:
            at = f"{path}.{entry.key}"
            key = Scalar(entry.line, entry.column, entry.key, entry.key)
            reading.places[at] = (entry.node.line, entry.node.column)
            value = self.value.read(entry.node, at, reading)
            if self.key.read(key, path, reading) is not INVALID and value is not INVALID:
                values[entry.key] = value
        return values

    def words(self) -> str:
        return f"mapping of string to {self.value.words()}"

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.value.schema()}


class Field(NamedTuple):
    """One field of a mapping. `default` is what an absent or null field means; None leaves it out.

    `default_words` says a default in the reference that depends on other fields.
    """

    name: str
    type: Type
    doc: str
    required: bool = False
    default: Any = None
    default_words: str = ""


class Object(Type):
    """A mapping with known fields; `unknown` has its own words for names that others have."""

    what: ClassVar[str] = "a mapping"
    fields: tuple[Field, ...]
    unknown: AnyMapping[str, str] = MappingProxyType({})

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node, yaml_text.Mapping):
            return self.mismatch(node, path, reading)
        known = {field.name: field for field in self.fields}
        given: dict[str, Any] = {}
        meant: set[str] = set()
        for entry in node.entries:
            at = f"{path}.{entry.key}" if path else entry.key
            declared = known.get(entry.key)
            if declared is None:
                likely = nearest(entry.key, known)
                advice = f"; did you mean {quoted(likely)}?" if likely else ""
                text = f"unknown field{advice}"
                place = entry.line, entry.column
                if entry.key in self.unknown or not reading.stranger(*place, at, text):
                    meant.add(likely or "")
                    reading.wrong(*place, at, self.unknown.get(entry.key, text))
            elif not is_null(entry.node):
                reading.places[at] = (entry.node.line, entry.node.column)
                given[entry.key] = declared.type.read(entry.node, at, reading)
        for absent in [known[name] for name in known if name not in given]:
            if absent.required and absent.name not in meant:
                at = f"{path}.{absent.name}" if path else absent.name
                reading.wrong(node.line, node.column, at, "is required")
            elif absent.default is not None:
                given[absent.name] = default_of(absent)
        return {name: given[name] for name in known if given.get(name, INVALID) is not INVALID}

    def words(self) -> str:
        return "mapping"

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {declared.name: field_schema(declared) for declared in self.fields},
        }
        required = [declared.name for declared in self.fields if declared.required]
        return {**schema, "required": required} if required else schema


def arrange(field_type: Type | None, value: Any) -> Any:
    """Put a stored value into the order of its declaration, free mappings by key.

    The database keeps no order of keys and turns 5 into 5.0; printing and comparing need both.
    """
    if isinstance(value, AnyMapping):
        known = {one.name: one.type for one in getattr(field_type, "fields", ())}
        inner = field_type.value if isinstance(field_type, MapOf) else None
        ordered = [name for name in known if name in value]
        ordered += sorted(value.keys() - known.keys())
        return {name: arrange(known.get(name, inner), value[name]) for name in ordered}
    if isinstance(value, list):
        item = field_type.item if isinstance(field_type, ListOf) else None
        return [arrange(item, one) for one in value]
    if isinstance(field_type, Number):
        return whole(value)
    return value


def default_of(declared: Field) -> Any:
    """Return a fresh copy of a field's default, with the defaults inside it."""
    if isinstance(declared.type, Object) and declared.default == {}:
        inner = (field for field in declared.type.fields if field.default is not None)
        return {field.name: default_of(field) for field in inner}
    return copy.deepcopy(declared.default)


def field_schema(declared: Field) -> dict[str, Any]:
    """Return a field's JSON Schema with its documentation and default."""
    schema = {"description": declared.doc, **declared.type.schema()}
    if declared.default is not None:
        schema["default"] = default_of(declared)
    return schema
