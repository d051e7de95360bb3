"""A run that begins with its first message: what two steps would leave, and never two runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import (
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    ask,
    call,
    make_tenant,
    refused,
    say,
    user,
)

# What differs from run to run: ids, the name made from chance, moments and the hashes over them.
OWN = {"run_id", "turn_id", "last_turn_id", "open_turn_id", "name", "last_hash", "lease_hash",
       "hash", "stream_id", "at", "driven_since", "total_seconds"}  # fmt: skip
LIMITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "frugal": {"limits": {"maxUsd": 2, "maxTokens": 100000, "maxSteps": 7, "maxRepeats": 3}},
    "broke": {"limits": {"maxTokens": 0}},
    "timed": {"limits": {"maxSeconds": 60}},
}


@pytest.fixture(scope="module")
def agents(kernel_database: KernelDatabase, tenant: Tenant) -> Tenant:
    """The tenant with agents of all kinds; one of them has a budget that stands in another one."""
    admin = kernel_database.superuser
    for name, spec in LIMITS.items():
        apply(admin, "aos_agent.apply_agent", tenant.id, name, {"persona": "expert", **spec})
    return tenant


@pytest.fixture(scope="module")
def budgeted(kernel_database: KernelDatabase) -> Tenant:
    """A tenant with a budget: its runs are metered, and begin the long way."""
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_core.apply_budget", tenant.id, "wide",
          {"scope": "tenant", "period": "day", "limits": {"maxUsd": 5}})  # fmt: skip
    return tenant


def begin(tenant: Tenant, agent: str = "bot", text: str = "hello", **named: Any) -> Any:
    return call(tenant.person, "aos_agent.open_run", tenant.id, agent, user(text), **named)


def rows(tenant: Tenant, run: UUID) -> dict[str, list[dict[str, Any]]]:
    """Return what stands of a run in each table; of what must differ only whether it is there."""
    found = {}
    for table in ("run", "turn", "turn_queue", "step", "event_log", "meter", "inbox"):
        key = "stream_id" if table == "event_log" else "run_id"
        found[table] = [
            {
                name: value is not None if name in OWN or name.endswith("_at") else value
                for name, value in row.items()
            }
            for (row,) in tenant.database.rows(
                "select replace(to_jsonb(t)::text, r.name, 'NAME')::jsonb"  # noqa: S608 - our names
                f" from aos_core.{table} t, aos_core.run r where r.run_id = %s"
                f" and t.{key} = r.run_id order by to_jsonb(t) ->> 'seq'",
                run,
            )
        ]
    return found


def runs_of(tenant: Tenant, key: UUID) -> list[Any]:
    return tenant.database.rows("select run_id from aos_core.turn where turn_id = %s", key)


def until_it_waits(database: KernelDatabase, person: Connection, request: Future[Any]) -> None:
    """Return when the request, which `person` makes, waits for somebody's lock."""
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    while not database.value(waits, person.info.backend_pid):
        assert not request.done(), request.result()


@pytest.mark.parametrize("worker", ["w1", None])
@pytest.mark.parametrize("agent", LIMITS)
def test_it_leaves_what_starting_and_opening_leave(
    agents: Tenant, agent: str, worker: str | None
) -> None:
    begun = begin(agents, agent, p_worker=worker, p_key=uuid4())
    two = agents.start_run(agent)
    opened = agents.open(two, p_worker=worker, p_key=uuid4())
    run = UUID(begun["run_id"])
    assert rows(agents, run) == rows(agents, two)
    same = ("status", "turn", "step", "fence", "next", "config_version")
    assert {k: begun.get(k) for k in same} == {k: opened.get(k) for k in same}
    assert begun["run"].startswith(f"{agent}-") and begun["agent"] == agent
    assert agents.faults(run) == []
    for stream in (run, agents.id):
        assert agents.database.rows(
            "select * from aos_core.verify_stream(%s, %s)", agents.id, stream
        ) == []  # fmt: skip


