"""The prompt of a terminal that moves no cursor (TERM=dumb): a line at a time, as it edits it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from aosctl.terminal import clean


class PlainLinePrompt:
    """Asks as `LinePrompt` does; `news` has what the status line would say, when it is new."""

    def __init__(self, is_open: Callable[[str], bool], news: Callable[[], str]) -> None:
        self._is_open = is_open
        self._news = news

    def ask(
        self, label: Callable[[], str], mark: str = "", *, sign: str = "> ", begun: str = ""
    ) -> str:
        """Ask; raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""
        if news := self._news():
            _write(f"{clean(news)}\n")
        first = f"{clean(label())}{mark}{sign}"
        following = "-> ".rjust(len(first))
        text = begun
        try:
            while True:
                _write(following if text else first)
                line = sys.stdin.readline()
                if not line:
                    _write("\n")
                    raise EOFError
                text += line.removesuffix("\n")
                if not (_goes_on(text) or self._is_open(text)):
                    return text
                text += "\n"
        except KeyboardInterrupt:
            _write("\n")
            raise

    def when_drawn(self, call: Callable[[], None]) -> None:
        """Call now: nothing is drawn."""
        call()

    def redraw(self) -> None:
        """Do nothing: the next prompt says what is new."""

    def ring(self) -> None:
        """Ring the bell; for any thread."""
        _write("\a")


def news_of(status: Callable[[], str]) -> Callable[[], str]:
    """Return what says the status once, and again when it is another; "" in between."""
    told = status()

    def news() -> str:
        nonlocal told
        before, told = told, status()
        return told if told != before else ""

    return news


def _goes_on(text: str) -> bool:
    return text.endswith("\\") and not text.endswith("\\\\")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
