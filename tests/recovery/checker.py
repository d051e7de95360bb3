"""What must hold when everything is over, read from the final tables and the client's log alone.

Apart from the system: nothing of aosctl is imported here. By hand:
`python tests/recovery/checker.py DSN JOURNAL`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]
OPEN = ("pending", "awaiting_approval", "approved", "running")


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def faults(connection: Connection, folder: Path) -> list[str]:
    """Return what is wrong, one line each; nothing is the only good answer."""
    return [
        *_unfinished(connection),
        *_lost_steps(connection, folder),
        *_messages(connection, folder),
        *_transcripts(connection),
        *_duplicated_effects(connection, "%.%"),
        *_effects_and_events(connection),
        *_outside(connection, folder),
        *_unexplained_questions(connection, folder),
        *_money(connection),
        *_chains(connection),
    ]


def _unfinished(connection: Connection) -> Iterable[str]:
    for name, state in connection.execute(
        "select r.name || ' turn ' || t.number, t.state from aos_core.turn t"
        " join aos_core.run r on r.run_id = t.run_id"
        " where t.state not in ('completed', 'failed', 'cancelled')"
    ):
        yield f"{name} is still {state}"
    for name, left in connection.execute(
        "select name, open_calls from aos_core.run where open_turn_id is not null"
        " or lease_hash is not null or open_calls <> 0 or inbox_count <> 0"
    ):
        yield f"{name} is not at rest ({left} open calls)"
    for (count,) in connection.execute(
        "select count(*) from aos_core.turn_queue having count(*) > 0"
    ):
        yield f"{count} rows are left in the queue"
    for skill, state in connection.execute(
        "select skill, state from aos_core.tool_call where state = any (%s)"
        " or (state = 'outcome_unknown' and result_seq is null)", (list(OPEN),)
    ):  # fmt: skip
        yield f"a call of {skill} is still {state}"


def _lost_steps(connection: Connection, folder: Path) -> Iterable[str]:
    """An acknowledged step stands where the worker was told, and is the one it wrote."""
    stored = {
        (str(run), seq): (role, said)
        for run, seq, role, said in connection.execute(
            "select s.run_id, s.seq, s.role, coalesce(s.message -> 'origin' ->> 'response_id',"
            " c.call_id::text) from aos_core.step s left join aos_core.tool_call c"
            " on c.tenant_id = s.tenant_id and c.run_id = s.run_id and c.result_seq = s.seq"
        )
    }
    for ack in lines(folder, "acks"):
        if "naive" not in ack and stored.get((ack["run"], ack["step"])) != (
            ack["role"],
            ack["what"],
        ):
            yield f"acknowledged and lost: {ack}"


def _messages(connection: Connection, folder: Path) -> Iterable[str]:
    texts = Counter(
        text
        for (text,) in connection.execute(
            "select message -> 'blocks' -> 0 ->> 'text' from aos_core.step where role = 'user'"
        )
    )
    for sent in lines(folder, "sent"):
        if texts[sent["text"]] != 1:
            yield f"the message {sent['text']!r} stands {texts[sent['text']]} times in its run"


def _transcripts(connection: Connection) -> Iterable[str]:
    """Steps without gaps; each call has one result."""
    for name, steps, last in connection.execute(
        "select r.name, count(s.*), r.last_step from aos_core.run r"
        " left join aos_core.step s on s.run_id = r.run_id group by r.run_id, r.name, r.last_step"
        " having count(s.*) <> r.last_step"
    ):
        yield f"{name} has {steps} steps of {last}"
    for name, call, results in connection.execute(
        "with block as (select s.run_id, b.value as b from aos_core.step s"
        "  cross join lateral jsonb_array_elements(s.message -> 'blocks') b),"
        " asked as (select run_id, b ->> 'id' as id from block where b ->> 't' = 'call'),"
        " given as (select run_id, b ->> 'call_id' as id from block where b ->> 't' = 'result')"
        " select r.name, a.id, count(g.id) from asked a join aos_core.run r on r.run_id = a.run_id"
        " left join given g on g.run_id = a.run_id and g.id = a.id"
        " group by r.name, a.id having count(g.id) <> 1"
    ):
        yield f"{name}: call {call} has {results} results"


def _duplicated_effects(connection: Connection, like: str) -> Iterable[str]:
    for key, count in connection.execute(
        "select key, count(*) from biz.effect where key like %s group by key having count(*) > 1",
        (like,),
    ):
        yield f"the database effect {key} happened {count} times"


def _effects_and_events(connection: Connection) -> Iterable[str]:
    """Each effect shares its transaction with exactly one event; a call has as many as it says."""
    for key, events in connection.execute(
        "select f.key, count(e.*) from biz.effect f left join aos_core.event_log e"
        "  on e.xmin::text = f.xid and e.kind = 'tool.result' and (e.data ->> 'ok')::boolean"
        " where f.key like '%.%' group by f.id, f.key having count(e.*) <> 1"
    ):
        yield f"the effect {key} has {events} events"
    for call, state, effects in connection.execute(
        "select c.call_id, c.state, count(f.*) from aos_core.tool_call c"
        " left join biz.effect f"
        "  on c.args ->> 'statement' = format('select biz.act(''%s'')', f.key)"
        " where c.skill in ('sql_write', 'careful') group by c.call_id, c.state"
        " having count(f.*) <> case c.state when 'succeeded' then 1 else 0 end"
    ):
        yield f"the SQL call {call} is {state} and has {effects} effects"
    for call, events in connection.execute(
        "select c.call_id, count(e.*) from aos_core.tool_call c left join aos_core.event_log e"
        " on e.stream_id = c.run_id and e.kind = 'tool.result'"
        " and e.data ->> 'call_id' = c.call_id::text"
        " where c.state = 'succeeded' group by c.call_id having count(e.*) + (select count(*)"
        "  from aos_core.event_log r where r.kind = 'call.resolved'"
        "  and r.data ->> 'call_id' = c.call_id::text and r.data ->> 'action' = 'result') <> 1"
    ):
        yield f"the call {call} has succeeded in {events} events"


def _outside(connection: Connection, folder: Path) -> Iterable[str]:
    """An unsafe call is sent once, unless a person orders more; an idempotent one counts once."""
    sent = [line for line in lines(folder, "outside") if line["skill"] != "naive_note"]
    times = Counter(line["key"] for line in sent)
    acts = Counter(line["key"] for line in sent if not line["again"])
    known = set()
    for call, skill, state, retries, resolved in connection.execute(
        "select c.call_id::text, c.skill, c.state,"
        " count(*) filter (where e.data ->> 'action' = 'retry'),"
        " count(*) filter (where e.data ->> 'action' in ('result', 'fail'))"
        " from aos_core.tool_call c left join aos_core.event_log e on e.kind = 'call.resolved'"
        "  and e.data ->> 'call_id' = c.call_id::text"
        " where c.skill in ('post_note', 'put_note') group by c.call_id, c.skill, c.state"
    ):
        known.add(call)
        if skill == "post_note" and times[call] > 1 + retries:
            yield f"the unsafe call {call} was sent {times[call]} times, {retries} of them ordered"
        if skill == "put_note" and acts[call] > 1:
            yield f"the idempotent call {call} had {acts[call]} effects under one key"
        if state == "succeeded" and not times[call]:
            yield f"the call {call} of {skill} succeeded and was never sent"
        if state != "succeeded" and times[call] and not resolved and state != "outcome_unknown":
            yield f"the call {call} of {skill} was sent, is {state}, and nobody said so"
    for key in times.keys() - known:
        yield f"something was sent under a key that no call has: {key}"


def _unexplained_questions(connection: Connection, folder: Path) -> Iterable[str]:
    """A model that was asked twice for one answer: the log names the step."""
    gaps = Counter(
        (str(run), step)
        for run, step in connection.execute(
            "select stream_id, (data ->> 'step')::bigint from aos_core.event_log"
            " where kind = 'turn.reclaimed' and data ? 'step'"
        )
    )
    for (model, position), times, where in repeated_questions(connection, folder):
        if times - 1 > gaps[where]:
            yield (
                f"{model} was asked {times} times for answer {position},"
                f" and the log has {gaps[where]} gaps at step {where[1]}"
            )


def repeated_questions(
    connection: Connection, folder: Path
) -> Iterable[tuple[tuple[str, int], int, tuple[str, int]]]:
    """Yield model and answer that was asked for more than once, how often, and run and step."""
    asked = Counter((line["model"], line["answers"]) for line in lines(folder, "asked"))
    answered = {
        (model, position): (str(run), seq)
        for model, position, run, seq in connection.execute(
            "select r.name, row_number() over (partition by s.run_id order by s.seq) - 1, s.run_id,"
            " s.seq from aos_core.step s join aos_core.run r on r.run_id = s.run_id"
            " where s.role = 'assistant'"
        )
    }
    for question, times in asked.items():
        if times > 1 and question in answered:
            yield question, times, answered[question]


def _money(connection: Connection) -> Iterable[str]:
    for name, spent, steps in connection.execute(
        "select r.name, r.spent_usd, coalesce(sum(s.cost_usd), 0) from aos_core.run r"
        " left join aos_core.step s on s.run_id = r.run_id group by r.run_id, r.name, r.spent_usd"
        " having r.spent_usd <> coalesce(sum(s.cost_usd), 0)"
    ):
        yield f"{name} has spent {spent}, its steps cost {steps}"


def _chains(connection: Connection) -> Iterable[str]:
    for stream, seq, fault in connection.execute(
        "select distinct e.stream_id, v.seq, v.fault from (select distinct tenant_id, stream_id"
        " from aos_core.event_log) e cross join lateral"
        " aos_core.verify_stream(e.tenant_id, e.stream_id) v"
    ):
        yield f"the chain of {stream} breaks at {seq}: {fault}"


def naive_duplicates(connection: Connection, folder: Path) -> tuple[int, int]:
    """Count the control's effects that happened more than once: in the database, outside."""
    inside = len(list(_duplicated_effects(connection, "naive-%")))
    times = Counter(
        line["key"] for line in lines(folder, "outside") if line["skill"] == "naive_note"
    )
    return inside, sum(count > 1 for count in times.values())


