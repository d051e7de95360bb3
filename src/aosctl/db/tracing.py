"""What -v shows on stderr: what was chosen, and from 6 on each statement with its time.

No secret is shown. A value is masked where its name, its statement or its form tells of one; what
this process opened, and passwords of addresses, are masked wherever they stand.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from aosctl import request
from aosctl.errors import AosError, redact_dsn
from aosctl.terminal import clean

if TYPE_CHECKING:
    from aosctl.config import Target

T = TypeVar("T")
MASK = "***"
LONGEST = 1000
"""Characters of a statement or a parameter that are shown."""

_TELLING = re.compile(
    r"secret|passw|passphrase|token|lease|credential|api_?key|private_?key|authorization|seal|rewrap",
    re.IGNORECASE,
)
_SEALED = re.compile(r"aos1\.[0-9a-f]{16}\.[A-Za-z0-9_.-]+")
_PASSWORD = re.compile(
    r"(\bpassword\s+)(?:'{2,}[^']*'+|(?:[EU]?&?)'(?:[^'\\]|''|\\.)*'?|(\$\w*\$).*?(?:\2|\Z))",
    re.IGNORECASE | re.DOTALL,
)
"""Also in a statement that stands in a text itself, with its quotation marks doubled."""
_VERIFIER = re.compile(r"(SCRAM-SHA-256\$|\bmd5(?=[0-9a-f]{32}))[^'\"\s]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KNOWN_IDS = 2
"""A worker's call begins with the tenant and what it is about; a further id may be its lease."""


def shows(level: int) -> bool:
    """Tell whether -v asks for what this level shows."""
    return request.current().verbosity >= level


def say(text: str) -> None:
    """Print one line on stderr, with the time of day."""
    now = datetime.now().astimezone()
    line = clean(redact_dsn(" ".join(text.split())))
    sys.stderr.write(f"I{now:%m%d %H:%M:%S.%f}  {line}\n")


def chosen(target: Target, tenant: str | None) -> None:
    """Say which database and tenant were chosen, and what decided it."""
    if not shows(1):
        return
    database = target.dsn or {"embedded": "the embedded one"}.get(target.kind, "libpq's own")
    say(f"database: {database}, by {target.source}")
    say(f"tenant: {tenant or 'none selected'}")
    for path in target.files:
        say(f"config file: {path}")
    if principal := request.current().principal:
        say(f"as: {principal}")


def connected(server: str, login: str, version: str, since: float) -> None:
    """Say where to and how fast a connection was made; `since` is of time.monotonic."""
    if shows(2):
        spent = (time.monotonic() - since) * 1000
        say(f'connected to {server} as "{login}" in {spent:.1f} ms, PostgreSQL {version}')


def traced(query: str | bytes, given: object, run: Callable[[], T], *, hot: bool = False) -> T:
    """Run what sends a statement; say what it was, how long it took, and whether it failed."""
    with timed(query, given, hot=hot):
        return run()


@contextmanager
def timed(query: str | bytes, given: object, *, hot: bool = False) -> Iterator[None]:
    """As `traced`, around a block."""
    text = query if isinstance(query, str) else query.decode("utf-8", "replace")
    begun = time.monotonic()
    how = "failed"
    try:
        yield
        how = ""
    except AosError:
        raise
    except Exception as error:
        how = f"failed, SQLSTATE {state}" if (state := getattr(error, "sqlstate", None)) else how
        raise
    finally:
        spent = f"{(time.monotonic() - begun) * 1000:.1f} ms"
        say(f"SQL {spent}{', ' * bool(how)}{how}: {_cut(statement(text))}")
        if given and shows(request.PARAMETERS):
            say(f"    with {', '.join(parameters(text, given, hot=hot))}")


def statement(text: str) -> str:
    """Return a statement without the passwords that stand in it."""
    return _VERIFIER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1'{MASK}'", text))


def parameters(query: str, given: object, *, hot: bool = False) -> list[str]:
    """Return the parameters of a statement as they may be shown."""
    all_hidden = _TELLING.search(query) is not None
    if isinstance(given, Mapping):
        return [
            f"{name} = {MASK if all_hidden or _TELLING.search(str(name)) else value(one)}"
            for name, one in given.items()
        ]
    values: Sequence[object] = given if isinstance(given, list | tuple) else [given]
    shown, ids = [], 0
    for number, one in enumerate(values, 1):
        text = MASK if all_hidden else value(one)
        if hot and _UUID.fullmatch(text.strip("'")):
            ids += 1
            text = text if ids <= _KNOWN_IDS else MASK
        shown.append(f"${number} = {text}")
    return shown


def value(given: object) -> str:
    """Return one parameter as it may be shown: JSON without the fields that tell of a secret."""
    if given is None:
        return "NULL"
    if isinstance(given, bytes | bytearray | memoryview):
        data = bytes(given)
        try:
            given = data.decode()
        except UnicodeDecodeError:
            return f"<{len(data)} bytes>"
    given = getattr(given, "obj", given)  # psycopg's Jsonb
    text = given if isinstance(given, str) else None
    if text is not None and text[:1] in ("{", "["):
        import json

        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            return MASK if _TELLING.search(text) else _quoted(text)
    if isinstance(given, dict | list):
        import json

        text = json.dumps(without_secrets(given), ensure_ascii=False, default=str)
    return _quoted(str(given) if text is None else text)


def without_secrets(value: Any) -> Any:
    """Return a JSON value with what its names tell to be secret masked, a Secret's data whole."""
    if isinstance(value, dict):
        is_secret = str(value.get("kind")) == "Secret"
        return {
            name: MASK
            if (_TELLING.search(str(name)) and not isinstance(one, dict | list | bool))
            or (is_secret and name in ("spec", "data"))
            else without_secrets(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    return statement(value) if isinstance(value, str) else value


def _quoted(text: str) -> str:
    text = _cut(_SEALED.sub(MASK, redact_dsn(statement(text))))
    return text if re.fullmatch(r"-?\d{1,18}(\.\d+)?|True|False", text) else f"'{text}'"


def _cut(text: str) -> str:
    text = redact_dsn(text)  # before the cut: half a secret is told from nothing
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
