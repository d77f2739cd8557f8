"""Finds what an app has of its own: a database, a broker that answers; and a free port."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable.dev.process import FIRST_FREE_FD
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.worker.brokers import Brokers

DATABASE_URL = "DURABLE_DATABASE_URL"

LOOPBACK = "127.0.0.1"
"""Nobody but this computer reaches the page. There is no option for another address: this is not
how a page is run for others.
"""

PORTS_TRIED = 50


def has_database(durable: Durable, environment: Mapping[str, str] = os.environ) -> bool:
    """True if the app, the environment or the framework says where the database is."""
    conf = durable.app.conf
    named = conf.get("durable_database_url") or environment.get(DATABASE_URL)
    return durable.framework is not None or bool(named)


def address_of(durable: Durable) -> str:
    """Say which database the app has: `shop on localhost:5432`. Raises `DatabaseUnavailable`."""
    with durable.database.engine.connect() as connection:
        there: Any = connection.connection.driver_connection
        return f"{there.info.dbname} on {there.info.host}:{there.info.port}"


def broker_trouble(app: Celery) -> str | None:
    """Say why the app has no broker that works; None if it has.

    Celery takes RabbitMQ on this computer for an app that names none: here that is none. Raises
    `ConfigurationError` for a transport that there is not.
    """
    conf = app.conf
    if not (conf.broker_url or conf.broker_read_url or conf.broker_write_url):
        return "the app has none configured"
    try:
        Brokers(app, logs=False).connect().release()
    except OperationalError as error:
        return f"the configured one does not answer, {error}"
    except (KeyError, ImportError) as error:
        why = error.args[0] if error.args else error
        raise ConfigurationError(f"The broker of the app cannot be used: {why}.") from error
    return None


def use_pgmq(app: Celery, settings: Mapping[str, Any]) -> None:
    """Make an embedded Postgres the broker of this process, whatever the app has configured."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(name, None)
    app.conf.update(broker_read_url=None, broker_write_url=None, broker_use_ssl=None, **settings)


def listen(port: int) -> socket.socket:
    """Listen at this port, or at the next free one. Raises `ConfigurationError` if none is."""
    for each in range(port, min(port + PORTS_TRIED, 65536)):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, each))
        except OSError as error:
            listening.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        listening.listen(128)
        with listening:
            return socket.socket(
                fileno=fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
            )
    raise ConfigurationError(
        f"No port from {port} to {port + PORTS_TRIED - 1} is free. Name another: --port."
    )
