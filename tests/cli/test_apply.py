"""`aosctl apply` and `diff`: one set of files is one transaction, and says the truth."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psycopg
import pytest

from aosctl.db.embedded import INSTALLER
from aosctl.resources import resource_dir
from command import AOSCTL, Aosctl
from kernels import KernelDatabase, MakeKernel, Tenant

QUICKSTART = resource_dir("manifests") / "quickstart"
EXAMPLES = resource_dir("manifests") / "examples"
SET = """\
apiVersion: aos/v1
kind: Agent
metadata: {name: NAME_bot, tenant: NAME}
spec: {persona: expert}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: expert, tenant: NAME, labels: {team: data}}
spec:
  model: offline
  systemPrompt: Be brief.
---
apiVersion: aos/v1
kind: Tenant
metadata: {name: NAME}
"""
PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata:
  name: writer
spec:
  model: offline
  systemPrompt: PROMPT
"""


def written(folder: Path, text: str, name: str = "set.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_set_in_any_order_is_applied_in_the_order_of_its_references(
    admin: Aosctl, tmp_path: Path
) -> None:
    path = written(tmp_path, SET.replace("NAME", "orderly"))
    done = admin("apply", "-f", path)
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "tenant.aos/orderly created\npersona.aos/expert created\nagent.aos/orderly_bot created\n"
    )
    again = admin("apply", "-f", path)
    assert (again.status, again.err) == (0, "")
    assert again.out == (
        "tenant.aos/orderly unchanged\npersona.aos/expert unchanged\n"
        "agent.aos/orderly_bot unchanged\n"
    )
    path = written(tmp_path, SET.replace("NAME", "orderly").replace("brief", "kind"))
    assert "persona.aos/expert configured\n" in admin("apply", "-f", path).out


def test_the_quickstart_applies_from_a_folder_and_once_more(admin: Aosctl, admin_dsn: str) -> None:
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        admin("apply", "-f", str(QUICKSTART / "10-tenant.yaml"))
        connection.execute((QUICKSTART / "shop.sql").read_text())
    first = admin("apply", "-f", str(QUICKSTART))
    assert (first.status, first.err) == (0, "")
    assert first.out.splitlines()[0] == "tenant.aos/tech_corp unchanged"
    assert first.out.splitlines()[1:-1] == [
        f"{name} created"
        for name in (
            "collection.aos/postgres_notes",
            "skill.aos/sql_query",
            "skill.aos/sql_execute",
            "skill.aos/rag_search",
            "skill.aos/memory_store",
            "skill.aos/memory_recall",
            "skill.aos/web_search",
            "persona.aos/pg_expert",
        )
    ]
    second = admin("apply", "-f", str(QUICKSTART))
    assert {line.split()[1] for line in second.out.splitlines()} == {"unchanged"}
    assert admin("diff", "-f", str(QUICKSTART)).out == ""


