"""`--as` of one command is not that of another: beside it, after it, in one process or one pool."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest

from command import Aosctl
from kernels import KernelDatabase, Tenant, apply
from pooler import Pooler
from screens import Screen

PEOPLE = {"boss": "admin", "hand": "developer", "eye": "viewer"}
ROUNDS = 4
NAMES = ("boss", "hand", "eye", "nobody")


@pytest.fixture(scope="module")
def boss_dsn(tenant: Tenant) -> str:
    """The connection of an admin of the tenant, where a developer and a viewer are too."""
    database = tenant.database
    for name, role in PEOPLE.items():
        login = database.person(f"as_{name}", "aos_developer")
        apply(database.superuser, "aos_auth.apply_principal", tenant.id, name, {
            "type": "user", "dbRole": login, "roles": [role],
        })  # fmt: skip
    return database.cluster.dsn("as_boss", database.name)


@pytest.fixture
def boss(aosctl: Aosctl, boss_dsn: str) -> Aosctl:
    return partial(aosctl, AOSCTL_DSN=boss_dsn)


def who(run: Callable[..., object], *words: str) -> list[str]:
    """Return as whom a command acts."""
    done = run("whoami", *words, "-o", "json")
    return [one["name"] for one in json.loads(done.out)["principals"]]  # type: ignore[attr-defined]


def test_of_many_at_once_each_acts_in_its_own_place(
    boss: Aosctl, tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    """Each makes a collection named after whom it acts as; what is denied to one is to no other."""
    assert boss("create", "collection", "first").status == 0  # the process: the others are forks

    def make(number: int, name: str) -> tuple[str, int]:
        words = ("create", "collection", f"{name}-{number}")
        return name, boss(*words, *([f"--as={name}"] if name != "boss" else [])).status

    with ThreadPoolExecutor(len(NAMES) * 2) as pool:
        done = list(pool.map(lambda one: make(*one), product(range(ROUNDS), NAMES)))
    assert set(done) == {("boss", 0), ("hand", 0), ("eye", 1), ("nobody", 1)}
    made = kernel_database.rows(
        "select actor, regexp_replace(data ->> 'name', '-.$', '') as whose, count(*)"
        " from aos_core.event_log where tenant_id = %s and kind = 'collection.created'"
        " and data ->> 'name' <> 'first' group by 1, 2 order by 1", tenant.id,
    )  # fmt: skip
    assert made == [("user:boss", "boss", ROUNDS), ("user:boss as user:hand", "hand", ROUNDS)]


@pytest.mark.parametrize("its_own", ["boss", "hand"])
def test_what_one_line_of_the_shell_acts_as_is_gone_with_the_next(
    env: dict[str, str], boss_dsn: str, its_own: str
) -> None:
    """However it ended; and SQL at the prompt, which has a session of its own, has the shell's."""
    flags = [f"--as={its_own}"] if its_own != "boss" else []
    place = "is null" if its_own == "boss" else f"= '{its_own}'"
    with Screen({**env, "AOSCTL_DSN": boss_dsn}, "shell", *flags, seconds=30) as shell:
        shell.expect_text(f"nothing to approve · {its_own}@acme")
        for line, told in (
            ("-n acme whoami --as eye", "viewer"),
            ("label agent bot x=1 --as eye", "Forbidden"),
            ("get agents --as nobody", "you may not act as"),
            ("get agents --as eye --no-such", "unknown flag: --no-such"),
            ("logs --as eye", "expected one RUN"),
            ("get agents -w --as eye", "clerk"),
        ):
            shell.say(line)
            shell.expect_text(told)
            if "-w" in line:
                shell.interrupt()
                shell.expect_text(f"nothing to approve · {its_own}@acme")
            shell.say("whoami")
            shell.expect(rf"^acme +{its_own} ")
            shell.say(f"\\sql select nullif(current_setting('aos.acting_as', true), '') {place};")
            shell.expect(r"^ t$")


def test_behind_a_pooler_nobody_acts_as_another_and_no_other_client_does(
    aosctl: Aosctl, boss_dsn: str
) -> None:
    with Pooler(boss_dsn) as pooler:
        run = partial(aosctl, AOSCTL_DSN=pooler.dsn)
        assert who(run) == ["boss"]
        for words in (("get", "agents"), ("create", "collection", "behind"), ("whoami",)):
            done = run(*words, "--as", "eye")
            assert (done.status, done.out) == (2, "")
            assert done.err == (
                "error: --as needs a session of its own, and a pooler stands before the server\n"
                "hint: --dsn with the address of the server itself\n"
            )
        assert who(run) == ["boss"]
        assert run("create", "collection", "behind").status == 0
    assert who(partial(aosctl, AOSCTL_DSN=boss_dsn), "--as", "eye") == ["eye"]  # the control


def test_what_looks_beside_a_verb_of_the_shell_acts_as_the_shell_does(
    env: dict[str, str], boss_dsn: str, kernel_database: KernelDatabase
) -> None:
    """The status line's session is lost and made anew while a verb acts in another's place."""
    looks = (
        "select pid from pg_stat_activity where datname = current_database()"
        " and application_name like 'aosctl/%% shell'"
    )
    with Screen({**env, "AOSCTL_DSN": boss_dsn}, "shell", seconds=30) as shell:
        shell.expect_text("nothing to approve · boss@acme")
        ((pid,),) = kernel_database.rows(looks)
        shell.say("get agents -w --as eye")
        shell.expect_text("clerk")
        kernel_database.superuser.execute("select pg_terminate_backend(%s)", (pid,))
        while kernel_database.rows(looks) in ([], [(pid,)]):
            pass
        shell.interrupt()
        shell.expect_text("nothing to approve · boss@acme")
        shell.say("whoami -o name")
        shell.expect("boss")
