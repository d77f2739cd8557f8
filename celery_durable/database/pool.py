"""Idle connections of one process, the last used first.

SQLAlchemy's pool costs every statement a tenth of its processor time, for events, proxies and
resets that nothing here needs: a connection is lent for one statement or one transaction.

A statement may be posted: nobody waits for its answer, which is read before its connection is lent
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from celery_durable.process.sockets import readable

KEPT_CONNECTIONS = 32
"""Most idle connections kept by one process; it uses one per thread that is in a statement."""


READS_AFTER = 1.0
"""Most seconds until what has not been sent yet is sent, and what has arrived is read."""


class Pool:
    """Lends connections, and keeps those that come back. Its threads share it without a lock."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._idle: deque[psycopg.Connection[Any]] = deque()

    def take(self) -> psycopg.Connection[Any]:
        """Return an idle connection that is alive, or a new one."""
        while True:
            try:
                raw = self._idle.pop()
            except IndexError:
                return self._connect()
            if has_answered(raw) and is_alive(raw):
                return raw
            raw.close()

    def put(self, raw: psycopg.Connection[Any]) -> None:
        """Keep the connection, unless it is of no use to the next."""
        is_idle = raw.info.transaction_status == TransactionStatus.IDLE
        if is_idle and len(self._idle) < KEPT_CONNECTIONS:
            self._idle.append(raw)
        else:
            raw.close()

    def post(self, raw: psycopg.Connection[Any], text: bytes, parameters: Sequence[bytes]) -> None:
        """Send a statement and keep the connection, without waiting for the answer."""
        raw.pgconn.send_query_params(text, parameters)
        raw.pgconn.flush()
        self._idle.append(raw)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def has_answered(raw: psycopg.Connection[Any]) -> bool:
    """Read the answer to a posted statement; return False if the connection was lost meanwhile.

    Whether the statement has failed makes no difference.
    """
    pgconn = raw.pgconn
    try:
        while pgconn.transaction_status == TransactionStatus.ACTIVE:
            if pgconn.flush() or pgconn.is_busy():
                readable([pgconn.socket], READS_AFTER)
                pgconn.consume_input()
            else:
                pgconn.get_result()
    except psycopg.Error:
        return False
    return pgconn.transaction_status == TransactionStatus.IDLE


def is_alive(raw: psycopg.Connection[Any]) -> bool:
    """Return False if the server has ended the connection.

    That costs no round trip: nothing arrives on an idle connection but a notice, or its end.
    """
    if raw.closed:
        return False
    if readable([raw.fileno()], 0):
        try:
            raw.execute("")
        except psycopg.Error:
            return False
    return True
