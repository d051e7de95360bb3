"""A trace to take away: JSON, a page, a picture. Each stands alone and runs nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aosctl.cli.trace_text import duration, part_of, words
from aosctl.domain.money import exact, money
from aosctl.terminal import cut, visible
from aosctl.timestamps import rfc3339

if TYPE_CHECKING:
    from aosctl.db.runs import RunRow
    from aosctl.domain.trace import Span

_COLOURS = {"turn": "#57606a", "model": "#0969da", "tool": "#1a7f37", "approval": "#bf8700"}
_FAILED = "#cf222e"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """\
body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#1f2328;background:#fff}
table{border-collapse:collapse;width:100%}
td,th{padding:2px 8px;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.w{width:40%}
td.t{overflow-wrap:anywhere}
svg{display:block;width:100%;height:14px}
tr.turn td{border-top:1px solid #d0d7de;font-weight:600}"""


def as_json(run: RunRow, turns: Sequence[Span], now: datetime) -> dict[str, object]:
    """Return the trace as one object: the run, its sums and its `turns`."""
    return {
        "run": run.name,
        "tenant": run.tenant,
        "agent": run.agent,
        "state": run.state,
        "model": run.model,
        "inputTokens": run.input_tokens,
        "outputTokens": run.output_tokens,
        "costUsd": exact(run.spent_usd),
        "turns": [_span_json(turn, now) for turn in turns],
    }


def _span_json(span: Span, now: datetime) -> Mapping[str, object]:
    known: dict[str, object] = {
        "kind": span.kind,
        "text": span.text,
        "state": span.state,
        "step": span.step,
        "beganAt": _utc(span.begin),
        "endedAt": _utc(span.end),
        "seconds": span.seconds(now),
        "inputTokens": span.input_tokens,
        "outputTokens": span.output_tokens,
        "costUsd": exact(span.cost_usd),
        "note": span.note,
        "args": None if span.args is None else dict(span.args),
        "below": [_span_json(one, now) for one in span.below],
    }
    return {key: value for key, value in known.items() if value is not None}


def _utc(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _safe(text: str) -> str:
    """Return text for HTML and XML: as text, nothing hidden in it, no markup of its own."""
    return html.escape(_NOT_XML.sub("\ufffd", visible(text)), quote=True)


def _title(run: RunRow) -> str:
    return f"run {run.name} of {run.agent} · {run.state}"


def as_html(run: RunRow, turns: Sequence[Span], now: datetime) -> str:
    """Return a page with the trace; it has no script and loads nothing."""
    rows = "\n".join(
        _html_row(depth, span, turn, now) for turn in turns for depth, span in turn.walk()
    )
    tokens = run.input_tokens + run.output_tokens
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_safe(_title(run))}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{_safe(_title(run))}</h1>
<p>{_safe(run.tenant)} · {_safe(run.model)} · {tokens} tokens · {_safe(money(run.spent_usd))} · \
as of {_safe(_utc(now) or "")}</p>
<table>
<tr><th>What</th><th class="n">Time</th><th class="n">Tokens</th><th class="n">Cost</th>\
<th>When, in its turn</th></tr>
{rows}
</table>
</body>
</html>
"""


def _html_row(depth: int, span: Span, turn: Span, now: datetime) -> str:
    tokens = span.input_tokens + span.output_tokens
    cost = money(span.cost_usd) if span.cost_usd else ""
    return (
        f'<tr class="{span.kind}">'
        f'<td class="t" style="padding-left:{depth * 1.5 + 0.5}em">{_safe(words(span))}</td>'
        f'<td class="n">{duration(span.seconds(now))}</td>'
        f'<td class="n">{tokens or ""}</td><td class="n">{_safe(cost)}</td>'
        f'<td class="w">{_html_bar(span, turn, now)}</td></tr>'
    )


def _html_bar(span: Span, turn: Span, now: datetime) -> str:
    part = part_of(span, turn, now)
    if part is None:
        return ""
    begin, end = part
    return (
        '<svg viewBox="0 0 1000 14" preserveAspectRatio="none">'
        f'<rect x="{begin * 1000:.1f}" y="2" width="{max((end - begin) * 1000, 2):.1f}"'
        f' height="10" fill="{_colour(span)}"/></svg>'
    )


def _colour(span: Span) -> str:
    return _FAILED if span.has_failed else _COLOURS[span.kind]


_ROW, _TREE, _NUMBERS, _BARS = 20, 520, 220, 440
_CELL = 7.3
"""Width of a character of the font, in pixels; the font is monospaced."""


def as_svg(run: RunRow, turns: Sequence[Span], now: datetime) -> str:
    """Return the trace as a picture: an SVG without script, links and outside fonts."""
    found = [(depth, span, turn) for turn in turns for depth, span in turn.walk()]
    width, height = _TREE + _NUMBERS + _BARS + 20, (len(found) + 2) * _ROW
    rows = "\n".join(
        _svg_row(place + 2, depth, span, turn, now)
        for place, (depth, span, turn) in enumerate(found)
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="ui-monospace,monospace" font-size="12">
<title>{_safe(_title(run))}</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="{_ROW}" font-weight="bold" fill="#1f2328">{_fitting(_title(run), 0)}</text>
{rows}
</svg>
"""


def _svg_row(row: int, depth: int, span: Span, turn: Span, now: datetime) -> str:
    y = row * _ROW
    tokens = span.input_tokens + span.output_tokens
    numbers = (
        duration(span.seconds(now)),
        str(tokens or ""),
        money(span.cost_usd) if span.cost_usd else "",
    )
    colour = _FAILED if span.has_failed else "#1f2328"
    drawn = [
        f'<text x="{10 + depth * 16}" y="{y}" fill="{colour}">{_fitting(words(span), depth)}</text>'
    ]
    for place, text in enumerate(numbers, 1):
        if text:
            x = _TREE + place * _NUMBERS // len(numbers) - 10
            drawn.append(
                f'<text x="{x}" y="{y}" text-anchor="end" fill="#57606a">{_safe(text)}</text>'
            )
    if part := part_of(span, turn, now):
        left = _TREE + _NUMBERS + part[0] * _BARS
        wide = max((part[1] - part[0]) * _BARS, 1)
        drawn.append(
            f'<rect x="{left:.1f}" y="{y - 10}" width="{wide:.1f}" height="12"'
            f' fill="{_colour(span)}"/>'
        )
    return "\n".join(drawn)


def _fitting(text: str, depth: int) -> str:
    """Return text cut to the column of the tree, safe."""
    room = int((_TREE - 20 - depth * 16) / _CELL)
    whole = visible(text)
    shown = cut(whole, room)
    return _safe(shown if shown == whole else shown[:-1] + "…")
