"""Field selectors, as kubectl's --field-selector, on every field: `status.state=idle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aosctl.domain.names import printable, quoted
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.domain.kinds import Kind

Matches = Callable[[Mapping[str, Any]], bool]
_SHOWN = 200
_METADATA = (
    "name",
    "tenant",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "generation",
    "creationTimestamp",
)


class Term(NamedTuple):
    """One condition: a field of the manifest by its path, and the text that it has or has not."""

    path: tuple[str, ...]
    value: str
    wanted: bool

    def holds(self, manifest: Mapping[str, Any]) -> bool:
        """Tell whether it holds; an absent field is empty, a list has each of its items."""
        found: Any = manifest
        for step in self.path:
            found = found.get(step) if isinstance(found, Mapping) else None
        values = (
            [_text(one) for one in found]
            if isinstance(found, Sequence) and not isinstance(found, str)
            else [_text(found)]
        )
        return (self.value in values) == self.wanted


def parse_field_selector(text: str, kinds: Sequence[Kind]) -> Matches:
    """Return a test of manifests; an empty selector takes all.

    Raises UsageError for what is no selector, and for a field that none of `kinds` has.
    """
    if not text.strip():
        return lambda manifest: True
    terms = [_term(part, text, kinds) for part in text.split(",")]
    return lambda manifest: all(term.holds(manifest) for term in terms)


def _term(part: str, whole: str, kinds: Sequence[Kind]) -> Term:
    for operator in ("!=", "==", "="):
        path, found, value = part.partition(operator)
        if found:
            steps = tuple(path.strip().split("."))
            _check(steps, kinds)
            if steps == ("metadata", "namespace"):
                steps = ("metadata", "tenant")
            return Term(steps, value.strip(), operator != "!=")
    raise UsageError(
        f"invalid selector: {quoted(whole, 200)}; can't understand {quoted(part)}",
        "such as --field-selector status.state=idle,metadata.name!=bot",
    )


def _check(steps: tuple[str, ...], kinds: Sequence[Kind]) -> None:
    known: list[str] = []
    if steps[0] == "metadata" and len(steps) > 1:
        known = list(_METADATA)
    elif steps[0] == "spec" and len(steps) > 1:
        known = [field.name for kind in kinds for field in kind.fields]
        if any(not kind.fields for kind in kinds):  # a run declares none
            return
    elif steps[0] in ("status", "kind") and (len(steps) > 1 or steps[0] == "kind"):
        return
    if len(steps) > 1 and steps[1] in known:
        return
    from aosctl.domain.names import did_you_mean

    paths = [f"{steps[0]}.{name}" for name in known] or ["metadata.name", "spec", "status"]
    field = printable(".".join(steps)[:_SHOWN])
    raise UsageError(
        f"field label not supported: {field}{did_you_mean('.'.join(steps[:2]), paths)}",
        "metadata.…, spec.… or status.… as -o yaml prints them",
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
