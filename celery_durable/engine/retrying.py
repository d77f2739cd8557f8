"""Asks Postgres again until it answers.

An outage of Postgres is nobody's failure: what a worker reads and writes around its units waits
for the end of it. A process logs once that Postgres is away, or cannot do something, however many
of its threads wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store.connection import Connection
from celery_durable.store.sqlstates import Hindered, may_go_well_later

FIRST, MAXIMUM = 0.1, 2.0
"""Seconds between tries; doubling from the first to the maximum."""

T = TypeVar("T")


class Retrying:
    """Asks for `seconds`: for as long as the worker can still be taken for alive."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.database = database
        self._seconds = seconds

    def ask(self, question: Callable[[Connection], T], *, together: bool = False) -> T:
        """Call `question` with a connection; `together`: in one transaction.

        It may be executed twice: its answer may have been lost.
        """
        connecting = self.database.transaction if together else self.database.autocommit

        def once() -> T:
            with connecting() as connection:
                return question(connection)

        return self.until_answered(once)

    def until_answered(self, question: Callable[[], T]) -> T:
        """Call `question`, which connects by itself, until Postgres answers.

        Raises `DatabaseUnavailable` when the time is up, and `Hindered` where Postgres is there and
        still cannot do it.
        """
        until = time.monotonic() + self._seconds
        wait = FIRST
        while True:
            try:
                answer = question()
            except Exception as error:
                if not may_go_well_later(error):
                    raise
                outage = error if isinstance(error, DatabaseUnavailable) else Hindered(str(error))
                self.database.outage.notice(outage)
                if time.monotonic() + wait > until:
                    kind = Hindered if outage.is_there else DatabaseUnavailable
                    given_up = kind(f"Postgres could not be asked: {error}")
                    given_up.is_given_up = True
                    raise given_up from error
            else:
                self.database.outage.is_over()
                return answer
            time.sleep(wait)
            wait = min(2 * wait, MAXIMUM)
