"""The one printer: data to stdout in the format of `-o`, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

from aosctl.cli.table import NONE, write_table
from aosctl.errors import UsageError
from aosctl.redaction import redact
from aosctl.terminal import clean, is_safe, visible
from aosctl.timestamps import to_the_second

Format = Literal[
    "table",
    "wide",
    "json",
    "yaml",
    "name",
    "jsonpath",
    "jsonpath-as-json",
    "custom-columns",
    "stream-json",
]
Resource = Mapping[str, object]
"""An object in manifest form: apiVersion, kind, metadata, spec, status."""

_OF_OBJECTS = tuple(name for name in get_args(Format) if name != "stream-json")
_WITH_TEMPLATE = ("jsonpath", "jsonpath-as-json", "custom-columns")


class Output(NamedTuple):
    """What `-o` asked for; `template` belongs to jsonpath, as text or JSON, and custom-columns."""

    format: Format = "table"
    template: str = ""

    @property
    def is_table(self) -> bool:
        """Tell whether the verb prints its own table; `write_objects` does all others."""
        return self.format in ("table", "wide")


def parse_output(text: str | None, *, allowed: Sequence[Format] = _OF_OBJECTS) -> Output:
    """Return what `-o text` means. Raises UsageError in kubectl's words, for a template too."""
    if text is None:
        return Output()
    name, _, template = text.partition("=")
    if name == "table" or name not in allowed or (template and name not in _WITH_TEMPLATE):
        raise no_printer(text, sorted(set(allowed) - {"table"}))
    if name in _WITH_TEMPLATE and not template:
        raise UsageError(f"template format specified but no template given: -o {name}=TEMPLATE")
    if name == "jsonpath":
        from aosctl.cli import jsonpath_parser

        jsonpath_parser.parse(template)
    elif name == "jsonpath-as-json":
        from aosctl.cli import jsonpath_parser

        jsonpath_parser.parse_path(template)
    elif name == "custom-columns":
        _columns_of(template)
    return Output(cast(Format, name), template)


def no_printer(text: str, allowed: Iterable[str]) -> UsageError:
    """Return kubectl's error for a format of `-o` that a verb does not have."""
    return UsageError(
        f'unable to match a printer suitable for the output format "{text}", '
        f"allowed formats are: {','.join(allowed)}"
    )


def write_objects(
    objects: Sequence[Resource], output: Output, *, single: bool = False, show_headers: bool = True
) -> None:
    """Print `objects` as `output` says; `single` when one was asked for by name.

    Several are wrapped in a List for json, yaml and jsonpath.
    """
    objects = [cast(Resource, _plain(resource)) for resource in objects]
    whole: object = objects[0] if single and objects else as_list(objects)
    match output.format:
        case "json":
            write_json(whole)
        case "yaml":
            write_yaml(whole)
        case "jsonpath":
            from aosctl.cli import jsonpath, jsonpath_parser

            write(jsonpath.render(jsonpath_parser.parse(output.template), whole))
        case "jsonpath-as-json":
            from aosctl.cli import jsonpath, jsonpath_parser

            write_json(jsonpath.find(jsonpath_parser.parse_path(output.template), whole))
        case "custom-columns":
            _write_custom_columns(objects, output.template, show_headers=show_headers)
        case "name":
            write("".join(f"{full_name(resource)}\n" for resource in objects))
        case _:
            raise ValueError(f"a verb prints its own {output.format}")


def as_list(objects: Iterable[Resource]) -> dict[str, object]:
    """Wrap `objects` in kubectl's List."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": list(objects)}


def full_name(resource: Resource) -> str:
    """Return `persona.aos/pg_expert`, the name that other verbs accept."""
    group = str(resource["apiVersion"]).partition("/")[0]
    metadata = cast(Mapping[str, object], resource["metadata"])
    return f"{str(resource['kind']).lower()}.{group}/{metadata['name']}"


def write(text: str) -> None:
    """Print data: as it is into a file or pipe, stripped of control sequences on a terminal."""
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)


def note(text: str, *, quiet: bool = False) -> None:
    """Print one message for the person to stderr, unless `--quiet`."""
    if not quiet:
        sys.stderr.write(clean(redact(text)) + "\n")


def write_json(value: object) -> None:
    """Print `value` as indented JSON; what a terminal could act on stands as an escape."""
    import json

    text = json.dumps(_plain(value), indent=4, sort_keys=True, ensure_ascii=False)
    sys.stdout.write(visible(text) + "\n")


def write_yaml(value: object) -> None:
    """Print `value` as one YAML document, multi-line text as a block."""
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    dumper: Any = type("Dumper", (base,), {"ignore_aliases": lambda _self, _data: True})
    dumper.add_representer(str, _represent_text)
    text = yaml.dump(_plain(value), Dumper=dumper, sort_keys=True, allow_unicode=True, width=2**30)
    # Text with such characters is in double quotes by now, where YAML reads the escapes.
    sys.stdout.write(visible(text, lambda character: f"\\U{ord(character):08x}"))


def _represent_text(dumper: Any, text: str) -> object:
    text = text.encode("utf-8", "replace").decode()
    style = ("|" if "\n" in text else None) if is_safe(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _plain(value: object) -> object:
    """Return `value` with JSON types only: times in RFC 3339, money as a number, others as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    from datetime import datetime
    from decimal import Decimal

    if isinstance(value, Decimal):  # the shortest number in JSON that reads the same
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return to_the_second(value)
    return str(value)


def _write_custom_columns(
    objects: Sequence[Resource], template: str, *, show_headers: bool
) -> None:
    from aosctl.cli import jsonpath, jsonpath_parser

    columns = _columns_of(template)
    paths = [jsonpath_parser.parse_path(expression) for _, expression in columns]
    rows = []
    for resource in objects:
        found = [jsonpath.find(path, resource) for path in paths]
        rows.append([",".join(map(jsonpath.show, values)) or NONE for values in found])
    write_table([header for header, _ in columns], rows, show_headers=show_headers)


def _columns_of(template: str) -> list[tuple[str, str]]:
    """Return the headers of custom columns with their paths. Raises UsageError."""
    from aosctl.cli import jsonpath_parser

    columns = []
    for column in template.split(","):
        header, _, expression = column.partition(":")
        if not header or not expression:
            raise UsageError(
                f"unexpected custom-columns spec: {column}, expected <header>:<json-path-expr>"
            )
        jsonpath_parser.parse_path(expression)
        columns.append((header, expression))
    return columns
