"""Secrets in the kernel: only sealed values come in, and a worker has its model's alone."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from kernels import META, SEALED, KernelDatabase, Tenant, apply, call, make_tenant, refused, say

OTHER = SEALED.replace("aos1.0", "aos1.f")
CANARY = "canary-in-the-clear"


@pytest.fixture
def secret(fresh_tenant: Tenant) -> Tenant:
    put(fresh_tenant, {"api": SEALED})
    return fresh_tenant


def put(tenant: Tenant, data: dict[str, str], name: str = "keys") -> Any:
    spec = {"data": {key: {"sealed": value} for key, value in data.items()}}
    return call(tenant.person, "aos_auth.apply_secret", tenant.id, name, META, spec)


def row(tenant: Tenant, name: str = "keys") -> Any:
    return tenant.database.rows(
        "select generation, data from aos_auth.secret where tenant_id = %s and name = %s",
        tenant.id, name,
    )[0]  # fmt: skip


def test_a_secret_is_created_changed_and_deleted_with_digests_in_the_events(
    fresh_tenant: Tenant,
) -> None:
    tenant = fresh_tenant
    assert put(tenant, {"api": SEALED}) == "created"
    assert put(tenant, {"api": SEALED}) == "unchanged"
    assert put(tenant, {"api": SEALED, "more": OTHER}) == "configured"
    call(tenant.person, "aos_auth.delete_secret", tenant.id, "keys")
    with refused("AO001"):
        call(tenant.person, "aos_auth.delete_secret", tenant.id, "keys")
    events = tenant.database.rows(
        "select kind, data from aos_core.event_log where stream_id = %s and kind like 'secret.%%'"
        " order by seq",
        tenant.id,
    )
    assert [kind for kind, _ in events] == ["secret.created", "secret.changed", "secret.deleted"]
    assert all(set(data) == {"name", "generation", "sha256"} for _, data in events)
    assert tenant.faults(tenant.id) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"data": {"api": {"sealed": CANARY}}},
        {"data": {"api": CANARY}},
        {"data": {"api": {"fromEnv": CANARY}}},
        {"data": {"api": {"sealed": SEALED + CANARY}}},
        {"data": {"api": {"sealed": f"{CANARY}\n{SEALED}"}}},
        {"data": {"api": {"sealed": {"sealed": SEALED}}}},
        {"data": {"a key": {"sealed": SEALED}}},
        {"data": {}},
        {"data": [CANARY]},
        {"data": CANARY},
        {CANARY: 1},
        {"data": {f"k{n}": {"sealed": SEALED} for n in range(101)}},
        {"data": {"api": {"sealed": SEALED.replace("A" * 40, "A" * 100_000)}}},
    ],
)
def test_what_is_not_sealed_is_refused_and_not_repeated(
    fresh_tenant: Tenant, spec: dict[str, Any]
) -> None:
    with refused("AO006") as caught:
        call(fresh_tenant.person, "aos_auth.apply_secret", fresh_tenant.id, "keys", META, spec)
    said = caught.value.diag
    assert CANARY not in f"{said.message_primary}{said.message_detail}{said.message_hint}"


def test_the_table_itself_takes_no_bare_value(fresh_tenant: Tenant) -> None:
    insert = "insert into aos_auth.secret (tenant_id, name, data) values (%s, 'x', %s)"
    for connection in (fresh_tenant.person, fresh_tenant.database.superuser):
        with refused("23514"):
            connection.execute(insert, (fresh_tenant.id, '{"api": "bare"}'))
    fresh_tenant.person.execute(insert, (fresh_tenant.id, f'{{"api": "{SEALED}"}}'))


def test_rewrapping_changes_the_wrapping_alone(secret: Tenant) -> None:
    generation, _ = row(secret)

    def rewrap(data: dict[str, str], at: int = generation) -> None:
        call(secret.person, "aos_auth.rewrap_secret", secret.id, "keys", at, data)

    for data in ({"api": SEALED[:-1] + "B"}, {"api": SEALED.replace(".AAAA", ".BAAA")},
                 {"more": SEALED}, {}, {"api": SEALED, "more": SEALED}):  # fmt: skip
        with refused("AO006", "re-wrapping changes no value"):
            rewrap(data)
    with refused("AO005", "changed meanwhile"):
        rewrap({"api": OTHER}, generation + 1)
    rewrap({"api": OTHER})
    assert row(secret) == (generation + 1, {"api": OTHER})
    with refused("AO001"):
        call(secret.person, "aos_auth.rewrap_secret", secret.id, "none", 1, {})


def model(tenant: Tenant, reference: str | None) -> None:
    """Give the agent "bot" a model with this spec.apiKeySecret."""
    name = f"model-{tenant.name}"
    spec = {"provider": "openai", **({"apiKeySecret": reference} if reference else {})}
    admin = tenant.database.superuser
    call(admin, "aos_meta.apply_model", name, META, spec)
    apply(admin, "aos_persona.apply_persona", tenant.id, "expert", {
        "systemPrompt": "x", "model": name,
    })  # fmt: skip


def key_of(tenant: Tenant, lease: dict[str, Any]) -> Any:
    return call(
        tenant.worker, "aos_agent.model_secret", tenant.id, lease["turn_id"], lease["lease"]
    )


def test_the_worker_of_a_turn_has_the_secret_of_its_model_and_no_other(secret: Tenant) -> None:
    put(secret, {"one": OTHER, "two": SEALED}, "several")
    expected = {"secret": "keys", "key": "api", "sealed": SEALED}
    for reference in ("keys", "keys/api"):
        model(secret, reference)
        lease = secret.open(secret.start_run(), p_worker="w1")
        assert key_of(secret, lease) == expected
    model(secret, "several/one")
    run = secret.start_run()
    lease = secret.open(run, p_worker="w1")
    assert key_of(secret, lease)["sealed"] == OTHER
    with refused("AO003"):
        key_of(secret, {**lease, "lease": str(uuid4())})
    secret.respond(lease, say("done"))
    with refused("AO002"):
        key_of(secret, lease)
    model(secret, None)
    assert key_of(secret, secret.open(secret.start_run(), p_worker="w1")) is None


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("none", 'this tenant has no secret "none"'),
        ("keys/none", 'which value of the secret "keys"'),
        ("several", 'which value of the secret "several"'),
    ],
)
def test_a_model_whose_secret_is_not_there(secret: Tenant, reference: str, reason: str) -> None:
    put(secret, {"one": OTHER, "two": SEALED}, "several")
    model(secret, reference)
    with refused("AO001", reason):
        key_of(secret, secret.open(secret.start_run(), p_worker="w1"))


def test_a_secret_of_another_tenant_is_not_had(
    secret: Tenant, kernel_database: KernelDatabase
) -> None:
    """The lease decides whose secret it is, not the tenant that a worker names."""
    from kernels import make_tenant

    other = make_tenant(kernel_database)
    put(other, {"api": OTHER})
    model(secret, "keys")
    lease = secret.open(secret.start_run(), p_worker="w1")
    with refused("AO001"):
        call(secret.worker, "aos_agent.model_secret", other.id, lease["turn_id"], lease["lease"])
    assert key_of(secret, lease)["sealed"] == SEALED


def test_a_secret_that_an_agents_model_names_is_kept(secret: Tenant) -> None:
    model(secret, "keys/api")
    with refused("AO005", f"still the key of models that agents use: model-{secret.name}"):
        call(secret.person, "aos_auth.delete_secret", secret.id, "keys")
    model(secret, None)
    call(secret.person, "aos_auth.delete_secret", secret.id, "keys")


def test_a_change_of_a_secret_has_workers_read_their_context_anew(secret: Tenant) -> None:
    query = "select config_version from aos_core.tenant_state where tenant_id = %s"
    before = secret.database.value(query, secret.id)
    put(secret, {"api": OTHER})
    assert secret.database.value(query, secret.id) > before


def test_who_only_reads_a_tenant_has_no_sealed_value(secret: Tenant) -> None:
    """The login is a developer in a tenant of its own; the group is one for all of them."""
    database = secret.database
    login = database.person("secret_reader", "aos_developer")
    elsewhere = make_tenant(database)
    for place, role in ((secret, "viewer"), (elsewhere, "developer")):
        apply(database.superuser, "aos_auth.apply_principal", place.id, "reader", {
            "type": "user", "dbRole": login, "roles": [role],
        })  # fmt: skip
    put(elsewhere, {"api": OTHER})
    sealed = "select data ->> 'api' from aos_auth.secret"
    reader = database.connect(login, secret.id)
    assert reader.execute(sealed).fetchall() == []
    names = "select name, spec -> 'data' from aos_auth.secret_resource"
    assert reader.execute(names).fetchall() == [("keys", {"api": {}})]
    own = database.connect(login, elsewhere.id)
    assert own.execute(sealed).fetchall() == [(OTHER,)]
    assert secret.person.execute(sealed).fetchall() == [(SEALED,)]
