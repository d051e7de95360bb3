"""`aosctl edit`: the person's editor on manifests; nothing of anybody's work is lost."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from command import AOSCTL, Aosctl, Ended
from kernels import Tenant, apply
from terminal import Terminal

AOSCTL_FOLDER = AOSCTL.parent
HEAD = "# Please edit the manifests below."


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    """A program in the place of an editor: it runs `steps/N` on the file the Nth time."""
    program = tmp_path / "editor"
    program.write_text(
        "#!/bin/sh\n"
        f'n=$(cat "{tmp_path}/count" 2>/dev/null || echo 0); n=$((n + 1))\n'
        f'echo $n > "{tmp_path}/count"\n'
        f'cp "$1" "{tmp_path}/seen$n"; stat -c %a "$1" > "{tmp_path}/mode"\n'
        f'[ -e "{tmp_path}/step$n" ] || exit 0\n'
        f'. "{tmp_path}/step$n"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "kept").mkdir()
    return program


class Session:
    """`aosctl edit`, with what its editor does each time, in shell; `$1` is the file."""

    def __init__(self, aosctl: Aosctl, editor: Path) -> None:
        self._aosctl = aosctl
        self.folder = editor.parent
        self._settings = {"AOSCTL_EDITOR": str(editor), "TMPDIR": str(self.folder / "kept")}

    def edit(self, *words: str, steps: tuple[str, ...] = (), **settings: str) -> Ended:
        for n, step in enumerate(steps, start=1):
            (self.folder / f"step{n}").write_text(step + "\n")
        return self._aosctl("edit", *words, **{**self._settings, **settings})

    def seen(self, n: int) -> str:
        """What the editor was given the Nth time."""
        return (self.folder / f"seen{n}").read_text()

    def times(self) -> int:
        """How often the editor was opened."""
        return int((self.folder / "count").read_text())

    def kept(self) -> list[Path]:
        """The files that are left."""
        return sorted((self.folder / "kept").iterdir())


@pytest.fixture
def session(developer: Aosctl, editor: Path) -> Session:
    return Session(developer, editor)


def make(tenant: Tenant, name: str, prompt: str = "Be brief.") -> None:
    spec = {"systemPrompt": prompt, "model": "offline"}
    apply(tenant.database.superuser, "aos_persona.apply_persona", tenant.id, name, spec)


def prompt_of(developer: Aosctl, name: str) -> str:
    return developer("get", "persona", name, "-o", "jsonpath={.spec.systemPrompt}").out


def test_what_is_saved_is_applied(developer: Aosctl, session: Session, tenant: Tenant) -> None:
    make(tenant, "first")
    done = session.edit("persona", "first", steps=('sed -i s/brief/kind/ "$1"',))
    assert (done.status, done.out, done.err) == (0, "persona.aos/first edited\n", "")
    assert prompt_of(developer, "first") == "Be kind."
    assert session.times() == 1
    assert session.seen(1).startswith(HEAD)
    assert "  name: first\n  tenant: acme\n  generation: 1\n" in session.seen(1)
    assert "status" not in session.seen(1)
    assert (session.folder / "mode").read_text() == "600\n"
    assert session.kept() == []


@pytest.mark.parametrize("step", ["", 'echo "" >> "$1"', 'sed -i "1i # a note" "$1"'])
def test_nothing_changed_is_nothing_done(session: Session, tenant: Tenant, step: str) -> None:
    make(tenant, "same")
    done = session.edit("persona/same", steps=(step,))
    assert (done.status, done.out) == (0, "")
    assert done.err == "Edit cancelled, no changes made.\n"
    assert session.kept() == []


def test_what_means_the_same_is_no_change(session: Session, tenant: Tenant) -> None:
    make(tenant, "alike")
    done = session.edit("persona/alike", steps=('sed -i "/description:/d" "$1"',))
    assert (done.status, done.out) == (0, "")
    assert done.err == "Edit cancelled, no changes made.\n"


def test_an_empty_file_ends_it(session: Session, tenant: Tenant) -> None:
    make(tenant, "emptied")
    done = session.edit("persona/emptied", steps=(': > "$1"',))
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: Edit cancelled, saved file was empty.\n"
    assert session.kept() == []


def test_a_mistake_opens_it_again_with_the_reason_and_then_it_is_mended(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "twice")
    wrong = 'sed -i "s/model: offline/modell: offline/; s/brief/kind/" "$1"'
    mend = 'sed -i s/modell/model/ "$1"'
    done = session.edit("persona/twice", steps=(wrong, mend))
    assert (done.status, done.out) == (0, "persona.aos/twice edited\n")
    again = session.seen(2).splitlines()
    (reason,) = (line for line in again if "modell:" in line and line.startswith("# "))
    text = 'Persona "twice": spec.modell: unknown field; did you mean "model"?'
    place = reason.removesuffix(text)
    assert place.startswith("# line ")
    assert again[int(place.split()[2].rstrip(",")) - 1] == "  modell: offline"
    assert "systemPrompt: Be kind." in session.seen(2)
    assert done.err.startswith("error: ")
    assert done.err.endswith(f"{text}\n")
    assert prompt_of(developer, "twice") == "Be kind."
    assert session.kept() == []


def test_given_up_keeps_the_file_and_names_it(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "dropped")
    done = session.edit("persona/dropped", steps=('sed -i "s/model: off/model: on/" "$1"',))
    assert (done.status, done.out) == (1, "")
    (kept,) = session.kept()
    first, *rest = done.err.splitlines()
    assert first.endswith('spec.model: no Model "online" exists; did you mean "offline"?')
    assert rest == [
        f'A copy of your changes has been stored to "{kept}"',
        "error: Edit cancelled, no valid changes were saved.",
    ]
    line = int(first.removeprefix(f"error: {kept}:").partition(":")[0])
    assert kept.read_text().splitlines()[line - 1] == "  model: online"
    assert session.times() == 2
    mended = kept.read_text().replace("online", "offline").replace("brief", "short")
    kept.write_text(mended)
    again = developer("apply", "-f", str(kept))
    assert (again.status, again.out) == (0, "persona.aos/dropped configured\n")
    kept.unlink()


def test_what_another_changed_meanwhile_is_not_overwritten(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "raced")
    other = "aosctl patch persona raced -p 'spec: {description: mine}' >/dev/null && "
    step = f'PATH="{AOSCTL_FOLDER}:$PATH"; {other} sed -i s/brief/kind/ "$1"'
    done = session.edit("persona/raced", steps=(step,))
    assert (done.status, done.out) == (1, "")
    (kept,) = session.kept()
    assert "it was changed meanwhile: the file has 1, the database 2" in done.err
    assert f'A copy of your changes has been stored to "{kept}"\n' in done.err
    assert (
        "# hint: get it again and repeat your change, or leave generation out" in kept.read_text()
    )
    assert "Be kind." in kept.read_text()
    row = json.loads(developer("get", "persona", "raced", "-o", "json").out)
    assert (row["spec"]["description"], row["spec"]["systemPrompt"]) == ("mine", "Be brief.")
    assert developer("apply", "-f", str(kept)).status == 1
    kept.unlink()


def test_without_its_generation_it_overwrites(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "forced")
    other = "aosctl patch persona forced -p 'spec: {description: mine}' >/dev/null && "
    step = f'PATH="{AOSCTL_FOLDER}:$PATH"; {other} sed -i s/brief/kind/ "$1"'
    done = session.edit("persona/forced", steps=(step, 'sed -i /generation:/d "$1"'))
    assert (done.status, done.out) == (0, "persona.aos/forced edited\n")
    row = json.loads(developer("get", "persona", "forced", "-o", "json").out)
    assert (row["spec"]["description"], row["spec"]["systemPrompt"]) == ("", "Be kind.")


def test_a_role_that_was_taken_meanwhile_does_not_come_back(
    admin: Aosctl, editor: Path, tenant: Tenant
) -> None:
    """A principal's generation does not count its roles; its content does."""
    spec = {"type": "user", "displayName": "Joe", "dbRole": None, "roles": ["viewer", "developer"]}
    apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "joe", spec)
    session = Session(admin, editor)
    take = "aosctl patch principal joe -n acme -p 'spec: {roles: [viewer]}' >/dev/null && "
    step = f'PATH="{AOSCTL_FOLDER}:$PATH"; {take} sed -i s/Joe/Joseph/ "$1"'
    done = session.edit("principal/joe", "-n", "acme", steps=(step,))
    assert (done.status, done.out) == (1, "")
    assert "was changed meanwhile" in done.err
    row = json.loads(admin("get", "principal", "joe", "-n", "acme", "-o", "json").out)
    assert row["spec"]["roles"] == ["viewer"]


