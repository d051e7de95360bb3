"""What `aosctl mcp serve` does for its clients: one method a tool, as the person who serves.

Each call has connections of its own, as a verb typed in a shell has: nothing is shared between
clients but the rights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

# Before Python 3.12, pydantic makes no schema of typing's.
from typing_extensions import TypedDict

from aosctl.cli.globals import Globals
from aosctl.errors import AosError, InvalidInput
from aosctl.timestamps import rfc3339

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.connection import Session
    from aosctl.db.runs import RunRow
    from aosctl.domain.conversation import Conversation
    from aosctl.domain.loop_events import Outcome

_MOST_RUNS = 200
_MOST_LINES = 500


class AgentSummary(TypedDict):
    name: str
    description: str


class Agents(TypedDict):
    agents: list[AgentSummary]


class RunSummary(TypedDict):
    run: str
    agent: str
    state: str
    waiting_on: str | None
    turn: int
    cost_usd: float
    created_at: str


class Runs(TypedDict):
    runs: list[RunSummary]


class Started(TypedDict):
    run: str
    state: str
    next: str


class Answer(TypedDict):
    run: str
    state: str
    answer: str
    error: str | None
    approvals: list[str]
    next: str | None


class Question(TypedDict):
    id: str
    run: str
    agent: str
    skill: str
    arguments: dict[str, Any]
    why: str
    would_change: dict[str, Any] | None
    digest: str
    expires_at: str


class Questions(TypedDict):
    approvals: list[Question]


class Lines(TypedDict):
    run: str
    lines: list[str]
    cursor: int
    more: bool


class Done(TypedDict):
    done: str


class Desk:
    """The tools; every method raises AosError with the next step as its hint."""

    def __init__(self, given: Globals) -> None:
        self._given = given

    def check(self) -> None:
        """Connect once, so that what is wrong is said before a client waits. Raises AosError."""
        with self._session() as session:
            session.require_tenant()

    def list_agents(self) -> Agents:
        """Return the agents that can be talked to."""
        from aosctl.db import manifests
        from aosctl.domain.kinds import BY_NAME

        with self._session() as session:
            view = BY_NAME["Agent"].view
            rows = manifests.resources(session.connection, view, session.require_tenant())
        found: list[AgentSummary] = [
            {"name": row.name, "description": str(row.spec.get("description") or "")}
            for row in rows
        ]
        return {"agents": found}

    def list_runs(self, agent: str | None, everything: bool) -> Runs:
        """Return the runs begun last; without `everything` those with an open turn."""
        from aosctl.db.runs import runs

        with self._session() as session:
            tenant = session.require_tenant()
            rows = runs(session.connection, tenant, open_only=not everything)
        kept = [row for row in rows if agent in (None, row.agent)]
        return {"runs": [_summary(row) for row in kept[-_MOST_RUNS:]]}

    def start_run(self, agent: str, task: str, name: str | None) -> Started:
        """Leave a task to a worker."""
        from aosctl.db.new_runs import begin_task
        from aosctl.messages import user

        message = user(_said(task)).sanitised().to_json()
        with self._session() as session:
            tenant = session.require_tenant()
            made = begin_task(session.connection, tenant, agent, name, message)
        return {"run": made, "state": "queued", "next": "get_run tells how it stands"}

    def chat(self, agent: str | None, message: str | None, run: str | None, stop: Event) -> Answer:
        """Send a message, or go on with what is open, and drive the run here until it rests."""
        if not (agent or run) or not (message or run):
            raise InvalidInput(
                "chat takes an agent and a message, or a run to go on with",
                "list_agents, list_runs",
            )
        with closing(self._conversation(agent, run)) as conversation:
            outcome = self._drive(conversation, message, stop)
            return _answer(conversation, outcome)

    def get_run(self, run: str) -> Answer:
        """Return how a run stands."""
        with closing(self._conversation(None, run)) as conversation:
            return _answer(conversation, None)

    def logs(self, run: str, after: int, limit: int) -> Lines:
        """Return what was said and done in a run after a cursor, in lines."""
        from aosctl.cli.event_lines import text_lines
        from aosctl.db.events import content, events
        from aosctl.db.runs import find_run

        most = max(1, min(limit, _MOST_LINES))
        with self._session() as session:
            found = find_run(session.connection, session.require_tenant(), run)
            batch = events(session.connection, found, after=max(after, 0))[:most]
            about = content(session.connection, found, batch)
        lines = [line.text for event in batch for line in text_lines(event, about)]
        cursor = batch[-1].seq if batch else after
        more = cursor < found.last_seq
        return {"run": found.name, "lines": lines, "cursor": cursor, "more": more}

    def list_approvals(self, run: str | None) -> Questions:
        """Return what waits for a person's decision, with what it would do."""
        from aosctl.db.approvals import approvals
        from aosctl.db.runs import find_run

        with self._session() as session:
            tenant = session.require_tenant()
            one = find_run(session.connection, tenant, run).run_id if run else None
            rows = approvals(session.connection, tenant, pending_only=True, run=one)
        return {"approvals": [_question(row) for row in rows]}

    def decide_approval(
        self, approval: str, decision: Literal["approve", "deny"], digest: str, reason: str
    ) -> Done:
        """Decide, as the person; the kernel says whether they may."""
        from aosctl.db.approvals import decide, find_approval

        if not reason.strip():
            raise InvalidInput("a decision needs a reason; the audit trail keeps it", None)
        with self._session() as session:
            tenant = session.require_tenant()
            row = find_approval(session.connection, tenant, approval)
            word: Literal["approved", "denied"] = "approved" if decision == "approve" else "denied"
            decide(session.connection, tenant, row.approval_id, word, reason, digest)
        return {"done": f"approval {row.short} {word}"}

    def kill_run(self, run: str, reason: str | None) -> Done:
        """End a run for good."""
        from aosctl.db.runs import cancel_run, find_run

        with self._session() as session:
            tenant = session.require_tenant()
            found = find_run(session.connection, tenant, run)
            cancel_run(session.connection, tenant, found.run_id, reason)
        return {"done": f"run {found.name} killed"}

    def steer(self, run: str, text: str) -> Done:
        """Send a message into the turn that is under way."""
        from aosctl.db.runs import find_run, steer_turn
        from aosctl.messages import user

        with self._session() as session:
            tenant = session.require_tenant()
            found = find_run(session.connection, tenant, run)
            message = user(_said(text)).sanitised().to_json()
            turn, state = steer_turn(session.connection, tenant, found.run_id, message)
        return {"done": f"turn {turn} of run {found.name}, which is {state}, will read it"}

    @contextmanager
    def _session(self) -> Iterator[Session]:
        from aosctl.cli.wiring import session_of

        with closing(session_of(self._given)) as session:
            yield session

    def _conversation(self, agent: str | None, run: str | None) -> Conversation:
        """Open a run with connections of its own; the conversation closes them. Raises NotFound."""
        from aosctl.cli.wiring import open_conversation, session_of
        from aosctl.db.runs import find_run
        from aosctl.domain.agents import find_agent

        session = session_of(self._given)
        try:
            tenant = session.require_tenant()
            found = find_run(session.connection, tenant, run) if run else None
            name = (
                found.agent if found else find_agent(session.connection, tenant, agent or "").name
            )
            run_id: UUID | None = found.run_id if found else None
            return open_conversation(session, agent=name, run_id=run_id, verb="mcp")
        except BaseException:
            session.close()
            raise

    def _drive(
        self, conversation: Conversation, message: str | None, stop: Event
    ) -> Outcome | None:
        if message:
            return conversation.send(_said(message), _unseen, stop)
        return conversation.resume(_unseen, stop)