def test_a_metered_run_begins_the_long_way_and_leaves_the_same(budgeted: Tenant) -> None:
    begun = begin(budgeted, p_worker="w1")
    two = budgeted.start_run()
    budgeted.open(two, p_worker="w1")
    run = UUID(begun["run_id"])
    assert rows(budgeted, run)["run"][0]["is_metered"]
    assert rows(budgeted, run) == rows(budgeted, two)
    assert begun["next"] == "model" and budgeted.faults(run) == []


def test_events_tell_of_the_run_and_then_of_its_turn(tenant: Tenant) -> None:
    begun = begin(tenant, p_worker="w1")
    events = tenant.database.rows(
        "select seq, kind, actor, data from aos_core.event_log where stream_id = %s order by seq",
        UUID(begun["run_id"]),
    )
    assert [(seq, kind, actor) for seq, kind, actor, _ in events] == [
        (1, "run.created", "user:dev"), (2, "turn.opened", "user:dev"),
    ]  # fmt: skip
    assert events[0][3]["name"] == begun["run"] and events[1][3] == {"turn": 1, "step": 1}
    assert tenant.database.value(
        "select data ->> 'run_id' from aos_core.event_log where stream_id = %s"
        " order by seq desc limit 1", tenant.id,
    ) == begun["run_id"]  # fmt: skip


def test_the_turn_is_driven_to_its_answer_and_the_next_one_opens(tenant: Tenant) -> None:
    lease = begin(tenant, text="who?", p_worker="w1", p_key=(key := uuid4()))
    run = UUID(lease["run_id"])
    assert lease["turn_id"] == str(key) and lease["next"] == "model"
    answer = tenant.respond(lease, ask(("web_search", {"query": "me"})))
    tenant.result(answer["calls"][0]["call_id"], lease, {"results": []})
    assert tenant.respond(lease, say("you"))["next"] == "done"
    assert tenant.open(run, "sure?", p_worker="w1")["turn"] == 2
    assert [row[0] for row in tenant.transcript(run)] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert tenant.faults(run) == []


def test_the_context_is_what_turn_context_returns(tenant: Tenant) -> None:
    lease = begin(tenant, p_worker="w1", p_context=True)
    context = call(tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"],
                   lease["lease"])  # fmt: skip
    assert lease["context"] == context and context["messages"]


def test_a_task_ends_with_its_turn_and_keeps_the_name_it_was_given(tenant: Tenant) -> None:
    lease = begin(tenant, p_worker="w1", p_kind="task", p_name="sweep")
    run = UUID(lease["run_id"])
    assert lease["run"] == "sweep" and tenant.run_row(run)["name"] == "sweep"
    tenant.respond(lease, say("swept"))
    assert tenant.run_row(run)["run_state"] == "completed"
    short = begin(tenant, p_worker="w1", p_kind="task")
    tenant.respond(short, say("done"))
    assert tenant.run_row(UUID(short["run_id"]))["run_state"] == "completed"


def test_without_a_worker_the_turn_is_queued_for_one(tenant: Tenant) -> None:
    begun = begin(tenant)
    assert begun["status"] == "opened" and begun["lease"] is None
    lease = tenant.claim(run=UUID(begun["run_id"]))
    assert lease["turn_id"] == begun["turn_id"]


@pytest.mark.parametrize("named", [{"p_worker": "w1"}, {}, {"p_worker": "w1", "p_name": "once"},
                                   {"p_worker": "w1", "p_kind": "task"}], ids=str)  # fmt: skip