def figures(connection: Connection, folder: Path) -> dict[str, Any]:
    """Count what was checked."""

    def count(query: str) -> int:
        row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0

    failed = "select count(*) from aos_core.turn where state = 'failed'"
    return {
        "turns": count("select count(*) from aos_core.turn"),
        "turns failed": count(failed),
        "steps": count("select count(*) from aos_core.step"),
        "steps acknowledged": sum("naive" not in ack for ack in lines(folder, "acks")),
        "database effects": count("select count(*) from biz.effect where key like '%.%'"),
        "acts outside": sum(line["skill"] != "naive_note" for line in lines(folder, "outside")),
        "turns reclaimed": count(
            "select count(*) from aos_core.event_log where kind = 'turn.reclaimed'"
        ),
        "questions repeated": count(
            "select count(*) from aos_core.event_log"
            " where kind = 'turn.reclaimed' and data ? 'step'"
        ),
        "calls in doubt": count(
            "select count(distinct data ->> 'call_id') from aos_core.event_log"
            " where kind = 'call.resolved'"
        ),
    }


if __name__ == "__main__":
    with psycopg.connect(sys.argv[1], autocommit=True) as opened:
        wrong = faults(opened, Path(sys.argv[2]))
        print(json.dumps(figures(opened, Path(sys.argv[2])), indent=2), *wrong, sep="\n")  # noqa: T201
    sys.exit(bool(wrong))
