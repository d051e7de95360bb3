"""What is common to tools over HTTP: secrets put in, results without them, failures in words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from aosctl.domain.names import printable, quoted
from aosctl.domain.tools.base import ToolResult
from aosctl.domain.tools.web.exchange import Answer
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.url_templates import Misfit
from aosctl.domain.web_addresses import Reach, Refused, WebAddress, reach_of
from aosctl.errors import AosError
from aosctl.redaction import may_be_named, redact, remember

SHOWN_OF_ERRORS = 2_000
"""Characters of an error's body that a result holds."""
_SECRET_KEYS = {"secretRef", "prefix"}


def is_secret(value: Any) -> bool:
    """Tell whether a value of a manifest stands for a secret: {"secretRef": …, "prefix": …}."""
    return isinstance(value, Mapping) and "secretRef" in value and not value.keys() - _SECRET_KEYS


def from_environment(name: str) -> str:
    """Return a variable of the worker that holds a key. Raises RequestFailed."""
    if not may_be_named(name):
        raise RequestFailed(f"the variable {name} is aosctl's own")
    value = os.environ.get(name, "")
    if not value:
        raise RequestFailed(f"the worker's environment has no variable {name}")
    return remember(value)


def reach_from(settings: Mapping[str, Any], hosts: list[str]) -> Reach:
    """Return where a skill may reach, by its settings. Raises Refused."""
    return reach_of(
        settings.get("allowHosts") or hosts,
        private=settings.get("allowPrivate") is True,
        networks=settings.get("allowNetworks") or (),
    )


def check_not_in_clear(address: WebAddress, reach: Reach, has_secrets: bool) -> None:
    """Raise Refused for secrets over http, but in networks of one's own."""
    if has_secrets and address.scheme == "http" and not (reach.private or reach.networks):
        raise Refused("a secret is not sent over http, where everybody on the way reads it")


def acted(act: Callable[[], ToolResult], *, changes: bool) -> ToolResult:
    """Return what `act` does, its failures as a result."""
    try:
        return act()
    except RequestFailed as error:
        unknown = error.sent and changes
        words = f"{error}; whether it was carried out is not known" if unknown else str(error)
        return failed(words)
    except (Refused, Misfit) as error:
        return failed(str(error))
    except AosError as error:
        return failed(error.message, hint=error.hint)


def failed(words: str, **more: Any) -> ToolResult:
    """Return a failure; what is None of `more` is left out."""
    known = {name: value for name, value in more.items() if value is not None}
    return ToolResult(False, {"error": printable(words), **known})


def without_secrets(value: Any) -> Any:
    """Return a JSON value without what this process has opened as a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(key): without_secrets(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    return value


def refusal(address: WebAddress, answer: Answer, text: str) -> ToolResult:
    """Return the failure that a status of 300 or more is."""
    words = f"{address.authority} answered {answer.status} {answer.reason}".strip()
    if answer.status < 400:
        words += ", a redirect that is not followed"
    return failed(
        words,
        status=answer.status,
        retry_after_seconds=retry_after(answer),
        body=redact(text)[:SHOWN_OF_ERRORS] or None,
    )


def retry_after(answer: Answer) -> float | None:
    """Return how many seconds the server asks to wait before the next request."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdigit() and len(said) < 10:
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
        sent = parsedate_to_datetime(answer.headers.get("date", ""))
        return max(0.0, (moment - sent).total_seconds())
    except (TypeError, ValueError):  # not said, or by no clock
        return None


def parsed_json(text: str) -> Any:
    """Parse an answer's JSON. Raises RequestFailed."""
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise RequestFailed(f"the answer is no JSON: {quoted(redact(text), 200)}") from None


def _no_json(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