def test_the_same_request_again_is_the_same_run_and_turn(
    fresh_tenant: Tenant, named: dict[str, Any]
) -> None:
    """As after a lost reply."""
    key = uuid4()
    first = begin(fresh_tenant, p_key=key, **named)
    again = begin(fresh_tenant, p_key=key, **named)
    same = ("run_id", "run", "agent", "turn_id", "turn")
    assert [again[k] for k in same] == [first[k] for k in same] and again["repeated"]
    assert fresh_tenant.database.value(
        "select count(*) from aos_core.run where tenant_id = %s", fresh_tenant.id
    ) == 1  # fmt: skip
    if "p_worker" in named:
        assert again["lease"] != first["lease"]
        with refused("AO003", "is lost"):
            fresh_tenant.respond(first, say("too late"))
        assert fresh_tenant.respond(again, say("in time"))["next"] == "done"
        after = begin(fresh_tenant, p_key=key, **named)
        assert (after["run_id"], after["next"]) == (first["run_id"], "lost")
    assert fresh_tenant.faults(UUID(first["run_id"])) == []


@pytest.mark.parametrize("metered", [False, True], ids=["fast", "metered"])
@pytest.mark.parametrize("named", [{}, {"p_name": "only"}], ids=["", "named"])
def test_of_two_at_once_with_one_key_the_later_gets_the_run_of_the_earlier(
    kernel_database: KernelDatabase, tenant: Tenant, budgeted: Tenant, metered: bool,
    named: dict[str, Any],
) -> None:  # fmt: skip
    """The first has not committed when the second begins."""
    here, key = budgeted if metered else tenant, uuid4()
    two = [kernel_database.connect("test_developer") for _ in range(2)]
    request = ("aos_agent.open_run", here.id, "bot", user("once"), key, "w1")
    with ThreadPoolExecutor(1) as pool:
        with two[0].transaction():
            first = call(two[0], *request, **named)
            second = pool.submit(call, two[1], *request, **named)
            until_it_waits(kernel_database, two[1], second)
        again = second.result(30)
    assert again["run_id"] == first["run_id"] and again["repeated"]
    assert runs_of(here, key) == [(UUID(first["run_id"]),)]
    assert (
        here.database.rows("select * from aos_core.verify_stream(%s, %s)", here.id, here.id) == []
    )


@pytest.mark.parametrize("earlier", [{}, {"p_name": "queued"}], ids=["", "named"])
def test_of_two_that_begin_in_unlike_ways_with_one_key_the_later_gets_the_run_too(
    kernel_database: KernelDatabase, tenant: Tenant, earlier: dict[str, Any]
) -> None:
    """The earlier one asks for no lease, and goes the long way; the later would go the hot one."""
    key = uuid4()
    two = [kernel_database.connect("test_developer") for _ in range(2)]
    request = ("aos_agent.open_run", tenant.id, "bot", user("once"), key)
    with ThreadPoolExecutor(1) as pool:
        with two[0].transaction():
            first = call(two[0], *request, **earlier)
            second = pool.submit(call, two[1], *request, "w1")
            until_it_waits(kernel_database, two[1], second)
        again = second.result(30)
    assert (again["run_id"], again["next"]) == (first["run_id"], "lost") and again["repeated"]
    assert runs_of(tenant, key) == [(UUID(first["run_id"]),)]


