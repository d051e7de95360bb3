"""Pictures that a model makes: stored, named on one line, written to a file, shown to the next."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from command import Aosctl, Ended
from providers.dialects import DIALECTS, Dialect
from providers.wire import Wire
from providers.wire_openai import piece, stream
from providers.wire_responses import answer, item
from terminal import Terminal

CHAT, RESPONSES, *_ = DIALECTS
BYTES = b"\x89PNG\r\n\x1a\n\xff\x00made"
MADE = base64.b64encode(BYTES).decode()
LINE = "picture.png · image/png · 14 bytes · /export picture.png in the chat saves it"
AGENT = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: painter}}
spec:
  provider: openai
  model: wire-1
  baseUrl: {url}
  params: {params}
  capabilities: {capabilities}
---
apiVersion: aos/v1
kind: Persona
metadata: {{name: painter, tenant: tech_corp}}
spec: {{model: painter, systemPrompt: You draw.}}
---
apiVersion: aos/v1
kind: Agent
metadata: {{name: painter, tenant: tech_corp}}
spec: {{persona: painter, skills: []}}
"""


@dataclass
class Painter:
    """A model that draws over one of the wires."""

    wire: Wire
    here: Aosctl


@pytest.fixture(params=[CHAT, RESPONSES], ids=lambda dialect: dialect.label)
def painter(request: pytest.FixtureRequest, here: Aosctl) -> Iterator[Painter]:
    dialect = request.param
    if dialect is CHAT:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MADE}"}}
        drawn = stream(piece({"content": "Here."}), piece({"images": [part]}), piece(finish="stop"))
    else:
        begin = {"id": "ig_1", "type": "image_generation_call", "status": "in_progress"}
        made = {"status": "completed", "result": MADE, "output_format": "png"}
        drawn = answer(item(0, begin, made))
    with dialect.wire([drawn, dialect.words.text("A lamp.")]) as wire:
        text = AGENT.format(
            url=wire.base_url,
            params=json.dumps({"tools": [{"type": "image_generation"}]} if dialect is RESPONSES
                              else {"modalities": ["image", "text"]}),
            capabilities=json.dumps(dict(dialect.capabilities)),
        )  # fmt: skip
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err
        yield Painter(wire, here)


def test_the_chat_names_a_picture_and_writes_it(
    painter: Painter, shop: dict[str, str], tmp_path: Path
) -> None:
    settings = {**shop, "XDG_STATE_HOME": str(tmp_path)}
    with Terminal(settings, "chat", "painter", rows=40, columns=140) as chat:
        chat.ready()
        chat.say("Draw.")
        chat.stands(LINE)
        chat.ready()
        file = tmp_path / "picture.png"
        chat.say(f"/export {file}")
        chat.stands(f"the last picture, 14 bytes, written to {file}")
        chat.say(f"/export {file.with_suffix('.webp')}")
        chat.stands("the last picture is image/png, not .webp", "/export picture.png")
        chat.say("What is it?")
        chat.stands("A lamp.")
    assert file.read_bytes() == BYTES
    assert not file.with_suffix(".webp").exists()
    assert json.dumps(painter.wire.requests[1].body).count(MADE) == 1


def test_a_run_says_it_too_and_the_logs_keep_it(painter: Painter) -> None:
    done = painter.here("run", "painter", "Draw.", "-o", "stream-json")
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    (made,) = [line for line in lines if line["type"] == "picture"]
    assert (made["name"], made["mime"]) == ("picture.png", "image/png")
    assert made["url"] == f"data:image/png;base64,{MADE}"
    assert LINE in done.err
    logs = painter.here("logs", lines[0]["run"]).out
    assert "[image/png]" in logs


def test_a_conversation_without_pictures_has_none_to_write(
    shop: dict[str, str], tmp_path: Path
) -> None:
    with Terminal({**shop, "XDG_STATE_HOME": str(tmp_path)}, "chat", "my_pg_bot") as chat:
        chat.ready()
        chat.say("select 1;")
        chat.stands("(1 row)")
        chat.ready()
        chat.say("/export x.png")
        chat.stands("no model has made a picture in this conversation")


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.label)
def seer(request: pytest.FixtureRequest, here: Aosctl) -> Iterator[Painter]:
    """A model over each of the wires that is shown what a person attaches."""
    dialect = request.param
    with dialect.wire([dialect.words.text("A plan.")] * 2) as wire:
        spec = {
            "provider": dialect.name,
            "model": "wire-1",
            "baseUrl": wire.base_url,
            "capabilities": {**dialect.capabilities, "vision": True},
        }
        model = {"apiVersion": "aos/v1", "kind": "Model", "metadata": {"name": "painter"}}
        parts = AGENT.split("---\n", 1)[1].format()
        text = json.dumps({**model, "spec": spec}) + "\n---\n" + parts
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err
        yield Painter(wire, here)


