"""The connection through which a relay publishes: to one broker of those that the settings name.

Each is given a bounded time for whatever it is asked, so that one that accepts and does not answer
holds a relay up no longer than one that is gone.
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
"""Seconds a batch waits for RabbitMQ's confirms, and a relay for one broker after the other."""

REPLY_TIMEOUT = 5.0
"""Seconds another broker has for a reply, where the settings do not say."""

AMQP = ("amqp", "pyamqp", "amqps")


class Brokers:
    """Goes from broker to broker as `broker_failover_strategy` says; kombu's `Connection` does.

    A broker that failed is passed over, also by the next connection: so no dead one is asked again
    before each of the others was.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._cycle: Iterator[str] | None = None
        self._url: str | None = None
        self._used: str | None = None

    def connect(self) -> Any:
        """Connect to the next broker that answers; `OperationalError` when none does in time."""
        until = time.monotonic() + CONFIRM_TIMEOUT
        tries = 0
        while True:
            connection = self._prepared()
            try:
                connection.ensure_connection(max_retries=0)
            except Exception as error:
                # Wrong passwords and missing drivers too: it is no row's fault.
                self.pass_over()
                tries += 1
                if tries >= len(connection.alt) or time.monotonic() >= until:
                    raise OperationalError(f"{connection.as_uri()}: {error}") from error
            else:
                self._say(connection.as_uri(), among=len(connection.alt))
                return connection

    def pass_over(self) -> None:
        """The next connection is to another broker, if there is one."""
        if self._cycle is not None:
            self._url = next(self._cycle)

    def _prepared(self) -> Any:
        conf = self._app.conf
        connection = self._app.connection_for_write(
            connect_timeout=at_most(CONFIRM_TIMEOUT, conf.broker_connection_timeout)
        )
        self._cycle = self._cycle or connection.cycle
        if self._url is not None:
            connection.switch(self._url)
        connection.transport_options = bounded_options(connection)
        return connection

    def _say(self, uri: str, *, among: int) -> None:
        if self._used is None and among:
            logger.info("The relay publishes to %s, of %d brokers", uri, among)
        elif self._used not in (None, uri):
            logger.warning("The relay publishes to %s from now on, not to %s", uri, self._used)
        self._used = uri


def is_amqp(connection: Any) -> bool:
    """Whether py-amqp speaks to the broker, so that there are confirms."""
    return connection.transport_cls in AMQP


def bounded_options(connection: Any) -> dict[str, Any]:
    """The transport's options, with a bound on all that is waited for."""
    given = connection.transport_options or {}
    if is_amqp(connection):
        names = ("read_timeout", "write_timeout")
        bounds = {name: at_most(CONFIRM_TIMEOUT, given.get(name)) for name in names}
        # Confirms are counted by `Confirms`, a batch at a time, not waited for one by one.
        return {**given, **bounds, "confirm_publish": False}
    seconds = at_most(CONFIRM_TIMEOUT, given.get("socket_timeout", REPLY_TIMEOUT))
    options = {**given, "socket_timeout": seconds}
    if connection.transport_cls == "sentinel":
        theirs = {"socket_timeout": seconds, **once(), **(given.get("sentinel_kwargs") or {})}
        options["sentinel_kwargs"] = theirs
    return options


def once() -> Mapping[str, Any]:
    """What has redis-py ask a sentinel once, and then the next; it asks ten times by itself."""
    from redis.backoff import NoBackoff  # noqa: PLC0415 - may be missing
    from redis.retry import Retry  # noqa: PLC0415

    return {"retry": Retry(NoBackoff(), 0)}


def at_most(bound: float, given: Any) -> float:
    """The seconds that are given, within the bound; the bound where none are."""
    return min(float(given), bound) if given else bound