def test_who_is_overtaken_before_the_first_write_gets_the_same_run(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    """The first one holds the key and waits for the tenant's state when the second comes."""
    key, admin = uuid4(), kernel_database.superuser
    two = [kernel_database.connect("test_developer") for _ in range(2)]
    request = ("aos_agent.open_run", tenant.id, "bot", user("once"), key, "w1")
    with ThreadPoolExecutor(2) as pool:
        with admin.transaction():
            admin.execute("select from aos_core.tenant_state where tenant_id = %s for update",
                          (tenant.id,))  # fmt: skip
            begun = []
            for person in two:
                begun.append(pool.submit(call, person, *request))
                until_it_waits(kernel_database, person, begun[-1])
            keys = "select locktype from pg_locks where pid = %s and not granted"
            assert kernel_database.value(keys, two[1].info.backend_pid) == "advisory"
        first, again = (one.result(30) for one in begun)
    assert "repeated" not in first and again["repeated"]
    assert again["run_id"] == first["run_id"]
    assert runs_of(tenant, key) == [(UUID(first["run_id"]),)]


def test_a_budget_that_came_while_it_waited_meters_the_run(kernel_database: KernelDatabase) -> None:
    """Its apply holds the tenant's state; what the run read before is out of date by then."""
    here, person = make_tenant(kernel_database), kernel_database.connect("test_developer")
    admin = kernel_database.superuser
    with ThreadPoolExecutor(1) as pool:
        with admin.transaction():
            apply(admin, "aos_core.apply_budget", here.id, "late", {
                "scope": "tenant", "period": "day", "limits": {"maxUsd": 5}})  # fmt: skip
            waiting = pool.submit(call, person, "aos_agent.open_run", here.id, "bot", user("x"),
                                  None, "w1")  # fmt: skip
            until_it_waits(kernel_database, person, waiting)
        begun = waiting.result(30)
    assert begun["next"] == "model"
    assert begun["config_version"] == here.database.value(
        "select config_version from aos_core.tenant_state where tenant_id = %s", here.id
    )
    run = UUID(begun["run_id"])
    left = rows(here, run)
    assert left["run"][0]["is_metered"] and left["meter"] and here.faults(run) == []


@pytest.mark.parametrize("other", [
    {"text": "something else"}, {"agent": "plain"}, {"p_kind": "task"}, {"p_name": "another"},
], ids=str)  # fmt: skip
def test_a_key_is_that_of_one_request(agents: Tenant, other: dict[str, Any]) -> None:
    key = uuid4()
    begin(agents, p_worker="w1", p_key=key)
    before = agents.database.fingerprint()
    with refused("AO005", f'the key "{key}" belongs to another request'):
        begin(agents, p_worker="w1", p_key=key, **other)
    assert agents.database.fingerprint() == before


def test_a_key_of_a_later_message_begins_no_run(tenant: Tenant) -> None:
    run, key = tenant.start_run(), uuid4()
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("hi"))
    tenant.open(run, "hello", p_worker="w1", p_key=key)
    with refused("AO005", "belongs to another request"):
        begin(tenant, p_worker="w1", p_key=key)
    begun = begin(tenant, p_worker="w1", p_key=(own := uuid4()))
    with refused("AO005", "belongs to another run"):
        tenant.open(run, p_worker="w1", p_key=own)
    assert runs_of(tenant, own) == [(UUID(begun["run_id"]),)]


@pytest.mark.parametrize(("given", "code", "text"), [
    ({"p_agent": "nobody"}, "AO001", 'agent "nobody" not found'),
    ({"p_name": "taken"}, "AO005", 'run "taken" already exists'),
    ({"p_name": "Not A Name"}, "AO006", "is no name for a run"),
    ({"p_kind": "dream"}, "AO006", 'not "dream"'),
    ({"p_lease_seconds": 0}, "AO006", "a lease lasts 1 to 3600 seconds"),
    ({"p_message": {"v": 1, "role": "assistant", "blocks": []}}, "AO006", 'have the role "user"'),
    ({"p_message": user("x") | {"erased": {}}}, "AO006", 'no "erased"'),
], ids=str)  # fmt: skip
def test_what_cannot_begin_leaves_nothing(
    agents: Tenant, given: dict[str, Any], code: str, text: str
) -> None:
    if not agents.database.value("select count(*) from aos_core.run where name = 'taken'"):
        call(agents.person, "aos_agent.start_run", agents.id, "bot", p_name="taken")
    before = agents.database.fingerprint()
    request = {"p_agent": "bot", "p_message": user("x"), "p_worker": "w1", "p_key": uuid4()}
    with refused(code, text):
        call(agents.person, "aos_agent.open_run", agents.id, **request | given)
    assert agents.database.fingerprint() == before


