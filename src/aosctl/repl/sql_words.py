"""SQL's words, and what they let follow; for completion, not for a parser."""

from __future__ import annotations

STARTS = (
    "select", "insert into", "update", "delete from", "with", "explain", "explain analyze",
    "begin", "commit", "rollback", "savepoint", "set", "show", "reset", "values", "table", "merge",
    "create", "alter", "drop", "grant", "revoke", "truncate", "comment on", "call", "analyze",
)  # fmt: skip
TABLES_FOLLOW = frozenset(
    {"from", "join", "into", "update", "table", "truncate", "only", "analyze", "vacuum", "using"}
)
CALLABLE = frozenset({"select", "from", "join", "lateral"})
COLUMNS_FOLLOW = frozenset(
    {"select", "where", "on", "and", "or", "not", "having", "by", "set", "returning", "distinct"}
    | {"when", "then", "else", "case", "columns", "between", "like", "ilike", "in", "all", "any"}
    | {"limit", "values", "is", "filter", "over"}
)
INSERTED = "insert into … ("
"""The place of the names of columns in an INSERT."""
FUNCTIONS_FOLLOW = frozenset({"call", "function", "procedure"})
SCHEMAS_FOLLOW = frozenset({"schema"})
TYPES_FOLLOW = frozenset({"::"})
TYPES = (
    "bigint", "boolean", "bytea", "char", "date", "double precision", "inet", "int", "integer",
    "interval", "json", "jsonb", "name", "numeric", "oid", "real", "regclass", "regproc", "regrole",
    "regtype", "smallint", "text", "time", "timestamp", "timestamptz", "uuid", "varchar", "xml",
)  # fmt: skip

_JOINS = ("join", "left join", "right join", "full join", "cross join", "inner join", "lateral")
_TAIL = ("where", "group by", "having", "order by", "limit", "offset", "union", "union all",
         "intersect", "except", "for update")  # fmt: skip
AFTER_VALUE = (
    "and", "or", "from", "as", "is null", "is not null", "in", "between", "like", "ilike", "asc",
    "desc", *_TAIL,
)  # fmt: skip
"""What goes on behind a column, a number or a text."""
AFTER: dict[str, tuple[str, ...]] = {
    "from …": (*_JOINS, *_TAIL, "as", "on", "using", "returning"),
    "join …": ("on", "using", "as", *_JOINS, *_TAIL),
    "update …": ("set", "as"),
    "into …": ("values", "select", "default values", "on conflict", "returning"),
    "using …": (*_JOINS, *_TAIL, "on", "returning"),
    "(": ("select", "values", "with", "insert into", "update", "delete from"),
    "insert": ("into",),
    "delete": ("from",),
    "explain": ("select", "analyze", "insert into", "update", "delete from", "with"),
    "order": ("by",),
    "group": ("by",),
    "create": ("table", "index", "view", "schema", "function", "temp table", "role", "policy"),
    "drop": ("table", "index", "view", "schema", "function", "role", "policy"),
    "alter": ("table", "view", "schema", "function", "role"),
    "show": ("search_path", "statement_timeout", "server_version", "all", "time zone"),
    "reset": ("search_path", "statement_timeout", "all", "role"),
    "in": ("select",),
}
KEYWORDS = (
    "all", "and", "any", "array", "as", "asc", "between", "by", "case", "cast", "coalesce",
    "conflict", "cross join", "current_date", "current_timestamp", "current_user", "desc",
    "distinct", "do nothing", "do update set", "else", "end", "except", "exists", "false", "fetch",
    "filter", "for update", "from", "full join", "group by", "having", "ilike", "in", "inner join",
    "intersect", "interval", "is", "is not null", "is null", "join", "lateral", "left join", "like",
    "limit", "materialized", "not", "null", "nulls first", "nulls last", "offset", "on", "or",
    "order by", "over", "partition by", "recursive", "returning", "right join", "select",
    "session_user", "set", "similar to", "skip locked", "then", "true", "union", "union all",
    "using", "values", "when", "where", "window", "with", "within group",
)  # fmt: skip
RESERVED = frozenset([
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric",
    "authorization", "between", "binary", "both", "by", "case", "cast", "check", "collate",
    "column", "concurrently", "conflict", "constraint", "create", "cross", "current_date",
    "current_role", "current_time", "current_timestamp", "current_user", "default", "deferrable",
    "delete", "desc", "distinct", "do", "else", "end", "except", "exists", "false", "fetch",
    "for", "foreign", "from", "full", "grant", "group", "having", "ilike", "in", "initially",
    "inner", "insert", "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left",
    "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset",
    "on", "only", "or", "order", "outer", "overlaps", "placing", "primary", "references",
    "returning", "right", "select", "session_user", "set", "similar", "some", "symmetric",
    "table", "tablesample", "then", "to", "trailing", "true", "union", "unique", "update", "user",
    "using", "values", "variadic", "verbose", "when", "where", "window", "with",
])  # fmt: skip
"""What is no alias, and no name without quotes."""
