"""What `label` and `annotate` have in common: `key=value` sets, `key-` removes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    AllTenants,
    ChangedText,
    DryRunText,
    FieldSelector,
    Selector,
    parse_dry_run,
    suffix,
)
from aosctl.cli.globals import globals_of
from aosctl.domain.names import printable
from aosctl.errors import Conflict, UsageError

if TYPE_CHECKING:
    from aosctl.domain.changing import Changed
    from aosctl.domain.kinds.base import Resource

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="KIND NAME… | KIND/NAME… KEY=VALUE… KEY-…", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Change values that are there")]
Everything = Annotated[bool, typer.Option("--all", help="All of the kinds named")]
Listing = Annotated[bool, typer.Option("--list", help="Print what there is, after any changes")]
ResourceVersion = Annotated[
    int | None,
    typer.Option(
        "--resource-version", metavar="N", help="Only if this is its metadata.generation still"
    ),
]


class Given(NamedTuple):
    """The flags of both verbs."""

    selector: str | None
    field_selector: str | None
    everything: bool
    all_tenants: bool
    overwrite: bool
    listing: bool
    resource_version: int | None
    dry_run: str
    output_format: str | None


def command_of(what: Literal["label", "annotation"], doc: str) -> Callable[..., None]:
    """Return the verb, of which `doc` is the help."""

    def command(
        ctx: typer.Context,
        words: Words = None,
        selector: Selector = None,
        field_selector: FieldSelector = None,
        everything: Everything = False,
        all_tenants: AllTenants = False,
        overwrite: Overwrite = False,
        listing: Listing = False,
        resource_version: ResourceVersion = None,
        dry_run: DryRunText = "none",
        output_format: ChangedText = None,
    ) -> None:
        given = Given(
            selector,
            field_selector,
            everything,
            all_tenants,
            overwrite,
            listing,
            resource_version,
            dry_run,
            output_format,
        )
        relabel(ctx, what, words or (), given)

    command.__doc__ = doc
    return command


class Update(NamedTuple):
    """What to set, and which keys to remove."""

    values: Mapping[str, str]
    gone: tuple[str, ...]

    def apply_to(self, found: Mapping[str, str], *, overwrite: bool) -> dict[str, str]:
        """Return the new ones. Raises Conflict for a value that is there, without `overwrite`."""
        for key, value in self.values.items():
            if not overwrite and found.get(key, value) != value:
                raise Conflict(
                    f"'{key}' already has a value ({found[key]}), and --overwrite is false",
                    "add --overwrite to change it; nothing was changed",
                )
        kept = {key: value for key, value in found.items() if key not in self.gone}
        return {**kept, **self.values}


def relabel(
    ctx: typer.Context, what: Literal["label", "annotation"], words: Sequence[str], given: Given
) -> None:
    """Change labels or annotations of what was named, of all of it or of nothing."""
    verb, field = ("label", "labels") if what == "label" else ("annotate", "annotations")
    chosen = output.parse_output(given.output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(given.dry_run)
    targets, update = parse_update(words, what)
    if not update.values and not update.gone and not given.listing:
        raise UsageError(f"at least one {what} update is required", f"aosctl {verb} --help")

    from aosctl.cli.picking import change, choose
    from aosctl.cli.wiring import session_of

    choice = choose(
        targets,
        verb,
        given.selector,
        given.field_selector,
        everything=given.everything,
        all_tenants=given.all_tenants,
    )

    names = [name for one in choice.wanted for name in one.names or ()]
    if given.resource_version is not None and len(names) != 1:
        raise UsageError("--resource-version may only be used with a single resource")

    def modify(row: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
        _check_version(row, given.resource_version)
        metadata = manifest["metadata"]
        new = update.apply_to(metadata.get(field, {}), overwrite=given.overwrite)
        others = {key: value for key, value in metadata.items() if key != field}
        return {**manifest, "metadata": {**others, **({field: new} if new else {})}}

    with closing(session_of(globals_of(ctx), select_tenant=not given.all_tenants)) as session:
        changed = change(session, choice, modify, trial)
    if not changed:
        from aosctl.cli.resource_table import note_none

        note_none(session.tenant, quiet=globals_of(ctx).quiet)
    _note_missing(changed, field, update, quiet=globals_of(ctx).quiet)
    if given.listing and chosen.is_table:
        _list(changed, field)
    elif chosen.is_table:
        lines = [f"{one.name} {_outcome(one, verb, update)}{suffix(trial)}\n" for one in changed]
        output.write("".join(lines))
    else:
        output.write_objects([one.after for one in changed], chosen, single=len(changed) == 1)


def _check_version(row: Resource, wanted: int | None) -> None:
    """Raise Conflict for a resource that was changed since it was read."""
    if wanted is not None and row.generation != wanted:
        raise Conflict(
            f'{row.kind} "{row.name}" was changed meanwhile: --resource-version is {wanted},'
            f" the database has {row.generation}",
            "look again, then repeat it",
        )


def parse_update(words: Sequence[str], what: str) -> tuple[list[str], Update]:
    """Split what to change from how. Raises UsageError in kubectl's words."""
    targets: list[str] = []
    values: dict[str, str] = {}
    gone: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            if values.get(key, value) != value:
                raise UsageError(f"{what} {key} is given two values")
            values[key] = value
        elif not equals and word.endswith("-") and len(word) > 1:
            gone.append(word[:-1])
        elif values or gone or equals:
            raise UsageError(f"all resources must be specified before {what} changes: {word}")
        else:
            targets.append(word)
    if both := sorted(values.keys() & set(gone)):
        raise UsageError(f"can not both modify and remove {what} {both[0]} in the same command")
    return targets, Update(values, tuple(dict.fromkeys(gone)))


def _outcome(one: Changed, verb: str, update: Update) -> str:
    done = f"{verb}ed" if verb == "label" else "annotated"
    if one.outcome == "unchanged":
        return f"not {done}"
    return f"un{done}" if verb == "label" and not update.values else done


def _note_missing(changed: Sequence[Changed], field: str, update: Update, *, quiet: bool) -> None:
    for one in changed:
        before = one.before.labels if field == "labels" else one.before.annotations
        for key in update.gone:
            if key not in before:
                text = f'{field.removesuffix("s")} "{key}" not found on {one.name}'
                output.note(text, quiet=quiet)


def _list(changed: Sequence[Changed], field: str) -> None:
    for one in changed:
        found = one.after["metadata"].get(field, {})
        head = f"Listing {field} for {one.name}:\n" if len(changed) > 1 else ""
        output.write(head + "".join(f"{key}={printable(found[key])}\n" for key in sorted(found)))