def test_only_developers_of_the_tenant_begin_runs(
    kernel_database: KernelDatabase, tenant: Tenant, budgeted: Tenant
) -> None:
    """A viewer, somebody of another tenant, a worker; and a key is no way to another's run."""
    key = uuid4()
    begun = begin(tenant, p_worker="w1", p_key=key)
    before = kernel_database.fingerprint()
    request = ("aos_agent.open_run", tenant.id, "bot", user("hello"), key, "w2")
    admin = kernel_database.superuser
    for login in ("run_watcher", "run_stranger"):
        admin.execute(f"create role {login} login in role aos_developer".encode())
    stranger = make_tenant(kernel_database)
    for home, login, role in (
        (tenant, "run_watcher", "viewer"),
        (stranger, "run_stranger", "developer"),
    ):
        apply(admin, "aos_auth.apply_principal", home.id, login, {
            "type": "user", "dbRole": login, "roles": [role]})  # fmt: skip
    before = kernel_database.fingerprint()
    with refused("AO004", 'lacks the role "developer"'):
        call(kernel_database.connect("run_watcher"), *request)
    outside = kernel_database.connect("run_stranger")
    with refused("AO001", "not found"):
        call(outside, *request)
    with refused("42501"):
        call(tenant.worker, *request)
    assert kernel_database.fingerprint() == before
    theirs = call(outside, "aos_agent.open_run", stranger.id, "bot", user("hello"), key, "w2")
    assert theirs["run_id"] != begun["run_id"] and "repeated" not in theirs  # a run of their own
    with refused("AO001"):  # an agent of ours they know as little as one that is nobody's
        call(outside, "aos_agent.open_run", stranger.id, "plain", user("hello"), uuid4(), "w2")


