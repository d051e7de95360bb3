"""`quickstart` on a machine that has nothing yet, again, and at a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest

from aosctl.db.connection import KERNEL_VERSION
from aosctl.db.embedded import EmbeddedHome, reset
from aosctl.domain.default_model import (
    OPENAI_FIRST,
    VENDORS,
    choose_model,
    is_a_default,
    ollama_endpoint,
)
from command import Aosctl
from conftest import MakeDatabase
from postgres import Cluster
from providers.wire_gemini import GeminiWire
from providers.wire_responses import ResponsesWire, text
from terminal import CTRL_D, QUESTION, Terminal

NOWHERE = "127.0.0.1:9"
"""Where no Ollama answers, whatever runs on this machine."""


@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder of its own for the embedded server, which is removed at the end."""
    folder = tmp_path_factory.mktemp("data")
    yield folder
    reset(EmbeddedHome.locate({"XDG_DATA_HOME": str(folder)}))


@pytest.fixture
def fresh(aosctl: Aosctl, data_home: Path) -> Aosctl:
    return partial(aosctl, XDG_DATA_HOME=str(data_home), OLLAMA_HOST=NOWHERE)


def test_quickstart_goes_from_nothing_to_an_answer_and_again_changes_nothing(
    fresh: Aosctl,
) -> None:
    first = fresh("quickstart", "--no-color")
    assert first.status == 0, first.err
    lines = first.err.splitlines()
    assert lines[0].startswith("database: embedded PostgreSQL in ")
    steps = [line for line in lines if line.startswith("✓ ")]
    assert [step.split(" · ")[0] for step in steps] == [
        "✓ PostgreSQL",
        "✓ kernel",
        "✓ tenant tech_corp",
        "✓ business data in the schema shop",
        "✓ model",
        "✓ manifests of the agent",
    ]
    assert "1 created" in steps[2]
    assert "created" in steps[5]
    keys = "no OPENAI_API_KEY, no ANTHROPIC_API_KEY, no GEMINI_API_KEY"
    assert f"model: offline ({keys}, no Ollama with tools at {NOWHERE})" in lines
    assert any("export OPENAI_API_KEY" in line for line in lines)
    assert first.out.startswith("> How do I optimise a join?\n")
    assert "⏺ rag_search(How do I optimise a join?) · " in first.out
    assert "I am no language model" in first.out
    assert "[1] Optimising joins" in first.out
    assert "\x1b" not in first.out + first.err

    described = fresh("get", "personas,agents,skills,collections", "-o", "json").out
    second = fresh("quickstart")
    assert second.status == 0, second.err
    steps = [line for line in second.err.splitlines() if line.startswith("✓ ")]
    assert "1 unchanged" in steps[2]
    assert steps[5].split(" · ")[1].endswith(" unchanged")
    assert "created" not in second.err
    assert second.out.split("passages")[1] == first.out.split("passages")[1]
    again = fresh("get", "personas,agents,skills,collections", "-o", "json").out
    assert _without_runs(again) == _without_runs(described)


def _without_runs(listed: str) -> object:
    items = json.loads(listed)["items"]
    for item in items:
        item.get("status", {}).pop("runs", None)
    return items


def test_quickstart_opens_the_chat_at_a_terminal(env: dict[str, str], data_home: Path) -> None:
    settings = {**env, "XDG_DATA_HOME": str(data_home), "OLLAMA_HOST": NOWHERE}
    with Terminal(settings, "quickstart") as terminal:
        terminal.prompt()
        assert "my_pg_bot · offline · tech_corp" in terminal.seen
        terminal.say("delete from order_item where order_id = 4")
        terminal.expect_text(QUESTION)
        terminal.type("n")
        terminal.expect_text("reason")
        terminal.say("")
        terminal.expect_text("denied by")
        terminal.prompt()
        terminal.type(CTRL_D)
        assert terminal.status() == 0


def test_server_that_is_killed_under_a_chat_is_started_again(
    env: dict[str, str], data_home: Path
) -> None:
    settings = {**env, "XDG_DATA_HOME": str(data_home), "OLLAMA_HOST": NOWHERE}
    with Terminal(settings, "chat", "my_pg_bot") as terminal:
        terminal.prompt()
        terminal.say("select 'before' as moment;")
        terminal.expect_text("(1 row)")
        terminal.prompt()
        _kill_server(data_home)
        terminal.say("select 'after' as moment;")
        terminal.expect_text("sql_query(select 'after' as moment;)")
        terminal.expect_text("(1 row)")
        terminal.prompt()


def _kill_server(data_home: Path) -> None:
    home = EmbeddedHome.locate({"XDG_DATA_HOME": str(data_home)})
    pid = int((home.data_dir / "postmaster.pid").read_text().split("\n")[0])
    os.kill(pid, signal.SIGKILL)


def test_quickstart_asks_gemini_where_its_key_alone_is_there(fresh: Aosctl) -> None:
    """Though its models name Google's address: that is the vendor's own."""
    with GeminiWire([]) as wire:
        done = fresh("quickstart", GEMINI_API_KEY="k-12345678", HTTPS_PROXY=wire.base_url)
    assert f"✓ model · {VENDORS['gemini'][1][0]}" in done.err
    assert "(GEMINI_API_KEY is set)" in done.err + done.out


