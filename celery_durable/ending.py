"""Waiting for the end of a run, with a thread or without one."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import ResultTimeout, RunCancelled, RunFailed, RunNotFound
from celery_durable.store import results, views
from celery_durable.store.database import Database

FIRST_LOOK, LAST_LOOK = 0.01, 0.5
"""Seconds between looks at a run that is waited for; each wait is half as long again."""


class Ending:
    """One caller's wait for the end of a run, for at most `limit` seconds."""

    def __init__(self, database: Database, run_id: UUID, limit: float | None) -> None:
        self._database = database
        self._run_id = run_id
        self._limit = limit
        self._began = time.monotonic()
        self._wait = FIRST_LOOK

    def look(self) -> tuple[Any] | float:
        """The run's result, in a tuple; while the run goes on, the seconds until the next look.

        Raises `RunFailed`, `RunCancelled` or `RunNotFound`, and `ResultTimeout` where the time is
        up before the next look.
        """
        with self._database.autocommit() as connection:
            found = views.status_of(connection, self._run_id)
            if found is None:
                raise RunNotFound(self._run_id)
            status, error = found
            if status is Status.COMPLETED:
                return (results.of_child(connection, self._run_id),)
        if status is Status.FAILED:
            raise RunFailed(self._run_id, error)
        if status is Status.CANCELLED:
            raise RunCancelled(self._run_id, (error.message or None) if error else None)
        assert status not in FINISHED, status
        return self._next_wait(status)

    def _next_wait(self, status: Status) -> float:
        wait = self._wait
        if self._limit is not None and time.monotonic() + wait > self._began + self._limit:
            raise ResultTimeout(self._run_id, self._limit, status)
        self._wait = min(1.5 * wait, LAST_LOOK)
        return wait
