"""Decides on an event, and writes the decision; the worker goes on with the claim, or without.

A commit that finds a flag up decides again with it in view. A commit whose answer was lost is sent
again: its statement finds the token moved on and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never
from uuid import UUID

from celery_durable.core.admit import RELEASE_FIRST
from celery_durable.core.claim import Claim
from celery_durable.core.decide import decide
from celery_durable.core.decision import (
    Decision,
    End,
    Fork,
    Leave,
    Move,
    Outcome,
    Park,
    RollBack,
)
from celery_durable.core.event import ChildRequested, Crashed, Event, Failed, Succeeded
from celery_durable.core.nodes import Routing
from celery_durable.core.rollback import compensate
from celery_durable.core.token import ForSignal
from celery_durable.core.values import value
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.claims import Claims
from celery_durable.engine.retrying import Retrying
from celery_durable.engine.slow_units import SlowUnits
from celery_durable.errors import DatabaseUnavailable, GiveUp, PayloadError
from celery_durable.settings import Settings
from celery_durable.store import journal
from celery_durable.store.bundle import committing
from celery_durable.store.bundle.committing import Plain, may_be_bundled
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
from celery_durable.workflow.execute import Execution
from celery_durable.workflow.failures import failure_of

logger = logging.getLogger(__name__)


@value(frozen=True, slots=True)
class Committed:
    """A decision, and the answer of its statement.

    `routed` is where the token's message goes; None where the worker goes straight on, and where no
    token is left.
    """

    decision: Decision
    routed: Routed | None
    answer: Written | WrittenBefore | RecordedBefore | ClaimLost | SignalGone


class Committer:
    """Commits what became of units.

    Postgres is asked for longer (`long_retrying`) where a unit has begun: the fence sees to it that
    its commit does not come too late.
    """

    def __init__(
        self,
        settings: Settings,
        retrying: Retrying,
        long_retrying: Retrying,
        claims: Claims,
        *,
        slow_units: SlowUnits,
        stop_offering: Callable[[Claim], None],
        ended: Callable[[Sequence[UUID]], None],
    ) -> None:
        self._settings = settings
        self._retrying = retrying
        self._long_retrying = long_retrying
        self._claims = claims
        self._slow_units = slow_units
        self._stop_offering = stop_offering
        self._ended = ended

    def commit(self, attempt: Attempt, execution: Execution) -> Claim | None:
        """Commit what became of a unit; the claim again if the worker goes straight on.

        What Postgres does not take has failed: it would be refused after every execution.
        """
        try:
            committed = self._committed(attempt, execution.event, self._long_retrying)
        except ChildRefused:
            # Nothing is written, and the cancel is on its way to this run too.
            self._claims.release(attempt.claim, RELEASE_FIRST)
            return None
        except (PayloadError, Hindered) as error:
            failed = failure_of(attempt.workflow, attempt.claim, error)
            execution = Execution(failed, error)
            committed = self._committed(attempt, failed, self._retrying)
        return self.continue_with(attempt, execution, committed)

    def _committed(self, attempt: Attempt, event: Event, retrying: Retrying) -> Committed:
        def write(connection: Connection) -> Committed | None:
            return self.write(connection, attempt, event)

        committed = retrying.ask(write, together=isinstance(event, ChildRequested))
        assert committed is not None
        return committed

    def write(
        self,
        connection: Connection,
        attempt: Attempt,
        event: Event,
        *,
        in_transaction: bool = False,
    ) -> Committed | None:
        """Decide, and write the decision; decide again while flags go up meanwhile.

        None when the step's own transaction must not be committed: its unit is not recorded.
        """
        while True:
            decision = self._decision(connection, attempt, event)
            if in_transaction and not decision.keeps:
                return None
            routed = self._routed(attempt, decision)
            match statement.commit(connection, attempt.claim, decision, routed):
                case FlagRaised(flags):
                    attempt = attempt.with_flags(flags)
                case Written() | RecordedBefore() as answer:
                    return Committed(decision, routed, answer)
                case WrittenBefore() | ClaimLost() | SignalGone() as answer:
                    return None if in_transaction else Committed(decision, routed, answer)
                case never:
                    assert_never(never)

    def _decision(self, connection: Connection, attempt: Attempt, event: Event) -> Decision:
        plan, claim = attempt.workflow.plan, attempt.claim
        decided = decide(plan, claim.token, event, attempt.now)
        if isinstance(decided, RollBack):
            undo = decided.recorded or journal.next_undo(connection, claim.token)
            decided = compensate(plan, decided, undo)
        if isinstance(decided.then, Fork):
            decided = replace(decided, then=self._with_branches_routed(claim, decided.then))
        return decided

    def _with_branches_routed(self, claim: Claim, fork: Fork) -> Fork:
        """The fork with queue and priority of each branch filled in."""
        known = {
            routing: self._route(claim, routing)
            for routing in {branch.routing for branch in fork.branches}
        }
        branches = tuple(
            replace(branch, routing=Routing(to.queue, to.priority, to.time_limit))
            for branch in fork.branches
            for to in (known[branch.routing],)
        )
        return replace(fork, branches=branches)

    def _routed(self, attempt: Attempt, decision: Decision) -> Routed | None:
        """Where the token's message goes; None to go straight on, and where no token is left."""
        claim, then = attempt.claim, decision.then
        match then:
            case End() | Leave():
                return None
            case Fork():
                return self._route(claim, Routing())
            case Park():
                return self._route(claim, then.routing)
            case Move():
                is_slow = self._slow_units.is_slow(claim.run, then.token)
                if self._goes_straight_on(attempt, then, is_slow=is_slow):
                    return None
                return self._route(claim, then.routing, single=is_slow)
            case _:
                assert_never(then)

    def _goes_straight_on(self, attempt: Attempt, move: Move, *, is_slow: bool) -> bool:
        """Return True if the worker goes on with the token; what is slow would hold up others."""
        claim, message, routing = attempt.claim, attempt.message, move.routing
        if move.delay > 0 or message.is_used_up or (is_slow and message.is_shared):
            return False
        if routing.time_limit is not None or claim.time_limit is not None:
            return False  # a time limit holds for a whole message
        return self._address(claim, routing) == (claim.queue, claim.priority)

    def _address(self, claim: Claim, routing: Routing) -> tuple[str, int | None]:
        """Return queue and priority of a unit's message."""
        priority = claim.run.priority if routing.priority is None else routing.priority
        return routing.queue or self._settings.queue, priority

    def _route(self, claim: Claim, routing: Routing, *, single: bool = False) -> Routed:
        return Routed(*self._address(claim, routing), routing.time_limit, single)

    def plain(self, attempt: Attempt, execution: Execution) -> Plain | None:
        """Decide on a unit, if the decision may be committed together with others; else None."""
        if not isinstance(execution.event, Succeeded):
            return None
        claim = attempt.claim
        # What has succeeded is not tried again: the time does not matter.
        decided = decide(attempt.workflow.plan, claim.token, execution.event, claim.seen_at)
        if isinstance(decided, RollBack) or not may_be_bundled(claim, decided):
            return None
        return Plain(claim, decided, self._routed(attempt, decided))

    def commit_together(self, plain: Sequence[Plain]) -> Mapping[UUID, committing.Written]:
        """Commit decisions of one kind; return those that are written, by token.

        The others are to be committed alone: what stood in the way of one is told apart there. A
        single one is: the statement for several costs more.
        """
        if len(plain) == 1:
            return {}
        try:
            answer = self._long_retrying.ask(
                lambda connection: committing.commit(connection, plain)
            )
        except DatabaseUnavailable as error:
            if isinstance(error, Hindered):
                return {}
            raise
        except Exception:  # noqa: BLE001 - each of them meets it alone, or does not
            return {}
        if answer.puts_hint:
            self._claims.notify_of(0.0)
        if isinstance(plain[0].decision.then, End):
            self._ended([one.claim.run.id for one in plain if one.claim.token.id in answer.written])
        return answer.written

    def moved(self, plain: Plain, written: committing.Written) -> Claim | None:
        """Return the claim of a written decision if the worker goes straight on with it."""
        then = plain.decision.then
        if plain.routed is not None or not isinstance(then, Move):
            return None
        return plain.claim.moved(
            then.token,
            written.at,
            draining=written.draining,
            has_commands=written.has_commands,
        )

    def continue_with(
        self, attempt: Attempt, execution: Execution, committed: Committed
    ) -> Claim | None:
        """Log, wake relays, tell of an end; return the claim if the worker goes straight on."""
        claim, decision, answer = attempt.claim, committed.decision, committed.answer
        then = decision.then
        if isinstance(answer, ClaimLost) and self._was_written(claim, decision):
            answer = WrittenBefore()
        if isinstance(answer, ClaimLost | RecordedBefore | SignalGone):
            self._drop(claim, answer)
            return None
        if isinstance(execution.event, Failed | Crashed):
            log_failure(claim, execution.event, execution.exception, decision)
        if isinstance(then, End):
            self._ended([claim.run.id])
        if isinstance(answer, WrittenBefore):
            # Which decision of ours was written is unknown: the token is looked at where it stands.
            self._claims.abandon(claim)
        elif isinstance(then, Move) and committed.routed is None:
            return _moved(claim, decision, then, answer)
        elif (delay := _next_hint(claim, decision, answer)) is not None:
            self._claims.notify_of(delay)
        if isinstance(then, Park) and isinstance(then.token.wait, ForSignal):
            # A signal that was committed meanwhile was invisible to the statement that parked, and
            # its hint may have come while the token was still claimed.
            return self._claims.again(claim)
        return None

    def _was_written(self, claim: Claim, decision: Decision) -> bool:
        """True if a commit that is refused now was written before, and only its answer was lost.

        Its token has ended, or is another worker's by now: the journal still knows.
        """
        if not decision.records:
            return False
        record = decision.records[0]
        return self._retrying.ask(
            lambda connection: journal.is_recorded(connection, claim.run.id, claim.worker, record)
        )

    def _drop(self, claim: Claim, answer: ClaimLost | RecordedBefore | SignalGone) -> None:
        """Drop what the unit did: nothing was written, and nothing will be."""
        match answer:
            case ClaimLost():
                logger.info(
                    "Result of %s of run %s dropped: the claim was lost (fenced or cancelled)",
                    claim.token.unit,
                    claim.run.id,
                )
            case RecordedBefore():
                self._stop_offering(claim)
                self._claims.release_for_later(claim)
            case SignalGone():
                self._claims.release(claim)
            case never:
                assert_never(never)


