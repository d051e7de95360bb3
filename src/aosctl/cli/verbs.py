"""The command table: every verb, its one line of help and its place in `--help`."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb lives (`aosctl.cli.<module>`) and how `aosctl --help` lists it."""

    module: str
    help: str
    group: str


START = "Start here"
DECLARE = "Declare what should be"
WORK = "Work with agents"
OPERATE = "Watch and steer"
SETTINGS = "Database and settings"

VERBS: dict[str, Verb] = {
    "quickstart": Verb("quickstart", "Bring up PostgreSQL, the kernel and a first agent", START),
    "apply": Verb("apply", "Create or change resources from manifests", DECLARE),
    "create": Verb("create", "Make a resource from flags", DECLARE),
    "diff": Verb("diff", "Show what apply would change", DECLARE),
    "get": Verb("get", "List resources", DECLARE),
    "describe": Verb("describe", "Show one resource in detail", DECLARE),
    "delete": Verb("delete", "Delete resources by name or manifest", DECLARE),
    "chat": Verb("chat", "Talk to an agent", WORK),
    "run": Verb("run", "Give an agent one task and wait for the answer", WORK),
    "ps": Verb("ps", "List runs", OPERATE),
    "logs": Verb("logs", "Show the events of a run or an agent", OPERATE),
    "approve": Verb("approve", "Allow tool calls that wait for a decision", OPERATE),
    "deny": Verb("deny", "Refuse tool calls that wait for a decision", OPERATE),
    "kill": Verb("kill", "Stop a run", OPERATE),
    "db": Verb("db", "Install the kernel and run the embedded database", SETTINGS),
    "secret": Verb("secret", "Make and change the master key of secrets", SETTINGS),
    "config": Verb("config", "Choose the database and tenant to work with", SETTINGS),
    "version": Verb("version", "Print the versions of the client and the kernel", SETTINGS),
    "completion": Verb("completion", "Print the completion script of a shell", SETTINGS),
}
