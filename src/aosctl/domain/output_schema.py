"""The JSON Schema that an answer has to satisfy: read from a file, told the model, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aosctl.errors import UsageError
from aosctl.messages import JsonObject

_MOST_BYTES = 200_000
_SHOWN = 200


class Unfit(Exception):
    """An answer that is no JSON, or does not satisfy the schema; its text says where."""


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """A checked schema, as an object of JSON."""

    schema: JsonObject

    def request(self, text: str) -> str:
        """Return a message that asks for JSON of this schema; for any model of any provider."""
        return (
            f"{text}\n\nAnswer with JSON alone, which satisfies this JSON Schema:\n"
            + json.dumps(self.schema, ensure_ascii=False)
        )

    def repair(self, why: str) -> str:
        """Return the message that sends an answer back."""
        return f"That answer does not satisfy the JSON Schema: {why}. Answer with the JSON alone."

    def parse(self, answer: str) -> Any:
        """Return the JSON of an answer, a fence around it left out. Raises Unfit."""
        from jsonschema.exceptions import best_match

        try:
            value = json.loads(_unfenced(answer), parse_constant=_no_json)
        except ValueError as error:
            raise Unfit(_why_no_json(error)) from None
        except RecursionError:
            raise Unfit("it is nested too deep") from None
        try:
            found = best_match(_validator(self.schema).iter_errors(value))
        except RecursionError:
            raise Unfit("it is nested too deep for its schema") from None
        if found is not None:
            raise Unfit(f"{_shortened(found.json_path)}: {_shortened(found.message)}")
        return value


def load(path: str) -> OutputSchema:
    """Read a schema. Raises UsageError with the file and the place."""
    text = _text(path)
    try:
        schema = json.loads(text, parse_constant=_no_json)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(schema, dict):
        raise UsageError(f"{path}: a JSON Schema is an object")
    _check(path, schema)
    return OutputSchema(schema)


def _text(path: str) -> str:
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path}: a schema has at most {_MOST_BYTES:,} bytes, not {len(data):,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: it is no UTF-8 text, at byte {error.start}") from None


def _check(path: str, schema: JsonObject) -> None:
    """Refuse what is no schema, and references that lead out of the file or to nothing."""
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        validator = _validator(schema)
        validator.check_schema(schema)
        resolver = _registry(schema).resolver()
        for reference in _references(schema):
            resolver.lookup(reference)
    except SchemaError as error:
        raise UsageError(f"{path}: {error.json_path}: {_shortened(error.message)}") from None
    except Unresolvable as error:
        raise UsageError(
            f'{path}: the reference "{_shortened(str(error.ref))}" leads nowhere in this file'
        ) from None
    except RecursionError:
        raise UsageError(f"{path}: it is nested too deep") from None


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _registry(schema: JsonObject) -> Any:
    """Return what references are looked up in: this file alone, nothing is fetched."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    made: Any = Registry()
    return made.with_resource("", DRAFT202012.create_resource(schema))


def _validator(schema: JsonObject) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for

    made: Any = validator_for(schema, default=Draft202012Validator)
    return made(schema, registry=_registry(schema))


def _unfenced(answer: str) -> str:
    text = answer.strip()
    first, _, rest = text.partition("\n")
    if first.startswith("```") and rest.rstrip().endswith("```"):
        return rest.rstrip().removesuffix("```")
    return text


def _why_no_json(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    return f"it is no JSON: {error}"


def _no_json(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
