"""Counts what units and runs have come to, for `core.metrics`.

Runs are counted as a worker begins with them, executions as they end, all else when it is
committed, where signals are sent, too.
"""

from __future__ import annotations

from celery_durable.core import metrics
from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, End, JournalRecord, Move, Outcome
from celery_durable.core.event import Event, Failed, Succeeded, Suspended
from celery_durable.core.names import shared_name
from celery_durable.core.token import Token
from celery_durable.process.tally import Tally


def label_of(of: Token | JournalRecord, *, is_undone: bool) -> str:
    """Return how a unit is called in metrics: all items of a node alike."""
    return shared_name(of.unit, of.node, of.part, of.position, is_undone=is_undone)


def begun(tally: Tally, claim: Claim) -> None:
    """Count the run if a worker begins with it by this claim, whatever its first node is."""
    token = claim.token
    if claim.is_first and token.parent is None and token.rollback is None:
        tally.add(metrics.RUNS_STARTED.name, claim.run.workflow)


def executed(tally: Tally, claim: Claim, event: Event, seconds: float) -> None:
    """Count an execution of a step; functions between steps are not asked about."""
    run, token = claim.run, claim.token
    match event:
        case Succeeded():
            outcome = "completed"
        case Failed():
            outcome = "failed"
        case Suspended():
            outcome = "suspended"
        case _:  # nothing of the user's has been executed, or next to nothing
            return
    unit = label_of(token, is_undone=token.rollback is not None)
    labels = (run.workflow, unit, outcome)
    tally.add(metrics.SECONDS_IN_BUCKET, *labels, metrics.bucket_of(seconds))
    tally.add(metrics.SECONDS_IN_ALL, *labels, by=seconds)


def committed(tally: Tally, claim: Claim, decision: Decision, event: Event | None = None) -> None:
    """Count what a committed decision has come to."""
    workflow, token, then = claim.run.workflow, decision.token, decision.then
    is_undone = token.rollback is not None
    for record in decision.records:
        if record.outcome is Outcome.FAILED:
            failures = metrics.COMPENSATION_FAILURES if is_undone else metrics.UNIT_FAILURES
            unit = label_of(record, is_undone=is_undone)
            tally.add(failures.name, workflow, unit)
    if isinstance(then, End):
        assert decision.run is not None
        tally.add(metrics.RUNS_ENDED.name, workflow, str(decision.run.status))
    elif isinstance(event, Failed) and isinstance(then, Move) and then.token.unit == token.unit:
        unit = label_of(token, is_undone=is_undone)
        tally.add(metrics.UNIT_RETRIES.name, workflow, unit)
