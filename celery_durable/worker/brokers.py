"""Connects a relay to one of the brokers that the settings name.

Each request to a broker has a time limit, so that one that accepts connections and never answers
delays a relay no longer than one that is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

CONFIRM_TIMEOUT = 10.0
"""Seconds that a batch waits for RabbitMQ's confirms, and that a relay tries brokers in turn."""

REPLY_TIMEOUT = 5.0
"""Seconds that another broker has for a reply, unless the settings say otherwise."""

AMQP = ("amqp", "pyamqp", "amqps")


class Brokers:
    """Goes through the brokers in the order of `broker_failover_strategy`, as kombu iterates them.

    The next connection too passes over a broker that failed: so a dead one is not tried again
    before each of the others was.
    """

    def __init__(self, app: Celery, *, logs: bool = True) -> None:
        self._app = app
        self._logs = logs
        self._cycle: Iterator[str] | None = None
        self._url: str | None = None
        self._logged: str | None = None

    def connect(self) -> Any:
        """Connect to the next broker that answers; `OperationalError` when none does in time."""
        until = time.monotonic() + CONFIRM_TIMEOUT
        tries = 0
        while True:
            connection = self._next_connection()
            try:
                connection.ensure_connection(max_retries=0)
            except Exception as error:
                # Wrong passwords and missing drivers too: no row is at fault.
                self.pass_over()
                tries += 1
                if tries >= len(connection.alt) or time.monotonic() >= until:
                    raise OperationalError(f"{connection.as_uri()}: {error}") from error
            else:
                if self._logs:
                    self._log_change(connection.as_uri(), among=len(connection.alt))
                return connection

    def pass_over(self) -> None:
        """Make the next connection go to another broker, if there is one."""
        if self._cycle is not None:
            self._url = next(self._cycle)

    def _next_connection(self) -> Any:
        conf = self._app.conf
        connection = self._app.connection_for_write(
            connect_timeout=at_most(CONFIRM_TIMEOUT, conf.broker_connection_timeout)
        )
        self._cycle = self._cycle or connection.cycle
        if self._url is not None:
            connection.switch(self._url)
        connection.transport_options = bounded_options(connection)
        return connection

    def _log_change(self, uri: str, *, among: int) -> None:
        if self._logged is None and among:
            logger.info("The relay publishes to %s, of %d brokers", uri, among)
        elif self._logged not in (None, uri):
            logger.warning("The relay publishes to %s from now on, not to %s", uri, self._logged)
        self._logged = uri


def is_amqp(connection: Any) -> bool:
    """Return True if py-amqp speaks to the broker, so that there are confirms."""
    return connection.transport_cls in AMQP


def bounded_options(connection: Any) -> dict[str, Any]:
    """Return the transport's options, with a time limit on each request."""
    configured = connection.transport_options or {}
    if is_amqp(connection):
        names = ("read_timeout", "write_timeout")
        bounds = {name: at_most(CONFIRM_TIMEOUT, configured.get(name)) for name in names}
        # `Confirms` waits for the confirms of a batch together; py-amqp would after each publish.
        return {**configured, **bounds, "confirm_publish": False}
    seconds = at_most(CONFIRM_TIMEOUT, configured.get("socket_timeout", REPLY_TIMEOUT))
    options = {**configured, "socket_timeout": seconds}
    if connection.transport_cls == "sentinel":
        sentinel = configured.get("sentinel_kwargs") or {}
        options["sentinel_kwargs"] = {"socket_timeout": seconds, **without_retries(), **sentinel}
    return options


def without_retries() -> Mapping[str, Any]:
    """Return options with which redis-py tries each sentinel once; its default is ten times."""
    from redis.backoff import NoBackoff  # noqa: PLC0415 - may be missing
    from redis.retry import Retry  # noqa: PLC0415

    return {"retry": Retry(NoBackoff(), 0)}


def at_most(bound: float, configured: Any) -> float:
    """Return the configured seconds, at most `bound`; `bound` if none are configured."""
    return min(float(configured), bound) if configured else bound
