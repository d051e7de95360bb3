"""Have the question of a search embedded, so that the kernel looks for what it means as well."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.domain.asking import Check, heard_from
from aosctl.domain.transcript import model_spec
from aosctl.errors import AosError, ProviderError
from aosctl.providers.base import Line, ModelSpec

if TYPE_CHECKING:
    from aosctl.providers.embedding import Embedded, Embedder


@dataclass(slots=True)
class Question:
    """A question's vectors by model, one for each length, the tokens they cost, and what failed."""

    vectors: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def embedded(
    tenant: UUID,
    asked: Mapping[str, Any],
    embedder_of: Callable[[str], Embedder],
    check: Check,
) -> Question:
    """Embed what `WorkerClient.search_models` said, by every model that it names.

    A model that fails costs the search that model's collections' vectors, and no more: why stands
    under "error", for the agent's model to read. Raises what `check` raises.
    """
    question = Question()
    for row in asked["models"]:
        model = _with_key(tenant, row)
        try:
            made = _embed(embedder_of, model, asked["question"], row["dimensions"], check)
        except ProviderError as error:
            question.vectors["error"] = (
                f'the model "{model.name}" did not embed the question: {error.message}'
            )
            continue
        question.vectors.setdefault(model.name, []).append(list(made.vectors[0]))
        question.tokens[model.name] = question.tokens.get(model.name, 0) + made.tokens
    return question


def _with_key(tenant: UUID, row: Mapping[str, Any]) -> ModelSpec:
    model, secret = model_spec(row), row.get("secret")
    if secret is None or not secret.get("sealed"):
        return model
    from aosctl.domain.secrets import key_opener

    return replace(model, open_key=key_opener(str(tenant), secret))


def _embed(
    embedder_of: Callable[[str], Embedder],
    model: ModelSpec,
    text: str,
    dimensions: int,
    check: Check,
) -> Embedded:
    """Embed in a thread of its own; leave with what `check` raises, even while none comes."""

    def ask(line: Line) -> Generator[Embedded, None, None]:
        try:
            embedder = embedder_of(model.provider)
            made = embedder.embed(model, (text,), query=True, dimensions=dimensions, line=line)
        except ProviderError:
            raise
        except AosError as error:  # such as a key that is not there
            raise ProviderError(error.message, error.hint) from error
        yield made

    with closing(heard_from(ask, check)) as said:
        return next(said)
