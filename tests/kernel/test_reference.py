"""schema/README.md says what is: its functions, states, errors, tables, roles and hashes."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest

from aosctl.errors import SQLSTATES
from kernels import SCHEMAS, KernelDatabase, Tenant, ask, say
from reference import README, callable_functions, comments, functions_text, with_functions

PAGE = README.read_text(encoding="utf-8")
MACHINES = ("run", "turn", "tool_call", "approval")


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    marks, _, name = title.partition(" ")
    pattern = rf"^{marks} {re.escape(name)}\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)"
    found = re.search(pattern, PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"{README} has no heading {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [cells for cells in found if not set("".join(cells)) <= set("-| ")]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def names(database: KernelDatabase, query: str, *args: object) -> set[str]:
    return {row[0] for row in database.rows(query, *args)}


def test_the_functions_are_those_of_the_catalog(kernel_database: KernelDatabase) -> None:
    remedy = "run: python -m tests.reference"
    assert with_functions(PAGE, functions_text(kernel_database.superuser)) == PAGE, remedy


def test_a_comment_names_the_errors_that_its_function_raises(
    kernel_database: KernelDatabase,
) -> None:
    said = comments()
    for function in callable_functions(kernel_database.superuser):
        raised = set(re.findall(r"\bAO\d{3}\b", function.source))
        if re.search(r"aos_auth\.enter\(p_tenant", function.source):
            raised |= {"AO001", "AO004"}
        assert raised <= set(said[function.name].sqlstates), function.name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_states_are_those_that_the_kernel_allows(
    kernel_database: KernelDatabase, machine: str
) -> None:
    drawn = {
        quoted(state)[0]: quoted(after) for state, after in rows(section(f"### {machine}"))[1:]
    }
    for old, new in product(drawn, drawn):
        allowed = kernel_database.value(
            "select aos_core.transition_allowed(%s, %s, %s)", machine, old, new
        )
        assert allowed == (new in drawn[old]), f"{machine}: {old} -> {new}"
    assert {new for after in drawn.values() for new in after} <= set(drawn)


def test_every_state_of_the_kernel_is_drawn(kernel_database: KernelDatabase) -> None:
    source = kernel_database.value(
        "select prosrc from pg_proc where oid = 'aos_core.transition_allowed'::regproc"
    )
    machines = json.loads(source[source.index("{") : source.rindex("}") + 1])
    assert set(machines) == set(MACHINES)
    for machine, cases in machines.items():
        known = {quoted(cells[0])[0] for cells in rows(section(f"### {machine}"))[1:]}
        assert set(cases) <= known
        assert {state for after in cases.values() for state in after} <= known


def test_the_errors_are_those_of_the_shell() -> None:
    listed = {quoted(code)[0]: quoted(name)[0] for code, name, _ in rows(section("## Errors"))[1:]}
    assert listed == {code: error.__name__ for code, error in SQLSTATES.items()}


def test_the_map_has_every_table_and_every_view(kernel_database: KernelDatabase) -> None:
    drawn = {name.rpartition(".")[2] for name in quoted(section("## The map"))}
    tables = names(
        kernel_database,
        "select relname::text from pg_class where relnamespace = any (%s::regnamespace[])"
        " and relkind in ('r', 'p') and not relispartition",
        list(SCHEMAS),
    )
    assert tables <= drawn
    views = names(
        kernel_database,
        "select relname::text from pg_class where relnamespace = any (%s::regnamespace[])"
        " and relkind = 'v' and relname !~ '_resource$' and relname <> 'conversation'",
        list(SCHEMAS),
    )
    assert views <= drawn


def test_the_roles_are_those_of_the_cluster(kernel_database: KernelDatabase) -> None:
    drawn = {quoted(cells[0])[0] for cells in rows(section("## Roles"))[1:]}
    there = names(
        kernel_database,
        "select rolname::text from pg_roles where rolname ~ '^aos_' and rolname !~ '^aos_sql_'"
        " and rolname not in ('aos_superuser', 'aos_installer')",
    )
    assert drawn == there | {"aos_sql_<16 hex digits>"}


def test_the_pages_program_verifies_a_chain(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    asked = tenant.respond(lease, ask(("web_search", {"query": 'naïve "quotes" \\ back'})))
    tenant.result(asked["calls"][0]["call_id"], lease, {"results": []})
    tenant.respond(lease, say("done"))
    program: dict[str, Any] = {}
    code = re.search(r"```python\n(.*?)```", section("## Events"), re.DOTALL)
    assert code
    exec(code[1], program)  # noqa: S102 - what the page tells people to run
    found = tenant.person.execute(program["EVENTS"], (tenant.id, run)).fetchall()
    head = tenant.database.rows(
        "select last_seq, encode(last_hash, 'hex') from aos_core.run where run_id = %s", run
    )[0]
    assert len(found) > 3
    assert program["verify"](found) == tuple(head)
    middle = program["verify"](found[:2])
    assert program["verify"](found[2:], bytes.fromhex(middle[1]), middle[0]) == tuple(head)
    forged = [*found[:1], (*found[1][:6], "user:mallory", *found[1][7:]), *found[2:]]
    with pytest.raises(ValueError, match="event 2 "):
        program["verify"](forged)
