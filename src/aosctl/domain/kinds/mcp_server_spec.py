"""The fields of an McpServer's spec."""

from __future__ import annotations

from aosctl.domain.fields import Number, Text
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

FIELDS: tuple[Field, ...] = (
    Field(
        "command",
        ListOf(item=Text(min_length=1, max_length=4_000), min_items=1, max_items=100),
        "The program and its arguments. No shell reads it.",
    ),
    environment_field(
        "Its environment, for `command`. Of aosctl's own it has `PATH`, `HOME`, `TMPDIR`,"
        " `LANG`, `LC_ALL` and `TZ`, unless they stand here, and nothing else."
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
"""What a manifest may say of a server."""