def words_of(error: AosError) -> str:
    """Return an error as a client's model reads it."""
    return f"{error.message}\nhint: {error.hint}" if error.hint else error.message


def _unseen(_event: object) -> None:
    """Look at nothing while a turn is driven."""


def _said(text: str) -> str:
    if not text.strip():
        raise InvalidInput("the message is empty", None)
    return text


def _summary(row: RunRow) -> RunSummary:
    return {
        "run": row.name,
        "agent": row.agent,
        "state": row.state,
        "waiting_on": row.waiting_on,
        "turn": row.turn or 0,
        "cost_usd": float(row.spent_usd),
        "created_at": rfc3339(row.created_at),
    }


def _question(row: ApprovalRow) -> Question:
    return {
        "id": row.short,
        "run": row.run,
        "agent": row.agent,
        "skill": row.skill,
        "arguments": dict(row.args),
        "why": row.reason,
        "would_change": dict(row.preview) if row.preview else None,
        "digest": row.digest,
        "expires_at": _moment(row.expires_at),
    }


def _moment(at: datetime) -> str:
    return rfc3339(at)


_NEXT = {
    "waiting": "a person decides: aosctl approve, or list_approvals; chat with this run goes on",
    "limited": "the run is at a limit: aosctl resume RUN lets it go on",
    "paused": "the run rests: aosctl resume RUN",
    "queued": "another process has the turn: get_run tells how it stands",
    "running": "it is under way: get_run again",
}


def _answer(conversation: Conversation, outcome: Outcome | None) -> Answer:
    """Say how a run stands, after a turn that was driven here or as it is."""
    from aosctl.db.typed_ids import short

    status = conversation.status()
    state = outcome.state if outcome is not None else _state(status.run_state, status.turn_state)
    pending = [short(each.approval_id) for each in conversation.pending_approvals()]
    text = outcome.text if outcome is not None else ""
    error = outcome.error if outcome is not None else status.error
    if outcome is None and state == "completed":
        with suppress(AosError):
            text = conversation.last_answer()
    return {
        "run": status.run,
        "state": state,
        "answer": text,
        "error": error,
        "approvals": pending,
        "next": _NEXT.get(state),
    }


def _state(run: str, turn: str | None) -> str:
    if run != "active" or turn is None:
        return run
    return "waiting" if turn.startswith("awaiting") else turn
