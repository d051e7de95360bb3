"""The types of manifest fields: each reads itself, documents itself and gives its JSON Schema.

A kind declares its fields once with these and with `structures`; validation, the reference,
the JSON Schemas and `explain` all come from that one declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

from aosctl.domain import yaml_text
from aosctl.domain.names import NAME_PATTERN, NAME_RULE, did_you_mean, quoted
from aosctl.domain.reading import INVALID, Reading, Ref
from aosctl.domain.yaml_text import Node, Scalar, kind_of

VALUE_PATTERN = r"[a-z0-9][a-z0-9_.-]{0,62}(?:/[A-Za-z0-9_.-]{1,253})?"
"""NAME or NAME/KEY of a Secret."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Type:
    """A type of field. A subclass declares its parameters as a frozen dataclass does.

    It is none, because defining one takes a millisecond, and a dozen stand on the way of every
    verb that reads the database. A default is a class attribute, so it is nothing mutable.
    """

    what: ClassVar[str] = "a value"
    _parameters: ClassVar[frozenset[str]] = frozenset()
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = {name for name, said in cls.__annotations__.items() if "ClassVar" not in str(said)}
        cls._parameters |= own
        cls._required = frozenset(name for name in cls._parameters if not hasattr(cls, name))

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - self._parameters:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        if absent := self._required - given.keys():
            raise TypeError(f"{type(self).__name__} needs {', '.join(sorted(absent))}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is never changed: {name}")

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        """Return the plain value of a node, or report the problem and return INVALID."""
        raise NotImplementedError

    def words(self) -> str:
        """Say the type in the reference's words."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft-07) of the type."""
        raise NotImplementedError

    def mismatch(self, node: Node, path: str, reading: Reading, advice: str = "") -> Any:
        """Report that the node is of another type."""
        text = f"expected {self.what}, found {kind_of(node)}{advice}"
        return reading.wrong(node.line, node.column, path, text)


class Text(Type):
    """A string. `secret` keeps the value out of messages."""

    what: ClassVar[str] = "a string"
    min_length: int = 0
    max_length: int = 2_000
    pattern: str | None = None
    rule: str = ""
    secret: bool = False
    check: Callable[[str], str | None] | None = None

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node, Scalar):
            return self.mismatch(node, path, reading)
        if not isinstance(node.value, str):
            return self.mismatch(node, path, reading, f"; quote it: {quoted(node.text)}")
        reason = self._reason(node.value)
        return reading.wrong(node.line, node.column, path, reason) if reason else node.value

    def _reason(self, text: str) -> str | None:
        if len(text.strip()) < self.min_length:
            return "must not be empty"
        if len(text) > self.max_length:
            return f"is {len(text):,} characters long; at most {self.max_length:,} fit"
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return f"{self.rule}" if self.secret else f"{quoted(text)} is not {self.rule}"
        return self.check(text) if self.check is not None else None

    def words(self) -> str:
        return "string"

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "maxLength": self.max_length}
        if self.min_length:
            schema["minLength"] = self.min_length
        if self.pattern is not None:
            schema["pattern"] = f"^(?:{self.pattern})$"
        elif self.min_length:
            schema["pattern"] = r"\S"  # white space alone counts as nothing
        return schema


def name_text() -> Text:
    """Return the type of a resource's own name."""
    return Text(min_length=1, max_length=63, pattern=NAME_PATTERN, rule=f"a name: {NAME_RULE}")


class Reference(Type):
    """The name of another resource, or of something built in."""

    what: ClassVar[str] = "a name"
    kind: str
    builtins: tuple[str, ...] = ()
    embeds: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        name = name_text().read(node, path, reading)
        if name is not INVALID:
            place = (node.line, node.column)
            ref = Ref(self.kind, name, path, *place, self.builtins, embeds=self.embeds)
            reading.refs.append(ref)
        return name

    def words(self) -> str:
        return f"name of a {self.kind}" + (" or of a built-in" if self.builtins else "")

    def schema(self) -> dict[str, Any]:
        return name_text().schema()


class SecretReference(Text):
    """A value of a Secret of the same tenant: `NAME`, or `NAME/KEY` where it has several."""

    min_length: int = 1
    max_length: int = 320
    pattern: str | None = VALUE_PATTERN
    rule: str = "takes NAME or NAME/KEY of a Secret, never the value itself"
    secret: bool = True

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        text = super().read(node, path, reading)
        if text is not INVALID:
            name, _, key = text.partition("/")
            reading.refs.append(Ref("Secret", name, path, node.line, node.column, value=key))
        return text


class Choice(Type):
    """One of a few words."""

    what: ClassVar[str] = "a word"
    values: tuple[str, ...]

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if isinstance(node, Scalar) and node.value in self.values and isinstance(node.value, str):
            return node.value
        if not isinstance(node, Scalar):
            return self.mismatch(node, path, reading)
        listed = ", ".join(self.values)
        text = f"{quoted(node.text)} is not one of {listed}{did_you_mean(node.text, self.values)}"
        return reading.wrong(node.line, node.column, path, text)

    def words(self) -> str:
        return " \\| ".join(f"`{value}`" for value in self.values)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


class Flag(Type):
    """A boolean."""

    what: ClassVar[str] = "true or false"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        return self.mismatch(node, path, reading, "; only these two words, unquoted, are booleans")

    def words(self) -> str:
        return "boolean"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Number(Type):
    """A number; `whole` admits integers only."""

    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            what = "an integer" if self.whole else "a number"
            plain = "digits, no quotes, no leading zero"
            advice = f"; it is written in plain {plain}" if isinstance(value, str) else ""
            text = f"expected {what}, found {kind_of(node)}{advice}"
            return reading.wrong(node.line, node.column, path, text)
        if self.minimum is not None and value < self.minimum:
            text = f"{value} is too small; at least {self.minimum:g} is needed"
            return reading.wrong(node.line, node.column, path, text)
        if self.maximum is not None and value > self.maximum:
            text = f"{value} is too large; at most {self.maximum:,.10g} is allowed"
            return reading.wrong(node.line, node.column, path, text)
        return whole(value)

    def words(self) -> str:
        least = "" if self.minimum is None else f", at least {self.minimum:g}"
        most = "" if self.maximum is None else f", at most {self.maximum:,.10g}"
        return ("integer" if self.whole else "number") + least + most

    def schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        kept = {name: bound for name, bound in bounds.items() if bound is not None}
        return {"type": "integer" if self.whole else "number", **kept}


class Anything(Type):
    """Any value at all, passed on as it is written."""

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        return plain(node)

    def words(self) -> str:
        return "any value"

    def schema(self) -> dict[str, Any]:
        return {}


def whole(value: Any) -> Any:
    """Return a float without a fraction as the integer that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(node: Node) -> Any:
    """Return the plain Python value of a node."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, yaml_text.Sequence):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.node) for entry in node.entries}
