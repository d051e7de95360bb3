"""What a turn costs beside LangGraph with its Postgres checkpointer, and DBOS, on one server.

    pip install langgraph langgraph-checkpoint-postgres dbos    # what is not there is left out
    python tests/bench/peers.py [--rounds N] [--turns N] [--pg 14..18]

A turn is a question, a model's call of one tool, its result and an answer, all of which cost
nothing themselves. The floor is three plain INSERTs (turns.py). DBOS keeps what its steps return
and no conversation, which is a lighter job. All run in turns, on one server: quote the ratios, and
only from an idle machine. After the times come the bytes of each database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import psycopg

from bench.turns import ANSWER, QUESTION, RESULT, Floor, Kernel, prepare, throughput, timed
from postgres import Cluster

ARGS = {"query": "open orders this week"}


class Driver(Protocol):
    """Drives turns of one conversation until it is told to begin another."""

    def fresh(self) -> None: ...

    def turn(self) -> None: ...


class LangGraph:
    """A graph of two nodes, model and tool, whose messages its checkpointer keeps."""

    def __init__(self, dsn: str) -> None:
        from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
        from langgraph.checkpoint.postgres import PostgresSaver
        from langgraph.graph import END, START, MessagesState, StateGraph
        from psycopg.rows import dict_row

        def model(state: Any) -> dict[str, Any]:
            if state["messages"][-1].type == "tool":
                return {"messages": [AIMessage(ANSWER)]}
            call = {"name": "web_search", "args": ARGS, "id": uuid4().hex}
            return {"messages": [AIMessage("", tool_calls=[call])]}

        def tool(state: Any) -> dict[str, Any]:
            call = state["messages"][-1].tool_calls[0]
            return {"messages": [ToolMessage(RESULT["result"], tool_call_id=call["id"])]}

        def after(state: Any) -> str:
            return "tool" if state["messages"][-1].tool_calls else END

        graph = StateGraph(MessagesState)
        graph.add_node("model", model)
        graph.add_node("tool", tool)
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", after, ["tool", END])
        graph.add_edge("tool", "model")
        connection = psycopg.connect(
            dsn, autocommit=True, prepare_threshold=0, row_factory=dict_row
        )
        saver = PostgresSaver(connection)  # type: ignore[arg-type]
        saver.setup()
        self._graph: Any = graph.compile(checkpointer=saver)
        self._question = lambda: HumanMessage(QUESTION)
        self.fresh()

    def fresh(self) -> None:
        self._config = {"configurable": {"thread_id": uuid4().hex}}

    def turn(self) -> None:
        said = self._graph.invoke({"messages": [self._question()]}, self._config)
        assert said["messages"][-1].content == ANSWER


class Dbos:
    """A workflow of three steps: the model, the tool, the model."""

    _turn: Callable[[str], str]

    def __init__(self, dsn: str) -> None:
        if not hasattr(Dbos, "_turn"):
            Dbos._turn = staticmethod(_launch(dsn))

    def fresh(self) -> None:
        """A workflow knows of no conversation."""

    def turn(self) -> None:
        assert Dbos._turn(QUESTION) == ANSWER


def end_dbos() -> None:
    """End its threads, if it was begun, before its server goes."""
    if hasattr(Dbos, "_turn"):
        from dbos import DBOS

        DBOS.destroy()


def _launch(dsn: str) -> Callable[[str], str]:
    from dbos import DBOS

    settings: Any = {"name": "bench", "system_database_url": _url(dsn), "log_level": "ERROR"}
    DBOS(config={**settings, "run_admin_server": False})

    @DBOS.step()
    def ask(question: str) -> dict[str, Any]:
        return {"name": "web_search", "args": ARGS}

    @DBOS.step()
    def search(call: Mapping[str, Any]) -> dict[str, str]:
        return RESULT

    @DBOS.step()
    def answer(result: Mapping[str, str]) -> str:
        return ANSWER

    @DBOS.workflow()
    def turn(question: str) -> str:
        return answer(search(ask(question)))

    DBOS.launch()
    return turn


def _url(dsn: str) -> str:
    """Write a DSN as the URL that SQLAlchemy reads."""
    from urllib.parse import quote

    given = psycopg.conninfo.conninfo_to_dict(dsn)
    host = quote(str(given["host"]), safe="")
    port = f"&port={given['port']}" if "port" in given else ""
    return f"postgresql+psycopg://{given['user']}@/{given['dbname']}?host={host}{port}"


PEERS: dict[str, tuple[str, Callable[[str], Driver]]] = {
    "LangGraph": ("langgraph.checkpoint.postgres", LangGraph),
    "DBOS": ("dbos", Dbos),
}


def installed() -> list[str]:
    """Return the peers that are here, and say which are not."""
    found = []
    for name, (module, _) in PEERS.items():
        try:
            here = find_spec(module) is not None
        except ModuleNotFoundError:
            here = False
        if here:
            found.append(name)
        else:
            print(f"{name} is not installed, and left out")
    return found


def measured(makers: Mapping[str, Callable[[], Driver]], rounds: int, turns: int) -> None:
    """Print the medians of each, and how many times the floor's they are."""
    medians: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for name in list(makers) if number % 2 else list(reversed(makers)):
            driver = makers[name]()
            timed(driver.turn, 10)
            driver.fresh()
            one = statistics.median(timed(driver.turn, turns))
            fresh = statistics.median(timed(driver.turn, turns // 2, driver.fresh))
            medians.setdefault((name, f"{turns} in one"), []).append(one)
            medians.setdefault((name, "fresh"), []).append(fresh)
    for shape in (f"{turns} in one", "fresh"):
        print(f"{shape}:")
        for name in makers:
            times = medians[name, shape]
            ratios = [a / b for a, b in zip(times, medians["floor", shape], strict=True)]
            print(f"  {name}: {statistics.median(times):.2f} ms, {statistics.median(ratios):.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--pg", type=int, default=18)
    given = parser.parse_args()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(given.pg, durable=True))
        stack.callback(end_dbos)
        floor_dsn, kernel_dsn, worker_dsn = prepare(cluster)
        makers: dict[str, Callable[[], Driver]] = {
            "floor": lambda: Floor(floor_dsn),
            "aosctl, client tool": lambda: Kernel(kernel_dsn, worker_dsn, sql=False),
        }
        names = {"floor": "floor", "aosctl, client tool": "kernel"}
        with psycopg.connect(cluster.dsn(), autocommit=True) as server:
            for name in installed():
                names[name] = database = name.lower()
                server.execute(f"create database {database} owner aos_installer")
                dsn = cluster.dsn("aos_installer", database)
                makers[name] = lambda make=PEERS[name][1], dsn=dsn: make(dsn)  # type: ignore[misc]
        measured(makers, given.rounds, given.turns)
        for name, make in makers.items():
            print(f"8 at once, {name}: {throughput(make, 8, 4.0):.0f} turns/s")
        long = {name: make() for name, make in makers.items()}
        for name, driver in long.items():
            before = size(cluster, names[name])
            timed(driver.turn, 500)
            grown = size(cluster, names[name]) - before
            print(f"500 turns of one conversation, {name}: {grown / 1e6:.1f} MB")


def size(cluster: Cluster, database: str) -> int:
    """Return the bytes of a database, its free space not counted apart."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as server:
        row = server.execute("select pg_database_size(%s)", (database,)).fetchone()
    assert row
    return int(row[0])


if __name__ == "__main__":
    main()
