"""`aosctl schedule`, and schedules in the verbs of all kinds; fired by real workers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from bots import Bot
from command import Aosctl
from kernels import KernelDatabase

_NUMBERS = count(1)
ANSWERS = ({"text": "Twelve orders."}, {"text": "As before."})


@pytest.fixture
def clock(kernel_database: KernelDatabase) -> Iterator[Callable[[str], None]]:
    yield kernel_database.move_clock
    kernel_database.move_clock()


@pytest.fixture
def name(here: Aosctl, bot: Bot) -> Iterator[str]:
    """A schedule of every minute, whose agent plays a script."""
    made = f"report{next(_NUMBERS)}"
    bot(made, *ANSWERS)
    done = here(
        "create", "schedule", made, "--agent", made, "--schedule", "* * * * *",
        "--timezone", "Europe/Berlin", "--", "How many orders?",
    )  # fmt: skip
    assert (done.status, done.out) == (0, f"schedule.aos/{made} created\n"), done.err
    yield made
    here("delete", "schedule", made)


@pytest.fixture
def worker(here: Aosctl) -> Aosctl:
    """Look once for what is due, and drive it."""
    return partial(here, "worker", "--once")


def resource(here: Aosctl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(here("get", "schedule", name, "-o", "json").out)
    return found


def test_a_schedule_is_fired_by_a_worker_driven_as_any_run_and_listed(
    here: Aosctl, name: str, worker: Aosctl, clock: Callable[[str], None]
) -> None:
    clock("61 seconds")
    done = worker()
    assert done.status == 0
    run = resource(here, name)["status"]["lastRun"]
    assert done.err.splitlines()[0] == f"schedule {name} fired {run}"
    assert f"{run} turn 1 completed" in done.err
    table = here("get", "schedules", name).out.splitlines()
    header = " ".join(table[0].split())
    assert header == "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE"
    row = table[1].split()
    assert row[:8] == [name, "*", "*", "*", "*", "*", "Europe/Berlin", "False"]
    assert row[8] == "0"
    assert f"{run} " in here("ps", "-a", "-l", f"aos/schedule={name}").out
    assert "Twelve orders." in here("logs", run).out
    told = here("describe", "schedule", name).out
    assert "How many orders?" in told
    assert f"fired {run} (completed)" in told
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d CES?T", told)) == 5
    events = here("events", "--types", "schedule.fired", "-o", "json").out.splitlines()
    assert [json.loads(line)["data"]["run"] for line in events][-1] == run


def test_a_slot_is_fired_once_by_several_workers(
    here: Aosctl, name: str, worker: Aosctl, clock: Callable[[str], None]
) -> None:
    clock("61 seconds")
    for _ in range(3):
        worker()
    runs = here("ps", "-a", "-l", f"aos/schedule={name}", "--no-headers").out.splitlines()
    history = resource(here, name)["status"]["history"]
    fired = [slot["run"] for slot in history if slot["outcome"] == "fired"]
    assert sorted(line.split()[0] for line in runs) == sorted(fired)
    assert len({slot["time"] for slot in history}) == len(history)


def test_pause_resume_and_run_now(here: Aosctl, name: str, worker: Aosctl) -> None:
    assert here("schedule", "pause", name).out == f"schedule.aos/{name} suspended\n"
    assert here("schedule", "pause", f"schedule/{name}").out == f"schedule.aos/{name} unchanged\n"
    assert resource(here, name)["spec"]["suspend"] is True
    assert here("get", "schedule", name, "-o", "wide").out.splitlines()[1].split()[7:9] == [
        "True", "0",
    ]  # fmt: skip
    other = here("schedule", "run", name, "--output", "name").out.strip()
    made = here("schedule", "run", name, "-o", "name").out.strip()
    assert made != other
    assert made.startswith(f"run.aos/{name}-")
    worker()
    assert here("wait", made.replace(".aos", ""), "--for=condition=Completed").status == 0
    assert here("resume", f"schedule/{name}").out == f"schedule.aos/{name} resumed\n"
    assert resource(here, name)["spec"]["suspend"] is False
    refused = here("resume", f"schedule/{name}", "--max-usd", "5")
    assert (refused.status, refused.err) == (
        2,
        "error: a schedule keeps its limits\nhint: aosctl edit schedule changes them\n",
    )


def test_what_is_no_schedule_is_answered_with_the_nearest(here: Aosctl, name: str) -> None:
    for verb in ("pause", "resume", "run"):
        done = here("schedule", verb, name + "x")
        assert (done.status, done.err) == (
            1,
            f'Error from server (NotFound): schedules.aos "{name}x" not found\n'
            f'hint: did you mean "{name}"?\n',
        )
    done = here("run", f"schedule/{name}", "x")
    assert (done.status, done.err) == (
        2,
        f"error: schedule/{name} is a schedule, and no agent\n"
        f"hint: aosctl schedule run {name} begins a run of it\n",
    )


def test_it_says_where_no_worker_looks(
    here: Aosctl, name: str, worker: Aosctl, clock: Callable[[str], None]
) -> None:
    assert here("get", "schedule", name).err == ""
    clock("3 minutes")
    said = f"no worker has looked at {name} in time; aosctl worker fires schedules\n"
    assert here("get", "schedule", name).err == said
    worker()
    assert here("get", "schedule", name).err == ""


def test_a_manifest_goes_through_every_verb(here: Aosctl, name: str, tmp_path: Path) -> None:
    printed = here("get", "schedule", name, "-o", "yaml").out
    file = tmp_path / "it.yaml"
    file.write_text(printed)
    assert here("apply", "-f", str(file)).out == f"schedule.aos/{name} unchanged\n"
    changed = yaml.safe_load(printed)
    changed["spec"] |= {
        "schedule": "0 8 * * 1-5", "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 60, "limits": {"maxUsd": 1.5, "maxSteps": 4},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(changed))
    assert here("diff", "-f", str(file)).status == 1
    assert here("apply", "-f", str(file)).out == f"schedule.aos/{name} configured\n"
    assert here("diff", "-f", str(file)).status == 0
    spec = resource(here, name)["spec"]
    assert (spec["limits"], spec["startingDeadlineSeconds"]) == (
        {"maxSteps": 4, "maxUsd": 1.5},
        60,
    )
    assert here("patch", "schedule", name, "-p", '{"spec": {"suspend": true}}').status == 0
    assert here("label", "schedule", name, "team=data").status == 0
    assert name in here("get", "schedules", "-l", "team=data", "-o", "name").out
    assert "conc" in here("explain", "schedule.spec").out
    assert here("auth", "can-i", "apply", "schedules").out == "yes\n"
    assert here("delete", "-f", str(file)).status == 0


WRONG = """\
apiVersion: aos/v1
kind: Schedule
metadata: {name: wrong, tenant: tech_corp}
spec:
  agent: my_pg_bot
  schedule: "0 25 * * *"
  timeZone: Berlin
  cron: x
  input: hi
