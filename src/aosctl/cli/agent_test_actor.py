"""Who plays the person of a case: says, decides and asks as its steps tell, and sees what came."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from aosctl.cli import talk
from aosctl.cli.globals import Globals
from aosctl.db import agent_tests as reading
from aosctl.domain.agent_tests.checking import Called, Failure, Seen, result_of, shown
from aosctl.domain.agent_tests.matching import fits
from aosctl.domain.agent_tests.playing import Play, Stubbed
from aosctl.repl.screen import Screen

if TYPE_CHECKING:
    from aosctl.config import Target
    from aosctl.db.connection import Session
    from aosctl.domain.conversation import Approval
    from aosctl.domain.loop_events import Outcome
    from aosctl.domain.tools.base import Tool
    from aosctl.repl.turns import Turns

Decision: TypeAlias = Literal["approved", "denied"]


def open_case_session(target: Target, tenant: str | None) -> Session:
    """Connect to the database of a case, as its person; `tenant` None is none."""
    from aosctl.db.connection import open_session

    return open_session(target._replace(tenant=tenant), "test", select_tenant=tenant is not None)


class Missing(Exception):
    """A step found nothing that it could be about."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Mark(NamedTuple):
    """How far a case has come."""

    run: int
    step: int
    spent: reading.SpentRow


