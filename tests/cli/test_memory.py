"""`aosctl memory`: what agents remember, read, set, searched and forgotten by people."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from command import Aosctl
from kernels import Tenant, apply, ask, call, say, user


def remember(tenant: Tenant, **args: object) -> str:
    """Let `clerk` store something in a run of its own; return the run's name."""
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    asked = tenant.respond(lease, ask(("memory_store", dict(args))))
    assert tenant.execute(asked["calls"][0]["call_id"], lease)["ok"]
    tenant.respond(lease, say("done"))
    return str(tenant.run_row(run)["name"])


@pytest.fixture(autouse=True)
def empty(tenant: Tenant) -> None:
    tenant.database.superuser.execute("delete from aos_core.session_memory")


@pytest.fixture
def viewer(aosctl: Aosctl, tenant: Tenant) -> Aosctl:
    database = tenant.database
    login = database.person("memory_viewer", "aos_viewer")
    apply(database.superuser, "aos_auth.apply_principal", tenant.id, "guest", {
        "type": "user", "dbRole": login, "roles": ["viewer"],
    })  # fmt: skip
    return partial(aosctl, AOSCTL_DSN=database.cluster.dsn(login, database.name))


def rows(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.rstrip()) for line in text.splitlines()[1:]]


def test_what_is_set_is_read_listed_and_found(developer: Aosctl, tenant: Tenant) -> None:
    none = developer("memory", "get")
    assert (none.status, none.out) == (0, "") and "No resources found in acme tenant" in none.err
    done = developer("memory", "set", "favourite_db", "the orders", "--agent", "clerk")
    assert (done.status, done.out, done.err) == (0, "memory.aos/favourite_db created\n", "")
    again = developer("memory", "set", "favourite_db", "the orders", "--agent", "clerk")
    assert again.out == "memory.aos/favourite_db unchanged\n"
    more = ("--type", "preference", "--importance", "0.8", "--expires", "30d")
    changed = developer("memory", "set", "favourite_db", '{"name": "orders"}', "--agent", "clerk",
                        *more)  # fmt: skip
    assert changed.out == "memory.aos/favourite_db changed\n"
    value = developer("memory", "get", "favourite_db", "--output", "jsonpath={.spec.value}").out
    assert json.loads(value) == {"name": "orders"}
    remember(tenant, key="note", value="of the agent")
    listed = developer("memory", "get")
    assert listed.out.split("\n")[0].split() == [
        "KEY", "AGENT", "OF", "TYPE", "IMPORTANCE", "VALUE", "EXPIRES", "AGE",
    ]  # fmt: skip
    assert [row[:6] for row in rows(listed.out)] == [
        ["favourite_db", "clerk", "<none>", "preference", "0.80", '{"name": "orders"}'],
        ["note", "clerk", "<none>", "fact", "0.50", "of the agent"],
    ]
    assert [row[0] for row in rows(developer("memory", "search", "orders").out)] == ["favourite_db"]
    assert developer("memory", "get", "--type", "fact", "-o", "name").out == "memory.aos/note\n"
    wide = rows(developer("memory", "get", "note", "-o", "wide").out)
    assert wide[0][-2:] == ["agent:clerk", "<none>"]
    one = json.loads(developer("memory", "get", "favourite_db", "-o", "json").out)
    assert (one["kind"], one["spec"]["value"]) == ("Memory", {"name": "orders"})
    assert one["spec"]["writtenBy"] == "user:dev" and "expiresAt" in one["spec"]


def test_of_a_person_and_of_a_run(developer: Aosctl, tenant: Tenant) -> None:
    name = remember(tenant, key="told", value="by the person", scope="person")
    here = developer("memory", "set", "here", "x", "--run", name, "-o", "name")
    assert here.out == "memory.aos/here\n"
    shown = developer("memory", "set", "tone", "brief", "--principal", "dev", "--agent", "clerk",
                      "--pin", "-o", "yaml").out  # fmt: skip
    assert "principal: dev\n" in shown and "pinned: true\n" in shown
    assert [row[2] for row in rows(developer("memory", "get").out)] == ["dev", "dev", f"run/{name}"]
    of_dev = developer("memory", "get", "--principal", "dev", "-o", "name").out
    assert of_dev == "memory.aos/told\nmemory.aos/tone\n"
    assert developer("memory", "get", "--run", name, "--no-headers").out.startswith("here ")
    for line in (
        "memory search brief --principal dev --no-headers",
        "memory search brief --agent clerk --type fact --limit 1 --no-headers",
    ):
        assert developer(*line.split()).out.startswith("tone ")
    for line in (
        f"memory search x --run {name} -o name",
        f"memory search x --run {name} --output name",
    ):
        assert developer(*line.split()).out == "memory.aos/here\n"
    gone = developer("memory", "rm", "--principal", "dev", "--all", "--yes")
    assert gone.out == "memory.aos/told removed\nmemory.aos/tone removed\n"
    assert developer("memory", "rm", "here", "--run", name, "-o", "name").out == "memory.aos/here\n"
    assert tenant.database.value("select count(*) from aos_core.session_memory") == 0


