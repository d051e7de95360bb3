"""`aosctl approve` with an ID: what would run and change is seen, edited, and then decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from command import Aosctl
from kernels import KernelDatabase, Tenant, apply
from kernels import call as kernel_call
from terminal import ENTER, Terminal

UPDATE = {"statement": "update orders\nset item = 'cup' where id = 1"}
ASK = "y approve · s this run · a always · n deny · e edit · ? explain · d later, then Enter > "
OpenTerminal = Callable[..., Terminal]


@pytest.fixture(scope="module", autouse=True)
def shop(kernel_database: KernelDatabase, tenant: Tenant) -> None:
    kernel_database.superuser.execute(
        "create schema shop; create table shop.orders (id integer primary key, item text);"
        "create table shop.prices (id integer primary key, price numeric, more jsonb)"
    )
    apply(kernel_database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "risk": "high", "sql": {"searchPath": ["shop"], "grants": [
            {"schema": "shop", "tables": ["*"], "privileges": ["select", "update"]}]},
    })  # fmt: skip


@pytest.fixture(autouse=True)
def orders(kernel_database: KernelDatabase, shop: None) -> None:
    kernel_database.superuser.execute(
        "truncate shop.orders; insert into shop.orders values (1, 'pen'), (2, 'ink')"
    )


@pytest.fixture
def open_terminal(env: dict[str, str], tenant: Tenant) -> Iterator[OpenTerminal]:
    """Open the developer's terminals; closed at the end."""
    opened: list[Terminal] = []
    dsn = tenant.database.cluster.dsn("test_developer", tenant.database.name)

    def start(*arguments: str, **settings: str) -> Terminal:
        opened.append(Terminal({**env, "AOSCTL_DSN": dsn, **settings}, *arguments))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.__exit__()


def waiting(tenant: Tenant, args: dict[str, str] = UPDATE) -> tuple[UUID, str]:
    """Return a call that waits, and how people name its approval."""
    asked = tenant.asked("sql_execute", args, "clerk")
    return asked.call, tenant.approval(asked.call)[0].hex[-8:]


def test_show_tells_everything_and_decides_nothing(developer: Aosctl, tenant: Tenant) -> None:
    call, one = waiting(tenant)
    done = developer("approve", one, "--show")
    assert (done.status, done.err) == (0, "")
    told = done.out.splitlines()
    assert told[0].startswith(f"{one}  sql_execute of clerk, run clerk-")
    assert told[1:3] == ["  asked by   user:dev: hello", "  because    the skill's risk is high"]
    assert told[3].startswith("  expires    in 23h, at ")
    assert told[4:-1] == [
        "",
        "what would run:",
        "  statement:",
        "    update orders",
        "    set item = 'cup' where id = 1",
        "",
        "what it would change:",
        "  shop.orders  1 updated",
        "",
        "    id   item",
        "  ~ 1    *pen → cup",
    ]
    assert tenant.call_state(call) == "awaiting_approval"
    coloured = developer("approve", one, "--show", FORCE_COLOR="1").out
    assert "*\x1b[31mpen\x1b[0m → \x1b[32mcup\x1b[0m" in coloured
    assert tenant.database.rows("select item from shop.orders where id = 1") == [("pen",)]


def test_json_has_the_preview_and_decides_nothing(developer: Aosctl, tenant: Tenant) -> None:
    call, one = waiting(tenant)
    done = developer("approve", one, "-o", "json")
    preview = json.loads(done.out)["items"][0]["spec"]["preview"]
    assert preview["counts"] == [
        {"table": "shop.orders", "inserted": 0, "updated": 1, "deleted": 0}
    ]
    assert preview["rows"][0]["after"] == {"id": 1, "item": "cup"}
    assert tenant.call_state(call) == "awaiting_approval"


