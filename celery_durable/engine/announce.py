"""Sends the signals of `celery_durable.signals` for what this process has committed.

What a decision is announced as is told by `announcements`, which matches on it. Nothing is made
while nobody is connected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from celery_durable import signals
from celery_durable.core.child import NewRun
from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision, End, Move, Outcome, Park
from celery_durable.core.event import Event, Failed
from celery_durable.core.status import Status
from celery_durable.core.token import ForOperator, Token
from celery_durable.core.values import value
from celery_durable.signals import Signal


@value(frozen=True, slots=True)
class Announcement:
    """A signal that is to be sent, and its arguments."""

    signal: Signal
    workflow: str
    arguments: Mapping[str, Any]

    def send(self) -> None:
        """Call the receivers."""
        self.signal.send(self.workflow, workflow=self.workflow, **self.arguments)


class Announcer:
    """Keeps what is to be announced until a thread that executes units sends it.

    The guard commits too, and a receiver, which may take long, must not hold it up: then it would
    look after no bundle of its process.
    """

    def __init__(self) -> None:
        self._pending: deque[Announcement] = deque()

    def committed(self, claim: Claim, decision: Decision, event: Event | None = None) -> None:
        """Keep what is to be announced of a decision that is committed; without an `event`, of a
        unit that has succeeded.
        """
        if signals.are_heard():
            self._pending.extend(announcements(claim, decision, event))

    def send(self) -> None:
        """Send what is pending. Called between two units, by the thread that executes them."""
        while self._pending:
            try:
                next_one = self._pending.popleft()
            except IndexError:  # another thread was quicker
                return
            next_one.send()


def announcements(  # noqa: C901 - a table of cases
    claim: Claim, decision: Decision, event: Event | None = None
) -> Iterator[Announcement]:
    """Yield what is announced of a decision, in the order in which it came about."""
    run, token, then = claim.run, decision.token, decision.then

    def announced(signal: Signal, **arguments: Any) -> Announcement:
        about = {"run_id": run.id, "version": run.version, **arguments}
        return Announcement(signal, run.workflow, about)

    for record in decision.records:
        if record.outcome is Outcome.FAILED:
            of_unit = {"unit": record.unit, "attempt": record.attempt, "error": record.error}
            yield announced(signals.unit_failed, **of_unit)
    if isinstance(decision.starts, NewRun):
        yield started(decision.starts)
    match then:
        case Move() if isinstance(event, Failed) and then.token.unit == token.unit:
            of_attempt = {"attempt": token.attempt, "error": event.error, "delay": then.delay}
            yield announced(signals.unit_retried, unit=token.unit, **of_attempt)
        case Park(token=Token(wait=ForOperator(), failures=(*_, last))):
            yield announced(signals.run_paused, unit=token.unit, error=last.error)
        case End():
            assert decision.run is not None
            match decision.run.status:
                case Status.COMPLETED:
                    yield announced(signals.run_completed)
                case Status.FAILED:
                    yield announced(signals.run_failed, error=decision.run.error or run.error)
                case Status.CANCELLED:
                    yield announced(signals.run_cancelled)
                case _:
                    raise AssertionError(decision.run)
        case _:
            pass


def started(new: NewRun) -> Announcement:
    """Return what is announced of a run that has been started."""
    parent: UUID | None = None if new.parent is None else new.parent.run_id
    about = {"run_id": new.id, "version": new.version, "key": new.key, "parent_run_id": parent}
    return Announcement(signals.run_started, new.workflow, about)


def announce_started(runs: Iterable[NewRun]) -> None:
    """Announce runs that this process has started and committed."""
    if signals.run_started.receivers:
        for new in runs:
            started(new).send()
