"""What the chat's commands read: conversations, what was said, an agent's tools, models, looks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.hot import PATIENCE_SECONDS, statement
from aosctl.db.json_text import load
from aosctl.db.rows import rows_of
from aosctl.db.sandbox import STATEMENT_SECONDS, SandboxLink

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

LOOK = statement("aos_agent.look", 4)
_MOST_TALKS = 500
_MOST_ANSWERS = 20
_BEGINNING = 200
"""How many characters of a message are read where one line of it is shown."""


class Talk(NamedTuple):
    """A conversation that can go on; `message` is the beginning of what was last asked in it."""

    run_id: UUID
    name: str
    agent: str
    run_state: str
    turn_state: str | None
    spent_usd: Decimal
    updated_at: datetime
    created_by: str
    message: str | None


class Step(NamedTuple):
    """One message of a run's transcript, as stored."""

    seq: int
    turn: int
    role: str
    message: Mapping[str, Any]
    created_at: datetime
    model_name: str | None


class LeftOut(NamedTuple):
    """Steps that a run's model reads no more, both inclusive.

    `summary_step`: where the summary of them begins; None for an attempt that came to nothing.
    `is_automatic`: the worker made room in the middle of a turn; why, its summary's step says.
    """

    first_step: int
    last_step: int
    summary_step: int | None
    is_automatic: bool

    def has(self, step: int) -> bool:
        """Tell whether a step is one of them."""
        return self.first_step <= step <= self.last_step


class Tool(NamedTuple):
    """A skill that an agent may call; `policies` are the names of those that may ask or deny."""

    name: str
    effect: str
    risk: str
    approval: str
    role: str
    policies: tuple[str, ...]
    description: str
    input_schema: Mapping[str, Any]


class Model(NamedTuple):
    """A model of the registry; prices in US dollars a million tokens."""

    name: str
    provider: str
    active: bool
    context_window: int
    input_usd: Decimal | None
    output_usd: Decimal | None


class Spent(NamedTuple):
    """What one model answered in a run, and for how much."""

    model: str
    answers: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


class Prepared(NamedTuple):
    """The right to carry out one look, for half a minute."""

    look: int
    lease: str
    skill: str


def talks(connection: Connection, tenant: UUID) -> list[Talk]:
    """List the conversations of a tenant that can go on, the last one first.

    `message` is what a person said last; the kernel's own notices stand in brackets.
    """
    return rows_of(
        connection,
        Talk,
        "select r.run_id, r.name, r.agent, r.run_state, r.turn_state, r.spent_usd, r.updated_at,"
        " r.created_by, u.message from (select * from aos_core.run_status"
        "  where tenant_id = %(tenant)s and kind = 'conversation'"
        "  and run_state in ('active', 'paused') order by updated_at desc, run_id desc"
        "  limit %(most)s) r"
        " left join lateral (select left(b ->> 'text', %(letters)s) as message"
        "  from aos_core.transcript t, jsonb_array_elements(t.message -> 'blocks')"
        "  with ordinality x (b, place)"
        "  where t.tenant_id = r.tenant_id and t.run_id = r.run_id and t.role = 'user'"
        "  and b ->> 't' = 'text' and b ->> 'text' !~ '^\\[(approval|resolved)\\] '"
        "  order by t.seq desc, place limit 1) u on true"
        " order by r.updated_at desc, r.run_id desc",
        {"tenant": tenant, "most": _MOST_TALKS, "letters": _BEGINNING},
    )


def steps(connection: Connection, tenant: UUID, run: UUID, role: str | None = None) -> list[Step]:
    """Return what was said in a run, oldest first; only by `role` if one is named."""
    return rows_of(
        connection,
        Step,
        "select seq, turn, role, message, created_at, model_name from aos_core.transcript"
        " where tenant_id = %(tenant)s and run_id = %(run)s"
        " and (%(role)s::text is null or role = %(role)s) order by seq",
        {"tenant": tenant, "run": run, "role": role},
    )


def left_out(connection: AnyConnection, tenant: UUID, run: UUID) -> list[LeftOut]:
    """Return which steps of a run its model reads no more, a row a piece, as they were left out."""
    return rows_of(
        connection,
        LeftOut,
        "select first_step, last_step, summary_step, is_automatic from aos_core.left_out_steps"
        " where tenant_id = %(tenant)s and run_id = %(run)s order by left_out_at, 1, 2",
        {"tenant": tenant, "run": run},
    )


def last_answers(connection: Connection, tenant: UUID, run: UUID) -> list[Mapping[str, Any]]:
    """Return what the model said last in a run, the newest first, as stored."""
    with translated():
        rows = connection.execute(
            "select message from aos_core.transcript where tenant_id = %s and run_id = %s"
            " and role = 'assistant' order by seq desc limit %s",
            (tenant, run, _MOST_ANSWERS),
        ).fetchall()
    return [row[0] for row in rows if isinstance(row[0], dict)]


