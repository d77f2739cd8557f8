"""The Celery tasks. Their messages carry ids only, and their results are ignored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import EllipsisType
from typing import Any
from uuid import UUID

from celery import Celery, Task
from celery.exceptions import Reject

from celery_durable.client import SCHEDULE_TAG
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.store.outbox import ADVANCE, COMPENSATE
from celery_durable.worker import process
from celery_durable.worker.configuration import serializer_of
from celery_durable.worker.host import Host
from celery_durable.worker.publisher import ORIGIN_HEADER

logger = logging.getLogger(__name__)

RECOVER = "durable.recover"
START = "durable.start"

STARTS_WITHIN = 600.0
"""Seconds for which a start waits for Postgres, its message unacknowledged, before that goes back
into the queue. Not fewer: a quorum queue drops what has come back twenty times.
"""

OWN_OPTIONS: Mapping[str, Any] = {
    # Acknowledged late, and given back when the process dies: a message is never lost with its
    # worker. Without `reject_on_worker_lost` Celery acknowledges the message of a killed child.
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
"""How our messages are sent and taken, whatever other tasks of the app have."""


def keep_own_options(**exceptions: Any) -> Any:
    """The hook `on_bound` of a task of ours.

    A task takes options from its base class, from `task_*` settings and from `task_annotations`,
    and Celery 5.7 sends the options of a known task with every message that names it. What the base
    class and annotations do besides (`__call__`, `on_failure`, ...) stays.
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
    def advance(task: Task, token_id: str, *more: str) -> None:
        """Look at a token, and at each of `more`."""
        with process.soft_limit_held_off():
            for one in (token_id, *more):
                follow(durable, task, one)

    @app.task(name=COMPENSATE, bind=True, **own)
    def compensate(task: Task, token_id: str) -> None:
        """Look at a token of a run that is rolled back: the same work under a telling name."""
        with process.soft_limit_held_off():
            follow(durable, task, token_id)

    @app.task(name=RECOVER, **own)
    def recover() -> None:
        """Free what dead workers had claimed and send lost hints again."""
        recover_unless_away(durable)

    own["on_bound"] = keep_own_options(ignore_result=False)

    @app.task(name=START, bind=True, **own)
    def start(
        task: Task,
        input: Any = None,
        *,
        workflow: str,
        key: str | None = None,
        schedule: str | None = None,
        overlap: str = "allow",
    ) -> str | None:
        """Start a run, so that beat and ordinary canvases can; its id, or None when it was skipped.

        A message that is delivered twice starts one run. With a `schedule` name and
        `overlap="skip"` nothing is started while a run of that schedule is unfinished.
        """
        is_alone = must_be_alone(schedule, overlap)
        key = key or f"message-{task.request.id}"

        def start() -> UUID | None:
            if is_alone and schedule is not None:
                return durable.start_alone(workflow, input, key=key, schedule=schedule)
            tags = {SCHEDULE_TAG: schedule} if schedule else None
            return durable.start(workflow, input, key=key, tags=tags).id

        try:
            started = Retrying(durable.database, STARTS_WITHIN).until_answered(start)
        except DatabaseUnavailable as error:
            # Back into the queue: not by a new message, which the broker might lose.
            raise Reject(str(error), requeue=True) from error
        return None if started is None else str(started)


def follow(durable: Host, task: Task, token_id: object) -> None:
    """Look at a token. A message that names none is dropped: nobody of ours has sent it."""
    try:
        known = UUID(str(token_id))
    except ValueError:
        logger.warning("A message %s names no token: %.100r; it is dropped", task.name, token_id)
        return
    durable.engine.advance(known, limit_of(task), origin_of(task))


def recover_unless_away(durable: Host) -> None:
    """In an outage nothing is recovered, and the process says so once: the task comes again."""
    try:
        durable.recover()
    except DatabaseUnavailable as error:
        durable.database.outage.notice(error)
    else:
        durable.database.outage.is_over()


def origin_of(task: Task) -> str | None:
    """The schema whose relay has sent the message in hand; None where another has sent it."""
    found = task.request.get(ORIGIN_HEADER)
    return found if isinstance(found, str) else None


def limit_of(task: Task) -> float | EllipsisType | None:
    """The soft time limit of the message in hand, in seconds; `...` where there is no message.

    Celery writes both limits into every message; a task that is called in place has none.
    """
    limits = task.request.timelimit
    return ... if limits is None else limits[1]


def must_be_alone(schedule: str | None, overlap: str) -> bool:
    """Whether nothing is to be started while a run of the schedule is unfinished."""
    if overlap not in ("allow", "skip"):
        raise ConfigurationError(f"overlap= takes 'allow' or 'skip', not {overlap!r}.")
    if overlap == "skip" and not schedule:
        raise ConfigurationError("overlap='skip' needs a schedule= name to know its runs by.")
    return overlap == "skip"