@pytest.mark.parametrize("words", [("--all", "--show"), ("--show",), ("--all", "-o", "json")])
def test_all_can_be_shown_and_then_nothing_is_decided(
    developer: Aosctl, tenant: Tenant, words: tuple[str, ...]
) -> None:
    calls = [waiting(tenant) for _ in range(2)]
    done = developer("approve", *words)
    assert done.status == 0
    assert all(one in done.out for _, one in calls) and "cup" in done.out
    assert {tenant.call_state(call) for call, _ in calls} == {"awaiting_approval"}
    assert developer("deny", "--all", "-o", "json").status == 2
    assert {tenant.call_state(call) for call, _ in calls} == {"awaiting_approval"}
    assert developer("deny", "--all", "-y").status == 0
    assert developer("approve", *words).err == "No pending approvals in acme tenant\n"


def test_all_are_asked_about_on_a_terminal(open_terminal: OpenTerminal, tenant: Tenant) -> None:
    calls = [waiting(tenant) for _ in range(2)]
    terminal = open_terminal("approve", "--all")
    for answer in ("approved", "denied"):
        terminal.expect_text(ASK)
        terminal.type(("y" if answer == "approved" else "n") + ENTER)
        if answer == "denied":
            terminal.type(ENTER)
        terminal.expect_text(answer)
    assert [tenant.call_state(call) for call, _ in calls] == ["approved", "denied"]


def test_what_is_no_answer_decides_nothing_and_says_so(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one)
    terminal.expect_text(ASK)
    for typed in ("nbecause", "q"):
        terminal.type(typed + ENTER)
        said = terminal.expect_text(ASK)
        assert f'"{typed}" is none of the answers; nothing was decided' in said
    assert tenant.call_state(call) == "awaiting_approval"
    terminal.type("y" + ENTER)
    terminal.expect_text(f"approval.aos/{one} approved")


def test_numbers_are_shown_with_all_their_digits(
    kernel_database: KernelDatabase, developer: Aosctl, tenant: Tenant
) -> None:
    kernel_database.superuser.execute(
        "insert into shop.prices values (1, 4.90, '{}'), (2, 9007199254740993.10, '{}')"
    )
    raised = """update prices set price = price + 0.01, more = '{"was": 4.90}'"""
    _, one = waiting(tenant, {"statement": raised})
    shown = developer("approve", one, "--show").out
    assert "*4.90 → 4.91" in shown and "*9007199254740993.10 → 9007199254740993.11" in shown
    assert '{"was": 4.90}' in shown
    developer("deny", one)


def test_hidden_characters_of_rows_and_arguments_are_visible(
    developer: Aosctl, tenant: Tenant
) -> None:
    _, one = waiting(tenant, {"statement": "update orders set item = E'\u202eevil\\x1b[2J'"})
    shown = developer("approve", one, "--show").out
    assert "\\u202eevil\\u001b[2J" in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_on_a_terminal_it_is_shown_first_and_asked(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one)
    seen = terminal.expect_text(ASK)
    assert "*pen → cup" in seen and "what would run:" in seen
    assert tenant.call_state(call) == "awaiting_approval"
    terminal.type("y" + ENTER)
    terminal.expect_text(f"approval.aos/{one} approved")
    assert tenant.call_state(call) == "approved"


def test_on_a_terminal_it_can_be_denied_or_left(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one)
    terminal.expect_text(ASK)
    terminal.type("d" + ENTER)
    terminal.expect_text(f"approval.aos/{one} left pending")
    terminal = open_terminal("approve", one)
    terminal.expect_text(ASK)
    terminal.type("n" + ENTER)
    terminal.expect_text("reason")
    terminal.type("not now" + ENTER)
    terminal.expect_text(f"approval.aos/{one} denied")
    assert tenant.call_state(call) == "denied"


