"""Errors of the kernel in the words of manifests, at the line that they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME, Kind
from aosctl.errors import AosError, DatabaseUnavailable, Denied, ReadOnly

_DENIED = re.compile("permission denied for function|row-level security policy")
"""What PostgreSQL says to a login without the right to a kernel function or a row."""

_MAY = {
    "Tenant": "an administrator can: a member of aos_admin",
    "Model": "an administrator can: a member of aos_admin",
    "Principal": "it needs the role admin in the tenant",
    "Policy": "it needs the role admin in the tenant",
}


@contextmanager
def placed(document: Document) -> Iterator[None]:
    """Put the document's place before what the kernel says against it."""
    try:
        yield
    except (DatabaseUnavailable, ReadOnly):
        raise
    except AosError as error:
        said = in_words(error, BY_NAME[document.kind])
        raise at_its_place(said, document) from (said.__cause__ or said)


def at_its_place(error: AosError, document: Document) -> AosError:
    """Return the error with the place before it of what it is about in the document."""
    path = _path_of(document, error.message) or "metadata.name"
    return type(error)(document.problem(path, error.message), error.hint)


def in_words(error: AosError, kind: Kind) -> AosError:
    """Say what PostgreSQL means by a refused function or row."""
    if not (isinstance(error, Denied) and _DENIED.search(error.message)):
        return error
    text = f"the login may not change {kind.plural}{' here' if kind.tenanted else ''}"
    return Denied(text, _MAY.get(kind.name, "it needs the role developer in the tenant"))


def meant(documents: Sequence[Document], message: str) -> Document | None:
    """Find the document that a refusal of an agent is about: it, or what was changed around it."""
    words = re.findall(r'"([^"]+)"', message)
    for kind in ("Agent", "Skill", "Policy", "Collection"):
        for document in reversed(documents):
            named = document.name in words or kind in ("Policy", "Collection")
            if document.kind == kind and named:
                return document
    return None


def _path_of(document: Document, message: str) -> str | None:
    """Find the value that a message quotes: `spec.model` for `model "gpt-9" not found`."""
    for word in reversed(re.findall(r'"([^"]+)"', message)):
        for path, value in _leaves(document.spec, "spec"):
            matches = value == word or word.endswith(f".{value}")
            if matches and path in document.places:
                return path
    return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    elif isinstance(value, str):
        yield path, value
