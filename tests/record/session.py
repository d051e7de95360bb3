"""What the recorded session does: from an empty machine to a decision, and what it left behind."""

from __future__ import annotations

import re
from collections.abc import Mapping

from record.camera import Camera, Film

QUESTION = "How do I optimise a join?"
CHANGE = "delete from shop.order_item where order_id = 4"
_RUN = re.compile(r"\bmy_pg_bot-\w+")


def record(env: Mapping[str, str]) -> tuple[Film, str]:
    """Play the session in an environment with an empty HOME; return the film and all its text."""
    with Camera(env, columns=100, rows=30) as camera:
        _at_the_shell(camera, "aosctl quickstart", until=_chat_prompt)
        camera.hold(0.8)
        _say(camera, QUESTION)
        camera.hold(2.5)
        camera.type(CHANGE)
        camera.press("\r")
        camera.until(lambda: "later > " in camera.cursor_line())
        camera.hold(3.5)
        camera.press("y")
        camera.until(lambda: _chat_prompt(camera) and "\nDone: " in camera.text())
        camera.hold(1.8)
        camera.press("\x04")
        camera.until(lambda: _shell_prompt(camera))
        camera.hold(0.6)
        _at_the_shell(camera, "aosctl ps -a")
        run = _RUN.findall(camera.text())[-1]
        camera.hold(1.2)
        _at_the_shell(camera, f"aosctl logs {run} --tail 5")
        camera.hold(2.5)
        _at_the_shell(camera, f"aosctl trace {run}")
        camera.hold(6)
        return camera.film, camera.text()


def commands(text: str) -> list[str]:
    """Return what was typed at the shell, the name of the run left out."""
    typed = re.findall(r"^\$ (aosctl .+)$", text, re.MULTILINE)
    return [_RUN.sub("RUN", line) for line in typed]


def _at_the_shell(camera: Camera, line: str, until: object = None) -> None:
    camera.type(line)
    camera.hold(0.3)
    row = camera.row
    camera.press("\r")
    ready = until if callable(until) else _shell_prompt
    camera.until(lambda: camera.row > row and bool(ready(camera)))


def _say(camera: Camera, line: str) -> None:
    camera.type(line)
    camera.hold(0.3)
    row = camera.row
    camera.press("\r")
    camera.until(lambda: camera.row > row + 3 and _chat_prompt(camera))


def _shell_prompt(camera: Camera) -> bool:
    return camera.cursor_line() == "$ "


def _chat_prompt(camera: Camera) -> bool:
    return camera.cursor_line() == "> "
