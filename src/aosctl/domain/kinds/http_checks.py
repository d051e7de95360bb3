"""What of the section `http` concerns several fields: URL, arguments, hosts, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aosctl.domain.fields import VALUE_PATTERN
from aosctl.domain.kinds.base import Completion, Spec
from aosctl.domain.names import quoted


def check(spec: Spec, at: Completion) -> None:
    """Check what concerns several fields: URL, placeholders and arguments, hosts and secrets."""
    section = spec["http"]
    _check_url(spec, at)
    _check_headers(section, at)
    _check_body(section, at)
    for secret in _secrets(section.get("body", {}).get("json")):
        if secret.keys() - {"secretRef", "prefix"} or not _is_reference(secret["secretRef"]):
            at.wrong("spec.http.body.json", "secretRef takes NAME or NAME/KEY of a Secret, alone")
    for path, template in _templates(section):
        _check_placeholders(path, template, spec, at)


def _check_url(spec: Spec, at: Completion) -> None:
    from aosctl.domain.url_templates import Misfit, names_in, query_names, split_url
    from aosctl.domain.web_addresses import Refused, parse, reach_of

    section = spec["http"]
    try:
        origin, path, query = split_url(section["url"])
        in_path = names_in(path)
        in_query = query_names(query)
        address = parse(origin)
    except (Misfit, Refused) as error:
        at.wrong("spec.http.url", str(error))
        return
    if any(segment in (".", "..") for segment in path.split("/")):
        at.wrong("spec.http.url", "has a segment that is . or ..")
    for name in dict.fromkeys([*in_path, *in_query]):
        _check_argument("spec.http.url", name, spec, at, in_path=name in in_path)
    hosts = section.get("allowHosts") or [address.authority]
    reach = reach_of(hosts, private=section["allowPrivate"], networks=section["allowNetworks"])
    try:
        reach.check(address)
    except Refused:
        at.wrong("spec.http.allowHosts", f"lacks the URL's own host {address.authority}")
    _check_address(address.host, reach, at)
    if (
        address.scheme == "http"
        and any(_secrets(section))
        and not (reach.private or reach.networks)
    ):
        at.wrong("spec.http.url", "is http, and secrets would be sent where others read them")


def _check_address(host: str, reach: Any, at: Completion) -> None:
    from aosctl.domain.web_addresses import ip_of

    if ip_of(host) is not None and not reach.admits(host):
        text = f"leads to {host}, which is no public address; allowPrivate or allowNetworks"
        at.wrong("spec.http.url", f"{text} would have to admit it")


def _check_argument(
    path: str, name: str, spec: Spec, at: Completion, *, in_path: bool = False
) -> None:
    """Check that a placeholder is an argument, and in a path one that is there and is no list."""
    known = spec.get("input", {}).get("properties", {})
    if name not in known:
        at.wrong(path, f"has the placeholder {quoted(name)}, which spec.input has no property for")
        return
    if not in_path:
        return
    if name not in spec["input"].get("required", []):
        at.wrong(path, f"needs {quoted(name)} in its path: list it in spec.input.required")
    kind = known[name].get("type") if isinstance(known[name], Mapping) else None
    if kind in ("array", "object", "null"):
        at.wrong(path, f"needs {quoted(name)} as a text or number in its path")


def _templates(section: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what may hold placeholders beside the URL, by its path."""
    for key, value in section["query"].items():
        yield f"spec.http.query.{key}", value
    body = section.get("body", {})
    for key, value in body.get("form", {}).items():
        yield f"spec.http.body.form.{key}", value
    for name in ("json", "text"):
        if name in body:
            yield f"spec.http.body.{name}", body[name]


def _check_placeholders(path: str, template: Any, spec: Spec, at: Completion) -> None:
    from aosctl.domain.url_templates import Misfit, names_within

    try:
        names = list(dict.fromkeys(names_within(_without_secrets(template))))
    except Misfit as error:
        at.wrong(path, str(error))
        return
    for name in names:
        _check_argument(path, name, spec, at)


def _check_headers(section: Mapping[str, Any], at: Completion) -> None:
    from aosctl.domain.request_headers import why_not

    for name, value in section["headers"].items():
        text = value if isinstance(value, str) else value.get("prefix", "")
        reason = why_not(name, text)
        if reason is None and name.lower() == section["idempotencyHeader"].lower():
            reason = "is the call's key where the effect is idempotent, and no other"
        if reason is not None:
            at.wrong(f"spec.http.headers.{name}", f"{quoted(name)} {reason}")
    if (reason := why_not(section["idempotencyHeader"])) is not None:
        at.wrong("spec.http.idempotencyHeader", reason)
    for place, name in enumerate(section["result"]["headers"]):
        if name.lower() in ("set-cookie", "www-authenticate") or not _is_token(name):
            at.wrong(f"spec.http.result.headers[{place}]", f"{quoted(name)} is not returned")


def _check_body(section: Mapping[str, Any], at: Completion) -> None:
    body = section.get("body")
    if body is None:
        return
    said = [name for name in ("json", "form", "text") if name in body]
    if section["method"] in ("GET", "HEAD"):
        at.wrong("spec.http.body", f"does not go with {section['method']}")
    elif len(said) != 1:
        at.wrong("spec.http.body", "needs exactly one of json, form and text")
    elif "contentType" in body and "text" not in body:
        at.wrong("spec.http.body.contentType", "goes with text")


def is_secret(value: Any) -> bool:
    """Tell whether a JSON value is a reference to a secret."""
    return isinstance(value, Mapping) and "secretRef" in value


def _secrets(value: Any) -> Iterator[Mapping[str, Any]]:
    if is_secret(value):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _secrets(each)
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each)


def _without_secrets(value: Any) -> Any:
    if is_secret(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_secrets(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    return value


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(VALUE_PATTERN, value) is not None


def _is_token(name: str) -> bool:
    return re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is not None
