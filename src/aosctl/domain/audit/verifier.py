"""Verify an export (aos-audit/1) without the database that wrote it.

Memory grows with the runs of a tenant and with the longest run, not with the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

from aosctl.domain.audit.chain import Chain, Line, Problem, data_of, pieces
from aosctl.domain.audit.effects import Effects
from aosctl.errors import AosError

FORMAT = "aos-audit/1"
Heads = Mapping[tuple[str, str], tuple[int, str]]
"""Heads of an earlier moment: (tenant, stream) to (number, hash in hexadecimal)."""
_ENDS = ("run.completed", "run.failed", "run.cancelled")


@dataclass(slots=True)
class Verified:
    """What was looked at, filled while `verify` is consumed.

    `compared`: the heads (tenant, stream) that were, or that a problem tells of.
    """

    header: Line = field(default_factory=dict)
    tenants: int = 0
    streams: int = 0
    events: int = 0
    steps: int = 0
    cut: int = 0
    ids: set[str] = field(default_factory=set)
    compared: set[tuple[str, str]] = field(default_factory=set)

    def part(self) -> str:
        """Return which part of a trail the export says that it is; nothing for a whole one."""
        run, since = self.header.get("run"), self.header.get("since")
        parts = (f"run {run}" if run else "", f"since {since}" if since else "")
        return " ".join(filter(None, parts))


def read_lines(texts: Iterable[str]) -> Iterator[Line]:
    """Parse an export's lines. Raises AosError with the number of a line that is none."""
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("t"), str):
            raise AosError(f"line {number} is no line of an export", "aosctl audit export > FILE")
        if number == 1 and line.get("format") != FORMAT:
            raise AosError("this is no export of an audit trail", "aosctl audit export > FILE")
        if number > 1 and line["t"] == "export":
            raise AosError(f"line {number} is a second header")
        yield line


def verify(lines: Iterable[Line], heads: Heads, told: Verified) -> Iterator[Problem]:
    """Yield every problem of an export, in its order; `heads` are a checkpoint's.

    Raises AosError when the export was cut off, or is of no such form.
    """
    tenant: _Tenant | None = None
    ended = 0
    count = 0
    try:
        for line in lines:
            count += 1
            kind = line["t"]
            if kind == "export":
                told.header = line
            elif kind == "end":
                ended = int(line["lines"])
            elif kind == "tenant":
                if tenant is not None:
                    yield from tenant.end()
                tenant = _Tenant(line, heads, told)
                told.tenants += 1
                told.ids.add(str(line["tenant_id"]))
            elif tenant is not None:
                yield from tenant.line(line)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise AosError(f"line {count} is not of the form {FORMAT}: {error!r}") from error
    if tenant is not None:
        yield from tenant.end()
    if ended != count:
        raise AosError("the export is incomplete: its last line is missing, or others are")


def vanished(tenants: Mapping[str, str], heads: Heads, told: Verified) -> Iterator[Problem]:
    """Yield a checkpoint's tenants (id to name) that a complete export does not have."""
    for tenant, name in tenants.items():
        if told.header.get("complete") and tenant not in told.ids:
            told.compared.update(key for key in heads if key[0] == tenant)
            yield Problem(name, tenant, None, None, "tenant vanished", "with all its streams")


def _epoch(moment: str) -> Decimal:
    """Return an RFC 3339 time in seconds since 1970, to the microsecond."""
    since = datetime.fromisoformat(moment) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) / Decimal(1_000_000)


