"""Flags that contradict each other: what each command refuses before it does anything.

A flag counts where it was typed with another value than its default: `--dry-run=none` is none. A
word without a dash is the command's argument of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from typer._click.core import ParameterSource

from aosctl.errors import UsageError

if TYPE_CHECKING:
    from typer._click import Context, Parameter

_WHOLE_SET = "it takes the whole set, and -l a part"
_ONE_TENANT = "choose a tenant with -n"
_LIMITS = "--budget --max-steps --max-turns"
_GOES_ON = "-c --resume --pick"
_ONLY_SHOWS = "it decides nothing"
_ONLY_LISTS = "-A only lists; " + _ONE_TENANT


class Rule(NamedTuple):
    """Each flag of `left` excludes each of `right`; without `right`, the others of `left`.

    `text` is the whole message, where kubectl or journalctl has one; {0} and {1} are the flags.
    """

    left: str
    right: str = ""
    why: str = ""
    hint: str | None = None
    text: str = "{0} and {1} exclude each other"

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield two flags, or arguments, of which only one may stand there."""
        left, right = self.left.split(), self.right.split()
        for place, one in enumerate(left):
            for other in right or left[place + 1 :]:
                yield one, other

    def error(self, one: str, other: str) -> UsageError:
        """Return what is said of two of them."""
        text = self.text.format(one, other)
        return UsageError(f"{text}: {self.why}" if self.why else text, self.hint)


_ASKS = Rule("--no-input", "-i", "-i asks")
_ALL_OR_LABELS = Rule("--all", "-l", text="cannot set --all and --selector at the same time")
_ALL_OR_FIELDS = Rule("--all", "--field-selector")
_EVERYWHERE = Rule("-A", "-n", "one changes every tenant, the other one")
_REMEMBERED = Rule("--principal --run", why="memory is of a person or of a run")
_TAKING_IN = (
    "-R --include --exclude --hidden --no-ignore --prefix --source --trust --prune --concurrency"
    " --max-bytes --allow-private"
)
_NAMED_RUNS = (Rule("-l --all", "RUN"), Rule("-l", "--all"))
_INBOX = Rule("-i", "ID --all --yes -A -o", "-i walks through what is pending")
_LISTED = Rule("-A", "ID -l --all", _ONLY_LISTS)

