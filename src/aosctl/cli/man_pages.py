"""Manual pages in roff's man macros, from the command tree that `--help` shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from typer._click import Command, Context, Parameter
from typer.core import TyperArgument, TyperGroup, TyperOption

from aosctl import __version__
from aosctl.cli.app import Root
from aosctl.cli.loading import first_line
from aosctl.cli.verbs import VERBS

_EXAMPLES = re.compile(r"^Examples?:\n", re.MULTILINE)


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page's file name and its text, which is plain ASCII."""
    root = Root()
    with root.make_context("aosctl", [], resilient_parsing=True) as ctx:
        yield "aosctl.1", _root_page(root, ctx)
        for verb in VERBS:
            command = root.get_command(ctx, verb)
            if command is not None:
                yield from _walk(("aosctl", verb), command, ctx)


def _walk(words: tuple[str, ...], command: Command, above: Context) -> Iterator[tuple[str, str]]:
    ctx = Context(command, info_name=words[-1], parent=above)
    below = command.commands if isinstance(command, TyperGroup) else {}
    shown = {name: sub for name, sub in below.items() if not sub.hidden}
    yield f"{'-'.join(words)}.1", _page(words, command, ctx, shown)
    for name, sub in shown.items():
        yield from _walk((*words, name), sub, ctx)


def _root_page(root: Root, ctx: Context) -> str:
    parts = [_title(("aosctl",), root.help or ""), _synopsis("aosctl", "COMMAND [options]")]
    parts.append(f".SH DESCRIPTION\n{_text(root.help or '')}")
    for group in dict.fromkeys(verb.group for verb in VERBS.values()):
        rows = [(f"aosctl-{name}(1)", v.help) for name, v in VERBS.items() if v.group == group]
        parts.append(f".SH {_quoted(group.upper())}\n" + "".join(_item(*row) for row in rows))
    parts.append(
        ".SH GLOBAL OPTIONS\nBefore or after the command.\n" + _items(root.params, ctx, TyperOption)
    )
    parts.append(f".SH EXIT STATUS\n{_text(_STATUS)}")
    return "".join(parts)


_STATUS = """\
0 done, 1 error, 2 wrong usage, 130 interrupted, 141 nobody reads the output; aosctl diff 1 for a
difference; a one-shot chat or run 3 when an approval is pending, 4 failed or killed, 5 out of a
limit."""


def _page(words: tuple[str, ...], command: Command, ctx: Context, below: dict[str, Command]) -> str:
    text, examples = _split(command.help or "")
    arguments = [p.make_metavar(ctx) for p in command.params if p.param_type_name == "argument"]
    usage = "COMMAND [options]" if below else " ".join([*filter(None, arguments), "[options]"])
    parts = [_title(words, text), _synopsis(" ".join(words), usage)]
    parts.append(f".SH DESCRIPTION\n{_text(text)}")
    if below:
        rows = [(f"{'-'.join(words)}-{n}(1)", first_line(sub)) for n, sub in below.items()]
        parts.append(".SH COMMANDS\n" + "".join(_item(*row) for row in rows))
    if told := _items(command.params, ctx, TyperArgument):
        parts.append(f".SH ARGUMENTS\n{told}")
    if options := _items(command.params, ctx, TyperOption):
        parts.append(f".SH OPTIONS\n{options}")
    if examples:
        parts.append(f".SH EXAMPLES\n{_verbatim(examples)}")
    above = "-".join(words[:-1])
    parts.append(f".SH SEE ALSO\n.BR {_escaped(above)} (1)\n")
    return "".join(parts)


def _split(text: str) -> tuple[str, str]:
    """Split a help text at its examples."""
    found = _EXAMPLES.search(text)
    if found is None:
        return text, ""
    return text[: found.start()], text[found.end() :]


def _title(words: tuple[str, ...], text: str) -> str:
    name = "-".join(words)
    line = text.strip().partition("\n")[0].rstrip(".")
    head = f'.TH "{_escaped(name.upper())}" 1 "" "aosctl {__version__}" "aosctl manual"\n'
    return f"{head}.SH NAME\n{_escaped(name)} \\- {_escaped(line)}\n"


def _synopsis(name: str, rest: str) -> str:
    return f".SH SYNOPSIS\n.B {_escaped(name)}\n{_line(rest)}\n"


def _items(params: list[Parameter], ctx: Context, of: type[Parameter]) -> str:
    """Return the options, or those arguments of which there is something to say."""
    found = []
    for param in params:
        record = param.get_help_record(ctx) if isinstance(param, of) else None
        if record is None or getattr(param, "hidden", False):
            continue
        if record[1] not in ("", "[required]"):
            found.append(_item(*record))
    return "".join(found)


def _item(name: str, text: str) -> str:
    return f".TP\n.B {_quoted(name)}\n{_line(text)}\n"


def _text(text: str) -> str:
    """Return paragraphs; what is indented keeps its lines."""
    parts = []
    for paragraph in re.split(r"\n{2,}", text.strip()):
        if paragraph.startswith("  "):
            parts.append(_verbatim(paragraph))
        else:
            parts.append(_line(" ".join(paragraph.split())) + "\n")
    return ".PP\n".join(parts)


def _verbatim(text: str) -> str:
    lines = "".join(f"{_line(line)}\n" for line in text.strip("\n").split("\n"))
    return f".nf\n{lines}.fi\n"


def _line(text: str) -> str:
    """Return one line of text, which roff must not take for a request."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped[:1] in (".", "'", "") else escaped


def _quoted(text: str) -> str:
    """Return one argument of a macro."""
    return '"' + _escaped(text).replace('"', "\\(dq") + '"'


def _escaped(text: str) -> str:
    """Return text with what roff reads, and what is not ASCII, as escapes."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti")
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
