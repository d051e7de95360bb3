"""E62: a canary goes through every way of a secret; then every place is searched for it."""

from __future__ import annotations

import base64
import hmac
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from aosctl.db.embedded import INSTALLER
from attack.canary import (
    Scene,
    echoes,
    live_processes,
    logging_all,
    quoted,
    typed,
)
from command import AOSCTL
from hooks import hook_server
from kernels import KernelDatabase, call, make_tenant
from providers.wire_openai import OpenAIWire, text


@pytest.fixture(scope="module")
def begun(
    kernel_database: KernelDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A tenant and a home with a master key; nothing has happened."""
    tenant = make_tenant(kernel_database, "acme")
    with OpenAIWire() as wire, logging_all(kernel_database):
        made = Scene(kernel_database, tenant, wire, tmp_path_factory.mktemp("home"))
        made.run("init", "secret", "init", "--file", str(made.key_file))
        yield made


# Step by step, each in the time of a test of its own.


@pytest.fixture(scope="module")
def entered(begun: Scene) -> Scene:
    _every_way_in(begun)
    return begun


@pytest.fixture(scope="module")
def signed(entered: Scene) -> Scene:
    _every_webhook(entered)
    return entered


@pytest.fixture(scope="module")
def called(signed: Scene) -> Scene:
    _every_model_call(signed)
    return signed


@pytest.fixture(scope="module")
def failed(called: Scene) -> Scene:
    _every_failing_verb(called)
    return called


@pytest.fixture(scope="module")
def scene(failed: Scene) -> Scene:
    """Everything has happened; what it left behind is to be searched."""
    _every_way_out(failed)
    return failed


def _every_way_in(scene: Scene) -> None:
    key = scene.home / "key.txt"
    key.write_text(scene.canary("file") + "\n")
    scene.run("create", "create", "secret", "viafile", "--from-file", "k=key.txt")
    scene.run("create", "create", "secret", "viaenv", "--from-env", "k=HUSH",
              HUSH=scene.canary("env"))  # fmt: skip
    scene.run("create", "create", "secret", "openai", "--from-stdin", stdin=scene.canary("stdin"))
    scene.outputs["typed"] = typed(
        scene, "create", "secret", "viatty", "--key", "k", keys=scene.canary("tty")
    )
    both = {"a": {"fromEnv": "HUSH"}, "b": {"fromFile": "key.txt"}}
    manifest = scene.home / "secret.json"
    manifest.write_text(scene.manifest("viamanifest", both))
    for words in (["diff"], ["apply", "--dry-run=client", "-o", "yaml"],
                  ["apply", "--dry-run=server", "-o", "json"], ["apply"], ["apply"]):  # fmt: skip
        scene.run("apply", *words, "-f", "secret.json", HUSH=scene.canary("apply"))
    sealed = scene.run("get", "get", "secret", "viatty", "-o", "yaml").out
    scene.run("apply", "apply", "-f", "-", stdin=sealed)
    scene.external_diff()
    scene.run("rotate", "secret", "rotate")
    assert scene.database.value("select count(*) from aos_auth.secret") == 5


def _every_webhook(scene: Scene) -> None:
    """A secret signs: refused, taken, and not opened; the hook itself learns it from nobody."""
    secret, tenant, admin = scene.canary("signing"), scene.tenant, scene.database.superuser
    scene.run("create", "create", "secret", "hooks", "--from-stdin", stdin=secret)
    with hook_server() as hook:
        tenants = scene.run("get tenants", "get", "tenant", "acme", "-o", "yaml").out
        signed = yaml.safe_load(tenants)
        signed["spec"]["webhook"] = {"url": hook.url, "secretRef": "hooks"}
        chief = {"AOSCTL_DSN": scene.dsn(INSTALLER)}
        done = scene.run("apply", "apply", "-f", "-", stdin=yaml.safe_dump(signed), **chief)
        assert done.status == 0, done.err
        lease = tenant.open(tenant.start_run(), p_worker="w1")
        call(tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "x")
        other = {"AOSCTL_MASTER_KEY": "ab" * 32}
        for said, settings in (("it answered 500", {}), ("sealed under", other), ("", {})):
            hook.answers = [500] if "500" in said else []
            done = scene.run("worker", "worker", "--once", "--debug", **settings)
            assert (done.status, said in done.err) == (0, True), done.err
            admin.execute("update aos_core.notification set due_at = now()")
        assert len(hook.taken) == 2
        for headers, body in hook.taken:
            text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            digest = hmac.digest(secret.encode(), text, "sha256")
            assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        scene.outputs["hook"] = repr(hook.taken).encode()
        for place in ("secretRef", "secretEnv", "url"):
            signed["spec"]["webhook"] = {"url": hook.url, "secretRef": "hooks", place: secret}
            manifest = yaml.safe_dump(signed)
            wrong = scene.run("wrong hook", "apply", "-f", "-", "--debug", stdin=manifest, **chief)
            assert wrong.status == 1
    assert scene.run("delete", "delete", "secret", "hooks").status == 1, "it signs"


def _every_model_call(scene: Scene) -> None:
    scene.set_model()
    scene.wire.queue[:] = [text("It works.")]
    done = scene.run("run", "run", "bot", "hello")
    assert done.out == "It works.\n", done.err
    assert scene.wire.requests[-1].headers["authorization"] == f"Bearer {scene.canary('stdin')}"
    for name, reply in echoes().items():
        scene.wire.queue[:] = [reply, text("late")]
        done = scene.run(f"run {name}", "run", "bot", "hello", "--debug")
        assert (done.status, bool(scene.wire.queue)) in ((4, True), (0, False)), f"{name}: {done}"
    _a_call_in_flight(scene)
    scene.set_model("slow", timeoutSeconds=1)
    scene.wire.queue[:] = [text("x").stall(0), text("x").stall(0)]
    assert scene.run("run timeout", "run", "bot", "hello", "--debug").status == 4
    scene.set_model("nowhere", baseUrl="http://127.0.0.1:1/v1")
    assert scene.run("run nowhere", "run", "bot", "hello", "--debug").status == 4
    scene.set_model()
    scene.wire.queue[:] = [text("It works.")]
    assert scene.run("chat", "chat", "bot", "hello").status == 0


def _a_call_in_flight(scene: Scene) -> None:
    """Look at the processes while the model thinks."""
    scene.wire.queue[:] = [text("x").stall(0)]
    asked = len(scene.wire.requests)
    process = subprocess.Popen(
        [AOSCTL, "run", "bot", "hello"],
        env=scene.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(scene.wire.requests) == asked:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    scene.outputs["in flight"] = repr(live_processes(process.pid)).encode()
    scene.outputs["in flight, activity"] = scene.activity()
    process.kill()
    scene.outputs["in flight, killed"] = process.communicate()[0]


def _every_failing_verb(scene: Scene) -> None:
    """Wrong in every way, with and without --debug; each must fail."""
    secret = scene.canary("wrong")
    values = [secret, [secret], {"sealed": secret}, {"fromEnv": secret}, {"value": secret}]
    bare = [secret, *({"k": value} for value in values)]
    manifests = [scene.manifest("bare", data) for data in bare]
    manifests.append(scene.manifest("openai", {"k": {"fromEnv": "HUSH"}}).replace("aos/v1", "x"))
    wrong: list[tuple[list[str], str]] = [(["apply", "-f", "-"], one) for one in manifests]
    create = ["create", "secret", "fails"]
    wrong += [
        ([*create, "--from-literal", f"k={secret}"], ""),
        ([*create, secret], ""),
        ([*create, "--from-env", secret], ""),
        ([*create, "--from-file", secret], ""),
        ([*create, "--from-stdin", f"--value={secret}"], ""),
        ([*create, "--from-stdin", "--key", "no key"], secret),
        ([*create, "--from-stdin"], secret * 5_000),
        (["create", "secret", "openai", "--from-stdin"], secret),
        ([*create, "--from-stdin", "-n", "nobodys"], secret),
        ([*create, "--from-stdin", "--dsn", "host=/nowhere"], secret),
        ([*create, "--from-stdin", "-o", "nonsense"], secret),
    ]

    def fails(one: tuple[list[str], str]) -> bool:
        return scene.run("wrong", *one[0], "--debug", stdin=one[1], HUSH=secret).status > 0

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fails, wrong)), wrong
    other = {"AOSCTL_MASTER_KEY": "ab" * 32}
    scene.wire.queue[:] = [text("never")]
    assert scene.run("wrong key", "run", "bot", "hi", "--debug", **other).status == 4
    assert scene.run("wrong key", "secret", "rotate", "--debug", **other).status == 1
    garbled = scene.key_file.read_text().strip() + "x"
    assert scene.run("bad key", "create", "secret", "x", "--from-stdin", "--debug", stdin=secret,
                     AOSCTL_MASTER_KEY=garbled).status == 1  # fmt: skip
    scene.key_file.chmod(0o644)
    assert scene.run("open key", "run", "bot", "hi", "--debug").status == 4
    scene.key_file.chmod(0o600)
    admin = scene.database.superuser
    admin.execute("revoke execute on function aos_auth.apply_secret from aos_developer")
    assert scene.run("denied", *create, "--from-stdin", "--debug", stdin=secret).status == 1
    admin.execute("grant execute on function aos_auth.apply_secret to aos_developer")


def _every_way_out(scene: Scene) -> None:
    forms = "yaml", "json", "wide", "name", "jsonpath={.items[*].spec}", "custom-columns=S:.spec"
    ways = [["get", "secrets,models,agents", "-o", form] for form in forms]
    ways += [["describe", "secrets"], ["describe", "models", "wired"], ["ps", "-a", "-o", "json"],
             ["logs", "agent/bot", "-o", "json"], ["get", "runs", "-o", "json"],
             ["describe", "runs"], ["version", "--kernel"], ["db", "status"],
             ["config", "view"]]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda words: scene.run(" ".join(words), *words), ways):
            assert done.status == 0, done.err
    scene.outputs["history"] = scene.history(
        "read -rs HUSH && export HUSH",
        f"(typed) {scene.canary('history')}",
        quoted("create", "secret", "typedenv", "--from-env", "k=HUSH"),
        quoted("create", "secret", "typedstdin", "--from-stdin") + ' <<< "$HUSH"',
    )
    assert scene.database.value("select count(*) from aos_auth.secret where name ~ '^typed'") == 2


def test_secrets_come_in_every_way(entered: Scene) -> None:
    assert b"created" in entered.outputs["create #0"]


def test_secrets_sign(signed: Scene) -> None:
    assert b"webhook-signature" in signed.outputs["hook"]


def test_secrets_reach_the_model_as_its_key(called: Scene) -> None:
    assert called.outputs["in flight"]


def test_every_wrong_use_fails(failed: Scene) -> None:
    assert failed.outputs["denied #0"]


def test_no_output_holds_the_canary(scene: Scene) -> None:
    assert len(scene.outputs) > 60
    assert [label for label, data in scene.outputs.items() if scene.finds(data)] == []
    assert sum(len(data) > 1 for data in scene.outputs.values()) > 60
    traced = [label for label, data in scene.outputs.items() if b"Traceback" in data]
    assert len(traced) > 10  # --debug


def test_no_table_holds_the_canary(scene: Scene) -> None:
    tables = scene.tables()
    assert b"aos1." in tables["table aos_auth.secret"]
    assert b"[redacted]" in tables["table aos_core.turn"]
    assert [label for label, data in tables.items() if scene.finds(data)] == []


def test_neither_log_nor_activity_holds_the_canary(scene: Scene) -> None:
    log = scene.server_log()
    assert b"apply_secret" in log and b"aos1." in log  # parameters are in it
    assert not scene.finds(log)
    assert not scene.finds(scene.activity())


def test_neither_dump_nor_backup_holds_the_canary(scene: Scene) -> None:
    for data in (scene.dump(), scene.backup()):
        assert b"aos1." in data
        assert not scene.finds(data)


def test_no_child_process_holds_the_canary(scene: Scene) -> None:
    assert b"SPY=" in scene.children()
    assert not scene.finds(scene.children())


def test_a_provider_that_echoes_the_key_is_redacted_for_people(scene: Scene) -> None:
    shown = scene.outputs["run 401 #0"].decode()
    assert "Incorrect API key provided: [redacted]." in shown
    assert 'hint: check the key in the secret "openai"' in shown


def test_only_the_files_that_people_made_hold_it(scene: Scene) -> None:
    """Neither in a config file, a state file nor a draft; the key file is for its owner alone."""
    own = {scene.home / "key.txt"}
    keys = set(scene.home.glob("master.key*"))
    assert len(keys) == 2 and {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    found = {
        path for path in scene.home.rglob("*") if path.is_file() and scene.finds(path.read_bytes())
    }
    assert found - keys == own


def test_the_search_finds_what_is_planted_on_purpose(scene: Scene, tmp_path: Path) -> None:
    """The same searches, each with a canary where none belongs."""
    admin = scene.database.superuser
    planted = f"update aos_auth.tenant set display_name = '{scene.canary('planted')}'"
    admin.execute(planted.encode())
    assert scene.finds(scene.run("control", "get", "tenants", "-o", "json").out.encode())
    assert scene.finds(scene.tables()["table aos_auth.tenant"])
    assert scene.finds(scene.dump()) and scene.finds(scene.backup())
    again = scene.database.connect("aos_superuser")
    again.execute(planted.encode())
    assert scene.finds(scene.server_log())
    assert scene.finds(repr(
        scene.database.rows("select query from pg_stat_activity where pid = %s",
                            again.info.backend_pid)).encode())  # fmt: skip
    again.close()
    scene.external_diff(INNOCENT=f"prefix {scene.canary('env')}")
    assert scene.finds(scene.children())
    assert scene.finds(scene.history(f"true {scene.canary('typed')}"))
    held = {"HELD": scene.canary("child")}
    with subprocess.Popen(["cat"], env=held, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin is not None and cat.stdout is not None
        cat.stdin.write(b"\n")
        cat.stdin.flush()
        cat.stdout.read(1)  # now it is a process of its own
        assert scene.finds(repr(live_processes(cat.pid)).encode())
    for hidden in (scene.canary("x").encode().hex(), yaml.safe_dump(scene.canary("x").encode())):
        assert scene.finds(hidden.encode())
    assert not scene.finds(b"nothing of the kind")
