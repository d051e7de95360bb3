"""Values of a manifest that may be secret: a text, or a reference to a Secret."""

from __future__ import annotations

from typing import Any

from aosctl.domain.fields import SecretReference, Text, Type
from aosctl.domain.reading import Reading
from aosctl.domain.structures import Field, MapOf, Object
from aosctl.domain.yaml_text import Node, Scalar

_SECRET = Object(
    fields=(
        Field("secretRef", SecretReference(), "The Secret: `NAME`, or `NAME/KEY`.", required=True),
        Field("prefix", Text(max_length=200), "What stands before it, such as `Bearer `."),
    )
)


class SecretOrText(Type):
    """A text, or {secretRef, prefix}: the value of a Secret, opened at the moment of a call."""

    text: Text = Text(max_length=8_192)

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        reader = self.text if isinstance(node, Scalar) else _SECRET
        return reader.read(node, path, reading)

    def words(self) -> str:
        return "string, or secretRef and prefix"

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.text.schema(), _SECRET.schema()]}


def environment_field(doc: str) -> Field:
    """Return the field `env`: variables by name."""
    name = Text(min_length=1, max_length=128, pattern="[A-Za-z_][A-Za-z0-9_]*")
    values = MapOf(value=SecretOrText(), key=name, max_items=100)
    more = " A value is a text, or `{secretRef: NAME/KEY}`."
    return Field("env", values, doc + more, default={})
