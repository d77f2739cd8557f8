"""The floor: bare psycopg loops that write what a step of the library writes, and commit it.

Processes, threads and writes come as arguments: `floor_client 2 4 3` is two processes of four
threads, each with a connection and its share of the runs, and three writes a step: the fenced
update of the token, the row of the journal, and a row of the outbox. All are one statement, sent
by itself in autocommit mode and prepared by psycopg: one round trip, one commit, one wait for the
disk. With two writes there is no row of the outbox; the library puts one there only for each
message, that is once for the ten steps of a run.

What it has as the library has it: the columns of the tables (they are copied), the values in them,
the primary keys, the space kept free in the tokens' pages, the settings of the server and of the
session (`synchronous_commit` is on), and the way to the server.

What it has not: CHECK constraints, other indexes, claims, messages, looks for flags and commands,
the end of the run, any decision, and any of the user's code. The outbox is never emptied.

It depends on the server more than on anything here: in memory and without `fsync`, a step cost
Postgres 162 us of processor time instead of 365 (in one run, on a busy machine).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa

from benchmarks.programs.wire import DATABASE, PATIENCE, STEPS, expect, serve
from celery_durable.database import schema

RESULT = '{"ok":true}'
SQLALCHEMY = DATABASE.replace("postgresql:", "postgresql+psycopg:", 1)

STEP = """
WITH held AS (
    UPDATE floor_token SET node = %(next)s, unit = %(next)s, attempt = 1, crashes = 0, flags = 0,
        rollback = NULL, failures = NULL, since = clock_timestamp(), wake_at = NULL, progress = NULL
    WHERE id = %(token)s AND fence = %(fence)s AND unit = %(unit)s AND claimed_by = %(worker)s
    RETURNING run_id
), recorded AS (
    INSERT INTO floor_journal
        (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
    SELECT run_id, %(unit)s, %(unit)s, 'completed', false, 1, %(result)s, %(worker)s, %(started)s
    FROM held
){}
SELECT clock_timestamp() FROM held
"""

HINT = """, sent AS (
    INSERT INTO floor_outbox (queue, task, args, options, run_id, token_id, fence)
    SELECT 'durable', 'durable.advance', json_build_array(%(token)s::uuid),
        '{"queue": "durable", "shadow": "linear.step_0"}', run_id, %(token)s, %(fence)s
    FROM held
)"""

STATEMENTS = {2: STEP.format(""), 3: STEP.format(HINT)}
"""What is sent for a step, by how many rows it writes."""

COPY = "(LIKE durable_{0} INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING STORAGE)"
TABLES = f"""
CREATE TABLE floor_token {COPY.format("token")} WITH (fillfactor = 50);
CREATE TABLE floor_journal {COPY.format("journal")};
CREATE TABLE floor_outbox {COPY.format("outbox")};
ALTER TABLE floor_token ADD PRIMARY KEY (id);
ALTER TABLE floor_journal ADD PRIMARY KEY (run_id, unit);
ALTER TABLE floor_outbox ADD PRIMARY KEY (id);
"""

START = """
INSERT INTO floor_token (id, run_id, node, unit, queue, fence, claimed_by, begun)
SELECT id, id, 'step_0', 'step_0', 'durable', id, id, true FROM unnest(%s::uuid[]) AS id
"""


class Client:
    """What the benchmark may ask for."""

    def __init__(self, processes: int, threads: int, writes: int) -> None:
        self._runs = 0
        context = get_context("spawn")  # nothing is shared with the asking process
        self._pipes: list[Connection] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            context.Process(target=work, args=(theirs, threads, writes), daemon=True).start()
            self._pipes.append(ours)

    def prepare(self) -> None:
        """Create the library's tables, and copies of them."""
        schema.migrate(sa.create_engine(SQLALCHEMY, poolclass=sa.NullPool), schema="public")
        with psycopg.connect(DATABASE, autocommit=True) as connection:
            connection.execute(TABLES)

    def linear(self, runs: int) -> dict[str, float]:
        """Every step of so many runs, from their start."""
        self._runs += runs
        ids = [uuid4() for _ in range(runs)]
        began = time.perf_counter()
        with psycopg.connect(DATABASE, autocommit=True) as connection:
            connection.execute(START, (ids,))
        for number, pipe in enumerate(self._pipes):
            pipe.send(ids[number :: len(self._pipes)])
        for pipe in self._pipes:
            assert pipe.poll(PATIENCE), "a process of the floor does not answer"
            pipe.recv()
        return {"seconds": time.perf_counter() - began, "units": runs * STEPS}

    def check(self) -> None:
        """Whether every step was written, and every token is at its last."""
        self._expect("SELECT count(*) FROM floor_journal", self._runs * STEPS)
        self._expect(f"SELECT count(*) FROM floor_token WHERE unit = 'step_{STEPS}'", self._runs)

    def _expect(self, query: str, rows: int) -> None:
        with psycopg.connect(DATABASE, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        expect(row and row[0], rows, query)


def work(pipe: Connection, threads: int, writes: int) -> None:
    """Execute what the pipe says, in threads that each have a connection."""
    connections: list[psycopg.Connection] = []
    with ThreadPoolExecutor(threads) as pool:
        while True:
            try:
                ids: list[UUID] = pipe.recv()
            except EOFError:
                return
            if not connections:
                connections += [psycopg.connect(DATABASE, autocommit=True) for _ in range(threads)]
            shares = [ids[number::threads] for number in range(threads)]
            list(pool.map(steps, connections, shares, [STATEMENTS[writes]] * threads))
            pipe.send(None)


def steps(connection: psycopg.Connection, ids: Iterable[UUID], statement: str) -> None:
    """Take each run from its first step to its last."""
    for one in ids:
        for number in range(STEPS):
            parameters = {
                "token": one,
                "fence": one,
                "worker": one,
                "unit": f"step_{number}",
                "next": f"step_{number + 1}",
                "result": RESULT,
                "started": datetime.now(UTC),
            }
            assert connection.execute(statement.encode(), parameters).fetchone()


if __name__ == "__main__":
    serve(Client(*map(int, sys.argv[1:])))
