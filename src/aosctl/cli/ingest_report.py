"""What `aosctl ingest` says: how far it is, what became of each document, and a sum at the end."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from aosctl.cli import output
from aosctl.cli.globals import Globals
from aosctl.domain.names import printable
from aosctl.terminal import is_dumb

if TYPE_CHECKING:
    from aosctl.domain.ingest.filling import Filled
    from aosctl.domain.ingest.meaning import Meaning
    from aosctl.domain.ingest.taking import Options, Outcome

_ORDER = ("created", "changed", "unchanged", "removed", "skipped", "failed")
_DRY = " (dry run)"
_ERASE = "\r\x1b[2K"


class Report:
    """Tells the person how far it is, and prints what became of each document."""

    def __init__(
        self, given: Globals, collection: str, chosen: output.Output, options: Options
    ) -> None:
        self._given = given
        self._collection = collection
        self._chosen = chosen
        self._after = "" if options.keep else _DRY
        self._keeps = options.keep
        self._objects: list[output.Resource] = []
        self._on_terminal = sys.stderr.isatty() and not is_dumb(os.environ)
        # Where both go to one terminal, a line a document would only push that away.
        self._prints = chosen.is_table and not (self._on_terminal and sys.stdout.isatty())
        self._stage, self._done, self._total = "", 0, 0
        self._is_drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def reading(self, documents: int) -> None:
        """Begin to read so many documents."""
        self._begin("reading", documents)

    def embedding(self, passages: int) -> None:
        """Begin to embed so many passages."""
        self._begin("embedding", passages)

    def stage(self, name: str) -> None:
        """Begin something that has no measure."""
        self._begin(name, 0)

    def embedded(self, filled: Filled) -> None:
        """Show how far the embeddings are."""
        self._done = filled.passages + filled.too_long
        self._draw()

    def document(self, outcome: Outcome) -> None:
        """Tell what became of a document."""
        self._done += 1
        if outcome.status in ("skipped", "failed"):
            self.note(f"{self._name(outcome)} {outcome.status}: it {outcome.reason}")
        elif self._prints:
            sized = self._keeps and outcome.status in ("created", "changed")
            size = f", {_passages(outcome.chunks)}" if sized else ""
            output.write(f"{self._name(outcome)} {outcome.status}{size}{self._after}\n")
        elif self._chosen.format == "name":
            output.write(f"{self._name(outcome)}\n")
        self._objects.append(self._object(outcome))
        self._draw()

    def note(self, text: str) -> None:
        """Say something, above the line of progress where there is one."""
        self._clear()
        output.note(text, quiet=self._given.quiet)

    def stopped(self, filled: Filled, meaning: Meaning, advice: str) -> None:
        """Say how far the embeddings came, and for how much."""
        left = meaning.waiting - filled.passages
        said = f"{left:,} passages are still without an embedding; {advice}"
        done = _of_embeddings(filled, meaning)
        self.note(f"{done}; {said}" if done else said)

    def end(
        self, outcomes: Sequence[Outcome], filled: Filled, meaning: Meaning, folders_left: int
    ) -> None:
        """Say what was done, all in all."""
        self._clear()
        if self._chosen.format in ("json", "yaml"):
            output.write_objects([*self._objects, *_embeddings(filled, meaning)], self._chosen)
        counts: Counter[str] = Counter(one.status for one in outcomes)
        parts = [f"{counts[status]:,} {status}" for status in _ORDER if counts[status]]
        said = f"{self._collection}: {', '.join(parts) or 'nothing to take in'}{self._after}"
        more = _of_embeddings(filled, meaning)
        self.note(f"{said}; {more}" if more else said)
        if folders_left:
            left = "1 sub-folder was" if folders_left == 1 else f"{folders_left:,} sub-folders were"
            self.note(f"{left} passed over: -R looks there too")

    def _name(self, outcome: Outcome) -> str:
        return f"{self._collection}/{printable(outcome.source)}"

    def _object(self, outcome: Outcome) -> output.Resource:
        status = {
            "outcome": outcome.status,
            "reason": outcome.reason or None,
            "passages": outcome.chunks or None,
            "trust": "untrusted" if outcome.untrusted else None,
        }
        return {
            "apiVersion": "aos/v1",
            "kind": "Document",
            "metadata": {"name": outcome.source, "collection": self._collection},
            "status": {name: value for name, value in status.items() if value is not None},
        }

    def _begin(self, name: str, total: int) -> None:
        self._stage, self._done, self._total = name, 0, total
        self._draw()

    def _draw(self) -> None:
        """Say on one line how far it is, in place of what stood there."""
        if self._given.quiet or not self._on_terminal:
            return
        far = f" {self._done:,} of {self._total:,}" if self._total else ""
        sys.stderr.write(f"{_ERASE}{self._stage}{far}")
        sys.stderr.flush()
        self._is_drawn = True

    def _clear(self) -> None:
        if self._is_drawn:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
            self._is_drawn = False


def _passages(count: int) -> str:
    return f"{count:,} passage{'' if count == 1 else 's'}"


def _of_embeddings(filled: Filled, meaning: Meaning) -> str:
    """Say what was embedded, and for how much, or why nothing is."""
    if meaning.model is not None and not (filled.passages or filled.too_long):
        return ""
    if meaning.model is None:
        return f"it is searched by full text alone: {meaning.why_not}"
    from aosctl.domain.money import money

    cost = meaning.cost_usd(filled.tokens)
    price = "" if cost is None else f", {money(cost)}"
    tokens = f" ({filled.tokens:,} tokens{price})" if filled.passages else ""
    said = f"{_passages(filled.passages)} embedded by {meaning.model.name}{tokens}"
    if filled.too_long:
        said += (
            f"; {filled.too_long:,} are longer than the model takes, and found by their words alone"
        )
    return said


def _embeddings(filled: Filled, meaning: Meaning) -> list[output.Resource]:
    """Return what was embedded, and for how much, as an object beside the documents."""
    if meaning.model is None or not (filled.passages or filled.too_long):
        return []
    cost = meaning.cost_usd(filled.tokens)
    status = {
        "passages": filled.passages,
        "tooLong": filled.too_long or None,
        "tokens": filled.tokens,
        "costUsd": None if cost is None else float(cost),
    }
    return [
        {
            "apiVersion": "aos/v1",
            "kind": "Embeddings",
            "metadata": {"name": meaning.model.name},
            "status": {name: value for name, value in status.items() if value is not None},
        }
    ]
