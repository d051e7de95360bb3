"""Memory: of a run, of an agent, of one person; typed, ranked, bounded, and gone when forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

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
    select_tenant,
    user,
)

SKILLS = ["memory_store", "memory_recall", "memory_search", "web_search", "delegate"]


@dataclass
class Minds:
    """A tenant whose agent `thinker` remembers, and its people: alice, bob, an admin, a viewer."""

    tenant: Tenant
    people: dict[str, Connection]

    def close(self) -> None:
        for one in (*self.people.values(), self.tenant.person, self.tenant.worker):
            one.close()

    def run(self, who: str = "alice", agent: str = "thinker", text: str = "hi") -> UUID:
        """Begin a run with a message of somebody, and rest."""
        run = UUID(call(self.people[who], "aos_agent.start_run", self.tenant.id, agent)["run_id"])
        self.say(run, who, text)
        return run

    def say(self, run: UUID, who: str, text: str = "hi") -> None:
        lease = self.lease(run, who, text)
        self.tenant.respond(lease, say("done"))

    def lease(self, run: UUID, who: str, text: str = "hi") -> dict[str, Any]:
        found: dict[str, Any] = call(
            self.people[who], "aos_agent.open_turn", self.tenant.id, run, user(text), p_worker="w1"
        )
        return found

    def use(self, run: UUID, who: str, skill: str, **args: Any) -> tuple[bool, Any]:
        """Let the model ask for a skill in a turn that somebody began; ok, and the result."""
        lease = self.lease(run, who)
        return self.ask(lease, skill, **args)

    def ask(self, lease: dict[str, Any], skill: str, **args: Any) -> tuple[bool, Any]:
        asked = self.tenant.respond(lease, ask((skill, args)))
        (one,) = asked["calls"]
        if one["status"] != "pending":
            self.tenant.respond(lease, say("done"))
            return False, one["reason"]
        done = self.tenant.execute(one["call_id"], lease)
        self.tenant.respond(lease, say("done"))
        return bool(done["ok"]), done["result"]

    def store(self, run: UUID, who: str, key: str, value: Any = "x", **more: Any) -> Any:
        ok, result = self.use(run, who, "memory_store", key=key, value=value, **more)
        assert ok, result
        return result

    def keys(self, run: UUID, who: str, skill: str = "memory_recall", **args: Any) -> list[str]:
        ok, result = self.use(run, who, skill, **args)
        assert ok, result
        return [entry["key"] for entry in result["entries"]]

    def seen(self, who: str) -> set[tuple[str, str]]:
        rows = self.people[who].execute("select key, scope from aos_core.memory").fetchall()
        return set(rows)

    def set(self, who: str, key: str, value: Any = "x", agent: str | None = "thinker",
            **options: Any) -> Any:  # fmt: skip
        return call(self.people[who], "aos_agent.set_memory", self.tenant.id, agent, key,
                    self.json(value), options)  # fmt: skip

    def rm(self, who: str, keys: list[str] | None, agent: str | None = "thinker", **of: Any) -> Any:
        query = "select aos_agent.remove_memories(%s, %s, %s, %s)"
        row = self.people[who].execute(query, (self.tenant.id, agent, keys, self.json(of)))
        found = row.fetchone()
        assert found is not None
        return [entry["key"] for entry in found[0]]

    @staticmethod
    def json(value: Any) -> Any:
        from psycopg.types.json import Jsonb

        return Jsonb(value)

    def entries(self) -> int:
        return int(self.tenant.database.value(
            "select count(*) from aos_core.session_memory where tenant_id = %s", self.tenant.id
        ))  # fmt: skip

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        return self.tenant.database.rows(
            "select kind, actor, data from aos_core.event_log where stream_id = %s"
            " and kind like 'memory.%%' order by seq", self.tenant.id,
        )  # fmt: skip


def minds_of(database: KernelDatabase) -> Minds:
    tenant = make_tenant(database)
    admin = database.superuser
    apply(admin, "aos_agent.apply_agent", tenant.id, "helper", {
        "persona": "expert", "skills": SKILLS[:4],
    })  # fmt: skip
    apply(admin, "aos_skills.apply_skill", tenant.id, "delegate", {
        "description": "Ask another.", "agent": {"name": "helper"}, "effect": "transactional",
        "risk": "low", "touches": [], "input": {"type": "object", "properties": {
            "task": {"type": "string"}}, "required": ["task"], "additionalProperties": False},
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant.id, "thinker", {
        "persona": "expert", "skills": SKILLS,
    })  # fmt: skip
    people = {}
    for name, role, group in (("alice", "developer", "aos_developer"),
                              ("bob", "developer", "aos_developer"),
                              ("boss", "admin", "aos_developer"),
                              ("guest", "viewer", "aos_viewer")):  # fmt: skip
        login = database.person(f"mind_{name}", group)
        apply(admin, "aos_auth.apply_principal", tenant.id, name, {
            "type": "user", "dbRole": login, "roles": [role],
        })  # fmt: skip
        people[name] = database.connect(login, tenant.id)
    return Minds(tenant, people)


@pytest.fixture
def minds(kernel_database: KernelDatabase) -> Iterator[Minds]:
    kernel_database.move_clock()
    made = minds_of(kernel_database)
    yield made
    made.close()
    kernel_database.move_clock()


def test_each_scope_is_found_again_where_it_is_meant(minds: Minds) -> None:
    first, second, others = minds.run(), minds.run(), minds.run("bob")
    minds.store(first, "alice", "everywhere")
    minds.store(first, "alice", "of alice", scope="person")
    minds.store(first, "alice", "this talk", scope="run")
    assert minds.keys(first, "alice") == ["this talk", "of alice", "everywhere"]
    assert minds.keys(second, "alice") == ["of alice", "everywhere"]
    assert minds.keys(others, "bob") == ["everywhere"]
    assert minds.keys(first, "alice", scope="run") == ["this talk"]
    assert minds.keys(first, "alice", scope="person") == ["of alice"]
    assert minds.keys(first, "alice", scope="agent") == ["everywhere"]
    assert minds.keys(others, "bob", scope="person") == []
    assert minds.keys(minds.run(agent="helper"), "alice") == []  # another agent's mind
    for query in ("of alice", "this talk"):
        assert minds.keys(others, "bob", "memory_search", query=query) == []
        assert minds.keys(others, "bob", query=query) == []
        assert minds.keys(others, "bob", key=query) == []


def test_the_same_key_is_another_entry_for_each_whom_it_is_of(minds: Minds) -> None:
    hers, his = minds.run(), minds.run("bob")
    minds.store(hers, "alice", "name", "Alice", scope="person")
    minds.store(his, "bob", "name", "Bob", scope="person")
    minds.store(his, "bob", "name", "Thinker")
    for run, who, name in ((hers, "alice", "Alice"), (his, "bob", "Bob")):
        _, found = minds.use(run, who, "memory_recall", key="name", scope="person")
        assert [entry["value"] for entry in found["entries"]] == [name]
    assert minds.entries() == 3


def test_a_run_in_which_several_have_written_is_of_nobody(minds: Minds) -> None:
    run = minds.run()
    minds.store(run, "alice", "secret", scope="person")
    minds.say(run, "bob")
    assert minds.keys(run, "alice") == [] and minds.keys(run, "bob") == []
    ok, said = minds.use(run, "bob", "memory_store", key="k", value=1, scope="person")
    assert not ok and "not of one known person" in said["error"]
    steered = minds.run()
    lease = minds.lease(steered, "alice")
    call(minds.people["bob"], "aos_agent.steer_turn", minds.tenant.id, steered, user("me too"))
    _, first = minds.ask(lease, "memory_recall")
    assert [entry["key"] for entry in first["entries"]] == ["secret"]  # he is heard after this
    assert minds.keys(steered, "alice") == []


def test_what_waited_in_the_inbox_counts_as_written(minds: Minds) -> None:
    run = minds.run()
    minds.store(run, "alice", "secret", scope="person")
    lease = minds.lease(run, "alice")
    call(minds.people["bob"], "aos_agent.open_turn", minds.tenant.id, run, user("waits"))
    minds.tenant.respond(lease, say("done"))
    lease = minds.tenant.claim(run=run)
    _, found = minds.ask(lease, "memory_recall")
    assert found["entries"] == []


def test_an_administrator_is_nobody_whom_the_tenant_knows(minds: Minds) -> None:
    admin = minds.tenant.database.superuser
    run = UUID(call(admin, "aos_agent.start_run", minds.tenant.id, "thinker")["run_id"])
    lease = call(admin, "aos_agent.open_turn", minds.tenant.id, run, user("hi"), p_worker="w1")
    ok, said = minds.ask(lease, "memory_store", key="k", value=1, scope="person")
    assert not ok and "not of one known person" in said["error"]


def test_who_acts_as_another_is_who_sits_there(minds: Minds) -> None:
    minds.store(minds.run(), "alice", "secret", scope="person")
    boss = minds.people["boss"]
    boss.execute("select set_config('aos.acting_as', 'alice', false)")
    run = minds.run("boss")
    assert minds.keys(run, "boss", scope="person") == []
    boss.execute("select set_config('aos.acting_as', '', false)")


def test_a_run_that_works_for_another_is_of_the_same_person(minds: Minds) -> None:
    hers = minds.run(agent="helper")
    minds.store(hers, "alice", "hers", scope="person")
    run = minds.run()
    lease = minds.lease(run, "alice")
    asked = minds.tenant.respond(lease, ask(("delegate", {"task": "remember"})))
    given = minds.tenant.execute(asked["calls"][0]["call_id"], lease)
    assert given["status"] == "delegated"
    child = minds.tenant.claim(run=UUID(given["run_id"]))
    _, found = minds.ask(child, "memory_recall", scope="person")
    assert [entry["key"] for entry in found["entries"]] == ["hers"]


def test_types_importance_and_expiry_are_kept_and_told(minds: Minds) -> None:
    run = minds.run()
    minds.store(run, "alice", "plain")
    minds.store(run, "alice", "tea", type="preference", importance=0.75, expires="30d")
    _, found = minds.use(run, "alice", "memory_recall", key="tea")
    (entry,) = found["entries"]
    assert (entry["type"], entry["importance"]) == ("preference", 0.75) and "expires_at" in entry
    _, found = minds.use(run, "alice", "memory_recall", key="plain")
    assert set(found["entries"][0]) == {"key", "value", "updated_at"}  # as it always was
    assert minds.keys(run, "alice", type="preference") == ["tea"]
    assert minds.keys(run, "alice", "memory_search", query="tea plain", type="fact") == ["plain"]


@pytest.mark.parametrize(
    "args",
    [{"expires": "yesterday"}, {"expires": "2001-01-01"}, {"expires": "0d"},
     {"expires": "infinity"}, {"expires": "99999999d"}, {"importance": 1.5},
     {"importance": -1}, {"importance": "high"}, {"type": "feeling"},
     {"scope": "tenant"}, {"scope": "principal"}, {"pinned": True},
     {"key": ""}, {"key": "k" * 201}, {"value": "x" * 100_001}, {"principal": "bob"},
     {"expires": "30d'; drop table x"}],
    ids=lambda args: str(args)[:40],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_stores_nothing(
    minds: Minds, args: dict[str, Any]
) -> None:
    given = {"key": "k", "value": 1} | args
    ok, _ = minds.use(minds.run(), "alice", "memory_store", **given)
    assert not ok and minds.entries() == 0


def test_what_has_expired_is_never_seen_and_is_swept(minds: Minds) -> None:
    run, database = minds.run(), minds.tenant.database
    minds.store(run, "alice", "short", "lived", expires="1h")
    minds.store(run, "alice", "long", "lived")
    assert minds.keys(run, "alice") == ["long", "short"]
    assert call(minds.tenant.worker, "aos_agent.forget_expired", minds.tenant.id) == 0
    database.move_clock("2 hours")
    assert minds.keys(run, "alice") == ["long"]
    assert minds.keys(run, "alice", key="short") == []
    assert minds.keys(run, "alice", "memory_search", query="lived") == ["long"]
    assert minds.seen("alice") == {("long", "agent")}
    found = minds.people["alice"].execute(
        "select count(*) from aos_core.search_memory(%s, 'lived')", (minds.tenant.id,)
    ).fetchone()  # fmt: skip
    assert found == (1,) and minds.entries() == 2
    waiting = minds.tenant.worker.execute("select * from aos_agent.next_expired_memories()")
    assert (minds.tenant.id,) in waiting.fetchall()
    assert call(minds.tenant.worker, "aos_agent.forget_expired", minds.tenant.id) == 1
    assert minds.entries() == 1
    assert minds.events() == [("memory.expired", "kernel", {"entries": 1})]
    waiting = minds.tenant.worker.execute("select * from aos_agent.next_expired_memories()")
    assert (minds.tenant.id,) not in waiting.fetchall()


def test_recall_ranks_by_match_importance_and_age(minds: Minds) -> None:
    run, database = minds.run(), minds.tenant.database
    minds.store(run, "alice", "old", "the orders table")
    database.move_clock("400 days")
    minds.store(run, "alice", "new", "the orders table")
    minds.store(run, "alice", "weighty", "the orders table", importance=0.9)
    minds.store(run, "alice", "light", "the orders table", importance=0)
    minds.store(run, "alice", "orders", "elsewhere", importance=0)  # it is what the key says
    assert minds.keys(run, "alice", "memory_search", query="orders") == [
        "orders", "weighty", "new", "old", "light",
    ]  # fmt: skip
    assert minds.keys(run, "alice", query="orders table") == ["weighty", "new", "old", "light"]


def test_an_agent_cannot_crowd_out_what_people_said(minds: Minds) -> None:
    """Importance weighs at most three times, an agent's own word at most 0.9 of it."""
    run = minds.run()
    minds.set("alice", "rule", "refunds need a manager", importance=1)
    for number in range(60):
        minds.store(run, "alice", f"spam {number}", "refunds", importance=1)
    assert minds.tenant.database.value(
        "select max(importance) from aos_core.session_memory where key like 'spam%%'"
        " and tenant_id = %s", minds.tenant.id) == Decimal("0.9")  # fmt: skip
    assert minds.keys(run, "alice", "memory_search", query="refunds manager")[0] == "rule"
    assert minds.keys(run, "alice")[0] == "rule"


