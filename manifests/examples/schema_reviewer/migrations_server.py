"""An MCP server over stdin and stdout that lists and reads the migrations of a folder.

    python3 migrations_server.py [FOLDER]

It needs nothing but Python, and reads nothing but the `.sql` files of that folder.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "migrations")
VERSION = "2025-06-18"
READS = {"readOnlyHint": True, "openWorldHint": False}
TOOLS = [
    {
        "name": "list_migrations",
        "description": "List the migrations of the schema, in the order in which they run.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": READS,
    },
    {
        "name": "read_migration",
        "description": "Read the SQL of one migration.",
        "inputSchema": {
            "type": "object",
            "properties": {"name": {"type": "string", "description": "as list_migrations has it"}},
            "required": ["name"],
        },
        "annotations": READS,
    },
]


def migrations():
    return {path.name: path for path in sorted(FOLDER.glob("*.sql"))}


def call(name, arguments):
    """Return the text of a tool's answer, and whether it failed."""
    known = migrations()
    if name == "list_migrations":
        return "\n".join(known) or "there is none", False
    if name == "read_migration":
        wanted = arguments.get("name")
        if wanted in known:
            return known[wanted].read_text(encoding="utf-8"), False
        return f"no migration {wanted!r}; there are {', '.join(known)}", True
    return f"no tool {name!r}", True


def result_of(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", VERSION),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "migrations", "version": "1.0.0"},
        }
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        text, failed = call(params["name"], params.get("arguments") or {})
        return {"content": [{"type": "text", "text": text}], "isError": failed}
    if method == "ping":
        return {}
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue  # a notification
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    result = result_of(request["method"], request.get("params") or {})
    if result is None:
        answer["error"] = {"code": -32601, "message": f"no method {request['method']}"}
    else:
        answer["result"] = result
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
