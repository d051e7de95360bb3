"""Which provider answers for a model, and that none is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aosctl.errors import ProviderError
from aosctl.providers.base import ModelSpec
from aosctl.providers.registry import PROVIDERS, provider_for


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_provider_is_found_by_its_name(name: str) -> None:
    assert provider_for(ModelSpec(name, "m", "m")).name == name


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(ProviderError) as caught:
        provider_for(ModelSpec("opnai", "m", "m"))
    assert caught.value.hint == "did you mean openai?"


def test_no_sdk_is_imported_before_a_model_is_asked() -> None:
    code = (
        "import sys; from aosctl.providers.base import ModelSpec;"
        "from aosctl.providers.registry import provider_for, PROVIDERS;"
        "[provider_for(ModelSpec(name, 'm', 'm')) for name in PROVIDERS];"
        "sdks = {'openai', 'anthropic', 'ollama', 'httpx', 'httpx2', 'pydantic'};"
        "sys.exit(len(sdks & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
