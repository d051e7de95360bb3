"""Personas: every change is a new version that stays, and a run keeps the one it began with."""

from __future__ import annotations

from typing import Any

import pytest

from kernels import KernelDatabase, Tenant, apply, call, refused, say, user


def persona(tenant: Tenant, prompt: str, **more: Any) -> str:
    return apply(tenant.person, "aos_persona.apply_persona", tenant.id, "expert", {
        "systemPrompt": prompt, "model": "offline", **more,
    })  # fmt: skip


def history(tenant: Tenant) -> list[tuple[int, str, str]]:
    return tenant.person.execute(
        "select version, system_prompt, changed_by from aos_persona.persona_history"
        " where name = 'expert' order by version"
    ).fetchall()


def prompt_of(tenant: Tenant, lease: dict[str, Any]) -> str:
    context = call(
        tenant.worker, "aos_agent.turn_context", tenant.id, lease["turn_id"], lease["lease"]
    )
    return str(context["system_prompt"])


def test_every_change_is_a_new_version_with_its_author(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    assert [row[0] for row in history(tenant)] == [1]
    assert persona(tenant, "Second.") == "configured"
    assert persona(tenant, "Second.") == "unchanged"
    tenant.person.execute("update aos_persona.persona set system_prompt = 'Third.'")
    assert [(n, prompt) for n, prompt, _ in history(tenant)[1:]] == [(2, "Second."), (3, "Third.")]
    assert [who for *_, who in history(tenant)] == ["role:aos_superuser", "user:dev", "user:dev"]


@pytest.mark.parametrize(
    "change",
    [
        {"rules": ["Be brief."]},
        {"traits": {"tone": "dry"}},
        {"params": {"temperature": 0}},
        {"model": "gpt-4o"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_model_would_notice_makes_a_version(
    fresh_tenant: Tenant, change: dict[str, Any]
) -> None:
    assert persona(fresh_tenant, "You know PostgreSQL.", **change) == "configured"
    assert [row[0] for row in history(fresh_tenant)] == [1, 2]


def test_a_label_or_a_description_makes_none(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    assert persona(tenant, "You know PostgreSQL.", description="new") == "configured"
    tenant.person.execute('update aos_persona.persona set labels = \'{"a": "b"}\'')
    assert [row[0] for row in history(tenant)] == [1]
    assert tenant.database.value(
        "select generation from aos_persona.persona where tenant_id = %s", tenant.id
    ) == 3  # fmt: skip


@pytest.mark.parametrize(
    "verb",
    [
        "update aos_persona.persona_version set system_prompt = 'forged'",
        "delete from aos_persona.persona_version",
        "truncate aos_persona.persona_version cascade",
    ],
)
def test_a_version_never_changes(tenant: Tenant, verb: str) -> None:
    for connection, sqlstate in ((tenant.database.superuser, "AO010"), (tenant.person, "42501")):
        with refused(sqlstate):
            connection.execute(verb.encode())


def test_a_run_keeps_the_version_it_began_with(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    before = tenant.start_run()
    persona(tenant, "Changed since.", rules=["Be brief."], traits={"tone": "dry"})
    after = tenant.start_run()
    for run, prompt in (
        (before, "You know PostgreSQL."),
        (after, "Changed since.\n\nRules:\n- Be brief.\n\nTraits:\n- tone: dry"),
    ):
        for _ in range(2):
            lease = tenant.open(run, p_worker="w1")
            assert prompt_of(tenant, lease) == prompt
            tenant.respond(lease, say("yes"))
    versions = tenant.person.execute(
        "select run_id, persona_version from aos_core.run_status"
    ).fetchall()
    assert set(versions) == {(before, 1), (after, 2)}


def test_a_fork_keeps_the_version_of_its_origin(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.respond(tenant.open(run, p_worker="w1"), say("yes"))
    persona(tenant, "Changed since.")
    fork = call(tenant.person, "aos_agent.fork_run", tenant.id, run)
    lease = call(tenant.person, "aos_agent.open_turn", tenant.id, fork["run_id"], user("and?"),
                 p_worker="w1")  # fmt: skip
    assert prompt_of(tenant, lease) == "You know PostgreSQL."


def test_the_history_outlives_the_persona(fresh_tenant: Tenant) -> None:
    tenant = fresh_tenant
    apply(tenant.person, "aos_persona.apply_persona", tenant.id, "brief", {
        "systemPrompt": "Short life.", "model": "offline",
    })  # fmt: skip
    call(tenant.person, "aos_persona.delete_persona", tenant.id, "brief")
    left = tenant.person.execute(
        "select system_prompt from aos_persona.persona_history where name = 'brief'"
    ).fetchall()
    assert left == [("Short life.",)]
    assert "persona.deleted" in tenant.events(tenant.id)


def test_a_model_that_a_run_began_with_cannot_be_deleted(
    kernel_database: KernelDatabase, fresh_tenant: Tenant
) -> None:
    superuser = kernel_database.superuser
    call(superuser, "aos_meta.apply_model", "short-lived", {"labels": {}, "annotations": {}},
         {"provider": "offline"})  # fmt: skip
    persona(fresh_tenant, "You know PostgreSQL.", model="short-lived")
    fresh_tenant.start_run()
    persona(fresh_tenant, "You know PostgreSQL.")
    with refused("AO005", "still used"):
        call(superuser, "aos_meta.delete_model", "short-lived")
