"""What a server asks in the middle of a call (MCP's elicitation), put to the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aosctl.domain.tools.base import Question, Reply

if TYPE_CHECKING:
    from mcp import MCPError
    from mcp_types import ElicitRequestParams, ElicitResult

_LONGEST_TEXT = 4_000
_MOST_FIELDS = 50
_MOST_PAGES = 5


def question_of(server: str, params: ElicitRequestParams) -> Question | None:
    """Return what a person can be asked; None for what is beyond a form of one level."""
    message = params.message[:_LONGEST_TEXT]
    if params.mode == "url":
        url = params.url
        is_web = url.startswith(("https://", "http://")) and url.isprintable()
        return Question(server, message, url=url) if is_web and len(url) <= _LONGEST_TEXT else None
    schema: dict[str, Any] = params.requested_schema
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(properties) > _MOST_FIELDS:
        return None
    if not all(isinstance(field, dict) for field in properties.values()):
        return None
    return Question(server, message, schema=schema)


def pages_of(server: str, error: MCPError) -> list[Question]:
    """Return the pages that a server wants opened before it does what it was called for.

    It has refused with the error that says so (-32042, as of 2025-11-25); none where that is
    another error, or one of the pages is nothing to show to a person.
    """
    from mcp import UrlElicitationRequiredError
    from mcp_types import URL_ELICITATION_REQUIRED

    if error.code != URL_ELICITATION_REQUIRED:
        return []
    try:
        wanted = UrlElicitationRequiredError.from_error(error.error).elicitations
    except (ValueError, TypeError, AttributeError):  # data of another shape
        return []
    found = [question_of(server, params) for params in wanted[:_MOST_PAGES]]
    pages = [page for page in found if page is not None]
    return pages if len(pages) == len(wanted) else []


def answer_of(question: Question, reply: Reply) -> ElicitResult:
    """Return the reply as the wire has it."""
    from mcp_types import ElicitResult

    if reply.action != "accept" or question.url is not None:
        return ElicitResult(action=reply.action)
    content: Any = dict(reply.content or {})
    return ElicitResult(action="accept", content=content)
