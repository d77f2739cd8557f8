"""The floor: bare psycopg loops that write a step's three writes as one statement, and commit it.

Processes and threads come as arguments: `floor_client 2 4` is two processes of four threads, each
with a connection and its share of the runs. Nothing is decided, checked, published or claimed. The
three writes are the token, a row of the journal, and a row of the outbox, which is never deleted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from uuid import UUID, uuid4

import psycopg

from benchmarks.programs.wire import DATABASE, PATIENCE, STEPS, expect, serve

STEP = """
WITH held AS (
    UPDATE floor_token SET unit = %(unit)s, wake_at = clock_timestamp()
    WHERE id = %(id)s AND fence = %(fence)s RETURNING run_id
), recorded AS (
    INSERT INTO floor_journal (run_id, unit, result)
    SELECT run_id, %(unit)s, %(result)s FROM held
), sent AS (
    INSERT INTO floor_outbox (token_id, available_at) SELECT %(id)s, clock_timestamp() FROM held
)
SELECT run_id FROM held
"""

TABLES = """
CREATE TABLE floor_token (
    id uuid PRIMARY KEY, run_id uuid NOT NULL, unit text, fence uuid, wake_at timestamptz
) WITH (fillfactor = 50);
CREATE TABLE floor_journal (run_id uuid, unit text, result json, PRIMARY KEY (run_id, unit));
CREATE TABLE floor_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, token_id uuid, available_at timestamptz
);
"""

START = "INSERT INTO floor_token SELECT id, id, '', id FROM unnest(%s::uuid[]) AS id"


class Client:
    """What the benchmark may ask for."""

    def __init__(self, processes: int, threads: int) -> None:
        self._runs = 0
        context = get_context("spawn")  # nothing is shared with the asking process
        self._pipes: list[Connection] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            context.Process(target=work, args=(theirs, threads), daemon=True).start()
            self._pipes.append(ours)

    def prepare(self) -> None:
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
        with psycopg.connect(DATABASE, autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM floor_journal").fetchone()
        expect(row and row[0], self._runs * STEPS, "journal rows")


def work(pipe: Connection, threads: int) -> None:
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
            list(pool.map(steps, connections, shares))
            pipe.send(None)


def steps(connection: psycopg.Connection, ids: Iterable[UUID]) -> None:
    for one in ids:
        for step in range(STEPS):
            parameters = {"id": one, "fence": one, "unit": f"s{step}", "result": '{"ok":true}'}
            connection.execute(STEP, parameters).fetchone()


if __name__ == "__main__":
    serve(Client(int(sys.argv[1]), int(sys.argv[2])))
