"""The hint, sent after a commit, that the outbox has something due.

It is sent in a statement of its own: a NOTIFY inside the transaction would take a lock on the whole
database at commit. One that gets lost costs a poll interval and nothing else.
"""

from __future__ import annotations

import hashlib
import time

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store import sql
from celery_durable.store.connection import Connection, PsycopgConnection, Statement
from celery_durable.store.workers import is_direct

DEBOUNCE = 0.005
"""Seconds after a notification in which this process sends no other. A relay that was woken looks
once more after `LINGER`, and so sees what was committed meanwhile.
"""

LINGER = 2 * DEBOUNCE

_NOTIFY = Statement(
    sa.select(sa.func.pg_notify(sql.text("channel"), sa.literal_column("''")).label("sent"))
)


CHANNEL = "durable_outbox_"
LONGEST_CHANNEL = 63


def channel(schema: str) -> str:
    """The channel relays of this schema listen on."""
    name = CHANNEL + schema
    if len(name.encode()) <= LONGEST_CHANNEL:
        return name
    return CHANNEL + hashlib.sha256(schema.encode()).hexdigest()[:40]


class Notifier:
    """Wakes the relays; at most once in `DEBOUNCE` seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last = 0.0

    def __call__(self) -> None:
        """Say that something is due. Never raises: a relay finds it by polling anyway."""
        now = time.monotonic()
        if now - self._last < DEBOUNCE:
            return
        self._last = now
        try:
            with self._database.autocommit() as connection:
                send(connection)
        except (DatabaseUnavailable, psycopg.Error):
            return


def send(connection: Connection) -> None:
    """Wake the relays."""
    connection.rows(_NOTIFY, {"channel": channel(connection.schema)})


class Listener:
    """Waits for notifications on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._raw: psycopg.Connection[object] | None = None

    def wait(self, seconds: float) -> bool:
        """Wait until notified or `seconds` have passed; True when notified."""
        try:
            if self._raw is None:
                self._raw = self._listening()
            return bool(list(self._raw.notifies(timeout=max(seconds, 0.0), stop_after=1)))
        except (psycopg.Error, DatabaseUnavailable):
            self.close()
            time.sleep(min(seconds, 1.0))
            return False

    def _listening(self) -> psycopg.Connection[object]:
        """A new connection. Behind a transaction pooler nobody would hear: there it only waits."""
        raw = self._database.dedicated()
        if is_direct(PsycopgConnection(raw, self._database.schema)):
            raw.execute(SQL("LISTEN {}").format(Identifier(channel(self._database.schema))))
        return raw

    def close(self) -> None:
        """Give the connection back."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None
