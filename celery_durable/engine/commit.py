"""Deciding and committing: an event goes in, and the claim comes out again if we go straight on.

A commit that finds a flag raised decides again with it in view. A commit whose answer was lost is
sent again: its statement finds the token moved on and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

from celery_durable.core.admit import RELEASE_FIRST
from celery_durable.core.claim import Claim
from celery_durable.core.decide import decide
from celery_durable.core.decision import (
    Decided,
    Decision,
    End,
    Fork,
    Leave,
    Move,
    Outcome,
    Park,
    Then,
)
from celery_durable.core.event import ChildRequested, Crashed, Event, Failed
from celery_durable.core.plan import Routing
from celery_durable.core.rollback import compensate
from celery_durable.core.token import Flags, ForSignal
from celery_durable.engine.claims import Claims
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import GiveUp, PayloadError
from celery_durable.settings import Settings
from celery_durable.store import journal
from celery_durable.store.commit import statement
from celery_durable.store.commit.parameters import Routed
from celery_durable.store.commit.statement import (
    ChildRefused,
    ClaimLost,
    FlagRaised,
    RecordedBefore,
    SignalGone,
    Written,
    WrittenBefore,
)
from celery_durable.store.connection import Connection
from celery_durable.store.sqlstates import Hindered
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution
from celery_durable.workflow.failures import failure_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one message may do before its run goes back to the broker."""

    steps: int
    until: float

    @classmethod
    def of(cls, settings: Settings) -> Budget:
        """What a message may do that has just come."""
        return cls(settings.inline_steps, time.monotonic() + settings.inline_seconds)

    def after_one(self) -> Budget:
        """What is left once a unit has been executed."""
        return replace(self, steps=self.steps - 1)

    @property
    def is_used_up(self) -> bool:
        """Whether nothing more may begin."""
        return self.steps <= 0 or time.monotonic() >= self.until


