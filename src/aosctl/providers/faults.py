"""One taxonomy of what can go wrong between here and a model service.

Some faults reach us as the SDK's exceptions, some as bare exceptions of the HTTP library beneath
(httpx or httpx2, by SDK), some as error objects inside a stream; all become a ProviderError whose
`kind` says what to do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from aosctl.errors import ProviderError, redact_dsn
from aosctl.providers.base import ModelSpec
from aosctl.providers.wire_values import items, mapping, string
from aosctl.redaction import REDACTED, redact

RETRYABLE = frozenset({"rate_limit", "overloaded", "timeout", "network", "truncated", "server"})

_BY_STATUS = {
    401: "auth",
    403: "auth",
    408: "timeout",
    413: "context_too_long",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_BY_WORDS = (
    (
        "context_too_long",
        re.compile(
            r"context[_ ](length|window|size|limit)|maximum context|prompt is too long"
            r"|too many (input |prompt )?tokens|input is too long|string_above_max_length"
            r"|token count.{0,40}exceeds",
            re.IGNORECASE,
        ),
    ),
    ("auth", re.compile(r"api key not valid|api_key_invalid|invalid_api_key", re.IGNORECASE)),
    ("auth", re.compile(r"authentication|permission_(denied|error)", re.IGNORECASE)),
    ("rate_limit", re.compile(r"rate.?limit|insufficient_quota|too.many.requests", re.IGNORECASE)),
    ("overloaded", re.compile(r"overloaded|unavailable|at capacity", re.IGNORECASE)),
    ("timeout", re.compile(r"timed? ?out", re.IGNORECASE)),
    ("bad_request", re.compile(r"invalid_request|not[_ ]found", re.IGNORECASE)),
    ("bad_request", re.compile(r"^\S*(invalid_|image|_policy|residency)")),  # a code of OpenAI's
)
_WITH_STATUS = 2
"""How many of them count beside a status, which says more than words do."""
_USED_UP = re.compile(
    r"insufficient_quota|billing_error|spend_limit_reached|credit balance is too low|usage limit",
    re.IGNORECASE,
)
_SDK_ERRORS = frozenset({"OpenAIError", "AnthropicError"})
_USUAL_KEYS = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}
_HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "ssl"})
_WORDS_AT_MOST = 400
_SECRET_AT_LEAST = 8  # a shorter one is no key, and would blank out common words


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure as the wire showed it, before it has a name."""

    message: str = ""
    status: int | None = None
    code: str = ""
    retry_after: float | None = None


def name_fault(spec: ModelSpec, fault: Fault, secret: str | None = None) -> ProviderError:
    """Make the ProviderError for a status code or an error object; `secret` never shows in it."""
    kind = _kind(fault)
    used_up = bool(_USED_UP.search(f"{fault.code} {fault.message}"))
    said = _one_line(fault.message, secret)
    status = f" (HTTP {fault.status})" if fault.status else ""
    return ProviderError(
        f'model "{spec.name}": {_SAYS[kind]}{status}{": " + said if said else ""}',
        hint=_hint(kind, spec, fault, used_up),
        kind=kind,
        retryable=kind in RETRYABLE and not used_up,
        retry_after=fault.retry_after,
        status=fault.status,
    )


def name_exception(spec: ModelSpec, err: Exception, secret: str | None) -> ProviderError | None:
    """Make the ProviderError for an exception of an SDK or HTTP library; None if it is neither."""
    names = {cls.__name__ for cls in type(err).__mro__}
    library = type(err).__module__.partition(".")[0]
    if names & {"APITimeoutError", "TimeoutException", "TimeoutError"}:
        return named(
            spec, "timeout", f"no sign of life for {spec.timeout_seconds:g} s", secret=secret
        )
    if _is_bad_address(err):
        return named(spec, "bad_request", f"{spec.base_url} is no usable address", secret=secret)
    if "APIConnectionError" in names or library in _HTTP_LIBRARIES or isinstance(err, OSError):
        return named(spec, "network", str(err.__cause__ or err), secret=secret)
    if names & _SDK_ERRORS:
        return name_fault(spec, _fault_of(err), secret)
    if isinstance(err, ValueError):
        return named(spec, "truncated", f"a piece can't be read ({err})", secret=secret)
    return None


def named(
    spec: ModelSpec, kind: str, said: str, hint: str | None = None, secret: str | None = None
) -> ProviderError:
    """Make a ProviderError of a known kind."""
    return ProviderError(
        f'model "{spec.name}": {_SAYS[kind]}: {_one_line(said, secret)}',
        hint=hint or _hint(kind, spec, Fault(), used_up=False),
        kind=kind,
        retryable=kind in RETRYABLE,
    )


