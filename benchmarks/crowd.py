"""What a database has in it besides the runs that are measured.

The ids are as low as ids can be: those of real runs begin with the time, and come after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import psycopg

What: TypeAlias = Literal["nothing", "waiting", "finished", "old", "snapshot"]

ID = "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"

WAITING = f"""
WITH runs AS (
    INSERT INTO durable_run (id, workflow, version, status, input)
    SELECT {ID}, 'waits', 1, 'running', '{{}}' FROM generate_series(1, %(rows)s) AS n
    RETURNING id
)
INSERT INTO durable_token
    (id, run_id, node, unit, queue, fence, wait, awaits, waiting_since, look_at)
SELECT gen_random_uuid(), id, 'n', 'n', 'durable', gen_random_uuid(), 'signal', 'go', now(), NULL
FROM runs
"""
"""Runs that wait for a signal."""

EACH = 9
FINISHED_RUNS = f"""
INSERT INTO durable_run
    (id, workflow, version, status, input, result, started_at, finished_at)
SELECT {ID}, 'ended', 1, 'completed', '{{}}', '{{"ok":true}}', now(), now()
FROM generate_series(1, %(rows)s / {EACH + 1}) AS n
"""
FINISHED_UNITS = f"""
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
SELECT {ID}, 'step_' || step, 'step_' || step, 'completed', false, 1, '{{"ok":true}}',
    '00000000-0000-4000-8000-000000000000', now()
FROM generate_series(1, %(rows)s / {EACH + 1}) AS n, generate_series(1, {EACH}) AS step
"""
"""Runs that have ended, with their journals."""

OLD_RUNS = FINISHED_RUNS.replace("now(), now()", "now(), now() - interval '1 year'")
"""The same, long ago."""

FILLS: dict[What, tuple[str, ...]] = {
    "nothing": (),
    "waiting": (WAITING,),
    "finished": (FINISHED_RUNS, FINISHED_UNITS),
    "old": (OLD_RUNS, FINISHED_UNITS),
    "snapshot": (),
}


@dataclass(frozen=True, slots=True)
class Crowd:
    """Rows of one kind; or a session elsewhere that holds on to its snapshot."""

    what: What
    rows: int = 0

    @property
    def name(self) -> str:
        match self.what:
            case "nothing":
                return "beside nothing"
            case "waiting":
                return f"beside {self.rows:,} waiting runs"
            case "finished":
                return f"beside {self.rows:,} rows of ended runs"
            case "old":
                return f"beside {self.rows:,} rows of old runs"
            case "snapshot":
                return "beside a session that holds its snapshot"

    def fill(self, connection: psycopg.Connection) -> None:
        """Write the rows."""
        for statement in FILLS[self.what]:
            connection.execute(statement.encode(), {"rows": self.rows})
        connection.execute("VACUUM ANALYZE")

    @contextmanager
    def present(self, connection: psycopg.Connection) -> Iterator[None]:
        """Hold the snapshot, if that is what it does."""
        if self.what == "snapshot":
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT FROM durable_run LIMIT 1")
        yield