def test_nobody_takes_over_a_run_by_somebody_else_s_key(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    admin, key = kernel_database.superuser, uuid4()
    admin.execute("create role run_second login in role aos_developer")
    apply(admin, "aos_auth.apply_principal", tenant.id, "run_second", {
        "type": "user", "dbRole": "run_second", "roles": ["developer"]})  # fmt: skip
    lease = begin(tenant, p_worker="w1", p_key=key)
    with refused("AO005", "belongs to a request of somebody else"):
        call(kernel_database.connect("run_second"), "aos_agent.open_run", tenant.id, "bot",
             user("hello"), key, "w1")  # fmt: skip
    assert tenant.respond(lease, say("mine"))["next"] == "done"


def test_a_run_that_was_given_another_s_name_by_chance_takes_a_new_one(
    kernel_database: KernelDatabase, tenant: Tenant
) -> None:
    """The names that chance gives are not many: the taken one is not taken twice."""
    admin = kernel_database.superuser
    body = admin.execute(
        "select pg_get_functiondef('aos_core.run_name(text)'::regprocedure)"
    ).fetchone()
    assert body
    admin.execute("create sequence public.chance; grant usage on sequence public.chance to public")
    admin.execute(
        "create or replace function aos_core.run_name(p_agent_name text) returns text"
        " language sql volatile as $$ select p_agent_name || '-'"
        " || (array['aaaaaa', 'aaaaaa', 'aaaaaa', 'bbbbbb'])[nextval('public.chance')] $$"
    )
    try:
        names = [begin(tenant, p_worker="w1")["run"] for _ in range(2)]
    finally:
        admin.execute(body[0].encode())
        admin.execute("drop sequence public.chance")
    assert names == ["bot-aaaaaa", "bot-bbbbbb"]


@pytest.mark.parametrize("second", ["open_turn", "open_run"])
@pytest.mark.parametrize("worker", ["w1", None])
def test_a_key_at_the_same_moment_in_another_run_is_refused_in_words(
    tenant: Tenant, second: str, worker: str | None
) -> None:
    key, one, two = uuid4(), tenant.start_run(), tenant.start_run()
    other = tenant.database.connect("test_developer", tenant.id)
    target = (two,) if second == "open_turn" else ("bot",)

    def late() -> None:
        with refused("AO005", "belongs to another"):
            call(other, f"aos_agent.{second}", tenant.id, *target, user("two"),
                 p_key=key, p_worker=worker)  # fmt: skip

    with ThreadPoolExecutor(1) as pool:
        with tenant.person.transaction():
            tenant.open(one, "one", p_key=key, p_worker="w1")
            request = pool.submit(late)
            until_it_waits(tenant.database, other, request)
        request.result()
    assert len(runs_of(tenant, key)) == 1
    assert tenant.run_row(two)["last_turn"] == 0 and tenant.faults(two) == []


def limits(tenant: Tenant, begun: dict[str, Any]) -> tuple[Any, ...]:
    row = tenant.run_row(UUID(begun["run_id"]))
    return row["max_usd"], row["max_steps"]


def test_limits_lower_those_of_the_agent_and_never_raise_them(agents: Tenant) -> None:
    key = uuid4()
    low = {"p_max_usd": 1, "p_max_steps": 3, "p_worker": "w1", "p_key": key}
    begun = begin(agents, "frugal", **low)
    assert begun["next"] == "model" and limits(agents, begun) == (1, 3)
    again = begin(agents, "frugal", **low)
    assert again["repeated"] and again["run_id"] == begun["run_id"]
    assert len(runs_of(agents, key)) == 1
    high = {"p_max_usd": 100, "p_max_steps": 100}
    assert limits(agents, begin(agents, "frugal", **high)) == (2, 7)
    assert limits(agents, begin(agents, "plain", **high)) == (100, 50)
    assert limits(agents, begin(agents, "plain", p_kind="task", p_name="named-task")) == (None, 50)
    for wrong in ({"p_max_steps": 0}, {"p_max_usd": -1}, {"p_max_turns": 0}):
        with refused("AO006"):
            begin(agents, "plain", **wrong)


def test_a_model_is_asked_no_more_often_in_a_turn_than_allowed(agents: Tenant) -> None:
    search = ask(("web_search", {"query": "x"}))
    lease = begin(agents, "plain", p_max_turns=2, p_worker="w1")
    run = UUID(lease["run_id"])

    def once(lease: dict[str, Any]) -> str:
        answer = agents.respond(lease, search)
        moved = agents.result(answer["calls"][0]["call_id"], lease, {"results": []})
        return str(moved["next"])

    assert [once(lease), once(lease)] == ["model", "limited"]
    assert agents.run_row(run)["error"].startswith("limit: the model was asked 2 times for one")
    assert agents.claim(run=run) is None
    resume = "aos_agent.resume_run"
    assert call(agents.person, resume, agents.id, run, p_max_turns=3)["changed"]
    lease = agents.claim(run=run)
    assert lease["next"] == "model" and once(lease) == "limited"
    call(agents.person, resume, agents.id, run, p_max_turns=4)
    lease = agents.claim(run=run)
    assert agents.respond(lease, say("done"))["next"] == "done"
    lease = agents.open(run, p_worker="w1")  # each message has its own
    assert [once(lease) for _ in range(4)] == ["model"] * 3 + ["limited"]
    call(agents.person, "aos_agent.cancel_turn", agents.id, run)
    fork = UUID(call(agents.person, "aos_agent.fork_run", agents.id, run)["run_id"])
    lease = agents.open(fork, p_worker="w1")
    assert [once(lease) for _ in range(4)] == ["model"] * 3 + ["limited"]
    assert agents.faults(run) == agents.faults(fork) == []


def test_a_run_without_a_limit_of_questions_is_not_metered(agents: Tenant) -> None:
    begun = begin(agents, "plain", p_max_steps=3, p_worker="w1")
    assert not agents.run_row(UUID(begun["run_id"]))["is_metered"]
