"""Apply-sets: what was applied together, by a label, so that what left the files can be pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME
from aosctl.domain.kinds.base import Resource
from aosctl.domain.names import quoted
from aosctl.errors import Conflict

LABEL = "applyset.aos/part-of"
"""The label of members; its value is the set's name, which counts within one tenant."""


@dataclass(frozen=True)
class Members:
    """The set that documents join, None for the one that each is in; whether the rest goes.

    What belongs to no tenant, a Tenant or a Model, is in no set.
    """

    name: str | None = None
    prune: bool = False
    kinds: frozenset[str] | None = None
    """What goes of the rest: these kinds only, or all."""

    def leaves(self, kind: str) -> bool:
        """Tell whether what is of this kind and left the files stays all the same."""
        return self.kinds is not None and kind not in self.kinds

    def join(
        self,
        documents: Sequence[Document],
        live: Mapping[tuple[str, str | None, str], Resource],
    ) -> tuple[Document, ...]:
        """Return the documents with the label of the set.

        A file does not name its set, and applying it alone takes it out of none. Raises Conflict
        for what belongs to another set.
        """
        return tuple(
            self._member(document, live.get((document.kind, document.tenant, document.name)))
            for document in documents
        )

    def _member(self, document: Document, live: Resource | None) -> Document:
        if not BY_NAME[document.kind].tenanted:
            return document
        given = document.labels.get(LABEL)
        found = given or (live.labels.get(LABEL) if live else None)
        if self.name is not None and found not in (None, self.name):
            path = f"metadata.labels.{LABEL}"
            text = document.problem(path, f"it belongs to the apply-set {quoted(found or '')}")
            which = f"{document.kind.lower()} {document.name}"
            raise Conflict(text, f"aosctl label {which} {LABEL}- takes it out of that set")
        name = self.name or found
        if name is None or given is not None:
            return document
        return replace(document, labels={**document.labels, LABEL: name})
