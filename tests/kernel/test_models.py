"""The models that ship with the kernel: complete rows, and what the quickstart chooses from."""

from __future__ import annotations

import psycopg
import pytest

from aosctl.domain.default_model import OFFLINE, OPENAI_FIRST, choose_model
from aosctl.domain.kinds.embedding import EMBEDDERS
from kernels import KernelDatabase

KEYS = {
    "openai": "env:OPENAI_API_KEY",
    "anthropic": "env:ANTHROPIC_API_KEY",
    "gemini": "env:GEMINI_API_KEY",
}
TAKE_TOOLS = """
    select model_name from aos_meta.llm_model_registry
    where provider = 'openai' and capabilities @> '{"tools": true}'
"""


def test_every_provider_has_models_and_each_has_its_key_and_prices(
    kernel_database: KernelDatabase,
) -> None:
    found = kernel_database.rows(
        "select provider, api_key_ref, num_nulls(input_usd_per_mtok, cached_input_usd_per_mtok,"
        " output_usd_per_mtok), cached_input_usd_per_mtok <= input_usd_per_mtok,"
        " input_usd_per_mtok <= output_usd_per_mtok, max_output_tokens < context_window, is_builtin"
        " from aos_meta.llm_model_registry where not capabilities @> '{\"embeddings\": true}'"
    )
    assert {row[0] for row in found} == {*KEYS, "ollama", OFFLINE}
    for provider, key, *facts in found:
        assert key == KEYS.get(provider)
        assert facts == [0, True, True, True, True]


def test_embedding_models_say_how_long_their_vectors_are_and_what_they_cost(
    kernel_database: KernelDatabase,
) -> None:
    found = kernel_database.rows(
        "select model_name, provider, api_key_ref, input_usd_per_mtok,"
        " (default_params ->> 'dimensions')::int between 1 and 4000,"
        " (default_params ? 'query_prefix') = (default_params ? 'document_prefix'),"
        " capabilities - 'dimensions', is_builtin"
        " from aos_meta.llm_model_registry where capabilities @> '{\"embeddings\": true}'"
    )
    assert {row[1] for row in found} == set(EMBEDDERS)
    for name, provider, key, price, *facts in found:
        assert key == (KEYS.get(provider) if provider in KEYS else None), name
        assert (price > 0) == (provider in KEYS), name
        assert facts == [True, True, {"embeddings": True}, True], name


@pytest.mark.parametrize("use", ["persona", "fallback"])
def test_a_model_in_use_does_not_turn_into_one_that_embeds(
    kernel_database: KernelDatabase, use: str
) -> None:
    admin = kernel_database.superuser
    meta = '{"labels": {}, "annotations": {}}'
    embeds = '{"provider": "ollama", "capabilities": {"embeddings": true}}'
    apply = f"select aos_meta.apply_model(%s, '{meta}', %s)"
    with admin.transaction(force_rollback=True):
        admin.execute(apply, ("mine", '{"provider": "offline", "fallbacks": []}'))
        if use == "persona":
            tenant = admin.execute(
                "insert into aos_auth.tenant (name) values ('uses') returning tenant_id"
            ).fetchone()
            assert tenant is not None
            persona = f"select aos_persona.apply_persona(%s, 'who', '{meta}', %s)"
            admin.execute(persona, (tenant[0], '{"systemPrompt": "x", "model": "mine"}'))
        else:
            admin.execute(apply, ("other", '{"provider": "offline", "fallbacks": ["mine"]}'))
        with pytest.raises(psycopg.Error, match="is in use") as caught:
            admin.execute(apply, ("mine", embeds))
    assert caught.value.sqlstate == "AO005"


def test_the_guides_model_is_there_and_active(kernel_database: KernelDatabase) -> None:
    assert kernel_database.value(
        "select is_active from aos_meta.llm_model_registry where model_name = 'gpt-4o'"
    )


def test_with_a_key_the_newcomers_model_takes_tools(
    kernel_database: KernelDatabase,
) -> None:
    names = [row[0] for row in kernel_database.rows(TAKE_TOOLS)]
    assert set(OPENAI_FIRST) <= set(names)
    assert choose_model({"OPENAI_API_KEY": "k"}, {"openai": names}).name == OPENAI_FIRST[0]


def test_a_model_of_openai_that_reasons_is_asked_where_it_reasons_and_uses_tools(
    kernel_database: KernelDatabase,
) -> None:
    """Through chat completions it would have to do without one of the two."""
    found = kernel_database.rows(
        "select model_name, capabilities, default_params"
        " from aos_meta.llm_model_registry where provider = 'openai'"
        " and not capabilities @> '{\"embeddings\": true}'"
    )
    assert {name for name, can, _ in found if not can.get("reasoning")} == {"gpt-4o"}
    for name, can, params in found:
        assert can.get("responses") == can.get("reasoning"), name
        assert params == {}, name


def test_a_model_of_anthropic_shows_its_thinking_or_takes_a_temperature(
    kernel_database: KernelDatabase,
) -> None:
    """Those that think unasked take none; the one before them thinks where it is told how long."""
    for name, params, warm in kernel_database.rows(
        "select model_name, default_params, capabilities -> 'temperature'"
        " from aos_meta.llm_model_registry where provider = 'anthropic'"
    ):
        shown = {"thinking": {"type": "adaptive", "display": "summarized"}}
        assert (params, warm) == (({}, True) if name == "claude-haiku-4-5" else (shown, False))
