"""The command table: every verb, its one line of help and its place in `--help`."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb lives (`aosctl.cli.<module>`) and how `aosctl --help` lists it."""

    module: str
    help: str
    group: str


ABOUT = "The shell of pgAgentOS, an operating system for AI agents inside PostgreSQL."
USAGE = "aosctl COMMAND [options]"
AFTERWARDS = 'Use "aosctl COMMAND --help" for more about a command.'
GLOBALS = "Global options, before or after the command"
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
    "edit": Verb("edit", "Change resources in your editor", DECLARE),
    "label": Verb("label", "Set and remove labels", DECLARE),
    "annotate": Verb("annotate", "Set and remove annotations", DECLARE),
    "patch": Verb("patch", "Change some fields of resources", DECLARE),
    "replace": Verb("replace", "Replace resources that are there by manifests", DECLARE),
    "rollout": Verb("rollout", "Show a persona's versions, and go back to one", DECLARE),
    "wait": Verb("wait", "Wait until resources or runs are as they should be", DECLARE),
    "delete": Verb("delete", "Delete resources by name or manifest", DECLARE),
    "explain": Verb("explain", "Say what the fields of manifests mean", DECLARE),
    "schema": Verb("schema", "Print JSON Schemas of manifests, for editors", DECLARE),
    "api-resources": Verb("api_resources", "List the kinds and their short names", DECLARE),
    "api-versions": Verb("api_versions", "List the versions of manifests", DECLARE),
    "chat": Verb("chat", "Talk to an agent", WORK),
    "run": Verb("run", "Give an agent one task and wait for the answer", WORK),
    "shell": Verb("shell", "A prompt in which every verb works, and SQL", WORK),
    "worker": Verb("worker", "Drive runs in the background", WORK),
    "schedule": Verb("schedule", "Let schedules rest and go on, and run one now", WORK),
    "mcp": Verb("mcp", "Use tools of MCP servers, and be one", WORK),
    "ingest": Verb("ingest", "Take documents into a collection", WORK),
    "search": Verb("search", "Find passages of collections, as an agent would", WORK),
    "test": Verb("agent_test", "Test agents: play conversations, check what comes of them", WORK),
    "skill": Verb("skill", "Try a skill as an agent would use it", WORK),
    "memory": Verb("memory", "Read, set and forget what agents remember", WORK),
    "ps": Verb("ps", "List runs", OPERATE),
    "top": Verb("top", "Watch runs live", OPERATE),
    "logs": Verb("logs", "Show what was said and done in runs", OPERATE),
    "events": Verb("events", "List what happened in a tenant", OPERATE),
    "trace": Verb("trace", "Show the steps of a run, with time and cost", OPERATE),
    "approve": Verb("approve", "Allow tool calls that wait for a decision", OPERATE),
    "deny": Verb("deny", "Refuse tool calls that wait for a decision", OPERATE),
    "attach": Verb("attach", "Show a run so far, and go on with it", OPERATE),
    "steer": Verb("steer", "Tell an agent something while it works", OPERATE),
    "fork": Verb("fork", "Begin a new run with what was said in another", OPERATE),
    "replay": Verb("replay", "Ask a run's questions again, and compare", OPERATE),
    "resolve": Verb("resolve", "Say what became of calls whose outcome is unknown", OPERATE),
    "kill": Verb("kill", "Stop runs, for good or for a while", OPERATE),
    "resume": Verb("resume", "Let a run go on that is paused or at a limit", OPERATE),
    "cost": Verb("cost", "Show what was paid for, by agent, model or day", OPERATE),
    "audit": Verb("audit", "Verify the audit trail, sign its heads, take it away", OPERATE),
    "export": Verb("export", "Take everything of a tenant away", OPERATE),
    "db": Verb("db", "Install the kernel and run the embedded database", SETTINGS),
    "auth": Verb("auth", "Say who may do what; give and take roles", SETTINGS),
    "doctor": Verb("doctor", "Check the kernel, the server and this client's files", SETTINGS),
    "secret": Verb("secret", "Make and change the master key of secrets", SETTINGS),
    "config": Verb("config", "Choose the database and tenant to work with", SETTINGS),
    "whoami": Verb("whoami", "Say who you are, where, and with which roles", SETTINGS),
    "plugin": Verb("plugin", "List the programs that add verbs", SETTINGS),
    "man": Verb("man", "Write the manual pages", SETTINGS),
    "version": Verb("version", "Print the versions of the client and the kernel", SETTINGS),
    "completion": Verb("completion", "Print the completion script of a shell", SETTINGS),
}
