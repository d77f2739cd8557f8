"""What somebody else has seen in the database: it was committed, so it must still be there.

A commit is seen by others once it is on disk, unless it asked not to wait for that. So whatever was
seen outlives a crash of Postgres; of the library's own commits only a claim need not.
"""

import threading
import time
from typing import Any
from uuid import UUID

import psycopg

from tests.chaos.field import Field

EVERY, SHARE = 0.05, 10
"""Seconds between looks, and so many times as long as a look takes.

A crash loses what was written up to 0.6 s before it, and not on disk.
"""

DEATHS_EVERY = 1.0

NEWEST = "SELECT seq, run_id, unit FROM durable_journal WHERE seq > %s"

BACK = 2_000
"""How far back is looked, for those that commit late."""

DEATHS = """
    SELECT id, pid, extract(epoch FROM clock_timestamp() - ended_at)::float FROM durable_worker
    WHERE ended_at IS NOT NULL
"""


class Witness:
    """A thread that remembers journal rows, and when workers were marked as ended."""

    def __init__(self, field: Field) -> None:
        self.recorded: dict[int, tuple[UUID, str]] = {}
        self.deaths: dict[UUID, tuple[int, float]] = {}
        self._field = field
        self._newest = 0
        self._deaths_at = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go, name="witness", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(60)

    def _go(self) -> None:
        while not self._end.is_set():
            try:
                with self._field.connect() as connection:
                    lasted = 0.0
                    while not self._end.wait(max(EVERY, SHARE * lasted)):
                        began = time.monotonic()
                        self._look(connection)
                        lasted = time.monotonic() - began
            except psycopg.OperationalError:
                self._end.wait(EVERY)

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        for seq, run_id, unit in connection.execute(NEWEST, [self._newest - BACK]):
            self.recorded[seq] = run_id, unit
            self._newest = max(self._newest, seq)
        now = time.monotonic()
        if now >= self._deaths_at:
            self._deaths_at = now + DEATHS_EVERY
            for worker, pid, ago in connection.execute(DEATHS):
                self.deaths.setdefault(worker, (pid, time.monotonic() - ago))
