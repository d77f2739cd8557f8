"""What it costs to look after runs that wait, and how soon many lost hints are sent again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import psycopg

from benchmarks.bench import Bench
from benchmarks.engine import durable_on, plain, workflow_of
from benchmarks.section import Section, ratio
from celery_durable import Durable
from celery_durable.background.recovery import Reaper, recover_with_lease

FEW, MANY = 1000, 100_000
LOST = 10_000

WORDS = {
    "recover": "recover()",
    "reap": "reap",
    "relay_turn": "two reaps and one turn of the relays",
}

FILL = """
WITH numbered AS MATERIALIZED (
    SELECT (%(kinds)s::text[])[n %% cardinality(%(kinds)s::text[]) + 1] AS wait,
        (lpad(to_hex((1000 * extract(epoch FROM clock_timestamp()))::bigint), 12, '0') || '7'
            || substr(md5(random()::text), 1, 19))::uuid AS id
    FROM generate_series(1, %(runs)s) n
), runs AS (
    INSERT INTO durable_run (id, workflow, version, status, input)
    SELECT id, 'waits', 1, 'running', '{}' FROM numbered
)
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, child_run_id, waiting_since, wake_at,
     remaining, failed, total, opened, hinted_at, look_at)
SELECT id, id, 'n', 'n', 'durable', gen_random_uuid(), wait,
    CASE wait WHEN 'signal' THEN 'go' END,
    CASE wait WHEN 'child' THEN lead(id, 2, id) OVER () END,
    CASE WHEN wait IS NOT NULL THEN now() END,
    now() + CASE wait WHEN 'timer' THEN interval '3 days' ELSE interval '0' END
        + CASE WHEN wait = 'signal' THEN interval '1 day' ELSE interval '0' END,
    gate, gate * 0, gate, gate,
    now() - CASE WHEN wait IS NULL THEN interval '0' ELSE interval '1 day' END,
    CASE WHEN wait IS NULL THEN now() + interval '10 s' END
FROM numbered, LATERAL (SELECT CASE wait WHEN 'branches' THEN 3 END) AS g (gate)
"""
"""Runs that wait for one of `kinds` each, in turn; NULL: a hint for it is in the broker's queue.

Ids grow with time, as the library's do, and recovery has seen long ago what waits.
"""

KINDS = ("signal", "timer", "child", "branches", None)

TIMERS = """
INSERT INTO durable_outbox (task, args, options, run_id, token_id, fence, available_at)
SELECT 'durable.advance', '[]', '{}', run_id, id, fence, wake_at
FROM durable_token WHERE wait IN ('timer', 'signal')
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that looking once takes: at all tokens, at the dead; at these twice and at a page."""

    recover: float
    reap: float
    relay_turn: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What looking costs with no run, with `FEW` and with `MANY`, and `LOST` hints: the seconds
    until all were sent again, and those of the same writes as one bare statement."""

    empty: Cost
    few: Cost
    many: Cost
    lost: float
    floor: float


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.database() as name:
        measured = looks(bench.services.postgres.url(name), bench.rounds)
    rows = []
    for runs, cost in ((FEW, measured.few), (MANY, measured.many)):
        for what in ("recover", "reap", "relay_turn"):
            found, empty = getattr(cost, what), getattr(measured.empty, what)
            rows.append((f"{WORDS[what]}, {runs} runs wait", found, "no run waits", empty))
    lost = f"{LOST} lost hints sent again beside {MANY} runs"
    rows.append((lost, measured.lost, "the same rows by one bare statement", measured.floor))
    yield Section(
        title="waiting runs: ms",
        columns=("what", "ms", "against", "ms", "ratio"),
        rows=[
            (what, f"{1000 * found:.1f}", against, f"{1000 * floor:.1f}", ratio(found, floor))
            for what, found, against, floor in rows
        ],
        record=[asdict(measured)],
    )


def looks(url: str, rounds: int) -> Measured:
    """On one database, filled between the measurements."""
    durable, connection = durable_on(url), plain(url)
    workflow = workflow_of(durable, "waits", 1)
    cost(durable, connection, 1)  # compiles the statements
    empty, few, many = (filled(durable, connection, runs, rounds) for runs in (0, FEW, MANY - FEW))
    workflow.start_many([{}] * LOST)
    lost, floor = burst(durable, connection)
    durable.liveness.leave()
    connection.close()
    return Measured(empty, few, many, lost, floor)


def filled(durable: Durable, connection: psycopg.Connection, runs: int, rounds: int) -> Cost:
    """What looking costs when so many more runs wait."""
    connection.execute("DELETE FROM durable_outbox")
    fill(connection, runs, KINDS)
    return cost(durable, connection, rounds)


def fill(connection: psycopg.Connection, runs: int, kinds: Sequence[str | None]) -> None:
    """Have so many more runs wait, with the messages for those that wait until a time."""
    connection.execute(FILL, {"runs": runs, "kinds": [*kinds]})
    connection.execute(TIMERS)
    connection.execute("VACUUM ANALYZE")


def cost(durable: Durable, connection: psycopg.Connection, rounds: int) -> Cost:
    """The median of some looks, none of which finds anything."""

    def reap() -> None:
        with durable.database.autocommit() as reaping:
            Reaper().reap(reaping)

    def in_turn() -> None:
        connection.execute("UPDATE durable_recovery SET next_at = now()")
        recover_with_lease(durable.database)

    def relay_turn() -> None:
        reap()
        reap()
        in_turn()

    # As just hinted as they were at the beginning: nothing here takes a day.
    connection.execute("UPDATE durable_token SET hinted_at = now() WHERE wait IS NULL")
    assert durable.recover() == 0, "what waits is not lost"
    return Cost(*(seconds(rounds, work) for work in (durable.recover, reap, relay_turn)))


def burst(durable: Durable, connection: psycopg.Connection) -> tuple[float, float]:
    """The outbox of many new runs is lost: the seconds until recovery has filled it again, and
    those of a bare statement that fills it."""
    connection.execute("CREATE TABLE kept AS SELECT * FROM durable_outbox")
    new = "WHERE token_id IN (SELECT id FROM durable_token WHERE unit = 'step_0')"
    connection.execute(f"DELETE FROM durable_outbox {new}".encode())
    began = time.perf_counter()
    connection.execute(f"INSERT INTO durable_outbox SELECT * FROM kept {new}".encode())
    floor = time.perf_counter() - began
    connection.execute(f"DELETE FROM durable_outbox {new}".encode())
    connection.execute(
        "UPDATE durable_token SET hinted_at = now() - interval '11 s', wake_at = now()"
        " - interval '11 s' WHERE unit = 'step_0'"
    )
    connection.execute("VACUUM ANALYZE")
    connection.execute("UPDATE durable_recovery SET next_at = now()")
    began, moved = time.perf_counter(), 0
    while moved < LOST:
        recovered = recover_with_lease(durable.database)
        moved += recovered.moved
        time.sleep(recovered.pause.total_seconds())
    return time.perf_counter() - began, floor


def seconds(rounds: int, work: Callable[[], object]) -> float:
    """The median duration."""
    durations = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations)
