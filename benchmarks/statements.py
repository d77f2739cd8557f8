"""How many statements a database is asked."""

from __future__ import annotations

import psycopg


class Counter:
    """Counts by pg_stat_statements where it is loaded, else by transactions (pg_stat_database).

    A transaction of several statements counts once then, and what was read from a cursor not at
    all: the number is a lower bound. A session reports once a second
    while it works, and what is left within ten seconds: wait until then.
    """

    def __init__(self, connection: psycopg.Connection, database: str) -> None:
        self._connection = connection
        self._database = database
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            connection.execute("SELECT FROM pg_stat_statements LIMIT 1")
        except psycopg.Error:
            self.source = "transactions, from pg_stat_database; pg_stat_statements is not loaded"
            self._query = (
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
            )
        else:
            self.source = "statements, from pg_stat_statements"
            self._query = (
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s"
                " JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = %s"
            )

    def look(self) -> int:
        """All so far."""
        row = self._connection.execute(self._query.encode(), (self._database,)).fetchone()
        assert row is not None
        return int(row[0])
