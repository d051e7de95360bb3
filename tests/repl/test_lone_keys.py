"""A key decides when it stands alone: the times of it, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from prompt_toolkit.keys import Keys

from aosctl.repl.prompt import ALONE_SECONDS, bind_lone_keys

KEYS = {"y": "approve", "e": "edit", "n": "deny"}


class Typist:
    """Presses keys at moments, and lets what waits for a moment come first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: float = 0.0) -> None:
        self.chosen: list[str] = []
        self._now = 100.0
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._buffer = SimpleNamespace(text="")
        bindings = bind_lone_keys(lambda: KEYS, self.chosen.append, lambda: before)
        self._press = bindings.get_bindings_for_keys((Keys.Any,))[0].handler
        loop = SimpleNamespace(call_later=lambda s, act: self._due.append((self._now + s, act)))
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
        monkeypatch.setattr("time.monotonic", lambda: self._now)

    def type(self, keys: str, gap: float) -> None:
        for key in keys:
            self.wait(gap)
            app = SimpleNamespace(is_running=True, is_done=False, current_buffer=self._buffer)
            sequence = [SimpleNamespace(key=key)]
            self._press(SimpleNamespace(data=key, key_sequence=sequence, app=app))  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        self._now += seconds
        due, self._due = self._due, []
        for moment, act in due:
            if moment <= self._now:
                act()
            else:
                self._due.append((moment, act))


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.9 * ALONE_SECONDS])
def test_no_letter_of_a_word_decides(monkeypatch: pytest.MonkeyPatch, gap: float) -> None:
    typist = Typist(monkeypatch)
    typist.type("yes, enjoy", gap)
    typist.wait(10)
    assert typist.chosen == []


def test_a_key_before_and_after_which_nothing_comes_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typist = Typist(monkeypatch)
    typist.type("y", 1)
    assert typist.chosen == []
    typist.wait(1.1 * ALONE_SECONDS)
    assert typist.chosen == ["approve"]
    typist.type("qn", 1)
    typist.wait(1)
    assert typist.chosen == ["approve", "deny"]


def test_what_was_typed_before_the_question_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    late, soon = Typist(monkeypatch, before=100.0), Typist(monkeypatch, before=100.9)
    for typist in (late, soon):
        monkeypatch.setattr("time.monotonic", lambda typist=typist: typist._now)
        typist.type("y", 1)
        typist.wait(1)
    assert (late.chosen, soon.chosen) == (["approve"], [])
