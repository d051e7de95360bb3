"""Commands about the agent: its persona, and what it may call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosctl.errors import NotFound
from aosctl.repl.commands.table import Command, staying
from aosctl.tables import cell, format_table
from aosctl.terminal import clean, shortened

if TYPE_CHECKING:
    from aosctl.domain.desk import PersonaVersion, Tool
    from aosctl.repl.chat import Chat

HEADERS = ["NAME", "EFFECT", "APPROVAL", "GRANTED-BY", "DESCRIPTION"]


def _skills(chat: Chat, _rest: str) -> None:
    tools = chat.back.desk.tools(chat.agent)
    if not tools:
        chat.say(f"{chat.agent} may call nothing")
        return
    table = format_table([HEADERS, *(_row(tool) for tool in tools)])
    width = chat.screen.width - 1
    chat.screen.show("\n".join(shortened(line, width) for line in table.splitlines()))


def _row(tool: Tool) -> list[str]:
    granted = f"role {tool.role}"
    about = cell(tool.description)
    return [cell(tool.name), tool.effect, approval_words(tool), cell(granted), about]


def approval_words(tool: Tool) -> str:
    """Say whether a call of a skill waits for a person, and what else has a word in it."""
    asks = tool.approval == "always" or (tool.approval == "risk" and tool.risk == "high")
    own = "asks" if asks else "no"
    policies = ", ".join(cell(name) for name in tool.policies)
    return f"{own}; policy {policies}" if policies else own


def _persona(chat: Chat, _rest: str) -> None:
    name, pinned = _pinned(chat)
    here = persona_here(chat)
    newest = chat.back.desk.persona(name)[-1]
    chat.screen.show(clean(f"persona {name}@{here.version}\n\n{persona_text(here)}"))
    if pinned is not None and here.version != newest.version:
        chat.say(f"this conversation keeps version {here.version}; the newest is {newest.version}:")
        chat.screen.show(clean(difference(here, newest)))


def persona_here(chat: Chat) -> PersonaVersion:
    """Return the version that the conversation keeps, or would begin with. Raises NotFound."""
    name, pinned = _pinned(chat)
    versions = chat.back.desk.persona(name)
    if not versions:
        raise NotFound(f'personas.aos "{name}" not found', "aosctl get personas")
    return next((each for each in versions if each.version == pinned), versions[-1])


def _pinned(chat: Chat) -> tuple[str, int | None]:
    """Return the persona's name and, once the run has begun, the version that it keeps."""
    if not chat.has_begun:
        return chat.back.desk.persona_of(chat.agent), None
    run = chat.back.desk.run(chat.run_here()[1])
    return run.persona, run.persona_version


def persona_text(version: PersonaVersion) -> str:
    """Return what a version says, as text of several lines."""
    lines = [f"model: {version.model}"]
    lines += [f"{name}: {value}" for name, value in sorted(version.params.items())]
    lines += [f"trait {name}: {value}" for name, value in sorted(version.traits.items())]
    lines += ["", *version.system_prompt.splitlines()]
    lines += ["", *(f"- {rule}" for rule in version.rules)] if version.rules else []
    return "\n".join(lines)


def difference(before: PersonaVersion, after: PersonaVersion) -> str:
    """Return what has changed between two versions, as a unified diff."""
    import difflib

    return "\n".join(
        difflib.unified_diff(
            persona_text(before).splitlines(),
            persona_text(after).splitlines(),
            f"version {before.version}",
            f"version {after.version}",
            lineterm="",
            n=2,
        )
    )


COMMANDS = (
    Command(
        "/persona",
        "the persona of this conversation, and its version",
        staying(_persona),
        busy=True,
    ),
    Command(
        "/skills", "what this agent may call, and what asks first", staying(_skills), busy=True
    ),
)