def test_an_edit_is_tried_anew_and_shows_both_versions(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one, EDITOR="sed -i 's/id = 1/id = 2/'")
    terminal.expect_text(ASK)
    terminal.type("e" + ENTER)
    terminal.expect_text("edited; the model had asked for:")
    seen = terminal.expect_text(ASK)
    assert "*ink → cup" in seen
    terminal.type("y" + ENTER)
    terminal.expect_text(" approved")
    assert tenant.call_state(call) == "approved"
    assert tenant.database.value(
        "select args ->> 'statement' from aos_core.tool_call where call_id = %s", call
    ) == UPDATE["statement"].replace("1", "2")


def test_an_edit_that_changes_nothing_or_is_refused_asks_again(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one, EDITOR="true")
    terminal.expect_text(ASK)
    terminal.type("e" + ENTER)
    terminal.expect_text("the arguments are as before")
    terminal.expect_text(ASK)
    terminal.type("d" + ENTER)
    terminal.expect_text("left pending")
    assert tenant.call_state(call) == "awaiting_approval"


def test_a_question_that_waits_notices_that_it_was_decided_elsewhere(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one)
    terminal.expect_text(ASK)
    tenant.decide(call, "denied", "not this table")
    seen = terminal.expect_text("not this table")
    assert f"approval.aos/{one} denied by " in seen
    assert terminal.status() == 0


