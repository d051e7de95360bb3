"""A turn that hands work on, driven in one process over a real model's wire."""

from __future__ import annotations

import json

import pytest

from aosctl.domain.loop_events import CallEnded, Delegated, Helping, TextDelta
from kernels import apply
from providers.wire_openai import Reply, Request, calls, error, text
from talks import Stage, Talk

TASK = ("ask_helper", {"task": "look around"})


@pytest.fixture
def team(play: Stage) -> Stage:
    """The agent `asker` may ask `helper`; the same wire answers both."""
    admin, tenant = play.database.superuser, play.tenant.id
    apply(admin, "aos_persona.apply_persona", tenant, "helper", {
        "systemPrompt": "You help.", "model": play.model,
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", tenant, "helper", {
        "persona": "helper", "skills": ["memory_store"],
    })  # fmt: skip
    apply(admin, "aos_skills.apply_skill", tenant, "ask_helper", {
        "description": "Ask the helper.", "agent": {"name": "helper"}, "risk": "low",
        "effect": "transactional", "touches": [], "input": {
            "type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]},
    })  # fmt: skip
    admin.execute(
        "update aos_agent.agent set skills = skills || '{ask_helper}'"
        " where tenant_id = %s and name = 'asker'",
        (tenant,),
    )
    return play


def help_once(talk: Talk) -> bool:
    return talk.conversation.help(talk.events.append, talk.stop)


def test_the_process_of_a_turn_drives_whom_it_asks(team: Stage) -> None:
    talk = team.talk()
    team.answer(calls(TASK, TASK), text("Found one."), text("Found two."), text("All done."))
    assert talk.send("Go.").state == "waiting"
    assert [e.agent for e in talk.events if isinstance(e, Delegated)] == ["helper"] * 2
    assert not any(isinstance(e, CallEnded) for e in talk.events)
    assert talk.resume() is None  # nothing to drive but the children
    assert help_once(talk) and help_once(talk) and not help_once(talk)
    outcome = talk.resume()
    assert outcome is not None and (outcome.state, outcome.text) == ("completed", "All done.")
    _, one, two, last = team.wire.requests
    assert one.messages == two.messages == [
        {"role": "system", "content": "You help."}, {"role": "user", "content": "look around"},
    ]  # fmt: skip
    answers = [json.loads(m["content"])["answer"] for m in last.messages if m["role"] == "tool"]
    assert answers == ["Found one.", "Found two."]
    assert talk.said == "All done."  # a child's words are not this run's
    assert any(isinstance(e, Helping) for e in talk.events)
    team.assert_at_rest(talk, "completed")


def test_a_child_whose_model_fails_is_a_failed_result(team: Stage) -> None:
    talk = team.talk()
    team.answer(calls(TASK), error(401), text("Then without."))
    talk.send("Go.")
    assert help_once(talk)
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Then without."
    ((skill, ok, said),) = team.results(talk)
    assert (skill, ok) == ("ask_helper", False) and "did not finish" in said


def test_ctrl_c_in_a_child_ends_the_turn_and_keeps_the_run(team: Stage) -> None:
    talk = team.talk()

    def interrupt(_request: Request) -> Reply:
        talk.stop.set()
        return text("Too ", "late.")

    team.answer(calls(TASK), interrupt)
    talk.send("Go.")
    assert help_once(talk)
    row = talk.conversation.status()
    assert (row.run_state, row.turn_state, row.children) == ("active", "cancelled", None)
    assert not any(isinstance(e, TextDelta) for e in talk.events)
