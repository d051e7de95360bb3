"""Approvals that reach further than one call: give them, list them, take them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.rows import rows_of
from aosctl.db.runs import find_run
from aosctl.db.typed_ids import find_one, short
from aosctl.errors import AosError, NotFound

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

Rule = Mapping[str, Any]
"""A condition on the arguments, as a policy has it: {"path", <operator>: <value>}."""


class AllowanceRow(NamedTuple):
    """One row of aos_core.allowance_status; `params` None: its run's content was erased."""

    tenant_id: UUID
    tenant: str
    allowance_id: UUID
    run_id: UUID
    run: str
    agent: str
    skill: str
    params: Sequence[Rule] | None
    approval_id: UUID
    calls: int
    granted_by: str
    granted_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    revoke_reason: str | None
    state: str

    @property
    def short(self) -> str:
        """Return the end of the id, as people type it."""
        return short(self.allowance_id)


class Explained(NamedTuple):
    """What a question is about; `once`, `run`, `always`: why one may not approve so, or None."""

    skill: str
    description: str | None
    effect: str | None
    risk: str | None
    reasons: Sequence[str]
    policies: Sequence[Mapping[str, str]]
    once: str | None
    run: str | None
    always: str | None


class Given(NamedTuple):
    """What approving for a run gave: the allowance, and how many calls that waited passed too."""

    allowance_id: UUID | None
    also: int


class NewPolicy(NamedTuple):
    """A Policy that lets calls pass from now on."""

    name: str
    spec: Mapping[str, Any]


def allowances(
    connection: AnyConnection,
    tenant: UUID,
    *,
    run: UUID | None = None,
    id_part: str | None = None,
) -> list[AllowanceRow]:
    """List allowances, the oldest first; `id_part` is how their id begins or ends."""
    return rows_of(
        connection,
        AllowanceRow,
        "select tenant_id, tenant, allowance_id, run_id, run, agent, skill, params, approval_id,"
        " calls, granted_by, granted_at, expires_at, revoked_at, revoked_by, revoke_reason, state"
        " from aos_core.allowance_status"
        " where tenant_id = %(tenant)s and (%(run)s::uuid is null or run_id = %(run)s)"
        " and (%(part)s::text is null"
        "  or left(replace(allowance_id::text, '-', ''), length(%(part)s)) = %(part)s"
        "  or right(replace(allowance_id::text, '-', ''), length(%(part)s)) = %(part)s)"
        " order by granted_at, allowance_id",
        {"tenant": tenant, "run": run, "part": id_part},
    )


def find_allowance(connection: AnyConnection, tenant: UUID, typed: str) -> AllowanceRow:
    """Find the allowance that a person named: by its id's beginning or end, or its run.

    Raises NotFound, and AosError that lists the candidates.
    """

    def of_run(word: str) -> list[AllowanceRow]:
        error = NotFound(f'allowances.aos "{word}" not found', "aosctl get allowances")
        try:
            run = find_run(connection, tenant, word)
        except NotFound:
            raise error from None
        found = allowances(connection, tenant, run=run.run_id)
        if not (active := [row for row in found if row.state == "active"]):
            raise error
        return active

    return find_one(
        "allowance",
        typed,
        lambda part: allowances(connection, tenant, id_part=part),
        lambda row: row.state == "active",
        of_run,
    )


def revoke(
    connection: AnyConnection, tenant: UUID, allowance: UUID, reason: str | None = None
) -> None:
    """Take an allowance back (aos_agent.revoke_allowance). Raises IllegalTransition."""
    with translated():
        connection.execute(
            "select aos_agent.revoke_allowance(%s, %s, %s)", (tenant, allowance, reason)
        )


def explain(connection: AnyConnection, tenant: UUID, approval: UUID) -> Explained:
    """Say what a question is about and how far a decision could reach (explain_approval)."""
    with translated():
        row = connection.execute(
            "select aos_agent.explain_approval(%s, %s)", (tenant, approval)
        ).fetchone()
    said: Any = row[0] if row else {}
    return Explained(**{name: said.get(name) for name in Explained._fields})


def approve_for_run(
    connection: AnyConnection,
    tenant: UUID,
    approval: UUID,
    rules: Sequence[Rule],
    reason: str | None,
    digest: str,
    seconds: int | None = None,
) -> Given:
    """Approve a call, and let later ones of the run pass whose arguments keep the rules.

    Raises Denied where no approval reaches so far, ApprovalSettled, InvalidInput.
    """
    return _scoped(connection, tenant, approval, "run", rules, reason, digest, seconds)


def approve_always(
    connection: AnyConnection,
    tenant: UUID,
    approval: UUID,
    policy: NewPolicy,
    reason: str | None,
    digest: str,
    seconds: int | None = None,
) -> str:
    """Write a policy that lets the call pass, and approve it, or neither; return what apply says.

    Raises Denied where one may not, or the call would be asked about all the same.
    """

    def both() -> str:
        with translated():
            row = connection.execute(
                "select aos_skills.apply_policy(%s, %s, %s::jsonb, %s::jsonb)",
                (tenant, policy.name, to_json({"labels": {}, "annotations": {}}),
                 to_json(policy.spec)),
            ).fetchone()  # fmt: skip
        _scoped(connection, tenant, approval, "always", (), reason, digest, seconds)
        return str(row[0]) if row else "unchanged"

    return _in_one(connection, both)


def _scoped(
    connection: AnyConnection,
    tenant: UUID,
    approval: UUID,
    scope: Literal["run", "always"],
    rules: Sequence[Rule],
    reason: str | None,
    digest: str,
    seconds: int | None,
) -> Given:
    with translated():
        row = connection.execute(
            "select aos_agent.approve_scoped(%s, %s, %s, %s::jsonb, %s, %s, %s)",
            (tenant, approval, scope, to_json(list(rules)), reason, digest, seconds),
        ).fetchone()
    said: Any = row[0] if row else {}
    allowance = said.get("allowance_id")
    return Given(UUID(allowance) if allowance else None, int(said.get("also") or 0))


def _in_one(connection: AnyConnection, work: Callable[[], str]) -> str:
    """Do it in one transaction of a connection that is in autocommit mode."""
    with translated():
        connection.execute("begin")
    try:
        said = work()
        with translated():
            connection.execute("commit")
    except BaseException:
        with suppress(AosError), translated():  # what is lost is rolled back as well
            connection.execute("rollback")
        raise
    return said
