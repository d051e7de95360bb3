"""Tell a SQL statement that a person typed from a sentence that begins like one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# Quoted text, identifiers, dollar quotes and comments: nothing inside them is a keyword.
_QUOTED = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*+' | '[^']*+' | "[^"]*+" | \$((?:[A-Za-z_]\w*)?)\$.*?\$\1\$
      | --[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
_LEADING = re.compile(r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*.*?\*/)*+(?:\(\s*+)*+", re.DOTALL)
_FENCE = re.compile(
    r"\s*```(?:sql|postgresql|postgres)?\s*\n(.*?)```\s*", re.DOTALL | re.IGNORECASE
)

# What a statement looks like right after its first word; prose rarely does.
_SHAPES = {
    "with": r"with\s+(recursive\s+)?\S+\s*(\([^)]*\)\s*)?as\s+((not\s+)?materialized\s+)?\(",
    "values": r"values\s*\(",
    "table": r"table\s+(only\s+)?[\w.\"]+\s*(;|\Z|(order|limit|offset|fetch)\b)",
    "insert": r"insert\s+into\s+\S+",
    "update": r"update\s+(only\s+)?\S+(\s+(as\s+)?\w+)?\s+set\s",
    "delete": r"delete\s+from\s+\S+",
    "merge": r"merge\s+into\s+\S+",
}
_SELECT_SIGNS = re.compile(
    r"""\bfrom\b | [(*=|:'"<>+/] | \Aselect\s+\S+\s*\Z
      # a constant, and nothing after it that a sentence would have: "select 3 indexes" is prose
      | \Aselect\s+(all\s+|distinct\s+)?-?(\d+(\.\d+)?|true|false|null|current_\w+|session_user)
        \s*(,|;|\Z|\b(as|union|intersect|except|where|limit|offset|is|not|between)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_CHANGES_IN_WITH = re.compile(r"[()]\s*(insert|update|delete|merge)\b", re.IGNORECASE)
_OTHER_SHAPES = re.compile(
    r"""(show\s+[\w.]+\s*;?\s*\Z
      | (create|alter|drop)\s+(table|index|view|schema|role|user|function)\s+[\w."]+\s*[(;]
      | .*;\s*\Z)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_EXPLAIN = re.compile(r"explain\s+((analy[sz]e|verbose|\([^)]*\))\s*)*", re.IGNORECASE)
_OTHER_WORDS = frozenset(
    {"show", "create", "alter", "drop", "truncate", "grant", "revoke", "set", "reset"}
    | {"copy", "vacuum", "analyze", "begin", "commit", "rollback", "lock", "do", "call", "listen"}
    | {"notify", "refresh", "reindex", "cluster", "comment"}
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A typed statement and what it is: a read, a change, or nothing the SQL skills admit."""

    text: str
    kind: Literal["query", "execute", "refused"]
    word: str


def typed_sql(message: str) -> Statement | None:
    """Return the statement that a message is; None if the message is prose."""
    fence = _FENCE.fullmatch(message)
    text = (fence[1] if fence else message).strip()
    leading = _LEADING.match(text)
    rest = text[leading.end() :] if leading else text
    explained = _EXPLAIN.match(rest)
    if explained:  # what follows tells it from "explain to me"
        return Statement(text, "refused", "explain") if typed_sql(rest[explained.end() :]) else None
    first = re.match(r"[a-z]+\b", rest, re.IGNORECASE)
    word = first[0].lower() if first else ""
    if word != "select" and word not in _SHAPES and word not in _OTHER_WORDS:
        return None
    bare = _QUOTED.sub(_blank, rest).strip()
    ended = bare.endswith(";") or fence is not None
    if word == "select":
        reads = ended or (not bare.endswith("?") and bool(_SELECT_SIGNS.search(bare)))
        return Statement(text, "query", word) if reads else None
    if word in _SHAPES:
        if not re.match(_SHAPES[word], bare, re.IGNORECASE):
            return None
        changes = word in ("insert", "update", "delete", "merge") or (
            word == "with" and bool(_CHANGES_IN_WITH.search(bare))
        )
        return Statement(text, "execute" if changes else "query", word)
    return Statement(text, "refused", word) if _OTHER_SHAPES.match(bare) else None


def _blank(match: re.Match[str]) -> str:
    """Keep that something stood there: a comment as a space, a quote as an empty one."""
    return " " if match[0].startswith(("--", "/*")) else '"q"' if match[0][0] == '"' else "''"