class _Tenant:
    """The lines of one tenant: its own chain first, then its runs by id."""

    def __init__(self, line: Line, heads: Heads, told: Verified) -> None:
        self._id, self._name = str(line["tenant_id"]), str(line["name"])
        self._deleted = bool(line["deleted"])
        self._heads = {key[1]: head for key, head in heads.items() if key[0] == self._id}
        self._told = told
        self._cuts: dict[str, list[Line]] = {}
        self._chain: Chain | None = None
        self._effects: Effects | None = None
        self._stream: Line = {}
        self._before = 0
        self._seen: set[str] = set()
        self._created: dict[str, tuple[int, str]] = {}
        self._ends: dict[str, dict[int, tuple[int, str]]] = {}
        self._runs: set[str] = set()
        self._cut_events: set[str] = set()
        self._buried: tuple[int, str] | None = None
        self._last_heads = sha256()
        self._partial = bool(told.header["run"])
        self._since = bool(told.header["since"])
        self._moment = _epoch(str(told.header["since"])) if self._since else None

    def line(self, line: Line) -> Iterator[Problem]:
        """Check the next line."""
        kind = line["t"]
        if kind == "cut":
            self._cuts.setdefault(str(line["stream_id"]), []).append(line)
        elif kind == "stream":
            yield from self._end_stream()
            yield from self._begin_stream(line)
        elif kind == "event":
            yield from self._event(line)
        elif self._effects is not None:
            self._told.steps += kind == "step"
            for seq, what, detail in self._effects.row(line):
                yield self._problem(seq, what, detail)

    def _problem(self, seq: int | None, what: str, detail: str = "") -> Problem:
        run = self._stream.get("name") if self._stream.get("kind") == "run" else None
        return Problem(self._name, str(self._stream["stream_id"]), run, seq, what, detail)

    def _own(self, seq: int | None, what: str, detail: str) -> Problem:
        return Problem(self._name, self._id, None, seq, what, detail)

    def _begin_stream(self, line: Line) -> Iterator[Problem]:
        self._stream = line
        stream = str(line["stream_id"])
        self._seen.add(stream)
        self._told.streams += 1
        cuts = pieces(self._cuts.get(stream, []), since=self._since)
        self._before = int(cuts[0]["seq"]) if cuts and cuts[0]["cut_at"] is None else 0
        self._told.cut += sum(int(c["seq"]) - int(c["first_seq"]) + 1 for c in cuts if c["cut_at"])
        self._chain = Chain(self._id, stream, cuts)
        if line["kind"] != "run":
            self._effects = None
            return
        self._runs.add(stream)
        real = [cut for cut in self._cuts.get(stream, []) if cut["cut_at"]]
        self._effects = Effects(
            not real, int(line["copied_steps"] or 0), int(line["last_step"] or 0), self._moment
        )
        if not (self._partial or self._since or stream in self._created or self._is_cut()):
            yield self._problem(1, "run never created", "the tenant's chain does not know it")

    def _is_cut(self) -> bool:
        return any(cut["cut_at"] for cut in self._cuts.get(self._id, []))

    def _event(self, line: Line) -> Iterator[Problem]:
        chain = self._chain
        if chain is None or line["stream_id"] != chain.stream_id:
            raise AosError(f"event {line['seq']} stands outside its stream", "export it again")
        self._told.events += 1
        for seq, what in chain.follow(line):
            yield self._problem(seq, what)
        for seq, wanted, fault in self._wanted(chain.stream_id):
            if seq == chain.seq and wanted != line["hash"]:
                yield fault
        if chain.stream_id == self._id:
            self._administrative(line)
        elif self._effects is not None:
            self._effects.event(line)

    def _wanted(self, stream: str) -> Iterator[tuple[int, str, Problem]]:
        """Yield hashes that events of this stream must have, and the fault if they have not."""
        if stream in self._heads:
            seq, wanted = self._heads[stream]
            detail = "this event had another hash"
            yield seq, wanted, self._problem(seq, "history rewritten", detail)
        for seq, (at, wanted) in self._ends.get(stream, {}).items():
            detail = f"run {stream} ended at event {seq} with another hash"
            yield seq, wanted, self._own(at, "head differs", detail)

    def _administrative(self, line: Line) -> None:
        """Remember what the tenant's chain says of its runs."""
        data = data_of(line)
        seq, kind, run = int(line["seq"]), line["kind"], str(data.get("run_id"))
        if kind == "run.created":
            self._created[run] = (seq, str(data.get("name")))
        elif kind in _ENDS and re.fullmatch(r"\d{1,18}", str(data.get("last_seq"))):
            ends = self._ends.setdefault(run, {})
            ends[int(data["last_seq"])] = (seq, str(data.get("last_hash")))
        elif kind == "events.cut":
            self._cut_events.add(str(data.get("sha256")))
        elif kind == "tenant.deleted":
            self._buried = (seq, str(data.get("heads_sha256")))

    def _end_stream(self) -> Iterator[Problem]:
        chain = self._chain
        if chain is None:
            return
        first_gap = chain.seq
        chain.end()
        if chain.cuts:
            yield self._problem(chain.seq + 1, "event missing", "before what retention cut")
        if self._effects is not None:
            for seq, what, detail in self._effects.end():
                yield self._problem(seq, what, detail)
        yield from self._check_head(chain, first_gap)
        if chain.stream_id != self._id and chain.seq:
            line = f"{chain.stream_id}|{chain.seq}|{chain.hash.hex()}\n"
            self._last_heads.update(line.encode())
        self._chain = self._effects = None

    def _check_head(self, chain: Chain, last: int) -> Iterator[Problem]:
        stream = self._stream
        if stream["head_seq"] is not None:
            head = (int(stream["head_seq"]), stream["head_hash"] or "")
            seen = (chain.seq, chain.hash.hex())
            # With nothing to tell since a moment, the head alone is known.
            if head != seen and not (self._since and chain.seq == 0):
                yield self._problem(chain.seq + 1, "head differs")
        elif not (self._deleted and (self._is_cut() or chain.stream_id in self._created)):
            yield self._problem(1, "events without their run", f"{last} events")
        if chain.stream_id in self._heads:
            seq, wanted = self._heads[chain.stream_id]
            if self._since and (chain.seq == 0 or seq <= self._before):
                return  # from before the export's beginning
            self._told.compared.add((self._id, chain.stream_id))
            if chain.seq < seq:
                yield self._problem(seq, "tail cut", f"its last event is {chain.seq}")
            elif chain.seq == seq and last < seq and chain.hash.hex() != wanted:
                yield self._problem(seq, "history rewritten", "this event had another hash")

    def end(self) -> Iterator[Problem]:
        """Check what needs all of the tenant's lines."""
        yield from self._end_stream()
        if self._partial:
            return
        for run, (seq, name) in self._created.items():
            if run not in self._runs and not self._deleted:
                yield self._own(seq, "run vanished", f"run {run} ({name})")
        for stream, (head, _) in self._heads.items():
            if stream not in self._seen:
                detail = "it had events up to this one"
                self._told.compared.add((self._id, stream))
                yield Problem(self._name, stream, None, head, "stream vanished", detail)
        yield from self._check_cuts()
        if self._deleted and self._buried and self._buried[1] != self._last_heads.hexdigest():
            detail = "the runs' heads are not those that were buried"
            yield self._own(self._buried[0], "head differs", detail)

    def _check_cuts(self) -> Iterator[Problem]:
        """Check that the tenant's chain tells of every cut, unless it was cut there itself."""
        moments: dict[str, list[Line]] = {}
        for cuts in self._cuts.values():
            for cut in cuts:
                if cut["cut_at"]:
                    moments.setdefault(cut["cut_at"], []).append(cut)
        own = [float(cut["cut_at"]) for cut in self._cuts.get(self._id, []) if cut["cut_at"]]
        for moment, cuts in () if self._since else moments.items():
            ordered = sorted(cuts, key=lambda cut: (cut["stream_id"], int(cut["seq"])))
            text = "".join(
                f"{c['stream_id']}|{c['first_seq']}|{c['seq']}|{c['hash']}\n" for c in ordered
            )
            digest = sha256(text.encode()).hexdigest()
            if digest not in self._cut_events and not any(at > float(moment) for at in own):
                yield self._own(None, "cut without its event", f"{len(cuts)} pieces")
