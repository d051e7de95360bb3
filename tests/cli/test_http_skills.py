"""Skills over HTTP as people use them: `aosctl run`, a real server, a secret, an approval."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from bots import ACTORS
from command import AOSCTL, Aosctl
from kernels import KernelDatabase
from talks import PATIENCE_SECONDS, until
from websites import Seen, Site, json_reply, reply

MASTER_KEY = "00" * 31 + "07"
KEY = "sk-live-of-the-shop-0815"
AT_HOME = {"AOSCTL_MASTER_KEY": MASTER_KEY, "AOSCTL_ALLOW_NETWORKS": "private"}
MANIFEST = """\
apiVersion: aos/v1
kind: Secret
metadata: {{name: shop_api, tenant: tech_corp}}
spec: {{data: {{key: {{fromEnv: SHOP_KEY}}}}}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: order_status, tenant: tech_corp}}
spec:
  description: Look up an order.
  touches: []
  input: {{type: object, required: [id], properties: {{id: {{type: string}}}}}}
  output: {{type: object, required: [state]}}
  http:
    url: {url}/orders/{{id}}
    allowPrivate: true
    headers: {{Authorization: {{secretRef: shop_api/key, prefix: "Bearer "}}}}
    result: {{pointer: /order}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: refund, tenant: tech_corp}}
spec:
  description: Pay an order back.
  effect: idempotent
  timeoutSeconds: 60
  input:
    type: object
    required: [id, usd]
    properties: {{id: {{type: string}}, usd: {{type: number}}}}
  http:
    method: POST
    url: {url}/orders/{{id}}/refunds
    allowPrivate: true
    headers: {{X-Api-Key: {{secretRef: shop_api/key}}}}
    body: {{json: {{usd: "{{usd}}", by: an agent}}}}
---
apiVersion: aos/v1
kind: Skill
metadata: {{name: web_fetch, tenant: tech_corp}}
spec:
  builtin: web_fetch
  config: {{allowHosts: ["{host}"], allowPrivate: true}}
"""
AGENT = (
    ACTORS
    + """\
apiVersion: aos/v1
kind: Agent
metadata: {{name: {name}, tenant: tech_corp}}
spec: {{persona: {name}{skills}}}
"""
)


class Shop:
    """A shop's API that wants its key, and repeats it whenever it can."""

    def __init__(self) -> None:
        self.site = Site(self.answer)
        self.stalls = False
        self.refunds: dict[str, Any] = {}

    def answer(self, seen: Seen) -> Any:
        if seen.target.startswith("/page"):
            return reply("<p>Buy more soup.</p>", kind="text/html")
        if KEY not in f"{seen.header('authorization')} {seen.header('x-api-key')}":
            return json_reply({"error": "no key"}, 401)
        if self.stalls:
            return self.site.stall(b"HTTP/1.1 2")
        if seen.method == "POST":
            self.refunds[str(seen.header("idempotency-key"))] = seen.json
            return json_reply({"refunded": seen.json["usd"], "with": KEY})
        if seen.target != "/orders/1042":
            return json_reply({"error": f"no such order, {KEY}"}, 404)
        return json_reply({"order": {"state": "sent", "with": f"Bearer {KEY}"}})


@pytest.fixture
def api(here: Aosctl) -> Iterator[Shop]:
    """A shop with an API, and the skills that call it."""
    shop = Shop()
    with shop.site as site:
        text = MANIFEST.format(url=site.url, host=f"127.0.0.1:{site.port}")
        done = here("apply", "-f", "-", stdin=text, AOSCTL_MASTER_KEY=MASTER_KEY, SHOP_KEY=KEY)
        assert done.status == 0, done.err
        yield shop


@pytest.fixture
def keyed(here: Aosctl) -> Aosctl:
    """Run `aosctl` with the master key at hand."""

    def run(*words: str, **settings: Any) -> Any:
        return here(*words, **{**AT_HOME, **settings})

    return run


def make(here: Aosctl, name: str, *script: dict[str, Any], skills: str | None) -> str:
    listed = "" if skills is None else f", skills: {skills}"
    text = AGENT.format(name=name, script=json.dumps(script), skills=listed)
    done = here("apply", "-f", "-", stdin=text)
    assert done.status == 0, done.err
    return name