"""


def test_all_that_is_wrong_is_said_at_once_with_its_place(here: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    done = here("apply", "-f", str(file))
    assert done.status == 1
    assert [line.removeprefix(f"{file}:") for line in done.err.splitlines()[1:4]] == [
        '6:13: Schedule "wrong": spec.schedule: "0 25 * * *": hour (field 2): 25 is not in 0-23;'
        " the nearest is 23",
        '7:13: Schedule "wrong": spec.timeZone: "Berlin" is no time zone of the IANA database;'
        ' did you mean "Europe/Berlin"?',
        '8:3: Schedule "wrong": spec.cron: is called schedule, as in a CronJob',
    ]
    file.write_text(WRONG.replace('"0 25 * * *"', "* * * * *"))
    done = here("apply", "-f", str(file))
    assert f'{file}:6:13: a text that begins with * has to be quoted, such as "* * * * *"' in (
        done.err
    )


def test_a_person_without_the_role_begins_nothing(
    aosctl: Aosctl, kernel_database: KernelDatabase, here: Aosctl, name: str
) -> None:
    login = kernel_database.person("sched_reader", "aos_viewer")
    assert here(
        "create", "principal", login, "--role", "viewer", "--db-role", login
    ).status in (0, 1)  # fmt: skip
    reader = partial(
        aosctl, AOSCTL_DSN=kernel_database.cluster.dsn(login, kernel_database.name),
        AOSCTL_TENANT="tech_corp",
    )  # fmt: skip
    assert name in reader("get", "schedules").out
    for line in (("pause", name), ("run", name)):
        done = reader("schedule", *line)
        assert (done.status, done.out) == (1, "")
        assert "Forbidden" in done.err
    assert resource(here, name)["spec"]["suspend"] is False
