"""`aosctl create persona`, `agent`, …: a generator for each kind that has no verb of its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aosctl.cli.create_kind import Edit, Making, create
from aosctl.cli.flags import ChangedText, DryRunText

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Description = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="A line for people")
]


def _flag(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


def tenant(
    ctx: typer.Context,
    name: Name,
    display_name: Annotated[str | None, _flag("--display-name", "TEXT", "What people read")] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a tenant: a world of its own, which nobody of another one sees.

    Examples:
      aosctl create tenant acme --display-name 'Acme Ltd'
      aosctl create tenant acme --dry-run=client -o yaml
    """
    making = Making(dry_run, output_format, edit)
    create(ctx, "Tenant", name, {"displayName": display_name}, making)


def model(
    ctx: typer.Context,
    name: Name,
    provider: Annotated[
        str,
        _flag(
            "--provider", "PROVIDER", "openai, anthropic, gemini, ollama, local, offline or script"
        ),
    ],
    model_name: Annotated[str | None, _flag("--model", "ID", "What the service calls it")] = None,
    base_url: Annotated[str | None, _flag("--base-url", "URL", "Where the service is")] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a model that personas can name.

    Examples:
      aosctl create model qwen --provider openai --base-url http://localhost:8000/v1
      aosctl create model qwen --provider openai --dry-run=client -o yaml
    """
    spec = {"provider": provider, "model": model_name, "baseUrl": base_url}
    create(ctx, "Model", name, spec, Making(dry_run, output_format, edit))


def collection(
    ctx: typer.Context,
    name: Name,
    description: Description = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a collection of documents for agents to read.

    Examples:
      aosctl create collection handbook --description 'How we work' --edit
      aosctl create collection handbook --dry-run=client -o yaml
    """
    making = Making(dry_run, output_format, edit)
    create(ctx, "Collection", name, {"description": description}, making)


def skill(
    ctx: typer.Context,
    name: Name,
    builtin: Annotated[str, _flag("--builtin", "NAME", "What it does: sql_query, rag_search, …")],
    description: Description = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a skill: something that agents may do, and with which rights.

    Examples:
      aosctl create skill read_shop --builtin sql_query --edit
      aosctl create skill shop --builtin sql_query --dry-run=client -o yaml
    """
    spec = {"builtin": builtin, "description": description}
    create(ctx, "Skill", name, spec, Making(dry_run, output_format, edit))


def mcpserver(
    ctx: typer.Context,
    name: Name,
    url: Annotated[str, _flag("--url", "URL", "Where it is, over streamable HTTP")],
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make an MCP server, whose tools become skills with `aosctl mcp add`.

    One that is a command stands in a manifest: `aosctl explain mcpserver.spec`.

    Examples:
      aosctl create mcpserver tickets --url https://tickets.example.com/mcp
      aosctl create mcpserver tickets --url https://x.example/mcp --edit
    """
    create(ctx, "McpServer", name, {"url": url}, Making(dry_run, output_format, edit))


def policy(
    ctx: typer.Context,
    name: Name,
    skills: Annotated[list[str], _flag("--skill", "NAME", "What it is about; * for any text")],
    decision: Annotated[str, _flag("--decision", "WORD", "ask, deny or allow")],
    reason: Annotated[str | None, _flag("--reason", "TEXT", "Why; people are told")] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a policy: a rule about what agents call.

    Examples:
      aosctl create policy no_mail --skill 'send_*' --decision deny
      aosctl create policy mail --skill 'send_*' --decision ask --dry-run=client
    """
    spec = {"skills": skills, "decision": decision, "reason": reason}
    create(ctx, "Policy", name, spec, Making(dry_run, output_format, edit))


def persona(
    ctx: typer.Context,
    name: Name,
    model_name: Annotated[str, _flag("--model", "MODEL", "The model it thinks with")],
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="Its system prompt")
    ] = "You are a helpful assistant.",
    description: Description = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a persona: who an agent is.

    Examples:
      aosctl create persona clerk --model gpt-4o --prompt 'Answer in one sentence.'
      aosctl create persona clerk --model gpt-4o --dry-run=client -o yaml
    """
    spec = {"model": model_name, "systemPrompt": prompt, "description": description}
    create(ctx, "Persona", name, spec, Making(dry_run, output_format, edit))


def agent(
    ctx: typer.Context,
    name: Name,
    persona_name: Annotated[str, _flag("--persona", "PERSONA", "Who it is")],
    skills: Annotated[list[str] | None, _flag("--skill", "SKILL", "What it may use")] = None,
    description: Description = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make an agent: a persona at work, with its skills and limits.

    Examples:
      aosctl create agent bot --persona clerk --skill sql_query --skill rag_search
      aosctl create agent bot --persona clerk --dry-run=client -o yaml
    """
    spec = {"persona": persona_name, "skills": skills or None, "description": description}
    create(ctx, "Agent", name, spec, Making(dry_run, output_format, edit))


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def budget(
    ctx: typer.Context,
    name: Name,
    max_usd: Annotated[float | None, _flag("--max-usd", "USD", "Money")] = None,
    max_tokens: Annotated[int | None, _flag("--max-tokens", "N", "Tokens")] = None,
    period: Annotated[str | None, _flag("--period", "WORD", "day or total")] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a budget: what the agents of a tenant may spend.

    Examples:
      aosctl create budget team_day --max-usd 25
      aosctl create budget all --period total --max-tokens 5000000 --edit
    """
    limits = {"maxUsd": max_usd, "maxTokens": max_tokens}
    given = {key: _whole(value) for key, value in limits.items() if value is not None}
    spec = {"scope": "tenant", "period": period, "limits": given}
    create(ctx, "Budget", name, spec, Making(dry_run, output_format, edit))


def schedule(
    ctx: typer.Context,
    name: Name,
    agent_name: Annotated[str, _flag("--agent", "AGENT", "Who does it")],
    expression: Annotated[str, _flag("--schedule", "CRON", "When, such as '0 8 * * 1-5'")],
    task: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="What it is told", show_default=False)
    ],
    time_zone: Annotated[
        str | None, _flag("--timezone", "ZONE", "Whose clock, such as Europe/Berlin; UTC if none")
    ] = None,
    policy_word: Annotated[
        str | None,
        _flag("--concurrency-policy", "WORD", "While a run is open: Allow, Forbid or Replace"),
    ] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
    edit: Edit = False,
) -> None:
    """Make a schedule: a task that an agent is given again and again.

    Examples:
      aosctl create schedule report --agent bot --schedule '0 8 * * 1-5' 'Report.'
      aosctl create schedule tidy --agent bot --schedule @daily --edit 'Tidy up.'
    """
    spec = {
        "agent": agent_name,
        "schedule": expression,
        "timeZone": time_zone,
        "concurrencyPolicy": policy_word,
        "input": " ".join(task),
    }
    create(ctx, "Schedule", name, spec, Making(dry_run, output_format, edit))


GENERATORS = (
    tenant,
    model,
    collection,
    mcpserver,
    skill,
    policy,
    persona,
    agent,
    budget,
    schedule,
)
