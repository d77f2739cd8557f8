"""The Celery tasks. Their messages carry ids only, and their results are ignored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import EllipsisType
from typing import Any
from uuid import UUID

from celery import Celery, Task
from celery.exceptions import Reject

from celery_durable.background import pruning
from celery_durable.client import SCHEDULE_TAG
from celery_durable.engine.report import Report
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.store import workers
from celery_durable.store.outbox import ADVANCE, COMPENSATE
from celery_durable.worker import process
from celery_durable.worker.configuration import serializer_of
from celery_durable.worker.host import Host
from celery_durable.worker.publisher import ORIGIN_HEADER
from celery_durable.workflow import observing

logger = logging.getLogger(__name__)

RECOVER = "durable.recover"
PRUNE = "durable.prune"
START = "durable.start"

STARTS_WITHIN = 600.0
"""Seconds that a start waits for Postgres before its message, unacknowledged until then, goes back
into the queue. Not fewer: a quorum queue drops a message that has come back twenty times.
"""

OWN_OPTIONS: Mapping[str, Any] = {
    # A message is acknowledged late, and rejected when the process dies, so that it is never lost
    # with its worker. Without `reject_on_worker_lost` Celery acknowledges that of a killed child.
    "acks_late": True,
    "acks_on_failure": True,
    "acks_on_timeout": True,
    "acks_on_failure_or_timeout": True,
    "reject_on_worker_lost": True,
    "retry_on_worker_lost": False,
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "store_eager_result": False,
    "track_started": False,
    "max_retries": None,
    "autoretry_for": (),
    "throws": (),
    "rate_limit": None,
    "expires": None,
    "time_limit": None,
    "soft_time_limit": None,
    "priority": None,
    "queue": None,
    "exchange": None,
    "exchange_type": None,
    "routing_key": None,
    "delivery_mode": None,
    "compression": None,
    "immediate": None,
    "mandatory": None,
    "Strategy": Task.Strategy,
    "Request": "celery_durable.worker.request:LastingRequest",
}
"""How our messages are sent and taken, whatever the options of the app's other tasks."""


def keep_own_options(**exceptions: Any) -> Any:
    """Return the hook `on_bound` of a task of ours.

    A task takes options from its base class, from `task_*` settings and from `task_annotations`,
    and Celery 5.7 sends the options of a known task with every message that names it. Methods of
    the base class and of annotations (`__call__`, `on_failure`, ...) stay.
    """

    def on_bound(cls: Any, app: Any) -> None:
        super(cls, cls).on_bound(app)
        own = {**OWN_OPTIONS, "serializer": serializer_of(app.conf) or "json", **exceptions}
        for name, value in own.items():
            setattr(cls, name, value)

    return classmethod(on_bound)