def calls(skill: str, **args: Any) -> dict[str, Any]:
    return {"calls": [{"name": skill, "args": args}]}


def nothing_holds_the_key(superuser: str, *outputs: Any) -> None:
    """The key is in no table of the database and in nothing that was printed."""
    for each in outputs:
        assert KEY not in each.out + each.err
    with psycopg.connect(superuser) as connection:
        tables = connection.execute(
            "select format('%I.%I', n.nspname, c.relname) from pg_class c"
            " join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind = 'r' and n.nspname like 'aos\\_%'"
        ).fetchall()
        for (table,) in tables:
            query = f"select count(*) from {table} t where t::text like %s"  # noqa: S608 - our own
            found = connection.execute(query, (f"%{KEY}%",)).fetchone()  # type: ignore[call-overload]
            assert found == (0,), table


def test_a_run_asks_an_api_with_a_secret_and_a_person_before_it_acts(
    here: Aosctl, keyed: Aosctl, api: Shop, superuser: str
) -> None:
    name = make(
        here, "desk",
        calls("order_status", id="1042"),
        calls("order_status", id="../admin"),
        calls("order_status", id="7"),
        calls("refund", id="1042", usd=12.5),
        {"text": "Refunded."},
        skills="[order_status, refund]",
    )  # fmt: skip
    asked = keyed("run", name, "Refund order 1042.", "-o", "json")
    told = json.loads(asked.out)
    assert (asked.status, told["status"]) == (3, "waiting"), asked
    assert [f"{seen.method} {seen.target}" for seen in api.site.seen] == [
        "GET /orders/1042", "GET /orders/7",
    ]  # fmt: skip
    (approval,) = told["approvals"]
    shown = here("approve", approval, "--show")
    assert "12.5" in shown.out
    decided = here("approve", approval, "--yes")
    assert decided.status == 0, decided.err
    assert api.refunds == {}  # approved, and not yet sent
    worked = keyed("worker", "--once")
    assert worked.status == 0, worked.err
    ((key, body),) = api.refunds.items()
    assert body == {"usd": 12.5, "by": "an agent"}
    logs = here("logs", told["run"], "-o", "json")
    assert key in logs.out  # the call's own id
    for words in ('"state": "sent"', "Bearer [redacted]", "holds no slash", "answered 404"):
        assert words in logs.out.replace("\\", ""), words
    assert "Refunded." in here("logs", told["run"]).out
    events = here("events", "-o", "json")
    trace = here("trace", told["run"])
    nothing_holds_the_key(superuser, asked, shown, decided, worked, logs, events, trace)


def test_a_skill_is_tried_by_hand(here: Aosctl, keyed: Aosctl, api: Shop, superuser: str) -> None:
    name = make(here, "hand", {"text": "x"}, skills="[order_status, web_fetch]")
    done = keyed("skill", "test", "order_status", "--agent", name, "--args", '{"id": "1042"}')
    assert done.status == 0, done.err
    assert json.loads(done.out) == {"state": "sent", "with": "Bearer [redacted]"}
    page = json.dumps({"url": f"{api.site.url}/page"})
    fetched = keyed("skill", "test", "web_fetch", "--agent", name, "--args", page)
    assert json.loads(fetched.out)["text"] == "Buy more soup."
    refused = keyed("skill", "test", "refund", "--agent", name, "--args", '{"id": "1", "usd": 1}')
    assert refused.status == 1
    assert [f"{seen.method} {seen.target}" for seen in api.site.seen] == [
        "GET /orders/1042", "GET /page",
    ]  # fmt: skip
    nothing_holds_the_key(superuser, done, fetched, refused)


def test_without_the_master_key_nothing_is_sent(here: Aosctl, keyed: Aosctl, api: Shop) -> None:
    name = make(here, "keyless", calls("order_status", id="1042"), {"text": "x"},
                skills="[order_status]")  # fmt: skip
    done = keyed("run", name, "look", "-o", "json", AOSCTL_MASTER_KEY="")
    assert api.site.seen == []
    assert "master key" in here("logs", json.loads(done.out)["run"], "-o", "json").out


