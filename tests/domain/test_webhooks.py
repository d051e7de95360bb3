"""The webhook of a tenant: what it is told, how it is signed, in which order, how often."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from aosctl.db import notifications
from aosctl.db.connection import Connection
from aosctl.domain.master_key import FileStore, key_text
from aosctl.domain.rotation import prepare, rotate
from aosctl.domain.sealing import MasterKey, Place, Sealed, new_key, seal
from aosctl.domain.webhooks import deliver_all
from aosctl.errors import LeaseLost
from hooks import Hook, hook_server
from kernels import META, KernelDatabase, Tenant, call, make_tenant, refused

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ENVIRONMENT = {"HOOK_SECRET": SECRET}
EVENTS = ["approval.pending", "run.failed"]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with hook_server() as made:
        yield made


def tell(tenant: Tenant, url: str | None, **more: Any) -> None:
    """Give the tenant a webhook."""
    webhook = {
        **({"url": url} if url else {}),
        "secretEnv": "HOOK_SECRET",
        "events": EVENTS,
        **more,
    }
    call(tenant.database.superuser, "aos_auth.apply_tenant", tenant.name, META, {
        "displayName": tenant.name, "webhook": webhook,
    })  # fmt: skip


@pytest.fixture
def tenant(kernel_database: KernelDatabase, hook: Hook) -> Iterator[Tenant]:
    made = make_tenant(kernel_database)
    tell(made, hook.url)
    yield made
    made.database.superuser.execute("delete from aos_core.notification")


@pytest.fixture
def worker(kernel_database: KernelDatabase) -> Connection:
    return kernel_database.connect("aos_worker")


@contextmanager
def receiver(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that takes one request and answers in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            taken, _ = server.accept()
            with taken, suppress(OSError):
                taken.recv(65_536)
                answer(taken)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(10)


def due_now(tenant: Tenant) -> None:
    tenant.database.superuser.execute("update aos_core.notification set due_at = now()")


def fail(tenant: Tenant, error: str) -> dict[str, Any]:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], error)
    return tenant.run_row(run)


def waiting(tenant: Tenant) -> int:
    query = "select count(*) from aos_core.notification where tenant_id = %s"
    return int(tenant.database.value(query, tenant.id))


def test_a_pending_approval_and_a_failed_run_are_told(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    asked = tenant.asked("send_mail", {"query": "private"}, "clerk")
    failed = fail(tenant, "the model is gone")
    assert deliver_all(worker, ENVIRONMENT) == 2
    first, second = hook.bodies()
    approval, _ = tenant.approval(asked.call)
    row = tenant.run_row(asked.run)
    assert (first["type"], first["tenant"], first["run"]) == (
        "approval.pending", tenant.name, row["name"],
    )  # fmt: skip
    assert first["data"]["approval_id"] == str(approval)
    assert first["data"]["command"] == f"aosctl approve {approval.hex[-8:]}"
    assert (first["data"]["skill"], first["seq"]) == ("send_mail", row["last_seq"])
    assert "private" not in json.dumps(first), "arguments only where the manifest says so"
    assert (second["type"], second["run"]) == ("run.failed", failed["name"])
    assert second["data"]["error"] == "the model is gone"
    assert waiting(tenant) == 0
    assert deliver_all(worker, ENVIRONMENT) == 0


def test_the_arguments_are_sent_where_the_manifest_says_so(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    tell(tenant, hook.url, includeArguments=True)
    tenant.asked("send_mail", {"query": "private"}, "clerk")
    deliver_all(worker, ENVIRONMENT)
    assert hook.bodies()[0]["data"]["args"] == {"query": "private"}


def test_the_signature_is_that_of_standard_webhooks(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    fail(tenant, "x")
    deliver_all(worker, ENVIRONMENT)
    headers, body = hook.taken[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"k" * 32, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["webhook-id"] == json.loads(body)["id"]
    assert headers["content-type"] == "application/json"
    assert SECRET not in str(headers) and SECRET.encode() not in body


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_is_repeated_in_the_same_order(
    tenant: Tenant, worker: Connection, hook: Hook, status: int, clock: Callable[[str], None]
) -> None:
    for number in range(3):
        fail(tenant, f"failure {number}")
    hook.answers = [204, status, status]
    lines: list[str] = []
    assert deliver_all(worker, ENVIRONMENT, lines.append) == 1
    assert lines == [f"webhook of {tenant.name}: it answered {status} (attempt 1)"]
    assert deliver_all(worker, ENVIRONMENT) == 0, "nothing overtakes, and nothing is due yet"
    clock("6 seconds")
    assert deliver_all(worker, ENVIRONMENT) == 0
    clock("10 seconds")
    assert deliver_all(worker, ENVIRONMENT) == 0, "the second wait is twice as long"
    clock("17 seconds")
    assert deliver_all(worker, ENVIRONMENT) == 2
    errors = [body["data"]["error"][-1] for body in hook.bodies()]
    assert errors == ["0", "1", "1", "1", "2"]
    ids = [headers["webhook-id"] for headers, _ in hook.taken]
    assert len(set(ids)) == 3, "the same notification keeps its id"


def test_a_dead_address_and_a_missing_secret_are_named_and_lose_nothing(
    tenant: Tenant, worker: Connection, hook: Hook, clock: Callable[[str], None]
) -> None:
    fail(tenant, "x")
    lines: list[str] = []
    assert deliver_all(worker, {}, lines.append) == 0
    assert "the worker's environment has no variable HOOK_SECRET" in lines[0]
    tell(tenant, "http://127.0.0.1:1/")
    clock("6 seconds")
    assert deliver_all(worker, ENVIRONMENT, lines.append) == 0
    assert "no answer" in lines[1] and "(attempt 2)" in lines[1]
    tell(tenant, hook.url)
    clock("1 minute")
    assert deliver_all(worker, ENVIRONMENT) == 1


NO_HTTP = {
    "no status line": b"hello\r\n",
    "an endless one": b"HTTP/1.1 200 " + b"x" * 70_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_an_attempt_and_not_the_end_of_the_courier(
    tenant: Tenant, worker: Connection, hook: Hook, answer: bytes
) -> None:
    fail(tenant, "x")
    with receiver(lambda taken: taken.sendall(answer)) as url:
        tell(tenant, url)
        noted: list[str] = []
        assert deliver_all(worker, ENVIRONMENT, noted.append) == 0
    assert noted[0].startswith(f"webhook of {tenant.name}: no answer: ")
    tell(tenant, hook.url)
    due_now(tenant)
    assert deliver_all(worker, ENVIRONMENT) == 1


@pytest.mark.parametrize("url", ["http://[::1", "http://user:pw@localhost/", "http://a b/"])
def test_a_url_that_is_none_is_an_attempt_too(tenant: Tenant, worker: Connection, url: str) -> None:
    fail(tenant, "x")
    tell(tenant, None, urlEnv="HOOK_URL")
    noted: list[str] = []
    assert deliver_all(worker, {**ENVIRONMENT, "HOOK_URL": url}, noted.append) == 0
    assert "no answer" in noted[0] and "pw" not in noted[0]
    assert waiting(tenant) == 1


@pytest.mark.parametrize("more", [{"secretEnv": "AOSCTL_MASTER_KEY"}, {"urlEnv": "PGPASSWORD"}])
def test_nothing_is_sent_or_signed_with_what_the_worker_works_with(
    tenant: Tenant, worker: Connection, hook: Hook, more: dict[str, str]
) -> None:
    fail(tenant, "x")
    tell(tenant, None if "urlEnv" in more else hook.url, **more)
    noted: list[str] = []
    own = {"AOSCTL_MASTER_KEY": SECRET, "PGPASSWORD": hook.url}
    assert deliver_all(worker, {**ENVIRONMENT, **own}, noted.append) == 0
    assert "aosctl's own" in noted[0] and not hook.taken


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_answers_drop_by_drop_holds_nobody_up(
    tenant: Tenant, worker: Connection, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """https: its handshake drips; the socket's own timeout begins anew with each byte."""
    monkeypatch.setattr("aosctl.domain.webhooks.SECONDS", 1.0)
    fail(tenant, "x")
    began = {"http": b"HTTP/1.1 200 OK\r\nx: ", "https": b"\x16\x03\x03\x40\x00"}[scheme]

    def drip(taken: socket.socket) -> None:
        taken.sendall(began)
        while True:  # until the other side has had enough
            taken.sendall(b"x")
            time.sleep(0.1)

    with receiver(drip) as url:
        tell(tenant, url.replace("http", scheme))
        noted: list[str] = []
        assert deliver_all(worker, ENVIRONMENT, noted.append) == 0
    assert "none within 1 s" in noted[0]
    assert waiting(tenant) == 1


