"""Pictures in tools' results: shown where they are ones, and never sent as base64 in words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from aosctl.messages import Media, Message, Result, Text
from aosctl.shown_media import MOST_SHOWN, MOST_SHOWN_BYTES, with_pictures

PNG = b"\x89PNG\r\n\x1a\n"
DATA = base64.b64encode(PNG).decode()


def block(data: Any = DATA, **others: Any) -> dict[str, Any]:
    return {"type": "image", "data": data, "mimeType": "image/png", **others}


def shown(value: Any) -> tuple[Any, ...]:
    text = value if isinstance(value, str) else json.dumps(value)
    message = with_pictures(Message("tool", (Result("c1", "look", True, (Text(text),)),)))
    return message.results[0].parts


def test_a_picture_stands_behind_the_words_that_name_it() -> None:
    said, picture = shown({"content": [{"type": "text", "text": "a"}, block()], "n": 1})
    assert json.loads(said.text) == {
        "content": [
            {"type": "text", "text": "a"},
            {"type": "image", "mimeType": "image/png", "shown": "picture 1"},
        ],
        "n": 1,
    }
    assert picture == Media("image/png", f"data:image/png;base64,{DATA}", "picture 1")


def test_a_picture_is_what_its_bytes_say() -> None:
    data = base64.b64encode(b"\xff\xd8\xff\xe0").decode()
    assert shown({"content": [block(data)]})[1].mime == "image/jpeg"


@pytest.mark.parametrize(
    "data",
    [
        "no base64!",
        DATA + "=",
        base64.b64encode(b"%PDF-1.7").decode(),
        base64.b64encode(b"<svg onload=x>").decode(),
        base64.b64encode(PNG + bytes(MOST_SHOWN_BYTES)).decode(),
        "",
    ],
    ids=["no base64", "wrong padding", "paper", "svg", "too large", "empty"],
)
def test_what_no_service_would_take_is_left_out(data: str) -> None:
    (said,) = shown({"content": [block(data)]})
    (left,) = json.loads(said.text)["content"]
    assert left == {"type": "image", "mimeType": "image/png", "omittedBytes": len(data) * 3 // 4}


def test_no_more_pictures_than_a_message_takes() -> None:
    said, *pictures = shown({"content": [block()] * (MOST_SHOWN + 1)})
    assert len(pictures) == MOST_SHOWN
    assert json.loads(said.text)["content"][-1]["omittedBytes"] == len(DATA) * 3 // 4


@pytest.mark.parametrize(
    "value",
    ['"image"', '{"content": "image"', {"content": "image"}, {"image": block()}, [block()],
     {"content": [block({"omittedBytes": 7})]}, {"content": ["image", None, 7]}, "words"],
)  # fmt: skip
def test_any_other_result_stays_as_it_is(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    assert shown(value) == (Text(text),)