def test_the_examples_apply_as_one_folder_and_each_alone(
    aosctl: Aosctl, make_kernel: MakeKernel
) -> None:
    """After what they name under `first`: once all of it is new, then nothing is."""
    together, apart = make_kernel(), make_kernel()
    for database in (together, apart):
        dsn = database.cluster.dsn(INSTALLER, database.name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            aosctl("apply", "-f", str(QUICKSTART / "10-tenant.yaml"), AOSCTL_DSN=dsn)
            connection.execute((QUICKSTART / "shop.sql").read_text())
            connection.execute((EXAMPLES / "support_triage" / "helpdesk.sql").read_text())
        assert aosctl("apply", "-f", str(QUICKSTART), AOSCTL_DSN=dsn).status == 0
    whole = "apply", "-f", str(EXAMPLES), "-R"
    dsn = together.cluster.dsn(INSTALLER, together.name)
    first = aosctl(*whole, AOSCTL_DSN=dsn)
    assert (first.status, first.err) == (0, "")
    assert {line.split()[1] for line in first.out.splitlines()} == {"created"}
    again = aosctl(*whole, AOSCTL_DSN=dsn)
    assert (again.status, again.out) == (0, first.out.replace(" created", " unchanged"))
    answer = aosctl("chat", "-n", "rehearsal", "scripted_bot", "anything", AOSCTL_DSN=dsn)
    assert (answer.status, answer.out) == (0, "I stored the greeting and read it back.\n")
    answer = aosctl("run", "-n", "newsroom", "editor", "anything", AOSCTL_DSN=dsn)
    assert (answer.status, answer.out[:10]) == (0, "PostgreSQL")
    dsn, alone = apart.cluster.dsn(INSTALLER, apart.name), ""
    for path in sorted(set(EXAMPLES.glob("*/*.yaml")) - set(EXAMPLES.glob("*/*_test.yaml"))):
        done = aosctl("apply", "-f", str(path), AOSCTL_DSN=dsn)
        assert (done.status, done.err) == (0, "")
        alone += done.out
    assert sorted(alone.splitlines()) == sorted(first.out.splitlines())


def test_embeddings_that_cannot_be_searched_here_are_told_of(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    path = written(tmp_path, "apiVersion: aos/v1\nkind: Collection\nmetadata: {name: meant}\n"
        "spec:\n  embedding: {model: text-embedding-3-small}\n")  # fmt: skip
    done = admin("apply", "-f", path, "-n", tenant.name)
    assert (done.status, done.out) == (0, "collection.aos/meant created\n")
    assert done.err == (
        f'warning: {path}:5:14: Collection "meant": spec.embedding: the database lacks the'
        " extension vector: the collection is searched by full text alone\n"
    )
    assert admin("delete", "collection", "meant", "-n", tenant.name).status == 0


def test_stdin_goes_to_the_tenant_of_n(admin: Aosctl, tenant: Tenant) -> None:
    done = admin("apply", "-f", "-", "-n", "acme", stdin=PERSONA)
    assert (done.status, done.out, done.err) == (0, "persona.aos/writer created\n", "")
    assert admin("get", "persona", "writer", "-n", "acme", "-o", "name").out == (
        "persona.aos/writer\n"
    )


def test_a_developer_needs_no_tenant_where_there_is_one(developer: Aosctl) -> None:
    done = developer("apply", "-f", "-", stdin=PERSONA.replace("writer", "mine"))
    assert (done.status, done.out, done.err) == (0, "persona.aos/mine created\n", "")


def test_a_document_of_another_tenant_than_n_is_refused(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    path = written(tmp_path, PERSONA.replace("name: writer", "name: writer\n  tenant: acme"))
    done = admin("apply", "-f", path, "-n", "globex")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'error: {path}:5:11: Persona "writer": metadata.tenant: the tenant "acme" does not match'
        ' the tenant "globex" of -n\n'
        "hint: leave -n globex out, or apply the files of one tenant at a time\n"
    )


def test_several_tenants_and_none_named_is_a_question(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    admin("apply", "-f", written(tmp_path, SET.replace("NAME", "second")))
    done = admin("apply", "-f", "-", stdin=PERSONA)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: which tenant? choose one with -n: acme, ")


@pytest.mark.parametrize("mode", [(), ("--dry-run=client",), ("--dry-run=server",)])
def test_a_reference_to_nothing_is_shown_where_it_stands(
    admin: Aosctl, kernel_database: KernelDatabase, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    text = SET.replace("NAME", "dangling").replace("model: offline", "model: oflfine")
    path = written(tmp_path, text)
    before = kernel_database.fingerprint()
    done = admin("apply", "-f", path, *mode)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'error: {path}:10:10: Persona "expert": spec.model: no Model "oflfine" exists; did you'
        ' mean "offline"?\n'
        "hint: aosctl get models lists what exists; or add it to the files\n"
    )
    assert kernel_database.fingerprint() == before


def test_what_the_kernel_refuses_is_shown_where_it_stands_and_nothing_is_applied(
    admin: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    text = SET.replace("NAME", "granting") + (
        "---\n"
        "apiVersion: aos/v1\n"
        "kind: Skill\n"
        "metadata: {name: sql_query, tenant: granting}\n"
        "spec:\n"
        "  builtin: sql_query\n"
        "  sql:\n"
        "    grants:\n"
        "      - schema: no_such_schema\n"
        '        tables: ["*"]\n'
        "        privileges: [select]\n"
    )
    path = written(tmp_path, text)
    before = kernel_database.fingerprint()
    done = admin("apply", "-f", path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'Error from server (NotFound): {path}:24:17: Skill "sql_query": spec.sql.grants[0].schema:'
        ' schema "no_such_schema" does not exist\n'
        "hint: create it first, or correct spec.sql.grants\n"
    )
    assert kernel_database.fingerprint() == before


def test_who_may_not_make_a_tenant_is_told_so(developer: Aosctl, tmp_path: Path) -> None:
    path = written(tmp_path, SET.replace("NAME", "upstart"))
    done = developer("apply", "-f", path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'Error from server (Forbidden): {path}:15:18: Tenant "upstart": metadata.name: the login'
        " may not change tenants\n"
        "hint: an administrator can: a member of aos_admin\n"
    )


def test_bad_yaml_and_missing_files_need_no_database(aosctl: Aosctl, tmp_path: Path) -> None:
    nowhere = {"AOSCTL_DSN": "host=/nonexistent dbname=x"}
    broken = written(tmp_path, "apiVersion: aos/v1\nkind: [\n")
    done = aosctl("apply", "-f", broken, **nowhere)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"error: {broken}:3:1: ")
    done = aosctl("apply", "-f", "gone.yaml", **nowhere)
    assert (done.status, done.err) == (1, 'error: the path "gone.yaml" does not exist\n')
    done = aosctl("apply", **nowhere)
    assert done.status == 2
    assert done.err.splitlines()[0] == "error: must specify -f"
    done = aosctl("apply", "-f", "-", **nowhere)
    assert (done.status, done.err) == (
        1,
        "error: no objects passed to apply\nhint: stdin holds no manifest; aosctl create KIND"
        " NAME --dry-run=client -o yaml writes one to begin with\n",
    )
    done = aosctl("apply", "-f", "-", "--dry-run=maybe", **nowhere)
    assert done.err == (
        'error: Invalid dry-run value (maybe). Must be "none", "server", or "client".\n'
    )


def test_dry_runs_say_what_would_happen_and_write_nothing(
    admin: Aosctl, tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    admin("apply", "-f", "-", "-n", "acme", stdin=PERSONA.replace("writer", "known"))
    admin("apply", "-f", "-", "-n", "acme", stdin=PERSONA.replace("writer", "other"))
    text = "---\n".join(
        [
            PERSONA.replace("writer", "known"),
            PERSONA.replace("writer", "other").replace("PROMPT", "Changed."),
            PERSONA.replace("writer", "unknown"),
        ]
    )
    before = kernel_database.fingerprint()
    for mode, words in (("client", "(dry run)"), ("server", "(server dry run)")):
        done = admin("apply", "-f", "-", "-n", "acme", f"--dry-run={mode}", stdin=text)
        assert (done.status, done.err) == (0, "")
        assert done.out == (
            f"persona.aos/known unchanged {words}\n"
            f"persona.aos/other configured {words}\n"
            f"persona.aos/unknown created {words}\n"
        )
    assert kernel_database.fingerprint() == before


def test_a_server_dry_run_meets_what_only_the_kernel_knows(
    admin: Aosctl, kernel_database: KernelDatabase
) -> None:
    """The login of a principal may stand for one in its tenant; no file can tell."""
    principal = (
        "apiVersion: aos/v1\nkind: Principal\nmetadata: {name: NAME, tenant: twins}\n"
        "spec: {dbRole: twin, roles: [viewer]}\n"
    )
    text = "---\n".join(
        [
            "apiVersion: aos/v1\nkind: Tenant\nmetadata: {name: twins}\n",
            principal.replace("NAME", "one"),
            principal.replace("NAME", "two"),
        ]
    )
    assert admin("apply", "-f", "-", "--dry-run=client", stdin=text).status == 0
    done = admin("apply", "-f", "-", "--dry-run=server", stdin=text)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'error: stdin:13:16: Principal "two": spec.dbRole: another principal of the tenant stands'
        ' for the login "twin"\nhint: a login is one principal in a tenant\n'
    )


def test_o_prints_what_was_applied(admin: Aosctl, tenant: Tenant) -> None:
    given = ("apply", "-f", "-", "-n", "acme")
    text = PERSONA.replace("writer", "printed")
    assert admin(*given, "-o", "name", stdin=text).out == "persona.aos/printed\n"
    found = json.loads(admin(*given, "-o", "json", stdin=text).out)
    assert found["kind"] == "Persona"
    assert found["metadata"]["generation"] == 1
    assert found["spec"]["model"] == "offline"
    done = admin(*given, "-o", "wide", stdin=text)
    assert done.status == 2
    assert done.err.startswith("error: unable to match a printer suitable for the output format")


def test_a_file_that_was_read_before_another_change_is_refused(
    admin: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    given = ("apply", "-n", "acme", "-f")
    admin(*given, "-", stdin=PERSONA.replace("writer", "edited"))
    read = admin("get", "persona", "edited", "-n", "acme", "-o", "yaml").out
    path = written(tmp_path, read)
    assert admin(*given, path).out == "persona.aos/edited unchanged\n"
    admin(*given, "-", stdin=PERSONA.replace("writer", "edited").replace("PROMPT", "By another."))
    written(tmp_path, read.replace("PROMPT", "By me."))
    done = admin(*given, path)
    assert (done.status, done.out) == (1, "")
    assert "metadata.generation: it was changed meanwhile: the file has 1, the database 2" in (
        done.err
    )


def test_two_that_apply_the_same_set_at_once_both_succeed(
    admin_dsn: str, env: dict[str, str], tmp_path: Path
) -> None:
    path = written(tmp_path, SET.replace("NAME", "raced"))
    both = [
        subprocess.Popen(
            [AOSCTL, "apply", "-f", path],
            env={**env, "AOSCTL_DSN": admin_dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=60) for process in both]
    assert [error for _, error in ended] == ["", ""]
    words = sorted(line.split()[1] for out, _ in ended for line in out.splitlines())
    assert words == ["created"] * 3 + ["unchanged"] * 3


def test_diff_shows_live_against_merged_and_changes_nothing(
    admin: Aosctl, tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    text = PERSONA.replace("writer", "compared")
    given = ("-f", "-", "-n", "acme")
    admin("apply", *given, stdin=text)
    same = admin("diff", *given, stdin=text)
    assert (same.status, same.out, same.err) == (0, "", "")
    before = kernel_database.fingerprint()
    done = admin("diff", *given, stdin=text.replace("PROMPT", "Changed."))
    assert (done.status, done.err) == (1, "")
    lines = done.out.splitlines()
    name = "aos.v1.Persona.acme.compared"
    assert lines[0].startswith("diff -u -N ")
    assert [Path(word).name for word in lines[0].split()[-2:]] == [name, name]
    assert [Path(word).parent.name.partition("-")[0] for word in lines[0].split()[-2:]] == [
        "LIVE",
        "MERGED",
    ]
    assert [line for line in lines[3:] if line[:1] in "+-"] == [
        "-  systemPrompt: PROMPT",
        "+  systemPrompt: Changed.",
    ]
    assert kernel_database.fingerprint() == before


def test_diff_of_something_new_is_all_of_it(admin: Aosctl, tenant: Tenant) -> None:
    done = admin("diff", "-f", "-", "-n", "acme", stdin=PERSONA.replace("writer", "new"))
    assert (done.status, done.err) == (1, "")
    assert "+kind: Persona\n" in done.out
    assert "uid" not in done.out


def test_diff_can_use_another_program(admin: Aosctl, tenant: Tenant) -> None:
    text = PERSONA.replace("writer", "elsewhere")
    given = ("diff", "-f", "-", "-n", "acme")
    done = admin(*given, stdin=text, AOSCTL_EXTERNAL_DIFF="ls -R")
    assert done.status == 0
    assert "aos.v1.Persona.acme.elsewhere" in done.out
    done = admin(*given, stdin=text, AOSCTL_EXTERNAL_DIFF="no-such-program -x")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: can't run no-such-program: ")


def test_trouble_with_diff_is_status_2(aosctl: Aosctl, admin: Aosctl, tmp_path: Path) -> None:
    path = written(tmp_path, SET.replace("NAME", "dangling").replace("offline", "nothing"))
    assert admin("diff", "-f", path).status == 2
    assert admin("diff", "-f", "gone.yaml").status == 2
    done = aosctl("diff", "-f", path, AOSCTL_DSN=f"host={tmp_path} dbname=x")
    assert (done.status, done.out) == (2, "")


def test_no_database_is_one_line_and_the_next_command(aosctl: Aosctl, tmp_path: Path) -> None:
    path = written(tmp_path, SET.replace("NAME", "x"))
    dead = f"host={tmp_path} dbname=x user=me password=hunter2"
    done = aosctl("apply", "-f", path, "--dsn", dead)
    assert (done.status, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first.startswith("error: can't connect to the database: ")
    assert first.endswith("(settings tried: --dsn)")
    assert second == "hint: aosctl db status, or choose another with --dsn or --context"
    assert "hunter2" not in done.err
    done = aosctl("get", "agents", AOSCTL_DSN=dead)
    assert done.err.splitlines()[0].endswith("(settings tried: AOSCTL_DSN)")
    done = aosctl("get", "agents", "--dsn", dead, "--context", "x")
    assert (done.status, done.err) == (2, "error: --dsn and --context exclude each other\n")


def test_a_grant_on_what_can_have_no_policies_is_warned_of(
    admin: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    with psycopg.connect(
        kernel_database.cluster.dsn(INSTALLER, kernel_database.name), autocommit=True
    ) as owner:
        owner.execute(
            "create schema mart; create table mart.plain (n int);"
            " create materialized view mart.sums as select * from mart.plain"
        )
    text = SET.replace("NAME", "marts") + (
        "---\n"
        "apiVersion: aos/v1\n"
        "kind: Skill\n"
        "metadata: {name: reader, tenant: marts}\n"
        "spec:\n"
        "  builtin: sql_query\n"
        "  sql:\n"
        "    grants: [{schema: mart, tables: [TABLE], privileges: [select]}]\n"
    )
    path = written(tmp_path, text.replace("TABLE", "plain"))
    done = admin("apply", "-f", path)
    assert (done.status, done.err) == (0, "")
    warning = (
        f'warning: {path}:23:13: Skill "reader": spec.sql.grants: mart.sums is a materialized view,'
        " which can have no row-level security: the skill sees every tenant's rows in it\n"
    )
    for tables in ("plain, sums", '"*"'):
        path = written(tmp_path, text.replace("TABLE", tables))
        for how in ("--dry-run=server", "--dry-run=none"):
            done = admin("apply", "-f", path, how)
            assert (done.status, done.err) == (0, warning)
