"""What a database is asked, and what it writes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg

SETTLE = 10.5
"""Seconds until a session that has become idle has reported its transactions."""

WRITTEN = (
    "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
    " (pg_current_wal_insert_lsn() - '0/0')::bigint"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """All so far, or between two looks."""

    statements: int
    writes: int
    """Transactions that wrote something, in the whole server."""

    wal: int
    """Bytes of the write-ahead log, of the whole server."""

    def since(self, before: Counted) -> Counted:
        return Counted(
            self.statements - before.statements,
            self.writes - before.writes,
            self.wal - before.wal,
        )


class Counter:
    """Counts by pg_stat_statements where it is loaded, else by transactions (pg_stat_database).

    A transaction of several statements counts once then, and what was read from a cursor not at
    all: the number is a lower bound, and `settle` takes long.
    """

    def __init__(self, connection: psycopg.Connection, database: str) -> None:
        self._connection = connection
        self._database = database
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            connection.execute("SELECT FROM pg_stat_statements LIMIT 1")
        except psycopg.Error:
            self.is_exact = False
            self.source = "transactions, from pg_stat_database; pg_stat_statements is not loaded"
            self._query = (
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
            )
        else:
            self.is_exact = True
            self.source = "statements, from pg_stat_statements; BEGIN and COMMIT are statements"
            self._query = (
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s"
                " JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = %s"
            )

    def settle(self) -> None:
        """Wait until the server has counted all that has happened.

        A session reports its transactions once a second while it works, and what is left within
        ten seconds; statements are counted at once.
        """
        if not self.is_exact:
            time.sleep(SETTLE)

    def look(self) -> Counted:
        """All so far."""
        asked = self._connection.execute(self._query.encode(), (self._database,)).fetchone()
        written = self._connection.execute(WRITTEN).fetchone()
        assert asked is not None
        assert written is not None
        return Counted(int(asked[0]), *written)
