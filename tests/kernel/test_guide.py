"""The guide of the first README, statement by statement and word for word, for each caller.

Only its placeholders are filled in: the ids that it tells the reader to assume.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from kernels import Connection, KernelDatabase, MakeKernel, refused

GUIDE = Path(__file__).with_name("guide.md")
TENANT = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
CALLERS = ("superuser", "installer", "a principal with the role admin")


def statements() -> dict[str, list[str]]:
    """Return the guide's SQL statements, by step and, in step 5, by case."""
    found: dict[str, list[str]] = {}
    part, block = "", None
    for line in GUIDE.read_text().splitlines(keepends=True):
        if line.strip() == "```sql":
            block = ""
        elif line.strip() == "```" and block is not None:
            text = textwrap.dedent(block)
            found.setdefault(part, []).extend(re.findall(r"[^;]+;", text))
            block = None
        elif block is not None:
            block += line
        elif heading := re.match(r"(?:### |\d\.  \*\*|    \*   \*\*)(Step \d|Case [AB]|\w+)", line):
            part = heading[1]
    return found


class Reader:
    """Somebody who follows the guide: remembers the ids and fills them in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ids: dict[str, str] = {}

    def does(self, part: str) -> list[psycopg.Cursor[tuple[Any, ...]]]:
        """Run the statements of one part, each in a transaction of its own."""
        cursors = []
        for statement in STATEMENTS[part]:
            for placeholder, value in self.ids.items():
                statement = statement.replace(f"'{placeholder}'", f"'{value}'")
            cursors.append(self.connection.execute(statement.encode()))
        return cursors

    def gets(self, part: str) -> Any:
        """Run one part that is one query and return its single value."""
        (cursor,) = self.does(part)
        row = cursor.fetchone()
        assert row is not None and len(row) == 1 and cursor.rowcount == 1
        return row[0]

    def assumes(self, placeholder: str, value: Any) -> None:
        assert value is not None
        self.ids[placeholder] = str(value)

    def looks_up(self, query: str) -> Any:
        row = self.connection.execute(query.encode()).fetchone()
        return row[0] if row else None


STATEMENTS = statements()


def test_the_whole_guide_is_read() -> None:
    counts = {part: len(found) for part, found in STATEMENTS.items()}
    assert counts == {
        "Step 1": 2,
        "Step 2": 1,
        "Step 3": 1,
        "Step 4": 2,
        "Input": 1,
        "Start": 1,
        "Poll": 1,
        "Case A": 1,
        "Case B": 2,
    }


@pytest.fixture(params=CALLERS)
def reader(request: pytest.FixtureRequest, make_kernel: MakeKernel) -> Iterator[Reader]:
    """A reader in a new database, after steps 1 and 2."""
    database = make_kernel()
    role = "aos_superuser" if request.param == "superuser" else "aos_installer"
    founder = Reader(database.connect(role))
    step_1_and_2(founder)
    if request.param == CALLERS[2]:
        yield admin_of(database, founder)
    else:
        yield founder
    database.close()


def step_1_and_2(reader: Reader) -> None:
    assert len(STATEMENTS["Step 1"]) == 2
    tenant, principal = STATEMENTS["Step 1"]
    assert reader.connection.execute(tenant.encode()).statusmessage == "INSERT 0 1"
    reader.assumes(TENANT, reader.looks_up("select tenant_id from aos_auth.tenant"))
    filled = principal.replace(TENANT, reader.ids[TENANT])
    assert reader.connection.execute(filled.encode()).statusmessage == "INSERT 0 1"
    (models,) = reader.does("Step 2")
    assert [column.name for column in models.description or ()] == ["model_name", "context_window"]
    assert ("gpt-4o", 128000) in models.fetchall()


def admin_of(database: KernelDatabase, founder: Reader) -> Reader:
    """Make a login the tenant's admin, as the documentation says, and let it go on from step 3."""
    login = database.person("guide_admin", "aos_developer")
    founder.connection.execute(
        sql.SQL("insert into aos_auth.principal (tenant_id, display_name, db_role)"
                " values ({tenant}, 'Ada', {login});"
                " insert into aos_auth.role_grant (tenant_id, principal_id, role_name)"
                " select tenant_id, principal_id, 'admin' from aos_auth.principal"
                " where db_role = {login}").format(
            tenant=founder.ids[TENANT], login=login
        )
    )  # fmt: skip
    database.superuser.execute(
        sql.SQL("alter role {} in database {} set aos.tenant_id = {}").format(
            sql.Identifier(login), sql.Identifier(database.name), founder.ids[TENANT]
        )
    )
    reader = Reader(database.connect(login))
    reader.ids.update(founder.ids)
    return reader


