"""Kind Secret: values such as API keys, sealed before they reach the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aosctl.domain.fields import Text
from aosctl.domain.kinds.base import Column, Completion, Entry, Kind, Resource, Spec
from aosctl.domain.reading import Reading
from aosctl.domain.structures import Field, MapOf, Object
from aosctl.domain.yaml_text import Node

_SEALED = r"aos1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{80}\.[A-Za-z0-9_-]{39,99000}\.[A-Za-z0-9_-]{22}"
_WAYS = ("fromEnv", "fromFile", "sealed")
_NO_VALUE = (
    "expected one of fromEnv, fromFile and sealed; a value itself does not belong into a"
    " manifest: aosctl create secret"
)


class _Unquoted(Object):
    """A mapping whose mismatch is not quoted in messages: somebody may have put a value there."""

    def mismatch(self, node: Node, path: str, reading: Reading, advice: str = "") -> Any:
        return reading.wrong(node.line, node.column, path, _NO_VALUE)


class _UnquotedMap(MapOf):
    """As _Unquoted, for the mapping around the values."""

    def mismatch(self, node: Node, path: str, reading: Reading, advice: str = "") -> Any:
        text = "expected a mapping of keys, each with fromEnv, fromFile or sealed"
        return reading.wrong(node.line, node.column, path, text)


_VALUE = _Unquoted(
    fields=(
        Field(
            "fromEnv",
            Text(
                min_length=1,
                max_length=128,
                pattern="[A-Za-z_][A-Za-z0-9_]*",
                rule="takes the name of an environment variable, never the value itself",
                secret=True,
            ),
            "The environment variable of `aosctl apply` that holds the value.",
        ),
        Field(
            "fromFile",
            Text(min_length=1, max_length=1_000),
            "A UTF-8 text file that holds the value, relative to the manifest and inside its"
            " folder; a line break at its end does not count.",
        ),
        Field(
            "sealed",
            Text(
                min_length=1,
                max_length=100_000,
                pattern=_SEALED,
                rule="takes a sealed value, as aosctl get secret NAME -o yaml prints it",
                secret=True,
            ),
            "The value, sealed for this tenant, secret and key.",
        ),
    )
)


def _keys(row: Resource) -> Mapping[str, Mapping[str, str]]:
    keys: Mapping[str, Mapping[str, str]] = row.status.get("keys") or {}
    return keys


def _updated(row: Resource) -> datetime | None:
    text = row.status.get("updatedAt")
    return datetime.fromisoformat(text) if text else None


def _master_keys(row: Resource) -> list[str] | None:
    return sorted({key["masterKey"] for key in _keys(row).values()}) or None


_REMOTE = (
    "a manifest from a URL reads no variable and no file of this machine; download it, look at it"
    " and apply the file"
)


class Secret(Kind):
    name = "Secret"
    plural = "secrets"
    short_names = ("sec",)
    db_schema = "aos_auth"
    doc = (
        "Values such as API keys. `aosctl` seals each with the master key before it goes to the"
        " database, and opens it in its own process when it is used; the database never holds"
        " what opens it. `spec.apiKeySecret` of a Model and"
        " `spec.webhook.secretRef` of a Tenant name one. See secrets.md."
    )
    fields = (
        Field(
            "data",
            _UnquotedMap(
                value=_VALUE,
                key=Text(
                    min_length=1,
                    max_length=253,
                    pattern=r"[A-Za-z0-9_.-]+",
                    rule="a key: letters, digits, _ . -",
                    secret=True,
                ),
                max_items=100,
            ),
            "The values by key: where each comes from, or the value sealed.",
            required=True,
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Secret
metadata:
  name: openai
  tenant: tech_corp
spec:
  data:
    api_key:
      fromEnv: OPENAI_API_KEY
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("DATA", lambda row: len(_keys(row))),
        Column("AGE", lambda row: row.created_at),
        Column("KEYS", lambda row: sorted(_keys(row)), wide=True),
        Column("MASTER-KEY", _master_keys, wide=True),
        Column("UPDATED", _updated, wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check that each key has exactly one way to its value."""
        if not spec.get("data"):
            at.wrong("spec.data", "needs at least one key")
        for key, given in spec.get("data", {}).items():
            if len([way for way in _WAYS if way in given]) != 1:
                at.wrong(f"spec.data.{key}", _NO_VALUE)
            elif at.is_remote and "sealed" not in given:
                at.wrong(f"spec.data.{key}", _REMOTE)
        return spec

    def describe(self, resource: Resource) -> list[Entry]:
        """List the keys with digest and master key, and say which master key is at hand."""
        listed: list[Entry] = [
            (key, f"sealed under master key {found['masterKey']}, digest {found['digest']}")
            for key, found in sorted(_keys(resource).items())
        ]
        short = resource._replace(spec={}, status={})
        shown = [entry for entry in super().describe(short) if entry[0] != "Spec"]
        return [
            *shown,
            ("Updated", _updated(resource)),
            ("Data", listed),
            ("Master Key", _at_hand()),
        ]


def _at_hand() -> str:
    """Say which master key this machine would use, and where it is from."""
    import os

    from aosctl.domain.master_key import keys_at_hand
    from aosctl.errors import AosError

    try:
        keys = keys_at_hand(os.environ)
    except AosError as error:
        return f"unusable: {error.message}"
    return f"{keys.current.key_id}, from {keys.current.source}" if keys else "none at hand"
