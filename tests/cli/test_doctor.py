"""`aosctl doctor`: what it prints where, and how it exits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aosctl.db.doctor.check import RULES
from aosctl.db.embedded import INSTALLER
from command import Aosctl, Ended
from kernels import KernelDatabase, MakeKernel
from terminal import Terminal

# The tests' server forgets in a crash, and PUBLIC has what a new database gives it; the calendar
# says how old it is.
ABOUT_THE_SERVER = (
    "durability,public-temp,public-create,version-behind,version-ended,version-ending"
)


@pytest.fixture
def broken(admin: Aosctl, kernel_database: object, make_kernel: MakeKernel) -> Aosctl:
    """A kernel of its own with one fault."""
    from functools import partial

    database = make_kernel()
    database.superuser.execute("alter table aos_core.run no force row level security")
    return partial(admin, AOSCTL_DSN=database.cluster.dsn(INSTALLER, database.name))


def test_a_healthy_kernel_gives_no_line_and_status_0(admin: Aosctl) -> None:
    ended = admin("doctor", "--ignore", ABOUT_THE_SERVER)
    count = len(RULES) - 6
    assert ended == Ended(0, "", f"{count} rules checked, all is well\n")
    assert admin("doctor", "-q", "--ignore", ABOUT_THE_SERVER) == Ended(0, "", "")


def test_a_finding_names_its_object_and_what_to_paste(broken: Aosctl) -> None:
    ended = broken("doctor", "--ignore", ABOUT_THE_SERVER)
    assert ended.status == 1
    assert ended.out == (
        "error[rls-not-forced] aos_core.run: row-level security is not forced: its owner sees"
        " every tenant\n    grant aos_owner to current_user; set role aos_owner; alter table"
        " aos_core.run force row level security; reset role; revoke aos_owner from current_user;\n"
    )
    assert ended.err.endswith("1 error, 0 warnings; SQL goes into aosctl db psql\n")
    fix = ended.out.splitlines()[1].strip()
    assert broken("db", "psql", "--", "-q", "-c", fix) == Ended(0, "", "")
    assert broken("doctor", "-q", "--ignore", ABOUT_THE_SERVER) == Ended(0, "", "")


def test_warnings_alone_exit_with_0(admin: Aosctl) -> None:
    ended = admin("doctor", "--only", "public-temp")
    assert ended.status == 0
    assert ended.out.startswith("warning[public-temp] database ")
    assert ended.err == "1 rule checked: 0 errors, 1 warning; SQL goes into aosctl db psql\n"


def test_a_finding_is_broken_at_words_for_a_terminal_and_its_fix_is_not(
    admin: Aosctl, admin_dsn: str, env: dict[str, str]
) -> None:
    told, fix = admin("doctor", "--only", "public-temp").out.splitlines()
    given = {**env, "AOSCTL_DSN": admin_dsn}
    with Terminal(given, "doctor", "--only", "public-temp", columns=40) as shown:
        assert shown.status() == 0
    rows = shown.raw.splitlines()
    end = rows.index(fix)
    assert " ".join(row.strip() for row in rows[:end]) == told
    assert end > 1 and max(map(len, rows[:end])) <= 40
    assert all(row.startswith("  ") for row in rows[1:end])


def test_json_holds_the_findings_and_nothing_else_goes_to_stdout(broken: Aosctl) -> None:
    ended = broken("doctor", "-o", "json", "--only", "rls-off,rls-not-forced")
    told = json.loads(ended.out)
    assert (ended.status, told["checked"], told["errors"], told["warnings"]) == (1, 2, 1, 0)
    (finding,) = told["findings"]
    assert finding["rule"] == "rls-not-forced" and finding["object"] == "aos_core.run"
    assert finding["severity"] == "error" and finding["needsSuperuser"] is False
    assert told["notChecked"] == []


def test_the_list_names_every_rule_and_asks_no_database(aosctl: Aosctl) -> None:
    ended = aosctl("doctor", "--list", AOSCTL_DSN="postgresql://nobody@127.0.0.1:1/none")
    lines = ended.out.splitlines()
    assert (ended.status, ended.err) == (0, "")
    assert [line.split()[0] for line in lines] == ["RULE", *(rule.id for rule in RULES)]
    listed = json.loads(aosctl("doctor", "--list", "-o", "json", "--only", "rls-off").out)
    assert listed == [
        {
            "rule": "rls-off",
            "severity": "error",
            "title": "Every table with a tenant has row-level security",
        }
    ]


def test_an_unknown_rule_is_wrong_usage(admin: Aosctl) -> None:
    for flag in ("--only", "--ignore"):
        assert admin("doctor", flag, "rls-of") == Ended(
            2, "", 'error: there is no rule "rls-of"\nhint: aosctl doctor --list\n'
        )


def test_a_database_without_a_kernel_is_said_to_have_none(
    aosctl: Aosctl, make_database: object
) -> None:
    assert callable(make_database)
    ended = aosctl("doctor", AOSCTL_DSN=make_database())
    assert (ended.status, ended.out) == (1, "")
    assert re.fullmatch(
        r'error: the kernel is not installed in database "\w+"\nhint: aosctl db install\n',
        ended.err,
    )


def test_a_rule_that_the_login_may_not_run_is_told_apart(
    aosctl: Aosctl, kernel_database: object, make_kernel: MakeKernel
) -> None:
    database = make_kernel()
    database.superuser.execute("create role clueless login")
    database.superuser.execute("grant usage on schema aos_meta to clueless")
    dsn = database.cluster.dsn("clueless", database.name)
    ended = aosctl("doctor", "--only", "identity-creates", AOSCTL_DSN=dsn)
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("not checked: identity-creates: permission denied for schema")


def test_a_viewer_is_told_whom_to_ask_and_what_was_not_checked(
    broken: Aosctl, aosctl: Aosctl, kernel_database: KernelDatabase
) -> None:
    name = broken("db", "psql", "--", "-Atqc", "select current_database()").out.strip()
    login = kernel_database.person("doctors_viewer", "aos_viewer")
    dsn = kernel_database.cluster.dsn(login, name)
    ended = aosctl("doctor", "--ignore", ABOUT_THE_SERVER, AOSCTL_DSN=dsn)
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith("error[rls-not-forced] aos_core.run: ")
    assert lines[1] == f"    -- as {INSTALLER} or a superuser:"
    assert lines[2].endswith(" revoke aos_owner from current_user;")
    assert ended.err == (
        "not checked: identity-missing: only a member of aos_admin with no tenant selected sees"
        " all identities\n"
        "not checked: identity-stray: only a member of aos_admin with no tenant selected sees"
        " all identities\n"
        "not checked: principal-powers: only a member of aos_admin sees the principals of all"
        " tenants\n"
        "not checked: permission-outdated: only a member of aos_admin sees the permissions of all"
        " tenants\n"
        "not checked: schedules-fired: only a member of aos_admin sees the schedules of all"
        " tenants\n"
        "not checked: vector-missing: only a member of aos_admin sees the collections of all"
        f" tenants\n{len(RULES) - 12} rules checked, 6 not: 1 error, 0 warnings;"
        " SQL goes into aosctl db psql\n"
    )
    told = aosctl("doctor", "--only", "rls-not-forced", "-o", "json", AOSCTL_DSN=dsn)
    assert json.loads(told.out)["findings"][0]["runBy"] == f"{INSTALLER} or a superuser"
    told = broken("doctor", "--only", "rls-not-forced", "-o", "json")
    assert json.loads(told.out)["findings"][0]["runBy"] is None


def test_an_open_config_file_is_found(admin: Aosctl, env: dict[str, str], tmp_path: Path) -> None:
    folder = Path(env["HOME"]) / ".config" / "aosctl"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("contexts: []\n")
    (folder / "config.yaml").chmod(0o644)
    ended = admin("doctor", "--only", "config-mode")
    assert ended.status == 1
    assert f"chmod 600 {folder}/config.yaml" in ended.out


def test_the_page_about_the_doctor_has_every_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
    table = [line for line in page.splitlines() if line.startswith("| `")]
    assert table == [f"| `{r.id}` | {r.severity} | {r.title} |" for r in RULES]
