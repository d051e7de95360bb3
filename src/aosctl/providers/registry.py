"""Which provider answers for a model, or embeds; each is imported when it is first asked for."""

from __future__ import annotations

from difflib import get_close_matches

from aosctl.errors import ProviderError
from aosctl.providers.base import ModelSpec, Provider
from aosctl.providers.embedding import Embedder

PROVIDERS = ("offline", "script", "openai", "anthropic", "ollama", "gemini")
EMBEDDERS = ("openai", "gemini", "ollama", "local")


def provider_for(spec: ModelSpec) -> Provider:
    """Return the provider of a model; raise ProviderError when there is none."""
    if spec.provider == "offline":
        from aosctl.providers.offline import OfflineProvider

        return OfflineProvider()
    if spec.provider == "script":
        from aosctl.providers.script import ScriptProvider

        return ScriptProvider()
    if uses_responses(spec):
        from aosctl.providers.responses import ResponsesProvider

        return ResponsesProvider(max_retries=0)
    if spec.provider == "openai":
        from aosctl.providers.openai import OpenAIProvider

        return OpenAIProvider(max_retries=0)  # the loop asks again, seen and stoppable
    if spec.provider == "anthropic":
        from aosctl.providers.anthropic import AnthropicProvider

        return AnthropicProvider(max_retries=0)
    if spec.provider == "ollama":
        from aosctl.providers.ollama import OllamaProvider

        return OllamaProvider(max_retries=0)
    if spec.provider == "gemini":
        from aosctl.providers.gemini import GeminiProvider

        return GeminiProvider(max_retries=0)
    raise _unavailable(spec)


def uses_responses(spec: ModelSpec) -> bool:
    """Tell whether a model is asked through OpenAI's Responses API.

    Those that reason are, at OpenAI itself; what the capability `responses` says goes before. Most
    servers of one's own speak chat completions alone.
    """
    can = spec.capabilities
    at_openai = spec.base_url is None and can.get("reasoning") is True
    return spec.provider == "openai" and can.get("responses", at_openai)


def embedder_of(provider: str) -> Embedder:
    """Return what embeds texts with the models of a provider; raise ProviderError for none."""
    if provider == "openai":
        from aosctl.providers.embedding_openai import OpenAIEmbedder

        return OpenAIEmbedder()
    if provider == "gemini":
        from aosctl.providers.embedding_openai import GeminiEmbedder

        return GeminiEmbedder()
    if provider == "ollama":
        from aosctl.providers.embedding_ollama import OllamaEmbedder

        return OllamaEmbedder()
    if provider == "local":
        from aosctl.providers.embedding_local import LocalEmbedder

        return LocalEmbedder()
    raise ProviderError(
        f'provider "{provider}" has no embedding models',
        hint=f"these have: {', '.join(EMBEDDERS)}",
        kind="bad_request",
    )


def _unavailable(spec: ModelSpec) -> ProviderError:
    near = get_close_matches(spec.provider, PROVIDERS, 1)
    return ProviderError(
        f'model "{spec.name}": unknown provider "{spec.provider}"',
        hint=f"did you mean {near[0]}?" if near else f"providers: {', '.join(PROVIDERS)}",
        kind="bad_request",
    )