def test_several_are_one_file_and_one_transaction(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "left")
    make(tenant, "right")
    step = 'sed -i s/brief/kind/ "$1"'
    done = session.edit("personas", "left", "right", steps=(step,))
    assert (done.status, done.err) == (0, "")
    assert done.out == "persona.aos/left edited\npersona.aos/right edited\n"
    (session.folder / "count").unlink()
    step = 'sed -i "s/Be kind/Be sad/" "$1"; echo "  nothing: here" >> "$1"'
    bad = session.edit("personas", "left", "right", steps=(step, ""))
    assert (bad.status, bad.out) == (1, "")
    assert 'Persona "right": spec.nothing: unknown field' in bad.err
    assert {prompt_of(developer, name) for name in ("left", "right")} == {"Be kind."}


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ('sed -i "s/name: stays/name: goes/" "$1"', "kind, name and tenant can't be changed"),
        ('sed -i "s/tenant: acme/tenant: other/" "$1"', "kind, name and tenant can't be changed"),
    ],
)
def test_it_is_not_a_way_to_rename(
    developer: Aosctl, session: Session, tenant: Tenant, step: str, text: str
) -> None:
    make(tenant, "stays")
    done = session.edit("persona/stays", steps=(step,))
    assert (done.status, done.out) == (1, "")
    assert text in done.err
    assert developer("get", "persona", "goes").status == 1
    (kept,) = session.kept()
    kept.unlink()


