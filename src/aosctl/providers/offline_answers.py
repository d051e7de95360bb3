"""What the offline model says: results of the built-in tools, put into Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aosctl.messages import Json, JsonObject, Result
from aosctl.providers.passages import best_part, terms

ROWS_SHOWN = 50
CELL_AT_MOST = 80
PASSAGES_QUOTED = 3


def answer_for(kind: str, result: Result, question: str) -> str:
    """Say what a tool's result means; `kind` is the built-in, `question` the user's words."""
    data = _parse(result.text)
    if not result.ok or (set(data) & {"error"} and "hits" not in data):
        return trouble(kind, data, question)
    if "hits" in data:
        return quoted_hits(data, question)
    if kind == "memory_store":
        return "Remembered."
    if "columns" in data or "affected" in data or "row_count" in data:
        return rows(kind, data)
    if kind == "memory_recall":
        return memories(data)
    return _as_json(data, f"{result.name} answered:")


def rows(kind: str, data: JsonObject) -> str:
    """Show the rows of a statement as a Markdown table, and how many it read or changed."""
    columns = [str(name) for name in _list(data.get("columns"))]
    found = _list(data.get("rows"))
    parts = []
    if columns:
        parts.append(table(columns, [_cells(row, columns) for row in found[:ROWS_SHOWN]]))
    elif found:
        return _as_json({"rows": found[:ROWS_SHOWN]}, _affected(data))
    if kind == "sql_execute" or "affected" in data:
        parts.insert(0, _affected(data))
    else:
        parts.append(_count_line(data, len(found)))
    return "\n\n".join(parts)


def table(columns: list[str], cells: list[list[str]]) -> str:
    """Draw a Markdown table; columns of numbers are set right."""
    numeric = [
        bool(cells) and all(_is_number(row[i]) or row[i] == "NULL" for row in cells)
        for i in range(len(columns))
    ]
    lines = [[_cell(name) for name in columns], ["---:" if n else "---" for n in numeric], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quoted_hits(data: JsonObject, question: str) -> str:
    """Quote the best passages of a search, with numbered sources."""
    hits = [hit for hit in _list(data.get("hits")) if isinstance(hit, Mapping) and hit.get("text")]
    wanted = terms(question)
    if not hits:
        return ""
    telling = [hit for hit in hits if terms(f"{hit.get('title')} {hit['text']}") & wanted] or hits
    quotes: list[str] = []
    sources: list[str] = []
    for hit in telling[:PASSAGES_QUOTED]:
        source = _source(hit)
        if source not in sources:
            sources.append(source)
        lines = best_part(str(hit["text"]), wanted).split("\n")
        quote = "\n".join(f"> {line}".rstrip() for line in lines)
        # A mark right behind a code fence would be part of it.
        mark = f"[{sources.index(source) + 1}]"
        quotes.append(f"{quote}\n> {mark}" if lines[-1].startswith("```") else f"{quote} {mark}")
    listed = "\n".join(f"[{number}] {source}  " for number, source in enumerate(sources, 1))
    return "\n\n".join(["From this agent's documents:", *quotes, f"Sources:  \n{listed.rstrip()}"])


def memories(data: JsonObject) -> str:
    """List what was remembered, under whichever name the tool returns it."""
    entries = next((value for value in data.values() if isinstance(value, list)), None)
    if entries is None and "key" in data:
        entries = [dict(data)]
    if entries is None or not all(isinstance(entry, Mapping) for entry in entries):
        return _as_json(data, "I remember:")
    lines = [f"- {_cell(e.get('key'))}: {_cell(e.get('value'))}" for e in map(_object, entries)]
    return "\n".join(["I remember:", "", *lines]) if lines else "I remember nothing about that."


def trouble(kind: str, data: JsonObject, question: str) -> str:
    """Explain a refusal, a failure, or that a person must approve first."""
    why = str(data.get("error") or data.get("reason") or data.get("status") or "no reason given")
    if why.replace("_", " ").startswith("awaiting approval"):
        return (
            "That waits for a person's approval: `aosctl approve` lists it and decides it. "
            "I will tell the outcome."
        )
    what = "The statement was not run" if kind == "sql_execute" else f"{kind} did not work"
    parts = [f"{what}: {why}"]
    if data.get("hint"):
        parts.append(f"Hint: {data['hint']}")
    if "syntax error" in why and not question.rstrip().endswith(";"):
        parts.append("If that was a question and no SQL, begin it with another word.")
    return "\n\n".join(parts)


def late_outcome(text: str) -> str:
    """Sum up a message that tells how a waiting approval ended."""
    said = text.removeprefix("[approval]").strip()
    head, brace, tail = said.partition("{")
    data = _parse(brace + tail) if brace else {}
    if not data or "text" in data:
        return f"About the call that waited for approval: {said}"
    kind = head.partition(" ")[0]
    told = trouble(kind, data, "") if "error" in data else rows(kind, data)
    return f"About the call that waited for approval: {head.strip().rstrip(':')}.\n\n{told}"


def _affected(data: JsonObject) -> str:
    count = data.get("affected")
    count = count if isinstance(count, int) else data.get("row_count")
    return f"Done: {count} row{'' if count == 1 else 's'} affected."


def _count_line(data: JsonObject, fetched: int) -> str:
    count = data.get("row_count")
    total = count if isinstance(count, int) else fetched
    shown = min(fetched, ROWS_SHOWN)
    more = " or more" if data.get("truncated") else ""
    if shown < total or more:
        return f"({shown} of {total}{more} rows shown)"
    return f"({total} row{'' if total == 1 else 's'})"


def _cells(row: Json, columns: list[str]) -> list[str]:
    values = [row.get(name) for name in columns] if isinstance(row, dict) else _list(row)
    padded = [*values, *[None] * (len(columns) - len(values))]
    return [_cell(value) for value in padded[: len(columns)]]


def _cell(value: Json) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= CELL_AT_MOST else line[: CELL_AT_MOST - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell.lstrip("-").replace(".", "", 1).isdecimal()


def _source(hit: Mapping[str, Json]) -> str:
    title = _cell(hit.get("title") or "untitled")
    source = hit.get("source") or hit.get("collection")
    return f"{title} ({_cell(source)})" if source and source != hit.get("title") else title


def _as_json(data: JsonObject, heading: str) -> str:
    body = json.dumps(data, ensure_ascii=False, indent=2)
    return f"{heading}\n\n```json\n{body}\n```"


def _parse(text: str) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