def test_a_full_memory_takes_nothing_new_and_loses_nothing(minds: Minds) -> None:
    run, admin = minds.run(), minds.tenant.database.superuser
    admin.execute(
        "insert into aos_core.session_memory (tenant_id, owner_id, key, value)"
        " select %s, %s, 'k' || n, '1' from generate_series(1, 200) n", (minds.tenant.id, run),
    )  # fmt: skip
    ok, said = minds.use(run, "alice", "memory_store", key="new", value=1, scope="run")
    assert not ok and "memory is full: 200 entries" in said["error"]
    minds.store(run, "alice", "k7", "changed", scope="run")
    minds.store(run, "alice", "elsewhere")
    with refused("AO006", "memory is full"):
        minds.set("alice", "new", run=str(run), agent=None)
    admin.execute("update aos_core.session_memory set expires_at = now() where key = 'k9'")
    minds.store(run, "alice", "new", scope="run")
    assert minds.entries() == 201


def test_a_poisoned_memory_taints_in_every_scope(minds: Minds) -> None:
    poisoned = minds.run()
    minds.tenant.database.superuser.execute(
        "update aos_core.run set taint = 'web_search, step 2' where run_id = %s", (poisoned,)
    )
    for scope in ("agent", "person", "run"):
        minds.store(poisoned, "alice", f"of {scope}", scope=scope)
    clean = minds.run()
    _, found = minds.use(clean, "alice", "memory_search", query="person")
    assert found["entries"][0]["untrusted"].startswith("web_search, step 2 of ")
    assert str(minds.tenant.run_row(clean)["taint"]).startswith("memory_search")
    minds.set("alice", "of agent", "looked at")  # by a person: it is no stranger's any more
    healed = minds.run("bob")
    assert minds.keys(healed, "bob") == ["of agent"]
    assert minds.tenant.run_row(healed)["taint"] is None


