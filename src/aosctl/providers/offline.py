"""No model at all: look up the agent's documents, and run the SQL that a person types.

A message that is a SQL statement becomes a call of sql_query or sql_execute, `remember` and
`recall` use the memory, anything else is looked up with rag_search; the tool's result is then put
into words. The same request always gets the same answer, call ids aside. It goes through the real
tools, gates and approvals, so an agent can be tried with no key and no network.
"""

from __future__ import annotations

import json
import re

from aosctl.messages import Call, Json, Message, Origin, Result, Stop, Text, Usage
from aosctl.providers.base import (
    CallStarted,
    EventStream,
    Finished,
    Line,
    ModelRequest,
    TextDelta,
    ToolSpec,
    new_call_id,
    pieces,
)
from aosctl.providers.offline_answers import answer_for, late_outcome
from aosctl.providers.typed_sql import Statement, typed_sql

NOTICE = (
    "(I am no language model: I look things up in this agent's documents and run SQL that you "
    "type. To get one: `export OPENAI_API_KEY=...` and run `aosctl quickstart` again, or set "
    "`spec.model` of the agent's Persona and `aosctl apply -f` it.)"
)
QUERY_AT_MOST = 1000
_REMEMBER = re.compile(
    r"remember:?\s+(?:(?P<key>[^=\n]{1,60}?)\s*=\s*(?P<value>\S.*)|(?:that\s+)?(?P<fact>\S.*))",
    re.IGNORECASE | re.DOTALL,
)
_RECALL = re.compile(
    r"(?:recall|what do you remember(?: about| of)?)\b[:\s]*(?P<what>.*?)\s*\??", re.I | re.DOTALL
)
_SKILLS = {
    "rag_search": "ask a question, and I quote this agent's documents",
    "sql_query": "type a SELECT, WITH, VALUES or TABLE statement, and I run it",
    "sql_execute": "type an INSERT, UPDATE, DELETE or MERGE, and I run it once it is approved",
    "memory_store": "`remember KEY = VALUE`",
    "memory_recall": "`recall KEY`",
}


class OfflineProvider:
    """Answer without a language model, and say so."""

    name = "offline"

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Call a tool for the user's message, or put its result into words."""
        act = _Reply(request).act()
        origin = Origin("offline", "offline", request.model.model)
        if isinstance(act, Call):
            yield CallStarted(act.name)
            message = Message("assistant", (act,), Stop("tool"), Usage(), origin)
        else:
            first = not any(m.role == "assistant" and m.text for m in request.messages)
            text = f"{NOTICE}\n\n{act}" if first else act
            message = Message("assistant", (Text(text),), Stop("end"), Usage(), origin).sanitised()
            yield from map(TextDelta, pieces(message.text))
        yield Finished(message)


class _Reply:
    """What to do about one request."""

    def __init__(self, request: ModelRequest) -> None:
        self._tools: dict[str, ToolSpec] = {}
        for tool in request.tools:
            self._tools.setdefault(tool.kind, tool)
        self._kinds = {tool.name: tool.kind for tool in request.tools}
        self._messages = request.messages
        self._question = next((m.typed for m in reversed(request.messages) if m.role == "user"), "")

    def act(self) -> Call | str:
        """Choose a call, or the text of an answer."""
        results = self._fresh_results()
        if results:
            return "\n\n".join(self._tell(result) for result in results)
        text = self._question.strip()
        if text.startswith("[approval]"):
            return late_outcome(text)
        statement = typed_sql(text)
        if statement is not None:
            return self._run(statement)
        remember, recall = _REMEMBER.fullmatch(text), _RECALL.fullmatch(text)
        if remember is not None:
            return self._remember(remember)
        if recall is not None:
            what = recall["what"]
            exact = re.fullmatch(r"[\w.-]+", what) is not None
            args: dict[str, Json] = {"key" if exact else "query": what} if what else {}
            return self._call("memory_recall", args, "recall anything")
        if not text:
            return self._abilities("The message is empty.")
        if "rag_search" not in self._tools:
            return self._abilities("This agent can't look into documents.")
        return self._call("rag_search", {"query": text[:QUERY_AT_MOST]}, "look into documents")

    def _fresh_results(self) -> list[Result]:
        """Collect the results that came since the last answer."""
        found: list[Result] = []
        for message in reversed(self._messages):
            if message.role != "tool":
                break
            found = [*message.results, *found]
        return found

    def _tell(self, result: Result) -> str:
        kind = self._kinds.get(result.name, result.name)
        told = answer_for(kind, result, self._question)
        return told or self._abilities("I found nothing about that in this agent's documents.")

    def _run(self, statement: Statement) -> Call | str:
        if statement.kind == "refused":
            return (
                f"The SQL skills don't admit `{statement.word}`: they run select, with, values and "
                "table to read, and insert, update, delete and merge to change rows."
            )
        if statement.kind == "query":
            return self._call("sql_query", {"query": statement.text}, "read with SQL")
        return self._call("sql_execute", {"statement": statement.text}, "change rows with SQL")

    def _remember(self, match: re.Match[str]) -> Call | str:
        fact = match["fact"]
        key = match["key"] or "-".join(re.findall(r"\w+", fact.lower())[:5]) or "note"
        value = match["value"] or fact
        args: dict[str, Json] = {"key": key.removeprefix("that ").strip(), "value": value.strip()}
        return self._call("memory_store", args, "remember anything")

    def _call(self, kind: str, args: dict[str, Json], purpose: str) -> Call | str:
        tool = self._tools.get(kind)
        if tool is None:
            return self._abilities(f"This agent can't {purpose}: it lacks the skill {kind}.")
        return Call(new_call_id(), tool.name, json.dumps(args, ensure_ascii=False), args)

    def _abilities(self, why: str) -> str:
        can = [f"- {text}" for kind, text in _SKILLS.items() if kind in self._tools]
        if not can:
            return f"{why} It has no skill that I can use without a language model."
        return "\n".join([f"{why} What works without a language model:", "", *can])