class Actor:
    """The person of a case, and the runs they are in."""

    def __init__(self, given: Globals, session: Session, agent: str, play: Play) -> None:
        self._given = given
        self._session = session
        self._agent = agent
        self._known = _tools(play)
        self._runs: list[UUID] = []
        self._unseen = Screen(None, io.StringIO(), styled=False, quiet=True)
        self._turns: Turns | None = None
        self._outcome: Outcome | None = None

    @property
    def has_just_ended_badly(self) -> bool:
        """Tell whether the last turn did not come to its end."""
        return self._outcome is not None and self._outcome.state in ("failed", "limited")

    def close(self) -> None:
        if self._turns is not None:
            self._turns.close()
            self._turns = None

    def take(self, step: Mapping[str, Any], path: str) -> list[Failure]:
        """Take one step; return what of it was not as it had to be. Raises Missing, AosError."""
        if "say" in step:
            self._say(step["say"], new=step["newRun"])
        elif "schedule" in step:
            self._fire(step["schedule"])
        elif "run" in step:
            reading.run_sql(self._session.connection, step["run"])
        elif "edit" in step:
            self._edit(step["edit"], f"{path}.edit")
        else:
            word = "approve" if "approve" in step else "deny"
            return self._decide(word, step[word], f"{path}.{word}")
        return []

    def _say(self, text: str, *, new: bool) -> None:
        turns = self._talk(new=new)
        self._outcome = turns.send(text)
        self._know_run()

    def _fire(self, schedule: str) -> None:
        """Have a schedule give its task now, and drive that run."""
        from aosctl.db.runs import find_run
        from aosctl.db.schedules import run_now

        connection, tenant = self._session.connection, self._session.require_tenant()
        run = find_run(connection, tenant, run_now(connection, tenant, schedule))
        turns = self._talk(new=True, run=run.run_id)
        self._outcome = turns.take_up()
        self._know_run()

    def _know_run(self) -> None:
        run = self._turns.conversation.run_id if self._turns else None
        if run is not None and run not in self._runs:
            self._runs.append(run)

    def _talk(self, *, new: bool = False, run: UUID | None = None) -> Turns:
        from aosctl.repl.turns import Turns

        if new:
            self.close()
        if self._turns is None:
            session = open_case_session(self._session.target, self._session.tenant)
            access = talk.Access(self._given, session, self._agent, known=self._known)
            self._turns = Turns(access, access.open(run), self._unseen, None)
        return self._turns

    def _waiting(self, wanted: Mapping[str, Any], path: str) -> Approval:
        from aosctl.repl.deciding import waiting

        found = waiting(self._talk().conversation) if self._runs else []
        for one in found:
            if one.skill == wanted["skill"] and fits(wanted.get("args", {}), dict(one.args)):
                return one
        came = "\n".join(f"{one.skill} {shown(one.args)}" for one in found) or "nothing waits"
        args = f" {shown(wanted['args'])}" if "args" in wanted else ""
        expected = f"{wanted['skill']}{args}"
        raise Missing(Failure(path, "no such call waits for a decision", expected, came))

    def _decide(self, word: str, wanted: Mapping[str, Any], path: str) -> list[Failure]:
        approval = self._waiting(wanted, path)
        failures = []
        if "preview" in wanted and not fits(wanted["preview"], approval.preview):
            came = shown(approval.preview) if approval.preview is not None else "no preview"
            at = f"{path}.preview"
            failures.append(Failure(at, "another preview", shown(wanted["preview"]), came))
        self._as(wanted, approval, "approved" if word == "approve" else "denied")
        self._outcome = self._talk().take_up() or self._outcome
        return failures

    def _as(self, wanted: Mapping[str, Any], approval: Approval, decision: Decision) -> None:
        """Decide as the person of the test, or as the principal that the step names."""
        reason = wanted.get("reason")
        if "as" not in wanted:
            conversation = self._talk().conversation
            conversation.decide(approval.approval_id, decision, reason, approval.digest)
            return
        from aosctl import request
        from aosctl.db.approvals import decide
        from aosctl.db.connection import open_session

        asked = request.current()._replace(principal=wanted["as"])
        target = self._session.target
        with closing(open_session(target, "test", asked=asked)) as session:
            tenant = self._session.require_tenant()
            decide(
                session.connection, tenant, approval.approval_id, decision, reason, approval.digest
            )

    def _edit(self, wanted: Mapping[str, Any], path: str) -> None:
        approval = self._waiting({"skill": wanted["skill"]}, path)
        self._talk().conversation.edit(approval, wanted["args"])

    def query(self, text: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
        """Run a query of the test."""
        return reading.query(self._session.connection, text)

    def mark(self) -> Mark:
        """Return how far it has come."""
        spent = reading.spent(self._session.connection, self._session.require_tenant())
        run = self._status()
        return Mark(len(self._runs), run.last_step if run else 0, spent)

    def _status(self) -> Any:
        from aosctl.db.runs import runs

        if not self._runs:
            return None
        tenant = self._session.require_tenant()
        return runs(self._session.connection, tenant, ids=[self._runs[-1]])[0]

    def seen(self, since: Mark) -> Seen:
        """Return what has come since a mark."""
        run, now = self._status(), self.mark()
        state, error = "completed", None
        if self._outcome is not None:
            state, error = self._outcome.state, self._outcome.error
            error = error or (run.error if run and state in ("failed", "limited") else None)
        first = max(since.run - 1, 0)
        calls = [
            call
            for place, one in enumerate(self._runs[first:], first)
            for call in self._calls(one, since.step if place == first and since.run else 0)
        ]
        return Seen(
            state,
            error,
            calls,
            self._turns.conversation.last_answer() if self._turns and self._runs else "",
            now.spent.usd - since.spent.usd,
            now.spent.tokens - since.spent.tokens,
            now.spent.answers - since.spent.answers,
            now.step - (since.step if since.run == now.run else 0),
            run.taint if run else None,
        )

    def _calls(self, run: UUID, since: int) -> list[Called]:
        tenant = self._session.require_tenant()
        rows = reading.calls(self._session.connection, tenant, run, since)
        return [Called(r.skill, r.args, r.state, r.gate, result_of(r.result)) for r in rows]

    def told(self) -> list[str]:
        """Return what was said and done, a line each."""
        from aosctl.db.runs import runs
        from aosctl.db.traces import record
        from aosctl.domain.replaying import told

        connection, tenant = self._session.connection, self._session.require_tenant()
        found = runs(connection, tenant, ids=self._runs) if self._runs else []
        by_id = {row.run_id: row for row in found}
        return [
            line
            for run in self._runs
            if run in by_id
            for turn in told(record(connection, by_id[run]), 0, ())
            for line in turn.lines
        ]


def _tools(play: Play) -> Mapping[str, Tool]:
    """Return the tools of a case; its database is one person's, as the embedded one is."""
    from aosctl.cli.wiring_tools import tools

    return Stubbed(tools(embedded=True), play.stubs)
