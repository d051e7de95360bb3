"""What every kind of manifest has in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeAlias

from aosctl.domain.fields import Anything, Choice, Number, Text, Type, name_text
from aosctl.domain.structures import Field, MapOf, Object, arrange
from aosctl.timestamps import rfc3339

API_VERSION = "aos/v1"

Spec: TypeAlias = dict[str, Any]
"""A spec in its canonical form: camelCase keys, defaults filled in, plain JSON values."""
Cell: TypeAlias = str | int | float | bool | datetime | Sequence[str] | None
"""A table's cell: None prints as `<none>`, a list with commas, a time as its age."""
Entry: TypeAlias = tuple[str, Any]
"""A line of `describe`: a label and a Cell, or a label and a list of Entries below it."""

_LABEL_KEY = Text(
    min_length=1,
    max_length=253,
    pattern=r"(?:[a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    rule="a label's key: letters, digits, _ . -, optionally after a prefix and a /",
)
_LABEL_VALUE = Text(
    max_length=63,
    pattern=r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?",
    rule="a label's value: letters, digits, _ . -, the first and last a letter or a digit",
)


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Resource(NamedTuple):
    """A resource as the database has it."""

    kind: str
    name: str
    tenant: str | None
    uid: str
    generation: int
    spec: Mapping[str, Any]
    labels: Mapping[str, str] = _NOTHING
    annotations: Mapping[str, str] = _NOTHING
    status: Mapping[str, Any] = _NOTHING
    created_at: datetime | None = None


class Column(NamedTuple):
    """A column of `get`; `wide` ones appear with -o wide only."""

    header: str
    value: Callable[[Resource], Cell]
    wide: bool = False


class Completion(NamedTuple):
    """What a kind may need to complete a spec: its name, how to read a file, how to report.

    `read` takes a path relative to the manifest's folder and raises ValueError with the reason.
    A remote manifest came from a URL.
    """

    name: str
    read: Callable[[str], str]
    wrong: Callable[[str, str], None]
    is_remote: bool = False


_OF_ALL = ("describe", "explain", "get", "wait")
_OF_DECLARED = ("annotate", "apply", "delete", "diff", "edit", "label", "patch")


