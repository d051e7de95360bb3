"""The append-only screen: what is printed once stays, and one live line moves below it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from threading import RLock
from typing import TYPE_CHECKING, TextIO

from aosctl.repl.attention import call_for
from aosctl.repl.blocks import Blocks
from aosctl.repl.words import (
    CALL_WIDTH,
    call_line,
    call_room,
    picture_line,
    result_words,
    room_line,
    seconds,
    shorten,
    source_words,
)
from aosctl.terminal import clean, display_width, folded

if TYPE_CHECKING:
    from aosctl.domain.children import DelegationRow
    from aosctl.domain.loop_events import (
        ApprovalAsked,
        CallEnded,
        CallRefused,
        Delegated,
        FellBack,
        LoopEvent,
        PictureMade,
        Retrying,
        Steered,
    )

    About = ApprovalAsked | CallEnded | CallRefused | Delegated

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_AFTER_SECONDS = 0.3
ERASE_LINE = "\r\x1b[2K"
DIM, BOLD, RED, GREEN, YELLOW = "2", "1", "31", "32", "33"


class Screen:
    """Prints a turn as it happens; safe to call from the turn's thread and the terminal's.

    `answer` takes what the model says, or is None when the caller prints that itself; `side`
    takes all else. With `styled` both are terminals that show Markdown and colour; without it
    everything is plain text, nothing is ever erased, and text is printed as it comes.
    """

    def __init__(
        self, answer: TextIO | None, side: TextIO, *, styled: bool, quiet: bool = False
    ) -> None:
        self.styled = styled
        self._quiet = quiet
        self._answer = answer
        self._side = side
        self._lock = RLock()
        self._blocks = Blocks()
        self._live = False
        self._doing = ""
        self._timed = True
        self._since = time.monotonic()
        self._after = ""
        self._open_line = False
        self._spoken = False
        self._held = ""
        self.whole = False
        """Print what the model says when it is whole, not as it comes."""

    def _showing(self) -> AbstractContextManager[object]:
        """Hold the screen while something is shown on it."""
        return self._lock

    @property
    def gone(self) -> bool:
        """Tell whether nobody reads any more what the turn is driven for."""
        return False

    @property
    def left(self) -> bool:
        """Tell whether the person left the turn that is driven to others."""
        return False

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns

    @property
    def folds(self) -> bool:
        """Tell whether lines are broken at the terminal's edge, where one is known to be."""
        return self.styled

    def begin(self, doing: str = "thinking") -> None:
        """Start a turn: `doing` stands in the live line until something happens."""
        with self._showing():
            self._blocks = Blocks()
            self._spoken = False
            self._do(doing)

    def end(self) -> None:
        """End the turn: print what is unfinished, take the live line away."""
        with self._showing():
            self._finish_text()
            self._erase()
            self._doing = ""

    def observe(self, event: LoopEvent) -> None:
        """Show one event of the loop."""
        from aosctl.domain import loop_events as events

        with self._showing():
            match event:
                case events.TextDelta(text):
                    self._held += text
                    if not self.whole:
                        self._release()
                case events.ThinkDelta():
                    self._do("thinking")
                case events.Helping(doing):
                    self._do(doing)
                case events.Steered() | events.PictureMade():
                    self._part(event)
                case events.MadeRoom(messages, _, summarised):
                    self._finish_text()
                    self.note(room_line(messages, summarised))
                case events.Retrying() | events.FellBack():
                    self._ask_again(event)
                case _:
                    self._observe_call(event)

    def _observe_call(self, event: LoopEvent) -> None:
        from aosctl.domain import loop_events as events

        match event:
            case events.CallBegun(call):
                self._finish_text()
                self._do(call_line(call.skill, call.args))
            case events.CallEnded(_, ok, result, took):
                words = (seconds(took), result_words(ok, result))
                hits = result.get("hits") if isinstance(result, Mapping) else None
                self._call(event, words, GREEN if ok else RED, source_words(hits))
            case events.CallRefused(call):
                reason = shorten(call.reason or "not allowed", 200)
                self._call(event, (f"refused: {reason}",), RED)
            case events.ApprovalAsked():
                self._call(event, ("waits for approval",), YELLOW)
            case events.Delegated(_, run, agent):
                self._call(event, (f"given to {agent}", f"run {run}"), "")

    def tick(self) -> None:
        """Redraw the live line; to be called about ten times a second."""
        with self._showing():
            if not self.styled or self._quiet or not self._doing:
                return
            passed = time.monotonic() - self._since
            if passed < SPINNER_AFTER_SECONDS and not self._blocks.tail:
                return
            frame = SPINNER[int(passed * 10) % len(SPINNER)]
            doing = f"{self._doing} · {seconds(passed)}" if self._timed else self._doing
            text = self._blocks.tail or doing
            line = shorten(text, self.width - 4)
            self._side.write(f"{ERASE_LINE}{self.style(f'{frame} {line}', DIM)}")
            self._side.flush()
            self._live = True

    def doing(self, text: str) -> None:
        """Say what is waited for: in the live line, or once as a note."""
        with self._showing():
            if self.styled:
                since = self._since
                self._do(text, timed=False)
                self._since = min(since, time.monotonic() - SPINNER_AFTER_SECONDS)
            elif self._doing != text:
                self._doing = text
                self.note(text)

    def handed_back(self, row: DelegationRow) -> None:
        """Print how a run that worked for ours has ended, and what it cost."""
        ok = row.call_state == "succeeded"
        with self._showing():
            self._finish_text()
            if not self._quiet:
                words = ["is done" if ok else "did not finish", f"run {row.child}"]
                words += [seconds(row.seconds)] + ([f"${row.cost_usd:.4f}"] if row.cost_usd else [])
                mark = self.style("⏺", GREEN if ok else RED)
                rest = self.style(" · ".join(words), DIM)
                self._line(f"{mark} {clean(row.agent)} {rest}", "call")

    def gap(self) -> None:
        """Leave a blank line after an answer, before the person's turn."""
        with self._showing():
            if self._after in ("text", "call"):
                self._side.write("\n")
                self._side.flush()
            self._after = ""

    def expand(self) -> None:
        """Show the last call in full; only where a prompt stays open somebody can ask for it."""

    def echo(self, text: str) -> None:
        """Print what the person said, where no prompt shows it."""
        with self._showing():
            self._line(clean(text), "note")

    def note(self, text: str) -> None:
        """Print a line about the turn, not from the model; `-q` leaves it out."""
        with self._showing():
            self._finish_text()
            if not self._quiet:
                self._line(self.style(clean(text), DIM), "note")

    def warn(self, text: str, colour: str = "") -> None:
        """Print a line that the person has to see; what it quotes begins no line of ours."""
        with self._showing():
            self._finish_text()
            self._line(self.style(clean(text).replace("\n", "\n  "), colour), "note")

    def fail(self, message: str, hint: str | None) -> None:
        """Print an error, and what to try next."""
        self.warn(f"error: {message}", RED)
        if hint:
            self.note(f"hint: {hint}")

    def box(self, title: str, lines: list[str], below: str) -> None:
        """Print lines that a person decides on, in full; they are safe already."""
        with self._showing():
            self._finish_text()
            self._erase()
            self._separate(self._side, "box")
            self._call_for(title)
            rows = [self.style(title, BOLD)]
            margin = f"  {self.style('│', YELLOW)} "
            width = self.width - 4 if self.folds else sys.maxsize
            rows += [f"{margin}{row}" for line in lines for row in folded(line, width)]
            rows += [self.style(f"  {row}", DIM) for row in folded(below, width)]
            self._side.write("\n".join(rows) + "\n")
            self._side.flush()

    def show(self, text: str) -> None:
        """Print what a command found, as it is: safe already, in colours of its own."""
        with self._showing():
            self._finish_text()
            self._erase()
            if text:
                self._side.write(text.rstrip("\n") + "\n")
                self._side.flush()
            self._after = "note"

    def print_block(self, text: str) -> None:
        """Print an answer that did not come as a stream."""
        with self._showing():
            for block in [*self._blocks.feed(text), *self._blocks.close()]:
                self._block(block)

    def drawn(self, block: str) -> str:
        """Return a finished block of Markdown as it stands on this screen."""
        block = clean(block)
        if not (self.styled or self.folds):
            return block
        from aosctl.repl.markdown import render, with_tables

        return render(block, self.width) if self.styled else with_tables(block, self.width)

    def style(self, text: str, code: str) -> str:
        """Return `text` in a colour where the screen has colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.styled and text and code else text

    def _call_for(self, what: str) -> None:
        """Call a person, who has to decide."""
        if self.styled:
            self._side.write(call_for(what, os.environ))

    def _do(self, what: str, *, timed: bool = True) -> None:
        self._timed = timed
        if what != self._doing:
            self._doing = what
            self._since = time.monotonic()

    def _text(self, text: str) -> None:
        if self._answer is None:
            return
        self._spoken = True
        if not self.styled:
            self._separate(self._answer, "text", again="text")
            self._answer.write(clean(text))
            self._answer.flush()
            self._open_line = not text.endswith("\n")
            return
        for block in self._blocks.feed(text):
            self._block(block)
        self._do("writing")

    def _release(self) -> None:
        """Print the text that was held back, if any was."""
        held, self._held = self._held, ""
        if held:
            self._text(held)

    def _finish_text(self) -> None:
        self._release()
        for block in self._blocks.close():
            self._block(block)
        if self._open_line and self._answer is not None:
            self._answer.write("\n")
            self._answer.flush()
            self._open_line = False
        self._spoken = False

    def _part(self, event: Steered | PictureMade) -> None:
        """End what was said so far: an answer may begin anew here, or a picture stands here."""
        from aosctl.domain.loop_events import PictureMade

        self._finish_text()
        if isinstance(event, PictureMade):
            self.note(picture_line(event.picture))

    def _ask_again(self, event: Retrying | FellBack) -> None:
        """Say that a model is asked again, or another one, and part from what was said so far.

        An unfinished block vanishes. What stands on the terminal already is closed with a line
        there, which `-q` does not leave out: the whole answer follows.
        """
        from aosctl.domain.loop_events import FellBack

        self._held = ""
        reason = shorten(event.reason, 200)
        if isinstance(event, FellBack):
            what = f'asking "{clean(event.model)}" instead'
        else:
            what = f"trying again in {seconds(event.in_seconds)}"
        if not self._spoken or self._answer is None:
            self.note(f"{reason}; {what}")
            return
        self._blocks = Blocks()
        self._finish_text()
        self._erase()
        words = f"the stream broke: {reason}; {what}"
        self._answer.write(self.style(words, DIM) + "\n")
        self._answer.flush()
        self._after = "note"
        self._do("thinking")

    def _block(self, block: str) -> None:
        out = self._answer or self._side
        self._erase()
        self._separate(out, "text")
        out.write(self.drawn(block) + "\n")
        out.flush()

    def _call(self, about: About, words: tuple[str, ...], colour: str, extra: str = "") -> None:
        """Print a call's line, without the words' end `extra` where that costs its arguments."""
        self._finish_text()
        if not self._quiet:
            rest = "".join(f" · {word}" for word in words)
            whole = call_line(about.call.skill, about.call.args, CALL_WIDTH)
            if self.folds and display_width(whole + rest) > self.width - 3:
                rest = rest.removesuffix(extra)
            room = call_room(self.width - 3, rest) if self.folds else CALL_WIDTH
            line = call_line(about.call.skill, about.call.args, room)
            self._line(f"{self.style('⏺', colour)} {line}{self.style(rest, DIM)}", "call")
        self._do("thinking")

    def _line(self, text: str, kind: str) -> None:
        self._erase()
        if kind == "call":
            self._separate(self._side, kind, again=kind)
        else:
            self._after = kind
        self._side.write(text + "\n")
        self._side.flush()

    def _separate(self, out: TextIO, kind: str, again: str = "") -> None:
        """Leave a blank line before `kind` where all goes to one stream; not within a list."""
        one_place = self.styled or self._answer is self._side
        if one_place and self._after and self._after != again:
            out.write("\n")
        self._after = kind

    def _erase(self) -> None:
        if self._live:
            self._side.write(ERASE_LINE)
            self._side.flush()
            self._live = False
