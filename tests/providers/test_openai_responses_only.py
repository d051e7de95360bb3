"""Models that this version can't use with tools say so before anything is sent."""

from __future__ import annotations

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import user
from aosctl.providers.base import ModelRequest, ModelSpec, ToolSpec
from aosctl.providers.openai import OpenAIProvider

TOOL = ToolSpec("sql_query", "reads", {"type": "object"})


def test_a_model_of_the_responses_api_is_refused_with_tools_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-used")
    spec = ModelSpec(
        "openai",
        "gpt-6.2-sol",
        "gpt-6.2-sol",
        api_key_env="OPENAI_API_KEY",
        capabilities={"tools": True, "responses": True},
    )
    request = ModelRequest(spec, "", (user("hello"),), (TOOL,))
    with pytest.raises(ProviderError, match="Responses API") as refused:
        next(OpenAIProvider().stream(request))
    assert refused.value.kind == "bad_request"
    assert not refused.value.retryable
    assert "gpt-6-sol" in (refused.value.hint or "")
