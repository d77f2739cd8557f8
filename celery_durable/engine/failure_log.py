"""Logs what has failed, so that Sentry and people see it."""

from __future__ import annotations

import logging
from typing import assert_never

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, Move, Outcome, Park
from celery_durable.core.event import Crashed, Failed
from celery_durable.errors import GiveUp
from celery_durable.workflow.logs import fields_of
from celery_durable.workflow.observing import Failure, Fate, failed, observers

logger = logging.getLogger(__name__)


def tell_failure(
    claim: Claim, event: Failed | Crashed, exception: BaseException | None, decision: Decision
) -> None:
    """Log a failure, and tell the observers; not that of a unit whose run was cancelled."""
    if any(record.outcome is Outcome.CANCELLED for record in decision.records):
        return
    failure = Failure(claim, event.error, exception, fate_of(claim, exception, decision))
    log_failure(failure, decision)
    if observers:
        failed(failure)


def fate_of(claim: Claim, exception: BaseException | None, decision: Decision) -> Fate:
    """Return what a failure leads to."""
    token, then = claim.token, decision.then
    if isinstance(then, Move) and then.token.unit == token.unit:
        return Fate.RETRIED
    if isinstance(then, Park):
        return Fate.PAUSED
    if isinstance(exception, GiveUp) and token.rollback is None:
        return Fate.GAVE_UP
    return Fate.FAILED


def log_failure(failure: Failure, decision: Decision) -> None:
    """Log a failure: a WARNING where the unit is tried again, else an ERROR with its traceback.

    A handler that gives up has decided it: nothing is wrong, and the run is rolled back as it was
    written. That is a WARNING too, except in a compensation.
    """
    claim, token = failure.claim, failure.claim.token
    what = f"{claim.run.workflow}.{token.unit} of run {claim.run.id}"
    error = f"{failure.error.type}: {failure.error.message}"
    about = fields_of(claim)
    match failure.fate:
        case Fate.RETRIED:
            assert isinstance(decision.then, Move)
            logger.warning(
                "%s failed at attempt %d, next in %.1f s: %s",
                what,
                token.attempt,
                decision.then.delay,
                error,
                extra=about,
            )
        case Fate.PAUSED:
            logger.error(
                "%s has used up its tries at attempt %d, and is paused: %s",
                what,
                token.attempt,
                error,
                exc_info=failure.exception,
                extra=about,
            )
        case Fate.GAVE_UP:
            logger.warning(
                "%s gave up at attempt %d: %s",
                what,
                token.attempt,
                failure.error.message,
                extra=about,
            )
        case Fate.FAILED:
            logger.error(
                "%s failed for good at attempt %d: %s",
                what,
                token.attempt,
                error,
                exc_info=failure.exception,
                extra=about,
            )
        case _:
            assert_never(failure.fate)
