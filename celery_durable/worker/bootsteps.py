"""The boot step that adds a relay to a Celery worker, and what it checks before."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import bootsteps
from celery.platforms import EX_FAILURE

from celery_durable.background.relay import Relay
from celery_durable.database import schema
from celery_durable.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DurableError,
    InvalidWorkflow,
    UnknownWorkflow,
)
from celery_durable.store import definitions
from celery_durable.worker import process
from celery_durable.worker.configuration import check_configuration
from celery_durable.worker.host import Host
from celery_durable.worker.lifecycle import Lifecycle
from celery_durable.worker.loggers import enable_loggers
from celery_durable.worker.publisher import KombuPublisher, origin_of
from celery_durable.worker.queues import QueueChanges, consumes_durable, warn_of_missing
from celery_durable.worker.reconnect import restore_prefetch_in_main_thread
from celery_durable.worker.request import follow_cold_shutdown

logger = logging.getLogger(__name__)

STOP_WITHIN = 15.0
"""Seconds that a worker waits for its relay as it shuts down."""


def refuse_unsupported(worker: Any) -> None:
    """Raise `ConfigurationError` on a pool or platform that this library does not run on."""
    pool = worker.pool_cls.__module__
    if "eventlet" in pool:
        raise ConfigurationError(
            "durable workers do not run on the eventlet pool: psycopg blocks its hub."
            " Use prefork, threads, solo or gevent."
        )
    if sys.platform == "win32":
        raise ConfigurationError(
            "durable workers do not run on Windows, which Celery does not support either."
            " Run them on Linux or macOS; clients may run anywhere."
        )


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Exit on a `ConfigurationError`: its message says what to do, so there is no traceback."""
    try:
        yield
    except ConfigurationError as error:
        logger.critical("This worker cannot start: %s", error)
        raise SystemExit(EX_FAILURE) from error


class RelayStep(bootsteps.StartStopStep):
    """Checks what durable runs need, then runs a relay in a thread for as long as the worker runs.

    A worker that consumes no durable queue does neither, until one is added. This is a step of the
    worker, since a step of the consumer is restarted with every broker reconnect.
    """

    # Starts after the pool's first fork. The order of unrelated steps is that of a set.
    requires = ("celery.worker.components:Pool",)

    durable: Host
    lifecycle: Lifecycle

    def __init__(self, worker: Any, durable_relay: bool = True, **options: Any) -> None:
        enable_loggers()
        process.remember_worker(worker, self.durable.modules)
        self.worker = worker
        self.app = worker.app
        with exit_in_one_line():
            self.consumes = consumes_durable(self.durable, worker.app)
        self.relays = durable_relay
        self.relay: Relay | None = None
        self.thread: threading.Thread | None = None
        self.changes = QueueChanges(self.durable, worker.app, self.on_queues_changed)

    def start(self, parent: Any) -> None:
        self.changes.follow(parent.consumer)
        follow_cold_shutdown(parent.consumer)
        restore_prefetch_in_main_thread(parent.consumer)
        if self.consumes:
            with exit_in_one_line():
                self.begin()
        threading.Thread(
            target=self.warn_of_missing_queues, name="durable-missing", daemon=True
        ).start()

    def begin(self) -> None:
        """Check what durable runs need, and start the relay."""
        refuse_unsupported(self.worker)
        check_configuration(self.durable, self.app)
        check_schema(self.durable)
        store_plans(self.durable)
        check_children(self.durable)
        if self.relays:
            publisher = KombuPublisher(self.app, partial(origin_of, self.durable.database))
            self.relay = Relay(
                self.durable.database,
                publisher,
                self.durable.settings,
                process.slots_of(self.worker),
                str(self.worker.hostname),
            )
            self.thread = threading.Thread(target=self.relay.run, name="durable-relay", daemon=True)
            self.thread.start()
            atexit.register(self.finish)

    def warn_of_missing_queues(self) -> None:
        """Runs in a thread: a worker of other queues starts without waiting for Postgres."""
        warn_of_missing(self.durable, self.app)
        if not self.consumes:
            self.durable.database.close()

    def on_queues_changed(self) -> None:
        """Called after remote control has changed the queues: start once a durable one is added."""
        if self.consumes or not consumes_durable(self.durable, self.app):
            return
        try:
            self.begin()
            self.consumes = True
        except DurableError as error:
            # No traceback: the message says what to do.
            logger.error("This worker consumes a durable queue but cannot serve it: %s", error)  # noqa: TRY400

    def stop(self, parent: Any) -> None:
        """Do nothing yet: the pool still drains, and what it commits has to be published."""

    def finish(self) -> None:
        """Called when the pool has ended: publish what it has left in the outbox, and stop."""
        self.changes.stop()
        atexit.unregister(self.finish)
        if self.relay is not None and self.thread is not None:
            self.relay.stop()
            self.thread.join(STOP_WITHIN)
            self.relay = self.thread = None

    def terminate(self, parent: Any) -> None:
        if self.relay is not None:
            self.relay.stop()
        self.lifecycle.on_terminated(parent)

    def info(self, obj: Any) -> Any:
        if not self.consumes:
            return {}
        published, outage = (
            (self.relay.published, self.relay.trouble) if self.relay else (None, None)
        )
        said = {"running": self.relay is not None, "published": published, "outage": outage}
        return {"durable_relay": said}


def relay_step(durable: Host, lifecycle: Lifecycle) -> type[RelayStep]:
    """Return the boot step of `durable`'s app: a class for each app, since Celery takes a class."""

    class DurableRelay(RelayStep):
        pass

    DurableRelay.durable, DurableRelay.lifecycle = durable, lifecycle
    return DurableRelay


def check_schema(durable: Host) -> None:
    """Refuse to start on a missing or old schema; only warn if Postgres is away."""
    try:
        schema.check(durable.database.engine, durable.settings.schema)
    except DatabaseUnavailable as error:
        logger.warning("The schema could not be checked: %s", error)


def store_plans(durable: Host) -> None:
    """Store the plans for processes that do not import the app.

    Warn of nodes that have changed and where runs of the earlier definition stand.
    """
    try:
        with durable.database.autocommit() as connection:
            for workflow in durable.registry:
                for node in definitions.reconcile(connection, workflow.plan, durable.settings):
                    logger.warning(
                        "%r was changed at or before node %r, where runs stand; only workers with"
                        " the earlier definition continue them",
                        workflow,
                        node,
                    )
    except DatabaseUnavailable as error:
        logger.warning("The plans could not be stored: %s", error)


def check_children(durable: Host) -> None:
    """Refuse to start with a workflow that has an unknown child."""
    try:
        for workflow in durable.registry:
            for name, version in workflow.children:
                check_child(durable, workflow.name, name, version)
    except DatabaseUnavailable as error:
        logger.warning("The children of workflows could not be checked: %s", error)


def check_child(durable: Host, parent: str, name: str, version: int | None) -> None:
    """Raise `InvalidWorkflow` for a child that is neither defined here nor stored."""
    try:
        durable.run_factory.outline(name, version)
    except UnknownWorkflow as error:
        raise InvalidWorkflow(f"Workflow {parent!r} runs {name!r} as a child. {error}") from error