@dataclass(frozen=True, slots=True)
class Attempt:
    """A worker's attempt at the unit of its claim; `budget` is what is left for its message."""

    workflow: Workflow
    claim: Claim
    budget: Budget
    began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        """The database's time: what it said when we claimed, and what has passed since."""
        return self.claim.seen_at + timedelta(seconds=time.monotonic() - self.began)

    def given(self, input: str | None) -> Attempt:
        """The same, with the input that was made for a loop's first iteration."""
        if input is None or input == self.claim.token.input:
            return self
        return replace(
            self, claim=replace(self.claim, token=replace(self.claim.token, input=input))
        )

    def with_flags(self, flags: Flags) -> Attempt:
        """The same, with what others ask of the token in view."""
        return replace(
            self, claim=replace(self.claim, token=replace(self.claim.token, flags=flags))
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """A decision, and what came of committing it."""

    decision: Decision
    routed: Routed | None
    outcome: Written | WrittenBefore | RecordedBefore | ClaimLost | SignalGone


class Committer:
    """Writes what became of units."""

    def __init__(
        self,
        settings: Settings,
        retrying: Retrying,
        settling: Retrying,
        claims: Claims,
        stop_offering: Callable[[Claim], None],
    ) -> None:
        self._settings = settings
        self._retrying = retrying
        self._long_retrying = settling
        self._claims = claims
        self._stop_offering = stop_offering

    def settle(self, attempt: Attempt, execution: Execution) -> Claim | None:
        """Commit what became of a unit; the claim again if the worker goes straight on with the
        next.

        What Postgres will not take has failed: the same would be refused after every execution.
        """
        try:
            written = self._written(attempt, execution, self._long_retrying)
        except ChildRefused:
            # Nothing is written, and the cancel is on its way to this run too.
            self._claims.release(attempt.claim, RELEASE_FIRST)
            return None
        except (PayloadError, Hindered) as error:
            failed = failure_of(attempt.workflow, attempt.claim, error)
            execution = Execution(failed, error)
            written = self._written(attempt, execution, self._retrying)
        return self.after(attempt, execution, written)

    def _written(self, attempt: Attempt, execution: Execution, retrying: Retrying) -> Committed:
        def write(connection: Connection) -> Committed | None:
            return self.write(connection, attempt, execution.event)

        written = retrying.ask(write, together=isinstance(execution.event, ChildRequested))
        assert written is not None
        return written

    def write(
        self,
        connection: Connection,
        attempt: Attempt,
        event: Event,
        *,
        in_transaction: bool = False,
    ) -> Committed | None:
        """Decide, and commit the decision; while flags go up meanwhile, decide again with them in
        view.

        None when the step's own transaction must not be committed: its unit shall not be recorded.
        """
        while True:
            token = attempt.claim.token
            decided = decide(attempt.workflow.plan, token, event, attempt.now)
            decision = self._compensating(connection, attempt, decided)
            if in_transaction and not decision.keeps:
                return None
            decision = self._placed(attempt.claim, decision)
            routed = self._routed(attempt, decision)
            match statement.commit(connection, attempt.claim, decision, routed):
                case FlagRaised(flags):
                    attempt = attempt.with_flags(flags)
                case Written() | RecordedBefore() as outcome:
                    return Committed(decision, routed, outcome)
                case WrittenBefore() | ClaimLost() | SignalGone() as outcome:
                    return None if in_transaction else Committed(decision, routed, outcome)
                case never:
                    assert_never(never)

    def _compensating(self, connection: Connection, attempt: Attempt, decided: Decided) -> Decision:
        """Look up what is to be undone next, where the run is rolled back."""
        if isinstance(decided, Decision):
            return decided
        undo = decided.recorded or journal.next_undo(connection, attempt.claim.token)
        return compensate(attempt.workflow.plan, decided, undo)

    def _routed(self, attempt: Attempt, decision: Decision) -> Routed | None:
        """Where the token's message goes; None when we go straight on, or no token is left."""
        claim, then = attempt.claim, decision.then
        match then:
            case End() | Leave():
                return None
            case Fork():
                return self._at(claim, Routing())
            case Park():
                return self._at(claim, then.routing)
            case Move():
                routed = self._at(claim, then.routing)
                # A time limit holds for a whole message.
                is_timed = routed.time_limit is not None or claim.time_limit is not None
                is_here = (routed.queue, routed.priority) == (claim.queue, claim.priority)
                may_go_on = is_here and not is_timed and not attempt.budget.is_used_up
                return None if may_go_on and then.delay <= 0 else routed
            case _:
                assert_never(then)

    def _placed(self, claim: Claim, decision: Decision) -> Decision:
        """The decision with the places of new branches filled in."""
        then = decision.then
        if not isinstance(then, Fork):
            return decision
        places = {branch.routing for branch in then.branches}
        known = {place: self._at(claim, place) for place in places}
        placed = tuple(
            replace(branch, routing=Routing(at.queue, at.priority, at.time_limit))
            for branch in then.branches
            for at in (known[branch.routing],)
        )
        return replace(decision, then=replace(then, branches=placed))

    def _at(self, claim: Claim, routing: Routing) -> Routed:
        priority = claim.run.priority if routing.priority is None else routing.priority
        return Routed(routing.queue or self._settings.queue, priority, routing.time_limit)

    def after(self, attempt: Attempt, execution: Execution, written: Committed) -> Claim | None:
        """Log, wake the relays, and say what the worker has in hand now."""
        claim, decision, committed = attempt.claim, written.decision, written.outcome
        if isinstance(committed, ClaimLost) and self._was_committed(claim, decision):
            committed = WrittenBefore()
        if isinstance(committed, ClaimLost | RecordedBefore | SignalGone):
            self._give_back(claim, committed)
            return None
        log_failure(claim, execution, decision)
        if isinstance(committed, WrittenBefore):
            # Under which decision of ours we cannot know: let it be looked at where it stands.
            self._claims.abandon(claim)
            return self._waiting(claim, decision.then)
        then = decision.then
        if not isinstance(then, Move):
            if not isinstance(then, End) or claim.run.parent_token is not None:
                self._claims.notify_of(0.0)
            return self._waiting(claim, then)
        if written.routed is not None:
            self._claims.notify_of(then.delay)
            return None
        status, error = claim.run.status, claim.run.error
        if decision.run is not None:
            status, error = decision.run.status, decision.run.error or error
        return replace(
            claim,
            token=then.token,
            run=replace(claim.run, status=status, error=error),
            seen_at=committed.at,
            due_in=0.0,
            is_due=True,
            waiting_since=None,
            draining=committed.draining,
            has_commands=committed.has_commands,
        )

    def _was_committed(self, claim: Claim, decision: Decision) -> bool:
        """Whether a commit that is refused now was made before, and only its answer was lost.

        Its token has ended, or gone on in other hands: the journal still knows.
        """
        if not decision.records:
            return False
        entry = decision.records[0]
        return self._retrying.ask(
            lambda connection: journal.is_recorded(connection, claim.run.id, claim.worker, entry)
        )

    def _give_back(self, claim: Claim, outcome: ClaimLost | RecordedBefore | SignalGone) -> None:
        """Nothing was written, and nothing is to be."""
        match outcome:
            case ClaimLost():
                unit, run_id = claim.token.unit, claim.run.id
                logger.info("%s of run %s is not ours any more", unit, run_id)
            case RecordedBefore():
                self._stop_offering(claim)
                self._claims.release_for_later(claim)
            case SignalGone():
                self._claims.release(claim)
            case never:
                assert_never(never)

    def _waiting(self, claim: Claim, then: Then) -> Claim | None:
        """The claim again, if what the token was parked for came while it was being parked.

        A signal that was committed meanwhile was invisible to the statement that parked, and its
        hint may have been followed while the token was still claimed.
        """
        if not isinstance(then, Park) or not isinstance(then.token.wait, ForSignal):
            return None
        return self._claims.again(claim)


def log_failure(claim: Claim, execution: Execution, decision: Decision) -> None:
    """A failure that is tried again is a WARNING; a final one an ERROR with its traceback.

    A handler that gives up has decided it: nothing is wrong, and the run is rolled back as it was
    written. Not so where what it gives up is the undoing.
    """
    event, token, then = execution.event, claim.token, decision.then
    is_cancelled = any(entry.outcome is Outcome.CANCELLED for entry in decision.records)
    if is_cancelled or not isinstance(event, Failed | Crashed):
        return
    what = f"{claim.run.workflow}.{token.unit} of run {claim.run.id}"
    error = f"{event.error.type}: {event.error.message}"
    if isinstance(then, Move) and then.token.unit == token.unit:
        logger.warning(
            "%s failed at attempt %d, next in %.1f s: %s", what, token.attempt, then.delay, error
        )
    elif isinstance(execution.exception, GiveUp) and token.rollback is None:
        logger.warning("%s gave up at attempt %d: %s", what, token.attempt, event.error.message)
    else:
        logger.error(
            "%s failed for good at attempt %d: %s",
            what,
            token.attempt,
            error,
            exc_info=execution.exception,
        )
