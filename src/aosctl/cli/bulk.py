"""Verbs on many runs: by names, by labels or all; what is not named is listed and asked about."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aosctl.cli import output
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.db.rows import AnySession
    from aosctl.db.runs import RunRow

Yes = Annotated[bool, typer.Option("--yes", "-y", help="With -l or --all: ask nothing")]
AllRuns = Annotated[
    bool, typer.Option("--all", help="All runs of the tenant that it can be done to")
]
_MOST_SHOWN = 50
_TITLE = 40


class Choice(NamedTuple):
    """Which things a person means: names, or labels, or all of them; `what` is one of them.

    `command` is the command line so far, for the next command that is suggested.
    """

    what: str
    names: Sequence[str]
    selector: str | None
    everything: bool
    command: str

    @property
    def is_bulk(self) -> bool:
        return self.selector is not None or self.everything

    def check(self) -> None:
        """Raise UsageError for labels that would be those of all."""
        if self.selector is not None and not self.selector.strip():
            raise UsageError("-l has no labels", f"{self.command} --all means all")

    def found(
        self, session: AnySession, fits: Callable[[RunRow], bool], *, quiet: bool
    ) -> list[RunRow]:
        """Return the runs of labels or of all, to which it can be done; say when there are none."""
        from aosctl.db.runs import runs
        from aosctl.domain.selectors import parse_selector

        labels = parse_selector(self.selector or "")
        rows = [
            row
            for row in runs(session.connection, session.require_tenant())
            if fits(row) and labels(row.labels)
        ]
        if not rows:
            output.note(f"No such runs in {session.tenant} tenant", quiet=quiet)
        return rows

    def meant(
        self,
        session: AnySession,
        fits: Callable[[RunRow], bool],
        done: str,
        *,
        yes: bool,
        quiet: bool,
    ) -> list[str]:
        """Return the runs as they were named, else the ids of those chosen, after a question."""
        if not self.is_bulk:
            return list(self.names)
        rows = self.found(session, fits, quiet=quiet)
        self.confirm(done, lines_of(rows), session.tenant or "", yes)
        return [str(row.run_id) for row in rows]

    def confirm(self, done: str, lines: Sequence[Sequence[object]], where: str, yes: bool) -> None:
        """List what is about to be `done` and ask; nothing with `yes`.

        Raises UsageError off a terminal, AosError for any answer but y.
        """
        if yes or not lines:
            return
        from aosctl.cli.confirm import agree, is_interactive
        from aosctl.cli.table import cell, format_table
        from aosctl.repl.words import counted

        count = counted(len(lines), self.what)
        if not is_interactive():
            names = ", ".join(cell(line[0]) for line in lines[:10])
            more = ", …" if len(lines) > 10 else ""
            raise UsageError(
                f"would {done} {count} in {where} tenant: {names}{more}",
                f"{self.command} {self._flags()} -y does it",
            )
        shown = [[cell(value) for value in line] for line in lines[:_MOST_SHOWN]]
        sys.stderr.write(f"About to {done} {count} in {where} tenant:\n{format_table(shown)}")
        if len(lines) > _MOST_SHOWN:
            sys.stderr.write(f"… and {len(lines) - _MOST_SHOWN} more\n")
        agree("Do you want to continue?")

    def _flags(self) -> str:
        from shlex import quote

        if self.names:
            return " ".join(map(quote, self.names))
        return "--all" if self.selector is None else f"-l {quote(self.selector)}"


def lines_of(rows: Sequence[RunRow]) -> list[tuple[object, ...]]:
    """Return what a person sees of runs before something is done to them."""
    from aosctl.repl.words import shorten

    return [(row.name, row.agent, row.state, shorten(row.title or "", _TITLE)) for row in rows]
