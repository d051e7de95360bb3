"""`aosctl wait`: kubectl's texts and statuses, for resources and for runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import psycopg
import pytest

from command import Aosctl, Ended
from kernels import Tenant, apply, say
from talks import until


class Waiting:
    """`aosctl wait` in the background; `asked` tells when it has looked the first time."""

    def __init__(self, run: Callable[[], Ended], tenant: Tenant) -> None:
        self._ended: list[Ended] = []
        self._thread = Thread(target=lambda: self._ended.append(run()))
        self._tenant = tenant
        self._thread.start()

    def asked(self) -> None:
        """Return when the process waits: it is connected, and its last statement is done."""
        database = self._tenant.database
        asked = (
            "select from pg_stat_activity where datname = %s and state = 'idle'"
            " and application_name like 'aosctl/%% wait' and query ~ %s"
        )
        names = (database.name, "watch_|_resource|run_status|listen")
        with psycopg.connect(database.cluster.dsn(), autocommit=True) as watcher:
            until(lambda: watcher.execute(asked, names).fetchall() or not self._thread.is_alive())
        assert self._thread.is_alive()

    def ended(self) -> Ended:
        self._thread.join()
        return self._ended[0]


@pytest.fixture
def waiting(developer: Aosctl, tenant: Tenant) -> Iterator[Callable[..., Waiting]]:
    started: list[Waiting] = []

    def start(*words: str) -> Waiting:
        started.append(Waiting(lambda: developer("wait", *words, "--timeout=50s"), tenant))
        return started[-1]

    yield start
    for one in started:
        one.ended()


def name_of(tenant: Tenant, run: object) -> str:
    return str(tenant.database.value("select name from aos_core.run where run_id = %s", run))


def test_what_is_so_already_is_said_at_once(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("wait", "agent/bot", "persona/expert", "--for=condition=ready", "--timeout=0")
    assert (done.status, done.err) == (0, "")
    assert done.out == "agent.aos/bot condition met\npersona.aos/expert condition met\n"
    path = developer("wait", "persona", "expert", "--for=jsonpath={.spec.model}=offline")
    assert (path.status, path.out) == (0, "persona.aos/expert condition met\n")
    there = developer("wait", "persona", "expert", "--for=jsonpath={.spec.model}", "-o", "name")
    assert (there.status, there.out) == (0, "persona.aos/expert\n")
    gone = developer("wait", "persona/nothing", "--for=delete", "--timeout=0")
    assert (gone.status, gone.out, gone.err) == (0, "persona.aos/nothing condition met\n", "")
    every = developer("wait", "agents", "--all", "--for=create")
    assert every.out == "agent.aos/bot condition met\nagent.aos/clerk condition met\n"


def test_the_time_may_be_over_first(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("wait", "persona/expert", "agent/bot", "--for=delete", "--timeout=0")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: timed out waiting for the condition on personas/expert\n"
        "error: timed out waiting for the condition on agents/bot\n"
    )
    late = developer("wait", "persona/expert", "--for=jsonpath={.spec.model}=x", "--timeout=1s")
    assert (late.status, late.out) == (1, "")
    assert late.err == "error: timed out waiting for the condition on personas/expert\n"


def test_a_run_is_waited_for_until_its_turn_is_done(
    tenant: Tenant, waiting: Callable[..., Waiting]
) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    one = waiting(f"run/{name_of(tenant, run)}", "--for=condition=Done")
    one.asked()
    tenant.respond(lease, say("done"))
    done = one.ended()
    assert (done.status, done.err) == (0, "")
    assert done.out == f"run.aos/{name_of(tenant, run)} condition met\n"


def test_a_run_that_ends_is_not_waited_for_any_more(
    developer: Aosctl, tenant: Tenant, waiting: Callable[..., Waiting]
) -> None:
    run = tenant.start_run()
    tenant.open(run)
    name = name_of(tenant, run)
    one = waiting(f"run/{name}", "--for=approval")
    one.asked()
    developer("kill", name)
    done = one.ended()
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"error: run.aos/{name} ended as cancelled: the condition will not be met\n"
        f"hint: aosctl logs {name}\n"
    )


def test_a_resource_comes_and_goes(
    developer: Aosctl, tenant: Tenant, waiting: Callable[..., Waiting]
) -> None:
    superuser = tenant.database.superuser
    spec: dict[str, Any] = {"systemPrompt": "Be brief.", "model": "offline"}
    coming = waiting("persona/guest", "--for=create")
    coming.asked()
    apply(superuser, "aos_persona.apply_persona", tenant.id, "guest", spec)
    assert coming.ended() == Ended(0, "persona.aos/guest condition met\n", "")
    going = waiting("persona/guest", "--for=delete")
    going.asked()
    developer("delete", "persona", "guest")
    assert going.ended() == Ended(0, "persona.aos/guest condition met\n", "")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["persona/expert"], 2, "error: must specify --for\n"),
        (["persona/expert", "--for=sunshine"], 2, 'error: unrecognized condition: "sunshine"\n'),
        (["persona/expert", "--for=condition="], 2, "error: unrecognized condition"),
        (["persona/expert", "--for=condition=Redy"], 2,
         'error: personas have no condition "Redy"; did you mean "Ready"?\nhint: they '
         "have Ready\n"),
        (["persona/expert", "--for=condition=Ready=maybe"], 2,
         'error: a condition is true or false, not "maybe"\n'),
        (["persona/expert", "--for=jsonpath={.spec.model}="], 2, "error: jsonpath wait has an em"),
        (["persona/expert", "--for=jsonpath={.spec[}=x"], 2, "error: "),
        (["persona/expert", "--for=delete", "--timeout=soon"], 2,
         'error: invalid duration "soon"\nhint: such as 45s, 5m, 2h30m or 3d\n'),
        (["persona", "--for=delete"], 2, "error: resource(s) were provided, but no name was"),
        (["persona", "expert", "-l", "a=b", "--for=delete"], 2, "error: name cannot be provided"),
        (["personas", "--all", "-l", "a=b", "--for=delete"], 2, "error: cannot set --all and"),
        (["personas", "-l", "a=b", "--for=condition=Ready"], 1,
         "error: no matching resources found\n"),
        (["persona/exprt", "--for=condition=Ready"], 1,
         'Error from server (NotFound): personas.aos "exprt" not found\n'
         'hint: did you mean "expert"?\n'),
        ([], 2, "error: You must specify the type of resource to wait for\n"),
    ],
)  # fmt: skip
def test_wrong_words(
    developer: Aosctl, tenant: Tenant, words: list[str], status: int, text: str
) -> None:
    done = developer("wait", *words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