def _next_hint(claim: Claim, decision: Decision, written: Written) -> float | None:
    """Return the seconds until the hint is due that the commit has put; None if it put none."""
    match decision.then:
        case Move(delay=delay):
            return delay
        case Park(timeout=timeout):
            return timeout if decision.starts is None else 0.0
        case Fork():
            return 0.0
        case Leave():
            return 0.0 if written.puts_hint else None
        case End():
            return None if claim.run.parent_token is None else 0.0
        case _:
            assert_never(decision.then)


def _moved(claim: Claim, decision: Decision, move: Move, written: Written) -> Claim:
    """The claim at the unit that its token has moved to."""
    run = claim.run
    if decision.run is not None:
        run = replace(run, status=decision.run.status, error=decision.run.error or run.error)
    return claim.moved(
        move.token,
        written.at,
        draining=written.draining,
        has_commands=written.has_commands,
        run=run,
    )


def log_failure(
    claim: Claim, event: Failed | Crashed, exception: BaseException | None, decision: Decision
) -> None:
    """Log a failure: a WARNING where the unit is tried again, else an ERROR with its traceback.

    A handler that gives up has decided it: nothing is wrong, and the run is rolled back as it was
    written. That is a WARNING too, except in a compensation.
    """
    token, then = claim.token, decision.then
    if any(record.outcome is Outcome.CANCELLED for record in decision.records):
        return
    what = f"{claim.run.workflow}.{token.unit} of run {claim.run.id}"
    error = f"{event.error.type}: {event.error.message}"
    if isinstance(then, Move) and then.token.unit == token.unit:
        logger.warning(
            "%s failed at attempt %d, next in %.1f s: %s", what, token.attempt, then.delay, error
        )
    elif isinstance(exception, GiveUp) and token.rollback is None:
        logger.warning("%s gave up at attempt %d: %s", what, token.attempt, event.error.message)
    else:
        logger.error(
            "%s failed for good at attempt %d: %s",
            what,
            token.attempt,
            error,
            exc_info=exception,
        )
