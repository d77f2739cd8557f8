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
    Park,
    RollBack,
)
from celery_durable.core.event import ChildRequested, Crashed, Failed, Signalled, Succeeded
from celery_durable.core.pause import Pause
from celery_durable.core.rollback import compensate
from celery_durable.core.token import ForSignal
from celery_durable.core.values import value
from celery_durable.engine import counting
from celery_durable.engine.announce import Announcer
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.claims import Claims
from celery_durable.engine.failure_log import tell_failure
from celery_durable.engine.retrying import Retrying
from celery_durable.engine.routes import Routes
from celery_durable.errors import DatabaseUnavailable, PayloadError
from celery_durable.process.tally import Tally
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
from celery_durable.workflow.observing import observers, signalled

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
        routes: Routes,
        retrying: Retrying,
        long_retrying: Retrying,
        claims: Claims,
        *,
        stop_offering: Callable[[Claim], None],
        ended: Callable[[Sequence[UUID]], None],
        announcer: Announcer,
    ) -> None:
        self._routes = routes
        self._retrying = retrying
        self._long_retrying = long_retrying
        self._claims = claims
        self._stop_offering = stop_offering
        self._ended = ended
        self._announcer = announcer

    @property
    def _tally(self) -> Tally:
        """The tally of this process; a forked child has one of its own."""
        return self._retrying.database.tally

    def commit(self, attempt: Attempt, execution: Execution) -> Claim | None:
        """Commit what became of a unit; the claim again if the worker goes straight on.

        What Postgres does not take has failed: it would be refused after every execution.
        """
        try:
            committed = self._committed(attempt, execution, self._long_retrying)
        except ChildRefused:
            # Nothing is written, and the cancel is on its way to this run too.
            self._claims.release(attempt.claim, RELEASE_FIRST)
            return None
        except (PayloadError, Hindered) as error:
            failed = failure_of(attempt.workflow, attempt.claim, error)
            execution = Execution(failed, error)
            committed = self._committed(attempt, execution, self._retrying)
        return self.continue_with(attempt, execution, committed)

    def _committed(self, attempt: Attempt, execution: Execution, retrying: Retrying) -> Committed:
        def write(connection: Connection) -> Committed | None:
            return self.write(connection, attempt, execution)

        committed = retrying.ask(write, together=isinstance(execution.event, ChildRequested))
        assert committed is not None
        return committed

    def write(
        self,
        connection: Connection,
        attempt: Attempt,
        execution: Execution,
        *,
        in_transaction: bool = False,
    ) -> Committed | None:
        """Decide, and write the decision; decide again while flags go up meanwhile.

        None when the step's own transaction must not be committed: its unit is not recorded.
        """
        while True:
            decision = self._decision(connection, attempt, execution)
            if in_transaction and not decision.keeps:
                return None
            routed = self._routes.routed(attempt, decision)
            match statement.commit(connection, attempt.claim, decision, routed):
                case FlagRaised(flags):
                    attempt = attempt.with_flags(flags)
                case Written() | RecordedBefore() as answer:
                    return Committed(decision, routed, answer)
                case WrittenBefore() | ClaimLost() | SignalGone() as answer:
                    return None if in_transaction else Committed(decision, routed, answer)
                case never:
                    assert_never(never)

    def _decision(self, connection: Connection, attempt: Attempt, execution: Execution) -> Decision:
        plan, claim = attempt.workflow.plan, attempt.claim
        decided = decide(plan, claim.token, execution.event, attempt.now)
        if isinstance(decided, RollBack):
            undo = decided.recorded or journal.next_undo(connection, claim.token)
            decided = compensate(plan, decided, undo)
        if isinstance(decided.then, Fork):
            decided = replace(decided, then=self._routes.with_branches_routed(claim, decided.then))
        return with_tasks(attempt, execution, decided)

    def plain(self, attempt: Attempt, execution: Execution) -> Plain | None:
        """Decide on a unit, if the decision may be committed together with others; else None."""
        if not isinstance(execution.event, Succeeded):
            return None
        claim = attempt.claim
        # What has succeeded is not tried again: the time does not matter.
        decided = decide(attempt.workflow.plan, claim.token, execution.event, claim.seen_at)
        if isinstance(decided, RollBack):
            return None
        decided = with_tasks(attempt, execution, decided)
        if not may_be_bundled(claim, decided):
            return None
        return Plain(claim, decided, self._routes.routed(attempt, decided))

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
            ended = [one for one in plain if one.claim.token.id in answer.written]
            self._ended([one.claim.run.id for one in ended])
            for one in ended:
                self._announcer.committed(one.claim, one.decision)
                counting.committed(self._tally, one.claim, one.decision)
        return self._with_pauses(plain, answer.written)

    def _with_pauses(
        self, plain: Sequence[Plain], written: Mapping[UUID, committing.Written]
    ) -> Mapping[UUID, committing.Written]:
        if not any(one.is_anything_paused for one in written.values()):
            return written
        pauses = self._claims.pauses_of([one.claim.run.id for one in plain])
        return {token_id: replace(one, pauses=pauses) for token_id, one in written.items()}

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
            pauses=written.pauses,
        )

    def continue_with(
        self, attempt: Attempt, execution: Execution, committed: Committed
    ) -> Claim | None:
        """Tell of it, wake relays; return the claim if the worker goes straight on."""
        claim, decision, answer = attempt.claim, committed.decision, committed.answer
        then = decision.then
        if isinstance(answer, ClaimLost) and self._was_written(claim, decision):
            answer = WrittenBefore()
        if isinstance(answer, ClaimLost | RecordedBefore | SignalGone):
            attempt.message.report.dropped(claim.token.unit)
            self._drop(claim, answer)
            return None
        self._tell(attempt, execution, decision, answer)
        if isinstance(answer, WrittenBefore):
            # Which decision of ours was written is unknown: the token is looked at where it stands.
            self._claims.abandon(claim)
        elif isinstance(then, Move) and committed.routed is None:
            if decision.sends:
                self._claims.notify_of(0.0)
            pauses = self._claims.pauses_of([claim.run.id]) if answer.is_anything_paused else ()
            return _moved(claim, decision, then, answer, pauses)
        elif (delay := _next_hint(claim, decision, answer)) is not None:
            self._claims.notify_of(delay)
        if isinstance(then, Park) and isinstance(then.token.wait, ForSignal):
            # A signal that was committed meanwhile was invisible to the statement that parked, and
            # its hint may have come while the token was still claimed.
            return self._claims.again(claim)
        return None

    def _tell(
        self,
        attempt: Attempt,
        execution: Execution,
        decision: Decision,
        answer: Written | WrittenBefore,
    ) -> None:
        """Log a failure, tell of an end, announce and report what is known to be written."""
        claim, event = attempt.claim, execution.event
        if isinstance(event, Failed | Crashed):
            tell_failure(claim, event, execution.exception, decision)
        elif observers and isinstance(event, Signalled):
            signalled(claim, event)
        if isinstance(decision.then, End):
            self._ended([claim.run.id])
        if isinstance(answer, Written):
            self._announcer.committed(claim, decision, event)
            counting.committed(self._tally, claim, decision, event)
            attempt.message.report.committed(attempt.workflow.plan, claim, decision, event)

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


def with_tasks(attempt: Attempt, execution: Execution, decision: Decision) -> Decision:
    """The decision with the tasks that its commit sends: the handler's, if what it did is kept.

    At the end of a run the task follows, if any, that its workflow has sent then.
    """
    sends = execution.sends if decision.keeps else ()
    if isinstance(decision.then, End):
        assert decision.run is not None
        hook = attempt.workflow.hooks.message(attempt.claim.run.id, decision.run.status)
        sends = sends if hook is None else (*sends, hook)
    return replace(decision, sends=sends) if sends else decision


def _next_hint(claim: Claim, decision: Decision, written: Written) -> float | None:
    """Return the seconds until a message is due that the commit has put; None if it put none."""
    if decision.sends:
        return 0.0
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


def _moved(
    claim: Claim, decision: Decision, move: Move, written: Written, pauses: tuple[Pause, ...]
) -> Claim:
    """The claim at the unit that its token has moved to."""
    run = claim.run
    if decision.run is not None:
        run = replace(run, status=decision.run.status, error=decision.run.error or run.error)
    return claim.moved(
        move.token,
        written.at,
        draining=written.draining,
        has_commands=written.has_commands,
        pauses=pauses,
        run=run,
    )
