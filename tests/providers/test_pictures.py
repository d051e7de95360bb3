"""Pictures in answers of chat completions, as gateways send them (OpenRouter, Vercel)."""

from __future__ import annotations

import pytest

from aosctl.messages import Media, Text
from providers.dialects import DIALECTS
from providers.wire_openai import piece, stream

CHAT = DIALECTS[0]


def test_pictures_in_an_answer_are_kept_each_once() -> None:
    url = "data:image/webp;base64,iVBORw0KGgo="
    part = {"type": "image_url", "image_url": {"url": url}}
    there = {"type": "image_url", "image_url": {"url": "https://x.test/a"}}
    message = CHAT.answer(
        stream(
            piece({"content": "Here."}),
            piece({"images": [part, there]}),
            piece({"images": [part], "content": [part]}),
            piece(finish="stop"),
        )
    )
    assert message.blocks == (
        Text("Here."),
        Media("image/webp", url, "picture.webp"),
        Media("image/png", "https://x.test/a", "picture.png"),
    )


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "data:text/html;base64,AA==", "data:,x"])
def test_what_is_no_picture_is_not_kept_as_one(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    reply = stream(piece({"content": "Here.", "images": [part]}), piece(finish="stop"))
    assert CHAT.answer(reply).blocks == (Text("Here."),)


def test_the_wish_for_pictures_goes_along() -> None:
    with CHAT.wire([stream(piece({"content": "x"}), piece(finish="stop"))]) as server:
        CHAT.ask(server, params={"modalities": ["image", "text"]})
        assert server.requests[0].body["modalities"] == ["image", "text"]
