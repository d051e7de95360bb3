"""How a run of tests is told: as it goes, and at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from aosctl.cli import output
from aosctl.domain.agent_tests.junit import failure_lines
from aosctl.domain.agent_tests.results import CaseResult, counts
from aosctl.terminal import clean, use_colour

_MARKS = {"passed": ".", "failed": "F", "error": "E"}
_COLOURS = {"passed": "32", "failed": "31", "error": "31"}


class Report(Protocol):
    """Who is told of each case as it ends, and of all of them."""

    def begin(self, count: int) -> None: ...
    def ended(self, result: CaseResult) -> None: ...
    def finish(self, results: Sequence[CaseResult], seconds: float) -> None: ...


class TextReport:
    """Lines as pytest writes them: a mark for each case, each failure in full, a summary."""

    def __init__(self, environ: Any, *, no_color: bool) -> None:
        self._styled = use_colour(sys.stdout, environ, no_color=no_color)
        self._file: str | None = None

    def begin(self, count: int) -> None:
        pass

    def ended(self, result: CaseResult) -> None:
        if result.place.file != self._file:
            before = "\n" if self._file is not None else ""
            self._file = result.place.file
            output.write(f"{before}{clean(self._file)} ")
        output.write(self._coloured(_MARKS[result.state], result.state))
        sys.stdout.flush()

    def finish(self, results: Sequence[CaseResult], seconds: float) -> None:
        lines = ["", ""] if results else []
        for one in results:
            if one.state != "passed":
                lines += [*self._failure(one), ""]
        found = counts(results)
        words = {"passed": "passed", "failed": "failed", "error": "errors"}
        said = [f"{found[state]} {words[state]}" for state in words if found[state]]  # type: ignore[index]
        state = "passed" if len(results) == found["passed"] else "failed"
        text = f"{', '.join(said) or 'no tests'} in {seconds:.2f}s"
        lines.append(self._coloured(text, state))
        output.write("\n".join(lines) + "\n")

    def _failure(self, case: CaseResult) -> list[str]:
        title = self._coloured(f"{case.suite}: {case.name}", case.state)
        lines = [f"── {clean(title) if not self._styled else title} ── {clean(str(case.place))}"]
        if case.error is not None:
            lines.append(f"error: {case.error}")
            lines += [f"hint: {case.hint}"] if case.hint else []
        lines += failure_lines(case.broken)
        if case.transcript:
            lines += ["transcript:", *(f"  {line}" for line in case.transcript)]
        if case.kept:
            lines.append(f"its database: {case.kept}")
        return [lines[0], *(clean(line) for text in lines[1:] for line in text.split("\n"))]

    def _coloured(self, text: str, state: str) -> str:
        safe = clean(text)
        return f"\x1b[{_COLOURS[state]}m{safe}\x1b[0m" if self._styled else safe


class TapReport:
    """The Test Anything Protocol, version 14."""

    def __init__(self) -> None:
        self._count = 0

    def begin(self, count: int) -> None:
        output.write(f"TAP version 14\n1..{count}\n")

    def ended(self, result: CaseResult) -> None:
        self._count += 1
        word = "ok" if result.state == "passed" else "not ok"
        name = clean(f"{result.suite}: {result.name}").replace("#", "\\#")
        output.write(f"{word} {self._count} - {name}\n")
        if result.state != "passed":
            told = [f"error: {result.error}"] if result.error else failure_lines(result.broken)
            lines = [line for text in told for line in clean(text).split("\n")]
            at = json.dumps(str(result.place))
            body = "".join(f"    {line}\n" for line in lines)
            output.write(f"  ---\n  at: {at}\n  message: |\n{body}  ...\n")

    def finish(self, results: Sequence[CaseResult], seconds: float) -> None:
        pass


class JsonReport:
    """One JSON document, when all is over."""

    def begin(self, count: int) -> None:
        pass

    def ended(self, result: CaseResult) -> None:
        pass

    def finish(self, results: Sequence[CaseResult], seconds: float) -> None:
        found = counts(results)
        output.write_json(
            {
                "passed": found["passed"],
                "failed": found["failed"],
                "errors": found["error"],
                "seconds": round(seconds, 3),
                "cases": [_as_json(one) for one in results],
            }
        )


def _as_json(case: CaseResult) -> dict[str, object]:
    place = case.place
    found: dict[str, object] = {
        "test": case.suite,
        "case": case.name,
        "state": case.state,
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "seconds": round(case.seconds, 3),
    }
    if case.error is not None:
        found |= {"error": case.error, "hint": case.hint}
    if case.broken:
        found["failures"] = [
            {
                "line": one.place.line,
                "column": one.place.column,
                "path": one.failure.path,
                "what": one.failure.what,
                "expected": one.failure.expected,
                "came": one.failure.came,
            }
            for one in case.broken
        ]
    if case.state != "passed":
        found["transcript"] = list(case.transcript)
    if case.kept:
        found["database"] = case.kept
    return found