def test_json_is_edited_as_json(developer: Aosctl, session: Session, tenant: Tenant) -> None:
    make(tenant, "braces")
    done = session.edit("persona/braces", "-o", "json", steps=('sed -i s/brief/kind/ "$1"',))
    assert (done.status, done.out, done.err) == (0, "persona.aos/braces edited\n", "")
    assert '"kind": "Persona"' in session.seen(1)
    assert prompt_of(developer, "braces") == "Be kind."


def test_the_variables_choose_the_editor_in_their_order(
    developer: Aosctl, session: Session, tenant: Tenant
) -> None:
    make(tenant, "chosen")
    names = ("AOSCTL_EDITOR", "KUBE_EDITOR", "VISUAL", "EDITOR")
    for place, name in enumerate(names):
        settings = dict.fromkeys(names[:place], "") | {name: "false"}
        settings |= dict.fromkeys(names[place + 1 :], "true")
        done = session.edit("persona/chosen", **settings)
        assert (done.status, done.out) == (1, "")
        assert done.err.splitlines()[0] == (
            'error: there was a problem with the editor "false": exit status 1'
        )
    assert session.kept() == []


def test_no_editor_is_one_line(session: Session, tenant: Tenant) -> None:
    make(tenant, "none")
    done = session.edit("persona/none", AOSCTL_EDITOR="/no/such/editor -x")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'error: unable to launch the editor "/no/such/editor -x": No such file or directory\n'
        "hint: AOSCTL_EDITOR, KUBE_EDITOR, VISUAL or EDITOR names another\n"
    )
    assert session.kept() == []


def test_an_editor_that_fails_after_saving_leaves_the_work(
    session: Session, tenant: Tenant
) -> None:
    make(tenant, "crash")
    done = session.edit("persona/crash", steps=('sed -i s/brief/kind/ "$1"; exit 7',))
    (kept,) = session.kept()
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f'A copy of your changes has been stored to "{kept}"\nerror: there')
    assert "Be kind." in kept.read_text()


