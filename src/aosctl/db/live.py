"""Answers as they come: the pieces that a worker writes while somebody is attached to its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of
from aosctl.db.watching import RARELY_SECONDS, Watch

if TYPE_CHECKING:
    import psycopg

    from aosctl.db.connection import Connection

LIVE_SECONDS = 30
"""How long a worker goes on writing for somebody who has gone without a word."""


class LivePiece(NamedTuple):
    """One row of aos_core.live_answer: the characters of step `step` from `begins` on.

    `answer` is one attempt to answer.
    """

    step: int
    answer: UUID
    begins: int
    text: str


class LiveWatch(Watch):
    """A Watch of one run that reads what is written of its answers, and gives it to `show`."""

    seconds = LIVE_SECONDS

    def __init__(
        self, connection: Connection, run: UUID, show: Callable[[Sequence[LivePiece]], None]
    ) -> None:
        super().__init__(connection)
        self._run = run
        self._show = show
        self._live: str | None = None
        self._known: tuple[UUID | None, int] = (None, 0)
        self._is_behind = False

    def wait(
        self,
        runs: Iterable[tuple[UUID, UUID]],
        seconds: float = RARELY_SECONDS,
        *,
        told: bool = False,
    ) -> None:
        """Wait as Watch does, and show what was written before it could be heard of."""
        if self._is_behind:  # events that came before have been shown by now
            self._is_behind = False
            self._read()
        super().wait(runs, seconds, told=told)

    def _ask_for_run(self, tenant: UUID, run: UUID) -> None:
        self._listen("aos_run")
        ((channel,),) = self._connection.execute(
            "select aos_agent.watch_live(%s, %s, %s)", (tenant, run, self.seconds)
        ).fetchall()
        self._live = str(channel)
        self._listen(self._live)
        self._is_behind = True

    def _counts(self, notice: psycopg.Notify, wanted: set[str]) -> bool:
        if notice.channel == self._live:
            self._read()
            return False
        return super()._counts(notice, wanted)

    def _read(self) -> None:
        """Read the pieces that came since the last time, and all of an answer that is new."""
        answer, end = self._known
        new = rows_of(
            self._connection,
            LivePiece,
            "select step, answer, begins, text from aos_core.live_answer where run_id = %s"
            " and (answer is distinct from %s or begins >= %s) order by begins",
            (self._run, answer, end),
        )
        if new:
            self._known = new[-1].answer, new[-1].begins + len(new[-1].text)
            self._show(new)