def test_what_is_pinned_stands_in_the_prompt_of_those_whom_it_is_for(minds: Minds) -> None:
    def prompt(who: str) -> str:
        run = minds.run(who)
        lease = minds.lease(run, who)
        found = call(minds.tenant.worker, "aos_agent.turn_context", minds.tenant.id,
                     lease["turn_id"], lease["lease"])  # fmt: skip
        minds.tenant.respond(lease, say("done"))
        return str(found["system_prompt"])

    assert "Keep in mind" not in prompt("alice")
    before = minds.tenant.database.value(
        "select config_version from aos_core.tenant_state where tenant_id = %s", minds.tenant.id
    )
    minds.set("alice", "tone", "be brief", pinned=True)
    minds.set("alice", "unit", "metres", principal="alice", pinned=True)
    assert prompt("alice").endswith("Keep in mind:\n- tone: be brief\n- unit: metres")
    assert prompt("bob").endswith("Keep in mind:\n- tone: be brief")
    after = minds.tenant.database.value(
        "select config_version from aos_core.tenant_state where tenant_id = %s", minds.tenant.id
    )
    assert after == before + 2  # workers read the prompt anew
    ok, said = minds.use(minds.run(), "alice", "memory_store", key="tone", value="obey me")
    assert not ok and "people have pinned" in said["error"]
    with refused("AO006", "does not expire"):
        minds.set("alice", "x", expires="1d", pinned=True)
    with refused("AO006", "at most 2000 characters"):
        minds.set("alice", "x", "y" * 2001, pinned=True)
    for number in range(19):
        minds.set("alice", f"k{number}", pinned=True)
    with refused("AO006", "20 entries are pinned"):
        minds.set("alice", "one too many", pinned=True)
    assert minds.rm("alice", ["tone"]) == ["tone"]
    assert "be brief" not in prompt("bob")


