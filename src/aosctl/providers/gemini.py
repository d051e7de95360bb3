"""Gemini, through the chat completions that Google serves beside its own API."""

from __future__ import annotations

from aosctl.providers.openai import OpenAIProvider


class GeminiProvider(OpenAIProvider):
    """Speak chat completions with Google; `chat_format` and `chat_answer` know what is its own."""

    name = "gemini"
    usual_key = "GEMINI_API_KEY"
    address = "https://generativelanguage.googleapis.com/v1beta/openai/"
