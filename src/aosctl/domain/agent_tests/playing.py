"""What stands in for the world of a test: played models, and results of skills outside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aosctl.domain.agent_tests.matching import fits
from aosctl.domain.manifest import document_of
from aosctl.domain.sources import read_beside
from aosctl.domain.tools.base import Call, Tool, ToolResult
from aosctl.errors import ManifestError

if TYPE_CHECKING:
    from aosctl.domain.document import Document

PLAYED = "played."
"""How the models and personas of a test are named: `played.triage`."""
_KEPT = ("contextWindow", "maxOutputTokens", "capabilities", "pricing")


class Play(NamedTuple):
    """Who answers in a case: `scripts` by agent, or the model of this name for every agent."""

    scripts: Mapping[str, Sequence[Mapping[str, Any]]]
    model: str | None
    stubs: Mapping[str, Sequence[Mapping[str, Any]]]


def play_of(case: Mapping[str, Any], agent: str, folder: Any, asked: str | None) -> Play:
    """Return who answers in a case; `asked` is the model that --model names instead.

    Raises ManifestError for a recording that can't be read.
    """
    scripts = dict(case.get("scripts", {}))
    stubs = dict(case.get("stubs", {}))
    if "script" in case:
        scripts[agent] = case["script"]
    if "replay" in case:
        recording = read_recording(folder, case["replay"])
        scripts |= recording["scripts"]
        stubs = recording["stubs"] | stubs
    if asked is not None or "model" in case:
        return Play({}, asked or case["model"], stubs)
    return Play(scripts, None, stubs)


def read_recording(folder: Any, name: str) -> dict[str, Any]:
    """Read what `aosctl test record` wrote. Raises ManifestError."""
    try:
        found = json.loads(read_beside(folder, name))
    except ValueError as error:
        raise ManifestError(f"the recording {name}: {error}", "aosctl test record RUN") from None
    if not isinstance(found, dict) or not isinstance(found.get("scripts"), dict):
        raise ManifestError(f"{name} is no recording", "aosctl test record RUN -o FILE writes one")
    return {"scripts": found["scripts"], "stubs": found.get("stubs") or {}}


def played_model(
    agent: str, script: Sequence[Mapping[str, Any]], model: Mapping[str, Any]
) -> Document:
    """Return a model that plays a script, with the prices and the window of the agent's own."""
    spec = {key: model[key] for key in _KEPT if key in model}
    return document_of(
        {
            "apiVersion": "aos/v1",
            "kind": "Model",
            "metadata": {"name": played_name(agent)},
            "spec": {**spec, "provider": "script", "script": list(script)},
        }
    )


def recast(
    agent: str, tenant: str, model: str, manifests: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> list[Document]:
    """Return an agent's persona with another model, and the agent with that persona.

    `manifests` are the agent's spec and its persona's.
    """
    agent_spec, persona_spec = manifests
    name = played_name(agent)
    head = {"apiVersion": "aos/v1"}
    return [
        document_of(
            {
                **head,
                "kind": "Persona",
                "metadata": {"name": name, "tenant": tenant},
                "spec": {**persona_spec, "model": model},
            }
        ),
        document_of(
            {
                **head,
                "kind": "Agent",
                "metadata": {"name": agent, "tenant": tenant},
                "spec": {**agent_spec, "persona": name},
            }
        ),
    ]


def played_name(agent: str) -> str:
    """Return what the model and the persona of an agent are called while they are played."""
    return f"{PLAYED}{agent}"[:63].rstrip("._-")


class Stubbed(Mapping[str, Tool]):
    """The tools of a test: a skill with stubs returns what they say, any other acts."""

    def __init__(
        self, real: Mapping[str, Tool], stubs: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> None:
        self._real = real
        self._stubs = stubs

    def __getitem__(self, kind: str) -> Tool:
        return _Stub(kind, self._real, self._stubs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)


class _Stub:
    """One tool: what its skill's stubs say, else what it does."""

    def __init__(
        self,
        kind: str,
        real: Mapping[str, Tool],
        stubs: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        self.name = kind
        self._real = real
        self._stubs = stubs

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        if call.skill not in self._stubs:
            return self._real[self.name].run(args, call)
        for stub in self._stubs[call.skill]:
            if fits(stub.get("args", {}), dict(args)):
                if "error" in stub:
                    return ToolResult(False, {"error": stub["error"]})
                return ToolResult(True, stub.get("result"))
        return ToolResult(False, {"error": f"no stub of {call.skill} fits these arguments"})