def start_conversation(reader: Reader) -> None:
    """Steps 3 and 4, and the first two of step 5."""
    for part in ("Step 3", "Step 4"):
        assert [cursor.statusmessage for cursor in reader.does(part)] == [
            "INSERT 0 1" for _ in STATEMENTS[part]
        ]
    reader.assumes(
        "conversation_id", reader.looks_up("select conversation_id from aos_agent.conversation")
    )
    assert isinstance(reader.gets("Input"), UUID)
    turn = reader.gets("Start")
    assert isinstance(turn, UUID)
    reader.assumes("turn_id", turn)


def test_the_guide_works_word_for_word(reader: Reader) -> None:
    start_conversation(reader)
    state = reader.gets("Poll")
    assert state["messages"] == [{"role": "user", "content": "How do I optimize a join?"}]
    assert state["system_prompt"].startswith("You are a PostgreSQL Database Administrator.")
    offered = [tool["function"]["name"] for tool in state["tools"]]
    assert "web_search" in offered and "sql_execute" not in offered
    called, recorded = (cursor.fetchone()[0] for cursor in reader.does("Case B"))  # type: ignore[index]
    assert called["status"] == "approved"
    assert recorded["call_id"] == called["call_id"]
    messages = reader.gets("Poll")["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    asked = messages[1]["tool_calls"][0]
    assert asked["function"]["name"] == "web_search"
    assert json.loads(asked["function"]["arguments"]) == {"query": "postgres join optimization"}
    assert messages[2]["tool_call_id"] == asked["id"]
    assert json.loads(messages[2]["content"]) == {"result": "..."}
    assert reader.gets("Case A")["status"] == "completed"
    assert reader.gets("Poll")["messages"][-1] == {
        "role": "assistant",
        "content": "You should use an INNER JOIN...",
    }


def test_the_guide_works_without_a_tool(reader: Reader) -> None:
    start_conversation(reader)
    reader.gets("Poll")
    assert reader.gets("Case A")["status"] == "completed"
    with refused("AO002", "completed and takes nothing more"):
        reader.gets("Case A")


def test_a_conversation_returns_its_id(reader: Reader) -> None:
    reader.does("Step 3")
    agent, conversation = STATEMENTS["Step 4"]
    for statement in (agent, conversation.rstrip().rstrip(";") + " RETURNING conversation_id"):
        cursor = reader.connection.execute(statement.replace(TENANT, reader.ids[TENANT]).encode())
    row = cursor.fetchone()
    assert row is not None and isinstance(row[0], UUID)
    assert row[0] == reader.looks_up("select conversation_id from aos_agent.conversation")


def test_an_admin_selects_among_several_tenants(make_kernel: MakeKernel) -> None:
    database = make_kernel()
    founder = Reader(database.connect("aos_installer"))
    step_1_and_2(founder)
    founder.connection.execute("insert into aos_auth.tenant (name) values ('other_corp')")
    reader = admin_of(database, founder)
    start_conversation(reader)
    assert reader.looks_up("select count(*) from aos_auth.tenant") == 1
    database.close()
