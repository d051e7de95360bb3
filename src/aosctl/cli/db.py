"""`aosctl db`: the embedded server, and the kernel in any database."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import db_kernel, output
from aosctl.cli.db_target import embedded_only, owner_conninfo, progress_of, target_of, worker_of
from aosctl.errors import DatabaseUnavailable, redact_dsn
from aosctl.redaction import MASTER_KEY_VARIABLE

if TYPE_CHECKING:
    from aosctl.db.kernel_status import DatabaseStatus

app = typer.Typer(
    help="""Install the kernel and run the embedded database.

start, stop and reset act on the embedded database. The others act on the database
that --dsn, --context or the settings choose; without any, that is the embedded one.

Examples:
  aosctl db status
  aosctl db install --dsn 'host=db.example.com dbname=app user=app_owner'
  aosctl db backup kernel.aosbackup
  psql "$(aosctl db url)\"""",
    rich_markup_mode=None,
)

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask")]


@app.command("start")
def start(ctx: typer.Context) -> None:
    """Start the embedded database, creating it if need be.

    Examples:
      aosctl db start
    """
    embedded_only(ctx)
    from aosctl.db import embedded

    was_running = embedded.status().server is not None
    server = embedded.ensure_running(progress=progress_of(ctx))
    state = "is already running" if was_running else "is running"
    output.write(f"The embedded database {state} (process {server.pid}).\n")


@app.command("stop")
def stop(ctx: typer.Context) -> None:
    """Stop the embedded database; its data stays.

    Examples:
      aosctl db stop
    """
    embedded_only(ctx)
    from aosctl.db import embedded

    stopped = embedded.stop()
    output.write(f"The embedded database {'has stopped' if stopped else 'was not running'}.\n")


@app.command("reset")
def reset(ctx: typer.Context, yes: Yes = False) -> None:
    """Delete the embedded database with all its data.

    Examples:
      aosctl db reset
      aosctl db reset --yes
    """
    embedded_only(ctx)
    from aosctl.cli.confirm import confirm
    from aosctl.db import embedded

    found = embedded.status()
    if found.size_bytes == 0:
        output.write("There is no embedded database.\n")
        return
    size = human_size(found.size_bytes)
    confirm(f"This deletes the embedded database in {found.data_dir} ({size})", "reset", yes=yes)
    embedded.reset()
    output.write("The embedded database is deleted.\n")


@app.command("url")
def url(
    ctx: typer.Context,
    worker: Annotated[
        bool, typer.Option("--worker", help="The agents' loop instead of the owner")
    ] = False,
) -> None:
    """Print the libpq URI of the database for other tools.

    The embedded database is started if need be. It lets in your account of this
    machine only, without a password.

    Examples:
      psql "$(aosctl db url)"
    """
    output.write((worker_of(ctx) if worker else owner_conninfo(ctx)) + "\n")


@app.command("psql", context_settings={"ignore_unknown_options": True})
def psql(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="Handed to psql")
    ] = None,
) -> None:
    """Open psql on the database.

    Examples:
      aosctl db psql -- -c 'select * from aos_core.run_status'
    """
    from aosctl.db.psql import command_line, find_psql

    program = find_psql()
    words, password = command_line(owner_conninfo(ctx), arguments or [])
    if password is not None:
        os.environ["PGPASSWORD"] = password
    sys.stdout.flush()
    os.environ.pop(MASTER_KEY_VARIABLE, None)
    os.execv(program, [str(program), *words])  # noqa: S606 - psql, with no shell in between


@app.command("status")
def status(
    ctx: typer.Context,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """Show the server, the kernel and its size; nothing is started.

    Examples:
      aosctl db status
      aosctl db status -o json | jq -r .kernel
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    facts = _facts(ctx)
    if chosen.format == "json":
        output.write_json(facts)
    elif chosen.format == "yaml":
        output.write_yaml(facts)
    else:
        output.write("".join(_line(name, value) for name, value in facts.items()))


def _facts(ctx: typer.Context) -> dict[str, object]:
    target = target_of(ctx)
    facts: dict[str, object] = {"target": redact_dsn(target.source)}
    if target.kind == "embedded":
        from aosctl.db import embedded

        found = embedded.status()
        facts["dataFolder"] = str(found.data_dir)
        facts["logFolder"] = str(found.log_dir)
        if found.server is None:
            there = found.size_bytes > 0
            return facts | {
                "server": "stopped" if there else "not created yet",
                "diskBytes": found.size_bytes,
                "next": "aosctl db start" if there else "aosctl quickstart",
            }
        facts["process"] = found.server.pid
        facts["socketFolder"] = found.server.host
    from aosctl.db.connection import connect
    from aosctl.db.kernel_status import read_status

    try:
        connection = connect(owner_conninfo(ctx), "db", tried=target.tried)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(error.message, "is it running, and is the address right?") from (
            error
        )
    with closing(connection):
        return facts | _database_facts(read_status(connection))


def _database_facts(found: DatabaseStatus) -> dict[str, object]:
    from aosctl import __version__

    facts: dict[str, object] = {
        "server": f"running, PostgreSQL {found.server}",
        "database": found.database,
        "login": found.login,
        "databaseBytes": found.size_bytes,
        "client": __version__,
    }
    kernel = found.kernel
    if kernel is None:
        return facts | {"kernel": "not installed", "next": "aosctl db install"}
    way = f"extension pgagentos {kernel.extension}" if kernel.extension else "plain install"
    months = f"{kernel.first_partition} to {kernel.last_partition}"
    if kernel.default_bytes:
        months += f", {human_size(kernel.default_bytes)} outside of these"
    return facts | {
        "kernel": f"{kernel.version} ({way})",
        "kernelBytes": kernel.size_bytes,
        "eventPartitions": months,
        "tenants": [
            {"name": t.name, "agents": t.agents, "runs": t.runs} for t in kernel.tenants
        ],
    }  # fmt: skip


def _line(name: str, value: object) -> str:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name)
    if isinstance(value, int) and name.endswith("Bytes"):
        words, value = words.replace(" bytes", " size"), human_size(value)
    if isinstance(value, list):
        value = ", ".join(f"{t['name']} (agents {t['agents']}, runs {t['runs']})" for t in value)
    return f"{words.capitalize() + ':':<18}{value if value != '' else '<none>'}\n"


def human_size(count: int) -> str:
    """Return a size in bytes as 312 kB or 4.2 MB, like pg_size_pretty's units."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"


db_kernel.register(app)