def register(durable: Host, app: Celery) -> None:
    """Define the tasks in `app`."""
    own: dict[str, Any] = {"shared": False, "on_bound": keep_own_options(), "autoretry_for": ()}

    @app.task(name=ADVANCE, bind=True, **own)
    def advance(task: Task, token_id: str, *more: str) -> Report | None:
        """Advance a token, and each of `more`; return what was done, which is logged."""
        with process.soft_limit_held_off():
            return follow(durable, task, token_id, *more)

    @app.task(name=COMPENSATE, bind=True, **own)
    def compensate(task: Task, token_id: str) -> Report | None:
        """Advance a token of a run in rollback: the same work, under a name that says so."""
        with process.soft_limit_held_off():
            return follow(durable, task, token_id)

    @app.task(name=RECOVER, **own)
    def recover() -> None:
        """Reap the claims of dead workers and send lost hints again."""
        recover_unless_away(durable)

    @app.task(name=PRUNE, **own)
    def prune(older_than: float | None = None, status: str | None = None) -> None:
        """Delete runs that ended long ago, `older_than` in seconds; see `Durable.prune`.

        Without arguments it is what relays do by themselves.
        """
        prune_unless_away(durable, older_than, status)

    own["on_bound"] = keep_own_options(ignore_result=False)

    @app.task(name=START, bind=True, **own)
    def start(
        task: Task,
        input: Any = None,
        *,
        workflow: str,
        version: int | None = None,
        key: str | None = None,
        schedule: str | None = None,
        overlap: str = "allow",
    ) -> str | None:
        """Start a run, from beat or an ordinary canvas; return its id, or None if it was skipped.

        It is one of the highest version by default. A message that is delivered twice starts one
        run. With a `schedule` name and
        `overlap="skip"` nothing is started while a run of that schedule is unfinished.
        """
        skips = skips_overlap(schedule, overlap)
        key = key or f"message-{task.request.id}"

        def start() -> UUID | None:
            if skips and schedule is not None:
                return durable.start_alone(
                    workflow, input, key=key, schedule=schedule, version=version
                )
            tags = {SCHEDULE_TAG: schedule} if schedule else None
            return durable.start(workflow, input, key=key, version=version, tags=tags).id

        try:
            started = Retrying(durable.database, STARTS_WITHIN).until_answered(start)
        except DatabaseUnavailable as error:
            # Back into the queue, and not as a new message, which the broker might lose.
            raise Reject(str(error), requeue=True) from error
        return None if started is None else str(started)


def follow(durable: Host, task: Task, *token_ids: object) -> Report | None:
    """Follow the hints of a message, and return what it has done; None if it names no token.

    What names no token is dropped: it is not from us.
    """
    tokens = []
    for token_id in token_ids:
        try:
            tokens.append(UUID(str(token_id)))
        except ValueError:
            logger.warning(
                "A message %s names no token: %.100r; it is dropped", task.name, token_id
            )
    if not tokens:
        return None
    report = durable.engine.advance_together(tokens, limit_of(task), sender_of(task))
    if observing.observers:
        observing.followed(report.followed())
    return report


def recover_unless_away(durable: Host) -> None:
    """Recover; in an outage only log it, once for the process, since the task comes again."""
    try:
        durable.recover()
    except DatabaseUnavailable as error:
        durable.database.outage.notice(error)
    else:
        durable.database.outage.is_over()


def prune_unless_away(durable: Host, older_than: float | None, status: str | None) -> None:
    """Prune; in an outage only log it, once for the process, since the task comes again.

    A worker that shuts down does not wait for the end: what is left, the next message deletes.
    """
    ages = pruning.ages_of(durable.settings.retention, older_than, status)
    pruned = 0
    try:
        for runs in pruning.Pruner(durable.database, ages).prune():
            pruned += runs
            if is_stopping(durable):
                break
    except DatabaseUnavailable as error:
        durable.database.outage.notice(error)
    else:
        durable.database.outage.is_over()
    logger.info("Pruned %d runs", pruned)


def is_stopping(durable: Host) -> bool:
    """Return True if this process is a worker's, and the worker shuts down."""
    if not process.is_worker_of(durable.app):
        return False
    with durable.database.autocommit() as connection:
        return workers.is_draining(connection, durable.liveness.worker_id())


def sender_of(task: Task) -> str | None:
    """Return the origin that the executing message names; None if no relay has sent it."""
    found = task.request.get(ORIGIN_HEADER)
    return found if isinstance(found, str) else None


def limit_of(task: Task) -> float | EllipsisType | None:
    """Return the soft time limit of the executing message, in seconds; `...` without a message.

    Celery writes both limits into every message; a task that is called in place has no message.
    """
    limits = task.request.timelimit
    return ... if limits is None else limits[1]


def skips_overlap(schedule: str | None, overlap: str) -> bool:
    """Return True if nothing may be started while a run of the schedule is unfinished."""
    if overlap not in ("allow", "skip"):
        raise ConfigurationError(f"overlap= takes 'allow' or 'skip', not {overlap!r}.")
    if overlap == "skip" and not schedule:
        raise ConfigurationError("overlap='skip' needs a schedule= name to know its runs by.")
    return overlap == "skip"