def test_who_sees_whose_memory(minds: Minds) -> None:
    minds.set("alice", "shared")
    minds.set("alice", "hers", principal="alice")
    minds.set("bob", "his", principal="bob")
    shared = ("shared", "agent")
    assert minds.seen("alice") == {shared, ("hers", "person")}
    assert minds.seen("bob") == {shared, ("his", "person")}
    assert minds.seen("guest") == {shared}
    assert minds.seen("boss") == {shared, ("hers", "person"), ("his", "person")}
    people = minds.people["bob"]
    found = people.execute("select count(*) from aos_core.search_memory(%s, 'hers')",
                           (minds.tenant.id,)).fetchone()  # fmt: skip
    assert found == (0,)
    people.execute("select set_config('aos.acting_as', 'alice', false)")
    assert minds.seen("bob") == set()  # who is no admin acts as nobody
    people.execute("select set_config('aos.acting_as', '', false)")
    people.execute("select set_config('aos.on_behalf_of', 'alice', false)")
    assert minds.seen("bob") == {shared, ("his", "person")}  # who is no service speaks for nobody
    people.execute("select set_config('aos.on_behalf_of', '', false)")
    boss = minds.people["boss"]
    boss.execute("select set_config('aos.acting_as', 'alice', false)")
    assert minds.seen("boss") == {shared, ("hers", "person")}
    boss.execute("select set_config('aos.acting_as', '', false)")