def test_what_was_typed_for_a_question_that_is_gone_answers_no_other(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    (gone, one), (other, two) = waiting(tenant), waiting(tenant)
    terminal = open_terminal("approve", one, two)
    terminal.expect_text(ASK)
    terminal.type("y")  # and no Enter
    tenant.decide(gone, "approved")
    terminal.expect_text(f"approval.aos/{one} approved by ")
    terminal.expect_text(ASK)
    terminal.type(ENTER)
    terminal.expect_text(f"approval.aos/{two} left pending")
    assert terminal.status() == 0
    assert tenant.call_state(other) == "awaiting_approval"


def test_the_question_for_a_reason_notices_too_and_an_edit_elsewhere_asks_anew(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", one)
    terminal.expect_text(ASK)
    terminal.type("n" + ENTER)
    terminal.expect_text("reason")
    args = {"statement": UPDATE["statement"].replace("1", "2")}
    kernel_call(tenant.person, "aos_agent.edit_call", tenant.id, tenant.approval(call)[0],
                Jsonb(args))  # fmt: skip
    terminal.expect_text("edited; the model had asked for:")
    terminal.expect_text(ASK)
    terminal.type("y" + ENTER)
    terminal.expect_text(" approved")
    assert tenant.call_state(call) == "approved"
    decided = open_terminal("approve", tenant.approval(call)[0].hex[-8:])
    decided.expect_text("already approved by ")
    assert decided.status() == 1


def test_yes_and_several_names_ask_nothing(open_terminal: OpenTerminal, tenant: Tenant) -> None:
    calls = [waiting(tenant) for _ in range(2)]
    terminal = open_terminal("approve", "--yes", *(one for _, one in calls))
    for _, one in calls:
        terminal.expect_text(f"approval.aos/{one} approved")
        assert ASK not in terminal.seen
    assert {tenant.call_state(call) for call, _ in calls} == {"approved"}


def test_the_list_and_the_log_tell_what_would_change(developer: Aosctl, tenant: Tenant) -> None:
    call, one = waiting(tenant)
    developer("approve", one, "--show")
    row = next(line for line in developer("approve").out.splitlines() if line.startswith(one))
    assert "shop.orders 1 updated" in row
    run = tenant.database.value("select run_id from aos_core.tool_call where call_id = %s", call)
    assert "preview: shop.orders 1 updated" in developer("logs", str(run)).out


WALK = ASK.replace(", then", " · q quit, then")


@pytest.fixture
def nothing_waits(tenant: Tenant) -> None:
    """What other tests left behind is denied, so that lists and walks hold only one's own."""
    for (call,) in tenant.database.rows(
        "select call_id from aos_core.approval where tenant_id = %s and state = 'pending'",
        tenant.id,
    ):
        tenant.decide(call, "denied")


@pytest.mark.usefixtures("nothing_waits")
def test_the_inbox_goes_from_one_to_the_next_and_sees_what_comes(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    calls = [waiting(tenant) for _ in range(3)]
    terminal = open_terminal("approve", "-i")
    seen = terminal.expect_text(WALK)
    assert "1 of 3" in seen and calls[0][1] in seen and "*pen → cup" in seen
    terminal.type("y" + ENTER)
    seen = terminal.expect_text(WALK)
    assert f"approval.aos/{calls[0][1]} approved" in seen and "2 of 3" in seen
    calls.append(waiting(tenant))  # while the second is on the screen
    terminal.type("d" + ENTER)
    seen = terminal.expect_text(WALK)
    assert f"approval.aos/{calls[1][1]} left pending" in seen and "3 of 4" in seen
    terminal.type("n" + ENTER)
    terminal.expect_text("reason")
    terminal.type("no" + ENTER)
    assert "4 of 4" in terminal.expect_text(WALK)
    terminal.type("q" + ENTER)
    terminal.expect_text("2 left pending")
    assert terminal.status() == 0
    states = [tenant.call_state(call) for call, _ in calls]
    assert states == ["approved", "awaiting_approval", "denied", "awaiting_approval"]


@pytest.mark.usefixtures("nothing_waits")
def test_the_inbox_is_told_when_somebody_else_was_faster(
    open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    call, one = waiting(tenant)
    terminal = open_terminal("approve", "-i")
    terminal.expect_text(WALK)
    tenant.decide(call, "denied", "mine")
    terminal.expect_text(f"approval.aos/{one} denied by user:dev: mine")
    assert terminal.status() == 0
    assert open_terminal("approve", "-i").expect_text("No pending approvals in acme tenant")


@pytest.mark.usefixtures("nothing_waits")
def test_labels_choose_and_off_a_terminal_only_yes_decides(
    developer: Aosctl, tenant: Tenant
) -> None:
    (call, one), (other, _) = waiting(tenant), waiting(tenant)
    tenant.database.superuser.execute(
        "update aos_core.run r set labels = '{\"team\": \"data\"}' from aos_core.tool_call c"
        " where c.run_id = r.run_id and c.call_id = %s", (call,),
    )  # fmt: skip
    for verb in ("approve", "deny"):
        done = developer(verb, "-l", "team=data")
        assert (done.status, done.out) == (2, "")
        assert done.err == (
            f"error: would {verb} 1 approval in acme tenant: {one}\n"
            f"hint: aosctl {verb} -l team=data -y does it\n"
        )
    assert developer("approve", "--all").status == 2
    assert tenant.call_state(call) == "awaiting_approval"
    done = developer("approve", "-l", "team=data", "-y")
    assert (done.status, done.out) == (0, f"approval.aos/{one} approved\n")
    assert (tenant.call_state(call), tenant.call_state(other)) == ("approved", "awaiting_approval")


def test_an_edit_comes_before_the_question(
    developer: Aosctl, open_terminal: OpenTerminal, tenant: Tenant
) -> None:
    (call, one), (other, two) = waiting(tenant), waiting(tenant)
    terminal = open_terminal("approve", one, "--edit", EDITOR="sed -i 's/id = 1/id = 2/'")
    seen = terminal.expect_text(ASK)
    assert "edited; the model had asked for:" in seen and "*ink → cup" in seen
    terminal.type("y" + ENTER)
    terminal.expect_text(" approved")
    assert tenant.call_state(call) == "approved"
    refused = developer("approve", two, "--edit", EDITOR="true")
    assert (refused.status, refused.out) == (2, "")
    assert f"hint: aosctl approve {two} --edit -y\n" in refused.err
    done = developer("approve", two, "--edit", "-y", EDITOR="sed -i 's/cup/jug/'")
    assert done.status == 0 and done.out.endswith(" approved\n")
    assert "'jug'" in str(
        tenant.database.value(
            "select args ->> 'statement' from aos_core.tool_call where call_id = %s", other
        )
    )
    late = developer("approve", two, "--edit", "-y", EDITOR="true")
    assert late.status == 1 and "already " in late.err


def test_arguments_and_manifests_have_the_same_editor(
    developer: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    call, one = waiting(tenant)
    program = tmp_path / "editor"
    program.write_text(f'#!/bin/sh\necho "[$AOSCTL_MASTER_KEY][$MARK]" > "{tmp_path}/env"\n')
    program.chmod(0o700)
    settings = {"AOSCTL_MASTER_KEY": "x" * 43, "MARK": "here", "EDITOR": "false"}
    done = developer("approve", one, "--edit", "-y", **settings, AOSCTL_EDITOR=str(program))
    assert done.status == 0 and tenant.call_state(call) == "approved"
    assert (tmp_path / "env").read_text() == "[][here]\n"
    call, one = waiting(tenant)
    for editor in ("'", "false", "cp /bin/sh"):  # no shell words, a failure, no UTF-8
        done = developer("approve", one, "--edit", "-y", AOSCTL_EDITOR=editor)
        assert (done.status, done.out) == (1, "")
        assert "editor" in done.err and "Traceback" not in done.err
    assert tenant.call_state(call) == "awaiting_approval"


def test_an_approval_with_an_end_says_so(developer: Aosctl, tenant: Tenant) -> None:
    call, one = waiting(tenant)
    assert developer("approve", one, "-y", "--expires", "10m").status == 0
    left = tenant.database.value(
        "select extract(epoch from expires_at - decided_at) from aos_core.approval"
        " where call_id = %s and state = 'approved'", call,
    )  # fmt: skip
    assert 599 <= left <= 600


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("approve", "-i"), "error: -i needs a terminal\nhint: aosctl approve lists what is pe"),
        (("deny", "-i"), "error: -i needs a terminal\nhint: aosctl deny lists what is pending\n"),
        (("approve", "-i", "x"), "error: -i and ID exclude each other: -i walks through what is p"),
        (("approve", "--edit"), "error: --edit is for one approval: aosctl approve ID --edit\n"),
        (("approve", "a", "b", "--edit"), "error: --edit is for one approval: "),
        (("approve", "x", "--scope", "week"), "error: --scope must be once, run or always, not "),
        (("approve", "x", "--match", "*"), "error: --match narrows --scope run or always\n"),
        (("approve", "--all", "--scope", "run"), "error: --scope and --all exclude each other: "),
        (("approve", "-l", "a=b", "--scope", "always"), "error: --scope and -l exclude each ot"),
        (("approve", "--scope", "run"), "error: --scope run is for approvals that are named, one"),
        (("approve", "-i", "--scope", "run"), "error: "),
        (("approve", "x", "--scope", "run", "--show"), "error: --scope and --show exclude each "),
        (("approve", "x", "--scope", "run", "-o", "json"), "error: --scope and -o exclude each"),
        (("approve", "x", "y", "--scope", "always"), "error: --scope always writes one policy: "),
        (("approve", "--expires", "10m"), "error: --expires is for approvals that are named\n"),
        (("approve", "x", "--expires", "0s"), "error: --expires is at least a second\n"),
        (("approve", "x", "--expires", "soon"), 'error: invalid duration "soon"\n'),
        (("approve", "x", "-l", "a=b"), "error: ID and -l exclude each other\n"),
        (("deny", "-l", " "), "error: -l has no labels\n"),
        (
            ("approve", "--all", "-A"),
            "error: -A and --all exclude each other: -A only lists; choose a tenant with -n\n",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    words: tuple[str, ...], error: str, developer: Aosctl
) -> None:
    done = developer(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(error)
