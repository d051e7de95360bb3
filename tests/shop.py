"""A shop with business tables under row-level security, for the SQL skills of two tenants."""

from __future__ import annotations

from typing import Any

from kernels import Asked, Tenant, apply

SHOP = """
create schema shop;
create table shop.orders (
  tenant_id uuid not null default aos_auth.tenant_of(current_user),
  id integer not null, item text not null check (item <> 'nothing'), price numeric default 1,
  primary key (tenant_id, id));
alter table shop.orders enable row level security;
create policy of_the_tenant on shop.orders
  using (tenant_id = (select aos_auth.tenant_of(current_user)));
create table shop.lines (
  order_id integer, constraint one_each unique (order_id) deferrable initially deferred);
create table shop.wages (name text, amount integer, note text);
create table shop.secret (word text);
insert into shop.secret values ('xyzzy');
create function shop.add_order() returns integer language sql volatile
  as 'insert into shop.orders (id, item) values (99, ''sneaked'') returning id';
grant execute on function shop.add_order() to public;
"""
EVERYTHING = ["select", "insert", "update", "delete"]
GRANTS = [
    {"schema": "shop", "tables": ["orders", "lines"], "privileges": EVERYTHING},
    {"schema": "shop", "tables": ["wages"], "columns": ["name", "note"], "privileges": ["select"]},
]


def open_shop(tenant: Tenant) -> Tenant:
    """Let the SQL skills of a tenant use the shop, whose data anybody may see, unasked."""
    for skill, touches in (("sql_query", []), ("sql_execute", ["change"])):
        apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, skill, {
            "builtin": skill, "approval": "never", "maxRows": 5, "maxBytes": 2000,
            "touches": touches,
            "sql": {"searchPath": ["shop"], "grants": GRANTS},
        })  # fmt: skip
    return tenant


def run(tenant: Tenant, statement: str, skill: str = "sql_execute") -> dict[str, Any]:
    """Let the worker carry out one statement as the model asked; return {ok, result, …}."""
    asked = ask_for(tenant, statement, skill)
    said: dict[str, Any] = tenant.execute(asked.call, asked.lease)
    assert said["next"] == "model"
    assert tenant.call_state(asked.call) == ("succeeded" if said["ok"] else "failed")
    return said


def ask_for(tenant: Tenant, statement: str, skill: str = "sql_execute") -> Asked:
    return tenant.asked(
        skill, {"query" if skill == "sql_query" else "statement": statement}, "clerk"
    )


def query(tenant: Tenant, statement: str) -> dict[str, Any]:
    return run(tenant, statement, "sql_query")


def items(tenant: Tenant) -> list[tuple[int, str]]:
    return tenant.database.rows(
        "select id, item from shop.orders where tenant_id = %s order by id", tenant.id
    )
