"""Ends runs whose deadlines have passed; a reaper calls it when it has seen that there are any."""

from __future__ import annotations

import logging

from celery_durable.store import deadlines
from celery_durable.store.connection import Connection

logger = logging.getLogger(__name__)


def enforce(connection: Connection, batch: int) -> int:
    """Have up to `batch` runs ended that took too long, and as many that expired; return how many.

    This puts commands into their inboxes. Those who follow the hints apply them, or recovery.
    """
    expired = deadlines.expire(connection, batch)
    for run in expired:
        logger.warning("Run %s of %s has not begun in time: it is cancelled", run.id, run.workflow)
    deadlines.keep_begun(connection, batch)
    timed_out = deadlines.time_out(connection, batch)
    for run in timed_out:
        logger.warning("Run %s of %s has reached its timeout: it fails", run.id, run.workflow)
    return len(expired) + len(timed_out)