def fault_in_stream(error: object) -> Fault:
    """Read an error object found inside an answer; services disagree on its shape."""
    if not isinstance(error, Mapping):
        return Fault(str(error))
    code = error.get("code")
    status = code if isinstance(code, int) else error.get("status")
    details = error.get("details")
    cause = string(mapping(details).get("error_code"))
    return Fault(
        str(error.get("message") or error.get("detail") or ""),
        status if isinstance(status, int) and 400 <= status < 600 else None,
        f"{code or ''} {error.get('type') or ''} {cause} {string(error.get('status'))}",
        next((s for d in items(details) if (s := _seconds(mapping(d))) is not None), None),
    )


def _fault_of(err: Exception) -> Fault:
    body = getattr(err, "body", None)
    status = getattr(err, "status_code", None)
    if isinstance(status, int) and status < 300:  # it was in the stream of a success
        status = None
    if isinstance(body, list) and body:  # as Google wraps it
        body = body[0]
    if isinstance(body, Mapping):  # which Anthropic's SDK leaves in its wrapping
        fault = fault_in_stream(body.get("error") or body)
    elif isinstance(body, str):
        fault = Fault(body)
    else:
        fault = Fault("" if status else str(err))
    headers = getattr(getattr(err, "response", None), "headers", {})
    wait = retry_after(headers)
    wait = fault.retry_after if wait is None else wait
    return Fault(fault.message, status or fault.status, fault.code, wait)


def _kind(fault: Fault) -> str:
    words = f"{fault.code} {fault.message}"
    if _USED_UP.search(words):
        return "rate_limit"
    if fault.status in (None, 400, 413, 422, 500):
        for kind, pattern in _BY_WORDS[:_WITH_STATUS] if fault.status else _BY_WORDS:
            if pattern.search(words):
                return kind
    if fault.status is None:
        return "server"
    if fault.status in _BY_STATUS:
        return _BY_STATUS[fault.status]
    return "server" if fault.status >= 500 else "bad_request"


_SAYS = {
    "auth": "the service refused the key",
    "rate_limit": "too many requests or tokens",
    "overloaded": "the service is overloaded",
    "timeout": "timed out",
    "network": "the connection failed",
    "context_too_long": "the conversation is longer than the model's context",
    "bad_request": "the service refused the request",
    "truncated": "the answer broke off",
    "server": "the service failed",
    "no_key": "there is no API key",
}


def _hint(kind: str, spec: ModelSpec, fault: Fault, used_up: bool) -> str | None:
    where = spec.base_url or "the provider's own host"
    if kind == "context_too_long" and spec.provider == "ollama":
        return "start a new chat, or give the model more: num_ctx in spec.params of the Model"
    if used_up:
        return "the account's quota is used up; see the provider's billing page"
    if fault.status == 404:
        return f'check spec.model ("{spec.model}") and spec.baseUrl ({where}) of the Model'
    if kind == "rate_limit" and fault.retry_after is not None:
        return f"try again in {fault.retry_after:g} s"
    return {
        "auth": f"check the key in {_key_place(spec)}",
        "network": f"check that {where} can be reached",
        "timeout": "spec.timeoutSeconds of the Model sets the time",
        "context_too_long": "start a new chat, or use a model with a larger context",
        "bad_request": "check spec.model, spec.baseUrl and spec.params of the Model",
    }.get(kind)


def _key_place(spec: ModelSpec) -> str:
    if spec.api_key_secret:
        return f'the secret "{spec.api_key_secret}"'
    return spec.api_key_env or _USUAL_KEYS.get(spec.provider, "spec.apiKeyEnv of the Model")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a service asks to wait; None if it doesn't."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) / divisor)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None


def _seconds(detail: Mapping[str, object]) -> float | None:
    """Read Google's way to say when to try again: `"retryDelay": "34s"`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", string(detail.get("retryDelay")))
    return float(found[1]) if found else None


def _is_bad_address(err: Exception) -> bool:
    causes = {type(err).__name__, type(err.__cause__).__name__}
    return bool(causes & {"InvalidURL", "UnsupportedProtocol", "LocalProtocolError"})


def _one_line(text: str, secret: str | None) -> str:
    """Cut a service's words to one line that a person can read and that gives nothing away."""
    if secret and len(secret) >= _SECRET_AT_LEAST:
        text = redact(text).replace(secret, REDACTED)
    if re.search(r"<(!doctype|html|head|body)\b", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = f"a web page, {title[1].strip()!r}" if title else "a web page"
    line = redact_dsn(" ".join(text.split()))
    return line if len(line) <= _WORDS_AT_MOST else line[: _WORDS_AT_MOST - 1] + "…"