def test_key_in_the_environment_chooses_its_model_and_a_persons_choice_is_kept(
    fresh: Aosctl,
) -> None:
    keyed = fresh("quickstart", OPENAI_API_KEY="sk-none", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert f"model: {OPENAI_FIRST[0]} (OPENAI_API_KEY is set)" in keyed.err
    assert keyed.status == 4
    persona = json.loads(fresh("get", "persona", "pg_expert", "-o", "json").out)
    assert persona["spec"]["model"] == OPENAI_FIRST[0]
    persona["spec"]["model"] = "gpt-5.6-terra"
    assert fresh("apply", "-f", "-", stdin=json.dumps(persona)).status == 0
    kept = fresh("quickstart")
    assert "model: gpt-5.6-terra (persona pg_expert names it)" in kept.err


def test_quickstart_installs_the_kernel_in_a_database_of_ones_own(
    aosctl: Aosctl, make_database: MakeDatabase
) -> None:
    dsn = make_database(name="own")
    first = aosctl("quickstart", "--dsn", dsn, OLLAMA_HOST=NOWHERE)
    assert first.status == 0, first.err
    database, _, kernel, *_ = first.err.splitlines()
    assert database.endswith("(--dsn)")
    assert kernel.startswith(f'✓ kernel · {KERNEL_VERSION} · installed in database "own" · ')
    assert 'note: PUBLIC may create temporary tables in database "own"' in first.err
    assert "I am no language model" in first.out
    second = aosctl("quickstart", "--dsn", dsn, OLLAMA_HOST=NOWHERE)
    assert (second.status, "installed" in second.err) == (0, False)


def test_quickstart_tells_a_login_that_may_not_install_what_to_do(
    aosctl: Aosctl, make_database: MakeDatabase, cluster: Cluster
) -> None:
    make_database(name="theirs")
    with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
        superuser.execute("create role humble login")
    done = aosctl("quickstart", "--dsn", cluster.dsn("humble", "theirs"))
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-2:] == [
        'error: the kernel is not installed in database "theirs", and login "humble" may not'
        " create roles",
        "hint: a superuser: alter role humble createrole; or, as a login that may:"
        " aosctl db install --dsn …",
    ]


def test_answer_that_broke_off_is_once_and_whole_in_a_pipe(fresh: Aosctl) -> None:
    whole = text("Join ", "on keys.")
    with ResponsesWire([whole.cut(5), whole]) as wire:
        done = fresh("quickstart", OPENAI_API_KEY="sk-none", OPENAI_BASE_URL=wire.base_url)
    assert done.status == 0, done.err
    question, noted, answer = done.out.split("\n\n")
    assert question == "> How do I optimise a join?"
    assert noted.startswith("model ") and re.search(r"; trying again in [0-9.]+s$", noted)
    assert answer == "Join on keys.\n"


class Ollama(BaseHTTPRequestHandler):
    """The two requests of Ollama's own API that tell what it can do."""

    models = ("tiny:latest", "Llama3.2:3B")

    def do_GET(self) -> None:
        self._answer({"models": [{"name": name} for name in self.models]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        able = ["completion", "tools"] if asked["model"] == self.models[1] else ["completion"]
        self._answer({"capabilities": able})

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def ollama() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_local_ollama_is_chosen_with_its_first_model_that_calls_tools(ollama: str) -> None:
    choice = choose_model({"OLLAMA_HOST": ollama}, {"openai": ["gpt-4o"]})
    assert choice.name == "ollama.llama3.2-3b"
    assert choice.spec == {
        "provider": "ollama",
        "model": "Llama3.2:3B",
        "baseUrl": f"http://{ollama}",
        "contextWindow": 16384,
        "params": {"num_ctx": 16384},
    }
    assert is_a_default(choice.name)


def test_key_is_preferred_and_needs_a_model() -> None:
    known = {"openai": ["x", *OPENAI_FIRST]}
    assert choose_model({"OPENAI_API_KEY": "k"}, known).name == OPENAI_FIRST[0]
    assert choose_model({"OPENAI_API_KEY": "k"}, {"openai": ["other"]}).name == "other"
    assert choose_model({"OPENAI_API_KEY": "k", "OLLAMA_HOST": NOWHERE}, {}).name == "offline"


def test_the_first_vendor_whose_key_is_there_is_asked() -> None:
    known = {vendor: ["x", *reversed(first)] for vendor, (_, first) in VENDORS.items()}
    env: dict[str, str] = {}
    for vendor in reversed(VENDORS):
        key, first = VENDORS[vendor]
        env[key] = "k"
        choice = choose_model(env, known)
        assert (choice.name, choice.why) == (first[0], f"{key} is set")
        assert is_a_default(choice.name)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 - Ollama's way to say all
        ("box:8080", "http://box:8080"),
        ("https://ollama.example", "https://ollama.example:443"),
        ("http://10.0.0.1", "http://10.0.0.1:80"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("box:port", "http://box:11434"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(given: str, endpoint: str) -> None:
    assert ollama_endpoint({"OLLAMA_HOST": given}) == endpoint
