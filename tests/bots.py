"""Agents that play a script, and an order of the shop for them to delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

ACTORS = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: {name}}}
spec: {{provider: script, script: {script}}}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: {name}, tenant: tech_corp}}
spec: {{model: {name}, systemPrompt: You play the script.}}
---
"""
"""A model that plays a script, and a persona that asks it."""
BOTS = (
    ACTORS
    + """\
apiVersion: aos/v1
kind: Agent
metadata: {{name: {name}, tenant: tech_corp}}
spec: {{persona: {name}, skills: [sql_query, sql_execute], limits: {limits}}}
"""
)

Bot = Callable[..., str]
"""Make an agent of this name and script, with these limits; return the name."""


@dataclass(frozen=True)
class Order:
    """An order that a test may delete."""

    number: int
    dsn: str

    @property
    def delete(self) -> str:
        return f"delete from orders where order_id = {self.number}"  # noqa: S608 - a number

    def exists(self) -> bool:
        with psycopg.connect(self.dsn) as connection:
            query = "select from shop.orders where order_id = %s"
            return connection.execute(query, (self.number,)).rowcount == 1

    def bring_back(self) -> None:
        """Put the order back that was deleted."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "insert into shop.orders (order_id, tenant_id, customer_id)"
                " overriding system value select %s, tenant_id, 1 from aos_auth.tenant"
                " where name = 'tech_corp'",
                (self.number,),
            )