def test_the_editor_does_not_get_the_master_key(session: Session, tenant: Tenant) -> None:
    make(tenant, "keyless")
    step = f'echo "[$AOSCTL_MASTER_KEY][$MARK]" > "{session.folder}/env"'
    session.edit("persona/keyless", steps=(step,), AOSCTL_MASTER_KEY="x" * 43, MARK="here")
    assert (session.folder / "env").read_text() == "[][here]\n"


CAREFUL = """
import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready", flush=True)
signal.sigwait([signal.SIGINT])
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text().replace("brief", "kind"))
"""
"""An editor for which Ctrl-C is a key, as Ctrl-G is for emacs: it saves when it is pressed."""


def test_the_keys_that_interrupt_are_the_editors(
    env: dict[str, str], developer: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    make(tenant, "interrupted")
    program = tmp_path / "careful.py"
    program.write_text(CAREFUL)
    settings = {
        **env,
        "AOSCTL_DSN": tenant.database.cluster.dsn("test_developer", tenant.database.name),
        "AOSCTL_EDITOR": f"{sys.executable} {program}",
    }
    with Terminal(settings, "edit", "persona/interrupted") as terminal:
        terminal.expect_text("ready")
        terminal.type("\x03")
        terminal.expect_text("persona.aos/interrupted edited")
        assert terminal.status() == 0
    assert prompt_of(developer, "interrupted") == "Be kind."


def test_an_editor_that_was_interrupted_ends_the_edit(session: Session, tenant: Tenant) -> None:
    make(tenant, "stopped")
    done = session.edit("persona/stopped", steps=("kill -INT $$",))
    assert (done.status, done.out) == (130, "")
    assert session.kept() == []


def test_a_file_that_the_editor_takes_away_is_said(session: Session, tenant: Tenant) -> None:
    make(tenant, "taken")
    done = session.edit("persona/taken", steps=('rm "$1"',))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: can't read ")
    assert done.err.endswith(".yaml: No such file or directory\n")


def test_a_viewer_keeps_what_may_not_be_applied(
    aosctl: Aosctl, editor: Path, tenant: Tenant
) -> None:
    make(tenant, "readonly")
    database = tenant.database
    login = database.person("edit_viewer", "aos_viewer")
    apply(database.superuser, "aos_auth.apply_principal", tenant.id, "watcher", {
        "type": "user", "displayName": "W", "dbRole": login, "roles": ["viewer"],
    })  # fmt: skip

    def viewer(*words: str, **settings: str) -> Ended:
        return aosctl(*words, AOSCTL_DSN=database.cluster.dsn(login, database.name), **settings)

    session = Session(viewer, editor)
    done = session.edit("persona/readonly", steps=('sed -i s/brief/kind/ "$1"',))
    assert (done.status, done.out) == (1, "")
    (kept,) = session.kept()
    assert done.err.startswith(f'A copy of your changes has been stored to "{kept}"\n')
    assert "the login may not change personas here" in done.err
    assert session.times() == 1


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ((), 2, "error: You must specify the type of resource to edit\n"),
        (("persona",), 2, "error: resource(s) were provided, but no name was specified\n"),
        (("runs", "x"), 2, "error: runs have no manifest that edit could change\n"),
        (("events", "x"), 2, "error: events have no manifest that edit could change\n"),
        (("persona", "bot", "-o", "wide"), 2, "error: unable to match a printer suitable"),
        (("persona", "expret"), 1, 'Error from server (NotFound): personas.aos "expret" not found'
                                   '\nhint: did you mean "expert"?\n'),
        (("personna", "x"), 1, "error: the server doesn't have a resource type \"personna\"; did"
                               ' you mean "persona"?\n'),
    ],
)  # fmt: skip
def test_wrong_words(session: Session, words: tuple[str, ...], status: int, text: str) -> None:
    done = session.edit(*words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
