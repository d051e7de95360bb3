"""The reference of manifests, written from the kinds' own declarations.

`python -m aosctl.domain.kinds.reference docs` writes the page and the JSON Schemas anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosctl.domain.fields import Type
from aosctl.domain.kinds import KINDS
from aosctl.domain.kinds.base import Kind
from aosctl.domain.kinds.json_schema import DECLARED, schema_for, schema_for_all
from aosctl.domain.structures import Field, ListOf, MapOf, Object, default_of

PAGE = "manifests.md"
SCHEMA = "aos-v1.schema.json"
SCHEMAS = "schemas"
"""The folder of the schemas of single kinds, beside the page."""

_HEAD = """\
# Manifests

Everything that `aosctl` manages is written in manifests: YAML or JSON documents of this form.
This page is generated from the program's own declarations; `aos-v1.schema.json` beside it is the
same as a JSON Schema (draft-07) for editors, `schemas/` has one a kind; `aosctl schema` prints
them, `aosctl explain` this page.

```yaml
apiVersion: aos/v1
kind: Persona
metadata:
  name: pg_expert
  tenant: tech_corp
spec:
  …
```

One set of files is one transaction: `aosctl apply -f` applies all of it or, with every problem
named by file, line and column, nothing. The documents may stand in any order and refer to each
other. A spec is whole: a field that is absent has its default, also when it had another value
before.

## What is read

- Files, folders (with `-R` their sub-folders too; only `.json`, `.yaml` and `.yml`), globs,
  `http` and `https` URLs, and standard input as `-`. What comes from a URL reads no file and no
  variable of this machine (`fromEnv`, `fromFile`, `file`): download it, look at it, apply
  the file. Several documents in a file are separated by `---`; a `kind: List` holds them in
  `items`.
- The YAML of plain data: mappings, lists, strings, `true` and `false`, `null`, and JSON's numbers.
  Everything else is a string: `no`, `on`, `12:30`, `0777` and `2026-01-31` are. A field that is
  `null` counts as absent.
- Refused: unknown fields and keys that are given twice; anchors, aliases and merge keys (`&a`,
  `*a`, `<<`); tags (`!!str`, `!x`); control characters; files that are not UTF-8, larger than
  10 MB, nested deeper than 64 levels or with more than 100,000 keys and values; sets of more than
  10,000 documents.

## Metadata

"""


@dataclass(frozen=True)
class Row:
    """A field with its path from the spec: `sql.grants[].schema`."""

    path: str
    field: Field


def rows(fields: Sequence[Field], prefix: str = "") -> Iterator[Row]:
    """Yield the fields and those inside them, each after the one that holds it."""
    for field in fields:
        path = prefix + field.name
        yield Row(path, field)
        inner, suffix = _inner(field.type)
        if inner is not None:
            yield from rows(inner.fields, f"{path}{suffix}.")


def reference() -> str:
    """Return the page as Markdown."""
    metadata = next(field for field in KINDS[-1].manifest_type.fields if field.name == "metadata")
    inner, _ = _inner(metadata.type)
    head = _HEAD + _table(inner.fields if inner else ())
    return head + "".join(_section(kind) for kind in DECLARED)


def write(folder: Path) -> None:
    """Write the page and the JSON Schemas into a folder."""
    (folder / SCHEMAS).mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(reference(), encoding="utf-8")
    for name, text in schema_files().items():
        place = folder if name == SCHEMA else folder / SCHEMAS
        (place / name).write_text(text, encoding="utf-8")


def schema_files() -> dict[str, str]:
    """Return the JSON Schemas by their file's name: of all kinds in one, and of each."""
    each = {schema_name(kind): schema_for(kind) for kind in DECLARED}
    schemas = {SCHEMA: schema_for_all()} | each
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def schema_name(kind: Kind) -> str:
    """Return the name of the file that holds the schema of one kind."""
    return f"{kind.singular}.schema.json"


def _section(kind: Kind) -> str:
    short = ", ".join(f"`{name}`" for name in kind.short_names)
    scope = "belongs to a tenant" if kind.tenanted else "belongs to no tenant"
    return (
        f"\n## {kind.name}\n\n{kind.doc}\n\n"
        f"Named `{kind.singular}`, `{kind.plural}` or {short} on the command line; {scope}.\n\n"
        f"```yaml\n{kind.example}```\n\n{_table(kind.fields)}"
    )


def _table(fields: Sequence[Field]) -> str:
    lines = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for row in rows(fields):
        field = row.field
        lines.append(f"| `{row.path}` | {field.type.words()} | {_default(field)} | {field.doc} |")
    return "\n".join(lines) + "\n"


def _default(field: Field) -> str:
    if field.required:
        return "**required**"
    if field.default_words:
        return field.default_words
    if field.default is None or isinstance(field.type, Object):
        return ""
    return f"`{json.dumps(default_of(field))}`"


def _inner(field_type: Type) -> tuple[Object | None, str]:
    if isinstance(field_type, Object):
        return field_type, ""
    if isinstance(field_type, ListOf):
        found, suffix = _inner(field_type.item)
        return found, f"[]{suffix}"
    if isinstance(field_type, MapOf):
        found, suffix = _inner(field_type.value)
        return found, f".*{suffix}"
    return None, ""


if __name__ == "__main__":
    write(Path(sys.argv[1]))
