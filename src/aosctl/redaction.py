"""What this process has opened or read as a secret, so that no text it prints can hold it."""

from __future__ import annotations

from collections.abc import Mapping

REDACTED = "[redacted]"
MASTER_KEY_VARIABLE = "AOSCTL_MASTER_KEY"
_SHORTEST = 6  # a shorter one would blank out common words
_forms: dict[str, None] = {}


def remember(secret: str) -> str:
    """Keep `secret`, in the forms that texts quote it in, out of what is printed; return it."""
    if len(secret) >= _SHORTEST and secret not in _forms:
        import base64
        import json
        from urllib.parse import quote, quote_plus

        encoded = secret.encode("utf-8", "surrogateescape")
        forms = (
            secret,
            quote(encoded, safe=""),
            quote_plus(encoded),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            base64.b64encode(encoded).decode().rstrip("="),
            base64.urlsafe_b64encode(encoded).decode().rstrip("="),
            " ".join(secret.split()),
        )
        _forms.update(dict.fromkeys(form for form in forms if len(form) >= _SHORTEST))
    return secret


def redact(text: str) -> str:
    """Replace every remembered secret in `text`, the longest form first."""
    for form in sorted(_forms, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    return text


def may_be_named(variable: str) -> bool:
    """Tell whether a manifest may have the value of this variable used: sent, or signed with.

    Not what this process reaches its database and opens secrets with. Who makes models has the
    database, not the machine of the worker.
    """
    name = variable.upper()
    return not name.startswith(("AOSCTL_", "PG")) and name != "DATABASE_URL"


def environment_for_children(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without the master key and without variables that hold a remembered secret."""
    return {
        name: value
        for name, value in env.items()
        if name != MASTER_KEY_VARIABLE and redact(value) == value
    }
