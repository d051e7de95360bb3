"""The section `http` of a Skill: one request, described by a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aosctl.domain.fields import Anything, Choice, Flag, Number, Text, Type
from aosctl.domain.kinds.http_checks import check
from aosctl.domain.kinds.implementation import ACTS, READS, Implementation
from aosctl.domain.kinds.secret_values import SecretOrText
from aosctl.domain.reading import Reading
from aosctl.domain.structures import Field, ListOf, MapOf, Object
from aosctl.domain.yaml_text import Node, Scalar

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_LONG = 100_000


def _refusal_of(read: Callable[[str], object]) -> Callable[[str], str | None]:
    """Return a check that says why `read` refuses a text."""

    def check(text: str) -> str | None:
        from aosctl.domain.web_addresses import Refused

        try:
            read(text)
        except Refused as error:
            return f"is refused: {error}"
        return None

    return check


def as_host(text: str) -> object:
    """Read an entry of a host allow-list. Raises Refused."""
    from aosctl.domain.web_addresses import host_pattern

    return host_pattern(text)


def as_network(text: str) -> object:
    """Read a network. Raises Refused."""
    from aosctl.domain.web_addresses import network_of

    return network_of(text)


HOSTS = ListOf(
    item=Text(min_length=1, max_length=300, check=_refusal_of(as_host)),
    min_items=1,
    max_items=200,
    unique=True,
)
NETWORKS = ListOf(
    item=Text(min_length=1, max_length=60, check=_refusal_of(as_network)),
    max_items=100,
    unique=True,
)


class _Value(Type):
    """A value of a query or form: text with placeholders, a number, or a secret."""

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, bool | int | float):
            return node.value
        return SecretOrText().read(node, path, reading)

    def words(self) -> str:
        return "string, number, boolean, or secretRef and prefix"

    def schema(self) -> dict[str, Any]:
        plain = [{"type": "number"}, {"type": "boolean"}]
        return {"anyOf": [*SecretOrText().schema()["anyOf"], *plain]}


_BODY = Object(
    fields=(
        Field(
            "json",
            Anything(),
            "JSON. A text that is one placeholder becomes the argument itself, of any type; where"
            " the argument is absent, the key is left out. `{secretRef: NAME/KEY}` is a secret.",
        ),
        Field("form", MapOf(value=_Value(), max_items=200), "The fields of a form."),
        Field("text", Text(max_length=_LONG), "A text."),
        Field(
            "contentType",
            Text(min_length=1, max_length=200, pattern="[!-~ ]+", rule="a type such as text/xml"),
            "What kind of text it is.",
            default_words="`text/plain; charset=utf-8`",
        ),
    )
)

_RESULT = Object(
    fields=(
        Field(
            "body",
            Choice(values=("auto", "json", "text", "none")),
            "How the answer's body is read: `auto` goes by its type.",
            default="auto",
        ),
        Field(
            "pointer",
            Text(max_length=500, pattern="(?:/[^/]*)*", rule="a JSON Pointer such as /data/items"),
            "The part of a JSON answer that is returned, as a JSON Pointer.",
            default_words="all of it",
        ),
        Field(
            "headers",
            ListOf(item=Text(min_length=1, max_length=128), max_items=20, unique=True),
            "The headers of the answer that are returned, too.",
            default=[],
        ),
        Field(
            "bare",
            Flag(),
            "Whether the result is the body alone, without `status` around it.",
            default_words="true where the skill has an `output`",
        ),
    )
)

SECTION = Object(
    fields=(
        Field("method", Choice(values=METHODS), "The method.", default="GET"),
        Field(
            "url",
            Text(min_length=1, max_length=4_000),
            "The URL, with placeholders for arguments: `https://api.example.com/orders/{id}`. An"
            " argument is one segment of the path or one value of the query, whatever it holds;"
            " one in the path that is empty, `.`, `..` or holds a slash is refused. The host has"
            " no placeholder. A brace itself is written twice.",
            required=True,
        ),
        Field(
            "query",
            MapOf(value=_Value(), max_items=200),
            "More of the query. Where the argument of a value is absent, the key is left out; a"
            " list becomes the key several times.",
            default={},
        ),
        Field(
            "headers",
            MapOf(value=SecretOrText(), max_items=100),
            "Headers: texts, or `{secretRef: NAME/KEY, prefix: Bearer }`. They are sent to the"
            " URL's own origin alone.",
            default={},
        ),
        Field("body", _BODY, "The body: one of `json`, `form` and `text`."),
        Field(
            "allowHosts",
            HOSTS,
            "The hosts that may be reached, redirects included: `api.example.com`,"
            " `*.example.com`, `api.example.com:8443`.",
            default_words="the URL's own",
        ),
        Field(
            "allowPrivate",
            Flag(),
            "Whether the host may be in a network of one's own (10/8, 172.16/12, 192.168/16,"
            " 100.64/10, loopback, fc00::/7). Link-local addresses, by which clouds tell their"
            " machines credentials, are refused still.",
            default=False,
        ),
        Field(
            "allowNetworks",
            NETWORKS,
            "Networks that are not public and may be reached all the same, by their numbers:"
            " `10.20.0.0/16`.",
            default=[],
        ),
        Field(
            "followRedirects",
            Flag(),
            "Whether redirects are followed, at most 5 and to allowed hosts only.",
            default=False,
        ),
        Field("result", _RESULT, "What is returned of the answer.", default={}),
        Field(
            "maxResponseBytes",
            Number(whole=True, minimum=1_000, maximum=10_000_000),
            "The most bytes of an answer that are read, unpacked. Of what is read, `maxBytes` are"
            " returned.",
            default=1_000_000,
        ),
        Field(
            "idempotencyHeader",
            Text(min_length=1, max_length=128),
            "The header that holds the call's key where the effect is `idempotent`.",
            default="Idempotency-Key",
        ),
    )
)


def effect_of(section: Mapping[str, Any]) -> str:
    """Return the effect of a section whose manifest says none."""
    return READS if section.get("method", "GET") in ("GET", "HEAD") else ACTS


HTTP = Implementation(
    "http",
    SECTION,
    "A request over HTTP, which the worker sends.",
    ("untrusted", "egress"),
    effect_of,
    check,
)
