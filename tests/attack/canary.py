"""A scene in which a canary goes through every way that a secret can take, and the places to look.

Each value in the scene begins with one random word. Whoever finds that word, or the master key, in
any form a text may quote it in, has found a leak.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import pexpect

from aosctl.db.embedded import INSTALLER
from aosctl.db.pgbin import MAJOR, bundled
from command import AOSCTL, Ended
from kernels import META, KernelDatabase, Tenant, apply, call
from providers.wire_openai import OpenAIWire, Reply, Request, error, sse
from terminal import ENTER, Terminal

LOGGED = ("log_statement = 'all'", "log_min_duration_statement = 0", "log_duration = on")
SETTINGS = ("AOSCTL_", "PG", "XDG_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "OPENAI_")
DUMP_ENVIRONMENT = (
    '#!/bin/sh\nenv > "$SPY/environment"\ntr "\\0" " " < /proc/$$/cmdline > "$SPY/line"\n'
)


def forms(word: str) -> list[bytes]:
    """Return a word as it would stand in a text, in hex and inside base64."""
    plain = word.encode()
    found = [plain, plain.hex().encode(), plain.hex().upper().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + plain)
        found.append(encoded[4 if shift else 0 : -4])
    return found


@dataclass
class Scene:
    """The database, the people and what was collected; `word` begins every canary."""

    database: KernelDatabase
    tenant: Tenant
    wire: OpenAIWire
    home: Path
    word: str = field(default_factory=lambda: f"cnry{secrets.token_hex(8)}")
    outputs: dict[str, bytes] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @property
    def key_file(self) -> Path:
        return self.home / "master.key"

    @property
    def spied(self) -> Path:
        return self.home / "spied"

    @cached_property
    def env(self) -> dict[str, str]:
        kept = {name: v for name, v in os.environ.items() if not name.startswith(SETTINGS)}
        return {
            **kept,
            "HOME": str(self.home),
            "AOSCTL_DSN": self.dsn("test_developer"),
            "AOSCTL_MASTER_KEY_FILE": str(self.key_file),
            "SPY": str(self.spied),
        }

    def dsn(self, login: str) -> str:
        return self.database.cluster.dsn(login, self.database.name)

    def canary(self, way: str) -> str:
        return f"{self.word}-{way}-0123456789"

    def run(self, label: str, *words: str, stdin: str = "", **settings: str) -> Ended:
        """Run `aosctl` and keep both its outputs as evidence."""
        done = subprocess.run(
            [str(AOSCTL), *words],
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.env, **settings},
            cwd=self.home,
            timeout=120,
            check=False,
        )
        with self.lock:
            number = sum(1 for name in self.outputs if name.startswith(f"{label} #"))
            self.outputs[f"{label} #{number}"] = f"{done.stdout}\0{done.stderr}".encode()
        return Ended(done.returncode, done.stdout, done.stderr)

    def finds(self, data: bytes) -> bool:
        """Tell whether a canary or the master key stands in `data`, in whatever form."""
        key = base64.b64decode(self.key_file.read_text())
        wanted = [
            *forms(self.word),
            key,
            key.hex().encode(),
            *forms(self.key_file.read_text()[:40]),
        ]
        return any(one in data for one in wanted)

    # Where to look.

    def tables(self) -> dict[str, bytes]:
        """Every row of every kernel table, as text."""
        return {
            f"table {name}": str(
                self.database.value(f"select string_agg(t::text, e'\\n') from {name} t")
            ).encode()
            for name in self.database.tables()
        }

    def server_log(self) -> bytes:
        base = self.database.cluster.base
        assert base is not None
        return b"".join(path.read_bytes() for path in sorted(base.glob("*.log")))

    def activity(self) -> bytes:
        rows = self.database.rows("select query, application_name from pg_stat_activity")
        return repr(rows).encode()

    def dump(self) -> bytes:
        """What pg_dump of a superuser writes."""
        program = str(bundled(MAJOR).program("pg_dump"))
        done = subprocess.run(
            [program, "-d", self.dsn("aos_superuser")], capture_output=True, check=True
        )
        return done.stdout

    def backup(self) -> bytes:
        """What `aosctl db backup` writes, unpacked."""
        path = self.home / f"backup-{time.monotonic_ns()}.zip"
        done = self.run("db backup", "db", "backup", str(path), "--dsn", self.dsn(INSTALLER))
        assert done.status == 0, done.err
        with zipfile.ZipFile(path) as archive:
            return b"\0".join(archive.read(name) for name in archive.namelist())

    def children(self) -> bytes:
        """Environment and command line of the program that `diff` runs."""
        return b"\0".join(path.read_bytes() for path in self.spied.iterdir())

    def external_diff(self, **settings: str) -> None:
        """Have `diff` run a program of ours, over a secret from a variable."""
        script = self.home / "spy"
        script.write_text(DUMP_ENVIRONMENT)
        script.chmod(0o755)
        self.spied.mkdir(exist_ok=True)
        manifest = self.manifest("viaenv", {"k": {"fromEnv": "HUSH"}})
        self.run("diff", "diff", "-f", "-", stdin=manifest, HUSH=self.canary("diff"),
                 AOSCTL_EXTERNAL_DIFF=str(script), **settings)  # fmt: skip
        assert self.children()

    def manifest(self, name: str, data: Any) -> str:
        return json.dumps({
            "apiVersion": "aos/v1", "kind": "Secret", "metadata": {"name": name},
            "spec": {"data": data},
        })  # fmt: skip

    def history(self, *lines: str) -> bytes:
        """Type lines into an interactive bash; return what its history file holds."""
        file = self.home / "history"
        file.unlink(missing_ok=True)
        shell = pexpect.spawn(
            "/bin/bash", ["--norc", "--noprofile", "-i"], encoding="utf-8", timeout=60,
            env={**self.env, "HISTFILE": str(file), "PS1": "ready> ", "TERM": "dumb"},
        )  # fmt: skip
        for line in lines:
            if line.startswith("(typed) "):
                assert shell.waitnoecho(30)
                shell.send(line.removeprefix("(typed) ") + ENTER)
            else:
                shell.expect_exact("ready> ")
                shell.send(line + ENTER)
        shell.expect_exact("ready> ")
        shell.send("exit" + ENTER)
        shell.expect(pexpect.EOF)
        shell.close()
        return file.read_bytes()

    def set_model(self, name: str = "wired", **changes: Any) -> None:
        """Make the agent "bot" ask the wire, with the secret "openai" as its key."""
        spec = {
            "provider": "openai", "model": "wire-1", "baseUrl": self.wire.base_url,
            "timeoutSeconds": 30, "apiKeySecret": "openai",
        } | changes  # fmt: skip
        admin = self.database.superuser
        call(admin, "aos_meta.apply_model", name, META, spec)
        apply(admin, "aos_persona.apply_persona", self.tenant.id, "expert", {
            "systemPrompt": "x", "model": name,
        })  # fmt: skip


@contextmanager
def logging_all(database: KernelDatabase) -> Iterator[None]:
    """Have the server log every statement of this database with its parameters."""
    admin = database.superuser
    for setting in LOGGED:
        admin.execute(f'alter database "{database.name}" set {setting}'.encode())
    yield
    for setting in LOGGED:
        name = setting.partition(" ")[0]
        admin.execute(f'alter database "{database.name}" reset {name}'.encode())


def key_of(request: Request) -> str:
    """Return the key that a request came with."""
    return request.headers["authorization"].removeprefix("Bearer ")


def echoes() -> dict[str, Any]:
    """How a model's service may show the key it was sent; none answers."""
    from urllib.parse import quote

    def body(status: int, kind: str, text: str) -> Any:
        return lambda request: Reply((text.replace("KEY", key_of(request)).encode(),), status, kind)

    def events(*pieces: bytes) -> Any:
        return lambda request: Reply(
            tuple(piece.replace(b"KEY", key_of(request).encode()) for piece in pieces)
        )

    return {
        "401": lambda request: error(401, f"Incorrect API key provided: {key_of(request)}."),
        "400 quoted": lambda r: error(400, f"bad: {quote(key_of(r))} {json.dumps(key_of(r))}"),
        "404 base64": lambda r: error(404, base64.b64encode(key_of(r).encode()).decode()),
        "422 json": body(422, "application/json", '{"error": {"KEY": "KEY", "message": "KEY"}}'),
        "400 page": body(400, "text/html", "<html><title>KEY</title>"),
        "401 header": lambda r: Reply((b"{}",), 401, "application/json", {"x-key": key_of(r)}),
        "200 page": body(200, "text/html", "<html><title>KEY</title>"),
        "200 json": body(200, "application/json", '{"error": {"message": "KEY"}}'),
        "in stream": events(sse({"error": {"message": "KEY", "code": "invalid_request"}})),
        "no json": events(b"data: {KEY\n\n"),
    }


def live_processes(pid: int) -> dict[int, tuple[bytes, bytes]]:
    """Return command line and environment of the process and of all below it."""
    found: dict[int, tuple[bytes, bytes]] = {}
    left = [pid]
    while left:
        one = left.pop()
        folder = Path(f"/proc/{one}")
        found[one] = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        for task in folder.glob("task/*/children"):
            left += [int(word) for word in task.read_text().split()]
    return found


def typed(scene: Scene, *words: str, keys: str) -> bytes:
    """Answer the question for a value on a terminal; return all that the terminal showed."""
    with Terminal(scene.env, *words) as terminal:
        terminal.expect_text("(it is not shown): ")
        processes = live_processes(terminal.pid)
        terminal.type(keys + ENTER)
        status = terminal.status()
        assert status == 0, terminal.seen
        return terminal.raw.encode() + repr(processes).encode()


def quoted(*words: str) -> str:
    return shlex.join([str(AOSCTL), *words])
