"""Wakes the relays after a commit that made an outbox row due.

The NOTIFY is a statement of its own: inside the transaction it would take a lock on the whole
database at commit. A lost one costs a poll interval and nothing else.
"""

from __future__ import annotations

import hashlib
import time

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process.sockets import readable
from celery_durable.store import sql
from celery_durable.store.connection import Connection, PsycopgConnection, Statement
from celery_durable.store.workers import is_direct

DEBOUNCE = 0.005
"""Seconds after a notification in which this process sends no other. A relay that was woken polls
once more after `LINGER`, and so finds what was committed meanwhile.
"""

LINGER = 2 * DEBOUNCE

_NOTIFY = Statement(
    sa.select(sa.func.pg_notify(sql.text("channel"), sa.literal_column("''")).label("sent"))
)


CHANNEL = "durable_outbox_"
LONGEST_CHANNEL = 63
"""Most bytes of a channel's name in Postgres."""


def channel(schema: str) -> str:
    """Return the channel that the relays of this schema listen on."""
    name = CHANNEL + schema
    if len(name.encode()) <= LONGEST_CHANNEL:
        return name
    return CHANNEL + hashlib.sha256(schema.encode()).hexdigest()[:40]


class Notifier:
    """Wakes the relays, at most once in `DEBOUNCE` seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_sent = 0.0

    def __call__(self) -> None:
        """Wake the relays. Ignores errors of Postgres: relays poll for what is due anyway."""
        now = time.monotonic()
        if now - self._last_sent < DEBOUNCE:
            return
        self._last_sent = now
        try:
            with self._database.autocommit() as connection:
                send(connection)
        except (DatabaseUnavailable, psycopg.Error):
            return


def send(connection: Connection) -> None:
    """Wake the relays."""
    connection.rows(_NOTIFY, {"channel": channel(connection.schema)})


def _has_come(raw: psycopg.Connection[object]) -> bool:
    """Take the notifications that are there; return True if there was one."""
    return bool(list(raw.notifies(timeout=0.0, stop_after=1)))


class Listener:
    """Waits for notifications on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._raw: psycopg.Connection[object] | None = None

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for a notification; return True if one came."""
        try:
            if self._raw is None:
                self._raw = self._open()
                if _has_come(self._raw):
                    return True
            # `notifies` with a timeout would wake up ten times a second.
            readable([self._raw.fileno()], max(seconds, 0.0))
            return _has_come(self._raw)
        except (psycopg.Error, DatabaseUnavailable):
            self.close()
            time.sleep(min(seconds, 1.0))
            return False

    def _open(self) -> psycopg.Connection[object]:
        """Open a connection and listen, unless a transaction pooler shares it: there it only waits.

        Behind one, notifications would not arrive.
        """
        raw = self._database.dedicated()
        if is_direct(PsycopgConnection(raw, self._database.schema)):
            raw.execute(SQL("LISTEN {}").format(Identifier(channel(self._database.schema))))
        return raw

    def close(self) -> None:
        """Close the connection."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None
