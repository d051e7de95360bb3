"""Whatever is done to a run, in whatever order and by how many: what must hold, holds."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from kernels import KernelDatabase, Tenant, ask, call, make_tenant, say, teach_letters

# Each query names what is wrong with the runs of a tenant; none may return a row.
BROKEN = {
    "an open turn that the run does not know, or the other way round": """
        select r.name from aos_core.run r where r.tenant_id = %(tenant)s and
          array(select t.turn_id from aos_core.turn t where t.run_id = r.run_id
                and t.state not in ('completed', 'failed', 'cancelled'))
          is distinct from array_remove(array[r.open_turn_id], null)""",
    "a queue that is not the open turns": """
        select r.name from aos_core.run r where r.tenant_id = %(tenant)s and
          array(select q.turn_id from aos_core.turn_queue q where q.run_id = r.run_id)
          is distinct from array_remove(array[r.open_turn_id], null)""",
    "a lease without a running turn, or the other way round": """
        select r.name, t.state from aos_core.run r
        left join aos_core.turn t on t.turn_id = r.open_turn_id
        where r.tenant_id = %(tenant)s
          and (r.lease_hash is not null) <> (coalesce(t.state, '') = 'running')""",
    "calls miscounted": """
        select r.name, r.open_calls, r.waiting_calls from aos_core.run r
        where r.tenant_id = %(tenant)s and (r.open_calls, r.waiting_calls) <> (
          select count(*)::integer, (count(*) filter (
            where c.state in ('awaiting_approval', 'outcome_unknown')))::integer
          from aos_core.tool_call c where c.turn_id = r.open_turn_id and c.state in
            ('pending', 'awaiting_approval', 'approved', 'running', 'outcome_unknown'))""",
    "a turn that rests in the wrong state": """
        select r.name, t.state, r.open_calls, r.waiting_calls from aos_core.run r
        join aos_core.turn t on t.turn_id = r.open_turn_id where r.tenant_id = %(tenant)s
          and (t.state in ('awaiting_approval', 'awaiting_resolution'))
              <> (r.waiting_calls > 0 and r.waiting_calls = r.open_calls)""",
    "steps with a gap": """
        select r.name from aos_core.run r where r.tenant_id = %(tenant)s and
          array(select s.seq from aos_core.step s where s.run_id = r.run_id order by 1)
          is distinct from array(select * from generate_series(1, r.last_step))""",
    "an inbox miscounted": """
        select r.name, r.inbox_count from aos_core.run r where r.tenant_id = %(tenant)s
          and r.inbox_count <> (select count(*) from aos_core.inbox i where i.run_id = r.run_id
                                and i.taken_in is null)""",
    "a message left lying while no turn is open": """
        select r.name from aos_core.run r where r.tenant_id = %(tenant)s and r.state = 'active'
          and r.inbox_count > 0 and r.open_turn_id is null""",
    "an approval at odds with its call": """
        select c.skill, c.state from aos_core.tool_call c where c.tenant_id = %(tenant)s and
          (select count(*) from aos_core.approval a where a.call_id = c.call_id and a.state
             = case c.state when 'awaiting_approval' then 'pending' else 'approved' end)
          <> case when c.state in ('awaiting_approval', 'approved') then 1 else 0 end""",
    "a turn, a call or a step of no run": """
        select x.run_id from (
          select tenant_id, run_id from aos_core.turn union all
          select tenant_id, run_id from aos_core.tool_call union all
          select tenant_id, run_id from aos_core.step) x
        where x.tenant_id = %(tenant)s and not exists (
          select from aos_core.run r where r.tenant_id = x.tenant_id and r.run_id = x.run_id)""",
    "a call in an ended turn that is neither answered nor settled": """
        select c.skill, c.state from aos_core.tool_call c join aos_core.turn t using (turn_id)
        where c.tenant_id = %(tenant)s and t.state in ('completed', 'failed', 'cancelled')
          and (c.result_seq is null or c.state in ('pending', 'running')
               or c.state in ('awaiting_approval', 'approved') and not c.detached)""",
    "a call with two results, or none, in the transcript": """
        select r.name, b ->> 'id' from aos_core.run r
        join aos_core.step s on s.run_id = r.run_id and s.role = 'assistant',
          jsonb_array_elements(s.message -> 'blocks') b
        where r.tenant_id = %(tenant)s and b ->> 't' = 'call' and (
          r.open_turn_id is null or s.turn < r.last_turn) and (
          select count(*) from aos_core.step a, jsonb_array_elements(a.message -> 'blocks') x
          where a.run_id = r.run_id and a.role = 'tool' and x ->> 'call_id' = b ->> 'id') <> 1""",
    "a turn that nobody will ever find": """
        select r.name, t.state, q.ready_at from aos_core.run r
        join aos_core.turn t on t.turn_id = r.open_turn_id
        join aos_core.turn_queue q on q.turn_id = t.turn_id
        where r.tenant_id = %(tenant)s and r.state = 'active' and t.state in ('queued', 'running')
          and q.ready_at = 'infinity'""",
}


def check(tenant: Tenant, after: str) -> None:
    for what, query in BROKEN.items():
        found = tenant.database.superuser.execute(query.encode(), {"tenant": tenant.id}).fetchall()
        assert found == [], f"{what}, after {after}: {found}"


class Player:
    """Does one thing after another to the runs of a tenant, as workers and people do."""

    def __init__(self, tenant: Tenant, runs: list[UUID], seed: int) -> None:
        self.tenant = tenant
        self.runs = runs
        self.dice = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
        self.leases: list[dict[str, Any]] = []
        self.numbers = iter(range(seed * 100_000, seed * 100_000 + 99_999))
        self.seen: dict[str, int] = {}

    def ids(self, view: str, column: str, where: str) -> list[UUID]:
        query = f"select {column} from aos_core.{view} where {where}"  # noqa: S608 - our own
        return [row[0] for row in self.tenant.person.execute(query.encode()).fetchall()]

    def lease(self) -> dict[str, Any]:
        """Take up one of the leases: mostly the newest, now and then one long lost."""
        late = self.dice.random() < 0.15
        return self.dice.choice(self.leases) if late else self.leases[-1]

    def open(self) -> None:
        worker = self.dice.choice(["w1", None])
        opened = self.tenant.open(self.dice.choice(self.runs), "hello", p_worker=worker)
        if opened.get("lease"):
            self.leases.append(opened)

    def claim(self) -> None:
        lease = self.tenant.claim("w2", 600)
        if lease:
            self.leases.append(lease)

    def answer(self) -> None:
        lease = self.lease()
        wanted = self.dice.choice([(), (0,), (1,), (2,), (0, 1), (1, 2), (3,), (2, 0)])
        message = say("done") if not wanted else ask(*(TOOLS[n] for n in wanted))
        for block in message["blocks"]:
            if block["t"] == "call":
                block["id"] = f"call{next(self.numbers)}"
        self.tenant.respond(lease, message, p_usage={"in": 100, "out": 10})

    def act(self) -> None:
        lease = self.lease()
        (found,) = self.tenant.database.rows(
            "select array_agg(array[call_id::text, runner, state]) from aos_core.tool_call"
            " where turn_id = %s and state in ('pending', 'approved', 'running')",
            lease["turn_id"],
        )
        call_id, runner, state = self.dice.choice(found[0] or [[None, None, None]])
        if call_id is None:
            return
        if runner == "kernel":
            self.tenant.execute(call_id, lease)
            return
        if state != "running":
            call(
                self.tenant.worker, "aos_agent.start_call", self.tenant.id, call_id, lease["lease"]
            )
        self.tenant.result(call_id, lease, {"results": []}, self.dice.random() < 0.8)

    def give_up(self) -> None:
        lease = self.lease()
        how = self.dice.choice(["fail", "later", "release"])
        args = (self.tenant.id, lease["turn_id"], lease["lease"])
        if how == "release":
            call(self.tenant.worker, "aos_agent.release_turn", *args)
        else:
            call(
                self.tenant.worker, "aos_agent.fail_turn", *args, "x", 0 if how == "later" else None
            )

    def decide(self) -> None:
        pending = self.ids("approval_status", "approval_id", "state = 'pending'")
        decision = self.dice.choice(["approved", "denied"])
        if pending:
            call(self.tenant.person, "aos_agent.decide_approval", self.tenant.id,
                 self.dice.choice(pending), decision)  # fmt: skip

    def resolve(self) -> None:
        unknown = self.ids("call_status", "call_id", "state = 'outcome_unknown'")
        if unknown:
            how = self.dice.choice(["retry", "result", "fail"])
            call(self.tenant.person, "aos_agent.resolve_call", self.tenant.id,
                 self.dice.choice(unknown), how)  # fmt: skip

    def steer(self) -> None:
        how = self.dice.choice(["cancel_turn", "pause_run", "resume_run", "resume_run"])
        call(self.tenant.person, f"aos_agent.{how}", self.tenant.id, self.dice.choice(self.runs))

    def change_skill(self) -> None:
        self.tenant.person.execute("update aos_skills.skill set version = version + 1")

    def play(self) -> str:
        """Do one thing; what the kernel refuses must be refused in its own words."""
        moves: list[Callable[[], None]] = [self.open, self.claim, self.claim, self.decide,
                                           self.decide, self.resolve, self.steer]  # fmt: skip
        if self.dice.random() < 0.2:
            moves.append(self.change_skill)
        if self.leases:
            self.leases = self.leases[-6:]
            moves += [self.answer] * 5 + [self.act] * 6 + [self.give_up]
        move = self.dice.choice(moves)
        try:
            move()
        except psycopg.Error as error:
            assert error.sqlstate in {"AO002", "AO003", "AO005", "AO008"}, (move.__name__, error)
            if self.leases and self.dice.random() < 0.5:
                self.leases.pop()
            return f"{move.__name__} ({error.diag.message_primary})"
        self.seen[move.__name__] = self.seen.get(move.__name__, 0) + 1
        return move.__name__


TOOLS = [("web_search", {"query": "x"}), ("send_mail", {"query": "x"}),
         ("send_letter", {"query": "x"}), ("memory_recall", {})]  # fmt: skip


@pytest.fixture
def scribe(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant with a tool of each kind: read, approved, never repeated, the kernel's own."""
    tenant = make_tenant(kernel_database)
    teach_letters(tenant, "memory_recall")
    yield tenant
    tenant.person.close()
    tenant.worker.close()


