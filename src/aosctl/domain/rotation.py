"""Put secrets under a new master key, so that whatever interrupts it loses nothing.

Four steps, and after each one all keys that a sealed value may need are in the store:

1. the new key is kept as the store's next one, durably;
2. every value is wrapped under it, all in one transaction;
3. the current key is kept under its id;
4. the next key becomes the current one.

A rotation that finds a next key is the rest of one that was interrupted, and finishes that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from aosctl.db import manifests, secrets, tenants
from aosctl.db.connection import Connection
from aosctl.domain import sealing
from aosctl.domain.kinds import BY_NAME
from aosctl.domain.master_key import NEXT, Keys, Store, find_keys, key_from
from aosctl.domain.sealing import MasterKey, Place, Sealed
from aosctl.errors import AosError, NotFound

_ROUNDS = 5

Reached = Callable[[str], None]
"""Told the name of each point that was reached; tests end the process there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A rotation that may begin: the keys there are, and the new one, kept already."""

    keys: Keys
    new: MasterKey
    store: Store | None
    """Where the new key becomes the current one; None where a person has to see to that."""


@dataclass(frozen=True, slots=True)
class Done:
    """How many secrets and values were wrapped anew, and what is left for the person to do."""

    secrets: int
    values: int
    remark: str


def prepare(
    env: Mapping[str, str], new_key_from: str | None, reached: Reached = lambda _point: None
) -> Plan:
    """Step 1. Raises AosError where there is no key, or nowhere to keep a new one."""
    keys = find_keys(env)
    store = keys.store
    if not store.writable:
        if new_key_from is None:
            raise AosError(
                f"{store.source} can't be changed from here",
                "aosctl secret init --file NEW; aosctl secret rotate --new-key-from file:NEW",
            )
        return Plan(keys, key_from(new_key_from, env), None)
    new = store.read(NEXT)
    if new is None:
        given = key_from(new_key_from, env) if new_key_from else None
        if given is not None and given.key_id == keys.current.key_id:
            raise AosError("the new master key is the one in use")
        new = store.keep(NEXT, given.material if given else sealing.new_key())
        reached("the new key is kept")
    return Plan(keys, new, store)


def rotate(
    connection: Connection,
    plan: Plan,
    *,
    only: str | None = None,
    reached: Reached = lambda _point: None,
) -> Done:
    """Steps 2 to 4; `only` names a tenant. Raises the kernel's errors, after which nothing moved.

    What somebody seals meanwhile under the old key is found in another round.
    """
    secrets_seen = values = 0
    for _ in range(_ROUNDS):
        count = manifests.in_transaction(connection, lambda: _wrap_all(connection, plan, only))
        secrets_seen += count[0]
        values += count[1]
        reached("the values are wrapped anew")
        if count[1] == 0:
            break
    if plan.store is None:
        return Done(secrets_seen, values, f"Now use the new key: {plan.new.source} holds it.")
    plan.store.promote()
    reached("the new key is the current one")
    remark = f"{plan.store.source} holds the new key, and the old one beside it: earlier backups"
    return Done(secrets_seen, values, f"{remark} of the database need that.")


def _wrap_all(connection: Connection, plan: Plan, only: str | None) -> tuple[int, int]:
    """Wrap every value that is under another key; return how many secrets and values."""
    found = [row for row in tenants.my_tenants(connection) if only in (None, row.name)]
    if only is not None and not found:
        raise NotFound(f'tenant "{only}" not found', "aosctl get tenants lists them")
    counts = [_wrap_tenant(connection, plan, row.id) for row in found]
    return sum(one for one, _ in counts), sum(one for _, one in counts)


def _wrap_tenant(connection: Connection, plan: Plan, tenant: UUID) -> tuple[int, int]:
    tenants.choose_local(connection, tenant)
    changed = values = 0
    for row in manifests.resources(connection, BY_NAME["Secret"].view, tenant):
        sealed = {key: str(given.get("sealed") or "") for key, given in row.spec["data"].items()}
        left = [key for key, text in sealed.items() if not _is_under(text, plan.new)]
        for key in left:
            sealed[key] = _wrapped(plan, Place(str(tenant), row.name, key), sealed[key])
        if left:
            secrets.rewrap(connection, tenant, row.name, row.generation, sealed)
            changed, values = changed + 1, values + len(left)
    return changed, values


def _wrapped(plan: Plan, place: Place, sealed: str) -> str:
    if not sealed:
        raise AosError(
            f"{place}: the login may not read it in this tenant",
            "rotate with -n TENANT, or as somebody with the role developer there",
        )
    old = plan.keys.require(Sealed.parse(sealed).key_id, place)
    return sealing.rewrap(old, plan.new, place, sealed)


def _is_under(sealed: str, key: MasterKey) -> bool:
    return bool(sealed) and Sealed.parse(sealed).key_id == key.key_id
