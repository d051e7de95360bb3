"""A result too long for the model is kept whole, shown in part, and read on where it was shown."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, apply, ask, call, make_tenant

SHOWN = 24_000


@pytest.fixture(scope="module")
def reader(kernel_database: KernelDatabase) -> Tenant:
    tenant = make_tenant(kernel_database, "reader")
    apply(kernel_database.superuser, "aos_agent.apply_agent", tenant.id, "narrow", {
        "persona": "expert", "skills": ["web_search"],
    })  # fmt: skip
    return tenant


def found(tenant: Tenant, result: Any) -> tuple[Any, dict[str, Any]]:
    """Let an agent's tool return a result; return the call and what the worker was told."""
    asked = tenant.asked("web_search", {"query": "x"}, "narrow")
    return asked, tenant.result(asked.call, asked.lease, result)


def read(tenant: Tenant, asked: Any, **args: Any) -> dict[str, Any]:
    answer = tenant.respond(asked.lease, ask(("read_result", args)))
    said: dict[str, Any] = tenant.execute(UUID(answer["calls"][0]["call_id"]), asked.lease)
    return said


@pytest.mark.parametrize(
    "result", ["x" * SHOWN, {"a": "é" * 11_000}, [], None], ids=["text", "object", "list", "null"]
)
def test_a_short_result_is_shown_as_it_is(reader: Tenant, result: Any) -> None:
    asked, said = found(reader, result)
    assert said["result"] == result
    whole = "select whole from aos_core.tool_call where call_id = %s"
    assert reader.database.value(whole, asked.call) is None


def picture(kind: str = "image", length: int = 40_000) -> dict[str, Any]:
    return {"type": kind, "data": "A" * length, "mimeType": "image/png"}


@pytest.mark.parametrize(
    ("result", "is_whole"),
    [
        ({"content": [{"type": "text", "text": "the page"}, picture()]}, True),
        ({"content": [picture(), picture()], "isError": False}, True),
        ({"content": [picture(), {"type": "text", "text": "x" * SHOWN}]}, False),
        ({"content": [picture("audio")]}, False),
        ({"content": ["x" * SHOWN, 1, None]}, False),
        ({"data": "A" * 40_000, "type": "image"}, False),
    ],
    ids=["picture", "pictures", "beside a long text", "sound", "texts", "no content"],
)
def test_pictures_count_no_characters(reader: Tenant, result: Any, is_whole: bool) -> None:
    _, said = found(reader, result)
    assert (said["result"] == result) is is_whole
    assert ("read_on" in said["result"]) is not is_whole


@pytest.mark.parametrize("length", [SHOWN + 1, 2 * SHOWN, 60_000])
def test_a_long_text_can_be_read_to_its_last_character(reader: Tenant, length: int) -> None:
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(length))
    asked, said = found(reader, text)
    part = said["result"]
    assert part["truncated"] is True and part["characters"] == length
    assert part["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    pieces, next_one = [part["beginning"]], part["read_on"]["args"]
    assert part["read_on"]["skill"] == "read_result"
    while next_one is not None:
        said = read(reader, asked, **next_one)
        assert said["ok"], said
        pieces.append(said["result"]["text"])
        next_one = said["result"].get("read_on")
    assert "".join(pieces) == text


def test_a_long_object_is_read_as_its_json(reader: Tenant) -> None:
    import json

    rows = {"rows": [{"n": n, "word": "w" * 20} for n in range(2_000)]}
    asked, said = found(reader, rows)
    pieces, next_one = [said["result"]["beginning"]], said["result"]["read_on"]["args"]
    while next_one is not None:
        result = read(reader, asked, **next_one)["result"]
        pieces.append(result["text"])
        next_one = result.get("read_on")
    assert json.loads("".join(pieces)) == rows


def test_the_same_call_again_returns_the_same_part(reader: Tenant) -> None:
    asked, said = found(reader, "x" * 50_000)
    again = reader.result(asked.call, asked.lease, "something else")
    assert again["repeated"] is True and again["result"] == said["result"]


def test_what_another_run_was_given_is_nobodys_to_read(reader: Tenant) -> None:
    asked, _ = found(reader, "secret" * 10_000)
    other, _ = found(reader, "mine" * 10_000)
    for args in (
        {"call": str(asked.call)}, {"call": "x"}, {"call": "' or true --"},
        {"call": str(asked.call), "from": 10**12},
    ):  # fmt: skip
        denied = read(reader, other, **args)
        assert denied["result"] == {"error": "this run has no long result of that call"}
        assert not denied["ok"]
    lawful = read(reader, asked, call=str(asked.call), **{"from": 59_990})
    assert lawful["result"]["text"] == ("secret" * 10_000)[59_990:]
    beyond = read(reader, asked, call=str(asked.call), **{"from": 10**12})
    assert beyond["result"]["text"] == "" and "read_on" not in beyond["result"]


def test_reading_on_can_be_forbidden_like_anything_else(reader: Tenant) -> None:
    admin = reader.database.superuser
    asked, _ = found(reader, "x" * 50_000)
    apply(admin, "aos_skills.apply_policy", reader.id, "no-more", {
        "skills": ["read_result"], "decision": "deny",
    })  # fmt: skip
    answer = reader.respond(asked.lease, ask(("read_result", {"call": str(asked.call)})))
    assert "no-more" in str(reader.transcript(asked.run)[-1])
    assert answer["next"] == "model"
    call(admin, "aos_skills.delete_policy", reader.id, "no-more")
    assert read(reader, asked, call=str(asked.call))["ok"]


def test_it_is_offered_where_results_may_be_long(reader: Tenant) -> None:
    tools = "select jsonb_path_query_array(aos_skills.tools_of(%s, 'agent', %s), '$[*].name')"
    assert reader.database.value(tools, reader.id, ["web_search"]) == ["web_search"]
    apply(reader.database.superuser, "aos_skills.apply_skill", reader.id, "pages", {
        "description": "x", "effect": "read", "risk": "low", "touches": [], "input": {},
        "http": {"url": "https://example.com"},
    })  # fmt: skip
    assert reader.database.value(tools, reader.id, ["pages"]) == ["pages", "read_result"]


def test_a_run_that_is_erased_keeps_nothing_of_it(reader: Tenant) -> None:
    asked, _ = found(reader, "x" * 50_000)
    whole = "select whole is not null from aos_core.tool_call where call_id = %s"
    assert reader.database.value(whole, asked.call) is True
    with reader.database.superuser.transaction():
        bind = "select set_config('aos.kernel_tenant', %s, true)"
        reader.database.superuser.execute(bind, (str(reader.id),))
        reader.database.superuser.execute(
            "select aos_core.erase_content(%s, %s, 'test')", (reader.id, [asked.run])
        )
    assert reader.database.value(whole, asked.call) is False
