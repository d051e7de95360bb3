"""Read a JSONPath template into the nodes of `aosctl.cli.jsonpath`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aosctl.cli.jsonpath import (
    COMPARE,
    Deep,
    Every,
    Keys,
    Node,
    Operand,
    Path,
    Pick,
    Range,
    Step,
    Text,
    Where,
)
from aosctl.domain.names import printable
from aosctl.errors import UsageError

_NAME = re.compile(r"(?:\\.|[^\s.,\[\](){}$@'\"=<>!?*:|&])+")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?![\w.])")
_RANGE = re.compile(r"range(?=[\s.\[$@])")
_SLICE = re.compile(r"(-?\d+)?\s*(?::\s*(-?\d+)?)?\s*(?::\s*(-?\d+)?)?")
_DEEPEST = 50
"""How many ranges and filters may stand in each other."""
_LONGEST_NUMBER = 18
_SHOWN = 1000
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def parse(template: str) -> tuple[Node, ...]:
    """Parse a whole template. Raises UsageError that names what is wrong with it.

    A template without any brace is taken as one expression, where kubectl would print it.
    """
    text = template if "{" in template else f"{{{template}}}"
    parser = _Parser(text, template)
    nodes = parser.nodes(inside_range=False)
    return tuple(nodes)


def parse_path(expression: str) -> Path:
    """Parse one path; the braces and the first dot may be left out, as in custom columns."""
    text = expression.strip()
    text = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if not text.startswith((".", "[", "$", "@")):
        text = "." + text
    parser = _Parser(text, expression)
    path = parser.path()
    if parser.position != len(text):
        raise parser.error(f"unexpected {text[parser.position]!r}")
    return path


@dataclass
class _Parser:
    text: str
    shown: str
    position: int = 0
    depth: int = 0

    def error(self, what: str) -> UsageError:
        return UsageError(f"error parsing jsonpath {printable(self.shown[:_SHOWN])}, {what}")

    def nodes(self, *, inside_range: bool) -> list[Node]:
        found: list[Node] = []
        while self.position < len(self.text):
            opening = self.text.find("{", self.position)
            if opening < 0:
                found.append(Text(self.text[self.position :]))
                self.position = len(self.text)
                break
            if opening > self.position:
                found.append(Text(self.text[self.position : opening]))
            self.position = opening + 1
            self.skip()
            if self.take("end}"):
                if not inside_range:
                    raise self.error("not in range, nothing to end")
                return found
            found.append(self.action())
        if inside_range:
            raise self.error("unclosed range, {end} is missing")
        return found

    def action(self) -> Node:
        """Read from after `{` to its `}`."""
        if self.match(_RANGE):
            self.skip()
            path = self.path()
            self.close()
            with self.deeper():
                return Range(path, tuple(self.nodes(inside_range=True)))
        node: Node
        quoted = self.match(_QUOTED)
        node = Text(_unquote(quoted)) if quoted else self.path()
        self.close()
        return node

    def close(self) -> None:
        self.skip()
        if not self.take("}"):
            rest = self.text[self.position : self.position + 1]
            raise self.error(f"unexpected {rest!r}" if rest else "unclosed action")

    def path(self) -> Path:
        from_root = self.take("$")
        started = from_root or self.take("@")
        steps: list[Step] = []
        while step := self.step():
            steps.extend(step)
        if not steps and not started and not self.take("."):
            rest = self.text[self.position : self.position + 1]
            raise self.error(f"expected a path, found {rest!r}" if rest else "unclosed action")
        return Path(from_root, tuple(steps))

    def step(self) -> list[Step]:
        if self.take("["):
            return [self.bracket()]
        if self.take(".."):
            name = self.match(_NAME)
            if name is None and not self.text.startswith(("*", "["), self.position):
                raise self.error("a name must follow ..")
            return [Deep(), Keys((_bare(name),))] if name else [Deep(), *self.star()]
        if not self.take("."):
            return []
        if self.take("*"):
            return [Every()]
        if self.text.startswith("[", self.position):
            return self.step()
        name = self.match(_NAME)
        if name is None:
            self.position -= 1  # a lone dot is the value itself
            return []
        return [Keys((_bare(name),))]

    def star(self) -> list[Step]:
        return [Every()] if self.take("*") else []

    def bracket(self) -> Step:
        """Read from after `[` to its `]`."""
        self.skip()
        step: Step
        if self.take("?("):
            with self.deeper():
                step = self.where()
        elif self.take("*"):
            step = Every()
        elif self.text.startswith(("'", '"'), self.position):
            step = Keys(tuple(self.names()))
        else:
            step = Pick(tuple(self.indexes()))
        self.skip()
        if not self.take("]"):
            raise self.error("unterminated array")
        return step

    def names(self) -> list[str]:
        found = []
        while True:
            self.skip()
            quoted = self.match(_QUOTED)
            if quoted is None:
                raise self.error("unterminated quoted string")
            found.append(_unquote(quoted))
            self.skip()
            if not self.take(","):
                return found

    def indexes(self) -> list[int | slice]:
        found: list[int | slice] = []
        while True:
            self.skip()
            match = _SLICE.match(self.text, self.position)
            if match is None or not match[0].strip():
                rest, closed, _ = self.text[self.position :].partition("]")
                invalid = f"invalid array index {rest}".rstrip()
                raise self.error(invalid if rest or closed else "unterminated array")
            self.position = match.end()
            parts = [self.number(part) if part else None for part in match.groups()]
            if ":" in match[0]:
                if parts[2] == 0:
                    raise self.error("step must not be zero")
                found.append(slice(*parts))
            elif parts[0] is not None:
                found.append(parts[0])
            self.skip()
            if not self.take(","):
                return found

    def where(self) -> Where:
        """Read from after `?(` to its `)`."""
        self.skip()
        left = self.operand()
        self.skip()
        compare = next((sign for sign in COMPARE if self.take(sign)), None)
        right = None
        if compare:
            self.skip()
            right = self.operand()
            self.skip()
        if not self.take(")"):
            raise self.error("unterminated filter")
        return Where(left, compare, right)

    def operand(self) -> Operand:
        if quoted := self.match(_QUOTED):
            return Text(_unquote(quoted))
        if number := self.match(_NUMBER):
            return float(number) if "." in number else self.number(number)
        for word, value in _WORDS.items():
            if self.take(word):
                return value
        return self.path()

    def number(self, digits: str) -> int:
        if len(digits) > _LONGEST_NUMBER:
            raise self.error(f"a number of {len(digits)} digits")
        return int(digits)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Count what is nested; it is read by functions that call themselves."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error(f"more than {_DEEPEST} ranges or filters in each other")
        yield
        self.depth -= 1

    def match(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def take(self, text: str) -> bool:
        if not self.text.startswith(text, self.position):
            return False
        self.position += len(text)
        return True

    def skip(self) -> None:
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1


def _bare(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _unquote(quoted: str) -> str:
    return re.sub(
        r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), quoted[1:-1], flags=re.DOTALL
    )
