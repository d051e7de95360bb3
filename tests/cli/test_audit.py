"""`aosctl audit`, `export tenant` and `delete tenant --confirm` as a person meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from aosctl.db.embedded import INSTALLER
from command import Aosctl, Ended
from kernels import KernelDatabase, Tenant, apply, make_tenant
from trails import close, play, rehash

MALLORY = "update aos_core.event_log set actor = 'user:mallory' where stream_id = %(run)s"


@pytest.fixture(scope="module")
def world(make_kernel: Callable[[], KernelDatabase]) -> tuple[KernelDatabase, Tenant, Tenant]:
    """Two tenants, each with runs."""
    database = make_kernel()
    acme, other = make_tenant(database, "acme"), make_tenant(database, "globex")
    for tenant in (acme, other):
        close(tenant, play(tenant))
        play(tenant)
    return database, acme, other


@pytest.fixture
def auditor(aosctl: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant]) -> Aosctl:
    """Run `aosctl` as the administrator of that kernel."""
    database = world[0]
    return partial(aosctl, AOSCTL_DSN=database.cluster.dsn(INSTALLER, database.name))


@contextmanager
def forging(database: KernelDatabase) -> Iterator[Callable[..., int]]:
    """Change the log for good, as others see it; what was there before is put back at the end."""
    superuser = database.superuser
    superuser.execute("create table kept as select * from aos_core.event_log")
    superuser.execute("create table heads as select run_id, last_seq, last_hash from aos_core.run")
    superuser.execute("set session_replication_role = replica")

    def change(statement: str, **values: object) -> int:
        return superuser.execute(statement.encode(), values).rowcount

    yield change
    superuser.execute("delete from aos_core.event_log")
    superuser.execute("insert into aos_core.event_log select * from kept")
    superuser.execute(
        "update aos_core.run r set last_seq = h.last_seq, last_hash = h.last_hash from heads h"
        " where h.run_id = r.run_id"
    )
    superuser.execute("set session_replication_role = origin")
    superuser.execute("drop table kept, heads")


def run_of(world: tuple[KernelDatabase, Tenant, Tenant]) -> tuple[str, UUID]:
    """Return name and id of the first open run of acme."""
    found = world[0].rows(
        "select name, run_id from aos_core.run where tenant_id = %s and state = 'active'"
        " order by created_at limit 1",
        world[1].id,
    )[0]
    return found[0], found[1]


def test_a_trail_that_is_whole_takes_one_line(auditor: Aosctl) -> None:
    for words in (
        ["verify"],
        ["verify", "--since", "30d"],
        ["verify", "--since", "2026-01-01T00:00:00Z"],
    ):
        done = auditor("audit", *words)
        assert (done.status, done.err) == (0, "")
        assert re.fullmatch(
            r"2 tenants, \d+ streams, \d+ events, \d+ steps: no finding\n", done.out
        )
    done = auditor("audit", "verify", "-n", "acme", "-o", "json")
    assert json.loads(done.out)["tenants"] == 1 and json.loads(done.out)["findings"] == []


def test_a_finding_is_a_line_and_exit_status_1(
    auditor: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant]
) -> None:
    name, run = run_of(world)
    with forging(world[0]) as change:
        change(f"{MALLORY} and seq = 3", run=run)
        done = auditor("audit", "verify")
        for_run = auditor("audit", "verify", "-n", "acme", "--run", str(name), "-o", "json")
        elsewhere = auditor("audit", "verify", "-n", "globex")
        exported = auditor("audit", "export", "-n", "acme").out
    assert done.status == 1
    first, last = done.out.splitlines()
    assert first == f"acme/run.aos/{name} event 3: hash differs"
    assert last.endswith(": 1 finding")
    assert for_run.status == 1
    assert json.loads(for_run.out)["findings"] == [
        {"tenant": "acme", "streamId": str(run), "run": name, "seq": 3, "what": "hash differs",
         "detail": ""}
    ]  # fmt: skip
    assert elsewhere.status == 0
    done = auditor("audit", "verify", "--file", "-", stdin=exported)
    assert done.status == 1 and done.out.splitlines()[0] == first


def test_a_checkpoint_shows_what_a_chain_alone_does_not(
    auditor: Aosctl,
    world: tuple[KernelDatabase, Tenant, Tenant],
    tmp_path: Path,
) -> None:
    database, acme, _ = world
    name, run = run_of(world)
    file = tmp_path / "heads"
    done = auditor("audit", "checkpoint", "-o", str(file))
    assert done.status == 0 and done.out == ""
    key = tmp_path / ".config" / "aosctl" / "audit.key"
    assert key.stat().st_mode & 0o777 == 0o600
    public = auditor("audit", "public-key").out.strip()
    assert done.err == f"new key in {key}; its public key: {public}\n"
    again = auditor("audit", "checkpoint", "-o", str(file))
    assert again.status == 2 and "exists already" in again.err
    missing = auditor("audit", "verify", "--checkpoint", "none.aos")
    why = "error: can't read the checkpoint none.aos: No such file or directory\n"
    assert (missing.status, missing.err) == (1, why)

    def verify() -> Ended:
        return auditor("audit", "verify", "--checkpoint", str(file))

    assert verify().status == 0
    play(acme)
    assert verify().status == 0  # it has grown
    assert "6 heads of the checkpoint: no finding" in verify().out
    with forging(database) as change:
        change(f"{MALLORY} and seq = 2", run=run)
        rehash(change, database, run)
        assert auditor("audit", "verify").status == 0  # a perfect forgery
        found = verify()
    assert found.status == 1
    assert found.out.splitlines()[0].startswith(f"acme/run.aos/{name} event ")
    assert "history rewritten" in found.out


def test_a_checkpoint_counts_only_with_the_key_that_signed_it(
    auditor: Aosctl, aosctl: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant], tmp_path: Path
) -> None:
    file, other_key = tmp_path / "heads", tmp_path / "other.key"
    auditor("audit", "checkpoint", "-o", str(file))
    public = auditor("audit", "public-key").out.strip()
    theirs = auditor("audit", "checkpoint", "--key", str(other_key))
    assert other_key.stat().st_mode & 0o777 == 0o600
    verify = partial(auditor, "audit", "verify", "--checkpoint", str(file))
    assert verify("--public-key", public).status == 0
    (tmp_path / "pub").write_text(public + "\n")
    assert verify("--public-key", str(tmp_path / "pub")).status == 0
    foreign = auditor("audit", "public-key", "--key", str(other_key)).out.strip()
    done = verify("--public-key", foreign)
    assert done.status == 1 and "signature is not valid" in done.err
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    forged = {
        "another's": theirs.out,
        "a line less": "".join(lines[:-1]),
        "another hash": "".join([*lines[:-1], re.sub(r"\w{64}$", "0" * 64, lines[-1])]),
        "another time": whole.replace('"at": "20', '"at": "19', 1),
        "none": "nonsense",
        "empty": "",
    }
    for what, text in forged.items():
        assert text != whole, what
        file.write_text(text)
        done = verify()
        assert done.status == 1 and done.out == "", what
    file.write_text(whole)
    stranger = partial(aosctl, AOSCTL_CONFIG=str(tmp_path / "nowhere" / "config.yaml"))
    dsn = world[0].cluster.dsn(INSTALLER, world[0].name)
    done = stranger("audit", "verify", "--checkpoint", str(file), AOSCTL_DSN=dsn)
    assert done.status == 2 and "--public-key" in done.err
    other_key.chmod(0o644)
    done = auditor("audit", "checkpoint", "--key", str(other_key))
    assert done.status == 1 and "may be read by others" in done.err


def test_another_database_is_not_the_one_of_the_checkpoint(
    auditor: Aosctl, aosctl: Aosctl, make_kernel: Callable[[], KernelDatabase], tmp_path: Path
) -> None:
    file = tmp_path / "heads"
    auditor("audit", "checkpoint", "-o", str(file))
    replacement = make_kernel()
    make_tenant(replacement, "acme")
    elsewhere = partial(aosctl, AOSCTL_DSN=replacement.cluster.dsn(INSTALLER, replacement.name))
    done = elsewhere("audit", "verify", "--checkpoint", str(file))
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("database: database replaced (the checkpoint is of")
    assert "tenant vanished" in done.out
    done = elsewhere("audit", "verify", "--checkpoint", str(file), "--moved")
    assert "database replaced" not in done.out and "tenant vanished" in done.out


def test_an_export_is_verified_without_a_database(
    auditor: Aosctl, aosctl: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant], tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    assert auditor("audit", "export", "-o", str(file)).status == 0
    counted = auditor("audit", "verify").out
    nowhere = partial(aosctl, AOSCTL_DSN="host=/nonexistent")
    done = nowhere("audit", "verify", "--file", str(file))
    assert (done.status, done.out, done.err) == (0, counted, "")
    lines = file.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    assert header["format"] == "aos-audit/1" and header["complete"] is True
    for text in ("".join(lines[:-1]), "".join(lines[:9] + lines[10:]), "x\n", "".join(lines[1:])):
        done = nowhere("audit", "verify", "--file", "-", stdin=text)
        assert done.status == 1 and done.err.startswith("error: "), text[:80]
    for number, line in enumerate(lines):
        if '"t": "event"' in line:
            edited = [*lines[:number], line.replace('"actor": "', '"actor": "x', 1)]
            done = nowhere(
                "audit", "verify", "--file", "-", stdin="".join(edited + lines[number + 1 :])
            )
            assert done.status == 1 and "hash differs" in done.out
            break
    assert "done" not in file.read_text()  # what was said is not in it


def test_who_sees_one_tenant_audits_that_one(
    aosctl: Aosctl, auditor: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant], tmp_path: Path
) -> None:
    database, acme, _ = world
    login = database.person("test_audit_one", "aos_auditor")
    database.superuser.execute(
        "insert into aos_auth.principal (tenant_id, name, db_role) values (%s, 'one', %s)"
        " on conflict do nothing", (acme.id, login),
    )  # fmt: skip
    database.superuser.execute(
        "insert into aos_auth.role_grant (tenant_id, principal_id, role_name) select tenant_id,"
        " principal_id, 'auditor' from aos_auth.principal where db_role = %s"
        " on conflict do nothing",
        (login,),
    )
    one = partial(aosctl, AOSCTL_DSN=database.cluster.dsn(login, database.name))
    file = tmp_path / "heads"
    auditor("audit", "checkpoint", "-o", str(file))
    done = one("audit", "verify", "--checkpoint", str(file))
    assert done.status == 0 and done.out.startswith("1 tenant, ")
    assert " heads of others not checked" in done.out
    done = one("audit", "verify", "-n", "globex")
    assert done.status == 1 and 'tenant "globex" not found' in done.err
    assert one("audit", "export").status == 0
    done = one("audit", "prune")
    assert done.status == 1
    done = one("export", "tenant", "acme")
    assert (done.status, done.out) == (1, "") and "Forbidden" in done.err
    assert "hint: aosctl auth can-i export tenants says which role has it" in done.err
    assert one("export", "tenant", "acme", "-o", str(tmp_path / "a.jsonl")).status == 1
    assert not (tmp_path / "a.jsonl").exists()
    done = one("audit", "export", "-o", str(tmp_path / "none" / "a.jsonl"))
    assert (done.status, "No such file or directory" in done.err) == (2, True)


def test_a_tenant_goes_when_its_name_is_typed_twice(auditor: Aosctl, tmp_path: Path) -> None:
    database_file = tmp_path / "globex.jsonl"
    assert auditor("export", "tenant", "globex", "-o", str(database_file)).status == 0
    assert database_file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in database_file.read_text().splitlines()]
    assert lines[0]["format"] == "aos-tenant/1" and lines[-1]["lines"] == len(lines)
    refusals = {
        ("tenant", "globex"): (1, "--confirm=globex erases it"),
        ("tenant", "globex", "--confirm=acme"): (2, 'the tenant is "globex"'),
        ("tenant", "globex", "acme", "--confirm=globex"): (2, "for one tenant"),
        ("agent", "bot", "--confirm=bot"): (2, "for one tenant"),
        ("tenants", "--all", "--confirm=globex"): (2, "--confirm erases one tenant that is named"),
        ("tenant", "none", "--confirm=none"): (1, "NotFound"),
    }
    for words, (status, text) in refusals.items():
        done = auditor("delete", *words)
        assert done.status == status and text in done.err, words
    done = auditor("delete", "tenant", "globex", "--confirm=globex", "--dry-run=server")
    assert done.out == 'tenant.aos "globex" deleted (server dry run)\n'
    done = auditor("delete", "tenant", "globex", "--confirm=globex")
    assert (done.status, done.out) == (0, 'tenant.aos "globex" deleted\n')
    assert "globex" not in auditor("get", "tenants").out
    done = auditor("audit", "verify")
    assert done.status == 0 and done.out.startswith("2 tenants, ")
    done = auditor("audit", "verify", "-n", "globex")
    assert done.status == 0 and done.out.startswith("1 tenant, 3 streams, ")
    exported = auditor("audit", "export").out
    assert auditor("audit", "verify", "--file", "-", stdin=exported).status == 0


def test_prune_says_what_went(
    auditor: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant], tmp_path: Path
) -> None:
    manifest = tmp_path / "tenant.yaml"
    text = "apiVersion: aos/v1\nkind: Tenant\nmetadata: {name: acme}\n"
    text += "spec:\n  retention: {content: %s}\n"
    manifest.write_text(text % "soon")
    done = auditor("apply", "-f", str(manifest))
    assert done.status == 1 and "a number of days, such as 90d" in done.err
    manifest.write_text(text % "30d")
    assert auditor("apply", "-f", str(manifest)).out == "tenant.aos/acme configured\n"
    assert auditor("apply", "-f", str(manifest)).out == "tenant.aos/acme unchanged\n"
    assert auditor("diff", "-f", str(manifest)).status == 0
    database = world[0]
    none = auditor("audit", "prune")
    assert (none.out, none.err) == ("", "Nothing to let go: no tenant's retention is over\n")
    database.superuser.execute(
        "update aos_core.run set closed_at = now() - interval '31 days' where closed_at is not null"
    )
    done = auditor("audit", "prune", "--dry-run")
    assert done.out == "acme: content of runs erased: 1 (messages 4) (dry run)\n"
    done = auditor("audit", "prune")
    assert done.out == "acme: content of runs erased: 1 (messages 4)\n"
    assert auditor("audit", "prune").out == ""
    assert auditor("audit", "verify").status == 0


def test_who_takes_the_trail_away_is_an_auditor(
    aosctl: Aosctl, world: tuple[KernelDatabase, Tenant, Tenant], tmp_path: Path
) -> None:
    database, acme, _ = world
    admin = database.superuser
    login = database.person("audit_auditor", "aos_auditor")
    spec = {"type": "user", "dbRole": login, "roles": ["auditor"]}
    apply(admin, "aos_auth.apply_principal", acme.id, "eye", spec)
    developer = partial(aosctl, AOSCTL_DSN=database.cluster.dsn("test_developer", database.name))
    eye = partial(aosctl, AOSCTL_DSN=database.cluster.dsn(login, database.name))
    trail = str(tmp_path / "trail.jsonl")
    heads = str(tmp_path / "heads.aos")
    for words in (("export", "-n", "acme", "-o", trail), ("checkpoint", "-n", "acme", "-o", heads)):
        done = developer("audit", *words)
        assert (done.status, done.out) == (1, "")
        assert 'needs the role "auditor" in tenant "acme"' in done.err
        assert not Path(words[-1]).exists()
    assert 'the role "auditor" in any tenant' in developer("audit", "export").err
    assert developer("auth", "can-i", "export", "events", "-n", "acme").out.startswith("no - ")
    assert developer("audit", "verify", "-n", "acme").status == 0
    name, run = run_of(world)
    with forging(database) as change:
        assert (
            change(
                "update aos_core.event_log set actor = 'x' where stream_id = %(run)s and seq = 2",
                run=run,
            )
            == 1
        )
        found = developer("audit", "verify", "-n", "acme")
    assert found.status == 1 and name in found.out and "hash differs" in found.out
    assert eye("auth", "can-i", "export", "events").out == "yes\n"
    assert eye("audit", "export", "-o", trail).status == 0
    assert eye("audit", "verify", "--file", trail).status == 0
    assert eye("audit", "checkpoint", "-o", heads).status == 0
    assert developer("audit", "verify", "-n", "acme", "--checkpoint", heads).status == 0
    told = "Events:\n  AGE"
    assert told in eye("describe", "principal", "dev").out
    assert told in developer("describe", "agent", "bot", "-n", "acme").out
    hidden = developer("describe", "principal", "dev", "-n", "acme").out
    assert "Events:  <none, or for auditors>" in hidden
