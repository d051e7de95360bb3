"""The caps of a run are told where it is shown."""

from __future__ import annotations

import json

from bots import Bot
from command import Aosctl


def test_the_caps_of_a_run_are_shown(here: Aosctl, bot: Bot) -> None:
    bot("capped", {"text": "done"}, maxSteps=9)
    words = ("--name", "capped-1", "--budget", "0.50", "--max-turns", "3", "--max-steps", "7")
    assert here("run", "capped", "go", *words).status == 0
    limits = json.loads(here("get", "run", "capped-1", "-o", "json").out)["spec"]["limits"]
    assert (limits["maxTurns"], limits["maxSteps"], float(limits["maxUsd"])) == (3, 7, 0.5)
    header, row = here("get", "run", "capped-1", "-o", "wide").out.splitlines()
    assert row[header.index("LIMITS") :] == "$0.5000, 7 steps, 3 turns"
    shown = here("describe", "run", "capped-1").out
    assert "Max Turns:" in shown or "maxTurns:" in shown
    # One that was given none has its agent's, and none of turns.
    assert here("run", "capped", "go", "--name", "capped-2").status == 0
    limits = json.loads(here("get", "run", "capped-2", "-o", "json").out)["spec"]["limits"]
    assert limits["maxSteps"] == 9 and "maxTurns" not in limits
