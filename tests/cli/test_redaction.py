"""What a process has opened as a secret is in nothing that it prints, tracebacks included."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from aosctl.cli import app, boundary, output
from aosctl.cli.globals import Globals
from aosctl.errors import AosError, redact_dsn
from aosctl.redaction import environment_for_children, remember

SECRET = 'pa"ss/wörd+and more'


@pytest.fixture(autouse=True)
def _opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from aosctl import redaction

    monkeypatch.setattr(redaction, "_forms", {})
    remember(SECRET)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"before{SECRET}after",
        quote(SECRET, safe=""),
        json.dumps({"key": SECRET}),
        repr([SECRET]),
        base64.b64encode(SECRET.encode()).decode(),
        f"Authorization: Bearer {SECRET}\r\n",
    ],
)
def test_every_form_of_it_is_redacted(text: str) -> None:
    shown = redact_dsn(text)
    assert "[redacted]" in shown and "rd+and" not in shown and "%2B" not in shown


def test_a_traceback_and_a_note_are_redacted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_argv: list[str], _given: Globals | None = None) -> int:
        try:
            raise ValueError(f"401: {SECRET}")
        except ValueError as error:
            error.add_note(SECRET)
            raise AosError(f"it said {SECRET}", f"use {SECRET}") from error

    monkeypatch.setattr(app, "invoke", fail)
    assert boundary.run(["--debug"]) == 1
    output.note(f"note {SECRET}")
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "ValueError: 401: [redacted]" in shown
    assert "error: it said [redacted]\nhint: use [redacted]\nnote [redacted]" in shown
    assert SECRET not in shown


def test_without_having_been_opened_it_is_text_as_any_other() -> None:
    assert redact_dsn("another text") == "another text"
    assert remember("ab") == "ab" and redact_dsn("cab") == "cab"  # too short to be one


def test_children_get_neither_secrets_nor_the_master_key() -> None:
    env = {"A": SECRET, "B": f"x{SECRET}", "C": "c", "AOSCTL_MASTER_KEY": "k"}
    assert environment_for_children(env) == {"C": "c"}
