"""The fields of a form that a tool asks a person for, read from its JSON Schema of one level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from aosctl.messages import JsonObject

_MOST_CHOICES = 100
_LONGEST = 10_000
_YES = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}
_EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_WHAT = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "y or n",
    "array": "several, with commas between them",
}


class Wrong(Exception):
    """An answer does not fit; says what is expected."""


@dataclass(frozen=True, slots=True)
class FormField:
    """One field: how it is asked for, and what it takes."""

    name: str
    schema: Mapping[str, Any]
    required: bool

    @property
    def title(self) -> str:
        """Return what a person reads."""
        return str(self.schema.get("title") or self.name)

    @property
    def kind(self) -> str:
        """Return the type; text where the schema has none that a form may have."""
        kind = self.schema.get("type")
        return kind if kind in _WHAT else "string"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Return what may be chosen, each with its title; empty where anything may be typed."""
        of = self.schema.get("items") if self.kind == "array" else self.schema
        of = of if isinstance(of, Mapping) else {}
        titled = of.get("oneOf") or of.get("anyOf")
        if isinstance(titled, list):
            found = [one for one in titled if isinstance(one, Mapping) and "const" in one]
            pairs = [(str(one["const"]), str(one.get("title") or one["const"])) for one in found]
        else:
            listed, given = of.get("enum"), of.get("enumNames")
            values = listed if isinstance(listed, list) else []
            names = given if isinstance(given, list) and len(given) == len(values) else values
            pairs = [(str(value), str(name)) for value, name in zip(values, names, strict=True)]
        return pairs[:_MOST_CHOICES]

    @property
    def default(self) -> Any:
        """Return what an empty answer stands for; None where it stands for nothing."""
        return self.schema.get("default")

    def said(self, value: Any) -> str:
        """Return an answer as a person reads it: of a choice its title too."""
        if isinstance(value, list):
            return ", ".join(map(self.said, value))
        if isinstance(value, bool):
            return "yes" if value else "no"
        title = dict(self.choices).get(str(value), str(value))
        return title if title == str(value) else f"{title} ({value})"

    def hint(self) -> str:
        """Say what is expected, in a few words."""
        words = [_WHAT.get(self.kind, "")]
        form = self.schema.get("format")
        if self.kind == "string" and not self.choices and isinstance(form, str):
            words.append(form)
        if self.default is not None:
            words.append(f"Enter takes {self.said(self.default)}")
        else:
            words.append("" if self.required else "may be empty")
        return ", ".join(word for word in words if word)

    def read(self, typed: str) -> Any:
        """Return the value of an answer; None for an empty one that is no value. Raises Wrong."""
        text = typed.strip()
        if not text:
            if self.default is not None:
                return self.default
            if self.required:
                raise Wrong("an answer is needed; Ctrl-D cancels")
            return None
        if self.kind == "array":
            return self._several(text)
        if self.choices:
            return self._chosen(text)
        if self.kind == "boolean":
            if text.lower() not in _YES:
                raise Wrong("y or n is expected")
            return _YES[text.lower()]
        if self.kind in ("integer", "number"):
            return self._number(text)
        return self._text(text)

    def _chosen(self, text: str) -> str:
        """Return the value of a choice, named by itself, its title or its number in the list."""
        for number, (value, title) in enumerate(self.choices, start=1):
            if text in (value, title, str(number)):
                return value
        listed = ", ".join(value for value, _ in self.choices[:20])
        raise Wrong(f"one of these is expected: {listed}")

    def _several(self, text: str) -> list[str]:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        found = list(dict.fromkeys(self._chosen(p) if self.choices else p for p in parts))
        least, most = self.schema.get("minItems", 0), self.schema.get("maxItems", 1_000)
        if not _number_of(least, 0) <= len(found) <= _number_of(most, 1_000):
            raise Wrong(f"{least} to {most} of them are expected")
        return found

    def _number(self, text: str) -> int | float:
        pattern = r"[+-]?\d{1,300}" if self.kind == "integer" else r"[+-]?\d{1,300}(\.\d{1,300})?"
        if not re.fullmatch(pattern, text, re.ASCII):
            raise Wrong(f"{_WHAT[self.kind]} is expected")
        value = int(text) if self.kind == "integer" or "." not in text else float(text)
        least, most = self.schema.get("minimum"), self.schema.get("maximum")
        if isinstance(least, int | float) and value < least:
            raise Wrong(f"at least {least} is expected")
        if isinstance(most, int | float) and value > most:
            raise Wrong(f"at most {most} is expected")
        return value

    def _text(self, text: str) -> str:
        least = _number_of(self.schema.get("minLength"), 0)
        most = min(_number_of(self.schema.get("maxLength"), _LONGEST), _LONGEST)
        if not least <= len(text) <= most:
            raise Wrong(f"{least} to {most} characters are expected")
        if wanted := _not_of_format(text, self.schema.get("format")):
            raise Wrong(f"{wanted} is expected")
        return text


def fields_of(schema: JsonObject) -> list[FormField]:
    """Return the fields of a form, in their order."""
    properties = schema.get("properties")
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    return [
        FormField(name, field, name in needed)
        for name, field in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(field, Mapping)
    ]


def _number_of(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _not_of_format(text: str, form: Any) -> str | None:
    """Say what a text should be, where it is not of its format."""
    if form == "email" and not re.fullmatch(_EMAIL, text):
        return "an e-mail address"
    if form == "uri" and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", text):
        return "a URL"
    try:
        if form == "date":
            date.fromisoformat(text)
        elif form == "date-time":
            datetime.fromisoformat(text)
    except ValueError:
        return "a date such as 2026-11-30" + ("T09:00:00+01:00" if form == "date-time" else "")
    return None
