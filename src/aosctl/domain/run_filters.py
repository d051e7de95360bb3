"""Filters of runs, as docker's --filter: `state=running`, `agent=bot`, `label=team=data`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.db.runs import RunRow

_FIELDS: dict[str, Callable[[RunRow], str | None]] = {
    "agent": lambda run: run.agent,
    "state": lambda run: run.state,
    "kind": lambda run: run.kind,
    "model": lambda run: run.model,
    "persona": lambda run: run.persona,
    "tool": lambda run: run.tool,
    "waiting-on": lambda run: run.waiting_on,
    "created-by": lambda run: run.created_by,
}
KEYS = (*_FIELDS, "name", "label")
_OPEN_STATES = frozenset({
    "queued", "running", "abandoned", "awaiting_approval", "awaiting_resolution",
    "awaiting_input", "limited",
})  # fmt: skip
_STATES = _OPEN_STATES | {"idle", "paused", "completed", "failed", "cancelled"}


class Filters:
    """What `--filter` asks for: values of one key are alternatives, different keys all hold.

    Raises UsageError for a key or a state that there is not.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._wanted: dict[str, list[str]] = {}
        for text in texts:
            key, equals, value = text.partition("=")
            if key not in KEYS or not equals or not value:
                raise UsageError(
                    f'invalid filter "{text}"', f"KEY=VALUE, KEY one of {', '.join(KEYS)}"
                )
            if key == "state" and value not in _STATES:
                raise UsageError(f'no run has the state "{value}"', ", ".join(sorted(_STATES)))
            self._wanted.setdefault(key, []).append(value)

    @property
    def reaches_beyond_open(self) -> bool:
        """Tell whether a state is asked for that a run without an open turn may have."""
        return not set(self._wanted.get("state", ())) <= _OPEN_STATES

    def hold(self, run: RunRow) -> bool:
        """Tell whether a run is wanted."""
        return all(
            any(_matches(run, key, value) for value in values)
            for key, values in self._wanted.items()
        )


def _matches(run: RunRow, key: str, value: str) -> bool:
    if key == "name":
        return value in run.name
    if key == "label":
        label, equals, wanted = value.partition("=")
        return label in run.labels and (not equals or run.labels[label] == wanted)
    return _FIELDS[key](run) == value