def test_a_worker_lets_no_manifest_reach_its_own_network_unless_its_host_says_so(
    here: Aosctl, keyed: Aosctl, api: Shop
) -> None:
    name = make(here, "homely", calls("order_status", id="1042"), {"text": "x"},
                skills="[order_status]")  # fmt: skip
    done = keyed("run", name, "look", "-o", "json", AOSCTL_ALLOW_NETWORKS="10.0.0.0/8")
    assert api.site.connections == 0
    logs = here("logs", json.loads(done.out)["run"], "-o", "json").out
    assert "AOSCTL_ALLOW_NETWORKS=private" in logs


def test_after_a_page_that_strangers_wrote_the_next_address_needs_a_person(
    here: Aosctl, keyed: Aosctl, api: Shop
) -> None:
    """A page can tell an agent to carry what it knows to its own host, in the address."""
    url = api.site.url
    name = make(
        here, "reader",
        calls("web_fetch", url=f"{url}/page"),
        calls("web_fetch", url=f"{url}/page?q=all+that+it+knows"),
        {"text": "Read."},
        skills="[web_fetch]",
    )  # fmt: skip
    done = keyed("run", name, "Read the page.", "-o", "json")
    assert done.status == 3, done
    assert [seen.target for seen in api.site.seen] == ["/page"]
    (approval,) = json.loads(done.out)["approvals"]
    assert "all+that+it+knows" in here("approve", approval, "--show").out


def test_a_new_agent_sends_nothing_unless_its_manifest_says_so(
    here: Aosctl, keyed: Aosctl, api: Shop
) -> None:
    name = make(
        here, "fresh",
        calls("web_fetch", url=f"{api.site.url}/page"),
        calls("http_request", method="GET", url=f"{api.site.url}/page"),
        calls("refund", id="1042", usd=1),
        calls("now"),
        {"text": "Done."},
        skills=None,
    )  # fmt: skip
    done = keyed("run", name, "Try all.", "-o", "json")
    assert done.status == 0, done
    assert api.site.seen == []
    logs = here("logs", json.loads(done.out)["run"], "-o", "json").out.replace("\\", "")
    for skill in ("web_fetch", "http_request", "refund"):
        assert f'may not use the skill "{skill}"' in logs, skill
    assert '"weekday"' in logs


def test_ctrl_c_closes_the_connection_at_once(
    here: Aosctl, shop: dict[str, str], api: Shop
) -> None:
    name = make(here, "patient", calls("order_status", id="1042"), {"text": "x"},
                skills="[order_status]")  # fmt: skip
    api.stalls = True
    env = {**shop, **AT_HOME}
    with subprocess.Popen(
        [AOSCTL, "run", name, "look"],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        until(lambda: api.site.seen)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 130


def test_what_was_sent_as_a_worker_died_is_sent_again_with_the_same_key(
    here: Aosctl, keyed: Aosctl, shop: dict[str, str], api: Shop, kernel_database: KernelDatabase
) -> None:
    name = make(here, "crasher", calls("refund", id="1042", usd=3), {"text": "Refunded."},
                skills="[refund]")  # fmt: skip
    told = json.loads(keyed("run", name, "Refund it.", "-o", "json").out)
    assert here("approve", told["approvals"][0], "--yes").status == 0
    api.stalls = True
    env = {**shop, **AT_HOME}
    with subprocess.Popen(
        [AOSCTL, "worker", "--once"],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as worker:  # fmt: skip
        until(lambda: [seen for seen in api.site.seen if seen.method == "POST"])
        worker.kill()
    api.stalls = False
    kernel_database.move_clock("1 hour")  # past the dead worker's lease
    try:
        worked = keyed("worker", "--once")
    finally:
        kernel_database.move_clock()
    assert worked.status == 0, worked.err
    first, second = (seen for seen in api.site.seen if seen.method == "POST")
    assert first.header("idempotency-key") == second.header("idempotency-key")
    assert first.body == second.body
    assert list(api.refunds) == [second.header("idempotency-key")]