def tools(connection: Connection, tenant: UUID, agent: str) -> list[Tool]:
    """List the skills that an agent may call, by name."""
    rows = rows_of(
        connection,
        Tool,
        "select rs.skill_name as name, coalesce(b.effect, s.effect) as effect,"
        " coalesce(s.risk, b.risk) as risk,"
        " coalesce(s.approval, 'risk') as approval, a.role_name as role,"
        " array(select p.name from aos_skills.policy p where p.tenant_id = a.tenant_id"
        "  and p.decision <> 'allow' and aos_skills.fits(a.name, p.agents)"
        "  and aos_skills.fits(a.role_name, p.roles)"
        "  and aos_skills.concerns(p.skills, p.decision, rs.skill_name, coalesce(b.name, s.kind))"
        "  order by p.name) as policies,"
        " coalesce(s.description, b.description) as description,"
        " coalesce(b.input_schema, s.input_schema) as input_schema"
        " from aos_agent.agent a"
        " join aos_skills.role_skill rs on rs.tenant_id = a.tenant_id"
        "  and rs.role_name = a.role_name"
        " left join aos_skills.skill s on s.tenant_id = a.tenant_id and s.name = rs.skill_name"
        " left join aos_skills.builtin_skill b"
        "  on b.name = case when s.name is null then rs.skill_name else s.builtin end"
        " where a.tenant_id = %(tenant)s and a.name = %(agent)s"
        " and rs.skill_name <> 'read_result' and s.disabled is null"
        " and coalesce(b.name, s.kind) is not null"
        " and coalesce(rs.skill_name = any (a.skills), coalesce(s.risk, b.risk) = 'low')"
        " order by rs.skill_name",
        {"tenant": tenant, "agent": agent},
    )
    return [row._replace(policies=tuple(row.policies)) for row in rows]


def models(connection: Connection) -> list[Model]:
    """List the models of the registry by name."""
    return rows_of(
        connection,
        Model,
        "select name, spec ->> 'provider' as provider,"
        " coalesce((spec ->> 'active')::boolean, true) as active,"
        " (spec ->> 'contextWindow')::integer as context_window,"
        " (spec -> 'pricing' ->> 'inputUsdPerMtok')::numeric as input_usd,"
        " (spec -> 'pricing' ->> 'outputUsdPerMtok')::numeric as output_usd"
        " from aos_meta.model_resource order by name",
        {},
    )


def spent(connection: Connection, tenant: UUID, run: UUID) -> list[Spent]:
    """Add up what each model answered in a run, by name."""
    return rows_of(
        connection,
        Spent,
        "select model_name as model, count(*) as answers,"
        " coalesce(sum(input_tokens), 0)::bigint as input_tokens,"
        " coalesce(sum(output_tokens), 0)::bigint as output_tokens,"
        " coalesce(sum(cost_usd), 0) as cost_usd from aos_core.transcript"
        " where tenant_id = %(tenant)s and run_id = %(run)s and model_name is not null"
        " group by 1 order by 1",
        {"tenant": tenant, "run": run},
    )


def stop_turn(connection: Connection, tenant: UUID, run: UUID, number: int) -> bool:
    """Stop this turn of a run, if it is open, and keep the run (aos_agent.cancel_turn)."""
    with translated():
        row = connection.execute(
            "select aos_agent.cancel_turn(tenant_id, run_id, null, turn_id) is not null"
            " from aos_core.turn_status where tenant_id = %s and run_id = %s and number = %s",
            (tenant, run, number),
        ).fetchone()
    return row is not None and bool(row[0])


def prepare_look(
    connection: Connection, tenant: UUID, agent: str, query: str, skill: str | None
) -> Prepared:
    """Prepare a look through an agent's SQL skill (aos_agent.prepare_look).

    Raises Denied where the agent could not run the query by itself.
    """
    with translated():
        row = connection.execute(
            "select (l ->> 'look')::bigint, l ->> 'lease', l ->> 'skill'"
            " from aos_agent.prepare_look(%s, %s, %s, %s) l",
            (tenant, agent, query, skill),
        ).fetchone()
    if row is None:
        raise ValueError("a call without a row")
    return Prepared(int(str(row[0])), str(row[1]), str(row[2]))


class Looker:
    """A worker's connection that carries out looks."""

    def __init__(self, dsn: str) -> None:
        from aosctl.db.worker_login import connect_worker

        self._link = SandboxLink(lambda: connect_worker(dsn, "chat look"), PATIENCE_SECONDS)

    def look(self, tenant: UUID, prepared: Prepared, query: str) -> tuple[bool, Any]:
        """Return whether the query ran, and its rows or error as the model would read them."""
        said = self._link.call_text(
            LOOK,
            str(tenant),
            str(prepared.look),
            prepared.lease,
            query,
            seconds=STATEMENT_SECONDS,
        )
        row = load(said or "{}")
        return bool(row.get("ok")), row.get("result")

    def close(self) -> None:
        self._link.close()
