"""Kind Model: a language model, or one that makes embeddings, and how to reach it."""

from __future__ import annotations

from aosctl.domain.fields import VALUE_PATTERN, Anything, Choice, Flag, Number, Reference, Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Resource, Spec
from aosctl.domain.kinds.embedding import completed, embeds_texts
from aosctl.domain.structures import Field, ListOf, MapOf, Object

PROVIDERS = ("openai", "anthropic", "gemini", "ollama", "local", "offline", "script")
_LONG = 1_000_000
_PRICE = Number(minimum=0)


def _web_address(text: str) -> str | None:
    """Say why a text can't be a model's endpoint."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "is not an http or https URL"
        if parts.username is not None or parts.password is not None:
            return "holds a user name or password; keys come from the variable in apiKeyEnv"
    except ValueError:
        return "is not an http or https URL"
    return None if text.isprintable() and " " not in text else "is not an http or https URL"


_FAULTS = (
    "auth",
    "rate_limit",
    "overloaded",
    "timeout",
    "network",
    "context_too_long",
    "bad_request",
    "truncated",
    "server",
    "no_key",
)

_SCRIPT_STEP = Object(
    fields=(
        Field("text", Text(max_length=_LONG), "What the model answers."),
        Field("think", Text(max_length=_LONG), "What it thinks first."),
        Field(
            "calls",
            ListOf(
                item=Object(
                    fields=(
                        Field("name", Text(min_length=1, max_length=64), "Skill.", required=True),
                        Field("args", MapOf(value=Anything()), "Its arguments.", default={}),
                    )
                ),
                max_items=100,
            ),
            "The tool calls it makes.",
        ),
        Field("delaySeconds", Number(minimum=0, maximum=3600), "How long it takes to answer."),
        Field(
            "usage",
            Object(
                fields=(
                    Field("in", Number(minimum=0, whole=True), "Input tokens.", default=0),
                    Field("out", Number(minimum=0, whole=True), "Output tokens.", default=0),
                )
            ),
            "What the answer is charged for.",
        ),
        Field(
            "error",
            Object(
                fields=(
                    Field("kind", Choice(values=_FAULTS), "What goes wrong.", required=True),
                    Field("message", Text(min_length=1), "What is said about it."),
                    Field("status", Number(minimum=100, maximum=599, whole=True), "HTTP status."),
                    Field(
                        "retryAfterSeconds", Number(minimum=0), "How long the service asks to wait."
                    ),
                )
            ),
            "Fails instead of answering, each time it is asked.",
        ),
    )
)

_PRICING = Object(
    fields=(
        Field("inputUsdPerMtok", _PRICE, "USD per million input tokens."),
        Field("cachedInputUsdPerMtok", _PRICE, "USD per million input tokens read from a cache."),
        Field(
            "cacheWriteUsdPerMtok",
            _PRICE,
            "USD per million input tokens that are written to a cache.",
            default_words="the price of input",
        ),
        Field("outputUsdPerMtok", _PRICE, "USD per million output tokens."),
    )
)

_RATE = Object(
    fields=(
        Field(
            "requestsPerMinute",
            Number(whole=True, minimum=1, maximum=10_000_000),
            "How often it may be asked.",
            default_words="no limit",
        ),
        Field(
            "tokensPerMinute",
            Number(whole=True, minimum=1),
            "How many tokens, in and out, it may be asked for: the question's before, as they are"
            " estimated, and the real ones after.",
            default_words="no limit",
        ),
    )
)

_RETRY = Object(
    fields=(
        Field(
            "attempts",
            Number(whole=True, minimum=1, maximum=20),
            "How often a question is asked at most; after a silence (`timeoutSeconds`), which is"
            " waited for and often paid for, twice at most.",
            default=3,
        ),
        Field(
            "maxDelaySeconds",
            Number(minimum=0, maximum=600),
            "The longest pause before it is asked again. Without a `Retry-After` of the service a"
            " pause is a random time up to 2, 4, 8, … seconds; one that asks for more than this is"
            " not waited for.",
            default=20,
        ),
    )
)


_COMPACTION = Object(
    fields=(
        Field(
            "mode",
            Choice(values=("summarize", "drop", "off")),
            "Whether the model sums up what is left out, it is only dropped (as it is where the"
            " capability `summaries` is false), or the turn fails.",
            default="summarize",
        ),
        Field(
            "at",
            Number(minimum=0.1, maximum=1),
            "From which share of the context window on, less where the longest answer needs more.",
            default=0.9,
        ),
        Field(
            "keep",
            Number(minimum=0, maximum=0.9),
            "How large a share of it stays as it was said.",
            default=0.3,
        ),
    )
)


def _price(row: Resource, name: str) -> float | None:
    pricing = row.spec.get("pricing") or {}
    price: float | None = pricing.get(name)
    return price


def _key(row: Resource) -> str | None:
    secret = row.spec.get("apiKeySecret")
    return f"secret/{secret}" if secret else row.spec.get("apiKeyEnv")


class Model(Kind):
    name = "Model"
    plural = "models"
    short_names = ("mod",)
    tenanted = False
    db_schema = "aos_meta"
    doc = (
        "A language model: who serves it, what it can do, what it costs. The kernel brings the"
        " current models of OpenAI, Anthropic, Gemini and Ollama, and `offline`, which is no"
        " language model: it answers from collections and runs SQL that is typed to it. A model"
        " with the capability `embeddings` makes vectors of texts for collections, and can't chat."
    )
    fields = (
        Field(
            "provider",
            Choice(values=PROVIDERS),
            "Who serves it. `openai` with a `baseUrl` reaches every server that speaks its"
            " protocol (vLLM, LM Studio, llama.cpp, OpenRouter), `anthropic` with one every gateway"
            " that speaks the Messages API; `ollama` is Ollama's own API. `local` runs an embedding"
            " model in aosctl's own process, from a folder of ONNX files (the extra"
            " `local-embeddings`). `offline` needs no service; `script` plays the answers in"
            " `script`, for tests of one's own agents.",
            required=True,
        ),
        Field(
            "model",
            Text(min_length=1, max_length=200),
            "The provider's own name of the model.",
            default_words="the manifest's name",
        ),
        Field(
            "baseUrl",
            Text(min_length=1, check=_web_address),
            "The endpoint, where it is not the provider's own, such as `http://localhost:8000/v1`.",
            default_words="the provider's own",
        ),
        Field(
            "apiKeyEnv",
            Text(
                min_length=1,
                max_length=128,
                pattern="[A-Za-z_][A-Za-z0-9_]*",
                rule="takes the name of an environment variable, such as OPENAI_API_KEY,"
                " never the key itself",
                secret=True,
            ),
            "The environment variable of the worker that holds the key. The key itself never"
            " enters a manifest or the database.",
            default_words="the provider's usual one",
        ),
        Field(
            "apiKeySecret",
            Text(
                min_length=1,
                max_length=320,
                pattern=VALUE_PATTERN,
                rule="takes NAME or NAME/KEY of a Secret, never the key itself",
                secret=True,
            ),
            "The Secret that holds the key, instead of `apiKeyEnv`: `NAME`, or `NAME/KEY` where it"
            " has several values. It is one of the tenant whose agent asks the model, and is"
            " opened in the worker's process at the moment of the call.",
        ),
        Field(
            "contextWindow",
            Number(whole=True, minimum=256, maximum=100_000_000),
            "How many tokens fit into one request, answer included.",
            default=128_000,
        ),
        Field(
            "maxOutputTokens",
            Number(whole=True, minimum=1, maximum=10_000_000),
            "The longest answer to ask for, in tokens; at most the context window.",
            default=4_096,
        ),
        Field(
            "timeoutSeconds",
            Number(minimum=1, maximum=3_600),
            "How long one answer may take, in seconds.",
            default=120,
        ),
        Field(
            "capabilities",
            MapOf(value=Flag(), max_items=50),
            "What it can or can't do, such as `tools`, `vision`, `thinking` or `temperature`:"
            " parameters of a capability that is false are not sent, and `/compact` is refused"
            " where `summaries` is, as it is for provider offline by default. `responses` says"
            " whether a model of provider openai is asked through the Responses API or through chat"
            " completions; by default it is where `reasoning` is true and there is no `baseUrl`."
            " `embeddings`: it makes vectors of texts, as many numbers as `params.dimensions` says;"
            " with `dimensions` it can be asked for fewer.",
            default={},
        ),
        Field(
            "params",
            MapOf(value=Anything(), max_items=50),
            "Parameters of each request, such as `temperature`, passed on as they are. Of a model"
            " with embeddings, `query_prefix` and `document_prefix` are put before the texts, and"
            " `query_params` and `document_params` go with one kind of request alone.",
            default={},
        ),
        Field(
            "pricing", _PRICING, "What it costs. Without prices its cost counts as 0.", default={}
        ),
        Field(
            "rateLimit",
            _RATE,
            "How often all runs of all tenants together may ask it in a minute of the clock. A turn"
            " that comes too late waits in the queue for the next minute.",
            default={},
        ),
        Field(
            "retry",
            _RETRY,
            "How a fault that may pass by itself (`rate_limit`, `overloaded`, `timeout`, `network`,"
            " `truncated`, `server`) is tried again, before a fallback is asked.",
            default={},
        ),
        Field(
            "fallbacks",
            ListOf(item=Reference(kind="Model"), max_items=10),
            "The models that are asked instead, one after the other, where this one fails and"
            " asking it again has not helped: for the rest of that turn. Their own fallbacks are"
            " not followed.",
            default=[],
        ),
        Field(
            "compaction",
            _COMPACTION,
            "What is done where a conversation outgrows the context window. What is left out is"
            " kept and recorded; the prompt, the tools and what people said in the turn are always"
            " sent.",
            default={},
        ),
        Field("active", Flag(), "Whether new runs may use it.", default=True),
        Field(
            "script",
            ListOf(item=_SCRIPT_STEP, min_items=1),
            "For the provider `script`, and only for it: the answers, one for each request.",
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Model
metadata:
  name: local-qwen
spec:
  provider: openai
  model: qwen3-32b
  baseUrl: http://localhost:8000/v1
  apiKeyEnv: LOCAL_API_KEY
  contextWindow: 32768
  params:
    temperature: 0.2
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("PROVIDER", lambda row: row.spec.get("provider")),
        Column("MODEL", lambda row: row.spec.get("model")),
        Column("USE", lambda row: "embeddings" if embeds_texts(row.spec) else "chat"),
        Column("CONTEXT", lambda row: row.spec.get("contextWindow")),
        Column("ACTIVE", lambda row: row.spec.get("active")),
        Column("AGE", lambda row: row.created_at),
        Column("MAX-OUTPUT", lambda row: row.spec.get("maxOutputTokens"), wide=True),
        Column("INPUT-USD", lambda row: _price(row, "inputUsdPerMtok"), wide=True),
        Column("OUTPUT-USD", lambda row: _price(row, "outputUsdPerMtok"), wide=True),
        Column("BUILT-IN", lambda row: row.status.get("builtin"), wide=True),
        Column("KEY", _key, wide=True),
        Column("FALLBACKS", lambda row: ",".join(row.spec.get("fallbacks") or ()), wide=True),
        Column("BASE-URL", lambda row: row.spec.get("baseUrl"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Default the vendor's name; check the script and the sizes against the rest."""
        _check_script(spec, at)
        _check_fallbacks(spec, at)
        if "apiKeyEnv" in spec and "apiKeySecret" in spec:
            at.wrong("spec.apiKeySecret", "goes instead of apiKeyEnv, not beside it")
        spec = completed({**spec, "model": spec.get("model", at.name)}, at)
        if spec["maxOutputTokens"] > spec["contextWindow"]:
            at.wrong("spec.maxOutputTokens", "is larger than the context window")
        return spec


def _check_script(spec: Spec, at: Completion) -> None:
    if spec["provider"] == "script" and "script" not in spec:
        at.wrong("spec.script", "is required with the provider script")
    if spec["provider"] != "script" and "script" in spec:
        at.wrong("spec.script", "goes with the provider script only")
    for place, step in enumerate(spec.get("script", [])):
        if not step:
            at.wrong(f"spec.script[{place}]", "needs a text, a think or calls")


def _check_fallbacks(spec: Spec, at: Completion) -> None:
    for place, name in enumerate(spec["fallbacks"]):
        if name == at.name:
            at.wrong(f"spec.fallbacks[{place}]", "is the model itself")
        elif name in spec["fallbacks"][:place]:
            at.wrong(f"spec.fallbacks[{place}]", "is named twice")
