"""The section `python` of a Skill: a function of the worker's host, in a process of its own."""

from __future__ import annotations

from aosctl.domain.fields import Number, Text
from aosctl.domain.kinds.implementation import Implementation
from aosctl.domain.kinds.secret_values import environment_field
from aosctl.domain.structures import Field, Object

_SECTION = Object(
    fields=(
        Field(
            "entryPoint",
            Text(
                min_length=1,
                max_length=300,
                pattern=r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*",
                rule="takes module:function, such as charts.bars:draw",
            ),
            "The function: `module:function`. It is called with the arguments by their names, and"
            " what it returns is the result, as JSON.",
            required=True,
        ),
        Field(
            "python",
            Text(min_length=1, max_length=1_000),
            "The interpreter, such as one of a virtual environment that has the module.",
            default_words="the worker's own",
        ),
        Field(
            "path",
            Text(min_length=1, max_length=1_000),
            "A folder in which modules are looked up first.",
        ),
        environment_field("The function's environment. It has nothing of the worker's own."),
        Field(
            "memoryMb",
            Number(whole=True, minimum=32, maximum=1_048_576),
            "The most memory that it may take, in MiB.",
            default=512,
        ),
        Field(
            "cpuSeconds",
            Number(whole=True, minimum=1, maximum=86_400),
            "The most time of a processor, in seconds.",
            default_words="timeoutSeconds",
        ),
        Field(
            "fileMb",
            Number(whole=True, minimum=0, maximum=1_048_576),
            "The largest file that it may write, in MiB, in the folder of its own that is deleted"
            " after the call.",
            default=64,
        ),
    )
)

PYTHON = Implementation(
    "python",
    _SECTION,
    "For a skill that is a Python function where the worker runs. Each call is a process of its"
    " own, without the worker's environment and connections, under limits of memory, time and"
    " files. The worker's host has to allow it: `AOSCTL_ALLOW_COMMANDS`.",
    ("untrusted",),
)
