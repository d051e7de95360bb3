"""One manifest as a value, and how the problems of a set of them are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aosctl.domain.kinds import BY_NAME
from aosctl.domain.kinds.base import API_VERSION
from aosctl.domain.names import quoted
from aosctl.domain.reading import Ref
from aosctl.domain.structures import arrange
from aosctl.errors import ManifestError

MAX_PROBLEMS = 100
"""So many are looked for; then it is enough."""
_MOST_SHOWN = 20


def fields_hint(kind: str = "KIND") -> str:
    """Return where the fields of a kind are explained, and who writes a manifest of it."""
    return (
        f"aosctl explain {kind} says what the fields mean;"
        f" aosctl create {kind} NAME --dry-run=client -o yaml writes a manifest to begin with"
    )


FIELDS_HINT = fields_hint()


@dataclass(frozen=True)
class Document:
    """One manifest, valid by itself; `spec` is canonical, with defaults filled in.

    `places` maps the path of a value (`spec.model`) to its (line, column) in `source`.
    """

    kind: str
    name: str
    tenant: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    source: str
    line: int
    column: int
    refs: tuple[Ref, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    uid: str | None = None
    generation: int | None = None
    folder: Path | None = None

    @property
    def subject(self) -> str:
        """Return the document as messages call it: `Persona "pg_expert"`."""
        return f"{self.kind} {quoted(self.name)}"

    def problem(self, path: str, text: str) -> str:
        """Return a problem's line: `persona.yaml:12:5: Persona "pg_expert": spec.model: …`."""
        line, column = self.places.get(path, (self.line, self.column))
        place = f"{self.source}:{line}:{column}" if line else self.source
        return f"{place}{': ' if place else ''}{self.subject}: {path}: {text}"

    def manifest(self) -> dict[str, Any]:
        """Return the document as the manifest that `get -o yaml` would print after its apply."""
        kind = BY_NAME[self.kind]
        metadata = {
            "name": self.name,
            "tenant": self.tenant,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {key: value for key, value in metadata.items() if value},
            "spec": arrange(kind.spec_type, self.spec),
        }


def refuse(problems: Sequence[str], hint: str | None = FIELDS_HINT) -> None:
    """Raise one ManifestError for all problems, if there are any."""
    if not problems:
        return
    if len(problems) == 1:
        raise ManifestError(problems[0], hint)
    count = f"{len(problems)} or more" if len(problems) >= MAX_PROBLEMS else str(len(problems))
    lines = [f"{count} problems, nothing was done:", *problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"… and {len(problems) - _MOST_SHOWN} more")
    raise ManifestError("\n".join(lines), hint)
