"""Lines of every command, as the grids run them: what is printed, what is refused, what is done.

A command that is new gets its lines here: `test_hygiene_grid` names it until then. A line may say
{MILD} and the other names of `hostile.World`; lines run in this order, each in the world that
those before it left. The first line of a command is the one that runs with every sort of stream.
"""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A command line, its exit status, and on which of its streams something is printed."""

    text: str
    status: int
    out: bool
    err: bool
    stdin: str


def shows(text: str, status: int = 0, stdin: str = "") -> Line:
    """Return a line that prints data and says nothing."""
    return Line(text, status, out=True, err=False, stdin=stdin)


def tells(text: str, status: int = 0, stdin: str = "") -> Line:
    """Return a line that prints data, and something for the person on stderr."""
    return Line(text, status, out=True, err=True, stdin=stdin)


def says(text: str, status: int = 0, stdin: str = "") -> Line:
    """Return a line with nothing but words for the person."""
    return Line(text, status, out=False, err=True, stdin=stdin)


def fails(text: str, status: int = 1, stdin: str = "") -> Line:
    """Return a line that is refused."""
    return says(text, status, stdin)


def quiet(text: str, status: int = 0) -> Line:
    """Return a line that prints nothing at all."""
    return Line(text, status, out=False, err=False, stdin="")


APART = {"db psql": "becomes psql: test_db_verb runs it"}
"""Commands that no process can run in turn with others."""
KINDS = (
    "personas,skills,principals,collections,policies,agents,budgets,runs,turns,approvals,events,"
    "allowances,secrets"
)
LINES: dict[str, tuple[Line, ...]] = {
    "": (
        shows("--help"), shows("--version"), shows("help get"), fails("{EVIL}", 2),
        fails("--{EVIL}", 2), fails("secret {EVIL}", 2),
    ),
    "get": (
        shows(f"get {KINDS}"), shows("get tenants,models"), shows("get all -o wide --show-labels"),
        shows("get agents,personas -A"), shows(f"get {KINDS},models,tenants -o json"),
        shows(f"get {KINDS},models,tenants -o yaml"), shows("get personas -L note"),
        shows("get all -o custom-columns=N:.metadata.name,S:.spec"), shows("get all -o name"),
        shows("get runs -o wide --sort-by=.metadata.name"),
        shows("get agents -o custom-columns=x\x1b[2J\u202e:.metadata.name"),
        says("get agents -l a=b"), fails("get {EVIL}", 2), fails("get persona {FORGED}"),
        fails("get persona {EVIL}", 2),
        fails("get agents {FORGED}"), fails("get all -o {EVIL}", 2),
        fails("get agents -l {EVIL}", 2), fails("get agents -o jsonpath={{EVIL}", 2),
        fails("get agents --field-selector {EVIL}", 2), fails("get agents -n {FORGED}"),
        fails("get agents --sort-by={EVIL}", 2), fails("get agents --context {FORGED}"),
        fails("get agents --dsn host={EVIL}", 2), fails("get agents --dsn postgresql://{EVIL}", 2),
    ),
    "describe": (
        shows("describe persona hostile"), shows(f"describe {KINDS}"),
        shows("describe tenants,models"), fails("describe agents nope{FORGED}"),
        fails("describe agent {EVIL}", 2),
    ),
    "create tenant": (
        shows("create tenant {NEW}t --display-name {MILD}"),
    ),
    "create model": (
        shows("create model {NEW} --provider=openai --model={MILD} --base-url=http://x"),
    ),
    "create persona": (
        shows("create persona {NEW} --model=offline --prompt={MILD} --description={MILD}"),
        tells("create persona {NEW}x --model=offline --prompt={MILD} --dry-run=client -o yaml"),
        tells("create persona {NEW}x --model=offline --prompt={MILD} --dry-run=client -o json"),
    ),
    "create agent": (
        shows("create agent {NEW} --persona={NEW} --description={MILD}"),
        fails("create agent {NEW} --persona={NEW}"),
        fails("create agent {EVIL} --persona={NEW} --dry-run=client -o yaml"),
        fails("create agent {FORGED} --persona={NEW}"),
        fails("create agent {NEW}x --persona={FORGED}"),
    ),
    "create skill": (
        shows("create skill {NEW} --builtin=sql_query --description={MILD}"),
    ),
    "create mcpserver": (
        tells("create mcpserver {NEW} --url=https://x.example --dry-run=client -o yaml"),
        fails("create mcpserver {NEW} --url={MILD}"),
    ),
    "create policy": (
        shows("create policy {NEW} --skill=sql_query --decision=ask --reason={MILD}"),
    ),
    "create budget": (
        shows("create budget {NEW} --max-usd=1"),
    ),
    "create schedule": (
        tells(
            "create schedule {NEW} --agent={NEW} --schedule=@daily --timezone=UTC"
            " --concurrency-policy=Forbid --dry-run=client -o yaml {MILD}"
        ),
        fails("create schedule {NEW} --agent={NEW} --schedule={MILD} x"),
        fails("create schedule {NEW} --agent={NEW} --schedule=@daily --timezone={FORGED} x"),
    ),
    "schedule pause": (fails("schedule pause {EVIL}"), fails("schedule pause {FORGED}")),
    "schedule resume": (fails("schedule resume {EVIL}"), fails("schedule resume {FORGED}")),
    "schedule run": (fails("schedule run {EVIL}"), fails("schedule run {FORGED} -o name")),
    "create collection": (
        shows("create collection {NEW} --description={MILD}"),
    ),
    "create secret": (
        shows("create secret {NEW} --from-env=A_SECRET"),
        fails("create secret {NEW} --from-env={EVIL}", 2),
    ),
    "create principal": (
        shows("create principal {NEW} --display-name {MILD}"),
        fails("create principal {NEW}b --role {EVIL}", 2),
    ),
    "apply": (
        shows("apply -f {MANIFEST}"), shows("apply -f {MANIFEST} --dry-run=server -o yaml"),
        fails("apply -f {BROKEN}"), fails("apply -f {ODD}"), fails("apply -f {ODDHOME}/none.yaml"),
        fails("apply -f -", stdin="kind: \u202e\u009b2J"),
    ),
    "replace": (
        shows("replace -f {OTHER} --dry-run=server"), fails("replace -f {ODD}"),
    ),
    "diff": (
        shows("diff -f {OTHER}", 1), fails("diff -f {ODD}", 2),
    ),
    "label": (
        shows("label agent {NEW} a=b"), fails("label agent {NEW} a={EVIL}"),
        shows("label agents --all --list"),
    ),
    "annotate": (
        shows("annotate agent {NEW} note={MILD}"), fails("annotate agent {NEW} {EVIL}={TEXT}"),
        shows("annotate agents,personas --all --list"),
    ),
    "patch": (
        shows("patch agent {NEW} -p {PATCH}"), fails("patch agent {NEW} -p {TEXT}"),
        fails("patch agent {NEW} -p {\"spec\":{\"persona\":\"\\x1b[2J\\u202e\"}}"),
    ),
    "edit": (
        says("edit agent {NEW}"),
    ),
    "rollout history": (
        shows("rollout history persona/hostile"),
        shows("rollout history persona/hostile --revision 1"),
    ),
    "rollout undo": (
        fails("rollout undo persona/{NEW}"), fails("rollout undo persona/hostile --dry-run=server"),
    ),
    "wait": (
        shows("wait agent/{NEW} --for=jsonpath={.spec.persona}={NEW} --timeout=0s"),
        fails("wait run/{SHOWN} --for=condition={EVIL} --timeout=0s", 2),
        fails("wait run/{SHOWN} --for=jsonpath={.metadata.name}={FORGED} --timeout=0s"),
    ),
    "delete": (
        shows("delete agent {NEW} --dry-run=server"), tells("delete agents {NEW} {FORGED}", 1),
        shows("delete persona,skill,policy,budget,collection,secret,principal {NEW}"),
    ),
    "explain": (
        shows("explain agent --recursive"), fails("explain agent.{EVIL}"), fails("explain {EVIL}"),
    ),
    "schema": (
        shows("schema agent"), fails("schema {EVIL}"), fails("schema agent -o {ODDHOME}/no/x.json"),
        shows("schema --all {ODDHOME}/schemas"),
    ),
    "api-resources": (
        shows("api-resources -o wide"),
    ),
    "api-versions": (
        shows("api-versions"),
    ),
    "steer": (
        tells("steer {STEERED} {MILD}"), fails("steer {OVER} {MILD}"),
    ),
    "chat": (
        shows("chat hostile hello"), fails("chat {EVIL} hello"),
        shows("chat hostile hello -o json"), shows("chat hostile hello -o stream-json"),
        shows("chat hostile", stdin="\u001b[2J\u202e"), fails("chat broken hello", 4),
    ),
    "run": (
        shows("run hostile hello"), fails("run broken hello", 4),
        tells("run hostile hello -d --name {NEW}-r"), shows("run hostile hello -o json"),
        fails("run hostile hello --name {EVIL}"),
    ),
    "shell": (
        tells("shell -c {LINES}"), shows("shell -c {SQL}"),
    ),
    "worker": (
        says("worker --once"), fails("worker --once --lease {EVIL}", 2),
        fails("worker --once --listen {EVIL}", 2),
    ),
    "test record": (
        fails("test record {MILD}"), fails("test record {MILD} -o /dev/null", 2),
        shows("test --help"), fails("test -f {MILD}"), fails("test -R", 2),
        fails("test -f {MILD} -o {MILD}", 2),
    ),
    "ingest": (
        tells("ingest {NEW} - --source {MILD}", stdin="\u001b[2J \u202e text"),
        says("ingest {NEW} {ODD} --dry-run", 1), fails("ingest {NEW} {EVIL}", 1),
        fails("ingest {FORGED} -", stdin="x"), fails("ingest {NEW} - --trust {EVIL}", 2, stdin="x"),
        shows("ingest {NEW} --list"), shows("ingest {NEW} --list -o json"),
        fails("ingest {NEW} --remove {FORGED}"), shows("ingest {NEW} --remove {MILD}"),
    ),
    "search": (
        shows("search {NEW} text"), shows("search {NEW} text -o json"),
        says("search {NEW} {FORGED}", 1), fails("search {FORGED} text"),
        fails("search {NEW} text --limit {EVIL}", 2),
    ),
    "skill test": (
        fails("skill test sql_query --agent clerk"), fails("skill test {MILD}"),
        fails("skill test sql_query --args {MILD}"),
        shows("skill test sql_query --agent clerk --dry-run", 1),
    ),
    "memory set": (
        shows("memory set {MILD} {MILD} --agent hostile"),
        shows("memory set {NEW} {MILD} --agent hostile -o yaml"),
        fails("memory set {NEW} x --agent {FORGED}"), fails("memory set {EVIL} {EVIL}"),
        fails("memory set x y --type {EVIL}", 2), fails("memory set x y --expires {EVIL}"),
    ),
    "memory get": (
        shows("memory get"), shows("memory get -o wide"), shows("memory get {MILD}"),
        shows("memory get -o json"), fails("memory get {FORGED}"),
        says("memory get --agent {EVIL}"),
    ),
    "memory search": (
        shows("memory search {MILD}"), says("memory search {FORGED} --principal {FORGED}"),
    ),
    "memory rm": (
        shows("memory rm {MILD} --agent hostile"), fails("memory rm {FORGED} --agent hostile"),
        shows("memory rm --all --agent hostile --yes"), fails("memory rm {EVIL} --run {FORGED}"),
    ),
    "ps": (
        tells("ps"), tells("ps -a"), tells("ps -a -o wide"), shows("ps -a -o json"),
        tells("ps --forest -a"), fails("ps --filter {EVIL}", 2),
        fails("ps --filter state={FORGED}", 2),
    ),
    "top": (
        shows("top --once"), shows("top --once -a"),
    ),
    "logs": (
        shows("logs agent/hostile"), shows("logs agent/clerk -o json"),
        tells("logs agent/hostile --timestamps --prefix --tail 5 --show-cursor"),
        fails("logs {SHOWN} -g {EVIL}", 2), says("logs -l a=b"), fails("logs {FORGED}"),
        fails("logs {EVIL}"),
        fails("logs agent/{FORGED}"), fails("logs {SHOWN} --since {EVIL}", 2),
        fails("logs {SHOWN} --after-cursor {EVIL}", 2),
    ),
    "events": (
        shows("events"), shows("events -o json"), fails("events --types {EVIL}", 2),
        shows("events --for {SHOWN}"), fails("events --for {FORGED}"),
    ),
    "trace": (
        shows("trace {TRACED}"), shows("trace {TRACED} -o json"),
        says("trace {TRACED} --svg {SVG}"), says("trace {TRACED} --html {HTML}"),
        shows("trace {TRACED} --html -"), fails("trace {FORGED}"),
    ),
    "approve": (
        tells("approve"), shows("approve --show"), shows("approve -o json"),
        fails("approve {FORGED}"), fails("approve {EVIL}"),
        shows("approve {APPROVED} --reason {TEXT}"),
    ),
    "deny": (
        tells("deny"), shows("deny {DENIED} --reason {TEXT}"), fails("deny {DENIED}"),
        fails("deny {EVIL}"),
    ),
    "attach": (
        tells("attach {OVER}", 4), fails("attach {FORGED}"),
    ),
    "fork": (
        tells("fork {FORKED}"), fails("fork {FORKED} --name {FORGED}"),
        fails("fork {FORKED}@{EVIL}", 2),
    ),
    "replay": (
        fails("replay {FORGED}"), fails("replay {OVER}@{EVIL}", 2),
    ),
    "resolve": (
        tells("resolve"), tells("resolve -o wide"), shows("resolve -o json"),
        shows("resolve {RESOLVED} --fail --reason {TEXT}"), fails("resolve {FORGED} --retry"),
        fails("resolve {RESOLVED} --result {TEXT}"),
    ),
    "kill": (
        shows("kill {SHOWN} -s STOP"), shows("kill {KILLED} --reason {TEXT}"),
        fails("kill {KILLED}"), fails("kill {FORGED}"), fails("kill {EVIL}"),
        fails("kill {SHOWN} -s {EVIL}", 2),
    ),
    "resume": (
        shows("resume {SHOWN}"), fails("resume {FORGED}"), fails("resume {EVIL}"),
    ),
    "cost": (
        shows("cost"), shows("cost --by run"), fails("cost --by {EVIL}", 2), shows("cost -o json"),
    ),
    "audit verify": (
        shows("audit verify"), fails("audit verify --run {FORGED}"), fails("audit verify -f {ODD}"),
    ),
    "audit checkpoint": (
        tells("audit checkpoint"),
    ),
    "audit public-key": (
        shows("audit public-key"),
    ),
    "audit export": (
        shows("audit export"),
    ),
    "audit prune": (
        says("audit prune --dry-run"),
    ),
    "export tenant": (
        shows("export tenant acme"), fails("export tenant {FORGED}"),
        quiet("export tenant acme -o {EXPORT}"),
    ),
    "db start": (
        fails("db start {EVIL}", 2),
    ),
    "db stop": (
        shows("db stop"),
    ),
    "db reset": (
        shows("db reset --yes"),
    ),
    "db url": (
        shows("db url"),
    ),
    "db status": (
        shows("db status"), shows("db status -o json"),
    ),
    "db install": (
        tells("db install"),
    ),
    "db upgrade": (
        shows("db upgrade"),
    ),
    "db harden": (
        shows("db harden --dump-sql"), fails("db harden", 2),
    ),
    "db uninstall": (
        fails("db uninstall", 2),
    ),
    "db backup": (
        fails("db backup {ODDHOME}/none/x", 2), says("db backup {BACKUP}"),
    ),
    "db restore": (
        fails("db restore {ODD}"),
    ),
    "auth whoami": (
        shows("auth whoami"),
    ),
    "auth can-i": (
        shows("auth can-i --list"), shows("auth can-i --list --as hostile"),
        shows("auth can-i get agents"), fails("auth can-i apply {EVIL}"),
        fails("auth can-i {EVIL} agents"), fails("auth can-i get agents --as {FORGED}"),
    ),
    "auth grant": (
        tells("auth grant hostile viewer --for 1h"), fails("auth grant {FORGED} viewer"),
        fails("auth grant hostile {FORGED}"),
    ),
    "auth roles": (
        shows("auth roles"), shows("auth roles hostile"),
    ),
    "auth revoke": (
        shows("auth revoke hostile viewer"), fails("auth revoke hostile viewer"),
    ),
    "doctor": (
        tells("doctor", 1), tells("doctor -o json", 1), fails("doctor --only {EVIL}", 2),
    ),
    "mcp tools": (
        fails("mcp tools {FORGED}"), fails("mcp tools {EVIL}"),
    ),
    "mcp add": (
        fails("mcp add {FORGED} {MILD}"), fails("mcp add {EVIL} --all"), fails("mcp add x", 2),
    ),
    "mcp diff": (
        fails("mcp diff {FORGED}"), fails("mcp diff {EVIL}"),
    ),
    "mcp approve": (
        fails("mcp approve {FORGED}"), fails("mcp approve {EVIL} --yes"),
    ),
    "mcp serve": (
        fails("mcp serve --http {EVIL}", 2), fails("mcp serve -n {FORGED}"),
    ),
    "secret init": (
        tells("secret init --file {ODDHOME}/{NEW}.key"),
    ),
    "secret rotate": (
        fails("secret rotate --new-key-from file:{ODD}"),
    ),
    "config set-context": (
        shows("config set-context {NEW} --tenant acme --dsn host={EVIL}"),
        fails("config set-context {EVIL} --tenant acme"),
        shows("config set-context {NEW} --tenant {EVIL}"),
    ),
    "config get-contexts": (
        shows("config get-contexts"), tells("config get-contexts {FORGED}", 1),
    ),
    "config use-context": (
        shows("config use-context {NEW}"), fails("config use-context {FORGED}"),
    ),
    "config current-context": (
        shows("config current-context"),
    ),
    "config trust": (
        fails("config trust {FORGED}"),
    ),
    "config view": (
        shows("config view"), shows("config view -o json"),
    ),
    "config rename-context": (
        shows("config rename-context {NEW} {NEW}b"), fails("config rename-context {NEW}b {EVIL}"),
    ),
    "config delete-context": (
        tells("config delete-context {NEW}b"), fails("config delete-context {FORGED}"),
    ),
    "whoami": (
        shows("whoami"), shows("whoami -o json"),
    ),
    "plugin list": (
        fails("plugin list"),
    ),
    "man": (
        shows("man {ODDHOME}/man"), fails("man {ODD}/x"),
    ),
    "version": (
        shows("version"), shows("version --kernel"), shows("version -o json"),
        fails("version --kernel -o {EVIL}", 2),
    ),
    "completion": (
        shows("completion bash"), fails("completion {EVIL}", 2),
    ),
    "quickstart": (
        tells("quickstart --dsn {DSN}", 4),
    ),
    "__complete": (
        shows("__complete names:agents*  1  agents"), shows("__complete names:agents*  1 "),
    ),
}  # fmt: skip