@pytest.mark.parametrize("seed", range(5))
def test_they_hold_after_each_of_many_steps(
    scribe: Tenant, clock: Callable[[str], None], seed: int
) -> None:
    runs = [scribe.start_run("clerk") for _ in range(2)]
    player = Player(scribe, runs, seed)
    story: list[str] = []
    for number in range(150):
        if player.dice.random() < 0.05:
            clock(f"{number} minutes")
            story.append("time passes")
        story.append(player.play())
        check(scribe, " > ".join(story[-8:]))
    assert {"claim", "answer", "act", "decide"} <= set(player.seen)
    for stream in (*runs, scribe.id):
        assert scribe.faults(stream) == []


def test_they_hold_when_many_act_at_once(scribe: Tenant) -> None:
    runs = [scribe.start_run("clerk") for _ in range(2)]
    database = scribe.database
    players = [
        Player(
            Tenant(database, scribe.id, scribe.name,
                   database.connect("test_developer", scribe.id), database.connect("aos_worker")),
            runs,
            seed,
        )
        for seed in range(100, 104)
    ]  # fmt: skip
    barrier = threading.Barrier(len(players))

    def play(player: Player) -> None:
        barrier.wait()
        for _ in range(120):
            player.play()

    with ThreadPoolExecutor(len(players)) as pool:
        for ended in [pool.submit(play, player) for player in players]:
            ended.result()
    check(scribe, "all had ended")
    for stream in (*runs, scribe.id):
        assert scribe.faults(stream) == []
