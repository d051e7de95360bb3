"""Field selectors, as kubectl's --field-selector, on every field: `status.state=idle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aosctl.domain.names import nearest, printable, quoted
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
    """Raise UsageError for a field that no kind has.

    What the database says of a kind, its status, is known whole only for what is only looked at.
    """
    spec = [field.name for kind in kinds for field in kind.fields]
    first, second = steps[0], steps[1] if len(steps) > 1 else ""
    if second:
        is_open = first == "spec" and any(not kind.fields for kind in kinds)  # a run declares none
        known = {"metadata": _METADATA, "spec": spec}.get(first, ())
        if first == "status" or is_open or second in known:
            return
        near = nearest(second, known)
        path = near and f"{first}.{near}"
    elif first == "kind":
        return
    else:
        places = {
            **{name: f"metadata.{name}" for name in _METADATA},
            **{
                field.name: f"status.{field.name}" for kind in kinds for field in kind.status_fields
            },
            **{name: f"spec.{name}" for name in spec},
        }
        near = nearest(first, places)
        path = near and places[near]
    meant = f'; did you mean "{path}"?' if path else ""
    raise UsageError(
        f"field label not supported: {printable('.'.join(steps)[:_SHOWN])}{meant}",
        "metadata.…, spec.… or status.… as -o yaml prints them",
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