def test_who_changes_whose_memory(minds: Minds) -> None:
    run = minds.run()
    minds.set("guest", "mine", principal="guest")  # a viewer's own
    minds.set("boss", "told", principal="alice")
    minds.set("bob", "here", run=str(run), agent=None)
    for who, options in (
        ("guest", {}),
        ("guest", {"run": str(run)}),
        ("bob", {"principal": "alice"}),
        ("guest", {"principal": "bob"}),
    ):
        with refused("AO004"):
            minds.set(who, "x", **options)
        with refused("AO004"):
            minds.rm(who, ["x"], **options)
        with refused("AO004"):
            minds.rm(who, None, **options)
    assert minds.rm("guest", ["mine", "other"], principal="guest") == ["mine"]
    assert minds.rm("alice", None, principal="alice", agent=None) == ["told"]
    assert minds.rm("alice", None, run=str(run), agent=None) == ["here"]
    assert minds.entries() == 0


@pytest.mark.parametrize(
    ("options", "state"),
    [({"principal": "nobody"}, "AO001"), ({"run": "nothing"}, "AO001"),
     ({"principal": "alice", "run": "x"}, "AO006"), ({"type": "feeling"}, "AO006"),
     ({"importance": 2}, "AO006"), ({"importance": "1"}, "AO006"), ({"expires": "never"}, "AO006"),
     ({"taint": None}, "AO006"), ({"agent": "x"}, "AO001")],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    minds: Minds, options: dict[str, Any], state: str
) -> None:
    with refused(state):
        minds.set("boss", "k", **options)
    assert minds.entries() == 0


def test_the_trail_tells_that_and_whose_but_never_what(minds: Minds) -> None:
    said = minds.set("alice", "the key", "the value", principal="alice", importance=0.8)
    assert said["status"] == "created"
    assert (
        minds.set("alice", "the key", "the value", principal="alice", importance=0.8)["status"]
        == "unchanged"
    )
    assert minds.set("alice", "the key", "another", principal="alice")["status"] == "changed"
    minds.rm("alice", ["the key"], principal="alice")
    assert minds.rm("alice", ["the key"], principal="alice") == []
    kinds = [(kind, actor) for kind, actor, _ in minds.events()]
    assert kinds == [("memory.set", "user:alice")] * 2 + [("memory.removed", "user:alice")]
    first = minds.events()[0][2]
    assert (first["agent"], first["principal"], first["scope"]) == ("thinker", "alice", "person")
    assert first["memory_id"] == said["memory_id"]
    told = json.dumps([data for _, _, data in minds.events()])
    assert "the key" not in told and "the value" not in told and "another" not in told
    assert call(minds.people["boss"], "aos_core.verify_tenant", minds.tenant.id) is None
    rows = (
        minds.people["guest"]
        .execute("select 1 from aos_core.event where kind like 'memory.%'")
        .fetchall()
    )
    assert rows == []  # auditors read of people


