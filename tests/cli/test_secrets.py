"""Secrets as people make them: sealed here, stored sealed, shown sealed, applied back unchanged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import Aosctl
from kernels import META, KernelDatabase, Tenant, apply, call
from terminal import ENTER, Terminal

KEY = "00" * 31 + "01"
OTHER_KEY = "00" * 31 + "02"
VALUE = "hush-hush-hush-42"


@pytest.fixture
def sealed(developer: Aosctl, tenant: Tenant) -> Any:
    """Run `aosctl` as the developer with a master key in the environment."""

    def run(*words: str, **settings: Any) -> Any:
        return developer(*words, **{"AOSCTL_MASTER_KEY": KEY, **settings})

    yield run
    tenant.database.superuser.execute("delete from aos_auth.secret")


def stored(tenant: Tenant, name: str) -> dict[str, str]:
    found: dict[str, str] = tenant.database.value(
        "select data from aos_auth.secret where tenant_id = %s and name = %s", tenant.id, name
    )
    return found


def test_a_secret_from_stdin_is_stored_sealed_and_shown_sealed(
    sealed: Aosctl, tenant: Tenant
) -> None:
    done = sealed("create", "secret", "openai", "--from-stdin", "--key", "api", stdin=VALUE + "\n")
    assert (done.status, done.out, done.err) == (0, "secret.aos/openai created\n", "")
    value = stored(tenant, "openai")["api"]
    assert value.startswith("aos1.") and VALUE not in value
    shown = yaml.safe_load(sealed("get", "secret", "openai", "-o", "yaml").out)
    assert shown["spec"] == {"data": {"api": {"sealed": value}}}
    table = sealed("get", "secrets", "-o", "wide")
    assert table.out.splitlines()[0].split() == [
        "NAME", "DATA", "AGE", "KEYS", "MASTER-KEY", "UPDATED",
    ]  # fmt: skip
    described = sealed("describe", "secret", "openai").out
    assert "from the environment variable AOSCTL_MASTER_KEY" in described
    assert f"sealed under master key {value.split('.')[1]}, digest" in described
    assert "<none, or for auditors>" in described
    assert "secret.created" in tenant.events(tenant.id)


def test_what_get_prints_applies_back_unchanged_and_without_a_key(
    sealed: Aosctl, developer: Aosctl, tmp_path: Path
) -> None:
    sealed("create", "secret", "openai", "--from-stdin", stdin=VALUE)
    manifest = tmp_path / "secret.yaml"
    manifest.write_text(sealed("get", "secret", "openai", "-o", "yaml").out)
    assert sealed("apply", "-f", str(manifest)).out == "secret.aos/openai unchanged\n"
    assert developer("apply", "-f", str(manifest)).out == "secret.aos/openai unchanged\n"
    assert sealed("diff", "-f", str(manifest)).status == 0


def test_a_manifest_reads_variables_and_files_and_seals_what_changed_only(
    sealed: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    (tmp_path / "token.txt").write_text(VALUE + "\n")
    manifest = tmp_path / "secret.yaml"
    manifest.write_text(
        "apiVersion: aos/v1\nkind: Secret\nmetadata: {name: keys}\nspec:\n  data:\n"
        "    a: {fromEnv: HUSH}\n    b: {fromFile: token.txt}\n"
    )
    done = sealed("apply", "-f", str(manifest), HUSH="first-value-1")
    assert (done.status, done.out, done.err) == (0, "secret.aos/keys created\n", "")
    before = stored(tenant, "keys")
    assert sealed("apply", "-f", str(manifest), HUSH="first-value-1").out.endswith(" unchanged\n")
    assert sealed("diff", "-f", str(manifest), HUSH="first-value-1").status == 0
    assert stored(tenant, "keys") == before
    changed = sealed("diff", "-f", str(manifest), HUSH="second-value-2")
    assert changed.status == 1 and "second-value-2" not in changed.out + changed.err
    trial = sealed("apply", "-f", str(manifest), "--dry-run=client", "-o", "yaml", HUSH="second-2")
    assert "second-2" not in trial.out and "aos1." in trial.out
    assert sealed("apply", "-f", str(manifest), HUSH="second-value-2").out.endswith(" configured\n")
    after = stored(tenant, "keys")
    assert after["a"] != before["a"] and after["b"] == before["b"]


def test_a_tenant_and_its_secret_come_in_one_set(
    admin: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    manifest = tmp_path / "set.yaml"
    manifest.write_text(
        "apiVersion: aos/v1\nkind: Tenant\nmetadata: {name: newcomers}\n---\n"
        "apiVersion: aos/v1\nkind: Secret\nmetadata: {name: keys, tenant: newcomers}\n"
        "spec: {data: {a: {fromEnv: HUSH}}}\n"
    )
    settings = {"AOSCTL_MASTER_KEY": KEY, "HUSH": VALUE}
    trial = admin("apply", "-f", str(manifest), "--dry-run=client", "-o", "yaml", **settings)
    assert trial.status == 0 and VALUE not in trial.out
    done = admin("apply", "-f", str(manifest), **settings)
    assert done.out == "tenant.aos/newcomers created\nsecret.aos/keys created\n"
    found = kernel_database.value("select data from aos_auth.secret where name = 'keys'")
    assert found["a"].startswith("aos1.")


def test_a_secret_that_exists_is_replaced_only_when_told(sealed: Aosctl, tenant: Tenant) -> None:
    sealed("create", "secret", "openai", "--from-stdin", stdin=VALUE)
    again = sealed("create", "secret", "openai", "--from-stdin", stdin="another-one")
    assert again.status == 1
    assert 'secrets.aos "openai" already exists' in again.err and "--replace" in again.err
    before = stored(tenant, "openai")
    done = sealed("create", "secret", "openai", "--from-stdin", "--replace", stdin="another-one")
    assert done.out == "secret.aos/openai configured\n"
    assert stored(tenant, "openai") != before
    assert sealed("delete", "secret", "openai").status == 0
    assert stored(tenant, "openai") is None


def test_a_person_types_a_value_that_is_not_shown(env: dict[str, str], tenant: Tenant) -> None:
    database = tenant.database
    settings = {
        **env,
        "AOSCTL_DSN": database.cluster.dsn("test_developer", database.name),
        "AOSCTL_MASTER_KEY": KEY,
    }
    with Terminal(settings, "create", "secret", "typed") as terminal:
        terminal.expect_text('The value "value" (it is not shown): ')
        terminal.type(VALUE + ENTER)
        terminal.expect_text("secret.aos/typed created")
        assert terminal.status() == 0
        assert VALUE not in terminal.raw
    assert stored(tenant, "typed")["value"].startswith("aos1.")


# What is refused, and what the line on stderr says; VALUE never comes back.
REFUSED: dict[str, tuple[list[str], str, int, str]] = {
    "a literal": (["--from-literal", f"k={VALUE}"], "", 2, "everybody on this machine can read"),
    "a value as an argument": ([VALUE], "", 2, "everybody on this machine can read it"),
    "a value as a variable": (["--from-env", VALUE], "", 2, "takes the name of a variable"),
    "a value as a file": (["--from-file", f"/no/{VALUE}"], "", 1, "number 1 can't be read"),
    "nothing": ([], "", 2, "where is the value?"),
    "an empty value": (["--from-stdin"], "\n", 1, 'the value "value" is empty'),
    "too large": (["--from-stdin"], "x" * 70_000, 1, "is larger than 64 KiB"),
    "a bad key": (["--from-stdin", "--key", "a b"], VALUE, 2, "a key has letters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_create_refuses(name: str, sealed: Aosctl) -> None:
    words, stdin, status, reason = REFUSED[name]
    done = sealed("create", "secret", "openai", *words, stdin=stdin)
    assert (done.status, done.out) == (status, "")
    assert reason in done.err and VALUE not in done.err


# What stands in a manifest in the place of a value, or of its name.
BARE = {
    "a value": f"spec: {{data: {{a: {VALUE}}}}}",
    "a value as data": f"spec: {{data: {VALUE}}}",
    "a list": f"spec: {{data: {{a: [{VALUE}]}}}}",
    "a value as a variable": f"spec: {{data: {{a: {{fromEnv: {VALUE}}}}}}}",
    "a value as sealed": f"spec: {{data: {{a: {{sealed: {VALUE}}}}}}}",
    "an unknown way": f"spec: {{data: {{a: {{value: {VALUE}}}}}}}",
    "a value as a key": f"spec: {{data: {{'{VALUE} ': {{fromEnv: A}}}}}}",
    "two ways": "spec: {data: {a: {fromEnv: A, fromFile: b}}}",
    "no way": "spec: {data: {a: {}}}",
    "no data": "spec: {data: {}}",
    "a variable that is not set": "spec: {data: {a: {fromEnv: NOT_SET_AT_ALL}}}",
    "a file that leaves": "spec: {data: {a: {fromFile: ../x}}}",
}


@pytest.mark.parametrize("name", BARE)
def test_a_manifest_is_refused_and_not_quoted(name: str, sealed: Aosctl) -> None:
    text = f"apiVersion: aos/v1\nkind: Secret\nmetadata: {{name: bare}}\n{BARE[name]}\n"
    for words in (["apply", "-f", "-"], ["diff", "-f", "-"], ["apply", "-f", "-", "--debug"]):
        done = sealed(*words, stdin=text)
        assert done.status >= 1 and done.out == ""
        assert "secret" in done.err.lower() and VALUE not in done.err


def test_a_value_sealed_elsewhere_is_refused(
    sealed: Aosctl, admin: Aosctl, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    """Moved to another name, another key, another tenant; changed in one bit."""
    call(kernel_database.superuser, "aos_auth.apply_tenant", "globex", META, {})
    sealed("create", "secret", "openai", "--from-stdin", stdin=VALUE)
    shown = yaml.safe_load(sealed("get", "secret", "openai", "-o", "yaml").out)
    value = shown["spec"]["data"]["value"]["sealed"]
    version, key_id, wrap, body, digest = value.split(".")
    flipped = body[:-3] + ("A" if body[-3] != "A" else "B") + body[-2:]
    moved = {
        "name": ("acme", "other", "value", value),
        "key": ("acme", "openai", "other", value),
        "tenant": ("globex", "openai", "value", value),
        "bit": ("acme", "openai", "value", ".".join((version, key_id, wrap, flipped, digest))),
    }
    for how, (owner, name, key, text) in moved.items():
        manifest = {
            "apiVersion": "aos/v1", "kind": "Secret",
            "metadata": {"name": name, "tenant": owner},
            "spec": {"data": {key: {"sealed": text}}},
        }  # fmt: skip
        done = admin("apply", "-f", "-", stdin=yaml.safe_dump(manifest), AOSCTL_MASTER_KEY=KEY)
        assert done.status == 1, how
        assert "does not open: it was changed, or sealed for another tenant" in done.err, how


def test_there_must_be_a_master_key(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("create", "secret", "openai", "--from-stdin", stdin=VALUE)
    assert done.status == 1
    assert "there is no master key" in done.err and "aosctl secret init" in done.err
    assert stored(tenant, "openai") is None


@pytest.mark.parametrize("text", ["", "short", "00" * 31, "zz" * 32, "A" * 43 + "!", "é" * 32])
def test_a_master_key_that_is_none_is_refused_and_not_shown(text: str, developer: Aosctl) -> None:
    done = developer("create", "secret", "x", "--from-stdin", stdin=VALUE, AOSCTL_MASTER_KEY=text)
    assert done.status == 1 and "holds no master key" in done.err
    assert not text or text not in done.err


def test_init_makes_a_file_that_only_its_owner_may_read(
    developer: Aosctl, tmp_path: Path, tenant: Tenant
) -> None:
    done = developer("secret", "init")
    assert done.status == 0
    path = tmp_path / ".config" / "aosctl" / "master.key"
    assert f"made in the file {path}" in done.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in done.out + done.err
    assert [one.name for one in path.parent.iterdir()] == ["master.key"]
    again = developer("secret", "init")
    assert again.status == 1 and "holds a master key already" in again.err
    assert developer("create", "secret", "kept", "--from-stdin", stdin=VALUE).status == 0
    assert f"from the file {path}" in developer("describe", "secret", "kept").out
    path.chmod(0o640)
    for words in (["create", "secret", "more", "--from-stdin"], ["secret", "rotate"]):
        refused = developer(*words, stdin=VALUE)
        assert refused.status == 1
        assert f"{path} can be read by others (mode 0640)" in refused.err
    assert "unusable: the file" in developer("describe", "secret", "kept").out
    tenant.database.superuser.execute("delete from aos_auth.secret")


def test_a_file_that_a_variable_names_must_be_there(developer: Aosctl, tmp_path: Path) -> None:
    settings = {"AOSCTL_MASTER_KEY_FILE": str(tmp_path / "none")}
    done = developer("create", "secret", "x", "--from-stdin", stdin=VALUE, **settings)
    assert done.status == 1 and "does not exist" in done.err
    os.mkfifo(tmp_path / "none", 0o600)
    done = developer("create", "secret", "x", "--from-stdin", stdin=VALUE, **settings)
    assert done.status == 1 and "is no regular file" in done.err


def test_a_keyring_holds_the_key(developer: Aosctl, tenant: Tenant, tmp_path: Path) -> None:
    settings = {
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
        "XDG_DATA_HOME": str(tmp_path),
        "PYTHONWARNINGS": "default",
    }
    assert (
        "made in the system's keyring" in developer("secret", "init", "--keyring", **settings).out
    )
    done = developer("create", "secret", "rung", "--from-stdin", stdin=VALUE, **settings)
    assert done.out == "secret.aos/rung created\n"
    assert "from the system's keyring" in developer("describe", "secret", "rung", **settings).out
    before = stored(tenant, "rung")["value"].split(".")
    rotated = developer("secret", "rotate", **settings)
    assert rotated.out.startswith("secrets: 1, values: 1, all under master key ")
    after = stored(tenant, "rung")["value"].split(".")
    assert after[1] != before[1] and after[3:] == before[3:]
    assert developer("secret", "rotate", **settings).status == 0
    none = developer(
        "secret", "init", "--keyring", PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring"
    )
    assert none.status == 1 and "no keyring answers here" in none.err
    tenant.database.superuser.execute("delete from aos_auth.secret")


def test_viewers_see_names_and_digests_and_no_sealed_value(
    sealed: Aosctl, aosctl: Aosctl, tenant: Tenant
) -> None:
    sealed("create", "secret", "openai", "--from-stdin", stdin=VALUE)
    database = tenant.database
    login = database.person("secret_viewer", "aos_viewer")
    apply(database.superuser, "aos_auth.apply_principal", tenant.id, login, {
        "type": "user", "dbRole": login, "roles": ["viewer"],
    })  # fmt: skip
    viewer = {"AOSCTL_DSN": database.cluster.dsn(login, database.name)}
    shown = aosctl("get", "secret", "openai", "-o", "yaml", **viewer).out
    assert "aos1." not in shown and yaml.safe_load(shown)["spec"] == {"data": {"value": {}}}
    assert "digest" in aosctl("describe", "secret", "openai", **viewer).out
    call(database.superuser, "aos_auth.delete_principal", tenant.id, login)