RULES: dict[str, tuple[Rule, ...]] = {
    "apply": (
        Rule("--prune", "-l", _WHOLE_SET),
        Rule("--no-atomic", "--prune --diff --confirm", "it is about a whole set"),
        Rule("--dry-run=client", "--diff --confirm", "it tries the change on the server"),
        Rule("--no-input", "--confirm", "--confirm asks"),
    ),
    "diff": (Rule("--prune", "-l", _WHOLE_SET),),
    "describe": (Rule("-f", "-A"),),
    "label": (_ALL_OR_LABELS, _ALL_OR_FIELDS, _EVERYWHERE),
    "annotate": (_ALL_OR_LABELS, _ALL_OR_FIELDS, _EVERYWHERE),
    "patch": (Rule("-p", "--patch-file", text="must specify one of --patch or --patch-file"),),
    "wait": (_ALL_OR_LABELS,),
    "delete": (
        _ASKS,
        _ALL_OR_LABELS,
        _ALL_OR_FIELDS,
        Rule("-f", "--field-selector --all", "-f says what to delete"),
        Rule("--cascade", "-f", "--cascade goes with names"),
        Rule(
            "--confirm",
            "-f -l --field-selector --all -i --cascade --ignore-not-found",
            "--confirm erases one tenant that is named",
        ),
    ),
    "schema": (Rule("--all", "KIND -o", "--all DIR writes every schema"),),
    "chat": (
        Rule("-c --resume --fork --pick"),
        Rule(
            "-m", _GOES_ON, "a run keeps its model", "aosctl chat --fork RUN --model MODEL"
        ),
        Rule(
            _LIMITS,
            f"{_GOES_ON} --fork",
            "limits are set when a run begins",
            "aosctl resume RUN --max-usd USD --max-steps N --max-turns N changes this one's",
        ),
        Rule("--system --ephemeral", f"{_GOES_ON} --fork", "it is for a new conversation"),
        Rule(
            "--pick",
            "-p -o --approve --output-schema --raw-output --no-input",
            "--pick opens a chat",
            "aosctl chat --resume RUN …",
        ),
        Rule("-o", "--no-stream --raw-output"),
    ),
    "run": (
        Rule("-d", "--wait --approve --no-stream --raw-output --output-schema", "-d does not wait"),
        Rule("--wait", "--approve"),
        Rule("-o", "--no-stream --raw-output"),
    ),
    "shell": (Rule("-c", "-f"),),
    "ps": (
        Rule("-w", "--forest --last --sort-by", "-w prints changes as they come", "aosctl top"),
        Rule("--forest", "--sort-by -q -o", "--forest is a table with an order of its own"),
        Rule("-q", "-o", "-q prints names"),
    ),
    "top": (Rule("-w", "--once", "-w goes on"),),
    "logs": (
        Rule("--since", "--since-time", text="only one of --since-time / --since may be used"),
        Rule("--since --since-time", "--after-cursor"),
        Rule("RUN", "-l", text="only a selector (-l) or a {0} is allowed"),
        Rule("-f", "--until --show-cursor", "-f goes on"),
        Rule("--until", "--show-cursor", "the cursor is of all there is", "-o json"),
        Rule("-p", "-l", "-p is of one run or agent", "aosctl logs -p agent/NAME"),
    ),
    "events": (Rule("-A", "-w --for", _ONE_TENANT),),
    "trace": (
        Rule("--html --svg -o"),
        Rule("-w", "--html --svg -o", "-w draws on the terminal"),
    ),
    "approve": (
        _ASKS,
        _INBOX,
        Rule("-i", "--show --edit --match"),
        _LISTED,
        Rule("ID", "--all -l"),
        Rule("--all", "-l"),
        Rule("--show", "--yes --reason --expires --edit --match -A", _ONLY_SHOWS),
        Rule("-o", "--yes --reason --expires --edit --match", "-o only shows"),
        Rule("--edit", "--all -l", "--edit is for one approval"),
        Rule("--scope", "--all -l -i -A", "--scope is for approvals that are named"),
        Rule("--scope", "--show -o", "--scope decides"),
    ),
    "deny": (
        _ASKS,
        _INBOX,
        _LISTED,
        Rule("ID", "--all -l"),
        Rule("--all", "-l"),
        Rule("-o", "ID --all -l --yes --reason", "-o is for the list"),
    ),
    "replay": (Rule("--diff", "-o", "-o json has both sides"),),
    "resolve": (
        Rule("--retry --result --fail"),
        Rule("--reason", "--retry --result", "--reason goes with --fail"),
        Rule("-A", "CALL --retry --result --fail", _ONLY_LISTS),
        Rule("-o", "CALL --retry --result --fail --reason", "-o is for the list"),
    ),
    "memory get": (_REMEMBERED,),
    "memory search": (_REMEMBERED,),
    "memory set": (
        _REMEMBERED,
        Rule("--pin", "--expires", "what is pinned does not expire"),
    ),
    "memory rm": (_REMEMBERED, Rule("--all", "MEMORY", "--all is everything there")),
    "ingest": (
        Rule("--list", f"--remove --dry-run {_TAKING_IN}", "--list takes nothing in"),
        Rule("--remove", _TAKING_IN, "--remove takes nothing in"),
        Rule("--source", "-R --include --exclude --prune", "--source is of one document"),
    ),
    "kill": _NAMED_RUNS,
    "resume": _NAMED_RUNS,
    "audit verify": (Rule("-f", "--run --since", "-f verifies a whole export"),),
    "db harden": (Rule("--dump-sql", "--app-role --dry-run --undo --yes"),),
    "auth can-i": (
        Rule("--list", "VERB", "--list is of everything"),
        Rule("--list", "-q", "its list is the answer"),
    ),
    "auth grant": (Rule("--for", "--until", text="only one of --for / --until may be used"),),
    "secret init": (Rule("--file", "--keyring"),),
    "version": (Rule("--client", "--kernel", "--client is of the client alone"),),
    "config set-context": (
        Rule("--dsn", "--service"),
        Rule("NAME", "--current", text="name a context or use --current, not both"),
    ),
}  # fmt: skip
"""By a spelling of the flag, or as the metavar of the argument begins; `--dry-run=client` is one of
its values."""
TOLD_BY_THEMSELVES = ("chat", "run")
"""Commands whose output has an object for what goes wrong too: they call `refuse` themselves."""


def refuse(ctx: Context) -> None:
    """Raise UsageError where two of the flags that were typed contradict each other."""
    rules = RULES.get(words_of(ctx), ())
    if not rules or ctx.resilient_parsing:
        return
    typed: set[str] = set()
    place: Context | None = ctx
    while place is not None:  # global flags may stand before the verb
        for param in place.command.params:
            if place.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
                typed |= _names(param, place.params.get(param.name or "", True))
        place = place.parent
    for rule in rules:
        for one, other in rule.pairs:
            if one in typed and other in typed:
                raise rule.error(one, other)


def words_of(ctx: Context) -> str:
    """Return the command as it is typed: `config view`."""
    return ctx.command_path.partition(" ")[2]


def excluded_by(words: str, typed: Collection[str]) -> set[str]:
    """Return the flags of a command that contradict one of these."""
    pairs = [pair for rule in RULES.get(words, ()) for pair in rule.pairs]
    return {other for pair in pairs for one, other in (pair, pair[::-1]) if one in typed}


def _names(param: Parameter, value: object) -> set[str]:
    """Return what rules may call a flag that has this value; nothing if that is its default."""
    if value == param.default or value in (None, ()):
        return set()
    if param.param_type_name == "argument":
        return {str(param.metavar or param.name).partition(" ")[0].strip("[]\u2026")}
    if value is False:
        return set(param.secondary_opts)
    return {*param.opts, *(f"{spelling}={value}" for spelling in param.opts)}