class Kind:
    """A kind: its names, its fields, how it is printed. One instance each stands in the table."""

    name: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    tenanted: ClassVar[bool] = True
    read_only: ClassVar[bool] = False
    """Whether it is only looked at: nobody applies or deletes one."""
    db_schema: ClassVar[str]
    """The schema of the kernel that holds the kind's functions and view."""
    doc: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]]
    status_fields: ClassVar[tuple[Field, ...]] = ()
    """The status of a kind that is only looked at."""
    own_verbs: ClassVar[tuple[str, ...]] = ()
    """What is done with this kind alone, such as `kill` with runs."""
    example: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    @property
    def singular(self) -> str:
        """The name as people type it: `persona`."""
        return self.name.lower()

    @property
    def words(self) -> tuple[str, ...]:
        """Every name that people type for the kind, the singular first."""
        return (self.singular, self.plural, *self.short_names)

    @property
    def verbs(self) -> tuple[str, ...]:
        """What `aosctl` does with one, in alphabetical order."""
        declared = () if self.read_only else _OF_DECLARED
        return tuple(sorted((*declared, *_OF_ALL, *self.own_verbs)))

    @property
    def apply_function(self) -> tuple[str, str]:
        """Schema and name of the kernel function that creates or changes one."""
        return self.db_schema, f"apply_{self.singular}"

    @property
    def delete_function(self) -> tuple[str, str]:
        """Schema and name of the kernel function that deletes one."""
        return self.db_schema, f"delete_{self.singular}"

    @property
    def view(self) -> tuple[str, str]:
        """Schema and name of the kernel view that lists them."""
        return self.db_schema, f"{self.singular}_resource"

    def qualified(self, name: str) -> str:
        """Return the name as kubectl prints it: `persona.aos/pg_expert`."""
        return f"{self.singular}.aos/{name}"

    @property
    def spec_type(self) -> Object:
        """The type of the spec."""
        return Object(fields=self.fields)

    @property
    def manifest_type(self) -> Object:
        """The type of a whole manifest of this kind."""
        body = _read(self) if self.read_only else _body(self.spec_type)
        return Object(fields=(*_head(self.name), _metadata(self.tenanted), *body))

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Fill what depends on other fields and check what concerns several of them."""
        return spec

    def note(self, rows: Sequence[Resource]) -> str | None:
        """Return what whoever lists these has to know beside the table."""
        return None

    def describe(self, resource: Resource) -> list[Entry]:
        """Return what `describe` prints: metadata, the spec field by field, the status."""
        tenant: list[Entry] = [("Tenant", resource.tenant)] if self.tenanted else []
        return [
            ("Name", resource.name),
            *tenant,
            ("Labels", _pairs(resource.labels)),
            ("Annotations", _pairs(resource.annotations)),
            ("UID", resource.uid),
            ("Generation", resource.generation),
            ("Created", _timestamp(resource.created_at)),
            ("Spec", _entries(arrange(self.spec_type, resource.spec))),
            *([("Status", _entries(resource.status))] if resource.status else []),
        ]

    def to_manifest(self, resource: Resource) -> dict[str, Any]:
        """Return the resource as a manifest that applies back unchanged."""
        metadata = {
            "name": resource.name,
            "tenant": resource.tenant if self.tenanted else None,
            "labels": dict(resource.labels) or None,
            "annotations": dict(resource.annotations) or None,
            "uid": resource.uid,
            "generation": resource.generation,
            "creationTimestamp": _timestamp(resource.created_at),
        }
        manifest = {
            "apiVersion": API_VERSION,
            "kind": self.name,
            "metadata": {key: value for key, value in metadata.items() if value is not None},
            "spec": arrange(self.spec_type, resource.spec),
        }
        return (
            {**manifest, "status": arrange(None, resource.status)} if resource.status else manifest
        )


def _head(kind: str) -> tuple[Field, ...]:
    return (
        Field("apiVersion", Choice(values=(API_VERSION,)), "Always `aos/v1`.", required=True),
        Field("kind", Choice(values=(kind,)), f"Always `{kind}`.", required=True),
    )


def _metadata(tenanted: bool) -> Field:
    tenant = Field(
        "tenant",
        name_text(),
        "The tenant it belongs to. Where it is absent, the one of `-n`, of `AOSCTL_TENANT` or of"
        " the context counts; one that differs from `-n` is refused.",
    )
    fields = (
        Field("name", name_text(), "The name, unique in its kind and tenant.", required=True),
        *((tenant,) if tenanted else ()),
        Field(
            "labels",
            MapOf(value=_LABEL_VALUE, key=_LABEL_KEY, max_items=64),
            "Words to select by: `aosctl get agents -l team=data`.",
        ),
        Field(
            "annotations",
            MapOf(value=Text(max_length=65_536), key=_LABEL_KEY, max_items=64),
            "Notes for people and tools; nothing selects by them.",
        ),
        Field("uid", Text(), "Set by the server; ignored when applied."),
        Field(
            "generation",
            Number(whole=True, minimum=0),
            "Set by the server: grows with each change of the spec.",
        ),
        Field("creationTimestamp", Text(), "Set by the server; ignored when applied."),
    )
    unknown = {} if tenanted else {"tenant": "this kind belongs to no tenant; leave it out"}
    doc = "Name, tenant and labels."
    return Field("metadata", Object(fields=fields, unknown=unknown), doc, required=True)


def _body(spec: Type) -> tuple[Field, ...]:
    return (
        Field("spec", spec, "What is wanted. An absent field means its default."),
        Field("status", MapOf(value=Anything()), "Set by the server; ignored when applied."),
    )


def _read(kind: Kind) -> tuple[Field, ...]:
    status = Object(fields=kind.status_fields)
    return (
        Field("spec", kind.spec_type, "What it is."),
        *((Field("status", status, "How it stands."),) if kind.status_fields else ()),
    )


def _timestamp(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(values.items())]


def _entries(values: Mapping[str, Any]) -> list[Entry]:
    return [(title(key), _described(value)) for key, value in values.items()]


def _described(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _entries(value)
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return [(str(place), _described(item)) for place, item in enumerate(value, start=1)]
    return value


def title(key: str) -> str:
    """Return a field's name as a heading: `maxSteps` as `Max Steps`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return words[:1].upper() + words[1:]
