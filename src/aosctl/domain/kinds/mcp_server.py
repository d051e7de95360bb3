"""Kind McpServer: a server of the Model Context Protocol, whose tools become skills."""

from __future__ import annotations

from typing import Any

from aosctl.domain.fields import Number, Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Resource, Spec
from aosctl.domain.kinds.secret_values import SecretOrText, environment_field
from aosctl.domain.structures import Field, ListOf, MapOf, Object


def _web_url(text: str) -> str | None:
    """Say why a text is no URL that a server can be reached at."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        return "takes a URL such as https://mcp.example.com/mcp"
    if parts.username or parts.password:
        return "must hold no name and no password; spec.auth and spec.headers take a secret"
    return None


_URL = Text(min_length=1, max_length=2_000, check=_web_url)
_WORD = Text(min_length=1, max_length=500)

_OAUTH = Object(
    fields=(
        Field("tokenUrl", _URL, "Where tokens are fetched; from nowhere else.", required=True),
        Field("clientId", SecretOrText(), "Who asks.", required=True),
        Field("clientSecret", SecretOrText(), "The client's secret."),
        Field(
            "refreshToken",
            SecretOrText(),
            "Fetches tokens for a person who has agreed before. One that the endpoint gives in its"
            " place is used while the process lives.",
            default_words="client credentials",
        ),
        Field("scopes", ListOf(item=_WORD, max_items=50, unique=True), "What is asked for."),
        Field("resource", _URL, "What the token is for (RFC 8707).", default_words="spec.url"),
    )
)

_AUTH = Object(
    fields=(
        Field("bearer", SecretOrText(), "A token that is sent as it is."),
        Field("oauth", _OAUTH, "How to get one: by client credentials, or with a refresh token."),
    )
)

_OF_A_PROCESS = ("env", "cwd")
_OF_A_URL = ("headers", "auth")


def _reached_at(row: Resource) -> str | None:
    command = row.spec.get("command")
    return " ".join(command) if command else row.spec.get("url")


class McpServer(Kind):
    name = "McpServer"
    plural = "mcpservers"
    short_names = ("mcp",)
    db_schema = "aos_skills"
    own_verbs = ("mcp",)
    doc = (
        "A server of the Model Context Protocol: a program that `aosctl` starts and talks to over"
        " its standard streams, or a URL. What it offers is used by agents through skills with a"
        " section `mcp`, which `aosctl mcp add` writes. The machine that carries out calls has to"
        " allow a `command`: `AOSCTL_ALLOW_COMMANDS`. See mcp.md."
    )
    fields = (
        Field(
            "command",
            ListOf(item=Text(min_length=1, max_length=4_000), min_items=1, max_items=100),
            "The program and its arguments. No shell reads it.",
        ),
        environment_field(
            "Its environment, for `command`: these variables, and a `PATH` of the usual folders"
            " unless it is among them. It has nothing of aosctl's own."
        ),
        Field("cwd", Text(min_length=1, max_length=1_000), "The folder it starts in."),
        Field("url", _URL, "Where it listens, for a server over streamable HTTP."),
        Field(
            "headers",
            MapOf(
                value=SecretOrText(),
                key=Text(
                    min_length=1,
                    max_length=100,
                    pattern=r"[A-Za-z0-9!#$%&'*+.^_`|~-]+",
                    rule="the name of a header",
                ),
                max_items=50,
            ),
            "Headers of each request, for `url`. A value is a text, or `{secretRef: NAME/KEY}` with"
            " a `prefix` where one belongs before it.",
            default={},
        ),
        Field("auth", _AUTH, "Who we are, for `url`: `bearer` or `oauth`."),
        Field(
            "timeoutSeconds",
            Number(minimum=0.1, maximum=600),
            "How long it may take to start and to shake hands, in seconds. A call has the time of"
            " its skill.",
            default=30,
        ),
    )
    example = """\
apiVersion: aos/v1
kind: McpServer
metadata:
  name: tickets
  tenant: tech_corp
spec:
  url: https://tickets.example.com/mcp
  auth:
    bearer:
      secretRef: tickets/token
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("TRANSPORT", lambda row: "stdio" if "command" in row.spec else "http"),
        Column("SKILLS", lambda row: row.status.get("skills")),
        Column("AGE", lambda row: row.created_at),
        Column("REACHED-AT", _reached_at, wide=True),
        Column("TIMEOUT", lambda row: row.spec.get("timeoutSeconds"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check that it is a program or a URL; leave out what is empty."""
        kept: dict[str, Any] = {key: value for key, value in spec.items() if value not in ({}, [])}
        if ("command" in spec) == ("url" in spec):
            at.wrong("spec", "takes either command or url")
            return kept
        way, others = ("command", _OF_A_URL) if "command" in spec else ("url", _OF_A_PROCESS)
        for name in others:
            if name in kept:
                at.wrong(f"spec.{name}", f"does not go with {way}")
        auth = kept.get("auth")
        if auth is not None and len(auth) != 1:
            at.wrong("spec.auth", "takes either bearer or oauth")
        return kept
