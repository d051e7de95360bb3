"""The desk beside a conversation: what the chat's commands look up and decide, as the person.

It has connections of its own, so that it answers while a turn is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aosctl.db import approvals, new_runs, personas, runs, talks
from aosctl.db.personas import PersonaVersion as PersonaVersion
from aosctl.db.runs import RunRow as RunRow
from aosctl.db.talks import LeftOut as LeftOut
from aosctl.db.talks import Model as Model
from aosctl.db.talks import Spent as Spent
from aosctl.db.talks import Step as Step
from aosctl.db.talks import Talk as Talk
from aosctl.db.talks import Tool as Tool
from aosctl.domain.conversation import Approval
from aosctl.errors import (
    AosError,
    DatabaseUnavailable,
    IllegalTransition,
    NotFound,
    UnknownKind,
)
from aosctl.messages import Message

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.connection import Connection, Session

T = TypeVar("T")


class Desk:
    """One tenant, as one person sees it; connects when first asked, and again when it must.

    `open_session` connects as the person, `worker_dsn` says how their worker does.
    """

    def __init__(
        self, open_session: Callable[[], Session], worker_dsn: Callable[[Session], str]
    ) -> None:
        self._open = open_session
        self._worker_dsn = worker_dsn
        self._session: Session | None = None
        self._looker: talks.Looker | None = None

    @property
    def tenant(self) -> str:
        """Return the name of the tenant."""
        return self._connected().tenant or ""

    def talks(self) -> list[Talk]:
        """Return the conversations that can go on, the last one first."""
        return self._read(talks.talks)

    def run(self, typed: str) -> RunRow:
        """Find a run by what a person typed. Raises NotFound, AosError."""
        return self._read(lambda connection, tenant: runs.find_run(connection, tenant, typed))

    def run_to_go_on(self, typed: str) -> RunRow:
        """Find a run that takes messages. Raises as `run`, and IllegalTransition for one closed."""
        found = self.run(typed)
        if found.is_closed:
            raise IllegalTransition(
                f'run "{found.name}" is {found.run_state}',
                f"/fork goes on from it: aosctl fork {found.name}",
            )
        return found

    def fork(
        self, run_id: UUID, step: int | None = None, model: str | None = None
    ) -> tuple[RunRow, int]:
        """Make a run with the transcript of another up to a step; return it and its last step.

        `model` is asked in it, None: the other's.
        """
        connection, tenant = self._connected().connection, self._connected().require_tenant()
        made = new_runs.fork_run(connection, tenant, run_id, step, None, model)
        return self.run(str(made.run_id)), made.steps

    def steps(self, run_id: UUID, role: str | None = None) -> list[Step]:
        """Return what was said in a run, oldest first."""
        return self._read(lambda connection, tenant: talks.steps(connection, tenant, run_id, role))

    def left_out(self, run_id: UUID) -> list[LeftOut]:
        """Return which steps of a run its model reads no more, a row a piece."""
        return self._read(lambda connection, tenant: talks.left_out(connection, tenant, run_id))

    def last_answer(self, run_id: UUID) -> str:
        """Return the last text of the model in a run; empty where there is none yet."""
        said = self._read(lambda connection, tenant: talks.last_answers(connection, tenant, run_id))
        texts = (Message.from_json(message).text for message in said)
        return next((text for text in texts if text.strip()), "")

    def tools(self, agent: str) -> list[Tool]:
        """Return the skills that an agent may call."""
        return self._read(lambda connection, tenant: talks.tools(connection, tenant, agent))

    def models(self) -> list[Model]:
        """Return the models of the registry."""
        return self._read(lambda connection, _: talks.models(connection))

    def spent(self, run_id: UUID) -> list[Spent]:
        """Return what each model cost in a run."""
        return self._read(lambda connection, tenant: talks.spent(connection, tenant, run_id))

    def persona(self, name: str) -> list[PersonaVersion]:
        """Return the versions of a persona, the first one first; none where it is gone."""
        from aosctl.db import manifests
        from aosctl.domain.kinds import BY_NAME

        def read(connection: Connection, tenant: UUID) -> list[PersonaVersion]:
            found = manifests.resources(connection, BY_NAME["Persona"].view, tenant, [name])
            return [
                each for row in found for each in personas.versions(connection, tenant, row.uid)
            ]

        return self._read(read)

    def persona_of(self, agent: str) -> str:
        """Return the persona of an agent as it is now. Raises NotFound."""
        from aosctl.db import manifests
        from aosctl.domain.kinds import BY_NAME

        found = self._read(
            lambda connection, tenant: manifests.resources(
                connection, BY_NAME["Agent"].view, tenant, [agent]
            )
        )
        if not found:
            raise NotFound(f'agents.aos "{agent}" not found', "aosctl get agents")
        return str(found[0].spec["persona"])

    def manifest(self, word: str, name: str) -> tuple[str, str] | None:
        """Return the kind and the YAML of a resource; None where there is none, or no such kind.

        Of a Secret no YAML.
        """
        from aosctl.domain import inventory
        from aosctl.domain.yaml_dump import dump_yaml

        try:
            kind = inventory.readable_kind(word)
        except UnknownKind:
            return None
        if kind.name == "Secret":
            return kind.name, ""
        rows, _ = self._read(
            lambda connection, tenant: inventory.named(connection, kind, tenant, [name])
        )
        return (kind.name, dump_yaml(kind.to_manifest(rows[0]))) if rows else None

    def names(self, word: str) -> list[str]:
        """Return the names of a kind's resources. Raises UnknownKind."""
        from aosctl.domain import inventory

        kind = inventory.readable_kind(word)
        return self._read(
            lambda connection, tenant: inventory.known_names(connection, kind, tenant)
        )

    def approval(self, typed: str) -> Approval:
        """Find an approval by its id, a part of it, or its run. Raises NotFound, AosError."""
        return self._read(
            lambda connection, tenant: approvals.find_approval(connection, tenant, typed)
        )

    def pending(self) -> list[approvals.ApprovalRow]:
        """Return what waits for a decision in the tenant, oldest first."""
        return self._read(
            lambda connection, tenant: approvals.approvals(connection, tenant, pending_only=True)
        )

    def decide(
        self,
        approval: Approval,
        decision: Literal["approved", "denied"],
        reason: str | None = None,
    ) -> None:
        """Approve or deny exactly what was seen. Raises ApprovalSettled, Denied."""
        session = self._connected()
        approvals.decide(
            session.connection,
            session.require_tenant(),
            approval.approval_id,
            decision,
            reason,
            approval.digest,
        )

    def stop_turn(self, run_id: UUID, number: int) -> bool:
        """Stop a turn by its number, if it is still open; keep the run. Tell whether it was."""
        session = self._connected()
        tenant = session.require_tenant()
        return talks.stop_turn(session.connection, tenant, run_id, number)

    def look(self, agent: str, query: str, skill: str | None = None) -> tuple[bool, Any]:
        """Read as an agent's SQL skill would; return whether it ran, and its rows or error.

        Raises Denied where the agent could not, by itself.
        """
        session = self._connected()
        tenant = session.require_tenant()
        prepared = talks.prepare_look(session.connection, tenant, agent, query, skill)
        if self._looker is None:
            self._looker = talks.Looker(self._worker_dsn(session))
        return self._looker.look(tenant, prepared, query)

    def close(self) -> None:
        """Close the connections."""
        if self._looker is not None:
            self._looker.close()
        if self._session is not None:
            self._session.close()
        self._looker = self._session = None

    def _read(self, ask: Callable[[Connection, UUID], T]) -> T:
        """Read; when the connection is lost, once more over a new one."""
        try:
            session = self._connected()
            return ask(session.connection, session.require_tenant())
        except DatabaseUnavailable:
            with suppress(AosError):
                self.close()
            session = self._connected()
            return ask(session.connection, session.require_tenant())

    def _connected(self) -> Session:
        if self._session is None or self._session.connection.closed:
            self._session = self._open()
        return self._session
