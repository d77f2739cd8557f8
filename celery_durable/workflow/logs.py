"""Tells log records which unit logged them.

`executing` holds the claim of the unit that executes in this context. Coroutines of a handler
inherit it; threads that a handler starts by itself do not, unless they are started with a copy of
its context (`contextvars.copy_context`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar

from celery_durable.core.claim import Claim
from celery_durable.settings import LOG_FIELDS

executing: ContextVar[Claim | None] = ContextVar("durable_executing", default=None)
"""The claim of the unit that this context executes."""

NOTHING = "-"
"""What a record says that no unit has logged."""


class RunFilter(logging.Filter):
    """A logging filter that lets all records pass, and tells them which unit logged them.

    A record gets the attributes `durable_run` (the run's id), `durable_workflow`, `durable_unit`
    and `durable_attempt`; each is "-" for a record that no unit has logged. Workers have it on the
    handlers that Celery makes. In a logging configuration of your own, put it on your handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Give the record its attributes, unless it has them from elsewhere; return True."""
        if not hasattr(record, LOG_FIELDS[0]):
            claim = executing.get()
            vars(record).update(_OF_NONE if claim is None else fields_of(claim))
        return True


def fields_of(claim: Claim) -> Mapping[str, object]:
    """Return the attributes of a record that is about the unit of this claim."""
    run, token = claim.run, claim.token
    return dict(
        zip(LOG_FIELDS, (str(run.id), run.workflow, token.unit, token.attempt), strict=True)
    )


_OF_NONE: Mapping[str, object] = dict.fromkeys(LOG_FIELDS, NOTHING)