def test_forgetting_says_what_is_gone_and_what_was_not_there(
    developer: Aosctl, tenant: Tenant
) -> None:
    for key in ("a", "b", "c"):
        developer("memory", "set", key, "-", "--agent", "clerk", stdin=f"value of {key}\n")
    value = developer("memory", "get", "a", "-o", "jsonpath={.spec.value}").out
    assert value == "value of a\n"
    done = developer("memory", "rm", "a", "nothing", "--agent", "clerk")
    assert (done.status, done.out) == (1, "memory.aos/a removed\n")
    assert 'memory "nothing" not found' in done.err
    refused = developer("memory", "rm", "--all", "--agent", "clerk")
    assert refused.status == 2 and "add --yes" in refused.err
    assert developer("memory", "rm", "--agent", "clerk").status == 2
    assert developer("memory", "rm", "b", "--all", "--agent", "clerk").status == 2
    rest = developer(
        "memory", "rm", "--all", "--type", "fact", "--agent", "clerk", "-y", "-o", "json"
    )
    assert json.loads(rest.out) == [{"agent": "clerk", "key": k} for k in ("b", "c")]
    nothing = developer("memory", "rm", "--all", "--agent", "clerk", "--yes", "--output", "yaml")
    assert nothing.status == 0 and "nothing was remembered there" in nothing.err


def test_whose_memory_it_is_decides_who_may(
    developer: Aosctl, viewer: Aosctl, tenant: Tenant
) -> None:
    developer("memory", "set", "mine", "x", "--principal", "dev", "--agent", "clerk")
    developer("memory", "set", "ours", "x", "--agent", "clerk")
    assert viewer("memory", "get", "-o", "name").out == "memory.aos/ours\n"
    for words in (("set", "ours", "y"), ("rm", "ours"), ("rm", "--all", "--yes")):
        done = viewer("memory", *words, "--agent", "clerk")
        assert done.status == 1 and "lacks the role" in done.err
    assert viewer("memory", "get", "mine").status == 1
    apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "other", {
        "type": "user", "displayName": "O", "dbRole": "nobody_here", "roles": ["developer"],
    })  # fmt: skip
    done = developer("memory", "set", "x", "y", "--principal", "other", "--agent", "clerk")
    assert done.status == 1 and 'lacks the role "admin"' in done.err


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ("set k v", 1, "there are several agents: bot, clerk"),
        ("set k v --agent nobody", 1, 'agent "nobody" not found'),
        ("set k v --agent clerk --importance 2", 1, "importance is a number from 0 to 1"),
        ("set k v --agent clerk --expires soon", 1, '"soon" is no time to come'),
        ("set k v --agent clerk --type mood", 2, 'there is no type "mood"'),
        ("set k v --agent clerk --pin --expires 1d", 2, "what is pinned does not expire"),
        ("get --principal dev --run x", 2, "--principal and --run exclude each other"),
        ("get --run nothing", 1, 'runs.aos "nothing" not found'),
        ("search x --limit 0", 2, "--limit"),
    ],
)
def test_what_makes_no_sense_is_said(
    developer: Aosctl, words: str, status: int, error: str
) -> None:
    done = developer("memory", *words.split())
    assert (done.status, done.out) == (status, "") and error in done.err


def test_tab_knows_the_keys_until_they_are_forgotten(
    developer: Aosctl, tmp_path: Path, env: dict[str, str]
) -> None:
    def offered() -> list[str]:
        words = ("__complete", "memory", "-n", "2", "", "memory", "get")
        return developer(*words, XDG_CACHE_HOME=str(tmp_path)).out.split()

    for key in ("alpha", "beta", "With Space"):
        developer("memory", "set", key, "x", "--agent", "clerk", XDG_CACHE_HOME=str(tmp_path))
    assert offered() == ["alpha", "beta"]
    developer("memory", "rm", "alpha", "--agent", "clerk", XDG_CACHE_HOME=str(tmp_path))
    assert offered() == ["beta"]


def test_what_an_entry_holds_is_safe_for_a_terminal(developer: Aosctl, tenant: Tenant) -> None:
    developer("memory", "set", "evil", "a\x1b[2Jb\u202ec\nd", "--agent", "clerk")
    listed = developer("memory", "get").out
    assert "\x1b" not in listed and "\u202e" not in listed and len(listed.splitlines()) == 2


def test_a_compacted_turn_is_told_in_the_log_and_the_trace(
    developer: Aosctl, admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    run = tenant.start_run()
    tenant.respond(tenant.open(run, "first", p_worker="w1"), say("one"))
    lease = call(
        tenant.person, "aos_agent.open_turn", tenant.id, run, user("second"), p_worker="w1"
    )
    where = (tenant.id, lease["turn_id"], lease["lease"])
    usage = {"in": 100, "out": 10}
    done = call(tenant.worker, "aos_agent.compact_turn", *where, 3, 4, "estimate",
                say("In short: first."), usage)  # fmt: skip
    assert (done["next"], done["step"], done["last_step"], done["left_out"]) == ("model", 4, 5, 2)
    tenant.respond(lease, say("two"))
    name = str(tenant.run_row(run)["name"])
    logged = developer("logs", name).out.splitlines()
    assert logged[-4:] == [
        "user  second",
        "run   compacted, 2 steps before step 3 left out: it would not have fit; summed up",
        "      In short: first.",
        "agent two",
    ]
    traced = developer("trace", name, "-o", "json").out
    assert "compacted, 2 steps left out: In short: first." in traced
    assert developer("audit", "verify", "--run", name).status == 0
    taken = admin("audit", "export", "-n", "acme", "--run", name).out
    (tmp_path / "trail.jsonl").write_text(taken)
    done = admin("audit", "verify", "--file", str(tmp_path / "trail.jsonl"))
    assert done.status == 0, done.out
