"""The settings (`config`) of the built-in skills that reach the web."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aosctl.domain.fields import VALUE_PATTERN
from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.kinds.skill_http import as_host, as_network
from aosctl.domain.names import did_you_mean, quoted

SEARCH_SERVICES = ("searxng", "brave", "tavily")
_Why = str | None
_VARIABLE = "[A-Za-z_][A-Za-z0-9_]{0,127}"


def check_config(spec: Spec, at: Completion) -> None:
    """Check the settings of a built-in, where it is one of these."""
    known = _KNOWN.get(spec["builtin"])
    if known is None:
        return
    config: Mapping[str, Any] = spec.get("config") or {}
    for name, value in config.items():
        path = f"spec.config.{name}"
        if name not in known:
            at.wrong(path, f"unknown setting{did_you_mean(name, known)}")
        elif (reason := known[name](value)) is not None:
            at.wrong(path, reason)
    for path, reason in _together(spec["builtin"], config):
        at.wrong(path, reason)


def _together(builtin: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with several settings together."""
    if "apiKey" in config and "apiKeyEnv" in config:
        yield "spec.config.apiKeyEnv", "goes instead of apiKey, not beside it"
    if "apiKeyEnv" in config and "baseUrl" in config:
        yield "spec.config.apiKeyEnv", "goes to the service's own address; with baseUrl, apiKey"
    if builtin == "web_search" and config and "provider" not in config:
        yield "spec.config", f"lacks the provider: {', '.join(SEARCH_SERVICES)}"
    if config.get("provider") == "searxng" and "baseUrl" not in config:
        yield "spec.config", "lacks the baseUrl of SearXNG, such as http://localhost:8888"
    if config.get("provider") in ("brave", "tavily") and not config.keys() & {
        "apiKey",
        "apiKeyEnv",
    }:
        yield "spec.config", f"lacks apiKey or apiKeyEnv, which {config['provider']} wants"
    if builtin == "http_request" and "allowHosts" not in config:
        yield "spec.config", "lacks allowHosts: http_request reaches no host that is not listed"
    hosts = config.get("allowHosts")
    if builtin == "http_request" and isinstance(hosts, list):
        names = [host.partition(":")[0] for host in hosts if isinstance(host, str)]
        if "*" in names and "secretRef" in str(config.get("headers")):
            yield (
                "spec.config.allowHosts",
                'goes with hosts by name where headers are secret, not "*"',
            )


def _each(read: Callable[[str], object]) -> Callable[[Any], _Why]:
    def check(value: Any) -> _Why:
        from aosctl.domain.web_addresses import Refused

        if not isinstance(value, list) or not value:
            return "is a list of one or more"
        for item in value:
            try:
                read(item if isinstance(item, str) else "")
            except Refused as error:
                return str(error)
        return None

    return check


def _url(value: Any) -> _Why:
    from aosctl.domain.web_addresses import Refused, parse

    try:
        address = parse(value if isinstance(value, str) else "")
    except Refused as error:
        return str(error)
    return "has a query" if "?" in address.target else None


def _flag(value: Any) -> _Why:
    return None if isinstance(value, bool) else "is true or false"


def _provider(value: Any) -> _Why:
    if value in SEARCH_SERVICES:
        return None
    return f"is not one of {', '.join(SEARCH_SERVICES)}{did_you_mean(str(value), SEARCH_SERVICES)}"


def _secret(value: Any) -> _Why:
    if not isinstance(value, Mapping) or value.keys() - {"secretRef", "prefix"}:
        return "takes {secretRef: NAME/KEY}, never the key itself"
    reference = value.get("secretRef")
    if not isinstance(reference, str) or not re.fullmatch(VALUE_PATTERN, reference):
        return "takes NAME or NAME/KEY of a Secret in secretRef, never the key itself"
    return None if isinstance(value.get("prefix", ""), str) else "takes a text as prefix"


def _variable(value: Any) -> _Why:
    if isinstance(value, str) and re.fullmatch(_VARIABLE, value):
        return None
    return "takes the name of an environment variable of the worker, never the key itself"


def _headers(value: Any) -> _Why:
    from aosctl.domain.request_headers import why_not

    if not isinstance(value, Mapping):
        return "is a mapping of names to texts or {secretRef, prefix}"
    for name, text in value.items():
        if isinstance(text, Mapping):
            reason = _secret(text) or why_not(name, text.get("prefix", ""))
        else:
            reason = why_not(name, text) if isinstance(text, str) else "is no text"
        if reason is not None:
            return f"{quoted(name)} {reason}"
    return None


def _few(value: Any) -> _Why:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return None if whole and 1 <= value <= 20 else "is a number from 1 to 20"


def _language(value: Any) -> _Why:
    plain = isinstance(value, str) and re.fullmatch("[A-Za-z]{2,3}(-[A-Za-z]{2,4})?", value)
    return None if plain else "is a language such as de or en-US"


def _zone(value: Any) -> _Why:
    plain = isinstance(value, str) and re.fullmatch("[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", value)
    return None if plain else "is a time zone such as Europe/Berlin"


_PLACES: Mapping[str, Callable[[Any], _Why]] = MappingProxyType(
    {"allowHosts": _each(as_host), "allowPrivate": _flag, "allowNetworks": _each(as_network)}
)
_KNOWN: Mapping[str, Mapping[str, Callable[[Any], _Why]]] = MappingProxyType(
    {
        "web_fetch": _PLACES,
        "http_request": {**_PLACES, "headers": _headers},
        "web_search": {
            "provider": _provider,
            "baseUrl": _url,
            "apiKey": _secret,
            "apiKeyEnv": _variable,
            "maxResults": _few,
            "language": _language,
            "allowPrivate": _flag,
            "allowNetworks": _each(as_network),
        },
        "now": {"timezone": _zone},
    }
)
