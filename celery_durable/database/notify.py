"""Wakes the relays after a commit that made an outbox row due, and tells of runs that have ended.

The NOTIFY is a statement of its own: inside the transaction it would take a lock on the whole
database at commit. A lost one costs a poll interval and nothing else.

Nearly always nobody waits for the end of a run. A process that does (`ends`) holds a shared
advisory lock, and whoever has ended a run sends nothing unless that lock is taken (ADR 0024).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

from celery_durable.database.connections import Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process.sockets import readable
from celery_durable.store import sql
from celery_durable.store.connection import PsycopgConnection, Statement
from celery_durable.store.workers import is_direct

DEBOUNCE = 0.005
"""Seconds after a notification in which this process sends no other. A relay that was woken polls
once more after `LINGER`, and so finds what was committed meanwhile.
"""

LINGER = 2 * DEBOUNCE

LOOKS_EVERY = 0.1
"""Seconds for which a process that has ended a run, and found that nobody waits, looks no more."""

_NOTIFY = b"SELECT pg_catalog.pg_notify($1, '')"

EAR: tuple[sa.ColumnElement[int], sa.ColumnElement[int]] = (
    sa.func.hashtext(sql.text("channel")),
    sa.literal_column("0"),
)
"""The advisory lock that those who listen on a channel share."""

_TELL = Statement(
    sa.select(
        sa.case(
            (sa.func.pg_try_advisory_xact_lock(*EAR), sa.null()),
            else_=sa.func.pg_notify(sql.text("channel"), sql.text("payload")),
        ).label("told")
    )
)

MOST_TOLD = 200
"""Most runs named in one notification, which has room for 8000 bytes; of more it names none."""

CHANNEL, ENDED_CHANNEL = "durable_outbox_", "durable_ended_"
LONGEST_CHANNEL = 63
"""Most bytes of a channel's name in Postgres."""


def channel(schema: str, prefix: str = CHANNEL) -> str:
    """Return the channel that the relays of this schema listen on, or another with its prefix."""
    name = prefix + schema
    if len(name.encode()) <= LONGEST_CHANNEL:
        return name
    return prefix + hashlib.sha256(schema.encode()).hexdigest()[:40]


class Notifier:
    """Wakes the relays, at most once in `DEBOUNCE` seconds, and tells of runs that have ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_sent = 0.0
        self._is_heard = False
        self._last_told = -LOOKS_EVERY

    def __call__(self) -> None:
        """Wake the relays, and do not wait for the answer of Postgres.

        Ignores its errors: relays poll for what is due anyway.
        """
        now = time.monotonic()
        if now - self._last_sent < DEBOUNCE:
            return
        self._last_sent = now
        with suppress(DatabaseUnavailable, psycopg.Error):
            self._database.post(_NOTIFY, [channel(self._database.schema).encode()])

    def committed(self, announce: Callable[[], object]) -> None:
        """Wake the relays, and announce what was committed; the receivers may take their time."""
        self()
        announce()

    def joined(self, _session: object) -> None:
        """Called when a transaction of the caller's was joined: relays find what it commits."""

    def ended(self, run_ids: Sequence[UUID]) -> None:
        """Tell whoever waits that runs have ended. Ignores errors of Postgres: they look too.

        While nobody waits this costs one statement in `LOOKS_EVERY` seconds.
        """
        now = time.monotonic()
        if not run_ids or (not self._is_heard and now - self._last_told < LOOKS_EVERY):
            return
        self._last_told = now
        self._is_heard = tell(self._database, run_ids)


def tell(database: Database, run_ids: Sequence[UUID]) -> bool:
    """Tell whoever waits that these runs have ended; return False if nobody waits for any run.

    False too while Postgres is away.
    """
    names = ",".join(run_id.hex for run_id in run_ids) if len(run_ids) <= MOST_TOLD else ""
    parameters = {"channel": channel(database.schema, ENDED_CHANNEL), "payload": names}
    try:
        with database.autocommit() as connection:
            (row,) = connection.rows(_TELL, parameters)
    except (DatabaseUnavailable, psycopg.Error):
        return False
    return row["told"] is not None


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
