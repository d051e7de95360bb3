"""Names of skills as the services admit them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aosctl.providers.base import ToolSpec


class ToolNames:
    """Skill names as the API admits them ([a-zA-Z0-9_-], 64 at most), and back."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self._sent: dict[str, str] = {}
        for tool in tools:
            name = wire = _admissible(tool.name)
            number = 2
            while wire in self._sent.values():
                wire, number = f"{name[:60]}_{number}", number + 1
            self._sent[tool.name] = wire
        self._skills = {wire: skill for skill, wire in self._sent.items()}

    def sent(self, skill: str) -> str:
        """Return the name to send for a skill, listed or not."""
        return self._sent.get(skill) or _admissible(skill)

    def skill(self, wire: str) -> str:
        """Return the skill that a model means; an unknown name stays as it is."""
        return self._skills.get(wire, wire)


def _admissible(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"