def test_the_url_may_be_a_secret_of_the_environment(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    webhook = {"urlEnv": "HOOK_URL", "secretEnv": "HOOK_SECRET", "events": EVENTS}
    call(tenant.database.superuser, "aos_auth.apply_tenant", tenant.name, META, {
        "displayName": tenant.name, "webhook": webhook,
    })  # fmt: skip
    fail(tenant, "x")
    assert deliver_all(worker, {**ENVIRONMENT, "HOOK_URL": hook.url}) == 1


def test_after_a_day_it_is_given_up_with_an_event_and_the_next_is_told(
    tenant: Tenant, worker: Connection, hook: Hook, clock: Callable[[str], None]
) -> None:
    fail(tenant, "old")
    hook.answers = [500, 500]
    deliver_all(worker, ENVIRONMENT)
    clock("25 hours")
    fail(tenant, "new")
    assert deliver_all(worker, ENVIRONMENT) == 0
    assert "webhook.given_up" in tenant.events(tenant.id)
    assert tenant.faults(tenant.id) == []
    assert deliver_all(worker, ENVIRONMENT) == 1
    assert hook.bodies()[-1]["data"]["error"] == "new"


def test_a_question_that_was_answered_meanwhile_is_not_told(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    decided = tenant.asked("send_mail", {"query": "a"}, "clerk")
    tenant.asked("send_mail", {"query": "b"}, "clerk")
    tenant.decide(decided.call, "denied")
    assert deliver_all(worker, ENVIRONMENT) == 1
    assert waiting(tenant) == 0


def test_two_workers_never_tell_at_once_and_a_dead_one_is_replaced(
    tenant: Tenant, kernel_database: KernelDatabase, hook: Hook, clock: Callable[[str], None]
) -> None:
    one, other = (kernel_database.connect("aos_worker") for _ in range(2))
    fail(tenant, "first")
    fail(tenant, "second")
    held = notifications.take(one, tenant.id)
    assert held is not None and held.attempt == 1
    assert notifications.take(other, tenant.id) is None, "one at a time"
    clock("61 seconds")
    again = notifications.take(other, tenant.id)
    assert again is not None and (again.id, again.attempt) == (held.id, 2)
    with pytest.raises(LeaseLost):
        notifications.settle(one, held, None)
    notifications.settle(other, again, None)
    assert deliver_all(other, ENVIRONMENT) == 1
    assert hook.bodies()[-1]["data"]["error"] == "second"


def test_a_tenant_without_a_webhook_keeps_no_list(
    kernel_database: KernelDatabase, worker: Connection, tenant: Tenant
) -> None:
    silent = make_tenant(kernel_database)
    fail(silent, "x")
    assert waiting(silent) == 0
    fail(tenant, "x")
    call(kernel_database.superuser, "aos_auth.apply_tenant", tenant.name, META, {})
    assert deliver_all(worker, ENVIRONMENT) == 0
    assert waiting(tenant) == 0


def test_only_events_that_are_asked_for_are_told(
    tenant: Tenant, worker: Connection, hook: Hook
) -> None:
    tell(tenant, hook.url, events=["run.failed"])
    tenant.asked("send_mail", {"query": "a"}, "clerk")
    fail(tenant, "x")
    assert deliver_all(worker, ENVIRONMENT) == 1
    assert [body["type"] for body in hook.bodies()] == ["run.failed"]


def test_nobody_but_a_worker_takes_what_is_to_be_told(tenant: Tenant) -> None:
    fail(tenant, "x")
    with refused("42501"):
        call(tenant.person, "aos_agent.take_notification", tenant.id)
    with refused("42501"):
        tenant.person.execute("select * from aos_core.notification")
    with refused("42501"):
        tenant.worker.execute("select * from aos_core.notification")


# The signing secret as a Secret of the tenant


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MasterKey:
    """The master key of the person and the worker, in a file."""
    file = tmp_path / "master.key"
    monkeypatch.setenv("AOSCTL_MASTER_KEY_FILE", str(file))
    return FileStore(file).keep("", new_key())


def put(tenant: Tenant, master: MasterKey, name: str = "hooks", **values: str) -> None:
    """Seal values into a secret of the tenant, as `aosctl apply` does."""
    data = {
        key: {"sealed": seal(master, Place(str(tenant.id), name, key), text)}
        for key, text in values.items()
    }
    call(tenant.person, "aos_auth.apply_secret", tenant.id, name, META, {"data": data})


def refer(tenant: Tenant, url: str, reference: str) -> None:
    webhook = {"url": url, "secretRef": reference, "events": EVENTS}
    call(tenant.database.superuser, "aos_auth.apply_tenant", tenant.name, META, {
        "displayName": tenant.name, "webhook": webhook,
    })  # fmt: skip


def signed_with(hook: Hook, key: bytes) -> bool:
    """Verify the last request as Standard Webhooks says, apart from our own code."""
    headers, body = hook.taken[-1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(headers["webhook-signature"], f"v1,{digest}")


@pytest.mark.parametrize("reference", ["hooks", "hooks/signing"])
def test_a_secret_of_the_tenant_signs(
    tenant: Tenant, worker: Connection, hook: Hook, master: MasterKey, reference: str
) -> None:
    put(tenant, master, signing=SECRET)
    refer(tenant, hook.url, reference)
    fail(tenant, "x")
    assert deliver_all(worker, {}) == 1, "no variable of the environment is needed"
    assert signed_with(hook, b"k" * 32)
    assert not signed_with(hook, b"x" * 32)
    put(tenant, master, signing="whsec_" + base64.b64encode(b"n" * 32).decode())
    fail(tenant, "y")
    assert deliver_all(worker, {}) == 1
    assert signed_with(hook, b"n" * 32), "a value that was replaced counts from then on"


def test_a_webhook_signs_after_a_rotation_of_the_master_key(
    tenant: Tenant, worker: Connection, hook: Hook, master: MasterKey
) -> None:
    put(tenant, master, signing=SECRET)
    refer(tenant, hook.url, "hooks/signing")
    plan = prepare(os.environ, None)
    done = rotate(tenant.database.superuser, plan, only=tenant.name)
    assert done.values >= 1
    data = tenant.database.value(
        "select data ->> 'signing' from aos_auth.secret where tenant_id = %s", tenant.id
    )
    assert Sealed.parse(data).key_id == plan.new.key_id != master.key_id
    fail(tenant, "x")
    assert deliver_all(worker, {}) == 1
    assert signed_with(hook, b"k" * 32)


def test_what_does_not_open_is_told_and_repeated(
    tenant: Tenant,
    worker: Connection,
    hook: Hook,
    master: MasterKey,
    clock: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    put(tenant, master, signing=SECRET)
    refer(tenant, hook.url, "hooks")
    fail(tenant, "x")
    lines: list[str] = []
    with monkeypatch.context() as another:
        another.setenv("AOSCTL_MASTER_KEY", key_text(new_key()))
        assert deliver_all(worker, {}, lines.append) == 0
        assert "is sealed under the master key" in lines[-1]
    refer(tenant, hook.url, "gone/signing")
    clock("6 seconds")
    assert deliver_all(worker, {}, lines.append) == 0
    assert 'this tenant has no secret "gone/signing"' in lines[-1]
    refer(tenant, hook.url, "hooks/none")
    clock("20 seconds")
    assert deliver_all(worker, {}, lines.append) == 0
    assert 'this tenant has no secret "hooks/none" (attempt 3)' in lines[-1]
    assert hook.taken == [] and SECRET not in "".join(lines)
    refer(tenant, hook.url, "hooks")
    clock("1 hour")
    assert deliver_all(worker, {}) == 1


def test_a_sealed_secret_is_had_with_a_claimed_notification_only(
    tenant: Tenant, kernel_database: KernelDatabase, hook: Hook, master: MasterKey
) -> None:
    one, other = (kernel_database.connect("aos_worker") for _ in range(2))
    rival = make_tenant(kernel_database)
    put(tenant, master, signing=SECRET)
    put(tenant, master, "private", k="not for webhooks")
    put(rival, master, signing="whsec_" + base64.b64encode(b"r" * 32).decode())
    refer(tenant, hook.url, "hooks")
    refer(rival, hook.url, "hooks")
    assert notifications.take(one, tenant.id) is None, "nothing is to be told: nothing is had"
    fail(tenant, "x")
    held = notifications.take(one, tenant.id)
    assert held is not None and held.secret is not None and held.secret_env is None
    assert (held.secret["secret"], held.secret["key"]) == ("hooks", "signing")
    assert notifications.take(other, tenant.id) is None, "it is another's"
    assert notifications.take(other, rival.id) is None
    fail(rival, "y")
    theirs = notifications.take(other, rival.id)
    assert theirs is not None and theirs.secret is not None
    assert theirs.secret["sealed"] != held.secret["sealed"], "each tenant's own"
    for reach in (
        "select * from aos_auth.secret",
        "select * from aos_auth.secret_resource",
        f"select aos_auth.sealed_value('{tenant.id}', 'private')",
        "select aos_auth.keep_for_webhook('{}', 'hooks', null)",
    ):
        with refused("42501"):
            one.execute(reach.encode())


def test_a_secret_that_signs_is_neither_deleted_nor_emptied(
    tenant: Tenant, hook: Hook, master: MasterKey
) -> None:
    put(tenant, master, signing=SECRET, other="other")
    put(tenant, master, "spare", k="spare")
    refer(tenant, hook.url, "hooks/signing")
    delete = "aos_auth.delete_secret"
    with refused("AO005", 'the webhook of the tenant still signs with the secret "hooks/signing"'):
        call(tenant.person, delete, tenant.id, "hooks")
    with refused("AO005", "still signs"):
        put(tenant, master, other="other")
    put(tenant, master, signing=SECRET)  # the control: what else it has may go
    refer(tenant, hook.url, "hooks")
    with refused("AO005", "still signs"):  # which one would it be?
        put(tenant, master, signing=SECRET, other="other")
    call(tenant.person, delete, tenant.id, "spare")
    tell(tenant, hook.url)
    call(tenant.person, delete, tenant.id, "hooks")