def test_forgotten_is_gone_from_the_table_and_its_indexes(minds: Minds) -> None:
    database = minds.tenant.database
    for number in range(50):
        minds.set("alice", f"word{number}", f"unheardof{number}", pinned=number == 7)
    minds.set("alice", "stays")
    assert len(minds.rm("alice", [f"word{n}" for n in range(50)])) == 50
    assert database.places("unheardof") == set() and database.places("word7") == set()
    database.superuser.execute("vacuum aos_core.session_memory")
    held = dict(database.rows(
        "select c.relname, c.reltuples::bigint"
        " from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where i.indrelid = 'aos_core.session_memory'::regclass"
    ))  # fmt: skip
    rows = database.value("select count(*) from aos_core.session_memory")
    pinned = database.value("select count(*) from aos_core.session_memory where is_pinned")
    assert (held["session_memory_pkey"], held["session_memory_pinned"]) == (rows, pinned)
    methods = database.rows(
        "select distinct a.amname from pg_index i join pg_class c on c.oid = i.indexrelid"
        " join pg_am a on a.oid = c.relam where i.indrelid = 'aos_core.session_memory'::regclass"
    )
    assert methods == [("btree",)]  # none whose words would outlive the row


def test_with_a_principal_or_an_agent_goes_what_is_remembered_of_it(minds: Minds) -> None:
    minds.set("alice", "hers", principal="alice", pinned=True)
    minds.set("alice", "stays")
    minds.set("bob", "his", agent="helper", principal="bob")
    minds.set("bob", "of the helper", agent="helper")
    boss = minds.people["boss"]
    call(boss, "aos_auth.delete_principal", minds.tenant.id, "alice")
    assert minds.seen("boss") == {("stays", "agent"), ("his", "person"), ("of the helper", "agent")}
    apply(minds.tenant.database.superuser, "aos_auth.apply_principal", minds.tenant.id, "alice", {
        "type": "user", "dbRole": "mind_alice", "roles": ["developer"],
    })  # fmt: skip
    assert minds.seen("alice") == {("stays", "agent"), ("of the helper", "agent")}  # another alice
    apply(minds.tenant.database.superuser, "aos_agent.apply_agent", minds.tenant.id, "thinker", {
        "persona": "expert", "skills": [],
    })  # fmt: skip
    call(boss, "aos_skills.delete_skill", minds.tenant.id, "delegate")
    call(boss, "aos_agent.delete_agent", minds.tenant.id, "helper")
    assert minds.entries() == 1


def test_a_fork_knows_what_the_run_knew_by_then(minds: Minds) -> None:
    run = minds.run()
    minds.store(run, "alice", "before", scope="run")
    step = minds.tenant.run_row(run)["last_step"]
    minds.store(run, "alice", "after", scope="run")
    fork = call(minds.people["alice"], "aos_agent.fork_run", minds.tenant.id, run, step)
    assert minds.keys(UUID(fork["run_id"]), "alice", scope="run") == ["before"]


def test_another_tenants_memory_is_out_of_reach(minds: Minds) -> None:
    other = minds_of(minds.tenant.database)
    other.set("alice", "theirs", principal="alice")
    other.set("alice", "all theirs", pinned=True)
    alice = minds.people["alice"]
    for query in ("select * from aos_core.memory where tenant_id = %s",
                  "select * from aos_core.search_memory(%s, 'theirs')"):  # fmt: skip
        assert alice.execute(query, (other.tenant.id,)).fetchall() == []
    run = minds.run()
    assert minds.keys(run, "alice") == []
    foreign = other.run()
    with refused("AO001"):
        minds.set("alice", "x", run=str(foreign), agent=None)
    with refused("AO001"):
        minds.rm("alice", None, run=str(foreign), agent=None)
    select_tenant(alice, minds.tenant.id)
    with refused("42501"):
        alice.execute("select * from aos_core.session_memory")
    with refused("42501"):
        call(minds.tenant.worker, "aos_agent.set_memory", minds.tenant.id, "thinker", "k",
             minds.json(1))  # fmt: skip
    other.close()
