"""Choose a model for a newcomer: a key in the environment, a local Ollama, else none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

OFFLINE = "offline"
OPENAI_FIRST = ("gpt-6-sol", "gpt-6-luna", "gpt-4o")
"""The best first, of those that take tools."""
ANTHROPIC_FIRST = ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5")
GEMINI_FIRST = ("gemini-3.8-flash", "gemini-3.5-flash-lite", "gemini-4-argon")
VENDORS = {
    "openai": ("OPENAI_API_KEY", OPENAI_FIRST),
    "anthropic": ("ANTHROPIC_API_KEY", ANTHROPIC_FIRST),
    "gemini": ("GEMINI_API_KEY", GEMINI_FIRST),
}
"""Whose key is looked for, in this order: its variable, and which of their models come first."""
OLLAMA_PORT = 11434
OLLAMA_PREFIX = "ollama."
_OLLAMA_CONTEXT = 16_384  # takes a model of 3B parameters about 2 GB more
PATIENCE_SECONDS = 0.3
_MOST_MODELS_ASKED = 20


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model by its name in the registry, and why; `spec` when it has to be registered first."""

    name: str
    why: str
    spec: Mapping[str, Any] | None = None


def choose_model(env: Mapping[str, str], models: Mapping[str, Sequence[str]]) -> ModelChoice:
    """Choose among what `env` and this machine offer; `models` are the vendors', with tools."""
    for vendor, (key, first) in VENDORS.items():
        known = models.get(vendor, ())
        found = [*(name for name in first if name in known), *known]
        if env.get(key) and found:
            return ModelChoice(found[0], f"{key} is set")
    endpoint = ollama_endpoint(env)
    model = ollama_model(endpoint)
    if model is None:
        where = endpoint.partition("://")[2]
        keys = ", ".join(f"no {key}" for key, _ in VENDORS.values())
        why = f"{keys}, no Ollama with tools at {where}"
        return ModelChoice(OFFLINE, why)
    spec = {
        "provider": "ollama",
        "model": model,
        "baseUrl": endpoint,
        "contextWindow": _OLLAMA_CONTEXT,
        "params": {"num_ctx": _OLLAMA_CONTEXT},  # without it, Ollama gives what it thinks right
    }
    name = OLLAMA_PREFIX + re.sub(r"[^a-z0-9_.-]+", "-", model.lower())
    return ModelChoice(name[:63], f"Ollama answers at {endpoint}", spec)


def is_a_default(name: str) -> bool:
    """Tell whether `choose_model` may have chosen this one; another was set by a person."""
    defaults = {OFFLINE, *(one for _, first in VENDORS.values() for one in first)}
    return name in defaults or name.startswith(OLLAMA_PREFIX)


def ollama_endpoint(env: Mapping[str, str]) -> str:
    """Return the URL that OLLAMA_HOST means; the forms are Ollama's own."""
    given = env.get("OLLAMA_HOST", "").strip()
    url = urlsplit(given if "://" in given else f"http://{given}")
    host = url.hostname or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - where a server listens, not where it is reached
        host = "127.0.0.1"
    try:
        port = url.port
    except ValueError:
        port = None
    default = {"https": 443, "http": 80}[url.scheme] if "://" in given else OLLAMA_PORT
    shown = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{shown}:{port or default}"


def ollama_model(endpoint: str) -> str | None:
    """Return the first model there that can call tools; None when nothing answers in time."""
    listed = _ask(endpoint, "GET", "/api/tags")
    models = listed.get("models") if listed else None
    names: list[str] = [
        entry["name"]
        for entry in (models if isinstance(models, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    ]
    for name in names[:_MOST_MODELS_ASKED]:
        shown = _ask(endpoint, "POST", "/api/show", {"model": name})
        if shown is not None and "tools" in shown.get("capabilities", ["tools"]):
            return name
    return None


def _ask(
    endpoint: str, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    url = urlsplit(endpoint)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, json.dumps(body) if body else None)
        answer = connection.getresponse()
        value = json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return value if isinstance(value, dict) else None
