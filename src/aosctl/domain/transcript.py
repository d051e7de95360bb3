"""What a worker knows of a run: the context and the messages, read once and kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aosctl.domain.sizes import text_tokens, tokens_of, tools_tokens
from aosctl.errors import AosError
from aosctl.messages import Message
from aosctl.providers.base import Compaction, ModelRequest, ModelSpec, Retry, ToolSpec
from aosctl.shown_media import with_pictures


@dataclass(slots=True)
class Transcript:
    """What a worker knows of a run, so that a turn reads only what is new to it."""

    config_version: int = -1
    agent: str = ""
    system: str = ""
    model: ModelSpec | None = None
    tools: tuple[ToolSpec, ...] = ()
    timeouts: dict[str, float] = field(default_factory=dict)
    plain: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What WorkerClient.call_settings would say of the skills that have no settings."""
    messages: list[Message] = field(default_factory=list)
    """In the order in which the model reads them: a summary of what went stands first."""
    steps: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Of each message: its step, and about how many tokens it takes."""
    fixed_tokens: int = 0
    first_step: int = 0
    """With which step the turn began, when the context was last read."""
    last_step: int = 0
    seen: int = 0
    """The last step that was ever known here."""
    left_out: str | None = None
    """Which steps the model reads no more, as the kernel says it; None for none."""
    max_output_tokens: int | None = None
    embeds: bool = False
    """The agent has collections that are searched by what a question means."""
    _payable_at: int = 0
    _rows: list[dict[str, Any]] | None = None
    """The tools as they were last read, and about how many tokens they take."""
    _tools_tokens: int = 0
    _size: int = 0
    """Of all messages."""
    _summary_step: int = 0
    """The last step of a summary."""
    _counted: int | None = None
    """The last question with its answer, as the model counted them, where that still holds."""
    _since: int = 0
    """The size of the messages after that answer."""

    @property
    def must_be_read(self) -> bool:
        """Tell whether what the run can pay for has changed since it was read."""
        return self.max_output_tokens is not None and self._payable_at != self.last_step

    def take(self, context: Mapping[str, Any]) -> None:
        """Take over what the kernel returned: the context, and the messages after `last_step`."""
        self.config_version = context["config_version"]
        self.agent = context.get("agent", "")
        self.system = context["system_prompt"]
        self.model = model_spec(context["model"])
        if context["tools"] != self._rows:
            self._take_tools(context["tools"])
        self.fixed_tokens = text_tokens(self.system) + self._tools_tokens
        self.first_step = context.get("first_step", 0)
        fresh = not self.messages
        for row in context["messages"]:
            if fresh or row["seq"] > self.last_step:
                self._append(row["seq"], Message.from_json(row["message"]))
        self.left_out = context.get("left_out")
        self.max_output_tokens = context.get("max_output_tokens")
        self.embeds = bool(context.get("embeds"))
        self._payable_at = self.last_step

    def _take_tools(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.tools = tuple(
            ToolSpec(row["name"], row["description"], row["input_schema"], row.get("builtin"))
            for row in rows
        )
        self.plain = {
            row["name"]: {
                "kind": row.get("builtin") or row["name"],
                "settings": {},
                "secrets": {},
                "timeout_seconds": row["timeout_seconds"],
            }
            for row in rows
            if row.get("is_plain")
        }
        self.timeouts = {row["name"]: float(row["timeout_seconds"]) for row in rows}
        self._tools_tokens = tools_tokens(self.tools)

    def is_search(self, skill: str) -> bool:
        """Tell whether calls of a skill are searches whose question is to be embedded."""
        return self.embeds and any(
            tool.builtin == "rag_search" and tool.name == skill for tool in self.tools
        )

    def forget_context(self) -> None:
        """Have prompt, model and tools read again for the next turn; the messages stay."""
        self.config_version = -1

    def is_outdated_by(self, context: Mapping[str, Any]) -> bool:
        """Tell whether messages that are known here are left out by now of what the model reads."""
        return bool(self.messages) and self.left_out != context.get("left_out")

    def forget(self) -> None:
        """Forget all, so that it is read anew."""
        self.messages.clear()
        self.steps.clear()
        self.sizes.clear()
        self._size = self._summary_step = self._since = 0
        self._counted = None
        self.last_step = 0
        self.forget_context()

    def add(self, step: int, message: Message) -> None:
        """Append one message; a step that is known already is left alone."""
        if step > self.last_step:
            self._append(step, message)

    def _append(self, step: int, message: Message) -> None:
        message = with_pictures(message)
        self.messages.append(message)
        self.steps.append(step)
        size = tokens_of(message)
        self.sizes.append(size)
        self._size += size
        self._reckon(step, message, size)
        self.last_step = max(step, self.last_step)
        self.seen = max(step, self.seen)

    def _reckon(self, step: int, message: Message, size: int) -> None:
        """Keep what the model counted last; what it counted before a summary holds no more."""
        if message.is_summary:
            self._summary_step = max(self._summary_step, step)
        if step <= self._summary_step:
            self._counted = None
        elif message.usage is not None and message.usage.prompt:
            self._counted, self._since = message.usage.total, 0
        else:
            self._since += size

    @property
    def everything(self) -> int:
        """Estimate the next question from its words alone, on the safe side."""
        return self.fixed_tokens + self._size

    @property
    def tokens(self) -> int:
        """Estimate the next question: as its model counted the last one, where that still holds."""
        if self._counted is None:
            return self.everything
        # Some leave out of what they count what they had in a cache.
        return max(self._counted + self._since, self.everything // 2)

    def request(self) -> ModelRequest:
        """Return the next question to the model."""
        if self.model is None:
            raise AosError("the context of the run has not been read")
        if self.max_output_tokens == 0:
            raise AosError(
                "budget: what is left of it does not pay for the next question",
                "aosctl resume RUN --max-usd N raises it for this run",
            )
        return ModelRequest(
            self.model, self.system, tuple(self.messages), self.tools, self.max_output_tokens
        )


def model_spec(row: Mapping[str, Any]) -> ModelSpec:
    """Return a row of the model registry as providers take it."""
    reference = row.get("api_key_ref") or ""
    script = row.get("script")
    return ModelSpec(
        provider=row["provider"],
        model=row["model"],
        name=row["name"],
        base_url=row.get("base_url"),
        api_key_env=_after("env:", reference),
        api_key_secret=_after("secret:", reference),
        params=row["params"],
        capabilities=row["capabilities"],
        context_window=row["context_window"],
        max_output_tokens=row["max_output_tokens"],
        timeout_seconds=float(row["timeout_seconds"]),
        script=tuple(script) if script is not None else None,
        retry=Retry(**row["retry"]),
        compaction=Compaction(**row.get("compaction", {})),
    )


def _after(prefix: str, reference: str) -> str | None:
    return reference.removeprefix(prefix) if reference.startswith(prefix) else None
