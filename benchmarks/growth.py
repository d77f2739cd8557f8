"""Does a step cost more the more the run has already done? (P11)"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg

from benchmarks.bench import Bench
from benchmarks.engine import (
    Rate,
    durable_on,
    interleaved,
    plain,
    rate,
    waiting_tokens,
    workflow_of,
)
from benchmarks.section import Section, number, ratio

STEPS = 100
FEW, MANY = 10, 5000

FILL = """
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
SELECT %s, 'earlier_' || n, 'earlier_' || n, 'completed', false, 1, '{"ok":true}', %s, now()
FROM generate_series(1, %s) AS n
"""


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.database() as name:
        few, many = rates(bench.services.postgres.url(name), bench.rounds)
    yield Section(
        title="growth: steps/s of one thread, by what the run has done before",
        columns=("earlier steps", "steps/s", f"x {FEW}"),
        rows=[
            (str(FEW), number(few), ""),
            (str(MANY), number(many), ratio(many, few)),
        ],
        record=[{"earlier": FEW, "rate": few}, {"earlier": MANY, "rate": many}],
    )


def rates(url: str, rounds: int) -> tuple[Rate, Rate]:
    """Steps per second of runs with `FEW` and with `MANY` earlier journal entries."""
    durable, connection = durable_on(url), plain(url)
    workflow = workflow_of(durable, "hundred", STEPS)

    def steps_after(entries: int) -> Rate:
        run = workflow.start({})
        fill(connection, run.id, entries)
        (token,) = waiting_tokens(connection)
        return rate(STEPS, lambda: durable.engine.advance(token))

    steps_after(FEW)
    few, many = interleaved(rounds, lambda: steps_after(FEW), lambda: steps_after(MANY))
    durable.liveness.leave()
    connection.close()
    return few, many


def fill(connection: psycopg.Connection, run_id: UUID, entries: int) -> None:
    """Write journal entries as if the run had completed so many units before."""
    connection.execute(FILL, (run_id, uuid4(), entries))
    connection.execute("ANALYZE durable_journal")
