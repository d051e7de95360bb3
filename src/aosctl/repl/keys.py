"""What keys do at the chat's open prompt: typing, queueing, interrupting, deciding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aosctl.repl.prompt import bind_editing, bind_lone_keys

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyBindings, KeyBindingsBase, KeyPressEvent

    from aosctl.repl.live import Live

ESCAPE_ALONE_SECONDS = 0.15
"""Escape interrupts when nothing follows it: other keys begin with it too."""
STEER = "/steer"


def bindings(live: Live, message: Buffer, reply: Buffer) -> KeyBindingsBase:
    """Return the keys of the message, of the questions, and those that always work."""
    from prompt_toolkit.filters import Condition, has_focus
    from prompt_toolkit.key_binding import ConditionalKeyBindings, merge_key_bindings
    from prompt_toolkit.key_binding.bindings.auto_suggest import load_auto_suggest_bindings
    from prompt_toolkit.key_binding.bindings.open_in_editor import load_open_in_editor_bindings

    state = live.state
    writing = has_focus(message)
    asking = has_focus(reply) & Condition(lambda: state.mode == "key")
    keys = bind_lone_keys(lambda: state.keys, live.answer, lambda: live.presses.before)
    return merge_key_bindings(
        [
            load_auto_suggest_bindings(),
            ConditionalKeyBindings(load_open_in_editor_bindings(), writing),
            ConditionalKeyBindings(_message_keys(live, message), writing),
            ConditionalKeyBindings(_line_keys(live), has_focus(reply) & ~asking),
            ConditionalKeyBindings(keys, asking),
            ConditionalKeyBindings(_common_keys(live), writing | has_focus(reply)),
        ]
    )


def _message_keys(live: Live, message: Buffer) -> KeyBindings:
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.key_binding import KeyBindings

    from aosctl.repl.commands import may_run_while_busy

    state = live.state
    made = KeyBindings()
    busy = Condition(lambda: state.mode == "busy")

    def send() -> None:
        text = message.text
        message.append_to_history()
        message.reset()
        if state.mode == "idle":
            live.presses.forget()
            live.echo(text)
            live.answer(text)
        elif text.strip().split(maxsplit=1)[0] == STEER:
            steer(text.strip()[len(STEER) :].strip())
        elif may_run_while_busy(text):
            live.echo(text)
            live.aside(lambda handlers: handlers.obey(text))
        else:
            live.enqueue(text)

    def steer(text: str) -> None:
        if text:
            live.steer(text)

    bind_editing(made, send)

    @made.add("escape", "s", filter=busy)
    def hand_over(_event: KeyPressEvent) -> None:
        text = message.text.strip()
        message.append_to_history()
        message.reset()
        steer(text)

    @made.add("up", filter=Condition(lambda: bool(state.queue) and not message.text))
    def take_back(_event: KeyPressEvent) -> None:
        state.put_before(state.queue.pop())

    return made


def _line_keys(live: Live) -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    made = KeyBindings()

    @made.add("enter")
    def accept(event: KeyPressEvent) -> None:
        live.answer(event.current_buffer.text)

    return made


def _common_keys(live: Live) -> KeyBindings:
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.key_binding import KeyBindings

    state = live.state
    made = KeyBindings()

    @made.add("c-c")
    def interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset(append_to_history=False)
        else:
            live.interrupt()

    @made.add("c-d")
    def leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.delete()
        elif state.mode == "busy":
            live.leave_busy()
        else:
            live.answer(EOFError())

    @made.add("escape", filter=Condition(lambda: state.mode != "idle"))
    def stop(event: KeyPressEvent) -> None:
        live.presses.when_alone(live.interrupt)

    @made.add("c-o")
    def expand(_event: KeyPressEvent) -> None:
        live.aside(lambda handlers: handlers.expand())

    @made.add("c-z")
    def suspend(_event: KeyPressEvent) -> None:
        live.suspend()

    return made


class Presses:
    """Counts keys, to know when the last ones were pressed and whether one came alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last = self.before = float("-inf")
        self._count = 0

    def see(self) -> None:
        """Note that a key is pressed."""
        self.before, self.last = self.last, self.clock()
        self._count += 1

    def forget(self) -> None:
        """Let the next key count as the first: Enter has ended what was typed before it."""
        self.last = float("-inf")

    def when_alone(self, act: Callable[[], None]) -> None:
        """Act unless another key follows at once; what was read together with it does."""
        count = self._count

        def look() -> None:
            if count == self._count:
                act()

        asyncio.get_running_loop().call_later(ESCAPE_ALONE_SECONDS, look)
