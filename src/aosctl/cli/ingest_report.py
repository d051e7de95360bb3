"""What `aosctl ingest` says: a bar on a terminal, a line a document elsewhere, a sum at the end."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from aosctl.cli import output
from aosctl.cli.globals import Globals
from aosctl.terminal import clean, is_dumb

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from aosctl.domain.ingest.filling import Filled
    from aosctl.domain.ingest.meaning import Meaning
    from aosctl.domain.ingest.taking import Options, Outcome

_ORDER = ("created", "changed", "unchanged", "removed", "skipped", "failed")
_DRY = " (dry run)"


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
        # Where both go to one terminal, a line a document would only push the bar away.
        self._prints = chosen.is_table and not (self._on_terminal and sys.stdout.isatty())
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def reading(self, documents: int) -> None:
        """Begin to read so many documents."""
        self._begin("reading", documents)

    def embedding(self, passages: int) -> None:
        """Begin to embed so many passages."""
        self._begin("embedding", passages)

    def stage(self, name: str) -> None:
        """Begin something that has no measure."""
        self._begin(name, None)

    def embedded(self, filled: Filled) -> None:
        """Show how far the embeddings are."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=filled.passages + filled.too_long)

    def document(self, outcome: Outcome) -> None:
        """Tell what became of a document."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        if outcome.status in ("skipped", "failed"):
            self.note(f"{self._name(outcome)} {outcome.status}: it {outcome.reason}")
        elif self._prints:
            sized = self._keeps and outcome.status in ("created", "changed")
            size = f", {_passages(outcome.chunks)}" if sized else ""
            output.write(f"{self._name(outcome)} {outcome.status}{size}{self._after}\n")
        elif self._chosen.format == "name":
            output.write(f"{self._name(outcome)}\n")
        self._objects.append(self._object(outcome))

    def note(self, text: str) -> None:
        """Say something, above the bar where there is one."""
        if self._bar is not None:
            if not self._given.quiet:
                self._bar.console.print(clean(text), markup=False, highlight=False, soft_wrap=True)
        else:
            output.note(text, quiet=self._given.quiet)

    def end(
        self, outcomes: Sequence[Outcome], filled: Filled, meaning: Meaning, folders_left: int
    ) -> None:
        """Say what was done, all in all."""
        self._close()
        if self._chosen.format in ("json", "yaml"):
            output.write_objects(self._objects, self._chosen)
        counts: Counter[str] = Counter(one.status for one in outcomes)
        parts = [f"{counts[status]:,} {status}" for status in _ORDER if counts[status]]
        said = f"{self._collection}: {', '.join(parts) or 'nothing to take in'}{self._after}"
        more = _of_embeddings(filled, meaning)
        self.note(f"{said}; {more}" if more else said)
        if folders_left:
            left = "1 sub-folder was" if folders_left == 1 else f"{folders_left:,} sub-folders were"
            self.note(f"{left} passed over: -R looks there too")

    def _name(self, outcome: Outcome) -> str:
        return f"{self._collection}/{outcome.source}"

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

    def _begin(self, name: str, total: int | None) -> None:
        if self._given.quiet or not self._on_terminal:
            return
        if self._bar is None:
            self._bar = _bar(self._given)
            self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def _passages(count: int) -> str:
    return f"{count:,} passage{'' if count == 1 else 's'}"


def _of_embeddings(filled: Filled, meaning: Meaning) -> str:
    """Say what was embedded, and for how much, or why nothing is."""
    if meaning.model is not None and not (filled.passages or filled.too_long):
        return ""
    if meaning.model is None:
        return f"it is searched by full text alone: {meaning.why_not}"
    from aosctl.domain.money import money

    cost = money(Decimal(str(meaning.usd_per_mtok)) * filled.tokens / 1_000_000)
    tokens = f" ({filled.tokens:,} tokens, {cost})" if filled.passages else ""
    said = f"{_passages(filled.passages)} embedded by {meaning.model.name}{tokens}"
    if filled.too_long:
        said += (
            f"; {filled.too_long:,} are longer than the model takes, and found by their words alone"
        )
    return said


def _bar(given: Globals) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, no_color=given.no_color or None)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
