"""Steps per second of the engine, against the floor: the same writes as one bare statement."""

from __future__ import annotations

from uuid import uuid4

import psycopg

from benchmarks.measure import (
    Rate,
    durable_on,
    interleaved,
    plain,
    rate,
    waiting_tokens,
    workflow_of,
)

STEPS = 10
RUNS = 100

FLOOR = """
WITH held AS (
    UPDATE floor_token SET unit = %(unit)s, wake_at = clock_timestamp()
    WHERE id = %(id)s AND fence = %(fence)s RETURNING run_id
), recorded AS (
    INSERT INTO floor_journal (run_id, unit, result)
    SELECT run_id, %(unit)s, %(result)s FROM held
)
SELECT run_id FROM held
"""

FLOOR_TABLES = """
CREATE TABLE floor_token (
    id uuid PRIMARY KEY, run_id uuid NOT NULL, unit text, fence uuid, wake_at timestamptz
) WITH (fillfactor = 50);
CREATE TABLE floor_journal (run_id uuid, unit text, result json, PRIMARY KEY (run_id, unit));
"""


def floor(connection: psycopg.Connection) -> Rate:
    """Token update and journal insert, one statement per step, one thread."""
    ids = [uuid4() for _ in range(RUNS)]
    for one in ids:
        connection.execute("INSERT INTO floor_token VALUES (%s, %s, '', %s)", (one, one, one))

    def work() -> None:
        for one in ids:
            for step in range(STEPS):
                parameters = {"id": one, "fence": one, "unit": f"s{step}", "result": '{"ok":true}'}
                connection.execute(FLOOR, parameters).fetchone()

    return rate(RUNS * STEPS, work)


def measure(url: str, rounds: int) -> tuple[Rate, Rate]:
    """The engine's steps per second, and the floor's."""
    durable, connection = durable_on(url), plain(url)
    workflow = workflow_of(durable, "ten", STEPS)
    connection.execute(FLOOR_TABLES)

    def engine() -> Rate:
        workflow.start_many([{} for _ in range(RUNS)])
        tokens = waiting_tokens(connection)

        def work() -> None:
            for token in tokens:
                durable.engine.advance(token)

        return rate(RUNS * STEPS, work)

    engine()  # compiles the statements and registers the worker
    measured, bare = interleaved(rounds, engine, lambda: floor(connection))
    durable.liveness.leave()
    connection.close()
    return measured, bare