def test_a_person_shows_a_model_pictures(
    seer: Painter, shop: dict[str, str], tmp_path: Path
) -> None:
    picture = tmp_path / "plan.png"
    picture.write_bytes(BYTES)
    done = seer.here("run", "painter", "What is it?", "--attach", str(picture))
    assert (done.status, done.out) == (0, "A plan.\n"), done.err
    with Terminal(shop, "chat", "painter", rows=40, columns=140) as chat:
        chat.ready()
        chat.say(f"What is on @{picture}?")
        chat.stands("plan.png attached · image/png; from here on", "A plan.")
    for request in seer.wire.requests:
        assert json.dumps(request.body).count(MADE) == 1
        assert "can't be shown it" not in json.dumps(request.body)


def test_what_is_attached_on_a_command_line_is_there_and_belongs_to_a_message(
    here: Aosctl, painter: Painter, tmp_path: Path
) -> None:
    missing = here("run", "painter", "x", "--attach", str(tmp_path / "no.png"))
    assert (missing.status, missing.out) == (2, "")
    assert f"there is no file {tmp_path}/no.png" in missing.err
    alone = here("chat", "painter", "--attach", str(tmp_path / "no.png"), stdin="")
    assert (alone.status, alone.out) == (2, "")
    assert not painter.wire.requests
    picture = tmp_path / "plan.png"
    picture.write_bytes(BYTES)
    queued = here("run", "painter", "x", "-d", "--attach", str(picture), "-o", "name")
    assert queued.status == 0, queued.err
    assert "[image/png]" in here("logs", queued.out.strip().removeprefix("run.aos/")).out


SCREEN = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(30_000)).decode()
RAW = Path(__file__).parents[1] / "mcp_servers" / "raw.py"
SERVER = {"apiVersion": "aos/v1", "kind": "McpServer"}
USER = """\
apiVersion: aos/v1
kind: Agent
metadata: {name: painter, tenant: tech_corp}
spec: {persona: painter, skills: [look]}
"""


@pytest.mark.parametrize("vision", [True, False], ids=["sees", "blind"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.label)
def test_a_model_is_shown_the_picture_that_a_tool_returned(
    here: Aosctl, dialect: Dialect, vision: bool, tmp_path: Path
) -> None:
    """As a browser's screenshot: longer than what is shown of a text, and no text at all."""
    here = partial(here, AOSCTL_ALLOW_COMMANDS=sys.executable)
    server = f"screen-{dialect.label}-{vision}".lower()
    command = [sys.executable, str(RAW), str(tmp_path / "notes")]
    words = dialect.words
    with dialect.wire([words.calls(("look", {"x": "a"})), words.text("A page.")]) as wire:
        spec = {
            "provider": dialect.name,
            "model": "wire-1",
            "baseUrl": wire.base_url,
            "capabilities": {**dialect.capabilities, "vision": vision},
        }
        model = {"apiVersion": "aos/v1", "kind": "Model", "metadata": {"name": "painter"}}
        persona = AGENT.format(url="x", params="{}", capabilities="{}").split("---\n")[1]
        named = {"name": server, "tenant": "tech_corp"}
        whole = [json.dumps({**SERVER, "metadata": named, "spec": {"command": command}})]
        whole.append(json.dumps({**model, "spec": spec}))
        ok(here("apply", "-f", "-", stdin="\n---\n".join([*whole, persona])))
        made = json.loads(ok(here("mcp", "add", server, "screenshot", "-o", "json")))
        made["metadata"]["name"] = "look"
        made["spec"] |= {"approval": "never", "effect": "read", "maxBytes": 100_000}
        ok(here("apply", "-f", "-", stdin=f"{json.dumps(made)}\n---\n{USER}"))
        assert ok(here("run", "painter", "Look.")) == "A page.\n"
    sent = json.dumps(wire.requests[1].body)
    assert sent.count(SCREEN) == int(vision)
    assert "the page" in sent and "picture 1" in sent


def ok(done: Ended) -> str:
    assert done.status == 0, done.err
    return done.out
